"""Audit, overrides and names in one process; what every store does is in behaviour.py."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.store.base import AuditEntry, Override
from gateway.store.memory_journal import MemoryJournal, MemoryLeases
from gateway.store.saving import Saver
from gateway.store.sqlite import StateFile
from gateway.store.tables import AUDIT_ENTRIES
from tests.fakes import FakeClock


@contextmanager
def kept(path: Path, clock: FakeClock) -> Iterator[MemoryJournal]:
    file = StateFile(path, wall_s=clock.wall(), busy_s=1.0)
    yield MemoryJournal(file.take_saved(), Saver(file), clock)
    file.close(5.0)


@pytest.mark.anyio
async def test_the_journal_survives_its_process(tmp_path: Path) -> None:
    clock, path = FakeClock(), tmp_path / "gateway.sqlite"
    entries = [AuditEntry(clock.wall(), "ann", "switch", "route/chat", f"{n}", {"n": [n]}) for n in range(3)]
    stays = Override("route/chat", {"split": {"a": 100}}, "ann", "incident", clock.wall(), None)
    runs_out = Override("target/a", {}, "ann", "slow", clock.wall(), clock.wall() + 10.0)
    dropped = Override("target/b", {}, "ann", "slow", clock.wall(), None)
    with kept(path, clock) as journal:
        for entry in entries[:2]:
            await journal.record(entry)
        for override in (stays, runs_out, dropped):
            await journal.put(override)
        await journal.drop("target/b")
    with kept(path, clock) as journal:
        assert await journal.overrides() == {"route/chat": stays, "target/a": runs_out}
        await journal.record(entries[2])
        clock.advance(10.0)
    with kept(path, clock) as journal:
        assert await journal.overrides() == {"route/chat": stays}
        assert await journal.audit(10) == entries[::-1]


@pytest.mark.anyio
async def test_the_audit_is_bounded() -> None:
    journal = MemoryJournal(None, Saver(None), FakeClock())
    for number in range(AUDIT_ENTRIES + 10):
        await journal.record(AuditEntry(float(number), "ann", "switch", "", ""))
    entries = await journal.audit(2 * AUDIT_ENTRIES)
    assert (len(entries), entries[0].at_s, entries[-1].at_s) == (AUDIT_ENTRIES, AUDIT_ENTRIES + 9, 10)
    assert await journal.audit(0) == []


@pytest.mark.anyio
async def test_an_override_that_ran_out_is_nothing_to_drop() -> None:
    clock = FakeClock()
    journal = MemoryJournal(None, Saver(None), clock)
    await journal.put(Override("target/a", {}, "ann", "slow", clock.wall(), clock.wall() + 1.0))
    clock.advance(1.0)
    assert await journal.drop("target/a") is None


@pytest.mark.anyio
async def test_the_overrides_that_were_given_do_not_change_later() -> None:
    journal = MemoryJournal(None, Saver(None), FakeClock())
    before = await journal.overrides()
    await journal.put(Override("target/a", {}, "ann", "slow", 0.0, None))
    assert before == {}


@pytest.mark.anyio
async def test_names_that_have_lapsed_are_forgotten() -> None:
    clock = FakeClock()
    leases = MemoryLeases(clock)
    for number in range(100):
        assert await leases.acquire(f"rollout/{number}", "one", 1.0)
    clock.advance(1.0)
    assert await leases.acquire("rollout/0", "two", 1.0)
    assert list(leases._held) == ["rollout/0"]
