"""Calls as tests of streams make them: a table of endpoints, a client that can leave rudely, an upstream by script."""

import asyncio
import json
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from tests.gateway.harness import CHAT, PLAIN, Gateway
from tests.gateway.waiting import until

Leave = Literal["fin", "rst"]

_FORM = "form-boundary"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_CHANGING = re.compile(rb'[0-9a-f]{24}|"created(?:_at)?":[0-9]+')


@dataclass(frozen=True, slots=True)
class Way:
    """One endpoint of the data plane, and a body that it takes. `str` gives the test's id."""

    name: str
    path: str
    fields: dict[str, Any]
    can_stream: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def dialect(self) -> str:
        """The dialect of its errors."""
        return "anthropic" if self.path.startswith("/v1/messages") else "openai"

    def body(self, *, stream: bool, **more: Any) -> bytes:
        """The request's JSON."""
        return json.dumps(self.fields | ({"stream": True} if stream else {}) | more).encode()


CHATS = Way("chat", "/v1/chat/completions", CHAT, can_stream=True)
COMPLETIONS = Way("completions", "/v1/completions", {"model": "demo", "prompt": "hi"}, can_stream=True)
RESPONSES = Way("responses", "/v1/responses", {"model": "demo", "input": "hi"}, can_stream=True)
MESSAGES = Way("messages", "/v1/messages", CHAT | {"max_tokens": 100}, can_stream=True)
AZURE = Way(
    "azure",
    "/openai/deployments/demo/chat/completions?api-version=2024-10-21",
    {"messages": CHAT["messages"]},
    can_stream=True,
)
EVENT_STREAMS = (CHATS, COMPLETIONS, RESPONSES, MESSAGES, AZURE)
"""Endpoints that answer with events when `stream` is set."""

SPEECH = Way("speech", "/v1/audio/speech", {"model": "demo", "input": "hi", "voice": "alloy"}, can_stream=True)
"""A relayed download: bytes that come in pieces and are no events."""
STREAMS = (*EVENT_STREAMS, SPEECH)

WHOLE = (
    *EVENT_STREAMS,
    Way("embeddings", "/v1/embeddings", {"model": "demo", "input": "hi"}),
    Way("azure_embeddings", "/openai/deployments/demo/embeddings?api-version=2024-10-21", {"input": "hi"}),
    Way("count_tokens", "/v1/messages/count_tokens", CHAT),
    Way("moderations", "/v1/moderations", {"model": "demo", "input": "hi"}),
)
"""Endpoints that answer with one JSON body."""


def form(size: int = 4096) -> tuple[dict[str, str], bytes]:
    """Headers and body of a relayed upload with a file of `size` bytes."""
    body = (
        f'--{_FORM}\r\ncontent-disposition: form-data; name="file"; filename="a.mp3"\r\n'
        "content-type: audio/mpeg\r\n\r\n"
    ).encode()
    body += b"s" * size + f"\r\n--{_FORM}--\r\n".encode()
    return {"content-type": f"multipart/form-data; boundary={_FORM}", "x-gateway-route": "demo"}, body


def plain(*, target: str = "", server: str = "") -> str:
    """The plain configuration, with more settings on its target and its server."""
    config = PLAIN.replace("base_url: MOCK_URL", f"base_url: MOCK_URL, {target}" if target else "base_url: MOCK_URL")
    return config.replace("drain: 5s", f"drain: 5s, {server}" if server else "drain: 5s")


class Wire:
    """One client connection that shows its bytes as they come and can leave in two ways."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.received = b""

    async def post(self, way: Way, *, stream: bool = True, **headers: str) -> None:
        """Send a whole request; `_` in a header's name stands for `-`."""
        self.writer.write(request(way.path, way.body(stream=stream), **headers))
        await self.writer.drain()

    async def until(self, marker: bytes) -> bytes:
        """Everything received, once `marker` is in it. Raises EOFError when the gateway closed before."""
        async with asyncio.timeout(5):
            while marker not in self.received:
                piece = await self.reader.read(65536)
                if not piece:
                    raise EOFError(self.received[-500:])
                self.received += piece
        return self.received

    def leave(self, how: Leave) -> float:
        """Close with a FIN or an RST; the monotonic time of it."""
        if how == "rst":
            connection: socket.socket = self.writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.writer.transport.abort()
        else:
            self.writer.close()
        return time.monotonic()


def request(path: str, body: bytes, **headers: str) -> bytes:
    """The bytes of one request; `_` in a header's name stands for `-`."""
    lines = {"host": "127.0.0.1", "content-type": "application/json", "content-length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


@asynccontextmanager
async def wire(gw: Gateway) -> AsyncIterator[Wire]:
    """A connection to the data plane, closed at the end of the scope."""
    reader, writer = await asyncio.open_connection(*gw.address)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        # The gateway may have cut it first, or the test.
        with suppress(ConnectionError):
            await writer.wait_closed()


async def settled(gw: Gateway, timeout_s: float = 1.0) -> None:
    """Wait until nothing is in flight anywhere: no request, no upstream connection in use, no call at the mock."""

    async def is_settled() -> bool:
        if gw.mock.stats.inflight or gw.served.process.running.inflight:
            return False
        inflight = await gw.metric("gateway_inflight_requests")
        return inflight == 0 and await in_use(gw) == 0

    await until(is_settled, timeout_s)


async def in_use(gw: Gateway) -> float:
    """Upstream connections that serve somebody, and requests that wait for one."""
    name = "gateway_upstream_connections"
    return await gw.metric(name, state="in_use") + await gw.metric(name, state="waiting")


def frames(body: bytes) -> list[bytes]:
    """The SSE frames of a stream; asserts that the last one is complete."""
    body = body.replace(b"\r\n", b"\n")
    assert body.endswith(b"\n\n"), body[-200:]
    return body.split(b"\n\n")[:-1]


def events(body: bytes) -> list[dict[str, Any]]:
    """The JSON of every event but `[DONE]`; asserts that each frame has one whole JSON document."""
    found = []
    for frame in frames(body):
        data = [line[5:].strip() for line in frame.split(b"\n") if line.startswith(b"data:")]
        if data and data != [b"[DONE]"]:
            found.append(json.loads(b"\n".join(data)))
    return found


def same(body: bytes) -> bytes:
    """The body with what differs between two calls of the mock taken out: ids and times."""
    return _CHANGING.sub(b"#", body)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Scripted:
    """An upstream that sends given bytes, whatever it is asked."""

    url: str
    requests: list[bytes]


@asynccontextmanager
async def scripted(pieces: Sequence[bytes], *, keep_open: bool = False) -> AsyncIterator[Scripted]:
    """An upstream that answers one request on each connection with `pieces`, one write for each, and closes.

    With `keep_open` it closes at the end of the scope only. Without pieces it does not even read the body.
    """
    seen: list[bytes] = []
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head) if pieces else None
            seen.append(head + await reader.readexactly(int(length[1]) if length else 0))
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if keep_open:
                await left.wait()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield Scripted(f"http://{host}:{port}", seen)
    finally:
        left.set()
        server.close()
        await server.wait_closed()


def streamed(body: bytes, *, cut: bool = False) -> bytes:
    """A 200 with `body` as an event stream in one chunk; `cut` leaves out the chunk that ends it."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%b\r\n" % (len(body), body) + (b"" if cut else b"0\r\n\r\n")
