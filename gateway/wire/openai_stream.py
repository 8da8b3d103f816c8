"""Streams of OpenAI chat completions and completions."""

import re
from typing import Any

import msgspec
from msgspec import UNSET

from gateway.core.errors import GatewayError, UpstreamReplyError
from gateway.core.tokens import estimate_tokens
from gateway.wire.errors import error_body
from gateway.wire.json_members import remove_members
from gateway.wire.stream_state import DECODE_ERRORS, StreamState, text_of, truncated
from gateway.wire.usage import ONE_TOKEN_BYTES, piece_tokens, read_openai_usage, service_tier

DONE = b"data: [DONE]\n\n"

_CONTENT = b'"content":"'
_NEVER = b"\n"
"""What no frame begins with that is not empty."""
_MAX_LESSONS = 8
"""Streams whose frames differ in more than their text (OpenAI's `obfuscation`) are not worth more tries."""
_re_plain_text = re.compile(rb'[^\x00-\x1f"\\]++')


class _Function(msgspec.Struct, gc=False):
    name: Any = None
    arguments: Any = None


class _ToolCall(msgspec.Struct, gc=False):
    function: _Function | None = None


class _Delta(msgspec.Struct):
    # Any where look-alikes differ: some send content as a list of parts.
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None


class _Choice(msgspec.Struct):
    index: int | None = 0
    delta: _Delta | None = None
    text: Any = None
    finish_reason: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: Any = UNSET
    error: Any = None


class _FirstChunk(_Chunk):
    id: Any = None
    model: Any = None
    service_tier: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_first = msgspec.json.Decoder(_FirstChunk).decode


