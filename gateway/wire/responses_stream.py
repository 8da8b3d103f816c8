"""Streams of the OpenAI Responses API."""

from typing import Any

import msgspec

from gateway.core.errors import GatewayError, UpstreamReplyError
from gateway.wire.stream_state import DECODE_ERRORS, StreamState, text_of, truncated
from gateway.wire.usage import piece_tokens, read_openai_usage, service_tier

_OPENING = frozenset({"response.created", "response.queued", "response.in_progress"})
_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})


class _Event(msgspec.Struct):
    type: Any = None
    sequence_number: Any = None
    delta: Any = None
    response: msgspec.Raw = msgspec.Raw(b"null")
    error: Any = None


class _Incomplete(msgspec.Struct):
    reason: Any = None


class _Response(msgspec.Struct):
    id: Any = None
    model: Any = None
    status: Any = None
    usage: Any = None
    service_tier: Any = None
    incomplete_details: _Incomplete | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_response = msgspec.json.Decoder(_Response | None).decode


class ResponsesStream(StreamState):
    """Reads `response.*` events; numbers its own error event after the last one that passed (F17)."""

    __slots__ = ("_sequence_number",)

    def __init__(self, *, prompt_bytes: int) -> None:
        super().__init__("openai", prompt_bytes)
        self._sequence_number = -1

    def finish(self) -> bytes:
        """Always `b""`: the terminal event holds the whole answer. Raises UpstreamTruncated without one (F18)."""
        if not self._ended and self.error is None:
            raise truncated()
        return b""

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """The `error` event that ends the stream; a provider's own as it came."""
        if isinstance(error, UpstreamReplyError) and error.relay is not None:
            return error.relay
        event = {
            "type": "error",
            "code": error.code,
            "message": f"{error.message} (request id {request_id})",
            "param": error.param,
            "sequence_number": self._sequence_number + 1,
        }
        return b"event: error\ndata: " + msgspec.json.encode(event) + b"\n\n"

    def _event(self, frame: bytes, name: bytes | None, data: bytes) -> bytes | None:
        if data.strip() == b"[DONE]":
            # Not of this API, but look-alikes end every stream with it.
            self.begun = self._ended = True
            return frame
        try:
            event = _decode_event(data)
        except DECODE_ERRORS:
            event = _Event()
        kind = text_of(event.type) or (name or b"").decode("utf-8", "replace")
        if kind == "error" or (event.error and not kind.startswith("response.")):
            self._fail(frame, data)
            return None
        if isinstance(event.sequence_number, int):
            self._sequence_number = event.sequence_number
        if kind == "response.failed":
            self._ended = True
            self._read_response(event.response, terminal=True)
            self._fail(frame, bytes(event.response))
            return None
        self.begun = True
        if kind.endswith(".delta"):
            # Audio and images are base64: their size says nothing of tokens.
            if isinstance(event.delta, str) and "audio" not in kind:
                self.relayed_tokens += piece_tokens(event.delta)
        elif kind in _TERMINAL:
            self._ended = True
            self._read_response(event.response, terminal=True)
        elif kind in _OPENING:
            self._read_response(event.response, terminal=False)
        return frame

    def _read_response(self, raw: msgspec.Raw, *, terminal: bool) -> None:
        try:
            response = _decode_response(raw)
        except DECODE_ERRORS:
            return
        if response is None:
            return
        self.response_id = text_of(response.id) or self.response_id
        self.model = text_of(response.model) or self.model
        if terminal:
            read_openai_usage(self.usage, response.usage)
            self.usage.service_tier = service_tier(response.service_tier)
            reason = response.incomplete_details.reason if response.incomplete_details is not None else None
            found = text_of(reason) or text_of(response.status)
            if found is not None:
                self.finish_reasons.append(found)
