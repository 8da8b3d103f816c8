"""A log that survives its process: as every log, across restarts, and with a file in trouble."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.store import sqlite_records
from gateway.store.records import MOST_TOLD
from gateway.store.sqlite_records import RecordFile, SqliteRecords
from tests.unit.store.record_bench import Listener, RecordsBehaviour, append_all, numbered
from tests.unit.store.redis_bench import until

pytestmark = pytest.mark.anyio


@dataclass
class Process:
    """A log on a file, and who is told."""

    path: Path
    max_records: int = 10_000
    listener: Listener = field(default_factory=Listener)
    records: SqliteRecords = field(init=False)

    def __post_init__(self) -> None:
        self.records = SqliteRecords(self.path, self.max_records)

    async def start(self) -> "Process":
        await self.records.start(lambda batch: self.listener.apply(batch), self.listener.reset)
        return self

    async def restarted(self, max_records: int = 10_000) -> "Process":
        """Another one after this one's end."""
        await self.records.aclose()
        return await Process(self.path, max_records).start()

    def kept(self) -> list[bytes]:
        """What is in the file."""
        with closing(sqlite3.connect(self.path)) as connection:
            return [record for (record,) in connection.execute("SELECT record FROM record ORDER BY n")]


@pytest.fixture
async def process(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Process]:
    """A started one."""
    made = await Process(tmp_path / "state" / "log.sqlite").start()
    yield made
    await made.records.aclose()


class TestSqlite(RecordsBehaviour):
    """As every log."""

    @pytest.fixture
    def records(self, process: Process) -> SqliteRecords:
        """The log."""
        return process.records

    @pytest.fixture
    def listener(self, process: Process) -> Listener:
        """Who is told."""
        return process.listener


async def test_a_restart_tells_what_was_kept_in_batches_and_goes_on_after_it(process: Process) -> None:
    wanted = numbered(500, 1000)
    await append_all(process.records, process.listener, wanted)
    after = await process.restarted()
    assert after.listener.told == process.listener.told
    assert max(after.listener.batches) == MOST_TOLD
    after.records.append(b"new")
    assert after.listener.told[-1] == ("501-0", b"new")
    again = await after.restarted()
    assert again.listener.records == [*wanted, b"new"]
    await again.records.aclose()


async def test_the_loop_runs_while_what_was_kept_is_told(process: Process) -> None:
    await append_all(process.records, process.listener, numbered(500))
    await process.records.aclose()
    after = Process(process.path)
    turns: list[int] = []
    starting = asyncio.ensure_future(after.start())
    while not starting.done():
        turns.append(len(after.listener.told))
        await asyncio.sleep(0)
    assert len(set(turns)) > 2
    await after.records.aclose()


async def test_what_is_appended_while_the_file_is_read_comes_after_it(process: Process) -> None:
    wanted = numbered(200)
    await append_all(process.records, process.listener, wanted)
    await process.records.aclose()
    after = Process(process.path)
    lags: list[float] = []

    def append() -> None:
        after.records.append(b"new")
        lags.append(after.records.lag_s)

    after.listener.at_first = append
    await after.start()
    await until(lambda: len(after.listener.told) == 201)
    assert after.listener.records == [*wanted, b"new"]
    assert lags[0] > 0.0
    assert after.records.lag_s == 0.0
    again = await after.restarted()
    assert again.listener.records == [*wanted, b"new"]
    await again.records.aclose()