class OpenAIStream(StreamState):
    """Reads `chat.completion.chunk` and `text_completion` events.

    With `strip_usage` (the gateway asked for usage, the client did not) the extra usage chunk is
    dropped and the member `usage` is taken out of the others. A frame whose data is not the JSON
    that it should be is relayed as it is; it is the client's to judge, and no end of the stream.
    """

    __slots__ = (
        "_done", "_end", "_end_out", "_finished", "_lessons", "_seen", "_start", "_strip_usage", "_text_at",
    )  # fmt: skip

    def __init__(self, *, prompt_bytes: int, strip_usage: bool) -> None:
        super().__init__("openai", prompt_bytes)
        self._strip_usage = strip_usage
        # What stands before and behind the text in frames that differ in nothing else: see `_learn`.
        self._start = _NEVER
        self._end = self._end_out = b""
        self._text_at = 0
        self._lessons = _MAX_LESSONS
        self._done = False
        self._seen: set[int | None] = set()
        self._finished: set[int | None] = set()

    @property
    def complete(self) -> bool:
        """Whether `[DONE]` came, or a finish reason for every choice that was seen."""
        return self._done or (bool(self._finished) and len(self._finished) == len(self._seen))

    def feed(self, block: bytes) -> bytes:
        """As in `StreamState.feed`."""
        if self.error is None and block.startswith(self._start) and block.endswith(self._end):
            # As the frame before but for its text: all else was read then.
            text_end = len(block) - len(self._end)
            if _re_plain_text.fullmatch(block, self._text_at, text_end):
                n_bytes = text_end - self._text_at
                self.relayed_tokens += 1 if n_bytes <= ONE_TOKEN_BYTES else estimate_tokens(n_bytes)
                return block if self._end_out is self._end else block[:text_end] + self._end_out
        # Nearly every block is one frame of one line; the braces make sure that it is no [DONE].
        if (
            self.error is None
            and block.startswith(b"data: {")
            and block.find(b"\n") == len(block) - 2
            and block.endswith(b"}\n\n")
            and b"\r" not in block
        ):
            return self._event(block, None, block[6:-2]) or b""
        return super().feed(block)

    def finish(self) -> bytes:
        """`[DONE]` where only that is missing, else `b""`. Raises UpstreamTruncated before the end (F18)."""
        if self._done or self.error is not None:
            return b""
        if not self.complete:
            raise truncated()
        self._done = True
        return DONE

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """The frame that ends the stream with `error`; a provider's own error event as it came."""
        if isinstance(error, UpstreamReplyError) and error.relay is not None:
            return error.relay
        return b"data: " + error_body("openai", error, request_id) + b"\n\n"

    def _event(self, frame: bytes, name: bytes | None, data: bytes) -> bytes | None:
        if data.strip() == b"[DONE]":
            self.begun = True
            if len(self._finished) < len(self._seen):
                # llama-cpp-python says it in mid-sentence when it drops a stream for the next request (seen in 0.3.36).
                return b""
            self._done = True
            return frame
        chunk: _Chunk
        try:
            chunk = self._first(data) if self.response_id is None else _decode_chunk(data)
        except DECODE_ERRORS:
            chunk = _Chunk()
        if chunk.error or name == b"error":
            self._fail(frame, data)
            return None
        self.begun = True
        for choice in chunk.choices or ():
            self._read_choice(choice)
        usage = chunk.usage
        if usage is not UNSET and usage is not None:
            read_openai_usage(self.usage, usage)
        relayed = frame
        if usage is not UNSET and self._strip_usage:
            relayed = b"" if usage and not chunk.choices else _without_usage(frame, data)
        if self._lessons and (usage is UNSET or usage is None):
            self._learn(chunk, frame, relayed)
        return relayed

    def _learn(self, chunk: _Chunk, frame: bytes, relayed: bytes) -> None:
        """Note what surrounds the text of a frame that brings nothing but a text.

        A frame with the same bytes around another text, in which no quote, escape or line end stands, then means
        the same: no usage, no finish reason, no error. A third of the time of decoding it.
        """
        choices = chunk.choices
        if choices is None or len(choices) != 1 or choices[0].finish_reason or choices[0].delta is None:
            return
        delta = choices[0].delta
        if not isinstance(delta.content, str) or delta != _Delta(content=delta.content):
            return
        start, mark, rest = frame.partition(_CONTENT)
        text, quote, end = rest.partition(b'"')
        end = quote + end
        # `_CONTENT` twice: the other one may be the real one.
        if not text or text != delta.content.encode("utf-8", "replace") or _CONTENT in end or not end.endswith(b"\n\n"):
            return
        start += mark
        if not relayed.startswith(start + text):
            return
        self._lessons -= 1
        self._start, self._text_at = start, len(start)
        self._end = end
        self._end_out = end if relayed is frame else relayed[len(start) + len(text) :]

    def _first(self, data: bytes) -> _Chunk:
        chunk = _decode_first(data)
        self.response_id = text_of(chunk.id)
        self.model = text_of(chunk.model) or self.model
        self.usage.service_tier = service_tier(chunk.service_tier)
        return chunk

    def _read_choice(self, choice: _Choice) -> None:
        self._seen.add(choice.index)
        if choice.finish_reason and choice.index not in self._finished:
            self._finished.add(choice.index)
            self.finish_reasons.append(str(choice.finish_reason))
        delta = choice.delta
        if delta is None:
            self.relayed_tokens += piece_tokens(choice.text)
            return
        self.relayed_tokens += piece_tokens(delta.content)
        if delta.reasoning_content or delta.reasoning:
            # Some servers send the same text under both names.
            self.relayed_tokens += piece_tokens(delta.reasoning_content or delta.reasoning)
        if delta.refusal:
            self.relayed_tokens += piece_tokens(delta.refusal)
        if delta.tool_calls:
            for call in delta.tool_calls:
                self._read_function(call.function)
        if delta.function_call is not None:
            self._read_function(delta.function_call)

    def _read_function(self, function: _Function | None) -> None:
        if function is not None:
            self.relayed_tokens += piece_tokens(function.name) + piece_tokens(function.arguments)


def _without_usage(frame: bytes, data: bytes) -> bytes:
    """`frame` without the top-level member `usage` that it is known to have."""
    if frame.count(b'"usage"') == 1 and b',"usage":null' in frame:
        return frame.replace(b',"usage":null', b"", 1)
    start = frame.find(data)
    if start < 0:
        # Data over several lines: nobody sends that here, and a usage too many does no harm.
        return frame
    return frame[:start] + remove_members(data, "usage") + frame[start + len(data) :]
