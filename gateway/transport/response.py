"""One HTTP/1.1 response while it arrives: what the parser wrote down and what the reader has not taken yet."""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Literal, Protocol

from gateway.core.errors import GatewayError, Headers, UpstreamError, UpstreamTruncated
from gateway.transport.base import Timeouts

Phase = Literal["connect", "first_token", "idle", "total"]
_BODILESS = frozenset((204, 304))


class Carrier(Protocol):
    """What a response needs of its connection."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop whose time counts."""
        ...

    def watch(self, at_s: float) -> None:
        """Look at the response's limit at `at_s` at the latest."""
        ...

    def resume(self, response: "Http1Response") -> None:
        """Read from the socket again."""
        ...

    def finish(self, response: "Http1Response") -> None:
        """The response is closed."""
        ...


class Http1Response:
    """An `UpstreamResponse`; the connection fills it, one reader empties it.

    It outlives its place on the connection: once closed it keeps what had arrived and touches
    nothing else, so a late `read` or a second `close` cannot reach the connection's next request.
    """

    __slots__ = (
        "_carrier",
        "_has_begun",
        "_is_closed",
        "_listener",
        "_timeouts",
        "_waiter",
        "_waiting_since_s",
        "buffered",
        "error",
        "headers",
        "http_version",
        "is_complete",
        "is_head",
        "is_paused",
        "is_sent",
        "keeps_alive",
        "pieces",
        "sent_s",
        "stalled_s",
        "status",
    )

    def __init__(self, carrier: Carrier, timeouts: Timeouts, is_head: bool) -> None:
        self._carrier = carrier
        self._timeouts = timeouts
        self._has_begun = False
        self._is_closed = False
        self._waiter: asyncio.Future[None] | None = None
        self._listener: Callable[[], None] | None = None
        self._waiting_since_s = 0.0
        self.status = 0
        """0 until the head is complete."""
        self.headers: Headers = []
        self.http_version = "1.1"
        self.is_head = is_head
        self.is_sent = False
        """Whether the whole request was written."""
        self.is_complete = False
        self.is_paused = False
        """Whether the socket is not read for now, because too much is buffered."""
        self.keeps_alive = False
        self.error: GatewayError | None = None
        self.pieces: list[bytes] = []
        self.buffered = 0
        """Bytes in `pieces`, and what the objects themselves weigh."""
        self.sent_s: float | None = None
        """From when the wait for the first event counts: the request is sent, or answered before that."""
        self.stalled_s: float | None = None
        """Since when the upstream takes no more of the request's body."""

    def __repr__(self) -> str:
        state = "complete" if self.is_complete else "arriving"
        return f"<Http1Response {self.status} {state}, {self.buffered} bytes unread>"

    @property
    def is_delimited(self) -> bool:
        """Whether a cut would be noticed. False when only the end of the connection ends the body."""
        if self.keeps_alive or self.is_head or self.status in _BODILESS:
            return True
        return declares_end(self.headers)

    async def read(self) -> bytes:
        """All that has arrived since the last piece; `b""` at the clean end, and again after it."""
        while (piece := self.take()) is None:
            await self.arrival()
        return piece

    def take(self) -> bytes | None:
        """What `read` would give now; None when it would have to wait."""
        pieces = self.pieces
        if not pieces:
            if self.error is not None:
                raise self.error
            return b"" if self.is_complete else None
        if len(pieces) == 1:
            piece = pieces.pop()
        else:
            piece = b"".join(pieces)
            pieces.clear()
        self.buffered = 0
        if self.is_paused:
            self._carrier.resume(self)
        return piece

    def whole(self, limit: int) -> bytes | None:
        """The rest of the body if it came in one piece, with the head as a rule; else None: see `read_all`."""
        pieces = self.pieces
        if self.is_complete and len(pieces) == 1 and len(pieces[0]) <= limit and not self.is_paused:
            self.buffered = 0
            return pieces.pop()
        return None

    async def read_all(self, limit: int) -> bytes:
        """The rest of the body. Raises UpstreamError above `limit` bytes."""
        gathered: list[bytes] = []
        size = 0
        while piece := await self.read():
            size += len(piece)
            if size > limit:
                raise UpstreamError(f"The upstream's reply is larger than the {limit} bytes that are allowed.")
            gathered.append(piece)
        return gathered[0] if len(gathered) == 1 else b"".join(gathered)

    def begin(self) -> None:
        """Note that the first event was seen: from now on `idle_s` applies, not `first_event_s`."""
        self._has_begun = True

    def close(self) -> None:
        """Give the connection back, or abort it when the exchange is not complete."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self.is_complete and self.error is None:
            self.error = UpstreamTruncated("The response was closed before its end.")
        self._carrier.finish(self)
        if self._waiter is not None or self._listener is not None:
            self.wake()

    def listen(self, listener: Callable[[], None] | None) -> bool:
        """Call `listener` whenever there may be something to take, straight from the event loop; None ends it."""
        self._listener = listener
        if listener is not None:
            self._waiting_since_s = self._carrier.loop.time()
            self._carrier.watch(self._waiting_since_s + self._timeouts.idle_s)
        return True

    def arrival(self) -> asyncio.Future[None]:
        """Done when something has changed: a head, a piece, the end, a fault."""
        loop = self._carrier.loop
        waiter = self._waiter = loop.create_future()
        if self._has_begun:
            # Only a waiting reader makes silence count: a slow client is not a slow upstream.
            now = self._waiting_since_s = loop.time()
            self._carrier.watch(now + self._timeouts.idle_s)
        return waiter

    def wake(self) -> None:
        """Let the reader look again."""
        if self._listener is not None:
            self._waiting_since_s = self._carrier.loop.time()
            self._listener()
            return
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def limit(self) -> tuple[float, Phase]:
        """When (loop time) this response is late if nothing happens, and for what; infinity if never."""
        timeouts = self._timeouts
        at = inf
        phase: Phase = "idle"
        if self._has_begun:
            waiter = self._waiter
            if self._listener is not None or (waiter is not None and not waiter.done()):
                at = self._waiting_since_s + timeouts.idle_s
        elif self.sent_s is not None:
            if timeouts.first_event_s is not None:
                at, phase = self.sent_s + timeouts.first_event_s, "first_token"
        elif self.stalled_s is not None:
            at = self.stalled_s + timeouts.idle_s
        deadline = timeouts.deadline_s
        if deadline is not None and deadline <= at:
            return deadline, "total"
        return at, phase


def declares_end(headers: Headers) -> bool:
    """Whether a body under these headers says itself where it ends (RFC 9112, 6.3)."""
    for name, value in headers:
        if name == b"content-length":
            return True
        if name == b"transfer-encoding" and value.rpartition(b",")[2].strip().lower() == b"chunked":
            return True
    return False
