"""Embeddings beside the event loop: in a thread, within a deadline, and remembered.

Theory of operation. The loop hands a text to the thread and waits for its vector, at most as long as the deadline: a
look-up that comes late is worth less than the call it should save, so it counts as a miss. The computation goes on and
its result is remembered, so the same question finds it the next time. Several callers with the same text wait for one
computation. Texts are computed one after the other: on one thread a batch takes as long as its texts (1.4 ms each at
twelve tokens), and the first would wait for the last. Tokenising happens in the thread too; onnxruntime computes
without holding the interpreter.
"""

import asyncio
import logging
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.semantic.model import DEFAULT_FOLDER, Vector, load

logger = logging.getLogger(__name__)

DEADLINE_S = 0.025
WAITING = 32
"""Texts under way at once. More could not be computed within any deadline worth waiting for."""
REMEMBERED = 2048
"""Vectors kept, the longest unused out first: about 3 MB."""


class Encodes(Protocol):
    """What computes vectors; `model.Encoder`, or a fake in tests. May block, may be called from several threads."""

    def encode(self, text: str) -> Vector:
        """The vector of `text`, of length 1."""
        ...


@dataclass(slots=True)
class Counts:
    """What has become of the texts so far."""

    computed: int = 0
    remembered: int = 0
    """Answered without computing."""
    late: int = 0
    """Not ready within the deadline."""
    refused: int = 0
    """Too many under way."""
    failed: int = 0


class Embedder:
    """Vectors of texts for one event loop."""

    __slots__ = ("_deadline_s", "_encoder", "_known", "_pending", "_pool", "_remembered", "_waiting", "counts")

    def __init__(
        self,
        encoder: Encodes,
        *,
        threads: int = 1,
        deadline_s: float = DEADLINE_S,
        waiting: int = WAITING,
        remembered: int = REMEMBERED,
    ) -> None:
        self._encoder = encoder
        self._deadline_s = deadline_s
        self._waiting = waiting
        self._remembered = remembered
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="embedder")
        self._pending: dict[str, asyncio.Future[Vector]] = {}
        self._known: OrderedDict[str, Vector] = OrderedDict()
        self.counts = Counts()

    @classmethod
    def open(cls, folder: Path = DEFAULT_FOLDER, *, threads: int = 1, deadline_s: float = DEADLINE_S) -> "Embedder":
        """With the model installed in `folder`. Blocks for about 0.2 s. Raises ModelError where there is none."""
        return cls(load(folder), threads=threads, deadline_s=deadline_s)

    async def embed(self, text: str) -> Vector | None:
        """The unit vector of `text`, not to be changed; None when it is not there in time, or cannot be computed."""
        known = self._known.get(text)
        if known is not None:
            self._known.move_to_end(text)
            self.counts.remembered += 1
            return known
        pending = self._pending.get(text)
        if pending is None:
            if len(self._pending) >= self._waiting:
                self.counts.refused += 1
                return None
            pending = asyncio.get_running_loop().run_in_executor(self._pool, self._encoder.encode, text)
            self._pending[text] = pending
            pending.add_done_callback(lambda future: self._settle(text, future))
        # wait() leaves the computation alone when time is up or the caller goes: others may wait for it too.
        done, _ = await asyncio.wait((pending,), timeout=self._deadline_s)
        if not done:
            self.counts.late += 1
            return None
        return self._known.get(text)

    def _settle(self, text: str, future: "asyncio.Future[Vector]") -> None:
        del self._pending[text]
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self.counts.failed += 1
            # Not the error itself: its message may hold what was embedded.
            logger.error("an embedding could not be computed: %s", type(error).__name__)
            return
        vector = future.result()
        vector.setflags(write=False)
        self.counts.computed += 1
        self._known[text] = vector
        if len(self._known) > self._remembered:
            self._known.popitem(last=False)

    def close(self) -> None:
        """Drop what waits and end the thread once its text is done; does not block. Embed nothing afterwards."""
        self._pool.shutdown(wait=False, cancel_futures=True)
