"""One request in a batch: its own time, its own end."""

import asyncio
from typing import Any

import pytest

from gateway.core.errors import DeadlineExceeded, GatewayError, TargetBusy, UpstreamTimeout
from gateway.policies.bulkhead import Bulkhead, BulkheadSettings
from tests.fakes import FakeClock
from tests.unit.policies.coalescing import House, embedding, turns, vectors

pytestmark = pytest.mark.anyio


async def outcome(task: "asyncio.Task[dict[str, Any]]") -> BaseException | None:
    """What ended a request."""
    await asyncio.wait([task])
    return task.exception()


async def test_a_short_deadline_is_its_own_and_the_others_go_on() -> None:
    """F36: the client's own short time is no fault of the target's."""
    house = House()
    first = await house.busy()
    hurried = embedding("x", client_deadline_s=house.clock.monotonic())
    tasks = await house.start_all(hurried, embedding("y"), embedding("z"))
    await turns()
    assert isinstance(await outcome(tasks[0]), DeadlineExceeded)
    assert house.provider.gate is not None
    house.provider.gate.set()
    assert vectors(await tasks[1]) == ["of y"]
    assert vectors(await tasks[2]) == ["of z"]
    await first


async def test_a_deadline_in_the_middle_of_the_call_is_its_own_and_what_was_sent_is_paid_for() -> None:
    house = House()
    await house.busy()
    hurried = embedding("x", client_deadline_s=house.clock.monotonic() + 0.01)
    tasks = await house.start_all(hurried, embedding("y"), embedding("z"))
    await turns()
    assert "x" in house.provider.bodies[-1]["input"]
    assert isinstance(await outcome(tasks[0]), DeadlineExceeded)
    assert hurried.cost_nusd
    assert not tasks[1].done()
    await house.end()


class Stopped(FakeClock):
    """A clock with a bug."""

    def monotonic(self) -> float:
        """Never."""
        raise ZeroDivisionError


async def test_a_bug_before_the_call_is_sent_costs_nobody_anything() -> None:
    house = House(clock=Stopped())
    asked = [embedding("x"), embedding("y")]
    faults = await house.together(*asked)
    assert [type(fault) for fault in faults] == [ZeroDivisionError] * 2
    assert [each.cost_nusd for each in asked] == [None, None]
    assert len(house.provider.bodies) == 1


async def test_a_request_that_came_earlier_ends_at_its_own_total_time() -> None:
    """F44: an earlier try has used up some of it."""
    house = House()
    await house.busy()
    early = embedding("x", started_s=house.clock.monotonic() - 60.0)
    tasks = await house.start_all(early, embedding("y"), embedding("z"))
    await turns()
    error = await outcome(tasks[0])
    assert isinstance(error, UpstreamTimeout)
    assert error.phase == "total"
    assert early.usage.source == "estimated"
    assert early.cost_nusd
    assert house.provider.exchanges[-1].started_s == house.clock.monotonic(), "the longest of all"
    assert house.provider.exchanges[-1].client_deadline_s is None
    await house.end()


async def test_of_those_whose_time_is_over_the_last_one_tells_the_breaker() -> None:
    """F32: a call that stalls is one failure, not one for each caller."""
    house = House()
    await house.busy()
    early_s = house.clock.monotonic() - 60.0
    asked = [embedding(name, started_s=early_s) for name in "xyz"]
    tasks = await house.start_all(*asked)
    await asyncio.wait(tasks)
    assert sorted(each.attempts[-1].is_echo for each in asked) == [False, True, True]
    await house.end()


async def test_who_is_late_while_the_call_waits_for_a_place_has_had_no_try() -> None:
    bulkhead = Bulkhead(BulkheadSettings(1, 10, 3600.0), "a", FakeClock())
    house = House(queue=[bulkhead])
    bulkhead.inflight = 1
    await house.busy()
    hurried = embedding("x", client_deadline_s=house.clock.monotonic())
    tasks = await house.start_all(hurried, embedding("y"), embedding("z"))
    assert isinstance(await outcome(tasks[0]), DeadlineExceeded)
    assert (hurried.attempts, hurried.cost_nusd) == ([], None)
    bulkhead.release()
    await turns()
    assert house.provider.bodies[-1]["input"] == ["y", "z"]
    assert bulkhead.inflight == 1, "one place for all"
    await house.end()
    await turns()
    assert bulkhead.inflight == 0


async def test_who_finds_no_place_has_had_no_try() -> None:
    bulkhead = Bulkhead(BulkheadSettings(1, 0, 1.0), "a", FakeClock())
    house = House(queue=[bulkhead])
    bulkhead.inflight = 1
    asked = [embedding("x"), embedding("y")]
    faults = await house.together(*asked)
    assert [type(fault) for fault in faults] == [TargetBusy] * 2
    assert all(isinstance(fault, GatewayError) and fault.retry_after_s for fault in faults)
    for each in asked:
        assert (each.attempts, each.target) == ([], "a")
        assert each.decisions[-1].step == "bulkhead"
    assert house.counts.batches == []


async def test_a_reply_that_comes_with_the_cancellation_is_paid_for_as_it_was() -> None:
    house = House()
    first = await house.busy()
    leaving = embedding("x")
    tasks = await house.start_all(leaving, embedding("y"))
    await turns()
    assert house.provider.gate is not None
    house.provider.gate.set()
    while not house.counts.batches:
        await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.gather(*tasks, first, return_exceptions=True)
    assert (leaving.usage.input_tokens, leaving.usage.source) == (10, "provider")
