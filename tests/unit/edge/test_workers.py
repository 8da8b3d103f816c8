"""All workers as one, over workers that are no processes."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from gateway.edge.channel import CallFailed, ChannelClosed
from gateway.edge.slot import WorkerProcess
from gateway.edge.workers import WorkerFleet
from gateway.telemetry.metrics import Registry
from gateway.telemetry.snapshot import merge
from tests.fakes import MOCK_CONFIG, loaded

pytestmark = pytest.mark.anyio

FIRST = loaded()
SECOND = loaded(MOCK_CONFIG.replace("demo", "second"))


class FakeWorker(WorkerProcess):
    """A worker that lives in this process and answers what it is told to."""

    def __init__(self, number: int) -> None:
        super().__init__(number, socket.socket())
        self.registry = Registry()
        self.registry.configure(["demo"], ["mock"])
        self.asked: list[tuple[str, Any]] = []
        self.fault: BaseException | None = None
        self.answers: dict[str, Any] = {}
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.may_apply = asyncio.Event()
        self.may_apply.set()
        self.start_fault: BaseException | None = None
        self.killed = 0
        self._gone = asyncio.Event()

    async def start(self, revision: str, dumped: bytes) -> asyncio.Task[None]:
        self.incarnation += 1
        self.registry = Registry()
        self._gone = asyncio.Event()
        self.asked_revision = revision
        await self.may_start.wait()
        if self.start_fault is not None:
            fault, self.start_fault = self.start_fault, None
            raise fault
        self.revision = revision
        return asyncio.ensure_future(_until(self._gone))

    async def call(self, name: str, payload: Any = None, *, timeout_s: float) -> Any:
        self.asked.append((name, payload))
        if self.fault is not None:
            raise self.fault
        if name == "apply":
            await self.may_apply.wait()
        if name == "metrics":
            return msgspec.msgpack.encode(self.registry.snapshot())
        if name == "drain":
            self._gone.set()
        return self.answers.get(name)

    def kill(self) -> None:
        self.killed += 1
        self._gone.set()

    async def reap(self, grace_s: float) -> int:
        self.is_serving = False
        return -9 if self.killed else 0


async def _until(event: asyncio.Event) -> None:
    await event.wait()


class Crew:
    """A fleet of two fake workers, kept as a supervisor keeps them."""

    def __init__(self) -> None:
        self.workers = [FakeWorker(0), FakeWorker(1)]
        self.registry = Registry()
        self.fleet = WorkerFleet(self.workers, FIRST, self.registry)

    async def total(self) -> float:
        """Requests counted, over all."""
        samples = merge(await self.fleet.snapshots()).metrics.get("gateway_requests_total", [])
        return sum(sample.value for sample in samples)

    def count(self, number: int, requests: int) -> None:
        """Let a worker have served this many."""
        self.workers[number].registry.counter("gateway_requests_total", "demo", "mock", "ok").value += requests

    def asked(self, name: str) -> list[int]:
        """How often each worker was asked this."""
        return [sum(each == name for each, _ in worker.asked) for worker in self.workers]


@asynccontextmanager
async def _crew() -> AsyncIterator[Crew]:
    crew = Crew()
    keeping = [asyncio.ensure_future(crew.fleet.keep(worker)) for worker in crew.workers]
    try:
        await crew.fleet.wait_ready()
        yield crew
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        for worker in crew.workers:
            worker.listening.close()


async def _turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def _becomes_serving(worker: FakeWorker, incarnation: int) -> None:
    async with asyncio.timeout(5):
        while not (worker.is_serving and worker.incarnation == incarnation):
            await asyncio.sleep(0.01)


async def test_a_fleet_is_ready_when_one_serves_and_until_it_drains() -> None:
    async with _crew() as crew:
        assert crew.fleet.is_ready
        crew.workers[0].is_serving = False
        assert crew.fleet.is_ready
        crew.workers[1].is_serving = False
        assert not crew.fleet.is_ready
        crew.workers[1].is_serving = True
        crew.fleet.is_draining = True
        assert not crew.fleet.is_ready


async def test_metrics_are_summed_and_a_silent_worker_counts_with_what_it_told_last(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with _crew() as crew:
        crew.count(0, 3)
        crew.count(1, 4)
        assert await crew.total() == 7
        crew.count(0, 1)
        crew.workers[1].fault = TimeoutError()
        assert await crew.total() == 8
        assert await crew.total() == 8
        assert [r.getMessage() for r in caplog.records] == ["worker 1 does not answer"]
        crew.workers[1].fault = None
        crew.count(1, 1)
        assert await crew.total() == 9
        assert crew.workers[1].silent_since_s is None


async def test_what_a_worker_had_counted_outlives_it() -> None:
    """F126."""
    async with _crew() as crew:
        crew.count(0, 3)
        crew.count(1, 4)
        assert await crew.total() == 7
        crew.workers[0].kill()
        await _turns()
        assert await crew.total() == 7
        await _becomes_serving(crew.workers[0], 2)
        crew.count(0, 1)
        assert await crew.total() == 8


async def test_an_answer_of_a_worker_that_has_been_replaced_is_not_counted_twice() -> None:
    """F126."""
    async with _crew() as crew:
        crew.count(0, 3)
        await crew.total()
        worker = crew.workers[0]
        late = msgspec.msgpack.encode(worker.registry.snapshot())
        answering = asyncio.Event()

        async def call(name: str, payload: Any = None, *, timeout_s: float) -> Any:
            await answering.wait()
            return late

        object.__setattr__(worker, "call", call)
        counting = asyncio.ensure_future(crew.fleet.snapshots())
        await _turns()
        worker.incarnation += 1
        worker.counted = type(worker.counted)()
        answering.set()
        assert [s.metrics for s in (await counting)[2:3]] == [{}]


async def test_a_worker_that_is_silent_for_too_long_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    async with _crew() as crew:
        worker = crew.workers[0]
        worker.fault = TimeoutError()
        await crew.total()
        assert worker.silent_since_s is not None
        assert worker.killed == 0
        worker.silent_since_s -= 31.0
        await crew.total()
        assert worker.killed == 1
        assert "worker 0 has not answered for 30 s; killing it" in caplog.text


async def test_a_reload_reaches_every_worker() -> None:
    async with _crew() as crew:
        await crew.fleet.apply(SECOND)
        assert [worker.revision for worker in crew.workers] == [SECOND.revision] * 2
        assert crew.asked("apply") == [1, 1]


async def test_a_worker_that_starts_during_a_reload_takes_it_before_it_serves() -> None:
    """F79."""
    crew = Crew()
    crew.workers[0].may_start.clear()
    keeping = [asyncio.ensure_future(crew.fleet.keep(worker)) for worker in crew.workers]
    await _turns()
    assert [worker.is_serving for worker in crew.workers] == [False, True]
    await crew.fleet.apply(SECOND)
    crew.workers[0].may_start.set()
    await crew.fleet.wait_ready()
    assert [worker.revision for worker in crew.workers] == [SECOND.revision] * 2
    for task in keeping:
        task.cancel()
    await asyncio.gather(*keeping, return_exceptions=True)
    for worker in crew.workers:
        worker.listening.close()


async def test_a_worker_that_dies_during_a_reload_comes_back_with_it() -> None:
    async with _crew() as crew:
        worker = crew.workers[0]
        worker.fault = ChannelClosed()
        await crew.fleet.apply(SECOND)
        assert worker.revision == FIRST.revision
        worker.fault = None
        worker.kill()
        await _becomes_serving(worker, 2)
        assert worker.revision == SECOND.revision


async def test_a_worker_that_could_not_apply_is_told_again_when_it_is_looked_at() -> None:
    async with _crew() as crew:
        worker = crew.workers[0]
        worker.fault = CallFailed("OSError: too many open files")
        await crew.fleet.apply(SECOND)
        worker.fault = None
        watching = asyncio.ensure_future(crew.fleet.watch())
        async with asyncio.timeout(5):
            while worker.revision != SECOND.revision:
                await asyncio.sleep(0.01)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert crew.asked("apply") == [2, 1]


async def test_a_worker_that_does_not_come_to_serve_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    crew = Crew()
    crew.workers[0].start_fault = CallFailed("OSError: no")
    keeping = [asyncio.ensure_future(crew.fleet.keep(worker)) for worker in crew.workers]
    async with asyncio.timeout(5):
        await crew.fleet.wait_ready()
    assert "worker 0 did not start: CallFailed('OSError: no')" in caplog.text
    assert [worker.incarnation for worker in crew.workers] == [2, 1]
    for task in keeping:
        task.cancel()
    await asyncio.gather(*keeping, return_exceptions=True)
    for worker in crew.workers:
        worker.listening.close()


async def test_connections_are_summed_and_a_request_is_found_wherever_it_was_served() -> None:
    async with _crew() as crew:
        crew.workers[0].answers = {"targets": {"a": {"open": 1, "idle": 0}}}
        crew.workers[1].answers = {"targets": {"a": {"open": 2, "idle": 2}}, "find": {"request_id": "r"}}
        assert await crew.fleet.targets() == {"a": {"open": 3, "idle": 2}}
        assert await crew.fleet.find_request("r") == {"request_id": "r"}
        crew.workers[1].fault = TimeoutError()
        assert await crew.fleet.find_request("r") is None


async def test_a_drain_reaches_every_worker_and_nobody_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    """F82."""
    caplog.set_level(logging.INFO)
    async with _crew() as crew:
        async with asyncio.timeout(5):
            await crew.fleet.drain(0.0, 30.0)
        await _turns()
        assert [worker.asked[-1] for worker in crew.workers] == [("drain", [0.0, 30.0])] * 2
        assert [worker.incarnation for worker in crew.workers] == [1, 1]
        assert [worker.listening.fileno() for worker in crew.workers] == [-1, -1]
        assert [worker.killed for worker in crew.workers] == [0, 0]
        assert caplog.text == ""


async def test_a_worker_that_does_not_drain_is_killed() -> None:
    async with _crew() as crew:
        crew.workers[0].fault = TimeoutError()
        async with asyncio.timeout(5):
            await crew.fleet.drain(0.0, 0.0)
        assert [worker.killed for worker in crew.workers] == [1, 0]


async def test_a_hurried_drain_waits_for_no_delay() -> None:
    async with _crew() as crew:
        draining = asyncio.ensure_future(crew.fleet.drain(60.0, 60.0))
        await _turns()
        assert crew.workers[0].listening.fileno() != -1
        crew.fleet.hurry()
        async with asyncio.timeout(5):
            await draining
        assert crew.asked("hurry") == [1, 1]
    await _end_of_hurry()


async def _end_of_hurry() -> None:
    """Cancel what would kill the workers some seconds later."""
    for task in asyncio.all_tasks():
        if "hurry" in task.get_name():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
