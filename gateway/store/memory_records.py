"""The log of one process: each record is told at once, and none is kept."""

from collections import deque
from collections.abc import Sequence

from gateway.store.records import MOST_RECORD_BYTES, MOST_TOLD, Apply, Reset, Told


class MemoryRecords:
    """See Records. `append` tells the record before it returns, unless it was called by `apply`."""

    def __init__(self) -> None:
        self._apply: Apply | None = None
        self._last = 0
        self._waiting: deque[Told] = deque()
        # While somebody tells, what is appended waits its turn: by `apply` itself, or while older records are read.
        self._is_telling = False
        self.dropped = 0
        """See Records."""

    @property
    def is_live(self) -> bool:
        """See Records. From the start to the end."""
        return self._apply is not None

    @property
    def deleting(self) -> int:
        """See Records."""
        return 0

    @property
    def lag_s(self) -> float:
        """See Records."""
        return 0.0

    async def start(self, apply: Apply, reset: Reset) -> None:
        """See Records. There is nothing to tell."""
        self._apply = apply

    def append(self, record: bytes) -> None:
        """See Records."""
        if self._apply is None or len(record) > MOST_RECORD_BYTES:
            self.dropped += 1
            return
        self._last += 1
        self._waiting.append((f"{self._last}-0", record))
        if not self._is_telling:
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        self._is_telling = True
        try:
            while self._waiting and self._apply is not None:
                self._apply([self._waiting.popleft() for _ in range(min(MOST_TOLD, len(self._waiting)))])
        finally:
            self._is_telling = False

    def delete(self, ids: Sequence[str]) -> None:
        """See Records. Nothing is kept."""

    async def aclose(self) -> None:
        """See Records."""
        self._apply = None
        self._waiting.clear()
