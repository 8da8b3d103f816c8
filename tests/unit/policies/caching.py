"""What the tests of the cache share: a model behind it, stores of one process and of several, and clients."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.core.errors import GatewayError, Headers
from gateway.core.exchange import Attempt, Consumer, Exchange, Reply, RequestHead, Usage
from gateway.core.pipeline import Handler
from gateway.policies.cache import Cache, CacheResult, Place
from gateway.policies.cache_look import CacheSettings, Shelf
from gateway.policies.single_flight import Flights
from gateway.store.blobs import Blobs, Entry, Found, Receipt
from gateway.store.memory_blobs import MemoryBlobs
from gateway.wire.replay import Replay
from tests.fakes import FakeClock, exchange, request

TTL_S = 100.0


def chat_body(content: str = "Hi there.", finish: str = "stop", **message: Any) -> bytes:
    """A whole chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content} | message, "finish_reason": finish}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    reply = {"id": "c1", "object": "chat.completion", "created": 1, "model": "gpt-4.1", "choices": [choice]}
    return json.dumps(reply | {"usage": usage}).encode()


def chat_stream(*, is_whole: bool = True) -> list[bytes]:
    """The frames of a chat completion."""
    told = Replay().stream("openai", "chat", chat_body(), include_usage=False)
    assert told is not None
    frames = [frame + b"\n\n" for frame in told[0].split(b"\n\n")[:-1]]
    return frames if is_whole else frames[:2]


@dataclass
class Model:
    """What stands behind the cache: counts its calls, and answers when it is let."""

    body: bytes | None = field(default_factory=chat_body)
    frames: list[bytes] = field(default_factory=chat_stream)
    status: int = 200
    finish: str = "stop"
    target: str = "gpt"
    faults: list[GatewayError | None] = field(default_factory=list)
    amid: GatewayError | None = None
    gate: asyncio.Event | None = None
    calls: list[Exchange] = field(default_factory=list)
    left: int = 0

    @property
    def handler(self) -> Handler:
        """The way to it."""
        return self._answer

    @asynccontextmanager
    async def _answer(self, asking: Exchange) -> AsyncIterator[Reply]:
        self.calls.append(asking)
        fault = self.faults.pop(0) if self.faults else None
        asking.attempts.append(Attempt(1, self.target, cost_nusd=900))
        asking.target = self.target
        try:
            if self.gate is not None:
                await self.gate.wait()
            if fault is not None:
                raise fault
            headers = [(b"content-type", b"application/json"), (b"x-ratelimit-remaining-requests", b"7")]
            if asking.request.head.stream:
                yield Reply(self.status, headers, events=self._events(), error_event=lambda error, request_id: b"")
            else:
                yield Reply(self.status, headers, body=self.body)
        finally:
            asking.usage = Usage(3, 2, source="provider")
            asking.finish_reasons = [self.finish]
            asking.response_id = "c1"
            self.left += 1

    async def _events(self) -> AsyncIterator[bytes]:
        for frame in self.frames:
            yield frame
        if self.amid is not None:
            raise self.amid


class Away:
    """A store that does not answer."""

    is_shared = True
    size_bytes = 0

    async def find(self, key: bytes, scopes: tuple[str, ...], lease_s: float = 0.0) -> Found:
        return Found(None, None)

    async def put(self, key: bytes, entry: Entry) -> bool:
        raise AssertionError("nothing is stored without epochs")

    async def release(self, key: bytes) -> None:
        pass

    async def purge(self, scope: str) -> Receipt:
        raise AssertionError("not asked here")


class Fleet:
    """One store of several processes."""

    def __init__(self, clock: FakeClock) -> None:
        self.memory = MemoryBlobs(1 << 20, clock)
        self.leases: dict[bytes, str] = {}

    def of(self, owner: str) -> "Shared":
        """The store as one process sees it."""
        return Shared(self, owner)


