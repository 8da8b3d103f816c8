"""The state file and its thread: nothing that was written is lost, and whoever cannot write says so."""

import logging
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.store.sqlite import StateFile, StateInUse
from gateway.store.tables import Key, Row, StateUnusable, Values

NOW_S = 1_795_219_200.0
BUDGET: Key = ("budget", ("day", "key=a", "2026-11-21"))


def row(spent: int, scope: str = "key=a") -> Row:
    return ("budget", ("day", scope, "2026-11-21")), (NOW_S + 1.0, spent, 0, 0)


def opened(path: Path) -> StateFile:
    return StateFile(path, wall_s=NOW_S, busy_s=0.01)


def spent(path: Path) -> dict[str, int]:
    """By scope, as another program reads the file."""
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT scope, spent FROM budget").fetchall())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "gateway.sqlite"


@pytest.fixture
def file(path: Path) -> Iterator[StateFile]:
    file = opened(path)
    file.start()
    yield file
    file.close(5.0)


def test_rows_are_in_the_file_after_a_flush(file: StateFile, path: Path) -> None:
    file.write([row(1), row(2, "key=b")])
    file.write([row(3)])
    assert file.flush(5.0)
    assert spent(path) == {"key=a": 3, "key=b": 2}


def test_what_is_left_is_written_when_it_is_closed(path: Path) -> None:
    for start in (True, False):
        file = opened(path)
        if start:
            file.start()
        file.write([row(1 + start)])
        file.close(5.0)
        assert spent(path) == {"key=a": 1 + start}


def test_a_file_that_was_never_started_can_be_flushed(path: Path) -> None:
    file = opened(path)
    file.write([row(1)])
    assert file.flush(5.0)
    assert spent(path) == {"key=a": 1}
    file.close(5.0)


def test_nobody_else_may_read_it(file: StateFile, path: Path) -> None:
    file.write([row(1)])
    assert file.flush(5.0)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert "gateway.sqlite-wal" in modes


def test_what_it_held_is_told_once(file: StateFile) -> None:
    assert file.take_saved().budgets == []
    with pytest.raises(AssertionError):
        file.take_saved()


def test_a_second_process_is_kept_out(file: StateFile, path: Path) -> None:
    with pytest.raises(StateInUse, match=r"gateway\.sqlite is in use by another process"):
        opened(path)
    file.close(5.0)
    again = opened(path)
    again.close(5.0)


def test_a_file_that_is_no_database_is_not_touched(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, and longer than the header of one would be " * 20)
    for _ in range(2):
        with pytest.raises(StateUnusable, match=r"gateway\.sqlite cannot be used: file is not a database; make it"):
            opened(path)
    assert path.read_bytes().startswith(b"not a database")


def test_a_torn_database_is_found_when_it_is_opened(path: Path) -> None:
    file = opened(path)
    file.write([row(number, f"key={number}") for number in range(2000)])
    file.close(5.0)
    content = bytearray(path.read_bytes())
    content[8192:40960] = bytes(32768)
    path.write_bytes(content)
    with pytest.raises(StateUnusable, match=r"gateway\.sqlite cannot be used: .* or set server\.state_dir"):
        opened(path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnusable, match=r"file/gateway\.sqlite cannot be used: .*; make it writable"):
        opened(tmp_path / "file" / "gateway.sqlite")


def test_rows_that_cannot_be_written_wait_and_nothing_is_lost(
    file: StateFile, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        file.write([row(1), row(5, "key=b")])
        assert not file.flush(5.0)
        file.write([row(2)])
        file.purge(NOW_S)
        assert not file.flush(5.0)
        assert file.error == "database is locked"
        other.execute("ROLLBACK")
    assert file.flush(5.0)
    assert file.error is None
    assert spent(path) == {"key=a": 2, "key=b": 5}
    told = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert told == [
        (
            logging.ERROR,
            f"{path} cannot be written: database is locked; spend is counted in memory and tried again",
        ),
        (logging.WARNING, f"{path} is written again, nothing of it was lost"),
    ]


class Overtaken(StateFile):
    """Fails once, while a newer row comes in."""

    fails = True

    def _try(self, rows: dict[Key, Values | None], purge_at_s: float | None) -> str | None:
        if not self.fails:
            return super()._try(rows, purge_at_s)
        self.fails = False
        self.write([row(2)])
        return "disk full"


def test_a_row_that_has_to_be_tried_again_does_not_replace_a_newer_one(path: Path) -> None:
    file = Overtaken(path, wall_s=NOW_S, busy_s=0.01)
    file.write([row(1), row(5, "key=b")])
    assert not file.flush(5.0)
    assert file.flush(5.0)
    assert spent(path) == {"key=a": 2, "key=b": 5}
    file.close(5.0)


def test_a_disk_that_hangs_does_not_hang_the_end(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    goes_on = threading.Event()

    class Hanging(StateFile):
        def _try(self, rows: dict[Key, Values | None], purge_at_s: float | None) -> str | None:
            goes_on.wait(5.0)
            return super()._try(rows, purge_at_s)

    file = Hanging(path, wall_s=NOW_S, busy_s=0.01)
    file.start()
    file.write([row(1)])
    file.close(0.01)
    assert [record.getMessage() for record in caplog.records] == [f"{path}: not written within 0.01 s"]
    goes_on.set()
    file._thread.join(5.0)
    assert spent(path) == {"key=a": 1}
    file._connection.close()


def test_what_no_table_can_hold_does_not_end_the_thread(file: StateFile) -> None:
    file.write([row(1, "key=\ud800")])
    for _ in range(2):
        assert not file.flush(5.0)
        assert file.error is not None
    assert [thread.name for thread in threading.enumerate()].count("state-file") == 1


def test_ended_periods_are_purged_while_it_runs(file: StateFile, path: Path) -> None:
    file.write([row(1)])
    file.purge(NOW_S + 1.0)
    assert file.flush(5.0)
    assert spent(path) == {}


def test_totals_are_read_beside_the_writer(file: StateFile) -> None:
    file.write([(("spend", ("2026-11-21", "k", "r", "t", "[]", 1)), (1, 2, 3, 4))])
    assert file.flush(5.0)
    assert file.spend("2026-11-21", "2026-11-21", frozenset()) == [("2026-11-21", "k", "r", "t", "[]", 1, 2, 3, 4)]
    assert file.spend("2026-11-21", "2026-11-21", frozenset({1})) == []


def test_totals_of_a_file_that_is_gone_are_not_nothing(file: StateFile, path: Path) -> None:
    path.unlink()
    with pytest.raises(StateUnusable, match="cannot be used"):
        file.spend("2026-11-21", "2026-11-21", frozenset())


def test_an_existing_file_keeps_its_content(path: Path) -> None:
    for spends in (1, 2):
        file = opened(path)
        assert [each[4] for each in file.take_saved().budgets] == ([] if spends == 1 else [1])
        file.write([row(spends)])
        file.close(5.0)
