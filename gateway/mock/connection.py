"""One client's connection: bytes in, requests out of httptools, one delivery at a time."""

import asyncio
import hashlib
import socket
from collections import deque
from typing import cast

import httptools

from gateway.mock.calls import Call
from gateway.mock.delivery import Delivery
from gateway.mock.endpoints import answer
from gateway.mock.plan import MockRequest
from gateway.mock.world import World

MAX_BODY_BYTES = 512 * 1024 * 1024
MAX_PIPELINED = 64
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """Reads requests and plays their answers. Reading never pauses, so a peer that leaves is seen at once."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_call",
        "_delivery",
        "_headers",
        "_is_paused",
        "_loop",
        "_number",
        "_open",
        "_parser",
        "_queue",
        "_target",
        "_transport",
        "_world",
    )

    def __init__(self, world: World, loop: asyncio.AbstractEventLoop, open_connections: "set[Connection]") -> None:
        self._world = world
        self._loop = loop
        self._open = open_connections
        self._parser = httptools.HttpRequestParser(self)
        self._delivery: Delivery | None = None
        self._call: Call | None = None
        self._queue: deque[MockRequest] = deque()
        self._is_paused = False
        self._number = 0
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._body_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self._transport = cast(asyncio.Transport, transport)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stats = self._world.stats
        stats.connections += 1
        stats.connections_total += 1
        self._number = self._world.next_connection()
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, whoever ended it."""
        self._peer_gone()
        self._world.stats.connections -= 1
        self._open.discard(self)
        self._queue.clear()

    def eof_received(self) -> bool:
        """The peer will send no more: it has left, even if bytes to it are still on their way."""
        self._peer_gone()
        if self._transport.get_write_buffer_size():
            # Left to itself the transport would stay until a peer that reads no more has read all.
            # (A client that half-closes and goes on reading is taken for one that left: no SDK does.)
            self._transport.abort()
        return False

    def pause_writing(self) -> None:
        """The peer reads too slowly."""
        self._is_paused = True
        if self._delivery is not None:
            self._delivery.pause()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._is_paused = False
        if self._delivery is not None:
            self._delivery.resume()

    def data_received(self, data: bytes) -> None:
        """Bytes of requests; what is not HTTP gets a 400 and the end of the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(b"400 Bad Request")
        except httptools.HttpParserError:
            self._refuse(b"400 Bad Request")

    def abort(self) -> None:
        """Close at once, from the mock's side."""
        if self._delivery is not None:
            self._delivery.cancel()
        self._transport.abort()

    def on_message_begin(self) -> None:
        """For httptools: a request begins."""
        self._target = b""
        self._headers = []
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """For httptools: a part of the request target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """For httptools: one header."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """For httptools: the head is complete."""
        for name, value in self._headers:
            if len(name) == 6 and name.lower() == b"expect" and value.lower() == b"100-continue":
                self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """For httptools: a part of the body."""
        self._body_bytes += len(body)
        if self._body_bytes > MAX_BODY_BYTES:
            self._refuse(b"413 Content Too Large")
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        """For httptools: a whole request is here."""
        parser = self._parser
        request = MockRequest(
            method=parser.get_method().decode("ascii"),
            target=self._target,
            headers=self._headers,
            body=self._body[0] if len(self._body) == 1 else b"".join(self._body),
            keep_alive=parser.should_keep_alive(),
            is_http_10=parser.get_http_version() == "1.0",
        )
        self._body = []
        if self._transport.is_closing():
            return
        if self._delivery is None and not self._queue:
            self._serve(request)
        elif len(self._queue) < MAX_PIPELINED:
            self._queue.append(request)
        else:
            self._refuse(b"400 Bad Request")

    def _serve(self, request: MockRequest) -> None:
        world = self._world
        now = world.clock.monotonic()
        plan = answer(world, request)
        is_kept = plan.is_logged and world.log_calls
        call = Call(
            id=plan.number,
            connection=self._number,
            t=now,
            method=request.method,
            target=request.target,
            headers=request.headers,
            body_bytes=len(request.body),
            body_sha256=hashlib.sha256(request.body).hexdigest() if is_kept else "",
            model=plan.model,
            stream=plan.stream is not None,
        )
        if is_kept:
            world.log.append(call)
        world.stats.requests_total += plan.is_logged
        self._call = call
        delivery = self._delivery = Delivery(
            plan,
            call,
            self._transport,
            timers=self._loop,
            stats=world.stats,
            clock=world.clock,
            on_end=self._delivered,
        )
        if self._is_paused:
            delivery.pause()
        delivery.start(keep_alive=request.keep_alive, is_http_10=request.is_http_10)

    def _delivered(self, keep_alive: bool) -> None:
        self._delivery = None
        if not keep_alive:
            self._transport.close()
        elif self._queue:
            # Not from here: a hundred pipelined requests would be a hundred frames deep.
            self._loop.call_soon(self._serve_queued)

    def _serve_queued(self) -> None:
        if self._delivery is None and self._queue and not self._transport.is_closing():
            self._serve(self._queue.popleft())

    def _peer_gone(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.t_closed = self._world.clock.monotonic()
        if self._delivery is not None:
            self._delivery.peer_closed()
            self._delivery = None

    def _refuse(self, status: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
            self._transport.close()
