"""All workers as one, over workers that are no processes."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest

from gateway.core.errors import StoreUnavailable
from gateway.edge.channel import CallFailed, ChannelClosed
from gateway.edge.desired import Desired
from gateway.edge.slot import WorkerProcess
from gateway.edge.workers import WorkerFleet, sum_budgets
from gateway.store.base import BudgetState, Claim, Grant, Hold, Override, Spend, Store
from gateway.store.blobs import Receipt
from gateway.telemetry.metrics import Registry
from gateway.telemetry.snapshot import merge
from tests.fakes import MOCK_CONFIG, FakeClock, loaded, memory_store

pytestmark = pytest.mark.anyio

FIRST = Desired(loaded())
SECOND = Desired(loaded(MOCK_CONFIG.replace("demo", "second")))


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
        self.clock = FakeClock()
        self.store: Store = memory_store(self.clock)
        self.fleet = WorkerFleet(self.workers, FIRST, self.registry, self.store)

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
        assert [worker.revision for worker in crew.workers] == [SECOND.id] * 2
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
    assert [worker.revision for worker in crew.workers] == [SECOND.id] * 2
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
        assert worker.revision == FIRST.id
        worker.fault = None
        worker.kill()
        await _becomes_serving(worker, 2)
        assert worker.revision == SECOND.id


async def test_a_worker_that_could_not_apply_is_told_again_when_it_is_looked_at() -> None:
    async with _crew() as crew:
        worker = crew.workers[0]
        worker.fault = CallFailed("OSError: too many open files")
        await crew.fleet.apply(SECOND)
        worker.fault = None
        watching = asyncio.ensure_future(crew.fleet.watch())
        async with asyncio.timeout(5):
            while worker.revision != SECOND.id:
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
        half_open = {"state": "half_open"}
        one = {"connections": {"open": 1, "idle": 0}, "breaker": half_open}
        other = {"connections": {"open": 2, "idle": 2}, "breaker": {"state": "closed"}}
        crew.workers[0].answers = {"targets": {"a": one}}
        crew.workers[1].answers = {"targets": {"a": other}, "find": {"request_id": "r"}}
        assert await crew.fleet.targets() == {"a": {"connections": {"open": 3, "idle": 2}, "breaker": half_open}}
        assert await crew.fleet.find_request("r") == {"request_id": "r"}
        crew.workers[1].fault = TimeoutError()
        assert await crew.fleet.find_request("r") is None


async def test_evidence_of_all_workers_is_in_one_order_and_bounded() -> None:
    async with _crew() as crew:
        for number, worker in enumerate(crew.workers):
            worker.answers = {"evidence": [{"ts": f"2026-11-21T00:{each:02d}:{number}"} for each in range(59, -1, -1)]}
        found = await crew.fleet.evidence("key", "checkout")
        assert crew.workers[0].asked[-1] == ("evidence", ["key", "checkout"])
        assert [record["ts"][-4:] for record in found[:4]] == ["59:1", "59:0", "58:1", "58:0"]
        assert len(found) == 100


async def test_a_breaker_is_closed_in_every_worker() -> None:
    async with _crew() as crew:
        await crew.fleet.restore("mock")
        assert crew.asked("restore") == [1, 1]


STATE = BudgetState("team", "tag.team=ml", "2026-11-21", 9e9, 10, 3, 5)


async def test_what_workers_count_apart_is_shown_as_a_sum() -> None:
    async with _crew() as crew:
        spend = Spend("2026-11-21", "k", "demo", "mock", (), 1, 2, 3, 4)
        for worker in crew.workers:
            worker.answers = {"budgets": [msgspec.to_builtins(STATE)], "spend": [msgspec.to_builtins(spend)]}
        assert await crew.fleet.budgets() == [BudgetState("team", "tag.team=ml", "2026-11-21", 9e9, 20, 6, 5)]
        assert await crew.fleet.spend("2026-11-21", "2026-11-21") == [spend, spend]
        grant = Grant("g", "team", "*", 5, 9e9)
        await crew.fleet.grant(grant)
        assert [worker.asked[-1] for worker in crew.workers] == [("grant", msgspec.to_builtins(grant))] * 2


def test_counters_of_different_scopes_and_periods_stay_apart() -> None:
    others = [msgspec.structs.replace(STATE, scope="tag.team=web"), msgspec.structs.replace(STATE, period="2026-11-22")]
    assert len(sum_budgets([STATE, *others, STATE])) == 3


class SharedStore:
    """A store that all processes share: what is in memory here, taken for Redis."""

    is_shared = True

    def __init__(self, clock: FakeClock) -> None:
        self.ledger = memory_store(clock).ledger


BUDGET = MOCK_CONFIG.replace("{provider: mock}", "{provider: mock, price: {request: $0.01}}") + (
    "limits: [{name: team, budget: $1/day}]\n"
)


async def test_what_is_shared_is_asked_of_the_store_and_counted_once() -> None:
    async with _crew() as crew:
        store = SharedStore(crew.clock)
        crew.fleet = WorkerFleet(crew.workers, Desired(loaded(BUDGET)), crew.registry, cast(Store, store))
        claim = Claim("team", "", "budget", "nusd", 7, 100, 0.0, "2023-11-14", crew.clock.wall() + 60.0)
        await store.ledger.hold("h", [claim])
        store.ledger.settle(Hold("h", (claim,)), [7], Spend("2023-11-14", "k", "r", "t", (), 1, 0, 0, 7))
        await crew.fleet.grant(Grant("g", "team", "*", 5, crew.clock.wall() + 60.0))
        [state] = await crew.fleet.budgets()
        assert (state.spent_nusd, state.granted_nusd) == (7, 5)
        [total] = await crew.fleet.spend("2023-11-14", "2023-11-14")
        assert total.cost_nusd == 7
        merged = merge(await crew.fleet.snapshots())
        assert [sample.value for sample in merged.metrics["gateway_budget_spent_usd"]] == [7e-9]
        assert crew.asked("budgets") == crew.asked("grant") == crew.asked("spend") == [0, 0]


async def test_overrides_alone_are_a_change_for_every_worker() -> None:
    async with _crew() as crew:
        switched = Desired(
            FIRST.loaded, {"route/demo": Override("route/demo", {"split": {"mock": 1.0}}, "ada", "drill", 0.0, None)}
        )
        await crew.fleet.apply(switched)
        assert [worker.revision for worker in crew.workers] == [switched.id] * 2
        assert [worker.asked[-1] for worker in crew.workers] == [("apply", switched.dump())] * 2


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


async def test_a_purge_is_done_when_every_worker_has_done_it() -> None:
    async with _crew() as crew:
        crew.workers[0].answers = {"purge": msgspec.to_builtins(Receipt("key:a", 1, 2))}
        crew.workers[1].answers = {"purge": msgspec.to_builtins(Receipt("key:a", 4, 3, is_complete=False))}
        assert await crew.fleet.purge("key:a") == Receipt("key:a", 4, 5, is_complete=False)
        assert [worker.asked[-1] for worker in crew.workers] == [("purge", "key:a")] * 2


async def test_a_purge_that_a_worker_has_not_done_has_to_be_asked_again() -> None:
    """One that starts may read the replies from its file; one that is silent may serve them."""
    async with _crew() as crew:
        done = {"purge": msgspec.to_builtins(Receipt("key:a", 1, 2))}
        for worker in crew.workers:
            worker.answers = done
        crew.workers[1].fault = TimeoutError()
        with pytest.raises(StoreUnavailable) as refused:
            await crew.fleet.purge("key:a")
        assert refused.value.message == "Purged by 1 of 2 workers (worker 1: TimeoutError()). Ask again."
        crew.workers[1].fault = None
        crew.workers[1].answers = {"purge": "the file cannot be written"}
        with pytest.raises(StoreUnavailable, match="the file cannot be written"):
            await crew.fleet.purge("key:a")
        crew.workers[1].answers = done
        crew.workers[1].is_serving = False
        with pytest.raises(StoreUnavailable, match="worker 1 does not serve now"):
            await crew.fleet.purge("key:a")


class _Shared:
    """A store that all processes have in common, as far as it matters here."""

    is_shared = True


async def test_what_all_share_is_purged_by_one_of_them() -> None:
    async with _crew() as crew:
        crew.fleet = WorkerFleet(crew.workers, FIRST, crew.registry, cast(Store, _Shared()))
        crew.workers[0].fault = ChannelClosed()
        crew.workers[1].answers = {"purge": msgspec.to_builtins(Receipt("key:a", 7, 1))}
        assert await crew.fleet.purge("key:a") == Receipt("key:a", 7, 1)
        crew.workers[1].answers = {"purge": "the store does not answer"}
        with pytest.raises(StoreUnavailable, match="Nothing was purged"):
            await crew.fleet.purge("key:a")
