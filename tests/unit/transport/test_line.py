"""Waiting in line, and not losing a place to a cancellation."""

import asyncio

import pytest

from gateway.core.pipeline import spawn
from gateway.transport.line import WaitingLine

pytestmark = pytest.mark.anyio


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def queued(line: WaitingLine[int], count: int) -> list[asyncio.Task[int]]:
    tasks = [spawn(line.wait(soon()), f"waiter {number}") for number in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_the_first_in_line_is_served_first() -> None:
    line: WaitingLine[int] = WaitingLine(5, lambda _: None)
    first, second = await queued(line, 2)
    assert len(line) == 2
    assert line.offer(1)
    assert line.offer(2)
    assert (await first, await second) == (1, 2)
    assert not line.offer(3)
    assert len(line) == 0


async def test_a_line_is_full_at_its_limit_and_not_when_some_have_left() -> None:
    line: WaitingLine[int] = WaitingLine(2, lambda _: None)
    first, second = await queued(line, 2)
    was_full = line.is_full
    first.cancel()
    await asyncio.wait([first])
    assert (was_full, line.is_full) == (True, False)
    line.fail(ValueError("closed"))
    with pytest.raises(ValueError, match="closed"):
        await second


async def test_what_is_offered_passes_over_the_cancelled() -> None:
    line: WaitingLine[int] = WaitingLine(5, lambda _: None)
    first, second = await queued(line, 2)
    first.cancel()
    await asyncio.wait([first])
    assert line.offer(1)
    assert await second == 1


async def test_what_was_just_handed_over_comes_back_when_its_waiter_is_cancelled() -> None:
    """F11."""
    returned: list[int] = []
    line: WaitingLine[int] = WaitingLine(5, returned.append)
    (waiter,) = await queued(line, 1)
    assert line.offer(7)
    waiter.cancel()
    await asyncio.wait([waiter])
    assert waiter.cancelled()
    assert returned == [7]


async def test_time_runs_out_in_line() -> None:
    line: WaitingLine[int] = WaitingLine(5, lambda _: None)
    with pytest.raises(TimeoutError):
        await line.wait(soon(0.005))
    assert len(line) == 0
    assert not line.offer(1)


async def test_a_waiter_that_is_late_and_cancelled_at_once_gives_nothing_back() -> None:
    returned: list[int] = []
    line: WaitingLine[int] = WaitingLine(5, returned.append)
    (waiter,) = await queued(line, 1)
    line.fail(TimeoutError())
    waiter.cancel()
    await asyncio.wait([waiter])
    assert returned == []
