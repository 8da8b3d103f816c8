"""The store of one process: everything in memory, and what must outlive it in a file beside."""

import asyncio
import logging
from pathlib import Path
from typing import Any

from gateway.core.clock import Clock
from gateway.core.pipeline import spawn
from gateway.store.base import Figures, Journal, Leases, Ledger, OnCrossing
from gateway.store.memory_journal import MemoryJournal, MemoryLeases
from gateway.store.memory_ledger import MemoryLedger
from gateway.store.saving import Saver
from gateway.store.sqlite import StateFile, StateInUse

logger = logging.getLogger(__name__)

_BUSY_S = 1.0
_CLOSE_S = 5.0
_TEND_S = 1.0
_ROUNDS = 50


class MemoryStore:
    """See Store. Of one process: what another process takes is not seen here.

    `path` is the state file: spent budgets, grants, totals of spend, audit and overrides are read from it,
    and written within a few milliseconds of their change; None keeps nothing. If another process has the
    file, nothing is kept either, and `detail` and a warning say so. Windows, slots and names begin anew.
    `on_crossing` is called while a hold is settled, and must not raise. Raises StateUnusable.
    """

    def __init__(self, path: Path | None, clock: Clock, on_crossing: OnCrossing) -> None:
        self._clock = clock
        self._since_s = clock.wall()
        self._in_use = ""
        self._file = self._open(path)
        self._saver = Saver(self._file)
        saved = None if self._file is None else self._file.take_saved()
        self._ledger = MemoryLedger(self._file, saved, self._saver, clock, on_crossing)
        self.ledger: Ledger = self._ledger
        self.journal: Journal = MemoryJournal(saved, self._saver, clock)
        self.leases: Leases = MemoryLeases(clock)
        self._tending: asyncio.Task[None] | None = None

    def _open(self, path: Path | None) -> StateFile | None:
        if path is None:
            return None
        try:
            return StateFile(path, wall_s=self._since_s, busy_s=_BUSY_S)
        except StateInUse as fault:
            logger.warning("%s: budgets of this process are its own, and will not survive it", fault)
            self._in_use = str(fault)
            return None

    @property
    def is_shared(self) -> bool:
        """See Store. Never."""
        return False

    @property
    def is_up(self) -> bool:
        """See Store. Always."""
        return True

    @property
    def detail(self) -> dict[str, Any]:
        """See Store. `state`: `kept`, `not_kept` (in memory only), `failing` (the file cannot be written now)."""
        about: dict[str, Any] = {"kind": "memory", "since": self._since_s}
        if self._file is None:
            about["state"] = "not_kept"
            error = self._in_use
        else:
            about["file"] = str(self._file.path)
            error = self._file.error or ""
            about["state"] = "failing" if error else "kept"
        if error:
            about["error"] = error
        return about

    @property
    def figures(self) -> Figures:
        """See Store. Nothing is away from here."""
        return Figures()

    def now_s(self) -> float:
        """See Store."""
        return self._clock.wall()

    async def start(self) -> None:
        """See Store."""
        self._ledger.keep_alive()
        if self._file is not None:
            self._file.start()
        self._saver.start()
        self._tending = spawn(self._tend(), "memory-store")

    async def _tend(self) -> None:
        while True:
            self._ledger.tend(_ROUNDS)
            await asyncio.sleep(_TEND_S)

    async def aclose(self) -> None:
        """See Store. What is not written within 5 s is lost."""
        if self._tending is not None:
            self._tending.cancel()
            self._tending = None
        self._saver.stop()
        if self._file is not None:
            await asyncio.to_thread(self._file.close, _CLOSE_S)
