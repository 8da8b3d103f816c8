"""The store of one process: as every store, against the model, and across restarts and kill -9."""

import asyncio
import logging
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings

from gateway.core.clock import SystemClock
from gateway.store.base import LEASE_S, Claim, Crossing, Figures, Hold, Spend, Store
from gateway.store.memory import MemoryStore
from gateway.store.memory_ledger import MemoryLedger
from gateway.store.tables import StateUnusable
from tests.fakes import FakeClock
from tests.unit.store.behaviour import Bench, StoreBehaviour, ask, money, slot, spend_it, state, take
from tests.unit.store.properties import LedgerMachine

ROOT = Path(__file__).parents[3]


def untold(_: Crossing) -> None:
    """Where no mark is looked for."""


@dataclass(slots=True)
class MemoryBench:
    """A memory store on a clock that the test moves. It is not started, so that its leases can run out."""

    path: Path | None = None
    clock: FakeClock = field(default_factory=FakeClock)
    crossings: list[Crossing] = field(default_factory=list)
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.path, self.clock, self.crossings.append)

    def wall(self) -> float:
        return self.clock.wall()

    async def advance(self, seconds: float) -> None:
        assert isinstance(self.store.ledger, MemoryLedger)
        self.store.ledger.renew()
        assert seconds < LEASE_S
        self.clock.advance(seconds)

    async def lapse(self) -> None:
        self.clock.advance(LEASE_S)

    async def delivered(self) -> None:
        pass


@asynccontextmanager
async def opened(path: Path | None = None, clock: FakeClock | None = None) -> AsyncIterator[MemoryBench]:
    bench = MemoryBench(path, clock or FakeClock())
    yield bench
    await bench.store.aclose()


class TestInMemory(StoreBehaviour):
    """Without a file."""

    @pytest.fixture
    async def bench(self) -> AsyncIterator[Bench]:
        async with opened() as bench:
            yield bench


class TestBesideAFile(StoreBehaviour):
    """With one."""

    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[Bench]:
        async with opened(tmp_path / "gateway.sqlite") as bench:
            yield bench


class MemoryMachine(LedgerMachine):
    """Without a file, on a clock that the test moves."""

    @asynccontextmanager
    async def open_bench(self) -> AsyncIterator[Bench]:
        """See LedgerMachine."""
        async with opened() as bench:
            self.clock = bench.clock
            yield bench

    @property
    def now_us(self) -> Callable[[], int]:
        """See LedgerMachine."""
        return lambda: round(self.clock.monotonic() * 1_000_000)


TestProperties = MemoryMachine.TestCase
TestProperties.settings = settings(max_examples=150, stateful_step_count=40)


@pytest.mark.anyio
async def test_a_started_store_renews_its_holds_for_as_long_as_it_lives() -> None:
    async with opened() as bench:
        await bench.store.start()
        hold = await take(bench, slot(1))
        bench.clock.advance(3 * LEASE_S)
        assert await ask(bench, slot(1)) is None
        bench.store.ledger.settle(hold, (1,))
        await take(bench, slot(1))


@pytest.mark.anyio
async def test_a_started_store_forgets_idle_counters_though_nobody_asks() -> None:
    async with opened() as bench:
        ledger = bench.store.ledger
        assert isinstance(ledger, MemoryLedger)
        await spend_it(bench, slot(1))
        assert len(ledger._counters) == 1
        await bench.store.start()
        async with asyncio.timeout(5.0):
            while ledger._counters:
                await asyncio.sleep(0)
        assert bench.store.detail["state"] == "not_kept"


@pytest.mark.anyio
async def test_everything_settled_is_there_after_a_restart(tmp_path: Path) -> None:
    path, clock = tmp_path / "state" / "gateway.sqlite", FakeClock()
    spend = Spend("2023-11-14", "k", "r", "t", (), 1, 10, 5, 300)
    for run in (1, 2):
        async with opened(path, clock) as bench:
            await bench.store.start()
            assert bench.store.detail == {"kind": "memory", "since": clock.wall(), "state": "kept", "file": str(path)}
            hold = await take(bench, money(bench, 100, 1000, ends_at_s=1_800_000_000.0))
            bench.store.ledger.settle(hold, (99,), spend)
            assert (await state(bench)).spent_nusd == run * 99
            (total,) = await bench.store.ledger.spend("2023-11-14", "2023-11-14")
            assert total.requests == run


@pytest.mark.anyio
async def test_a_second_process_works_without_the_file_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "gateway.sqlite", FakeClock()
    async with opened(path, clock) as first:
        await spend_it(first, money(first, 100, 1000))
        async with opened(path, clock) as second:
            assert second.store.detail["state"] == "not_kept"
            assert second.store.detail["error"] == f"{path} is in use by another process"
            assert await second.store.ledger.budgets() == []
            await spend_it(second, money(second, 7, 1000))
    async with opened(path, clock) as third:
        assert (await state(third)).spent_nusd == 100
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.WARNING,
            f"{path} is in use by another process: budgets of this process are its own, and will not survive it",
        )
    ]


