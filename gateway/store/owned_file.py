"""An SQLite file that one process owns: nobody else may read it, and no second process may write it."""

import fcntl
import os
import sqlite3
from pathlib import Path

_BUSY_S = 0.2


class OwnedFile:
    """The file at `path`, opened, made where there is none. `close` gives it back.

    The constructor blocks. It raises OSError (BlockingIOError while another process has it), and sqlite3.Error, also
    for the file of another program or version.
    """

    __slots__ = ("_lock_fd", "connection")

    def __init__(self, path: Path, application: int, what: str) -> None:
        """`application`: the number by which SQLite knows files of this kind and version. `what` it is, for errors."""
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made here, not by SQLite, so that nobody else may read it: SQLite gives its other files the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._lock_fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.connection = _connect(path, application, what)
        except BaseException:
            os.close(self._lock_fd)
            raise

    def close(self) -> None:
        """Give the file back."""
        self.connection.close()
        os.close(self._lock_fd)


def _connect(path: Path, application: int, what: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        known = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and known != application:
            raise sqlite3.DatabaseError(f"it is no {what} of this version")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA application_id = {application}")
    except BaseException:
        connection.close()
        raise
    return connection
