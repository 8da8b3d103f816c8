"""The exact cache as a policy: hits, misses, and one call for many equal requests."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.core.errors import GatewayError, Headers, UpstreamError, UpstreamTruncated
from gateway.core.exchange import Attempt, Consumer, Exchange, Reply, RequestHead, Usage
from gateway.core.pipeline import Handler
from gateway.policies.cache import Cache, CacheResult, CacheSettings, Place, Shelf
from gateway.policies.cache_checks import Terms
from gateway.policies.cache_control import CacheMiss
from gateway.policies.single_flight import Flights
from gateway.store.blobs import Blobs, Entry, Found, Receipt, key_scope, prompt_scope, route_scope, tag_scope
from gateway.store.memory_blobs import MemoryBlobs
from gateway.wire.replay import Replay
from tests.fakes import FakeClock, exchange, request

pytestmark = pytest.mark.anyio

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


async def test_the_second_time_the_same_question_is_answered_from_the_cache() -> None:
    kitchen = Kitchen()
    first = await kitchen.ask()
    kitchen.clock.advance(12.0)
    second = await kitchen.ask()
    assert (first.cache, second.cache) == ("miss", "hit")
    assert len(kitchen.model.calls) == 1
    assert second.body == first.body
    assert second.headers == {b"content-type": b"application/json", b"age": b"12"}
    assert (second.asking.target, second.asking.cost_nusd, second.asking.usage) == ("gpt", 0, Usage())
    assert kitchen.counts == {"miss": 1, "stored": 1, "hit": 1}
    assert (kitchen.tokens, kitchen.cost_nusd) == (5, 900)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
async def test_one_entry_answers_whole_and_as_a_stream(first: bool, second: bool) -> None:
    kitchen = Kitchen()
    await kitchen.ask(stream=first)
    got = await kitchen.ask(stream=second)
    assert got.cache == "hit"
    if second:
        assert got.body.endswith(b"data: [DONE]\n\n")
        assert b"Hi there." in got.body
    else:
        assert json.loads(got.body)["choices"][0]["message"]["content"] == "Hi there."
        assert json.loads(got.body)["usage"]["total_tokens"] == 5


async def test_a_replayed_stream_has_usage_when_it_is_asked_for() -> None:
    kitchen = Kitchen()
    await kitchen.ask()
    got = await kitchen.ask(stream=True, head={"include_usage": True})
    assert b'"total_tokens":5' in got.body


async def test_another_key_is_another_cache() -> None:
    """F116: a canary stored by one tenant is never told to another."""
    kitchen = Kitchen()
    kitchen.model.body = chat_body("the canary of A")
    await kitchen.ask(key="a")
    kitchen.model.body = chat_body("B's own")
    got = await kitchen.ask(key="b")
    assert got.cache == "miss"
    assert b"canary" not in got.body


async def test_a_team_shares_where_that_is_configured() -> None:
    kitchen = Kitchen(settings=CacheSettings(TTL_S, share="team"))
    await kitchen.ask(key="a")
    got = await kitchen.ask(key="b")
    assert got.cache == "hit"
    assert "filled by request req-1 of key a" in got.asking.decisions[-1].detail


@pytest.mark.parametrize(
    "model",
    [
        Model(faults=[UpstreamError("no", upstream_status=500)]),
        Model(status=400),
        Model(finish="length"),
        Model(finish="content_filter"),
        Model(body=chat_body("")),
        Model(body=chat_body(refusal="No.")),
        Model(body=chat_body(tool_calls=[{"id": "c"}])),
        Model(body=b'{"a":1}'),
        Model(body=b"x" * (Terms().max_entry_bytes + 1)),
        Model(target="another"),
    ],
)
async def test_what_is_no_good_answer_is_not_stored(model: Model) -> None:
    """F117."""
    kitchen = Kitchen(model=model)
    for _ in range(2):
        try:
            assert (await kitchen.ask()).cache == "miss"
        except UpstreamError:
            continue
    assert len(model.calls) == 2
    assert kitchen.counts["hit"] == 0


@pytest.mark.parametrize(
    "model",
    [
        Model(frames=chat_stream(is_whole=False), amid=UpstreamTruncated("cut")),
        Model(frames=chat_stream(is_whole=False)),
        Model(frames=[b"data: nonsense\n\n", *chat_stream()]),
    ],
)
async def test_a_stream_that_is_not_whole_is_not_stored(model: Model) -> None:
    """F117: error_after and eof_after, then asked again."""
    kitchen = Kitchen(model=model)
    for _ in range(2):
        try:
            await kitchen.ask(stream=True)
        except UpstreamTruncated:
            continue
    assert len(model.calls) == 2
    assert len(kitchen.flights) == 0


async def test_a_stream_whose_client_left_is_not_stored() -> None:
    kitchen = Kitchen()
    with pytest.raises(asyncio.CancelledError):
        async with kitchen.cache(asked(stream=True), kitchen.model.handler) as reply:
            assert reply.events is not None
            async for block in reply.events:
                for tap in reply.taps:
                    tap(block)
            raise asyncio.CancelledError
    assert (await kitchen.ask(stream=True)).cache == "miss"
    assert kitchen.model.left == 2


async def test_tool_calls_are_stored_where_that_is_configured() -> None:
    body = chat_body("", "tool_calls", tool_calls=[{"id": "c", "function": {"name": "f", "arguments": "{}"}}])
    kitchen = Kitchen(
        Model(body=body, finish="tool_calls"), settings=CacheSettings(TTL_S, terms=Terms(tool_calls=True))
    )
    await kitchen.ask()
    assert (await kitchen.ask()).cache == "hit"


@pytest.mark.parametrize(
    "changes",
    [{"head": {"n": 2}}, {"head": {"temperature": 1.5}}, {"body": {"store": True}}, {"control": b"no-store"}],
)
async def test_some_requests_pass_by(changes: dict[str, Any]) -> None:
    kitchen = Kitchen()
    for _ in range(2):
        got = await kitchen.ask(**changes)
        assert got.cache == "bypass"
        assert got.asking.decisions[0].step == "cache"
    assert len(kitchen.model.calls) == 2
    assert kitchen.counts == {"bypass": 2}


async def test_no_cache_is_not_looked_up_but_stored() -> None:
    kitchen = Kitchen()
    await kitchen.ask()
    kitchen.model.body = chat_body("fresh")
    assert (await kitchen.ask(control=b"no-cache")).cache == "bypass"
    got = await kitchen.ask()
    assert got.cache == "hit"
    assert b"fresh" in got.body


async def test_no_store_does_not_even_read_what_is_there() -> None:
    kitchen = Kitchen()
    await kitchen.ask()
    assert (await kitchen.ask(control=b"no-store")).cache == "bypass"
    assert len(kitchen.model.calls) == 2


async def test_max_age_wants_a_younger_one() -> None:
    kitchen = Kitchen()
    await kitchen.ask()
    kitchen.clock.advance(10.0)
    assert (await kitchen.ask(control=b"max-age=10")).cache == "hit"
    kitchen.clock.advance(1.0)
    assert (await kitchen.ask(control=b"max-age=10")).cache == "miss"
    assert (await kitchen.ask(control=b"max-age=10")).headers[b"age"] == b"0"


async def test_only_if_cached_wants_nothing_else() -> None:
    kitchen = Kitchen()
    with pytest.raises(CacheMiss):
        await kitchen.ask(control=b"only-if-cached")
    assert kitchen.model.calls == []
    assert len(kitchen.flights) == 0
    await kitchen.ask()
    assert (await kitchen.ask(control=b"only-if-cached")).cache == "hit"
    with pytest.raises(CacheMiss):
        await kitchen.ask(control=b"only-if-cached", head={"n": 2})


async def test_entries_end_with_a_jitter_of_a_tenth() -> None:
    kitchen = Kitchen()
    assert isinstance(kitchen.blobs, MemoryBlobs)
    for number in range(200):
        await kitchen.ask(text=str(number))
    lives = [entry.ttl_s for entry in kitchen.blobs._entries.values()]
    assert 0.9 * TTL_S <= min(lives) < 0.92 * TTL_S
    assert 1.08 * TTL_S < max(lives) <= 1.1 * TTL_S
    kitchen.clock.advance(1.1 * TTL_S)
    assert (await kitchen.ask(text="0")).cache == "miss"


async def test_a_shorter_time_to_live_holds_for_what_is_there_already() -> None:
    kitchen = Kitchen()
    await kitchen.ask()
    kitchen.clock.advance(20.0)
    later = Kitchen(kitchen.model, kitchen.clock, CacheSettings(10.0), blobs=kitchen.blobs)
    assert (await later.ask()).cache == "miss"


async def test_an_entry_says_who_filled_it_and_carries_its_scopes() -> None:
    kitchen = Kitchen()
    assert isinstance(kitchen.blobs, MemoryBlobs)
    await kitchen.ask(asked(prompt_name="greeting", prompt_version="3", tags={"team": "a"}, request_id="req-9"))
    (entry,) = kitchen.blobs._entries.values()
    assert (entry.filled_by, entry.request_id, entry.stored_s) == ("checkout", "req-9", kitchen.clock.wall())
    assert entry.scopes[1:] == (
        key_scope("checkout"),
        route_scope("support-*"),
        prompt_scope("greeting", "3"),
        tag_scope("team", "a"),
    )
    for scope in entry.scopes:
        await kitchen.ask(asked(prompt_name="greeting", prompt_version="3", tags={"team": "a"}))
        assert (await kitchen.blobs.purge(scope)).matched == 1


async def test_a_purge_is_seen_by_the_next_request() -> None:
    kitchen = Kitchen()
    assert kitchen.blobs is not None
    await kitchen.ask()
    await kitchen.blobs.purge(key_scope("checkout"))
    assert (await kitchen.ask()).cache == "miss"


async def test_what_a_cheaper_way_has_answered_is_not_stored_under_this_target() -> None:
    kitchen = Kitchen(Model(target="small"))
    got = await kitchen.ask()
    assert got.asking.decisions[-1].detail.startswith("not stored, other_origin")
    assert kitchen.counts["rejected"] == 1


async def test_a_semantic_hit_below_is_not_stored_as_the_exact_answer() -> None:
    kitchen = Kitchen()

    @asynccontextmanager
    async def similar(asking: Exchange) -> AsyncIterator[Reply]:
        async with kitchen.model.handler(asking) as reply:
            asking.cache = "semantic"
            yield reply

    async with kitchen.cache(asked(), similar):
        pass
    assert kitchen.counts == {"miss": 1, "rejected": 1}


async def crowd(kitchen: Kitchen, count: int, **changes: Any) -> list["asyncio.Task[Got]"]:
    """So many equal requests, of which one asks the model and the others wait for it."""
    tasks = [asyncio.create_task(kitchen.ask(**changes)) for _ in range(count)]
    await turn(lambda: _followers(kitchen) == count - 1)
    return tasks


def _followers(kitchen: Kitchen) -> int:
    return sum(flight.followers for flight in kitchen.flights._flights.values())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("blobs", ["memory", "shared", "away"])
async def test_200_equal_requests_make_one_call_and_200_answers(stream: bool, blobs: str) -> None:
    clock = FakeClock()
    store = {"memory": lambda: None, "shared": lambda: Fleet(clock).of("p1"), "away": Away}[blobs]()
    kitchen = Kitchen(Model(gate=asyncio.Event()), clock, blobs=store)
    tasks = await crowd(kitchen, 200, stream=stream)
    assert kitchen.model.gate is not None
    kitchen.model.gate.set()
    got = await asyncio.gather(*tasks)
    assert len(kitchen.model.calls) == 1
    assert Counter(each.cache for each in got) == {"hit": 199, "miss" if blobs != "away" else "bypass": 1}
    contents = [each.body for each in got]
    assert all(b"Hi there." in each for each in contents)
    if stream:
        assert all(each.endswith(b"data: [DONE]\n\n") for each in contents)
    assert len(kitchen.flights) == 0


async def test_a_leaders_failure_is_not_shared() -> None:
    kitchen = Kitchen(Model(gate=asyncio.Event(), faults=[UpstreamError("no", upstream_status=500)]))
    tasks = await crowd(kitchen, 10)
    assert kitchen.model.gate is not None
    kitchen.model.gate.set()
    got = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each).__name__ for each in got] == ["UpstreamError"] + ["Got"] * 9
    assert len(kitchen.model.calls) == 2


async def test_a_leader_whose_client_leaves_hands_over_to_one_follower() -> None:
    """Its call ends with it, for it is that client's request that is held and billed; the others go on with another."""
    kitchen = Kitchen(Model(gate=asyncio.Event()))
    leader, *others = await crowd(kitchen, 10)
    leader.cancel()
    await turn(lambda: len(kitchen.model.calls) == 2 and _followers(kitchen) == 8)
    assert kitchen.model.gate is not None
    kitchen.model.gate.set()
    got = await asyncio.gather(*others)
    assert Counter(each.cache for each in got) == {"miss": 1, "hit": 8}
    assert len(kitchen.model.calls) == 2
    assert leader.cancelled()


