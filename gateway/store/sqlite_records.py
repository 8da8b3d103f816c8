"""The log of one process that survives it: memory, and a file beside it that is read at the start.

Theory of operation. A record is told at once and written soon: a thread writes what has gathered in one
transaction, at most four times a second, and removes what is above the bound. What was not written yet is lost
with the process. At the start the file is read in slices; what is appended meanwhile is newer, and is told after
it. A file that cannot be read, or that another process or another program has, is a warning: the log goes on in
memory. One that cannot be written for a while is written when it can be, as far as what waits has room.

Records hold prompts. So the file is the owner's alone, and what is deleted is overwritten in it, not just unlinked.
"""

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from gateway.core.pipeline import finish, spawn
from gateway.store.memory_records import MemoryRecords
from gateway.store.owned_file import OwnedFile
from gateway.store.records import MOST_RECORD_BYTES, MOST_TOLD, START_S, Apply, Reset

logger = logging.getLogger(__name__)

GATHER_S = 0.25
"""How long records are gathered before they are written."""
MOST_WAITING = 4096
"""Records that wait to be written, of which the oldest are dropped; or to be told, of which the newest are."""
MOST_DELETES = 100_000
"""Deletions that wait for a file that cannot be written."""
_RETRY_S = 30.0
# "gw", and the number of this format.
_APPLICATION = 0x6777_0201
_REST = "DELETE FROM record WHERE n <= (SELECT max(n) FROM record) - ?"


