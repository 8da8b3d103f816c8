"""Event streams of relayed operations, whose grammar is not ours to know."""

from gateway.core.errors import GatewayError, UpstreamReplyError
from gateway.core.exchange import Dialect
from gateway.wire.errors import error_body
from gateway.wire.stream_state import StreamState


class PlainStream(StreamState):
    """Relays frames as they are; knows an `event: error` and `[DONE]`, and nothing else.

    Without a grammar there is no telling whether a clean end is the end, so it is taken for it.
    """

    __slots__ = ()

    def __init__(self, dialect: Dialect) -> None:
        super().__init__(dialect, 0)

    def finish(self) -> bytes:
        """Always `b""`."""
        return b""

    def settle(self) -> None:
        """Nothing: what such a stream carries is not counted in tokens."""

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """The frame that ends the stream with `error`; a provider's own error event as it came."""
        if isinstance(error, UpstreamReplyError) and error.relay is not None:
            return error.relay
        return b"event: error\ndata: " + error_body(self._dialect, error, request_id) + b"\n\n"

    def _event(self, frame: bytes, name: bytes | None, data: bytes) -> bytes | None:
        if name == b"error":
            self._fail(frame, data)
            return None
        self.begun = True
        if data.strip() == b"[DONE]":
            self._ended = True
        return frame
