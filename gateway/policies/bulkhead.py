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
from gateway.policies.reserve import Reserve

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

    While high priority is about, some slots are kept free for it (`Reserve`), and the others make do
    with the rest: nobody waits for a slot that is free and that they may have.
    """

    def __init__(self, settings: BulkheadSettings, target: str, clock: Clock) -> None:
        self._settings = settings
        self.target = target
        self._clock = clock
        self._queues: tuple[deque[_Place], ...] = (deque(), deque(), deque())
        self.inflight = 0
        self.waiting = 0
        self.max_inflight = settings.max_inflight
        self.shared = settings.max_inflight
        """Slots that are for everybody; those above are kept for high priority."""
        self._reserve = Reserve(settings.max_inflight, clock)
        self._look: asyncio.TimerHandle | None = None

    def __call__(self, exchange: Exchange, call_next: Handler) -> AbstractAsyncContextManager[Reply]:
        """The reply of `call_next`, in a slot. Raises TargetBusy, or DeadlineExceeded for the client's own limit."""
        return _Scope(self, exchange, call_next)

    def claim(self, priority: Priority) -> bool:
        """Take a slot, if there is one for `priority` although those for everybody are taken; whether there was."""
        if priority == "high":
            has_room = self.inflight < self.max_inflight
            self._reserve.note(has_room)
            self.shared = self.max_inflight - self._reserve.kept
        else:
            self._expire()
            has_room = self.inflight < self.shared
        if has_room:
            self.inflight += 1
        return has_room

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
        self._watch_reserve()
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
        """Give a slot back; the first that waits and may have it gets it."""
        self.inflight -= 1
        if self.waiting:
            self._hand_out()

    def look_again(self) -> None:
        """Give what need not be kept any more to those who wait for it; called by a timer while somebody does."""
        self._look = None
        self._expire()
        self._watch_reserve()

    def _hand_out(self) -> None:
        """Leave no slot free that one of those who wait may have."""
        for rank, queue in enumerate(self._queues):
            bound = self.shared if rank else self.max_inflight
            while queue and self.inflight < bound:
                place = queue.popleft()
                self.waiting -= 1
                if not place.done():
                    self.inflight += 1
                    place.set_result(True)
        self._watch_reserve()

    def _expire(self) -> None:
        """Keep nothing any more once nobody has needed it for long."""
        if self._reserve.is_over():
            self.shared = self.max_inflight
            self._hand_out()

    def _watch_reserve(self) -> None:
        """While somebody waits for a slot that is kept, look again when it need not be kept any more."""
        if self._look is None and self.waiting and self.shared <= self.inflight < self.max_inflight:
            left_s = max(self._reserve.left_s, _TIMER_SLACK_S)
            self._look = asyncio.get_running_loop().call_later(left_s, self.look_again)

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
        kept = self._reserve.kept
        besides = f", {kept} kept for high priority," if kept and exchange.priority != "high" else ""
        exchange.decide("bulkhead", f"{self.target}: {self.inflight} in flight{besides} {why}")
        return TargetBusy(
            f"Target {self.target} has as many requests in flight as it may have (max_inflight "
            f"{self.max_inflight}{besides.rstrip(',')}), {why}.",
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
        if bulkhead.inflight < bulkhead.shared:
            bulkhead.inflight += 1
        elif not bulkhead.claim(self._exchange.priority):
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