class Shared:
    """See Blobs."""

    is_shared = True
    size_bytes = 0

    def __init__(self, fleet: Fleet, owner: str) -> None:
        self.fleet = fleet
        self.owner = owner
        self.finds = 0

    async def find(self, key: bytes, scopes: tuple[str, ...], lease_s: float = 0.0) -> Found:
        self.finds += 1
        await asyncio.sleep(0)
        found = await self.fleet.memory.find(key, scopes)
        if found.entry is not None or not lease_s:
            return Found(found.entry, found.epochs, leads=False)
        return Found(None, found.epochs, leads=self.fleet.leases.setdefault(key, self.owner) == self.owner)

    async def put(self, key: bytes, entry: Entry) -> bool:
        await asyncio.sleep(0)
        await self.release(key)
        return await self.fleet.memory.put(key, entry)

    async def release(self, key: bytes) -> None:
        if self.fleet.leases.get(key) == self.owner:
            del self.fleet.leases[key]

    async def purge(self, scope: str) -> Receipt:
        return await self.fleet.memory.purge(scope)


@dataclass
class Kitchen:
    """A cache and all that it needs."""

    model: Model = field(default_factory=Model)
    clock: FakeClock = field(default_factory=FakeClock)
    settings: CacheSettings = field(default_factory=lambda: CacheSettings(TTL_S))
    target: str = "gpt"
    blobs: Blobs | None = None
    counts: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    cost_nusd: int = 0
    slept: list[float] = field(default_factory=list)
    on_sleep: Callable[[], None] = lambda: None
    flights: Flights = field(default_factory=Flights)
    cache: Cache = field(init=False)

    def __post_init__(self) -> None:
        self.blobs = self.blobs if self.blobs is not None else MemoryBlobs(1 << 20, self.clock)
        shelf = Shelf(self.blobs, self.flights, Replay(), self.clock, random.Random(7), self.sleep)
        self.cache = Cache(self.settings, Place("support-*", self.target, "r1"), shelf, self)

    def count(self, result: CacheResult) -> None:
        self.counts[result] += 1

    def saved(self, tokens: int, cost_nusd: int) -> None:
        self.tokens += tokens
        self.cost_nusd += cost_nusd

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)
        self.on_sleep()
        await asyncio.sleep(0)

    async def ask(self, asking: Exchange | None = None, **changes: Any) -> "Got":
        """What a client gets, as the responder reads it."""
        asking = asking if asking is not None else asked(**changes)
        async with self.cache(asking, self.model.handler) as reply:
            if reply.body is not None:
                blocks = [reply.body]
            else:
                assert reply.events is not None
                blocks = []
                async for block in reply.events:
                    blocks.append(block)
                    for tap in reply.taps:
                        tap(block)
            return Got(asking, reply.status, dict(reply.headers), b"".join(blocks))


@dataclass
class Got:
    """A reply as its client has it."""

    asking: Exchange
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def cache(self) -> str:
        return self.asking.cache


def asked(
    text: str = "hi",
    *,
    stream: bool = False,
    key: str = "checkout",
    control: bytes | None = None,
    body: dict[str, Any] | None = None,
    head: dict[str, Any] | None = None,
    **changes: Any,
) -> Exchange:
    """A client's chat."""
    headers: Headers = [] if control is None else [(b"cache-control", control)]
    raw = {"model": "m", "messages": [{"role": "user", "content": text}]} | (body or {})
    if stream:
        raw["stream"] = True
    asking = request(
        body=json.dumps(raw).encode(),
        headers=headers,
        head=RequestHead(model="m", stream=stream, **(head or {})),
    )
    return exchange(asking, consumer=Consumer(key, {"team": "a"}), **changes)


async def turn(until: Callable[[], bool]) -> None:
    """Let the loop run until something is so."""
    while not until():
        await asyncio.sleep(0)


async def settled() -> None:
    """Let the loop run until nothing that was spawned can be left."""
    for _ in range(10):
        await asyncio.sleep(0)
