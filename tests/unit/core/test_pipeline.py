"""Policies around handlers, and what must happen although somebody cancels."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.core.errors import InvalidRequest
from gateway.core.exchange import Exchange, Reply
from gateway.core.pipeline import Handler, Policy, compose, finish, spawn
from tests.fakes import Answering, exchange

pytestmark = pytest.mark.anyio


class Noting:
    """A policy that writes down when it is entered and left."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self._name = name
        self._notes = notes

    @asynccontextmanager
    async def __call__(self, exchange: Exchange, call_next: Handler) -> AsyncIterator[Reply]:
        """The reply of `call_next`."""
        self._notes.append(f"{self._name} in")
        try:
            async with call_next(exchange) as reply:
                yield reply
        finally:
            self._notes.append(f"{self._name} out")


async def test_the_first_policy_is_the_outermost() -> None:
    notes: list[str] = []
    policies: list[Policy] = [Noting("a", notes), Noting("b", notes)]
    answering = Answering()
    async with compose(policies, answering.handler)(exchange()) as reply:
        notes.append("reply")
        assert reply is answering.reply
    assert notes == ["a in", "b in", "reply", "b out", "a out"]


class Shortened(Noting):
    """A policy that makes its handler itself."""

    def bind(self, call_next: Handler) -> Handler:
        """As `Binding.bind`."""
        self._notes.append(f"{self._name} bound")
        return lambda asked: self(asked, call_next)


async def test_a_policy_may_bind_itself_once_for_all_requests() -> None:
    notes: list[str] = []
    handler = compose([Shortened("a", notes), Noting("b", notes)], Answering().handler)
    for _ in range(2):
        async with handler(exchange()):
            pass
    assert notes == ["a bound", *["a in", "b in", "b out", "a out"] * 2]


async def test_without_policies_the_handler_is_left_as_it_is() -> None:
    handler = Answering().handler
    assert compose([], handler) == handler


async def test_every_policy_is_left_when_the_handler_fails() -> None:
    notes: list[str] = []
    answering = Answering(fault=InvalidRequest("no"))
    with pytest.raises(InvalidRequest):
        async with compose([Noting("a", notes)], answering.handler)(exchange()):
            pass
    assert notes == ["a in", "a out"]
    assert answering.left == 1


async def test_every_policy_is_left_once_when_the_client_leaves_mid_reply() -> None:
    """F6: what is settled in `finally` is settled on a cancellation too."""
    notes: list[str] = []
    answering = Answering()
    streaming = asyncio.Event()

    async def serve() -> None:
        async with compose([Noting("a", notes), Noting("b", notes)], answering.handler)(exchange()):
            streaming.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(serve())
    await streaming.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert notes == ["a in", "b in", "b out", "a out"]
    assert answering.left == 1


async def test_a_settlement_gives_its_result() -> None:
    async def settle() -> int:
        await asyncio.sleep(0)
        return 7

    assert await finish(settle()) == 7


async def test_a_settlement_that_fails_says_so() -> None:
    async def settle() -> None:
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest):
        await finish(settle())


async def test_a_settlement_runs_to_its_end_through_two_cancellations() -> None:
    """F6, F7: a second cancellation must not leave a hold open."""
    may_end, done = asyncio.Event(), []

    async def settle() -> None:
        await may_end.wait()
        done.append(True)

    task = asyncio.ensure_future(finish(settle()))
    for _ in range(2):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]


async def test_a_settlement_that_fails_during_a_cancellation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    may_end = asyncio.Event()

    async def settle() -> None:
        await may_end.wait()
        raise InvalidRequest("no")

    task = asyncio.ensure_future(finish(settle()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    may_end.set()
    with caplog.at_level(logging.ERROR), pytest.raises(asyncio.CancelledError):
        await task
    assert "settlement failed during cancellation" in caplog.text


async def test_a_settlement_that_is_itself_cancelled_ends_the_wait(caplog: pytest.LogCaptureFixture) -> None:
    settlement = asyncio.ensure_future(asyncio.Event().wait())
    task = asyncio.ensure_future(finish(settlement))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    settlement.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert caplog.text == ""


async def test_a_spawned_task_survives_the_garbage_collector() -> None:
    may_end, done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        done.set()

    spawn(work(), "unreferenced")
    await asyncio.sleep(0)
    gc.collect()
    may_end.set()
    await done.wait()
    assert done.is_set()


async def test_a_spawned_task_gives_its_result_and_has_a_name() -> None:
    async def work() -> int:
        return 3

    task = spawn(work(), "three")
    assert (await task, task.get_name()) == (3, "three")


async def test_the_failure_of_a_spawned_task_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise InvalidRequest("no")

    with caplog.at_level(logging.ERROR):
        task = spawn(work(), "doomed")
        await asyncio.wait([task])
        await asyncio.sleep(0)
    assert "background task doomed failed" in caplog.text


async def test_a_cancelled_task_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    task = spawn(asyncio.Event().wait(), "cancelled")
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert caplog.text == ""
