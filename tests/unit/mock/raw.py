"""Short ways to ask the mock: without a socket, over a raw one, and by a clock that tests hold."""

import asyncio
import heapq
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from gateway.mock.endpoints import answer
from gateway.mock.plan import MockRequest, Plan
from gateway.mock.script import Script
from gateway.mock.server import MockServer
from gateway.mock.world import World
from tests.fakes import FakeClock

HI = [{"role": "user", "content": "hi"}]


def new_world() -> World:
    """A world whose clock stands still."""
    return World(FakeClock(), log_calls=True)


def request(path: str, body: object = None, *, method: str = "POST", **headers: str) -> MockRequest:
    """A request; `body` becomes JSON unless it is bytes. Header names have `_` for `-`."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return MockRequest(method, path.encode(), sent, raw, keep_alive=True)


def chat(mock: str = "", *, model: str = "demo", world: World | None = None, **fields: object) -> Plan:
    """The plan for a chat completion of "hi"."""
    body = {"model": model, "messages": HI} | fields
    headers = {"x_mock": mock} if mock else {}
    return answer(world or new_world(), request("/v1/chat/completions", body, **headers))


def messages(mock: str = "", **fields: object) -> Plan:
    """The plan for an Anthropic message."""
    body = {"model": "demo", "max_tokens": 64, "messages": HI} | fields
    return answer(new_world(), request("/v1/messages", body, x_mock=mock))


def responses(mock: str = "", **fields: object) -> Plan:
    """The plan for a response."""
    body = {"model": "demo", "input": "hi"} | fields
    return answer(new_world(), request("/v1/responses", body, x_mock=mock))


def decoded(plan: Plan) -> Any:
    """The JSON of a complete body."""
    return json.loads(plan.body)


def beats(plan: Plan, *, is_http_10: bool = True) -> list[bytes]:
    """What a stream writes at each moment; without chunk sizes unless HTTP/1.0 is denied."""
    assert plan.stream is not None
    script = Script(plan, keep_alive=True, is_http_10=is_http_10)
    script.stream_head()
    return [b"".join(writes) for writes in script.stream_beats(plan.stream)]


def stream(plan: Plan) -> bytes:
    """The whole body of a stream."""
    return b"".join(beats(plan))


def events(raw: bytes) -> list[Any]:
    """The data of every SSE event: JSON where it is JSON, text where not. Comments are skipped."""
    found = []
    for frame in raw.replace(b"\r\n", b"\n").split(b"\n\n"):
        data = b"\n".join(line[5:].strip() for line in frame.split(b"\n") if line.startswith(b"data:"))
        if data:
            try:
                found.append(json.loads(data))
            except ValueError:
                found.append(data.decode())
    return found


def texts(raw: bytes) -> list[str]:
    """The content of every chat chunk that has some."""
    chunks = [event for event in events(raw) if isinstance(event, dict)]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk.get("choices")]
    return [delta["content"] for delta in deltas if delta.get("content")]


class FakeHandle:
    """A callback of FakeTimers."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """It will not run."""
        self.callback = None


class FakeTimers:
    """A loop's timers, run by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, FakeHandle]] = []
        self._order = count()

    def time(self) -> float:
        """Where the test has moved it."""
        return self.now

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> FakeHandle:
        """Keep a callback for `run_until`."""
        handle = FakeHandle(lambda: callback(*args))
        heapq.heappush(self._due, (when, next(self._order), handle))
        return handle

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> FakeHandle:
        """Keep a callback for `run_until`."""
        return self.call_at(self.now + delay, callback, *args)

    def call_soon(self, callback: Callable[..., object], *args: Any) -> FakeHandle:
        """Keep a callback for `run_until`."""
        return self.call_at(self.now, callback, *args)

    def run_until(self, when: float) -> None:
        """Run what is due up to `when`, in order."""
        while self._due and self._due[0][0] <= when:
            due, _, handle = heapq.heappop(self._due)
            self.now = max(self.now, due)
            if handle.callback is not None:
                handle.callback()
        self.now = when


class FakeSocket:
    """Notes the options it was given."""

    def __init__(self) -> None:
        self.options: list[tuple[int, int]] = []

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        """Note it."""
        self.options.append((level, option))


class FakeWire:
    """A transport that notes when what was written."""

    def __init__(self, timers: FakeTimers) -> None:
        self._timers = timers
        self.writes: list[tuple[float, bytes]] = []
        self.aborted = False
        self.socket = FakeSocket()

    def write(self, data: bytes) -> None:
        """Note it with its moment."""
        self.writes.append((round(self._timers.time(), 6), data))

    def abort(self) -> None:
        """Note it."""
        self.aborted = True

    def get_extra_info(self, name: str) -> FakeSocket:
        """The one socket."""
        assert name == "socket"
        return self.socket


@asynccontextmanager
async def serving(*, log_calls: bool = True) -> AsyncIterator[MockServer]:
    """A mock on a free port."""
    server = MockServer(log_calls=log_calls)
    await server.start()
    try:
        yield server
    finally:
        await server.aclose()


def http(path: str, body: object = None, *, method: str = "POST", version: str = "1.1", **headers: str) -> bytes:
    """A request as bytes, with `connection: close` unless told otherwise."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    sent = {"host": "mock", "connection": "close", "content-length": str(len(raw))}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"{method} {path} HTTP/{version}\r\n{head}\r\n".encode() + raw


def chat_http(mock: str, **fields: object) -> bytes:
    """A chat completion of "hi" as bytes."""
    return http("/v1/chat/completions", {"model": "demo", "messages": HI} | fields, x_mock=mock)


async def exchange(server: MockServer, sent: bytes) -> bytes:
    """Everything that comes back until the mock closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(sent)
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def dechunk(raw: bytes) -> bytes:
    """The body of a chunked reply; fails when its last chunk is missing."""
    rest = raw.partition(b"\r\n\r\n")[2]
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            assert rest == b"\r\n"
            return body
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
