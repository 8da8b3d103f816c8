"""A bounded log of opaque records that processes share, and that each of them is told in one order.

Whoever folds what it is told comes to the same state as every other process, and comes to it again after a
restart. That needs no more of a log than its order: it may lose its oldest records, or all of them, and then the
folding begins anew with what is left. What is appended while the store is away is lost, and never comes late.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

MOST_TOLD = 32
"""Records told at once. Reading 64 of 4 KiB from Redis takes 1 ms of the loop; 256 took 4 ms, and were not faster."""
MOST_RECORD_BYTES = 64 * 1024
"""A larger record is dropped."""
START_S = 1.0
"""How long a start waits for what is kept to be told; the rest is told in the background."""

Told = tuple[str, bytes]
"""A record's id and the record. Ids are opaque; they are what `delete` takes."""
Apply = Callable[[Sequence[Told]], None]
"""Is told the next records of the log, at most `MOST_TOLD`. Must not raise; may append."""
Reset = Callable[[], None]
"""Forgets all that was told: what follows is the log from its beginning. Must not raise."""


class Records(Protocol):
    """The log. Each process is told of every record once, in one order, its own included; after a reset, anew."""

    @property
    def is_live(self) -> bool:
        """Whether what is appended now gets into the log, as far as is known."""
        ...

    @property
    def dropped(self) -> int:
        """Records that were appended here and did not get into the log, or may not have."""
        ...

    @property
    def deleting(self) -> int:
        """Records that `delete` was asked to remove, and that are not known to be removed yet."""
        ...

    @property
    def lag_s(self) -> float:
        """How far this process is behind the log's end, in seconds; 0 when it has been told everything."""
        ...

    async def start(self, apply: Apply, reset: Reset) -> None:
        """Tell what is kept, and from then on what comes. Does not fail; once for each log.

        Returns when what is kept has been told, or the store is away, or after `START_S`. `apply` and `reset` may
        be called before it returns.
        """
        ...

    def append(self, record: bytes) -> None:
        """Add a record, if the store takes it now; it is told when the log has it. Never fails or waits."""
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Remove records from the log for good. Nobody is told. Never fails or waits: the store is asked until it does.

        What is no id, or is gone already, is passed over.
        """
        ...

    async def aclose(self) -> None:
        """Write what waits, within a bounded time, and tell nothing more. What is appended later is dropped."""
        ...