class RecordFile:
    """The file at `path`, for one process, with its newest `max_records`. Blocks; raises OSError, sqlite3.Error."""

    def __init__(self, path: Path, max_records: int) -> None:
        self._file = OwnedFile(path, _APPLICATION, "log")
        self._connection = self._file.connection
        try:
            self._connection.execute("PRAGMA secure_delete = ON")
            self._connection.execute("CREATE TABLE IF NOT EXISTS record (n INTEGER PRIMARY KEY, record BLOB)")
            self._connection.execute(_REST, (max_records,))
            self.last: int = self._connection.execute("SELECT coalesce(max(n), 0) FROM record").fetchone()[0]
        except BaseException:
            self._file.close()
            raise
        self._max_records = max_records

    def read(self, after: int, until: int) -> list[tuple[int, bytes]]:
        """The next records after one number, up to another, at most `MOST_TOLD`."""
        query = "SELECT n, record FROM record WHERE n > ? AND n <= ? ORDER BY n LIMIT ?"
        with closing(self._connection.execute(query, (after, until, MOST_TOLD))) as rows:
            return list(rows)

    def write(self, records: Sequence[tuple[int, bytes]], deletes: Sequence[int]) -> None:
        """Add `records`, then remove `deletes` and what is above the bound: all of it, or nothing."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            # Not row by row: each statement lets go of the interpreter, and a busy loop gives it back after 5 ms.
            self._connection.executemany("INSERT OR REPLACE INTO record VALUES (?, ?)", records)
            self._connection.executemany("DELETE FROM record WHERE n = ?", [(number,) for number in deletes])
            self._connection.execute(_REST, (self._max_records,))
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        if deletes:
            # Until then they stand in the write-ahead log.
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


class SqliteRecords(MemoryRecords):
    """See Records. Keeps about the newest `max_records` in the file at `path`; `dropped` counts what it does not."""

    def __init__(self, path: Path, max_records: int) -> None:
        super().__init__()
        self._path = path
        self._max_records = max_records
        self._file: RecordFile | None = None
        self._records: deque[tuple[int, bytes]] = deque()
        self._deletes: deque[int] = deque()
        self._using = asyncio.Lock()
        self._work: asyncio.Task[None] | None = None
        self._caught_up = asyncio.Event()
        self._begun_s = 0.0
        self.error: str | None = None
        """Why nothing can be written now; None when it can."""

    @property
    def deleting(self) -> int:
        """See Records."""
        return len(self._deletes)

    @property
    def lag_s(self) -> float:
        """See Records. While the file is read, for how long it has been."""
        if self._apply is None or self._caught_up.is_set():
            return 0.0
        return asyncio.get_running_loop().time() - self._begun_s

    async def start(self, apply: Apply, reset: Reset) -> None:
        """See Records."""
        self._begun_s = asyncio.get_running_loop().time()
        try:
            self._file = await asyncio.to_thread(RecordFile, self._path, self._max_records)
        except (OSError, sqlite3.Error) as fault:
            self._note(fault)
            self._caught_up.set()
        else:
            self._last = self._file.last
            self._is_telling = True
            self._work = spawn(self._run(apply, self._last), "log-file")
        await super().start(apply, reset)
        try:
            async with asyncio.timeout(START_S):
                await self._caught_up.wait()
        except TimeoutError:
            pass

    def append(self, record: bytes) -> None:
        """See Records."""
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        if self._file is not None and self._apply is not None and len(record) <= MOST_RECORD_BYTES:
            self._records.append((self._last + 1, record))
            self._bound()
        super().append(record)

    def delete(self, ids: Sequence[str]) -> None:
        """See Records. Without a file there is nothing to remove."""
        if self._file is None:
            return
        for number, _, rest in (each.partition("-") for each in ids):
            # No number is as long as 19 digits: SQLite has none that large.
            if rest == "0" and number.isascii() and number.isdigit() and len(number) < 19:
                self._deletes.append(int(number))
        if len(self._deletes) > MOST_DELETES:
            logger.error("%s cannot be written, and has to remove too much: some stays", self._path)
            while len(self._deletes) > MOST_DELETES:
                self._deletes.popleft()

    async def flush(self) -> bool:
        """Write what waits; whether all of it is in the file now. Does not fail."""
        async with self._using:
            file = self._file
            if file is None:
                return False
            records, deletes = list(self._records), list(self._deletes)
            self._records.clear()
            try:
                await finish(asyncio.to_thread(file.write, records, deletes))
            except (OSError, sqlite3.Error) as fault:
                self._records.extendleft(reversed(records))
                self._bound()
                self._note(fault)
                return False
            # By number, for above the bound the oldest of them go.
            done = set(deletes)
            self._deletes = deque(number for number in self._deletes if number not in done)
        if self.error is not None:
            logger.warning("the log %s is written again", self._path)
            self.error = None
        return True

    def _bound(self) -> None:
        while len(self._records) > MOST_WAITING:
            self._records.popleft()
            self.dropped += 1

    async def _run(self, apply: Apply, until: int) -> None:
        try:
            await self._tell_kept(apply, until)
        finally:
            self._is_telling = False
            self._caught_up.set()
        self._tell_waiting()
        while True:
            await asyncio.sleep(GATHER_S if self.error is None else _RETRY_S)
            if self._records or self._deletes:
                await self.flush()

    async def _tell_kept(self, apply: Apply, until: int) -> None:
        after = 0
        while self._file is not None:
            try:
                async with self._using:
                    rows = await finish(asyncio.to_thread(self._file.read, after, until))
            except (OSError, sqlite3.Error) as fault:
                self._note(fault)
                await self._let_go()
                return
            if not rows:
                return
            after = rows[-1][0]
            sound = [(f"{number}-0", record) for number, record in rows if isinstance(record, bytes)]
            if sound:
                apply(sound)

    def _note(self, fault: Exception) -> None:
        if self.error is None:
            logger.warning("the log %s cannot be used: %s; what is in it will not survive", self._path, fault)
        self.error = str(fault)

    async def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            await asyncio.to_thread(file.close)

    async def aclose(self) -> None:
        """See Records."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait((self._work,))
            self._work = None
        await super().aclose()
        if self._records or self._deletes:
            await self.flush()
        await self._let_go()
