"""The connections to one origin, kept alive between requests."""

import asyncio
import os
import ssl
from dataclasses import dataclass

from gateway.core.clock import Clock, SystemClock
from gateway.core.errors import Overloaded, UpstreamConnectError, UpstreamTimeout, UpstreamTruncated
from gateway.transport.base import Origin, PoolStats, Timeouts, UpstreamRequest
from gateway.transport.connection import Connection
from gateway.transport.head import encode_head
from gateway.transport.httpx_door import HttpxDoor
from gateway.transport.line import WaitingLine
from gateway.transport.response import Http1Response, Phase

KEEPALIVE_PLAIN_S = 4.0
"""Below the 5 s after which uvicorn, and with it most model servers in Python, closes an idle connection."""
KEEPALIVE_TLS_S = 60.0
_SWEEP_S = 1.0
_TLS_GOODBYE_S = 1.0
_OVERLOAD_RETRY_S = 1.0
_SYSTEM_CLOCK = SystemClock()


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections, and how long they live."""

    max_connections: int = 1000
    keepalive_s: float | None = None
    """How long an idle connection is kept. None: what the upstream says in `keep-alive` less a second, at
    most 60 s; where it says nothing, 4 s for http and 60 s for https."""
    max_age_s: float = 300.0
    """A connection takes no new request after this: each new one resolves the name again."""
    max_waiting: int = 1000
    """Requests that may wait for a free connection."""


class PoolTransport(HttpxDoor):
    """An `Upstream` of HTTP/1.1 connections to one origin; for httpx.AsyncClient, a transport too.

    The connection used last is used next, so that surplus ones grow old and close. Who waits for a
    free connection waits in line. Nothing is ever sent twice: a kept connection that the upstream
    closes in the moment it is used again gives UpstreamTruncated.

    A slot is one connection, connecting ones included. It belongs to exactly one of: the idle list,
    a response, a running `open`, or a hand-over in the waiting line.
    """

    def __init__(
        self, origin: Origin, *, ssl_context: ssl.SSLContext | None, limits: Limits, clock: Clock = _SYSTEM_CLOCK
    ) -> None:
        assert (origin.scheme == "https") == (ssl_context is not None)
        self.origin = origin
        self._authority = origin.authority
        self._ssl_context = ssl_context
        self._limits = limits
        self._max_age_s = limits.max_age_s
        self._usual_keepalive_s = self._keepalive_s(None)
        self._now = clock.monotonic
        self._open = 0
        self._idle: list[Connection] = []
        self._connections: set[Connection] = set()
        self._line: WaitingLine[Connection | None] = WaitingLine(limits.max_waiting, self._take_back)
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def open(self, request: UpstreamRequest, timeouts: Timeouts) -> Http1Response:
        """The response to `request`, as soon as its head is there. See `Upstream.open`."""
        head = encode_head(request, self._authority)
        deadline = timeouts.deadline_s
        now = self._now()
        if deadline is not None and deadline <= now:
            raise UpstreamTimeout("No time was left for the upstream (total timeout).", phase="total")
        connection = self._pick(now)
        if connection is None:
            connection = await self._obtain(timeouts)
        response = connection.start(head, request, timeouts)
        try:
            while not response.status:
                if response.error is not None:
                    raise response.error
                await response.arrival()
        except BaseException:
            response.close()
            raise
        return response

    def stats(self) -> PoolStats:
        """Counts of its connections."""
        idle = len(self._idle)
        return PoolStats(open=self._open, idle=idle, in_use=self._open - idle, waiting=len(self._line))

    async def aclose(self) -> None:
        """Close every connection, those in use too; what waits or reads fails."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._line.fail(self._closed_error())
        for connection in tuple(self._idle):
            connection.shut()
        for connection in tuple(self._connections):
            connection.fail(UpstreamTruncated("The gateway closed its connections to this upstream."))
        # One turn of the loop, in which the transports close their sockets.
        await asyncio.sleep(0)

    def release(self, connection: Connection) -> None:
        """Keep `connection` for the next request: of the first in line, or of whoever comes."""
        now = self._now()
        said_s = connection.keep_alive_s
        until = now + (self._usual_keepalive_s if said_s is None else self._keepalive_s(said_s))
        end = connection.created_s + self._max_age_s
        if end < until:
            until = end
        if until <= now or self._is_closed:
            connection.shut()
        elif not self._line.offer(connection):
            connection.reusable_until_s = until
            self._idle.append(connection)
            if self._sweeper is None:
                self._sweeper = connection.loop.call_later(_SWEEP_S, self._sweep)

    def discard(self, connection: Connection) -> None:
        """Forget `connection`; its slot goes to the first in line."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._free_slot()

    def _pick(self, now: float) -> Connection | None:
        idle = self._idle
        while idle:
            connection = idle.pop()
            if now < connection.reusable_until_s:
                return connection
            connection.shut()
        return None

    async def _obtain(self, timeouts: Timeouts) -> Connection:
        loop = asyncio.get_running_loop()
        limit = loop.time() + timeouts.connect_s
        deadline = timeouts.deadline_s
        is_total = deadline is not None and deadline <= limit
        if deadline is not None and is_total:
            limit = deadline
        while True:
            if self._is_closed:
                raise self._closed_error()
            if self._open < self._limits.max_connections:
                self._open += 1
                break
            connection = await self._wait_in_line(limit, is_total)
            if connection is None:
                break
            if not connection.is_dropped:  # the upstream may have closed it since it was handed over
                return connection
        return await self._connect(limit, is_total)

    async def _wait_in_line(self, limit: float, is_total: bool) -> Connection | None:
        if self._line.is_full:
            raise Overloaded("Too many requests wait for this upstream already.", retry_after_s=_OVERLOAD_RETRY_S)
        try:
            return await self._line.wait(limit)
        except TimeoutError:
            if is_total:
                raise UpstreamTimeout("No connection became free in time (total timeout).", phase="total") from None
            raise Overloaded(
                "All connections to this upstream are taken, and none became free in time.",
                retry_after_s=_OVERLOAD_RETRY_S,
            ) from None

    async def _connect(self, limit: float, is_total: bool) -> Connection:
        loop = asyncio.get_running_loop()
        connection = Connection(loop, self, self._now())
        self._connections.add(connection)
        context = self._ssl_context
        try:
            async with asyncio.timeout_at(limit):
                await loop.create_connection(
                    lambda: connection,
                    self.origin.host,
                    self.origin.port,
                    ssl=context,
                    server_hostname=self.origin.host if context is not None else None,
                    ssl_shutdown_timeout=_TLS_GOODBYE_S if context is not None else None,
                )
        except TimeoutError as error:
            connection.abort()
            phase: Phase = "total" if is_total else "connect"
            raise UpstreamTimeout(f"{self._where} could not be reached in time.", phase=phase) from error
        except (OSError, UnicodeError) as error:
            connection.abort()
            raise UpstreamConnectError(f"No connection to {self._where}: {_reason(error)}.") from error
        except BaseException:
            connection.abort()
            raise
        if connection.is_dropped:  # the pool was closed, or the upstream closed it, in the same turn of the loop
            raise UpstreamConnectError(f"No connection to {self._where}: it was closed at once.")
        return connection

    @property
    def _where(self) -> str:
        return f"{self.origin.host}:{self.origin.port}"

    def _closed_error(self) -> UpstreamConnectError:
        return UpstreamConnectError(f"The connections to {self._where} are closed.")

    def _keepalive_s(self, said: int | None) -> float:
        """How long to keep an idle connection of which the upstream `said` this."""
        wanted = self._limits.keepalive_s
        if wanted is None:
            if said is not None:
                wanted = KEEPALIVE_TLS_S
            else:
                wanted = KEEPALIVE_PLAIN_S if self._ssl_context is None else KEEPALIVE_TLS_S
        return wanted if said is None else min(wanted, said - 1.0)

    def _free_slot(self) -> None:
        if not self._line.offer(None):
            self._open -= 1

    def _take_back(self, item: Connection | None) -> None:
        if item is None:
            self._free_slot()
        elif not item.is_dropped:
            self.release(item)

    def _sweep(self) -> None:
        self._sweeper = None
        now = self._now()
        for connection in [idle for idle in self._idle if idle.reusable_until_s <= now]:
            connection.shut()
        if self._idle and self._sweeper is None:
            self._sweeper = self._idle[0].loop.call_later(_SWEEP_S, self._sweep)


def _reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error})"
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)  # asyncio's own text names the address once more
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
