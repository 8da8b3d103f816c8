"""Stored replies of one process that survive it: memory, and a file beside it that is read at the start.

Theory of operation. Every look-up is answered from memory; the file only follows. Changes are gathered,
the last one of each key counts, and a thread writes them in one transaction, at most a few times a
second. What was not written yet is lost with the process, and is a miss then; a purge alone waits until
it is in the file, for what was purged must not come back with a restart. A file that cannot be written,
or that another process has, is a warning: the cache goes on in memory.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from gateway.core.clock import Clock
from gateway.core.errors import StoreUnavailable
from gateway.core.pipeline import finish, spawn
from gateway.store.blobs import Entry, Receipt
from gateway.store.memory_blobs import MemoryBlobs
from gateway.store.owned_file import OwnedFile

logger = logging.getLogger(__name__)

GATHER_S = 0.25
"""How long changes are gathered before they are written."""
_RETRY_S = 30.0
# "gw", and the number of this format.
_APPLICATION = 0x6777_0101
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode

Change = tuple[bytes, bytes | None, float]
"""A key, its packed entry (None: it is gone), and until when it is of use."""


class BlobFile:
    """The file at `path`, for one process. Its methods block; raise OSError and sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        self._file = OwnedFile(path, _APPLICATION, "cache")
        self._connection = self._file.connection
        try:
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS entry (key BLOB PRIMARY KEY, packed BLOB, until_s REAL) WITHOUT ROWID"
            )
        except BaseException:
            self._file.close()
            raise

    def load(self, wall_s: float) -> list[tuple[bytes, Entry]]:
        """What is in it and still of use, the oldest first. The rest, and what cannot be read, is forgotten."""
        self._connection.execute("DELETE FROM entry WHERE until_s <= ?", (wall_s,))
        found = []
        with closing(self._connection.execute("SELECT key, packed FROM entry")) as rows:
            for key, packed in rows:
                try:
                    found.append((key, _decode(packed)))
                except msgspec.MsgspecError:
                    continue
        return sorted(found, key=lambda item: item[1].stored_s)

    def write(self, changes: Sequence[Change], *, is_whole: bool) -> None:
        """Write all changes, or none. `is_whole`: in place of everything."""
        gone = [(key,) for key, packed, _ in changes if packed is None]
        kept = [change for change in changes if change[1] is not None]
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            if is_whole:
                self._connection.execute("DELETE FROM entry")
            # Not row by row: each statement lets go of the interpreter, and a busy loop gives it back after 5 ms.
            self._connection.executemany("DELETE FROM entry WHERE key = ?", gone)
            self._connection.executemany("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", kept)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


class SqliteBlobs(MemoryBlobs):
    """See Blobs, and MemoryBlobs, of which it is one that remembers. `start` it before use."""

    def __init__(self, path: Path, max_bytes: int, clock: Clock) -> None:
        super().__init__(max_bytes, clock)
        self._path = path
        self._clock = clock
        self._file: BlobFile | None = None
        self._pending: dict[bytes, Entry | None] = {}
        # Whether `_pending` is all that the file lacks. After a failed write it is not kept up any more (it would grow
        # for as long as the disk is full): the next write that succeeds writes everything.
        self._follows = False
        self._writing = asyncio.Lock()
        self._work: asyncio.Task[None] | None = None
        self.error: str | None = None
        """Why nothing can be written now; None when it can."""

    async def start(self) -> None:
        """Read the file, and follow with it from now on. Does not fail."""
        try:
            self._file, saved = await asyncio.to_thread(self._read)
        except (OSError, sqlite3.Error) as fault:
            self._note(fault)
            return
        for key, entry in saved:
            # No epoch outlives its process: what was purged is not in the file.
            self.keep(key, msgspec.structs.replace(entry, epochs=(0,) * len(entry.scopes)))
        self._follows = True
        self._work = spawn(self._follow(), "cache-file")

    def _read(self) -> tuple[BlobFile, list[tuple[bytes, Entry]]]:
        file = BlobFile(self._path)
        try:
            return file, file.load(self._clock.wall())
        except BaseException:
            file.close()
            raise

    def keep(self, key: bytes, entry: Entry) -> bool:
        """See MemoryBlobs."""
        is_kept = super().keep(key, entry)
        if is_kept and self._follows:
            self._pending[key] = entry
        return is_kept

    def remove(self, key: bytes) -> None:
        """See MemoryBlobs."""
        super().remove(key)
        if self._follows:
            self._pending[key] = None

    async def purge(self, scope: str) -> Receipt:
        """See Purging. The file is without them too when this returns; StoreUnavailable: here alone they are gone."""
        receipt = await super().purge(scope)
        if self._file is not None and not await self.flush():
            raise StoreUnavailable(
                f"Purged in memory alone: the cache's file cannot be written ({self.error}). Ask again."
            )
        return receipt

    async def flush(self) -> bool:
        """Write what has changed; whether all of it is in the file now. Does not fail."""
        async with self._writing:
            file = self._file
            if file is None:
                return False
            changes = self._pending if self._follows else dict(self._entries)
            is_whole = not self._follows
            self._pending = {}
            self._follows = True
            try:
                await finish(asyncio.to_thread(_write, file, changes, is_whole))
            except (OSError, sqlite3.Error) as fault:
                self._follows = False
                self._pending = {}
                self._note(fault)
                return False
        if self.error is not None:
            logger.warning("the cache's file %s is written again", self._path)
            self.error = None
        return True

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(GATHER_S if self._follows else _RETRY_S)
            if self._pending or not self._follows:
                await self.flush()

    def _note(self, fault: Exception) -> None:
        if self.error is None:
            logger.warning("the cache's file %s cannot be used: %s; what is cached will not survive", self._path, fault)
        self.error = str(fault)

    async def aclose(self) -> None:
        """Write what has changed, and let go of the file."""
        if self._work is not None:
            self._work.cancel()
            self._work = None
        await self.flush()
        file, self._file = self._file, None
        if file is not None:
            await asyncio.to_thread(file.close)


def _write(file: BlobFile, changes: Mapping[bytes, Entry | None], is_whole: bool) -> None:
    packed = [
        (key, None, 0.0) if entry is None else (key, _encode(entry), entry.stored_s + entry.ttl_s)
        for key, entry in changes.items()
    ]
    file.write(packed, is_whole=is_whole)
