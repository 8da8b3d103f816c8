"""A bound on the requests at one target, so that a slow one fills its own room and no other (F48)."""

import asyncio
from collections import deque
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType

from gateway.core.clock import Clock
from gateway.core.errors import DeadlineExceeded, TargetBusy
from gateway.core.exchange import Exchange, Priority, Reply
from gateway.core.pipeline import Handler

_RETRY_AFTER_S = 1.0
# uvloop's clock counts milliseconds: a timer may fire that much early.
_TIMER_SLACK_S = 0.005
_RANKS: dict[Priority, int] = {"high": 0, "normal": 1, "low": 2}

_Place = asyncio.Future[bool]
"""A place in the queue. Its result: whether it became a slot; False when the wait was given up."""


@dataclass(frozen=True, slots=True)
class BulkheadSettings:
    """How many requests are at a target at once, and how many wait for how long."""

    max_inflight: int
    queue_size: int
    wait_s: float


class Bulkhead:
    """Lets `max_inflight` requests through at once; more wait in a bounded queue, then TargetBusy.

    Above the yield a slot is taken, below it given to the first in the queue: those of high priority
    first, in order of arrival among equals. When the queue is full a newcomer of higher priority takes
    the place of the last one of the lowest. A slot that was given to a request which is cancelled in
    the same moment goes on to the next (F6, F7).
    """

    def __init__(self, settings: BulkheadSettings, target: str, clock: Clock) -> None:
        self._settings = settings
        self.target = target
        self._clock = clock
        self._queues: tuple[deque[_Place], ...] = (deque(), deque(), deque())
        self.inflight = 0
        self.waiting = 0
        self.max_inflight = settings.max_inflight

    def __call__(self, exchange: Exchange, call_next: Handler) -> AbstractAsyncContextManager[Reply]:
        """The reply of `call_next`, in a slot. Raises TargetBusy, or DeadlineExceeded for the client's own limit."""
        return _Scope(self, exchange, call_next)

    async def wait(self, exchange: Exchange) -> None:
        """Take a slot that another request gives back. Raises TargetBusy and DeadlineExceeded."""
        rank = _RANKS[exchange.priority]
        if self.waiting >= self._settings.queue_size and not self._displace(rank):
            raise self._busy(exchange, "and its queue is full")
        loop = asyncio.get_running_loop()
        place: _Place = loop.create_future()
        queue = self._queues[rank]
        queue.append(place)
        self.waiting += 1
        timer = loop.call_later(self._wait_s(exchange), self._give_up, place, queue)
        try:
            is_slot = await place
        except asyncio.CancelledError:
            if not place.cancelled():
                # The slot came, or the refusal, in the same turn of the loop as the cancellation.
                if place.result():
                    self.release()
            else:
                self._forget(place, queue)
            raise
        finally:
            timer.cancel()
        if is_slot:
            return
        deadline_s = exchange.client_deadline_s
        if deadline_s is not None and self._clock.monotonic() >= deadline_s - _TIMER_SLACK_S:
            raise DeadlineExceeded("The time allowed by x-gateway-timeout is over.")
        raise self._busy(exchange, "and no place became free in time")

    def release(self) -> None:
        """Give a slot back, or on to the first that waits."""
        if self.waiting:
            for queue in self._queues:
                while queue:
                    place = queue.popleft()
                    self.waiting -= 1
                    if not place.done():
                        place.set_result(True)
                        return
        self.inflight -= 1

    def _displace(self, rank: int) -> bool:
        """Send away the last one of the lowest priority, if that is lower than `rank`."""
        for lower in (2, 1):
            queue = self._queues[lower]
            if lower > rank and queue:
                self._give_up(queue[-1], queue)
                return True
        return False

    def _give_up(self, place: _Place, queue: deque[_Place]) -> None:
        self._forget(place, queue)
        if not place.done():
            place.set_result(False)

    def _forget(self, place: _Place, queue: deque[_Place]) -> None:
        if place in queue:
            queue.remove(place)
            self.waiting -= 1

    def _wait_s(self, exchange: Exchange) -> float:
        wait_s = self._settings.wait_s
        if exchange.client_deadline_s is None:
            return wait_s
        return min(wait_s, max(exchange.client_deadline_s - self._clock.monotonic(), 0.0))

    def _busy(self, exchange: Exchange, why: str) -> TargetBusy:
        exchange.target = self.target
        exchange.decide("bulkhead", f"{self.target}: {self.inflight} in flight {why}")
        return TargetBusy(
            f"Target {self.target} has as many requests in flight as it may have (max_inflight "
            f"{self._settings.max_inflight}), {why}.",
            retry_after_s=_RETRY_AFTER_S,
        )


class _Scope:
    """Written by hand, as every request passes it: 0.5 µs when there is room."""

    __slots__ = ("_bulkhead", "_call_next", "_exchange", "_inner")

    def __init__(self, bulkhead: Bulkhead, exchange: Exchange, call_next: Handler) -> None:
        self._bulkhead = bulkhead
        self._exchange = exchange
        self._call_next = call_next

    async def __aenter__(self) -> Reply:
        bulkhead = self._bulkhead
        if bulkhead.inflight < bulkhead.max_inflight:
            bulkhead.inflight += 1
        else:
            await bulkhead.wait(self._exchange)
        try:
            inner = self._inner = self._call_next(self._exchange)
            return await inner.__aenter__()
        except BaseException:
            bulkhead.release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._inner.__aexit__(kind, error, traceback)
        finally:
            self._bulkhead.release()
