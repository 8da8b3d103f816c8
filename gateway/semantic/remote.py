"""Embeddings from somewhere else: within a deadline, remembered, and not asked for while they fail.

As `embedder`, with a call in place of a thread. A call that is late goes on, and what it brings is there for the next
one who asks the same. After one that fails nothing is asked for a while: a model that is away costs requests nothing.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

import numpy
from numpy.typing import NDArray

from gateway.core.clock import Clock
from gateway.core.errors import GatewayError
from gateway.core.pipeline import spawn
from gateway.semantic.embedder import REMEMBERED, WAITING, Counts

Vector = NDArray[numpy.float32]
Call = Callable[[str], Awaitable[Sequence[float]]]
"""Text -> numbers. Raises GatewayError."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""How long nothing is asked after a failure: from, doubled by each further one, to."""


class RemoteEmbedder:
    """Vectors of texts for one event loop, from `call`."""

    __slots__ = ("_call", "_clock", "_deadline_s", "_known", "_pause_s", "_pending", "_rests_until_s", "counts")

    def __init__(self, call: Call, clock: Clock, deadline_s: float) -> None:
        self._call = call
        self._clock = clock
        self._deadline_s = deadline_s
        self._pending: dict[str, asyncio.Task[None]] = {}
        self._known: OrderedDict[str, Vector] = OrderedDict()
        self._pause_s = FIRST_PAUSE_S
        self._rests_until_s = 0.0
        self.counts = Counts()

    async def embed(self, text: str) -> Vector | None:
        """The unit vector of `text`, not to be changed; None when it is not there in time, or cannot be had."""
        known = self._known.get(text)
        if known is not None:
            self._known.move_to_end(text)
            self.counts.remembered += 1
            return known
        task = self._pending.get(text)
        if task is None:
            if len(self._pending) >= WAITING or self._clock.monotonic() < self._rests_until_s:
                self.counts.refused += 1
                return None
            task = self._pending[text] = spawn(self._ask(text), "embedding")
            task.add_done_callback(lambda _: self._pending.pop(text, None))
        # wait() leaves the call alone when time is up or the caller goes.
        done, _ = await asyncio.wait((task,), timeout=self._deadline_s)
        if not done:
            self.counts.late += 1
            return None
        return self._known.get(text)

    async def _ask(self, text: str) -> None:
        try:
            vector = _unit(await self._call(text))
        except (GatewayError, ValueError):
            self._fail()
            return
        vector.setflags(write=False)
        self.counts.computed += 1
        self._pause_s = FIRST_PAUSE_S
        self._known[text] = vector
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _fail(self) -> None:
        self.counts.failed += 1
        if self._clock.monotonic() < self._rests_until_s:
            # Asked before the pause began: many that fail together are one failure.
            return
        self._rests_until_s = self._clock.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def close(self) -> None:
        """End the calls under way."""
        for task in list(self._pending.values()):
            task.cancel()


def _unit(numbers: Sequence[float]) -> Vector:
    """The direction of `numbers`. Raises ValueError for what has none."""
    # Not in float32: whatever JSON can say must not overflow there.
    wide = numpy.asarray(numbers, numpy.float64)
    most = float(numpy.abs(wide).max(initial=0.0)) if wide.ndim == 1 else 0.0
    if not 0 < most < numpy.inf:
        raise ValueError("no vector")
    wide = wide / most
    vector: Vector = (wide / numpy.sqrt(numpy.vecdot(wide, wide))).astype(numpy.float32)
    return vector
