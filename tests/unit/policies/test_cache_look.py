"""One request's look into the cache: single flight, in a process and in a fleet."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.core.errors import UpstreamError
from gateway.policies.cache_look import CacheSettings
from gateway.store.blobs import key_scope
from tests.fakes import FakeClock
from tests.unit.policies.caching import (
    TTL_S,
    Away,
    Fleet,
    Got,
    Kitchen,
    Model,
    Shared,
    asked,
    settled,
    turn,
)

pytestmark = pytest.mark.anyio


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


async def test_an_entry_that_is_too_old_for_this_client_is_asked_for_without_waiting() -> None:
    pair = Pair()
    pair.answer(pair.there)
    await pair.there.ask()
    await settled()
    pair.clock.advance(10.0)
    got = await pair.there.ask(control=b"max-age=5")
    assert got.cache == "miss"
    assert pair.there.slept == []


async def test_a_followers_wait_is_none_of_the_gateways_own_time() -> None:
    kitchen = Kitchen(Model(gate=asyncio.Event()))
    leading, following = asked(), asked()
    leader = asyncio.create_task(kitchen.ask(leading))
    follower = asyncio.create_task(kitchen.ask(following))
    await turn(lambda: _followers(kitchen) == 1)
    kitchen.clock.advance(3.0)
    assert kitchen.model.gate is not None
    kitchen.model.gate.set()
    await asyncio.gather(leader, follower)
    assert (leading.coalesced_s, following.coalesced_s) == (0.0, 3.0)
    assert following.waited_s == 3.0


async def test_a_wait_for_another_process_is_none_of_the_gateways_own_time() -> None:
    clock = FakeClock()
    fleet = Fleet(clock)
    one = Kitchen(Model(gate=asyncio.Event()), clock, blobs=fleet.of("p1"))
    other = Kitchen(one.model, clock, blobs=fleet.of("p2"))
    leader = asyncio.create_task(one.ask())
    await turn(lambda: len(one.model.calls) == 1)
    assert one.model.gate is not None
    other.on_sleep = one.model.gate.set
    following = asked()
    assert (await other.ask(following)).cache == "hit"
    assert following.coalesced_s == pytest.approx(sum(other.slept)) and other.slept
    await leader