async def test_a_follower_that_leaves_disturbs_nobody() -> None:
    kitchen = Kitchen(Model(gate=asyncio.Event()))
    tasks = await crowd(kitchen, 3)
    tasks[1].cancel()
    assert kitchen.model.gate is not None
    kitchen.model.gate.set()
    assert [(await tasks[0]).cache, (await tasks[2]).cache] == ["miss", "hit"]


async def test_followers_of_a_reply_that_must_not_be_shared_go_alone_together() -> None:
    kitchen = Kitchen(Model(gate=asyncio.Event(), finish="length"))
    tasks = await crowd(kitchen, 5)
    assert kitchen.model.gate is not None
    kitchen.model.gate.set()
    got = await asyncio.gather(*tasks)
    assert len(kitchen.model.calls) == 5
    assert {each.cache for each in got} == {"miss"}


async def test_a_follower_does_not_wait_longer_than_it_may() -> None:
    kitchen = Kitchen(Model(gate=asyncio.Event()), settings=CacheSettings(TTL_S, wait_s=0.005))
    leader = asyncio.create_task(kitchen.ask())
    await turn(lambda: len(kitchen.model.calls) == 1)
    follower = asyncio.create_task(kitchen.ask())
    await turn(lambda: len(kitchen.model.calls) == 2)
    assert kitchen.model.gate is not None
    kitchen.model.gate.set()
    assert {(await leader).cache, (await follower).cache} == {"miss"}


