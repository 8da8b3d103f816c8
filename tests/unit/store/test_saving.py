"""From things that change to rows in the file."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.saving import Saver
from gateway.store.sqlite import StateFile
from gateway.store.tables import Row

NOW_S = 1_795_219_200.0


class Thing:
    """Something that counts, and how often its row was asked for."""

    def __init__(self) -> None:
        self.is_touched = False
        self.value = 0
        self.asked = 0

    def row(self) -> Row:
        self.asked += 1
        return ("granted", ("thing",)), ("day", "*", self.value, NOW_S + 1.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.sqlite"


@pytest.fixture
def file(path: Path) -> Iterator[StateFile]:
    file = StateFile(path, wall_s=NOW_S, busy_s=1.0)
    file.start()
    yield file
    file.close(5.0)


def saved(file: StateFile) -> list[int]:
    """Values in the file, as the next process finds them."""
    file.close(5.0)
    again = StateFile(file.path, wall_s=NOW_S, busy_s=1.0)
    grants = again.take_saved().grants
    again.close(5.0)
    return [amount for _, _, _, amount, _ in grants]


async def until_handed_over(thing: Thing) -> None:
    async with asyncio.timeout(5.0):
        while thing.is_touched:
            await asyncio.sleep(0)


@pytest.mark.anyio
async def test_many_changes_are_one_row(file: StateFile) -> None:
    saver, thing = Saver(file), Thing()
    saver.start()
    for _ in range(100):
        thing.value += 1
        if not thing.is_touched:
            saver.touch(thing)
    await until_handed_over(thing)
    assert thing.asked == 1
    thing.value += 1
    saver.touch(thing)
    saver.stop()
    assert saved(file) == [101]


@pytest.mark.anyio
async def test_what_was_touched_before_the_start_is_not_forgotten(file: StateFile) -> None:
    saver, thing = Saver(file), Thing()
    thing.value = 7
    saver.touch(thing)
    assert thing.asked == 0
    saver.start()
    assert not thing.is_touched
    assert saved(file) == [7]


@pytest.mark.anyio
async def test_what_changes_after_the_end_is_left_to_nobody(file: StateFile) -> None:
    saver, thing = Saver(file), Thing()
    saver.start()
    saver.touch(thing)
    saver.stop()
    assert thing.asked == 1
    saver.touch(thing)
    saver.stop()
    assert thing.asked == 2


@pytest.mark.anyio
async def test_a_row_that_somebody_waits_for_is_in_the_file(file: StateFile) -> None:
    saver, thing = Saver(file), Thing()
    thing.value = 3
    await saver.save([thing.row()])
    assert file.error is None
    assert saved(file) == [3]


@pytest.mark.anyio
async def test_without_a_file_nothing_is_kept_and_nothing_is_asked_twice() -> None:
    saver, thing = Saver(None), Thing()
    saver.start()
    saver.touch(thing)
    assert thing.is_touched
    await saver.save([thing.row()])
    saver.stop()
    assert thing.asked == 1
