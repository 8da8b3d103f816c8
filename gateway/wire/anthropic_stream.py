"""Streams of Anthropic's Messages API."""

from typing import Any

import msgspec

from gateway.core.errors import GatewayError, UpstreamReplyError
from gateway.wire.errors import error_body
from gateway.wire.stream_state import DECODE_ERRORS, StreamState, text_of, truncated
from gateway.wire.usage import AnthropicUsage, piece_tokens

MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


class _Delta(msgspec.Struct):
    text: Any = None
    partial_json: Any = None
    thinking: Any = None
    content: Any = None
    stop_reason: Any = None


class _Message(msgspec.Struct):
    id: Any = None
    model: Any = None
    usage: Any = None


class _Event(msgspec.Struct):
    type: Any = None
    delta: _Delta | None = None
    message: _Message | None = None
    usage: Any = None


_decode_event = msgspec.json.Decoder(_Event).decode


class AnthropicStream(StreamState):
    """Reads `message_start` … `message_stop`. A `ping` passes without being a beginning."""

    __slots__ = ("_reported", "_stopped")

    def __init__(self, *, prompt_bytes: int) -> None:
        super().__init__("anthropic", prompt_bytes)
        self._reported = AnthropicUsage(self.usage)
        self._stopped = False

    @property
    def complete(self) -> bool:
        """Whether `message_stop` came, or at least the stop reason before it."""
        return self._ended or self._stopped

    def finish(self) -> bytes:
        """`message_stop` where only that is missing, else `b""`. Raises UpstreamTruncated before the end (F18)."""
        if self._ended or self.error is not None:
            return b""
        if not self._stopped:
            raise truncated()
        self._ended = True
        return MESSAGE_STOP

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """The `error` event that ends the stream; a provider's own as it came."""
        if isinstance(error, UpstreamReplyError) and error.relay is not None:
            return error.relay
        return b"event: error\ndata: " + error_body("anthropic", error, request_id) + b"\n\n"

    def _event(self, frame: bytes, name: bytes | None, data: bytes) -> bytes | None:
        try:
            event = _decode_event(data)
        except DECODE_ERRORS:
            event = _Event()
        kind = text_of(event.type) or (name or b"").decode("utf-8", "replace")
        if kind == "ping":
            return frame
        if kind == "error":
            self._fail(frame, data)
            return None
        self.begun = True
        if kind == "content_block_delta":
            delta = event.delta or _Delta()
            # A delta has one of them; signatures and citations are no output tokens.
            self.relayed_tokens += piece_tokens(delta.text or delta.partial_json or delta.thinking or delta.content)
        elif kind == "message_start":
            self._read_start(event.message or _Message())
        elif kind == "message_delta":
            self._read_end(event)
        elif kind == "message_stop":
            self._ended = True
        return frame

    def _read_start(self, message: _Message) -> None:
        self.response_id = text_of(message.id)
        self.model = text_of(message.model)
        self._reported.read(message.usage)
        # Its output_tokens are those of the first piece only.
        self._output_is_final = False

    def _read_end(self, event: _Event) -> None:
        if event.usage is not None:
            self._reported.read(event.usage)
            self._output_is_final = True
        reason = text_of(event.delta.stop_reason) if event.delta is not None else None
        if reason is not None:
            self._stopped = True
            self.finish_reasons.append(reason)