async def test_a_follower_does_not_wait_beyond_its_clients_time() -> None:
    kitchen = Kitchen(Model(gate=asyncio.Event()))
    leader = asyncio.create_task(kitchen.ask())
    await turn(lambda: len(kitchen.model.calls) == 1)
    impatient = asyncio.create_task(kitchen.ask(asked(client_deadline_s=kitchen.clock.monotonic())))
    await turn(lambda: len(kitchen.model.calls) == 2)
    assert kitchen.model.gate is not None
    kitchen.model.gate.set()
    assert (await impatient).cache == (await leader).cache == "miss"


async def test_who_asks_after_a_purge_does_not_wait_for_who_asked_before_it() -> None:
    kitchen = Kitchen(Model(gate=asyncio.Event()))
    assert kitchen.blobs is not None
    early = asyncio.create_task(kitchen.ask())
    await turn(lambda: len(kitchen.model.calls) == 1)
    await kitchen.blobs.purge(key_scope("checkout"))
    late = asyncio.create_task(kitchen.ask())
    await turn(lambda: len(kitchen.model.calls) == 2)
    assert kitchen.model.gate is not None
    kitchen.model.gate.set()
    await asyncio.gather(early, late)
    # Of the two, the one that was asked for after the purge is kept.
    assert kitchen.counts["stored"] == 1


