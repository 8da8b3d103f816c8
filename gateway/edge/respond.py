"""One reply to one client: its headers, its body or events, and errors in its own dialect wherever they strike."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from gateway.core.clock import Clock
from gateway.core.errors import ClientGone, GatewayError, Headers, UpstreamError, UpstreamReplyError
from gateway.core.exchange import ErrorEvent, Exchange, Reply, Tap
from gateway.wire.errors import error_body, error_headers
from gateway.wire.limit_headers import PREFIXES, limit_lines

# Without these a proxy in front may hold events back until the end (F23).
_EVENT_STREAM_LINES = b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"
_OWN_LINES = b"%bx-request-id: %b\r\nx-gateway-attempts: %d\r\nserver-timing: gateway;dur=%.2f, upstream;dur=%.1f\r\n"
_colon = b": ".join


class Connection(Protocol):
    """The client's connection, as a reply needs it. Header lines come with their line ends."""

    @property
    def is_congested(self) -> bool:
        """Whether the writer should wait for `drained`."""
        ...

    async def drained(self) -> None:
        """Wait until the client has read enough."""
        ...

    def respond(self, status: int, headers: bytes, body: bytes, *, close: bool = False) -> None:
        """Write a whole reply."""
        ...

    def begin(self, status: int, headers: bytes, *, length: int | None = None, close: bool = False) -> None:
        """Write the head of a reply that comes in pieces."""
        ...

    def write(self, piece: bytes) -> bool:
        """Write a piece; whether it `is_congested` now."""
        ...

    def end(self) -> None:
        """Write the end of a reply that came in pieces."""
        ...

    def abort(self) -> None:
        """Cut it, so that the client cannot take what it has for the whole."""
        ...