def test_a_file_that_cannot_be_used_ends_the_start_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sqlite"
    path.write_text("no database " * 500)
    with pytest.raises(
        StateUnusable, match=r"gateway\.sqlite cannot be used: file is not a database; make it writable"
    ):
        MemoryStore(path, FakeClock(), untold)


@pytest.mark.anyio
async def test_a_full_disk_is_told_and_does_not_stop_the_holds(tmp_path: Path) -> None:
    path, clock = tmp_path / "gateway.sqlite", FakeClock()
    async with opened(path, clock) as bench:
        file = bench.store._file  # type: ignore[attr-defined]
        pages = file._connection.execute("PRAGMA page_count").fetchone()[0]
        file._connection.execute(f"PRAGMA max_page_count = {pages}")
        for number in range(500):
            await spend_it(bench, money(bench, 1, 1000, scope=f"key={number}"))
        bench.store._saver.start()  # type: ignore[attr-defined]
        assert not file.flush(5.0)
        assert bench.store.detail["state"] == "failing"
        assert bench.store.detail["error"] == "database or disk is full"
        await spend_it(bench, money(bench, 1, 1000, scope="key=0"))
        file._connection.execute("PRAGMA max_page_count = 100000")
        assert file.flush(5.0)
        assert bench.store.detail["state"] == "kept"
    async with opened(path, clock) as again:
        found = {each.scope: each.spent_nusd for each in await again.store.ledger.budgets()}
    assert found == {f"key={number}": 2 if number == 0 else 1 for number in range(500)}


def test_of_no_other_process() -> None:
    clock = FakeClock()
    store: Store = MemoryStore(None, clock, untold)
    assert (store.is_shared, store.is_up, store.figures, store.now_s()) == (False, True, Figures(), clock.wall())


SETTLING = """
import asyncio, sys, time
from pathlib import Path
from gateway.core.clock import SystemClock
from gateway.store.base import Claim, Hold, Spend
from gateway.store.memory import MemoryStore

async def main():
    clock = SystemClock()
    store = MemoryStore(Path(sys.argv[1]), clock, lambda crossing: None)
    await store.start()
    terms = dict(period="p", ends_at_s=clock.wall() + 3600.0)
    lost = Claim("week", "", "budget", "nusd", 12345, 10**12, charge_lost=True, **terms)
    await store.ledger.hold("lost", (lost,))
    spend = Spend("2026-11-21", "k", "r", "t", (), 1, 10, 5, 7)
    for number in range(1, 100_000):
        claim = Claim("day", "", "budget", "nusd", 1000, 10**12, **terms)
        hold = Hold(str(number), (claim,))
        await store.ledger.hold(hold.id, hold.claims)
        store.ledger.settle(hold, (7,), spend)
        print(time.monotonic(), number, flush=True)
        await asyncio.sleep(0)

asyncio.run(main())
"""


def settle_until_killed(path: Path, lines: int) -> tuple[list[tuple[float, int]], float]:
    """What another process told of its settlements, when and how many so far, and when it was killed."""
    told: list[tuple[float, int]] = []
    killed_at_s = 0.0
    with subprocess.Popen(
        [sys.executable, "-c", SETTLING, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            # The last one may be torn.
            if line.endswith("\n"):
                at_s, number = line.split()
                told.append((float(at_s), int(number)))
            if len(told) == lines and not killed_at_s:
                killed_at_s = time.monotonic()
                child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    return told, killed_at_s


@pytest.mark.anyio
@pytest.mark.parametrize("lines", [2000, 20_000])
async def test_kill_9_loses_nothing_that_was_settled_50_ms_before(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "gateway.sqlite"
    told, killed_at_s = settle_until_killed(path, lines)
    store = MemoryStore(path, SystemClock(), untold)
    budgets = {each.rule: each.spent_nusd for each in await store.ledger.budgets()}
    totals = await store.ledger.spend("2026-11-21", "2026-11-21")
    await store.aclose()
    sure = max((number for at_s, number in told if at_s <= killed_at_s - 0.05), default=0)
    # One more may have been settled before it could be told.
    assert sure <= budgets.get("day", 0) // 7 <= told[-1][1] + 1
    assert sure <= sum(total.requests for total in totals) <= told[-1][1] + 1
    if lines == 20_000:
        assert sure > 0
        assert budgets["week"] == 12345


def test_a_claim_of_no_money_is_written_nowhere(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path / "gateway.sqlite") as bench:
            await bench.store.start()
            claim = Claim("slots", "", "concurrency", "slots", 1, 1)
            bench.store.ledger.settle(Hold("a", (claim,)), (1,))
            assert await bench.store.ledger.budgets() == []

    asyncio.run(run())
