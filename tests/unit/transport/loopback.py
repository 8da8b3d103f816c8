"""A scripted server on a real loopback socket: the edge of the world in these tests."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from gateway.transport.base import Origin, Timeouts, UpstreamRequest
from gateway.transport.pool import Limits, PoolTransport

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Call:
    """One accepted connection, as a script sees it."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer
        self.head = b""
        self.body = b""

    async def request(self) -> bool:
        """Read one request into `head` and `body`; False when the peer left instead."""
        try:
            self.head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        except asyncio.IncompleteReadError:
            return False
        self.body = b""
        if b"transfer-encoding: chunked" in self.head:
            while size := int(await self.reader.readline() or b"0", 16):
                self.body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readline()
        elif b"content-length: " in self.head:
            length = self.head.split(b"content-length: ")[1].split(b"\r\n")[0]
            self.body = await self.reader.readexactly(int(length))
        return True

    async def send(self, data: bytes) -> None:
        """Write all of `data`."""
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Return when the peer has closed or reset the connection."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        """Close by RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Call], Awaitable[None]]


class Server:
    """What a test may ask of the scripted server."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.calls: list[Call] = []
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.heads: list[bytes] = []

    @property
    def origin(self) -> Origin:
        """Where it listens, without TLS."""
        return Origin("http", "127.0.0.1", self.port)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Run the script for one connection, then close it."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        call = Call(len(self.calls), reader, writer)
        self.calls.append(call)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._script(call)
        finally:
            self.tasks.discard(task)
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


@asynccontextmanager
async def serve(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server that runs `script` for every connection."""
    handle = Server(script)
    server = await asyncio.start_server(handle.accept, "127.0.0.1", 0, ssl=tls)
    handle.port = server.sockets[0].getsockname()[1]
    try:
        yield handle
    finally:
        server.close()
        tasks = tuple(handle.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


@asynccontextmanager
async def pool_to(origin: Origin, limits: Limits | None = None) -> AsyncIterator[PoolTransport]:
    """A pool that is closed at the end, and by then holds nothing."""
    pool = PoolTransport(origin, ssl_context=None, limits=limits if limits is not None else Limits())
    try:
        yield pool
    finally:
        await pool.aclose()
        stats = pool.stats()
        assert (stats.open, stats.idle, stats.in_use, stats.waiting) == (0, 0, 0, 0)
        # One more turn, so that closed transports are gone before warnings about them could rise.
        await asyncio.sleep(0)


async def answer_ok(call: Call) -> None:
    """Answer every request with `ok`."""
    while await call.request():
        await call.send(OK)


def post(body: bytes | AsyncIterator[bytes] = b"{}", content_length: int | None = None) -> UpstreamRequest:
    """A POST as a provider would make it."""
    return UpstreamRequest(b"POST", b"/v1/x?y=1", [(b"content-type", b"application/json")], body, content_length)


def get(method: bytes = b"GET") -> UpstreamRequest:
    """A request without a body."""
    return UpstreamRequest(method, b"/v1/models", [])


def within(
    connect_s: float = 5.0, first_event_s: float | None = 5.0, idle_s: float = 5.0, deadline_s: float | None = None
) -> Timeouts:
    """Timeouts that no healthy test reaches."""
    return Timeouts(connect_s, first_event_s, idle_s, deadline_s)


async def drained(condition: Callable[[], bool]) -> None:
    """Give the loop turns until `condition` holds."""
    while not condition():
        await asyncio.sleep(0)