async def test_a_client_that_wants_a_fresh_reply_follows_nobody() -> None:
    kitchen = Kitchen(Model(gate=asyncio.Event()))
    leader = asyncio.create_task(kitchen.ask())
    await turn(lambda: len(kitchen.model.calls) == 1)
    fresh = asyncio.create_task(kitchen.ask(control=b"no-cache"))
    await turn(lambda: len(kitchen.model.calls) == 2)
    assert kitchen.model.gate is not None
    kitchen.model.gate.set()
    assert [(await leader).cache, (await fresh).cache] == ["miss", "bypass"]


async def test_a_reply_whose_end_fails_is_not_stored() -> None:
    kitchen = Kitchen()

    @asynccontextmanager
    async def failing(asking: Exchange) -> AsyncIterator[Reply]:
        async with kitchen.model.handler(asking) as reply:
            yield reply
        raise UpstreamTruncated("cut")

    with pytest.raises(UpstreamTruncated):
        async with kitchen.cache(asked(), failing):
            pass
    assert len(kitchen.flights) == 0
    assert (await kitchen.ask()).cache == "miss"


async def test_a_client_that_wants_a_fresh_reply_gets_it_without_the_store_too() -> None:
    kitchen = Kitchen(blobs=Away())
    assert (await kitchen.ask(control=b"no-cache")).cache == "bypass"


