"""Several requests as one call: what goes up, and what comes of it."""

import json

import pytest

from gateway.core.errors import InternalError, UpstreamError, UpstreamTimeout
from gateway.core.exchange import Priority, Reply
from gateway.policies.bulkhead import Bulkhead, BulkheadSettings
from tests.fakes import FakeClock, events_of
from tests.unit.policies.coalescing import House, embedding, turns, vectors

pytestmark = pytest.mark.anyio

BUSY = Reply(200, [], body=b'{"data":[]}')


async def test_the_call_bears_nothing_that_is_one_members_own() -> None:
    house = House()
    priorities: list[Priority] = ["low", "high", "normal"]
    asked = [embedding(name, priority=each) for name, each in zip("xyz", priorities, strict=True)]
    await house.together(*asked)
    shared = house.provider.exchanges[-1]
    assert shared not in asked
    assert (shared.consumer, shared.tags, shared.admission) == (None, {}, None)
    assert shared.priority == "high"
    assert shared.attempts[-1].traceparent == asked[0].attempts[-1].traceparent
    assert [json.loads(each.request.body)["input"] for each in asked] == ["x", "y", "z"], "their own are untouched"


async def test_vectors_go_by_their_index_whatever_order_they_come_in() -> None:
    house = House()
    first = await house.busy()
    tasks = await house.start_all(embedding("x"), embedding("y", "z"))
    await turns()
    house.provider.reverses = True
    assert house.provider.gate is not None
    house.provider.gate.set()
    assert [vectors(await task) for task in tasks] == [["of x"], ["of y", "of z"]]
    await first


async def test_a_large_reply_is_taken_apart_all_the_same() -> None:
    house = House()
    house.provider.size = 100_000
    replies = await house.together(embedding("x"), embedding("y"))
    assert [vectors(reply) for reply in replies] == [["of x" * 100_000], ["of y" * 100_000]]


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":[{"index":0,"embedding":[1]}],"usage":{}}',
        b'{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}',
        b'{"object":"list"}',
        b"[]",
    ],
)
async def test_a_reply_that_cannot_be_told_apart_is_a_fault_for_all(body: bytes) -> None:
    house = House()
    house.provider.outcomes = [BUSY, Reply(200, [], body=body)]
    faults = await house.together(embedding("x"), embedding("y"))
    assert [type(fault) for fault in faults] == [UpstreamError] * 2
    assert house.counts.batches == ["error"]


async def test_a_reply_that_is_a_stream_is_a_fault_for_all() -> None:
    house = House()
    house.provider.outcomes = [BUSY, Reply(200, [], events=events_of(b"data: x\n\n"))]
    faults = await house.together(embedding("x"), embedding("y"))
    assert [type(fault) for fault in faults] == [UpstreamError] * 2


async def test_what_may_have_been_worked_on_is_paid_for_by_estimate() -> None:
    """F31."""
    house = House()
    house.provider.outcomes = [BUSY, UpstreamTimeout("late", phase="idle")]
    asked = [embedding("x"), embedding("y")]
    await house.together(*asked)
    assert [each.usage.source for each in asked] == ["estimated"] * 2
    assert all(each.cost_nusd for each in asked)


async def test_a_refusal_in_a_reply_of_status_200_is_one() -> None:
    """F42."""
    house = House()
    house.provider.outcomes = [BUSY, UpstreamError("bad", upstream_status=200, status=400)]
    replies = await house.together(embedding("x"), embedding("y"))
    assert [vectors(reply) for reply in replies] == [["of x"], ["of y"]]
    assert house.counts.batches == ["refused"]


async def test_one_of_those_who_are_there_tells_the_breaker_what_came_of_the_call() -> None:
    """F32: five callers of one call that failed are not five failures in a row."""
    for outcome in (UpstreamError("no", upstream_status=500), None):
        house = House()
        house.provider.outcomes = [] if outcome is None else [BUSY, outcome]
        asked = [embedding(name) for name in "xyz"]
        await house.together(*asked)
        assert [each.attempts[-1].is_echo for each in asked] == [False, True, True]


async def test_who_is_asked_again_alone_tells_of_that_itself() -> None:
    house = House()
    house.provider.outcomes = [BUSY, Reply(400, [], body=b"{}")]
    asked = [embedding(name) for name in "xyz"]
    await house.together(*asked)
    assert [each.attempts[-1].is_echo for each in asked] == [False] * 3


async def test_if_all_but_one_leave_while_it_waits_for_a_place_the_one_is_served() -> None:
    bulkhead = Bulkhead(BulkheadSettings(1, 10, 3600.0), "a", FakeClock())
    house = House(queue=[bulkhead])
    bulkhead.inflight = 1
    await house.busy()
    tasks = await house.start_all(*map(embedding, "xyz"))
    await turns()
    for task in tasks[:2]:
        task.cancel()
    await turns()
    bulkhead.release()
    await turns()
    assert house.provider.bodies[-1]["input"] == ["z"]
    assert house.provider.gate is not None
    house.provider.gate.set()
    assert vectors(await tasks[2]) == ["of z"]
    await house.end()


async def test_if_all_leave_while_it_waits_for_a_place_there_is_no_call() -> None:
    bulkhead = Bulkhead(BulkheadSettings(1, 10, 3600.0), "a", FakeClock())
    house = House(queue=[bulkhead])
    bulkhead.inflight = 1
    await house.busy()
    tasks = await house.start_all(*map(embedding, "xyz"))
    await turns()
    for task in tasks:
        task.cancel()
    await turns()
    assert (bulkhead.waiting, bulkhead.inflight) == (0, 1)
    assert len(house.provider.bodies) == 1
    assert house.counts.batches == []
    await house.end()


@pytest.mark.parametrize("moment", range(8))
async def test_who_leaves_in_the_moment_in_which_the_call_is_made_is_in_it_and_pays_or_is_not(moment: int) -> None:
    bulkhead = Bulkhead(BulkheadSettings(1, 10, 3600.0), "a", FakeClock())
    house = House(queue=[bulkhead])
    bulkhead.inflight = 1
    await house.busy()
    leaving = embedding("x")
    tasks = await house.start_all(leaving, embedding("y"), embedding("z"))
    await turns()
    bulkhead.release()
    await turns(moment)
    tasks[0].cancel()
    await turns()
    is_in_it = "x" in house.provider.bodies[-1]["input"]
    assert house.provider.bodies[-1]["input"] == (["x", "y", "z"] if is_in_it else ["y", "z"])
    assert bool(leaving.cost_nusd) is is_in_it
    assert house.provider.gate is not None
    house.provider.gate.set()
    assert [vectors(await task) for task in tasks[1:]] == [["of y"], ["of z"]]
    await house.end()


async def test_a_bug_ends_the_wait_of_all_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    house.provider.outcomes = [BUSY, ZeroDivisionError()]
    faults = await house.together(embedding("x"), embedding("y"))
    assert [type(fault) for fault in faults] == [InternalError] * 2
    assert "batch at a failed" in caplog.text
