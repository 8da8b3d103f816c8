"""uvicorn's HTTP/1.1 connection, with bounds on sizes and numbers that it lacks (F87, F95); those on time: `bounds`.

What is too large is refused with an error, and the connection closes. The application learns of a
departure by `on_gone`, at once and without a task that waits for it.
"""

import asyncio
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from gateway.core.errors import HeadersTooLarge, InvalidRequest, Overloaded
from gateway.edge.bounds import BODY, HEAD, IDLE, LINGER, SWEEP_INTERVAL_S, BoundedConnection, EdgeLimits
from gateway.edge.inbound import KNOWN_NAMES
from gateway.edge.turn import Turn

__all__ = ["SWEEP_INTERVAL_S", "EdgeLimits", "EdgeProtocol", "bounded"]

_MAX_HEADERS = 256
_MAX_URL_BYTES = 16 * 1024


class EdgeProtocol(BoundedConnection):
    """One client connection. `limits` is set on a subclass for each listener, see `bounded`."""

    cycle: Turn
    active: Turn

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.task: asyncio.Task[None] | None = None
        self._bell: asyncio.Future[Turn | None] | None = None
        """What `task` waits for between two requests: the next one, or None when there will be none."""
        self._is_lost = False
        self._head_bytes = 0
        self._bytes_since_body = 0
        self._declines_upgrade = False
        self._is_direct: bool = getattr(self.app, "is_direct", False)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or refuse it when there are too many."""
        super().connection_made(transport)
        self._since_s = self.loop.time()
        if len(self.connections) > self.limits.max_connections:
            self._refuse(503, Overloaded("Too many connections.", retry_after_s=1.0))

    def data_received(self, data: bytes) -> None:
        """Parse, and count what a head and a body bring."""
        if self._phase == BODY:
            self._body_bytes += len(data)
            self._bytes_since_body += len(data)
        elif self._phase == LINGER:
            return
        else:
            self._head_bytes += len(data)
            if self._phase == IDLE and (self.cycle is None or self.cycle.response_complete):
                # An empty line before a head begins no message, but ends the idle timer: it must not hold a place.
                self._phase = HEAD
                self._since_s = self.loop.time()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
            return
        if self._phase == IDLE or self.transport.is_closing():
            return
        if self._phase == BODY and self._bytes_since_body > self.limits.max_header:
            # Chunk extensions or trailers without end: they count towards no body limit.
            self._refuse(431, self._head_too_large())
        if self._phase == HEAD and self._head_bytes > self.limits.max_header:
            self._refuse(431, self._head_too_large())

    def on_message_begin(self) -> None:
        """Start the clock of a head."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._idle_since_s = None
        self._phase = HEAD
        self._since_s = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header line, without the white space that the parser leaves at its end (RFC 9110, 5.5)."""
        value = value.rstrip(b" \t")
        known = KNOWN_NAMES.get(name)
        if known is not None:
            self.headers.append((known, value))
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Hand a head of decent size to the application."""
        # The chunk that completes a head may hold the body too: count exactly only when it matters.
        if self._head_bytes > self.limits.max_header or len(self.headers) > _MAX_HEADERS:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.limits.max_header or len(self.headers) > _MAX_HEADERS:
                self._refuse(431, self._head_too_large())
                raise httptools.HttpParserError
        if len(self.url) > _MAX_URL_BYTES:
            self._refuse(414, InvalidRequest("The URL is too long.", code="uri_too_long"))
            raise httptools.HttpParserError
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise httptools.HttpParserError
            # The parser takes an upgrade for granted and will not read the body: see `_go_on_without_upgrade`.
            self._declines_upgrade = True
            return
        self._phase = BODY
        self._since_s = self.loop.time()
        self._body_bytes = self._bytes_since_body = 0
        self._take_turn()
        # Trailers come to the same list later; as headers they would pass every check (RFC 9110, 6.5.1).
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body; the first one, which is mostly all of it, without a copy."""
        self._bytes_since_body = 0
        cycle = self.cycle
        if cycle.response_complete:
            return
        if cycle.body or len(body) > HIGH_WATER_LIMIT:
            cycle.add(body)
        else:
            cycle.body = body
            cycle.has_news = True
            if cycle.waiter is not None:
                cycle.set()

    def _take_turn(self) -> None:
        """As uvicorn's `on_headers_complete`, without what no listener of ours has."""
        parser, url = self.parser, self.url
        http_version = parser.get_http_version()
        if url[:1] == b"/" and b"?" not in url and b"#" not in url:
            raw_path, query = url, b""
        else:
            parsed = httptools.parse_url(url)
            raw_path, query = parsed.path, parsed.query or b""
        path = raw_path.decode("ascii")
        # `Any`, not uvicorn's type of it: a cast is a call.
        scope: Any = {
            "type": "http",
            "http_version": http_version,
            "method": parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self.headers,
            # Here, and not when a head begins: one that never ends would leave a cycle of references.
            "gateway.connection": self,
        }
        if not self._is_direct:
            scope |= {
                "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
                "server": self.server,
                "client": self.client,
                "scheme": self.scheme,
                "root_path": self.root_path,
                "state": self.app_state.copy(),
            }
        previous = self.cycle
        self.cycle = Turn(self, scope, http_version != "1.0" and parser.should_keep_alive())
        if previous is None or previous.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_response_complete(self) -> None:
        """Take the next request. Idle connections are closed by the sweep, not by a timer for each reply."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_since_s = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the exchange, or the task that waits for one, that nobody is there any more."""
        self._is_lost = True
        super().connection_lost(exc)
        self._ring()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        # As uvicorn's, but one task serves the requests of a connection, one after the other. It is kept because
        # `asyncio.current_task` costs the application a system call on Python 3.11 (its `get_running_loop` asks
        # for the process id). It goes on in the next turn of the loop and not at once, though that could be had:
        # under load, 64 requests parsed and then 64 answered cost less than 64 times both (docs/performance.md).
        assert isinstance(cycle, Turn)
        self.active = cycle
        bell, self._bell = self._bell, None
        if bell is not None and not bell.done():
            bell.set_result(cycle)
        else:
            # The first request, or the scopes of the last one are still closing.
            self.task = self.loop.create_task(self._serve(cycle))
        assert self.task is not None
        self.tasks.add(self.task)

    async def _serve(self, cycle: Turn | None) -> None:
        """Answer `cycle`, and what comes later; ends with the connection, with a cancellation, or when replaced."""
        task = self.task
        assert task is not None
        while cycle is not None:
            try:
                if self._is_direct:
                    await self.app(cycle.scope, cycle.receive, cycle.send)
                else:
                    await cycle.run_asgi(self.app)
            finally:
                self.tasks.discard(task)
                if not cycle.response_complete and not cycle.disconnected:
                    self.transport.close()
                # Else connection and scope hold each other, until the collector comes.
                cycle.scope.pop("gateway.connection", None)  # type: ignore[typeddict-item]
            if self._is_lost or self.task is not task or task.cancelling():
                return
            bell = self._bell = self.loop.create_future()
            cycle = await bell

    def _ring(self) -> None:
        bell, self._bell = self._bell, None
        if bell is not None and not bell.done():
            bell.set_result(None)

    def on_message_complete(self) -> None:
        """Stop the clock of the body."""
        if self._declines_upgrade:
            return
        self._phase = IDLE
        self._head_bytes = 0
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.has_news = True
            if cycle.waiter is not None:
                cycle.set()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in JSON as every other error."""
        if self._phase != LINGER and not self.transport.is_closing():
            self._refuse(400, InvalidRequest("The request is not valid HTTP/1.1."))

    def whole_body(self) -> bytes | None:
        """The request's body when all of it has arrived, once; None when more is to come."""
        cycle = self.active
        if cycle.more_body or cycle.disconnected:
            return None
        body = bytes(cycle.body)
        cycle.body = b""
        return body

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Read the request again as if it had asked for no other protocol, which a server may (RFC 9110, 7.8).

        Java's HTTP client asks for HTTP/2 with every first request of a connection.
        """
        self._declines_upgrade = False
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % item for item in self.headers if item[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        # As uvicorn sets it for every connection.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._phase = IDLE
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def _head_too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(
            f"The request's head is larger than this gateway accepts ({self.limits.max_header} bytes, "
            f"{_MAX_HEADERS} headers; server.max_header)."
        )


def bounded(limits: EdgeLimits) -> type[EdgeProtocol]:
    """The protocol class for a listener with these limits."""
    return type("BoundedEdgeProtocol", (EdgeProtocol,), {"limits": limits})