async def test_a_fault_of_our_own_leaves_no_follower_behind() -> None:
    class Broken(Replay):
        def traits(self, *_: Any) -> frozenset[str]:
            raise ZeroDivisionError

    kitchen = Kitchen()
    shelf = kitchen.cache.shelf
    broken = Shelf(shelf.blobs, shelf.flights, Broken(), shelf.clock, shelf.rng, shelf.sleep)
    kitchen.cache = Cache(kitchen.settings, kitchen.cache.place, broken, kitchen)
    with pytest.raises(ZeroDivisionError):
        await kitchen.ask()
    assert len(kitchen.flights) == 0


async def test_an_entry_that_cannot_be_told_as_a_stream_is_asked_for_again() -> None:
    class Mute(Replay):
        def stream(self, *_: Any, include_usage: bool) -> None:
            return None

    kitchen = Kitchen()
    await kitchen.ask()
    shelf = kitchen.cache.shelf
    mute = Shelf(shelf.blobs, shelf.flights, Mute(), shelf.clock, shelf.rng, shelf.sleep)
    kitchen.cache = Cache(kitchen.settings, kitchen.cache.place, mute, kitchen)
    assert (await kitchen.ask(stream=True)).cache == "miss"
    assert len(kitchen.model.calls) == 2


async def test_without_the_store_every_reply_is_the_models_own() -> None:
    kitchen = Kitchen(blobs=Away())
    for _ in range(2):
        got = await kitchen.ask()
        assert got.cache == "bypass"
        assert got.asking.decisions[0].detail == "bypass, the store does not answer"
    assert kitchen.counts == {"bypass": 2}


@dataclass
class Pair:
    """Two processes on one store."""

    clock: FakeClock = field(default_factory=FakeClock)
    fleet: Fleet = field(init=False)
    here: Kitchen = field(init=False)
    there: Kitchen = field(init=False)

    def __post_init__(self) -> None:
        self.fleet = Fleet(self.clock)
        self.here = Kitchen(Model(gate=asyncio.Event()), self.clock, blobs=self.fleet.of("here"))
        self.there = Kitchen(Model(gate=asyncio.Event()), self.clock, blobs=self.fleet.of("there"))

    async def begun(self, **changes: Any) -> "asyncio.Task[Got]":
        """A request that asks the model elsewhere."""
        task = asyncio.create_task(self.there.ask(**changes))
        await turn(lambda: len(self.there.model.calls) == 1)
        return task

    def answer(self, kitchen: Kitchen) -> None:
        """Let a model answer."""
        assert kitchen.model.gate is not None
        kitchen.model.gate.set()