class Responder:
    """Sends one reply, or one error, or a reply that ends in an error. Never two replies."""

    __slots__ = ("_clock", "_closing", "_connection", "_error_event", "_exchange", "_is_cuttable", "_started", "_taps")

    def __init__(self, exchange: Exchange, connection: Connection, clock: Clock, closing: bool) -> None:
        """`closing`: the gateway drains, so the client is told to bring its next request elsewhere."""
        self._exchange = exchange
        self._connection = connection
        self._clock = clock
        self._closing = closing
        self._started = False
        self._is_cuttable = False
        self._error_event: ErrorEvent | None = None
        self._taps: Sequence[Tap] = ()

    async def reply(self, reply: Reply) -> None:
        """Send `reply` to its end. Raises what its events raise."""
        if reply.body is not None:
            self.whole(reply, reply.body)
            return
        self._exchange.status = reply.status
        await self._stream(reply, self._own_lines(reply.headers))

    def whole(self, reply: Reply, body: bytes) -> None:
        """Send `reply`, which is no stream but this `body`."""
        self._exchange.status = reply.status
        headers = self._own_lines(reply.headers)
        for tap in reply.taps:
            tap(body)
        self._started = True
        self._connection.respond(reply.status, headers, body, close=self._closing)

    async def _stream(self, reply: Reply, headers: bytes) -> None:
        connection = self._connection
        self._error_event = reply.error_event
        self._is_cuttable = reply.error_event is None
        if reply.is_event_stream:
            headers += _EVENT_STREAM_LINES
        self._started = True
        connection.begin(reply.status, headers, length=reply.length, close=self._closing)
        self._taps = reply.taps
        if reply.pour is not None:
            await reply.pour(self)
        else:
            assert reply.events is not None
            async for block in reply.events:
                if self.write(block):
                    await connection.drained()
        connection.end()

    @property
    def is_congested(self) -> bool:
        """Whether the client reads more slowly than the provider writes (`Sink`)."""
        return self._connection.is_congested

    async def drained(self) -> None:
        """Wait until the client has read enough (`Sink`)."""
        await self._connection.drained()

    def write(self, block: bytes) -> bool:
        """Pass one block of the stream on (`Sink`)."""
        exchange = self._exchange
        if exchange.first_event_s is None:
            exchange.first_event_s = self._clock.monotonic()
        if self._taps:
            for tap in self._taps:
                tap(block)
        return self._connection.write(block)

    def fail(self, error: GatewayError) -> None:
        """Tell the client of `error`: as a reply, or inside the stream it is reading (F15-F19)."""
        _forget_frames(error)
        exchange = self._exchange
        if isinstance(error, ClientGone):
            exchange.status = error.status
        elif not self._started:
            self._fail_whole(error)
        elif self._is_cuttable:
            # No dialect has a word for an error inside a file; a visible cut is the honest one.
            self._connection.abort()
        elif self._error_event is not None:
            self._connection.write(self._event(error, self._error_event))
            self._connection.end()

    def _event(self, error: GatewayError, error_event: ErrorEvent) -> bytes:
        if isinstance(error, UpstreamReplyError) and error.relay is not None:
            return error.relay
        return error_event(error, self._exchange.request_id)

    def _fail_whole(self, error: GatewayError) -> None:
        exchange = self._exchange
        exchange.status = error.status
        headers = error_headers(error, exchange.request.dialect)
        if isinstance(error, UpstreamError) and error.reply is not None:
            body = error.reply.body
            given = {name for name, _ in headers}
            headers = [item for item in error.reply.headers if item[0] not in given] + headers
        else:
            body = error_body(exchange.request.dialect, error, exchange.request_id)
        self._started = True
        self._connection.respond(error.status, self._own_lines(headers), body, close=self._closing)

    def close_after(self) -> None:
        """Close the connection after the reply: what the client still sends would be read as a new request."""
        self._closing = True

    def _own_lines(self, headers: Headers) -> bytes:
        """`headers` and the gateway's own, as lines; the reply begins here, so its overhead is known."""
        exchange = self._exchange
        attempts = exchange.attempts
        # As `Exchange.waited_s`.
        waited_s = attempts[0].waited_s + exchange.coalesced_s if len(attempts) == 1 else exchange.waited_s
        overhead_s = self._clock.monotonic() - exchange.received_s - waited_s
        if overhead_s < 0.0:
            overhead_s = 0.0
        exchange.overhead_s = overhead_s
        request_id = exchange.request_id.encode()
        way = _way_lines(exchange.config_revision, exchange.cache, exchange.route, exchange.target)
        lines = _OWN_LINES % (way, request_id, len(attempts), overhead_s * 1000, waited_s * 1000)
        if exchange.request.dialect == "anthropic":
            lines += b"request-id: %b\r\n" % request_id
        if exchange.limits:
            # A provider's own are about the gateway's account, which is none of the client's business.
            headers = [item for item in headers if not item[0].startswith(PREFIXES)]
            lines += limit_lines(exchange.request.dialect, exchange.limits, self._clock.wall())
        if not headers:
            return lines
        return b"%b\r\n%b" % (b"\r\n".join(map(_colon, headers)), lines)


def _forget_frames(error: BaseException) -> None:
    """Take the frames off an error that is answered, and off those behind it.

    They hold the exchange, which holds the error: a cycle of 40 to 90 objects, and the connection among them, that
    only the collector would end.
    """
    behind: BaseException | None = error
    while behind is not None:
        behind.__traceback__ = None
        behind = behind.__cause__ or behind.__context__


@lru_cache(maxsize=4096)
def _way_lines(revision: str, cache: str, route: str | None, target: str | None) -> bytes:
    """The lines that tell a request's way: of few kinds, all from the configuration."""
    lines = [f"x-gateway-config: {revision}", f"x-gateway-cache: {cache}"]
    if route is not None:
        lines.append(f"x-gateway-route: {route}")
    if target is not None:
        lines.append(f"x-gateway-target: {target}")
    return "".join(line + "\r\n" for line in lines).encode()
