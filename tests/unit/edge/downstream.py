"""A listener on loopback, and a client that sends exactly the bytes it is told to."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from gateway.core.errors import GatewayError
from gateway.edge.bounds import EdgeLimits
from gateway.edge.listener import Listener, bind
from gateway.edge.protocol import EdgeProtocol

LIMITS = EdgeLimits(
    max_header=2048, max_connections=10, header_timeout_s=10.0, body_timeout_s=30.0, write_timeout_s=20.0
)
KEEPALIVE_S = 60.0
PATIENCE_S = 5.0
"""How long a test waits for what must happen at once."""

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


class Desk:
    """An application of the data plane's kind: says on the connection which path was asked for, when it may."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.scopes: list[Scope] = []
        self.gone: list[GatewayError] = []
        self.answered: list[bytes] = []
        self.may_answer = asyncio.Event()
        if is_open:
            self.may_answer.set()

    async def __call__(self, scope: Scope, receive: object, send: object) -> None:
        """Answer one request."""
        connection: EdgeProtocol = scope["gateway.connection"]
        self.scopes.append(scope)
        connection.on_gone = self.gone.append
        await self.may_answer.wait()
        connection.on_gone = None
        connection.respond(200, b"", scope["raw_path"])
        self.answered.append(scope["raw_path"])


@dataclass(frozen=True, slots=True)
class Answer:
    """One response as it came."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Downstream:
    """One client connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, *pieces: bytes) -> None:
        """Send these bytes, with whatever was sent before and is on its way."""
        self._writer.write(b"".join(pieces))

    async def answer(self, method: str = "GET") -> Answer:
        """The next whole response, to a request with this method."""
        async with asyncio.timeout(PATIENCE_S):
            head = await self._reader.readuntil(b"\r\n\r\n")
            line, *lines = head[:-4].split(b"\r\n")
            headers = {name.lower(): value for name, _, value in (each.partition(b": ") for each in lines)}
            assert len(headers) == len(lines), f"a header came twice: {head!r}"
            status = int(line.split(b" ")[1])
            return Answer(status, headers, await self._body(status, headers, method))

    async def _body(self, status: int, headers: dict[bytes, bytes], method: str) -> bytes:
        if method == "HEAD" or status in (100, 204, 304):
            return b""
        if headers.get(b"transfer-encoding") == b"chunked":
            body = b""
            while size := int(await self._reader.readline(), 16):
                body += (await self._reader.readexactly(size + 2))[:-2]
            assert await self._reader.readexactly(2) == b"\r\n"
            return body
        if b"content-length" in headers:
            return await self._reader.readexactly(int(headers[b"content-length"]))
        return await self._reader.read()

    async def rest(self) -> bytes:
        """Everything until the server has closed. Raises TimeoutError when it does not."""
        async with asyncio.timeout(PATIENCE_S):
            with suppress(ConnectionResetError):
                return await self._reader.read()
        return b""

    async def piece(self, size: int) -> bytes:
        """The next `size` bytes."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.readexactly(size)

    def leave(self) -> None:
        """Reset the connection."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close the connection, whatever state it is in."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


@asynccontextmanager
async def listening(app: App, limits: EdgeLimits = LIMITS) -> AsyncIterator[Listener]:
    """A listener that serves `app` on a free port."""
    listener = Listener(app, bind("127.0.0.1", 0), limits, KEEPALIVE_S)
    await listener.start()
    try:
        yield listener
    finally:
        listener.stop_accepting()
        await listener.close()


@asynccontextmanager
async def connected(listener: Listener) -> AsyncIterator[Downstream]:
    """A client of this listener."""
    client = Downstream(*await asyncio.open_connection(*listener.address))
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def talking(app: App, limits: EdgeLimits = LIMITS) -> AsyncIterator[tuple[Downstream, EdgeProtocol]]:
    """A client of a listener of its own, and the server's side of its connection."""
    async with listening(app, limits) as listener, connected(listener) as client:
        await until(lambda: bool(listener.connections))
        (connection,) = listener.connections
        yield client, connection


async def until(condition: Callable[[], bool]) -> None:
    """Turn the loop until `condition` holds. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0)


def now_s() -> float:
    """The running loop's time, which is what `sweep` counts in."""
    return asyncio.get_running_loop().time()
