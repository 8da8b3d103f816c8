"""Where a process stands in a stream of Redis that others append to, trim and may lose.

Theory of operation. The stream is read from its beginning, and then on, waiting half a second for a record, so
that a peer that died silently is noticed. Where a process stands means something only as long as the stream is the
same and nothing beyond that place has been trimmed. Two questions tell, and if either says no, everything is
forgotten and read anew from the beginning:

- With each new connection: is the record that was told last still there? It is not after FLUSHALL, after a restart
  without persistence, after a failover to a replica that had not got it, or when it was trimmed away.
- At least once a second, after a read and before what was read is told: is the oldest record that is left no newer than
  the one told last when this was asked before? If it is newer, all up to there is gone, and perhaps more than that:
  a server whose memory was emptied under a living connection, or a reader that was slower than the trimming.

Both also say no when exactly those records were deleted; then the reading anew was needless, and does no harm.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from gateway.store.connect import AnyConnection
from gateway.store.records import MOST_TOLD, Apply, Reset
from gateway.store.stream import (
    BEGIN,
    Extent,
    exchange,
    extent_of,
    place_of,
    raise_first,
    reason_of,
    records_of,
    text_of,
)

logger = logging.getLogger(__name__)

BLOCK_S = 0.5
"""How long a read waits for a record."""
CHECK_S = 0.5
"""How old the answer to the second question may be when a read begins."""
ANSWER_S = 1.0
"""How long the server may take besides; nobody waits for it."""


class StreamReader:
    """Tells the records of the stream `key` in their order; sets `caught_up` when all there are have been told.

    It is given one connection at a time, and closes none.
    """

    def __init__(self, key: str, apply: Apply, reset: Reset, caught_up: asyncio.Event) -> None:
        self._key = key
        self._apply = apply
        self._reset = reset
        self._caught_up = caught_up
        # The record told last, and the one that must still have a record at or before it.
        self._last, self._anchor = BEGIN, BEGIN
        self._is_caught_up = False
        self._check_at_s = 0.0
        self._going = asyncio.Event()
        self._going.set()
        self.lag_s = 0.0
        """By the server's clock, from the record told last to the newest that is known of."""

    def pause(self) -> None:
        """Tell nothing until `resume`."""
        self._going.clear()

    def resume(self) -> None:
        """Tell again."""
        self._going.set()

    async def find_place(self, connection: AnyConnection) -> None:
        """Ask a new connection whether its stream is still the one that was told. Raises RedisError, OSError."""
        last = text_of(self._last)
        async with asyncio.timeout(ANSWER_S):
            (found,) = await exchange(connection, [("XRANGE", self._key, last, last)])
        raise_first([found])
        if not found and self._last != BEGIN:
            self._forget()
        self._anchor = self._last
        self._is_caught_up = False
        self._check_at_s = 0.0

    async def read_on(self, connection: AnyConnection) -> str:
        """Read until that fails; why it did."""
        try:
            while True:
                await (self._read(connection) if self._going.is_set() else self._stand(connection))
                await asyncio.sleep(0)
        except (RedisError, OSError) as fault:
            return reason_of(fault)

    async def _read(self, connection: AnyConnection) -> None:
        words: list[str | bytes | int] = ["XREAD", "COUNT", MOST_TOLD]
        if self._is_caught_up:
            words += ["BLOCK", round(BLOCK_S * 1000)]
        words += ["STREAMS", self._key, text_of(self._last)]
        now_s = asyncio.get_running_loop().time()
        asks = not self._is_caught_up or now_s >= self._check_at_s
        async with asyncio.timeout(BLOCK_S + ANSWER_S):
            found, *about = await exchange(connection, [words, *[("XINFO", "STREAM", self._key)] * asks])
        raise_first([found])
        if not self._going.is_set():
            return
        extent = extent_of(about[0]) if about else None
        if extent is not None:
            if not self._stands_in(extent):
                self._forget()
                return
            self._check_at_s = now_s + CHECK_S
        entries = found[0][1] if found else []
        self._is_caught_up = len(entries) < MOST_TOLD
        if entries:
            self._tell(entries)
        else:
            # The next one may wait in vain as well, and is to ask then.
            self._check_at_s = 0.0
        if extent is not None:
            self._anchor = self._last
        self.lag_s = 0.0 if self._is_caught_up or extent is None else self._behind_s(extent)
        if self._is_caught_up:
            self._caught_up.set()

    async def _stand(self, connection: AnyConnection) -> None:
        """Paused: look how far behind that leaves this process."""
        async with asyncio.timeout(ANSWER_S):
            (about,) = await exchange(connection, [("XINFO", "STREAM", self._key)])
        self.lag_s = self._behind_s(extent_of(about))
        try:
            async with asyncio.timeout(CHECK_S):
                await self._going.wait()
        except TimeoutError:
            pass

    def _stands_in(self, extent: Extent) -> bool:
        if self._anchor == BEGIN:
            return True
        return self._last <= extent.generated and BEGIN < extent.first <= self._anchor

    def _behind_s(self, extent: Extent) -> float:
        # Nothing told yet: as far behind as the log is long.
        told = max(self._last, extent.first)
        return max(0, extent.last[0] - told[0]) / 1000

    def _tell(self, entries: Sequence[Any]) -> None:
        self._last = place_of(entries[-1][0])
        if self._anchor == BEGIN:
            self._anchor = place_of(entries[0][0])
        told = records_of(entries)
        if told:
            self._apply(told)

    def _forget(self) -> None:
        logger.info("the log %s is no longer what was told of it, and is told anew", self._key)
        self._last = self._anchor = BEGIN
        self._is_caught_up = False
        self._reset()
