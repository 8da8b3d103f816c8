"""Totals of spend: in memory, in the file, and across both."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.core.errors import StoreUnavailable
from gateway.store.base import Spend
from gateway.store.saving import Savable
from gateway.store.sqlite import StateFile
from gateway.store.totals import SpendTotals

NOW_S = 1_795_219_200.0
"""2026-11-21, 00:00 UTC."""
DAY_S = 86_400.0
SPEND = Spend("2026-11-21", "k", "r", "t", (("team", "ml"), ("service", "a,b=c")), 1, 10, 5, 300)


class Kept:
    """Totals beside a file; `save` writes what has changed."""

    def __init__(self, path: Path) -> None:
        self.file = StateFile(path, wall_s=NOW_S, busy_s=1.0)
        self.touched: list[Savable] = []
        self.totals = SpendTotals(self.file, self.touch)

    def touch(self, thing: Savable) -> None:
        thing.is_touched = True
        self.touched.append(thing)

    def save(self) -> None:
        for thing in self.touched:
            thing.is_touched = False
        self.file.write([thing.row() for thing in self.touched])
        self.touched.clear()
        assert self.file.flush(5.0)


@contextmanager
def kept(path: Path) -> Iterator[Kept]:
    each = Kept(path)
    yield each
    each.file.close(5.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.sqlite"


def touched_for_good(thing: Savable) -> None:
    thing.is_touched = True


@pytest.mark.anyio
async def test_requests_of_the_same_names_are_added_up() -> None:
    totals = SpendTotals(None, touched_for_good)
    totals.add(SPEND)
    totals.add(replace(SPEND, requests=2, input_tokens=1, output_tokens=1, cost_nusd=1))
    totals.add(replace(SPEND, day="2026-11-22"))
    assert await totals.between("2026-11-21", "2026-11-21") == [
        replace(SPEND, requests=3, input_tokens=11, output_tokens=6, cost_nusd=301)
    ]
    assert [each.day for each in await totals.between("2026-11-21", "2026-11-22")] == ["2026-11-21", "2026-11-22"]


@pytest.mark.anyio
async def test_what_is_in_memory_and_in_the_file_is_counted_once(path: Path) -> None:
    with kept(path) as each:
        each.totals.add(SPEND)
        assert await each.totals.between("2026-11-21", "2026-11-21") == [SPEND]
        each.save()
        assert await each.totals.between("2026-11-21", "2026-11-21") == [SPEND]


@pytest.mark.anyio
async def test_a_run_adds_to_what_the_runs_before_it_left(path: Path) -> None:
    for run in (1, 2, 3):
        with kept(path) as each:
            each.totals.add(SPEND)
            each.totals.add(replace(SPEND, target=f"run-{run}"))
            each.save()
            each.totals.add(SPEND)
            each.save()
    with kept(path) as each:
        found = await each.totals.between("2026-11-21", "2026-11-21")
    assert found == [
        *(replace(SPEND, target=f"run-{run}") for run in (1, 2, 3)),
        replace(SPEND, requests=6, input_tokens=60, output_tokens=30, cost_nusd=1800),
    ]


@pytest.mark.anyio
async def test_days_that_the_file_has_leave_the_memory(path: Path) -> None:
    with kept(path) as each:
        each.totals.add(SPEND)
        each.save()
        each.totals.drop_old(NOW_S + DAY_S)
        assert "2026-11-21" in each.totals._days
        each.totals.drop_old(NOW_S + 2 * DAY_S)
        assert each.totals._days == {}
        assert await each.totals.between("2026-11-21", "2026-11-21") == [SPEND]
        each.totals.add(SPEND)
        each.save()
        (total,) = await each.totals.between("2026-11-21", "2026-11-21")
        assert total.requests == 2


@pytest.mark.anyio
async def test_days_that_the_file_does_not_have_yet_stay(path: Path) -> None:
    with kept(path) as each:
        each.totals.add(SPEND)
        each.totals.drop_old(NOW_S + 2 * DAY_S)
        assert await each.totals.between("2026-11-21", "2026-11-21") == [SPEND]


@pytest.mark.anyio
async def test_without_a_file_the_memory_keeps_400_days() -> None:
    totals = SpendTotals(None, touched_for_good)
    totals.add(SPEND)
    totals.drop_old(NOW_S + 399 * DAY_S)
    assert await totals.between("2026-11-21", "2026-11-21") == [SPEND]
    totals.drop_old(NOW_S + 400 * DAY_S)
    assert await totals.between("2026-11-21", "2026-11-21") == []


@pytest.mark.anyio
async def test_a_file_that_cannot_be_read_is_told(path: Path) -> None:
    with kept(path) as each:
        shutil.rmtree(path.parent)
        with pytest.raises(StoreUnavailable, match=r"gateway\.sqlite cannot be used") as caught:
            await each.totals.between("2026-11-21", "2026-11-21")
    assert caught.value.retry_after_s == 1.0
