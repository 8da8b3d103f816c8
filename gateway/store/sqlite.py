"""The file in which one process keeps what must survive it: SQLite, written by one thread.

Theory of operation. Whoever has something to keep hands over *rows*: absolute values under a key, so
that writing one twice is writing it once, and an older value of a key that was not written yet is
simply replaced. The thread takes all rows that wait, writes those of each table in one statement,
rests a moment and looks again; nobody waits for it but who asks to (`flush`). A commit goes to the
operating system's memory (WAL, `synchronous=NORMAL`): it survives the process, kill -9 included; a
power cut may take the last moments, and never leaves half of a commit.

When the file cannot be written (disk full), the rows wait, the newest value of each, and are tried
again; `error` says so meanwhile. A lock on `<path>.lock` keeps a second process out; the kernel
takes it back from a process that dies.
"""

import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gateway.store.tables import (
    Key,
    Row,
    Saved,
    StateUnusable,
    Values,
    connect,
    load,
    purge,
    read_spend,
    write,
)

logger = logging.getLogger(__name__)

REST_S = 0.002
"""Between two rounds of writing: a hundred settlements within it cost one commit."""
RETRY_S = 1.0
"""Before rows that could not be written are tried again."""


class StateInUse(StateUnusable):
    """Another process keeps its state in the file."""


class StateFile:
    """The file at `path`, opened, and made with its folder where there was none.

    `wall_s` is the moment for which it is tidied up; `busy_s`, how long a lock of a foreign program is
    waited for. Nothing is written before `start`, to be called in the process that goes on: a thread
    outlives no fork. Raises StateUnusable.
    """

    def __init__(self, path: Path, *, wall_s: float, busy_s: float) -> None:
        self.path = path
        self.error: str | None = None
        """Why rows could not be written the last time; None when they could."""
        with _explained(path):
            self._lock_fd = _lock(path)
            try:
                self._connection = connect(path, busy_s)
                try:
                    self._saved: Saved | None = load(self._connection, path, wall_s)
                except BaseException:
                    self._connection.close()
                    raise
            except BaseException:
                os.close(self._lock_fd)
                raise
        self._changed = threading.Condition()
        self._pending: dict[Key, Values | None] = {}
        self._purge_at_s: float | None = None
        self._given = 0
        self._tried = 0
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="state-file", daemon=True)

    def take_saved(self) -> Saved:
        """What it held when it was opened; to be asked for once."""
        saved, self._saved = self._saved, None
        assert saved is not None
        return saved

    def start(self) -> None:
        """Begin to write what is given from now on."""
        self._thread.start()

    def write(self, rows: Iterable[Row]) -> None:
        """Keep these rows. Returns at once."""
        with self._changed:
            self._pending.update(rows)
            self._given += 1
        self._wake.set()

    def purge(self, wall_s: float) -> None:
        """Forget what is too old at `wall_s`. Returns at once."""
        with self._changed:
            self._purge_at_s = wall_s
            self._given += 1
        self._wake.set()

    def flush(self, timeout_s: float) -> bool:
        """Whether all that was given is in the file now. Blocks its caller, until it has been tried once."""
        with self._changed:
            self._given += 1
            given = self._given
        if not self._thread.is_alive():
            self._commit()
        with self._changed:
            self._hurry.set()
            self._wake.set()
            return self._changed.wait_for(lambda: self._tried >= given, timeout_s) and self.error is None

    def spend(
        self, first_day: str, last_day: str, but_parts: frozenset[int]
    ) -> list[tuple[str, str, str, str, str, int, int, int, int]]:
        """As `read_spend`, of what has been written. Blocks its caller. Raises StateUnusable."""
        # A connection of its own, which waits for no writer and can be used in any thread.
        source = f"{self.path.absolute().as_uri()}?mode=ro"
        with _explained(self.path), closing(sqlite3.connect(source, uri=True)) as connection:
            return read_spend(connection, first_day, last_day, but_parts)

    def close(self, timeout_s: float) -> None:
        """Write what is left, within `timeout_s`, and let go of the file. Blocks its caller. Once is enough."""
        if self._is_closing:
            return
        self._is_closing = True
        if self._thread.ident is None:
            self._commit()
        else:
            self._hurry.set()
            self._wake.set()
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                logger.error("%s: not written within %g s", self.path, timeout_s)
                return
        self._connection.close()
        os.close(self._lock_fd)

    def _run(self) -> None:
        while not self._is_closing:
            self._wake.wait()
            # Cleared before the rows are taken: what comes after is seen in the next turn.
            self._wake.clear()
            self._hurry.clear()
            self._commit()
            if self.error is not None:
                self._wake.set()
            if not self._is_closing:
                self._hurry.wait(REST_S if self.error is None else RETRY_S)
        self._commit()

    def _commit(self) -> None:
        with self._changed:
            rows, self._pending = self._pending, {}
            purge_at_s, self._purge_at_s = self._purge_at_s, None
            given = self._given
        error = self._try(rows, purge_at_s) if rows or purge_at_s is not None else self.error
        with self._changed:
            if error is not None:
                # What has come meanwhile is newer.
                self._pending = rows | self._pending
                self._purge_at_s = self._purge_at_s or purge_at_s
            self._note(error)
            self._tried = given
            self._changed.notify_all()

    def _try(self, rows: dict[Key, Values | None], purge_at_s: float | None) -> str | None:
        try:
            write(self._connection, rows)
            if purge_at_s is not None:
                purge(self._connection, purge_at_s)
        except (sqlite3.Error, ValueError, OverflowError) as fault:
            return str(fault)
        return None

    def _note(self, error: str | None) -> None:
        if error is not None and self.error is None:
            logger.error("%s cannot be written: %s; spend is counted in memory and tried again", self.path, error)
        elif error is None and self.error is not None:
            logger.warning("%s is written again, nothing of it was lost", self.path)
        self.error = error


def _lock(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Made here, not by SQLite, so that nobody else may read it: SQLite gives its other files the same mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except StateUnusable:
        raise
    except BlockingIOError as fault:
        raise StateInUse(f"{path} is in use by another process") from fault
    except (OSError, sqlite3.Error) as fault:
        raise StateUnusable(
            f"{path} cannot be used: {fault}; make it writable, move it away (spend of the running periods is lost),"
            " or set server.state_dir to another folder"
        ) from fault