async def when_polled(kitchen: Kitchen, times: int, then: Callable[[], Any]) -> Callable[[], None]:
    """Called at each pause: does something at one of them."""

    def paused() -> None:
        if len(kitchen.slept) == times:
            then()

    return paused


async def test_processes_of_a_fleet_make_one_call_together() -> None:
    pair = Pair()
    leader = await pair.begun()
    pair.here.on_sleep = await when_polled(pair.here, 3, lambda: pair.answer(pair.there))
    got = await asyncio.gather(*[pair.here.ask(stream=bool(number % 2)) for number in range(20)])
    assert {each.cache for each in got} == {"hit"}
    assert pair.here.model.calls == []
    assert (await leader).cache == "miss"
    await settled()
    # One of them looks, with growing pauses; the others wait for it.
    assert pair.here.slept[:3] == [0.02, 0.03, 0.045]
    assert isinstance(pair.here.blobs, Shared)
    assert pair.here.blobs.finds <= 20 + len(pair.here.slept)
    assert pair.fleet.leases == {}


async def test_a_failure_elsewhere_hands_over_to_another_process() -> None:
    pair = Pair()
    pair.there.model.faults = [UpstreamError("no", upstream_status=500)]
    leader = await pair.begun()
    pair.here.on_sleep = await when_polled(pair.here, 2, lambda: pair.answer(pair.there))
    pair.answer(pair.here)
    got = await pair.here.ask()
    assert got.cache == "miss"
    assert len(pair.here.model.calls) == 1
    with pytest.raises(UpstreamError):
        await leader
    await settled()
    assert pair.fleet.leases == {}
    assert pair.here.counts["stored"] == 1


async def test_another_process_is_not_waited_for_longer_than_may_be() -> None:
    pair = Pair()
    leader = await pair.begun()
    pair.answer(pair.here)
    got = await pair.here.ask()
    assert got.cache == "miss"
    assert sum(pair.here.slept) == pytest.approx(pair.here.settings.wait_s)
    assert max(pair.here.slept) == 0.25
    pair.answer(pair.there)
    await leader


async def test_a_client_that_leaves_while_it_looks_elsewhere_hands_over() -> None:
    pair = Pair()
    leader = await pair.begun()
    tasks: list[asyncio.Task[Got]] = []
    pair.here.on_sleep = await when_polled(pair.here, 2, lambda: tasks[0].cancel())
    tasks += [asyncio.create_task(pair.here.ask()) for _ in range(3)]
    await turn(tasks[0].done)
    pair.answer(pair.there)
    assert [(await each).cache for each in tasks[1:]] == ["hit", "hit"]
    assert (await leader).cache == "miss"
    assert pair.here.model.calls == []


async def test_a_lease_is_given_back_when_its_client_leaves() -> None:
    pair = Pair()
    leader = await pair.begun()
    assert list(pair.fleet.leases.values()) == ["there"]
    leader.cancel()
    await asyncio.wait((leader,))
    await settled()
    assert pair.fleet.leases == {}


async def test_a_lease_stays_while_another_request_of_its_process_takes_over() -> None:
    pair = Pair()
    first = await pair.begun()
    second = asyncio.create_task(pair.there.ask())
    await turn(lambda: _followers(pair.there) == 1)
    first.cancel()
    await turn(lambda: len(pair.there.model.calls) == 2)
    await settled()
    assert list(pair.fleet.leases.values()) == ["there"]
    pair.answer(pair.there)
    await second
    await settled()
    assert pair.fleet.leases == {}


async def test_a_lease_is_given_back_when_its_client_leaves_while_it_is_asked_for() -> None:
    pair = Pair()
    task = asyncio.create_task(pair.there.ask())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    await settled()
    assert pair.fleet.leases == {}


async def test_a_reply_of_a_fleet_is_stored_without_holding_up_its_client() -> None:
    pair = Pair()
    pair.answer(pair.there)
    got = await pair.there.ask()
    assert got.cache == "miss"
    assert len(pair.fleet.memory) == 0
    await settled()
    assert len(pair.fleet.memory) == 1
    assert (await pair.there.ask()).cache == "hit"
