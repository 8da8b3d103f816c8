"""The reader that fits a stream's dialect and operation."""

from typing import Protocol

from gateway.core.errors import GatewayError, UpstreamReplyError
from gateway.core.exchange import Dialect, Operation, Usage
from gateway.wire.anthropic_stream import AnthropicStream
from gateway.wire.openai_stream import OpenAIStream
from gateway.wire.plain_stream import PlainStream
from gateway.wire.responses_stream import ResponsesStream


class StreamReader(Protocol):
    """Watches one event stream on its way to the client: what it says, and whether it ended."""

    usage: Usage
    """The same object all along, filled as events pass."""
    begun: bool
    """An event that is neither a comment nor a ping has passed."""
    error: UpstreamReplyError | None
    """Set by `feed` when an error event came; its `relay` is that frame."""
    model: str | None
    response_id: str | None
    finish_reasons: list[str]

    @property
    def complete(self) -> bool:
        """Whether the end of the answer was seen: a transport that breaks after it cuts nothing."""
        ...

    def feed(self, block: bytes) -> bytes:
        """What the client gets of `block` (complete frames); the same object when nothing was changed.

        May be `b""`. An error event is left out: raise `error`, whose frame `error_event` gives.
        """
        ...

    def finish(self) -> bytes:
        """What is missing at a clean end of the upstream, mostly `b""`. Raises UpstreamTruncated (F18)."""
        ...

    def settle(self) -> None:
        """Estimate the usage that was not reported. Idempotent; once the stream is over, however."""
        ...

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """The complete frame that tells the client of `error` in its dialect."""
        ...


def reader_for(dialect: Dialect, operation: Operation, *, prompt_bytes: int, strip_usage: bool) -> StreamReader:
    """A new reader for one stream.

    `prompt_bytes` is the size of the request's body, for estimates. `strip_usage`: the gateway asked
    for usage in an OpenAI stream, the client did not.
    """
    if dialect == "openai" and operation in ("chat", "text_completion"):
        return OpenAIStream(prompt_bytes=prompt_bytes, strip_usage=strip_usage)
    if dialect == "openai" and operation == "responses":
        return ResponsesStream(prompt_bytes=prompt_bytes)
    if dialect == "anthropic" and operation == "messages":
        return AnthropicStream(prompt_bytes=prompt_bytes)
    return PlainStream(dialect)
