"""Stored replies that survive their process: as every store of them, across restarts, and with a file in trouble."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.store.sqlite_blobs import BlobFile, SqliteBlobs
from tests.fakes import FakeClock
from tests.unit.store.blob_behaviour import KEY, OTHER_KEY, SCOPES, BlobBehaviour, entry, has, stored


@dataclass
class SqliteShelf:
    """A file, on a clock that the test moves."""

    path: Path
    clock: FakeClock = field(default_factory=FakeClock)
    blobs: SqliteBlobs = field(init=False)

    def __post_init__(self) -> None:
        self.blobs = SqliteBlobs(self.path, 1024 * 1024, self.clock)

    def wall(self) -> float:
        return self.clock.wall()

    async def expire(self, ttl_s: float) -> None:
        self.clock.advance(ttl_s)

    async def restart(self) -> None:
        """Close it, and begin anew with what the file holds."""
        await self.blobs.aclose()
        self.blobs = SqliteBlobs(self.path, 1024 * 1024, self.clock)
        await self.blobs.start()


@pytest.fixture
async def shelf(tmp_path: Path, anyio_backend: str) -> AsyncIterator[SqliteShelf]:
    """A started one."""
    made = SqliteShelf(tmp_path / "state" / "cache.sqlite")
    await made.blobs.start()
    yield made
    await made.blobs.aclose()


pytestmark = pytest.mark.anyio


class TestSqlite(BlobBehaviour):
    """As every store of replies."""


async def test_a_restart_keeps_what_was_stored(shelf: SqliteShelf) -> None:
    made = await stored(shelf)
    await shelf.restart()
    found = (await shelf.blobs.find(KEY, SCOPES)).entry
    assert found == made


async def test_a_restart_does_not_bring_back_what_was_purged(shelf: SqliteShelf) -> None:
    await stored(shelf)
    await stored(shelf, OTHER_KEY, scopes=())
    await shelf.blobs.flush()
    await shelf.blobs.purge(SCOPES[1])
    # As after kill -9: nothing is written any more.
    other = sqlite3.connect(shelf.path)
    assert other.execute("SELECT key FROM entry").fetchall() == [(OTHER_KEY,)]
    other.close()
    await shelf.restart()
    assert not await has(shelf)
    assert await has(shelf, OTHER_KEY)


async def test_what_was_purged_before_a_restart_can_be_stored_again_after_it(shelf: SqliteShelf) -> None:
    await stored(shelf)
    await shelf.blobs.purge(SCOPES[1])
    await stored(shelf)
    await shelf.restart()
    assert await has(shelf)
    await shelf.blobs.purge(SCOPES[1])
    assert not await has(shelf)


async def test_what_is_too_old_is_not_read_again(shelf: SqliteShelf) -> None:
    await stored(shelf, ttl_s=10.0)
    await shelf.blobs.flush()
    shelf.clock.advance(10.0)
    await shelf.restart()
    assert len(shelf.blobs) == 0


async def test_the_newest_stay_when_there_is_less_room_after_a_restart(shelf: SqliteShelf) -> None:
    keys = [bytes([number]) * 32 for number in (3, 1, 2)]
    for key in keys:
        await stored(shelf, key)
        shelf.clock.advance(1.0)
    await shelf.blobs.aclose()
    size_bytes = (await entry(shelf)).size_bytes
    shelf.blobs = SqliteBlobs(shelf.path, 2 * size_bytes, shelf.clock)
    await shelf.blobs.start()
    assert [await has(shelf, key) for key in keys] == [False, True, True]


async def test_the_file_is_read_by_nobody_else(shelf: SqliteShelf) -> None:
    assert shelf.path.stat().st_mode & 0o077 == 0


async def test_a_second_process_goes_on_in_memory(shelf: SqliteShelf, caplog: pytest.LogCaptureFixture) -> None:
    second = SqliteShelf(shelf.path)
    await second.blobs.start()
    assert "will not survive" in caplog.text
    await stored(second)
    assert await has(second)
    assert not await has(shelf)
    assert (await second.blobs.purge(SCOPES[1])).matched == 1
    assert not await second.blobs.flush()
    await second.blobs.aclose()


async def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE mine (a)")
    other.close()
    shelf = SqliteShelf(path)
    await shelf.blobs.start()
    assert shelf.blobs.error == "it is no cache of this version"
    await stored(shelf)
    await shelf.blobs.aclose()
    assert b"mine" in path.read_bytes()


async def test_a_row_that_cannot_be_read_is_forgotten(shelf: SqliteShelf) -> None:
    await stored(shelf)
    await shelf.blobs.aclose()
    other = sqlite3.connect(shelf.path)
    other.execute("INSERT INTO entry VALUES (?, ?, ?)", (OTHER_KEY, b"nonsense", 2e9))
    other.commit()
    other.close()
    await shelf.blobs.start()
    assert len(shelf.blobs) == 1


async def test_a_file_that_cannot_be_written_is_written_whole_when_it_can_be(
    shelf: SqliteShelf, caplog: pytest.LogCaptureFixture
) -> None:
    await stored(shelf)
    await shelf.blobs.flush()
    other = sqlite3.connect(shelf.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    await stored(shelf, OTHER_KEY, scopes=())
    assert not await shelf.blobs.flush()
    assert "will not survive" in caplog.text
    with pytest.raises(StoreUnavailable, match="Purged in memory alone"):
        await shelf.blobs.purge(f"entry:{KEY.hex()}")
    assert not await has(shelf)
    other.execute("ROLLBACK")
    assert await shelf.blobs.flush()
    assert other.execute("SELECT key FROM entry").fetchall() == [(OTHER_KEY,)]
    other.close()
    assert shelf.blobs.error is None
    assert "is written again" in caplog.text


async def test_changes_are_written_by_themselves(shelf: SqliteShelf) -> None:
    await stored(shelf)
    other = sqlite3.connect(shelf.path)
    while not other.execute("SELECT key FROM entry").fetchall():
        await asyncio.sleep(0)
    other.close()
    assert await has(shelf)


async def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    shelf = SqliteShelf(tmp_path / "file" / "cache.sqlite")
    await shelf.blobs.start()
    assert "will not survive" in caplog.text
    await stored(shelf)
    assert await has(shelf)


async def test_a_file_that_cannot_be_read_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shelf = SqliteShelf(tmp_path / "cache.sqlite")
    await shelf.blobs.start()
    await shelf.blobs.aclose()
    other = sqlite3.connect(shelf.path)
    other.execute("DROP TABLE entry")
    other.execute("CREATE TABLE entry (a)")
    other.close()
    await shelf.blobs.start()
    assert "will not survive" in caplog.text
    BlobFile(shelf.path).close()


def test_changes_are_written_all_or_none(tmp_path: Path) -> None:
    file = BlobFile(tmp_path / "cache.sqlite")
    wrong: Any = (OTHER_KEY, b"b", object())
    with pytest.raises(sqlite3.Error):
        file.write([(KEY, b"a", 1.0), wrong], is_whole=False)
    file.write([(OTHER_KEY, b"b", 2.0)], is_whole=False)
    file.close()
    other = sqlite3.connect(tmp_path / "cache.sqlite")
    assert other.execute("SELECT key FROM entry").fetchall() == [(OTHER_KEY,)]
    other.close()


def test_a_file_that_fails_to_open_gives_back_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"no database at all, but long enough to be taken for a damaged one" * 20)
    with pytest.raises(sqlite3.DatabaseError):
        BlobFile(path)
    path.unlink()
    BlobFile(path).close()
