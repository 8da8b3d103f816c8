"""How far two long texts are apart, for whoever is in no hurry: beside the look-ups, and nothing is remembered.

Theory of operation. An answer has more words than a question, and a vector of all that the model sees takes some 35 ms,
longer than a look-up may wait. So these texts go by a thread of their own: in the embedder's they would stand before
clients' questions (with two who asked in turn, a fifth of these came too late, and every answer), and its memory would
keep them, in place of questions. What is too much or too late has no distance.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from gateway.semantic.embedder import Encodes
from gateway.semantic.index import cosine
from gateway.semantic.normalise import normalise

logger = logging.getLogger(__name__)

DEADLINE_S = 2.0
WAITING = 8
"""Pairs under way at once: what the thread gets done within the deadline, also on a slow machine."""
MOST_CHARACTERS = 16 * 1024
"""What is looked at of a text. The model sees 256 tokens of it, which seldom are a tenth of this."""


class Distances:
    """Cosine distances of texts, for one event loop."""

    __slots__ = ("_deadline_s", "_encoder", "_is_closed", "_pool", "_under_way", "_waiting")

    def __init__(self, encoder: Encodes, *, deadline_s: float = DEADLINE_S, waiting: int = WAITING) -> None:
        """`encoder` may be shared with other threads. Begins no thread until it is asked."""
        self._encoder = encoder
        self._deadline_s = deadline_s
        self._waiting = waiting
        self._under_way = 0
        self._is_closed = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="distances")

    async def between(self, one: str, other: str) -> float | None:
        """From 0 (the same) to 2; None when it is not there in time, cannot be computed, or too many are under way."""
        if self._is_closed or self._under_way >= self._waiting:
            return None
        self._under_way += 1
        pending = asyncio.get_running_loop().run_in_executor(self._pool, self._between, one, other)
        pending.add_done_callback(self._settle)
        try:
            await asyncio.wait((pending,), timeout=self._deadline_s)
        finally:
            # Out of the thread's queue, and its texts with it, where it is late or nobody wants it any more.
            pending.cancel()
        return None if pending.cancelled() or pending.exception() is not None else pending.result()

    def _between(self, one: str, other: str) -> float:
        texts = [normalise(text[:MOST_CHARACTERS]) for text in (one, other)]
        if texts[0] == texts[1]:
            return 0.0
        first, second = (self._encoder.encode(text) for text in texts)
        return max(0.0, 1.0 - cosine(first, second))

    def _settle(self, pending: "asyncio.Future[float]") -> None:
        self._under_way -= 1
        if not pending.cancelled() and (error := pending.exception()) is not None:
            # Not the error itself: its message may hold what was embedded.
            logger.error("a distance could not be computed: %s", type(error).__name__)

    def close(self) -> None:
        """Drop what waits and end the thread once its pair is done; does not block. Who asks afterwards gets None."""
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
