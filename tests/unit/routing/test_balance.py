"""A choice among equals."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.core.errors import ClientGone, NoHealthyTarget, UpstreamConnectError
from gateway.core.exchange import Exchange, Reply, RequestHead
from gateway.routing.balance import DECAY_S, FAILURE_S, MAX_FAILURE_S, Average, Balance, Load, Method
from gateway.routing.split import Arm
from tests.fakes import FakeClock, exchange, request

pytestmark = pytest.mark.anyio


class _Pool:
    """A pool whose targets take as long as a test says, fail when it says, and can be ejected."""

    def __init__(self, method: Method, names: str = "abc", costs: Mapping[str, float] | None = None) -> None:
        self.clock = FakeClock()
        self.loads = {name: Load() for name in names}
        self.takes_s = dict.fromkeys(names, 0.1)
        self.faults: dict[str, BaseException] = {}
        self.statuses = dict.fromkeys(names, 200)
        self.out: set[str] = set()
        self.served: Counter[str] = Counter()
        arms = [self._arm(name) for name in names]
        self.balance = Balance(arms, method, self.loads, self.clock, random.Random(7), costs)

    def _arm(self, name: str) -> Arm:
        @asynccontextmanager
        async def answer(asked: Exchange) -> AsyncIterator[Reply]:
            self.served[name] += 1
            self.clock.advance(self.takes_s[name])
            if name in self.faults:
                raise self.faults[name]
            yield Reply(self.statuses[name], [], body=name.encode())

        return Arm(name, 1, answer, available=lambda: name not in self.out)

    async def serve(self, asked: Exchange | None = None) -> str:
        """Which target answered."""
        async with self.balance(asked if asked is not None else exchange()) as reply:
            return (reply.body or b"").decode()

    @property
    def inflight(self) -> dict[str, int]:
        """In flight now, where there are any."""
        return {name: load.inflight for name, load in self.loads.items() if load.inflight}


async def test_weighted_goes_by_chance() -> None:
    pool = _Pool("weighted")
    for _ in range(300):
        await pool.serve()
    assert min(pool.served.values()) > 70
    assert pool.inflight == {}


async def test_of_two_the_one_with_fewer_in_flight_is_taken() -> None:
    pool = _Pool("least_inflight", "ab")
    pool.loads["a"].inflight = 5
    assert [await pool.serve() for _ in range(20)] == ["b"] * 20


async def test_the_busiest_of_a_pool_is_never_taken_and_equals_share() -> None:
    pool = _Pool("least_inflight", "abcd")
    pool.loads["d"].inflight = 9
    for _ in range(300):
        await pool.serve()
    assert pool.served["d"] == 0
    assert min(pool.served[name] for name in "abc") > 60


async def test_requests_that_stay_open_spread_evenly() -> None:
    pool = _Pool("least_inflight")
    scopes = []
    for _ in range(90):
        scopes.append(pool.balance(exchange()))
        await scopes[-1].__aenter__()
    assert sum(pool.inflight.values()) == 90
    assert max(pool.inflight.values()) - min(pool.inflight.values()) <= 8
    for scope in scopes:
        await scope.__aexit__(None, None, None)
    assert pool.inflight == {}


async def test_nothing_stays_counted_whatever_ends_a_request() -> None:
    """F6, F7: the end, a failure before the reply, one inside it, a client that leaves."""
    pool = _Pool("least_inflight", "ab")
    pool.faults["a"] = pool.faults["b"] = UpstreamConnectError("refused")
    for _ in range(10):
        with pytest.raises(UpstreamConnectError):
            await pool.serve()
    pool.faults.clear()
    with pytest.raises(RuntimeError):
        async with pool.balance(exchange()):
            assert sum(pool.inflight.values()) == 1
            raise RuntimeError
    assert pool.inflight == {}


async def test_a_request_cancelled_at_any_moment_leaves_no_count() -> None:
    """F6: before its reply, and while it streams."""
    loads = {"a": Load(), "b": Load()}
    gate = asyncio.Event()

    @asynccontextmanager
    async def slow(asked: Exchange) -> AsyncIterator[Reply]:
        await gate.wait()
        yield Reply(200, [], body=b"")

    balance = Balance([Arm("a", 1, slow), Arm("b", 1, slow)], "least_inflight", loads, FakeClock(), random.Random(7))

    async def serve() -> None:
        async with balance(exchange()):
            await asyncio.Event().wait()

    for opened in (False, True):
        if opened:
            gate.set()
        tasks = [asyncio.ensure_future(serve()) for _ in range(10)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert loads["a"].inflight + loads["b"].inflight == 10
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert loads["a"].inflight == loads["b"].inflight == 0


async def test_a_scope_that_is_made_and_never_entered_counts_nothing() -> None:
    pool = _Pool("least_inflight")
    pool.balance(exchange())
    assert pool.inflight == {}


async def test_the_quickest_to_its_first_event_is_taken_once_all_are_known() -> None:
    pool = _Pool("ewma_ttft")
    pool.takes_s = {"a": 2.0, "b": 0.2, "c": 1.0}
    first = {await pool.serve() for _ in range(3)}
    assert first == {"a", "b", "c"}, "those of whom nothing is known are tried first"
    assert [await pool.serve() for _ in range(20)] == ["b"] * 20


async def test_an_unknown_target_is_tried_by_one_request_at_a_time() -> None:
    pool = _Pool("ewma_ttft", "ab")
    for name in "ab":
        pool.loads[name].whole_s.add(0.1, pool.clock.monotonic())
    pool.loads["b"].whole_s = Average()
    pool.loads["b"].inflight = 1
    assert await pool.serve() == "a"
    pool.loads["b"].inflight = 0
    assert await pool.serve() == "b"


async def test_a_quick_target_with_many_in_flight_is_left_for_a_slower_one() -> None:
    pool = _Pool("ewma_ttft", "ab")
    pool.loads["a"].whole_s.add(0.1, pool.clock.monotonic())
    pool.loads["b"].whole_s.add(0.5, pool.clock.monotonic())
    pool.loads["a"].inflight = 5
    assert await pool.serve() == "b"
    pool.loads["a"].inflight = 3
    assert await pool.serve() == "a"


async def test_a_target_that_was_slow_gets_another_try_in_time() -> None:
    pool = _Pool("ewma_ttft", "ab")
    pool.takes_s = {"a": 0.2, "b": 2.0}
    await pool.serve()
    await pool.serve()
    pool.takes_s["b"] = 0.1
    for _ in range(2000):
        await pool.serve()
        if pool.served["b"] > 1:
            break
    assert pool.served["b"] > 1
    assert pool.clock.monotonic() - 1000.0 < 4 * DECAY_S, "2 s against 0.2 s: 2.3 times the decay, and the first tries"


async def test_failing_fast_does_not_look_fast() -> None:
    pool = _Pool("ewma_ttft", "ab")
    pool.takes_s = {"a": 0.5, "b": 0.001}
    pool.faults["b"] = UpstreamConnectError("refused")
    failed = 0
    for _ in range(100):
        try:
            await pool.serve()
        except UpstreamConnectError:
            failed += 1
    assert 1 <= failed <= 3
    known_s = pool.loads["b"].whole_s.read(pool.clock.monotonic())
    assert known_s is not None


async def test_failures_count_at_least_a_second_and_at_most_a_minute() -> None:
    pool = _Pool("ewma_ttft", "a")
    pool.takes_s = {"a": 0.0}
    pool.faults["a"] = UpstreamConnectError("refused")
    seen = []
    for _ in range(9):
        with pytest.raises(UpstreamConnectError):
            await pool.serve()
        seen.append(pool.loads["a"].whole_s.read(pool.clock.monotonic()))
    assert seen == [FAILURE_S, 2.0, 4.0, 8.0, 16.0, 32.0, MAX_FAILURE_S, MAX_FAILURE_S, MAX_FAILURE_S]


async def test_what_the_client_did_says_nothing_of_a_target() -> None:
    """F36."""
    pool = _Pool("ewma_ttft", "a")
    pool.faults["a"] = ClientGone("gone")
    with pytest.raises(ClientGone):
        await pool.serve()
    assert pool.loads["a"].whole_s.read(pool.clock.monotonic()) is None
    pool.faults.clear()
    pool.statuses["a"] = 400
    await pool.serve()
    assert pool.loads["a"].whole_s.read(pool.clock.monotonic()) is None


async def test_streams_and_whole_replies_are_timed_apart() -> None:
    pool = _Pool("ewma_ttft", "a")
    await pool.serve(exchange(request(head=RequestHead(stream=True))))
    now_s = pool.clock.monotonic()
    assert pool.loads["a"].streamed_s.read(now_s) == pytest.approx(0.1)
    assert pool.loads["a"].whole_s.read(now_s) is None


async def test_the_cheapest_is_taken_and_of_equals_the_least_busy() -> None:
    pool = _Pool("cheapest", costs={"a": 2.0, "b": 1.0, "c": 1.0})
    pool.loads["b"].inflight = 3
    assert [await pool.serve() for _ in range(20)] == ["c"] * 20
    pool.out = {"b", "c"}
    assert await pool.serve() == "a"


async def test_a_target_without_a_cost_is_the_dearest() -> None:
    pool = _Pool("cheapest", "ab", costs={"b": 100.0})
    assert [await pool.serve() for _ in range(10)] == ["b"] * 10
    without = _Pool("cheapest", "ab")
    assert {await without.serve() for _ in range(20)} == {"a", "b"}


@pytest.mark.parametrize("method", ["least_inflight", "ewma_ttft", "cheapest", "weighted"])
async def test_an_ejected_target_is_passed_over(method: Method) -> None:
    pool = _Pool(method)
    pool.out = {"a", "b"}
    assert [await pool.serve() for _ in range(10)] == ["c"] * 10


async def test_when_all_are_ejected_one_answers_for_itself() -> None:
    """F40."""
    pool = _Pool("least_inflight")
    pool.out = {"a", "b", "c"}
    asked = exchange()
    name = await pool.serve(asked)
    [decision] = asked.decisions
    assert decision.detail == f"{name} by least_inflight, though it is ejected: so are all others"


async def test_the_choice_is_written_down() -> None:
    pool = _Pool("cheapest", costs={"a": 1.0})
    pool.out = {"b"}
    asked = exchange()
    await pool.serve(asked)
    assert [(d.step, d.detail) for d in asked.decisions] == [("balance", "a by cheapest, 2 of 3 ready")]


async def test_a_pool_of_one_decides_nothing() -> None:
    asked = exchange()
    assert await _Pool("ewma_ttft", "a").serve(asked) == "a"
    assert asked.decisions == []


async def test_a_pinned_exchange_is_counted_where_it_goes() -> None:
    pool = _Pool("least_inflight")
    async with pool.balance(exchange(pinned_target="b")):
        assert pool.inflight == {"b": 1}
    assert pool.inflight == {}


async def test_a_target_out_of_service_is_no_choice() -> None:
    loads = {"a": Load(), "b": Load()}
    pool = _Pool("least_inflight", "a")
    arms = [pool._arm("a"), Arm("b", 1, None, "B_KEY is not set")]
    balance = Balance(arms, "least_inflight", loads, FakeClock(), random.Random(7))
    async with balance(exchange()) as reply:
        assert reply.body == b"a"
    with pytest.raises(NoHealthyTarget, match="b: B_KEY is not set"):
        Balance(arms[1:], "least_inflight", loads, FakeClock(), random.Random(7))(exchange())


def test_an_average_forgets_by_time_not_by_count() -> None:
    average = Average()
    assert average.read(0.0) is None
    average.add(1.0, 0.0)
    average.add(3.0, DECAY_S)
    kept = 2.718281828**-1
    assert average.read(DECAY_S) == pytest.approx(1.0 * kept + 3.0 * (1 - kept))
    for _ in range(200):
        average.add(5.0, DECAY_S)
    assert average.read(DECAY_S) == pytest.approx(5.0, abs=0.01), "a burst in one moment counts too"


@pytest.mark.parametrize("changes", [{"cache": "hit"}, {"coalesced_s": 1.0}], ids=["stored", "followed"])
async def test_what_no_target_was_asked_says_nothing_of_its_speed(changes: dict[str, Any]) -> None:
    pool = _Pool("ewma_ttft", "a")
    asked = exchange(**changes)
    await pool.serve(asked)
    assert pool.loads["a"].speed(asked).read(pool.clock.monotonic()) is None
    assert pool.inflight == {}
