"""A file of one process alone."""

import sqlite3
import stat
from pathlib import Path

import pytest

from gateway.store.owned_file import OwnedFile

KIND, OTHER = 0x6777_7701, 0x6777_7702


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    file = OwnedFile(tmp_path / "below" / "f.sqlite", KIND, "thing")
    file.connection.execute("CREATE TABLE t (x)")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "below").iterdir()}
    file.close()
    assert set(modes.values()) == {0o600}
    assert "f.sqlite" in modes


def test_it_is_one_processes_until_it_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "f.sqlite"
    file = OwnedFile(path, KIND, "thing")
    with pytest.raises(BlockingIOError):
        OwnedFile(path, KIND, "thing")
    file.close()
    OwnedFile(path, KIND, "thing").close()


def test_another_programs_file_is_left_alone_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "f.sqlite"
    file = OwnedFile(path, OTHER, "other thing")
    file.connection.execute("CREATE TABLE t (x)")
    file.close()
    with pytest.raises(sqlite3.DatabaseError, match="it is no thing of this version"):
        OwnedFile(path, KIND, "thing")
    again = OwnedFile(path, OTHER, "other thing")
    assert again.connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    again.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        OwnedFile(path, KIND, "thing")
    assert path.read_bytes().startswith(b"no database")
