"""Bytes that no client would send, and an upstream that no provider would be."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httptools

_READ_BYTES = 65536
_KEPT_BYTES = 1024 * 1024


@dataclass(slots=True)
class Answer:
    """One response as it stood on the wire; names of headers in lower case."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    is_complete: bool = False

    def values(self, name: bytes) -> list[bytes]:
        """Every value of a header."""
        return [value for key, value in self.headers if key == name]


class _Responses:
    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.answers.append(Answer())

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answers[-1].headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.answers[-1].status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.answers[-1].body += body

    def on_message_complete(self) -> None:
        self.answers[-1].is_complete = True


@dataclass(slots=True)
class Heard:
    """What came back on one connection, and whether the gateway closed it in time."""

    answers: list[Answer]
    is_closed: bool

    @property
    def only(self) -> Answer:
        """The one response there is."""
        assert len(self.answers) == 1, self.answers
        return self.answers[0]


async def say(address: tuple[str, int], *pieces: bytes, pause_s: float = 0.0, timeout_s: float = 5.0) -> Heard:
    """Send bytes, piece by piece with pauses, and hear everything until the close, or until `timeout_s` of silence."""
    reader, writer = await asyncio.open_connection(*address)
    responses = _Responses()

    async def talk() -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            if pause_s:
                await asyncio.sleep(pause_s)

    talking = asyncio.ensure_future(talk())
    is_closed = False
    try:
        while not is_closed:
            async with asyncio.timeout(timeout_s):
                data = await reader.read(_READ_BYTES)
            if data:
                responses.feed(data)
            is_closed = not data
    except ConnectionError:
        is_closed = True
    except TimeoutError:
        pass
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        await hang_up(writer)
    return Heard(responses.answers, is_closed)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever state it is in."""
    writer.close()
    try:
        await writer.wait_closed()
    except ConnectionError:
        # The other side cut it first.
        return


@dataclass(slots=True)
class Upstream:
    """A server that answers every request with the same bytes, and remembers what it was sent."""

    url: str = ""
    heads: list[bytes] = field(default_factory=list)
    """Request line and headers of each request."""
    connections: int = 0
    bodies: list[bytes] = field(default_factory=list)
    """The body of each request, up to 1 MiB of it."""
    body_bytes: int = 0
    may_read: asyncio.Event = field(default_factory=asyncio.Event)
    """Not set: it reads no body, as a provider that is busy."""

    def header(self, name: bytes) -> list[bytes]:
        """Every value of a header in the last request."""
        lines = [line.partition(b":") for line in self.heads[-1].split(b"\r\n")[1:]]
        return [value.strip() for key, _, value in lines if key.lower() == name]


@asynccontextmanager
async def upstream(reply: bytes) -> AsyncIterator[Upstream]:
    """A server on loopback that answers with `reply` and closes."""
    served = Upstream()
    served.may_read.set()
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        served.connections += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            served.heads.append(head)
            await served.may_read.wait()
            left = int(served.header(b"content-length")[0]) if served.header(b"content-length") else 0
            body = bytearray()
            while left > 0 and (piece := await reader.read(min(left, _READ_BYTES))):
                left -= len(piece)
                served.body_bytes += len(piece)
                body += piece if len(body) < _KEPT_BYTES else b""
            served.bodies.append(bytes(body))
            writer.write(reply)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            handlers.discard(task)
            await hang_up(writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    served.url = f"http://{host}:{port}"
    try:
        yield served
    finally:
        server.close()
        for task in list(handlers):
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        await server.wait_closed()


def reply(body: bytes, *lines: bytes, status: bytes = b"200 OK", content_type: bytes = b"application/json") -> bytes:
    """A complete response with more header lines."""
    head = [b"HTTP/1.1 " + status, b"content-type: " + content_type, *lines, b"content-length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


COMPLETION = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":'
    b'"stop","message":{"role":"assistant","content":"ok"}}],"usage":{"prompt_tokens":1,"completion_tokens":1,'
    b'"total_tokens":2}}'
)
"""The smallest reply to a chat request."""
