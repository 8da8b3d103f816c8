"""What a client connection may take of time, and how it is refused and closed (F94).

Time is kept by one sweep over all connections, several times a second, instead of timers for each request:
a request costs two stored timestamps. What a limit does:
- a head that takes too long: an error, and the connection closes;
- a body that trickles: the exchange is interrupted, and answers 408;
- a reply that the client does not read: the connection is cut;
- a connection without a request: it closes.
"""

import asyncio
import select
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.core.errors import ClientGone, GatewayError, RequestTimeout
from gateway.edge.writing import ReplyWriter
from gateway.wire.errors import error_body

IDLE, HEAD, BODY, LINGER = range(4)
"""What a connection is at: between messages, in a head, in a body, or refused and soon closed."""

SWEEP_INTERVAL_S = 0.2
"""Below the 250 ms in which a departure must be noticed, for the connections of which only the sweep notices it."""

_MIN_BODY_BYTES_PER_WINDOW = 1024
"""A body must bring this much in every `body_timeout_s` while it is being read."""
_LINGER_S = 5.0
"""How long a client that was answered early may go on sending (as nginx's `lingering_timeout`)."""
# These refusals end a connection on which nothing more is expected.
_CLOSING_AT_ONCE = (408, 503)


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """Bounds of a listener's connections."""

    max_header: int
    max_connections: int
    header_timeout_s: float
    body_timeout_s: float
    write_timeout_s: float


class BoundedConnection(ReplyWriter):
    """uvicorn's connection with deadlines. What parses keeps `_phase` and the times of what begins."""

    limits: EdgeLimits
    """Set on a subclass for each listener."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.on_gone: Callable[[GatewayError], None] | None = None
        self._phase = HEAD
        self._since_s = 0.0
        self._body_bytes = 0
        self._idle_since_s: float | None = None
        self._paused_since_s: float | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the exchange that nobody is there any more."""
        super().connection_lost(exc)
        if self.on_gone is not None:
            self.on_gone(ClientGone("The client closed the connection."))

    def pause_writing(self) -> None:
        """Note since when the client reads too slowly."""
        self._paused_since_s = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._paused_since_s = None
        super().resume_writing()

    @property
    def has_unread_body(self) -> bool:
        """Whether the client is still sending what nobody will read."""
        return self._phase == BODY

    def sweep(self, now_s: float) -> None:
        """Enforce the time limits; called every `SWEEP_INTERVAL_S`."""
        limits = self.limits
        spent_s = now_s - self._since_s
        if self._is_deserted(now_s):
            self.transport.abort()
        elif self._phase == IDLE:
            if self._idle_since_s is not None and now_s - self._idle_since_s > self.timeout_keep_alive:
                self.transport.close()
        elif self._phase == LINGER:
            if spent_s > _LINGER_S:
                self.transport.abort()
        elif self._phase == HEAD:
            if spent_s > limits.header_timeout_s:
                self._refuse(408, RequestTimeout("The request's head did not arrive in time."))
        elif spent_s > limits.body_timeout_s:
            self._judge_body(now_s)

    def _is_deserted(self, now_s: float) -> bool:
        """Whether the client reads nothing of its reply, or has left without an event that says so."""
        if self._paused_since_s is not None and now_s - self._paused_since_s > self.limits.write_timeout_s:
            return True
        return self.flow.read_paused and self.on_gone is not None and _has_left(self.transport)

    def _judge_body(self, now_s: float) -> None:
        """End a body that brought too little in the window that is over, and begin the next window."""
        if self._body_bytes < _MIN_BODY_BYTES_PER_WINDOW and not self.flow.read_paused:
            if self.on_gone is not None:
                self.on_gone(RequestTimeout("The request's body did not arrive in time (server.body_timeout)."))
            else:
                self.transport.abort()
        self._since_s = now_s
        self._body_bytes = 0

    def _refuse(self, status: int, error: GatewayError) -> None:
        """Answer without the application, and close. In the middle of another reply only the close is left."""
        if self.pipeline or (
            self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        ):
            self.transport.abort()
            return
        body = error_body("openai", error, "")
        lines = [b"HTTP/1.1 %d Refused" % status, b"content-type: application/json", b"connection: close"]
        if status == 503:
            lines.append(b"retry-after: 1")
        lines.append(b"content-length: %d" % len(body))
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self._release(error)
        if status in _CLOSING_AT_ONCE:
            self.transport.close()
        else:
            self._linger()

    def _release(self, error: GatewayError) -> None:
        """End the exchange that waits for its request, if any: what it wrote would come behind the end of our side."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.on_gone is not None:
                self.on_gone(error)

    def hang_up(self) -> None:
        """Close the connection once all is written, and read if the client still sends."""
        if self.has_unread_body:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """End our side only: a close with bytes unread resets the connection and may lose the reply (RFC 9112, 9.6)."""
        self._phase = LINGER
        self._since_s = self.loop.time()
        self.pipeline.clear()
        self.flow.resume_reading()
        self.transport.write_eof()


def _has_left(transport: asyncio.Transport) -> bool:
    """Whether the client has closed a connection that is not being read, so that no event says so (F1).

    It is not read while an upload waits for a slow upstream, or a pipelined request for its turn.
    """
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), getattr(select, "POLLRDHUP", select.POLLHUP))
    return bool(poll.poll(0))
