"""From counters that change all the time to rows of the state file, now and then."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

from gateway.store.sqlite import StateFile
from gateway.store.tables import Row

GATHER_S = 0.005
"""How long changes are gathered before they are handed to the file's thread."""
FLUSH_S = 2.0
"""How long a change that an operator made may take to be in the file, before it is left to come there by itself."""


class Savable(Protocol):
    """Something that has a row in the state file."""

    is_touched: bool
    """Whether its row is already on the list of those to be written."""

    def row(self) -> Row:
        """Its values now."""
        ...


class Saver:
    """Hands changed things over to `file`, each once however often it changed; to nobody where that is None."""

    def __init__(self, file: StateFile | None) -> None:
        self._file = file
        self._touched: list[Savable] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Hand over from now on, by the running loop; what was touched earlier too."""
        self._loop = asyncio.get_running_loop()
        self._hand_over()

    def touch(self, thing: Savable) -> None:
        """Have the row of `thing` written soon. To be called when it is not touched already."""
        # Without a file it stays so, and is never touched again.
        thing.is_touched = True
        if self._file is None:
            return
        self._touched.append(thing)
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(GATHER_S, self._hand_over)

    async def save(self, rows: Iterable[Row]) -> None:
        """Write these rows, and return when they are in the file, or when that failed or takes too long."""
        if self._file is not None:
            self._file.write(rows)
            await asyncio.to_thread(self._file.flush, FLUSH_S)

    def stop(self) -> None:
        """Hand over what is left, for the last time."""
        self._loop = None
        self._hand_over()

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        touched, self._touched = self._touched, []
        for thing in touched:
            thing.is_touched = False
        if touched and self._file is not None:
            self._file.write([thing.row() for thing in touched])