async def test_what_waits_for_the_file_to_be_read_is_bounded(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    await append_all(process.records, process.listener, numbered(200))
    await process.records.aclose()
    monkeypatch.setattr(sqlite_records, "MOST_WAITING", 10)
    after = Process(process.path)

    def append() -> None:
        for _ in range(15):
            after.records.append(b"x")

    after.listener.at_first = append
    await after.start()
    await until(lambda: len(after.listener.told) == 210)
    assert after.records.dropped == 5
    await after.records.aclose()


async def test_a_start_that_takes_long_goes_on_by_itself(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    await append_all(process.records, process.listener, numbered(500))
    await process.records.aclose()
    monkeypatch.setattr(sqlite_records, "START_S", 0.0)
    after = await Process(process.path).start()
    assert len(after.listener.told) < 500
    await until(lambda: len(after.listener.told) == 500)
    await after.records.aclose()


async def test_an_end_while_the_file_is_read_waits_for_no_more_of_it(process: Process) -> None:
    await append_all(process.records, process.listener, numbered(500))
    await process.records.aclose()
    after = Process(process.path)
    told = asyncio.Event()
    after.listener.at_first = told.set
    starting = asyncio.ensure_future(after.start())
    await told.wait()
    await after.records.aclose()
    await starting
    assert len(after.listener.told) < 500
    RecordFile(process.path, 1000).close()


async def test_records_are_written_by_themselves(process: Process) -> None:
    """As before kill -9: nobody closes it."""
    process.records.append(b"a")
    await until(process.kept)
    assert process.kept() == [b"a"]


async def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    process = await Process(tmp_path / "log.sqlite", 10).start()
    await append_all(process.records, process.listener, numbered(25))
    assert await process.records.flush()
    assert process.kept() == numbered(25)[15:]
    assert len(process.listener.told) == 25
    after = await process.restarted(4)
    assert after.listener.records == numbered(25)[21:]
    assert after.kept() == numbered(25)[21:]
    await after.records.aclose()


async def test_what_is_deleted_is_not_in_the_file_any_more(process: Process) -> None:
    """Not even in a page that is free: records hold prompts."""
    for record in (b"before", b"a secret that was purged" * 50, b"after"):
        process.records.append(record)
    secret = process.listener.told[1]
    assert await process.records.flush()
    process.records.delete([secret[0]])
    assert process.records.deleting == 1
    await until(lambda: not process.records.deleting)
    assert process.kept() == [b"before", b"after"]
    for path in process.path.parent.iterdir():
        assert b"secret" not in path.read_bytes(), path


async def test_what_is_deleted_before_it_was_written_never_comes_back(process: Process) -> None:
    process.records.append(b"a")
    process.records.append(b"b")
    process.records.delete([process.listener.id_of(b"a")])
    after = await process.restarted()
    assert after.listener.records == [b"b"]
    await after.records.aclose()


async def test_the_file_is_read_by_nobody_else(process: Process) -> None:
    process.records.append(b"a")
    await process.records.flush()
    for path in process.path.parent.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


async def test_a_second_process_goes_on_in_memory(process: Process, caplog: pytest.LogCaptureFixture) -> None:
    second = await Process(process.path).start()
    assert "will not survive" in caplog.text
    second.records.append(b"a")
    second.records.delete(["1-0"])
    assert second.listener.records == [b"a"]
    assert second.records.is_live
    assert not await second.records.flush()
    await second.records.aclose()
    assert process.kept() == []


async def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE mine (a)")
    process = await Process(path).start()
    assert process.records.error == "it is no log of this version"
    process.records.append(b"a")
    assert process.listener.records == [b"a"]
    await process.records.aclose()
    assert b"mine" in path.read_bytes()


async def test_a_file_that_is_no_database_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "log.sqlite"
    path.write_bytes(b"no database at all, but long enough to be taken for a damaged one" * 20)
    process = await Process(path).start()
    process.records.append(b"a")
    await process.records.aclose()
    assert "will not survive" in caplog.text
    path.unlink()
    RecordFile(path, 1).close()


async def test_a_file_that_breaks_while_it_is_read_is_let_go(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    await append_all(process.records, process.listener, numbered(500, 4000))
    await process.records.aclose()
    content = bytearray(process.path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 65536] = b"\xff" * 65536
    process.path.write_bytes(content)
    after = await Process(process.path).start()
    after.records.append(b"new")
    assert 0 < len(after.listener.told) < 500
    assert after.listener.records[-1] == b"new"
    assert "will not survive" in caplog.text
    await after.records.aclose()


async def test_a_row_that_is_no_record_is_passed_over(process: Process) -> None:
    process.records.append(b"a")
    await process.records.aclose()
    with closing(sqlite3.connect(process.path)) as other:
        other.execute("INSERT INTO record VALUES (2, 'text'), (3, NULL), (4, 5)")
        other.commit()
    after = await Process(process.path).start()
    assert after.listener.records == [b"a"]
    after.records.append(b"b")
    assert after.listener.told[-1] == ("5-0", b"b")
    await after.records.aclose()


async def test_a_file_with_nothing_but_nonsense_tells_nothing(process: Process) -> None:
    await process.records.aclose()
    with closing(sqlite3.connect(process.path)) as other:
        other.execute("INSERT INTO record VALUES (2, 'text')")
        other.commit()
    after = await Process(process.path).start()
    assert after.listener.batches == []
    await after.records.aclose()


async def test_a_file_that_cannot_be_written_is_written_when_it_can_be(
    process: Process, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_records, "MOST_WAITING", 3)
    monkeypatch.setattr(sqlite_records, "MOST_DELETES", 2)
    process.records.append(b"gone")
    assert await process.records.flush()
    other = sqlite3.connect(process.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for record in numbered(3):
        process.records.append(record)
    process.records.delete(["1-0"])
    assert not await process.records.flush()
    assert "will not survive" in caplog.text
    assert process.records.deleting == 1
    for record in (b"d", b"e"):
        process.records.append(record)
    assert process.records.dropped == 2
    assert not await process.records.flush()
    other.execute("ROLLBACK")
    other.close()
    assert await process.records.flush()
    assert process.kept() == [b"000002", b"d", b"e"]
    assert process.records.error is None
    assert "is written again" in caplog.text
    process.records.delete(["2-0", "3-0", "4-0"])
    assert process.records.deleting == 2
    assert "some stays" in caplog.text


async def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    process = await Process(tmp_path / "file" / "log.sqlite").start()
    process.records.append(b"a")
    assert "will not survive" in caplog.text
    assert process.listener.records == [b"a"]
    await process.records.aclose()


def test_records_are_written_all_or_none(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "log.sqlite", 10)
    with pytest.raises(sqlite3.Error):
        file.write([(1, b"a"), (2, object())], [])  # type: ignore[list-item]
    file.write([(3, b"c")], [])
    assert file.read(0, 9) == [(3, b"c")]
    file.close()
