"""A bound on the requests at one target."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import DeadlineExceeded, TargetBusy, UpstreamConnectError
from gateway.core.exchange import Priority
from gateway.policies.bulkhead import Bulkhead, BulkheadSettings
from tests.fakes import FakeClock, exchange
from tests.unit.policies.crowd import Crowd, Traffic
from tests.unit.policies.scripted import Scripted

pytestmark = pytest.mark.anyio


def _bulkhead(
    max_inflight: int = 1, queue_size: int = 10, wait_s: float = 60.0, clock: FakeClock | None = None
) -> Bulkhead:
    return Bulkhead(BulkheadSettings(max_inflight, queue_size, wait_s), "a", clock or FakeClock())


async def test_more_than_the_bound_wait_for_a_slot() -> None:
    """F48."""
    bulkhead = _bulkhead(2)
    crowd = Crowd(bulkhead)
    for name in "abcd":
        await crowd.send(name)
    assert (crowd.inside, bulkhead.inflight, bulkhead.waiting) == (["a", "b"], 2, 2)
    await crowd.leave("a")
    assert (crowd.inside, bulkhead.inflight, bulkhead.waiting) == (["b", "c"], 2, 1)
    await crowd.leave("b")
    await crowd.leave("c")
    await crowd.leave("d")
    assert (crowd.inside, bulkhead.inflight, bulkhead.waiting, crowd.refused) == ([], 0, 0, [])


async def test_high_goes_first_and_equals_in_the_order_they_came() -> None:
    crowd = Crowd(_bulkhead(1))
    await crowd.send("first")
    arrivals: list[tuple[str, Priority]] = [
        ("low", "low"),
        ("n1", "normal"),
        ("h1", "high"),
        ("n2", "normal"),
        ("h2", "high"),
    ]
    for name, priority in arrivals:
        await crowd.send(name, priority)
    order = []
    for _ in range(6):
        [inside] = crowd.inside
        order.append(inside)
        await crowd.leave(inside)
    assert order == ["first", "h1", "h2", "n1", "n2", "low"]


async def test_a_full_queue_refuses_at_once() -> None:
    """F29, F48."""
    bulkhead = _bulkhead(1, queue_size=1)
    crowd = Crowd(bulkhead)
    await crowd.send("in")
    await crowd.send("waits")
    asked = exchange()
    with pytest.raises(TargetBusy, match=r"max_inflight 1\), and its queue is full") as raised:
        async with bulkhead(asked, Scripted()):
            pass
    assert raised.value.retry_after_s == 1.0
    assert (asked.target, asked.decisions[0].detail) == ("a", "a: 1 in flight and its queue is full")
    await crowd.end()
    assert (bulkhead.inflight, bulkhead.waiting) == (0, 0)


async def test_without_a_queue_the_bound_is_hard() -> None:
    crowd = Crowd(_bulkhead(1, queue_size=0))
    await crowd.send("in")
    await crowd.send("out", "high")
    assert crowd.refused == ["out"]
    await crowd.end()


async def test_a_newcomer_of_higher_priority_takes_the_last_place_of_the_lowest() -> None:
    crowd = Crowd(_bulkhead(1, queue_size=3))
    await crowd.send("in")
    await crowd.send("l1", "low")
    await crowd.send("l2", "low")
    await crowd.send("n1")
    await crowd.send("h1", "high")
    await crowd.settled()
    assert crowd.refused == ["l2"]
    await crowd.send("h2", "high")
    await crowd.settled()
    assert crowd.refused == ["l2", "l1"]
    await crowd.send("h3", "high")
    await crowd.send("h4", "high")
    await crowd.send("n2")
    await crowd.settled()
    # The third of high priority has taken the place of the normal one; the fourth finds only its equals.
    assert sorted(crowd.refused) == ["h4", "l1", "l2", "n1", "n2"]
    assert crowd.bulkhead.waiting == 3
    await crowd.end()
    assert (crowd.bulkhead.inflight, crowd.bulkhead.waiting) == (0, 0)


async def test_one_who_waits_too_long_is_refused() -> None:
    bulkhead = _bulkhead(1, wait_s=0.0)
    crowd = Crowd(bulkhead)
    await crowd.send("in")
    with pytest.raises(TargetBusy, match="no place became free in time"):
        async with bulkhead(exchange(), Scripted()):
            pass
    assert (bulkhead.inflight, bulkhead.waiting) == (1, 0)
    await crowd.end()


async def test_the_clients_own_deadline_ends_the_wait_too() -> None:
    bulkhead = _bulkhead(1)
    crowd = Crowd(bulkhead)
    await crowd.send("in")
    with pytest.raises(DeadlineExceeded):
        async with bulkhead(exchange(client_deadline_s=1000.0), Scripted()):
            pass
    assert bulkhead.waiting == 0
    await crowd.end()


async def test_a_cancelled_wait_leaves_no_place_behind() -> None:
    """F6."""
    bulkhead = _bulkhead(1)
    crowd = Crowd(bulkhead)
    for name in ("in", "gone", "next"):
        await crowd.send(name)
    await crowd.cancel("gone")
    assert bulkhead.waiting == 1
    await crowd.leave("in")
    assert crowd.inside == ["next"]
    await crowd.end()


async def test_a_slot_given_in_the_moment_of_the_cancellation_goes_on_to_the_next() -> None:
    """F6, F7."""
    bulkhead = _bulkhead(1)
    first = bulkhead(exchange(), Scripted())
    await first.__aenter__()
    crowd = Crowd(bulkhead)
    for name in ("unlucky", "next"):
        await crowd.send(name)
    await first.__aexit__(None, None, None)
    await crowd.cancel("unlucky")
    assert (crowd.inside, bulkhead.inflight) == (["next"], 1)
    await crowd.end()
    assert (bulkhead.inflight, bulkhead.waiting) == (0, 0)


async def test_a_refusal_in_the_moment_of_the_cancellation_takes_no_slot() -> None:
    bulkhead = _bulkhead(1, queue_size=1)
    crowd = Crowd(bulkhead)
    await crowd.send("in")
    await crowd.send("low", "low")
    await crowd.send("high", "high")
    await crowd.cancel("low")
    assert (bulkhead.inflight, bulkhead.waiting, crowd.refused) == (1, 1, [])
    await crowd.end()
    assert (bulkhead.inflight, bulkhead.waiting) == (0, 0)


async def test_a_slot_that_comes_in_the_moment_the_wait_is_over_is_taken() -> None:
    bulkhead = _bulkhead(1, wait_s=0.0)
    first = bulkhead(exchange(), Scripted())
    await first.__aenter__()
    crowd = Crowd(bulkhead)
    await crowd.send("waits")
    # From here on the timer is due, behind this task.
    await asyncio.sleep(0)
    await first.__aexit__(None, None, None)
    await crowd.settled()
    assert (crowd.inside, crowd.refused, bulkhead.inflight) == (["waits"], [], 1)
    await crowd.end()


async def test_a_slot_comes_back_whatever_ends_the_request() -> None:
    """F7."""
    bulkhead = _bulkhead(2)
    for _ in range(10):
        with pytest.raises(UpstreamConnectError):
            async with bulkhead(exchange(), Scripted(UpstreamConnectError("x"))):
                pass
        with pytest.raises(ValueError, match="amid"):
            async with bulkhead(exchange(), Scripted()):
                raise ValueError("amid")
    assert bulkhead.inflight == 0


def test_waiting_is_over_before_it_has_begun_for_nobody() -> None:
    """A place that is done already gets no slot: it goes to the one behind it."""
    bulkhead = _bulkhead(1)
    bulkhead.inflight = 1
    bulkhead.release()
    assert bulkhead.inflight == 0


@given(
    st.integers(1, 3),
    st.integers(0, 4),
    st.lists(st.tuples(st.sampled_from(["send", "leave", "cancel"]), st.integers(0, 11)), max_size=40),
    st.integers(0, 1000),
)
def test_no_order_of_events_leaks_a_slot_or_admits_one_too_many(
    max_inflight: int, queue_size: int, events: list[tuple[str, int]], seed: int
) -> None:
    """F6, F7, F48."""

    async def run() -> None:
        rng = random.Random(seed)
        bulkhead = _bulkhead(max_inflight, queue_size)
        crowd = Crowd(bulkhead)
        names: list[str] = []
        for kind, place in events:
            if kind == "send" or not names:
                names.append(f"r{len(names)}")
                await crowd.send(names[-1], rng.choice(["low", "normal", "high"]))
            elif kind == "leave":
                crowd.go[names[place % len(names)]].set()
            else:
                crowd.tasks[names[place % len(names)]].cancel()
            if rng.random() < 0.5:
                await crowd.settled()
            assert len(crowd.inside) <= bulkhead.inflight <= max_inflight
            assert 0 <= bulkhead.waiting <= queue_size
        await crowd.settled()
        assert len(crowd.inside) == bulkhead.inflight
        assert not bulkhead.waiting or bulkhead.inflight == max_inflight
        await crowd.end()
        assert (bulkhead.inflight, bulkhead.waiting) == (0, 0)

    asyncio.run(run())


async def _full(clock: FakeClock, max_inflight: int = 20, waiting: int = 3) -> Crowd:
    """A target full of normal requests (n0, ...), some more in its queue (w0, ...), and one of high (h) that waits."""
    crowd = Crowd(_bulkhead(max_inflight, queue_size=100, clock=clock))
    for number in range(max_inflight):
        await crowd.send(f"n{number}")
    for number in range(waiting):
        await crowd.send(f"w{number}")
    await crowd.send("h", "high")
    return crowd


async def test_once_high_found_no_slot_one_is_kept_free_for_the_next() -> None:
    crowd = await _full(FakeClock())
    await crowd.leave("n0")
    assert "h" in crowd.inside
    await crowd.leave("n1")
    assert (crowd.bulkhead.inflight, crowd.bulkhead.waiting) == (19, 3)
    await crowd.send("another", "normal")
    assert "another" in crowd.waiting()
    await crowd.send("h2", "high")
    await crowd.settled()
    assert "h2" in crowd.inside
    await crowd.leave("n2")
    await crowd.leave("n3")
    assert "w0" in crowd.inside and "w1" not in crowd.inside
    await crowd.end()
    assert (crowd.bulkhead.inflight, crowd.bulkhead.waiting) == (0, 0)


async def test_nothing_is_kept_when_high_has_been_away_for_five_seconds() -> None:
    """Those who wait are woken by a timer, without any request coming or going."""
    clock = FakeClock()
    crowd = await _full(clock, waiting=1)
    await crowd.leave("n0")
    # The timer that is set now has a hundredth of a second left.
    clock.advance(4.99)
    await crowd.leave("n1")
    assert "w0" in crowd.waiting()
    clock.advance(0.02)
    async with asyncio.timeout(2.0):
        while "w0" not in crowd.inside:
            await asyncio.sleep(0.001)
    assert (crowd.bulkhead.shared, crowd.bulkhead.inflight) == (20, 20)
    await crowd.end()


async def test_one_who_comes_while_only_a_kept_slot_is_free_gets_it_when_high_stays_away() -> None:
    """Nobody waited, so nothing was watched, when the slot was kept."""
    clock = FakeClock()
    crowd = await _full(clock, waiting=0)
    for name in ("n0", "n1"):
        await crowd.leave(name)
    clock.advance(4.99)
    await crowd.send("alone")
    assert crowd.waiting() == ["alone"]
    # It comes too early by this clock, and is set again.
    await asyncio.sleep(0.02)
    clock.advance(0.02)
    async with asyncio.timeout(2.0):
        while "alone" not in crowd.inside:
            await asyncio.sleep(0.001)
    await crowd.end()


async def test_a_newcomer_ends_what_is_kept_in_vain_and_goes_behind_those_who_wait() -> None:
    clock = FakeClock()
    crowd = await _full(clock, waiting=1)
    for name in ("n0", "n1"):
        await crowd.leave(name)
    clock.advance(5.0)
    await crowd.send("late")
    await crowd.settled()
    assert "w0" in crowd.inside and crowd.waiting() == ["late"]
    await crowd.end()


async def test_a_timer_that_is_early_or_late_looks_again() -> None:
    clock = FakeClock()
    crowd = await _full(clock, waiting=1)
    await crowd.leave("n0")
    await crowd.leave("n1")
    crowd.bulkhead.look_again()
    assert (crowd.waiting(), crowd.bulkhead.shared) == (["w0"], 19)
    clock.advance(3.0)
    await crowd.send("h2", "high")
    await crowd.leave("h2")
    clock.advance(3.0)
    crowd.bulkhead.look_again()
    assert crowd.waiting() == ["w0"], "high was there three seconds ago"
    clock.advance(2.0)
    crowd.bulkhead.look_again()
    await crowd.settled()
    assert crowd.waiting() == []
    await crowd.end()


async def test_who_is_refused_while_a_slot_is_kept_is_told_so() -> None:
    bulkhead = _bulkhead(5, queue_size=0)
    crowd = Crowd(bulkhead)
    for name in "abcde":
        await crowd.send(name)
    await crowd.send("high", "high")
    assert crowd.refused == ["high"]
    await crowd.leave("a")
    asked = exchange()
    with pytest.raises(TargetBusy, match=r"\(max_inflight 5, 1 kept for high priority\), and its queue is full"):
        async with bulkhead(asked, Scripted()):
            pass
    assert asked.decisions[0].detail == "a: 4 in flight, 1 kept for high priority, and its queue is full"
    async with bulkhead(exchange(priority="high"), Scripted()):
        pass
    await crowd.end()


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
