"""What all readers of streams have in common: the facts gathered on the way, and the settlement."""

import msgspec

from gateway.core.errors import UpstreamReplyError, UpstreamTruncated
from gateway.core.exchange import Dialect, Usage
from gateway.wire.errors import reply_error
from gateway.wire.sse import fields, frames
from gateway.wire.usage import fill_usage


class StreamState:
    """The state of one stream, filled while its frames pass. Base of the dialects' readers.

    A reader tells in `_event` what one frame means.
    """

    __slots__ = (
        "_dialect",
        "_ended",
        "_output_is_final",
        "_prompt_bytes",
        "_settled",
        "begun",
        "error",
        "finish_reasons",
        "model",
        "relayed_tokens",
        "response_id",
        "usage",
    )

    def __init__(self, dialect: Dialect, prompt_bytes: int) -> None:
        self._dialect: Dialect = dialect
        self._prompt_bytes = prompt_bytes
        self._ended = False
        self._output_is_final = True
        self._settled = False
        self.usage = Usage()
        self.begun = False
        self.error: UpstreamReplyError | None = None
        self.model: str | None = None
        self.response_id: str | None = None
        self.finish_reasons: list[str] = []
        self.relayed_tokens = 0
        """Our own count of the tokens that went to the client."""

    @property
    def complete(self) -> bool:
        """Whether the end of the answer was seen: what breaks after it cuts nothing."""
        return self._ended

    def feed(self, block: bytes) -> bytes:
        """What the client gets of `block`, which is complete frames; the same object when all of it.

        An error event is not part of it: it is in `error`, and what follows it is dropped.
        """
        if self.error is not None:
            return b""
        kept: list[bytes] = []
        changed = False
        for frame in frames(block):
            name, data = fields(frame)
            relayed = frame if data is None else self._event(frame, name, data)
            if relayed is None:
                changed = True
                break
            changed = changed or relayed is not frame
            kept.append(relayed)
        return b"".join(kept) if changed else block

    def _event(self, frame: bytes, name: bytes | None, data: bytes) -> bytes | None:
        """The bytes for the client; None when the frame is an error, which is then in `error`."""
        raise NotImplementedError

    def settle(self) -> None:
        """Fill in what the provider did not report, by estimate. Once the stream is over; idempotent.

        A stream that was refused by its first event cost nothing and gets no estimate.
        """
        if self._settled:
            return
        self._settled = True
        if self.error is not None and not self.begun:
            return
        fill_usage(
            self.usage,
            prompt_bytes=self._prompt_bytes,
            relayed_tokens=self.relayed_tokens,
            output_is_final=self._output_is_final,
        )

    def _fail(self, frame: bytes, body: bytes) -> None:
        """Take `frame` for an error event that says `body`."""
        self.error = reply_error(self._dialect, body, frame)


def truncated() -> UpstreamTruncated:
    """The error of a stream that ended cleanly, but before its last event (F18)."""
    return UpstreamTruncated("The provider's stream ended before its last event.")


def text_of(value: object) -> str | None:
    """`value` when it is a string with something in it."""
    return value if isinstance(value, str) and value else None


DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for data that is not what a frame should hold; the second for bytes that are no UTF-8."""
