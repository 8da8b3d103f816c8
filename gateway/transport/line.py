"""Those who wait for something scarce, first come first served."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class WaitingLine(Generic[T]):
    """A bounded queue of waiters; what is offered to one that was cancelled meanwhile is never lost.

    `give_back` gets an item whose waiter was cancelled in the very moment it was handed over.
    """

    __slots__ = ("_give_back", "_waiters", "limit")

    def __init__(self, limit: int, give_back: Callable[[T], None]) -> None:
        self.limit = limit
        self._give_back = give_back
        self._waiters: deque[asyncio.Future[T]] = deque()

    def __len__(self) -> int:
        """How many wait."""
        return sum(not waiter.done() for waiter in self._waiters) if self._waiters else 0

    @property
    def is_full(self) -> bool:
        """Whether nobody else should wait."""
        return len(self._waiters) >= self.limit and len(self) >= self.limit

    async def wait(self, until_s: float) -> T:
        """What `offer` brings. Raises TimeoutError at `until_s` (loop time)."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()
        self._waiters.append(waiter)
        timer = loop.call_at(until_s, _expire, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._give_back(waiter.result())
            raise
        finally:
            timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def offer(self, item: T) -> bool:
        """Hand `item` to the first in line; False when nobody waits."""
        waiters = self._waiters
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(item)
                return True
        return False

    def fail(self, error: BaseException) -> None:
        """Send all of them away with `error`."""
        waiters, self._waiters = self._waiters, deque()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)


def _expire(waiter: asyncio.Future[T]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
