"""What is kept free for high priority, and what that does for it."""

import asyncio
import heapq
import random
from collections.abc import Callable

import pytest

from gateway.core.errors import TargetBusy
from gateway.core.exchange import Priority
from gateway.policies.bulkhead import Bulkhead, BulkheadSettings
from gateway.policies.reserve import Reserve
from tests.fakes import FakeClock, exchange
from tests.unit.policies.scripted import Scripted


def test_nothing_is_kept_until_high_found_none() -> None:
    reserve = Reserve(48, FakeClock())
    for _ in range(100):
        reserve.note(found=True)
    assert reserve.kept == 0
    reserve.note(found=False)
    assert reserve.kept == 1


@pytest.mark.parametrize(
    ("slots", "kept"), [(1, 0), (2, 0), (4, 0), (5, 1), (9, 1), (19, 1), (20, 2), (48, 4), (200, 20)]
)
def test_a_tenth_at_most_is_kept(slots: int, kept: int) -> None:
    reserve = Reserve(slots, FakeClock())
    for _ in range(300):
        reserve.note(found=False)
    assert reserve.kept == kept


def test_what_is_kept_shrinks_while_high_finds_slots() -> None:
    reserve = Reserve(48, FakeClock())
    reserve.note(found=False)
    seen = []
    for _ in range(22):
        seen.append(reserve.kept)
        reserve.note(found=True)
    assert seen[:20] == [1] * 20 and reserve.kept == 0


def test_it_settles_where_one_in_twenty_finds_none() -> None:
    """Whoever comes needs so many free slots, at random; none is kept that seldom helps."""
    rng = random.Random(7)
    reserve = Reserve(200, FakeClock())
    missed = 0
    for turn in range(20_000):
        found = reserve.kept >= rng.expovariate(1 / 3)
        reserve.note(found)
        missed += not found and turn > 1000
    assert 0.04 < missed / 19_000 < 0.06


def test_nothing_is_kept_five_seconds_after_the_last_that_needed_it() -> None:
    clock = FakeClock()
    reserve = Reserve(48, clock)
    reserve.note(found=False)
    clock.advance(4.0)
    reserve.note(found=True)
    clock.advance(4.75)
    assert (reserve.left_s, reserve.is_over(), reserve.kept) == (0.25, False, 1)
    clock.advance(0.25)
    assert (reserve.is_over(), reserve.kept) == (True, 0)
    assert not reserve.is_over(), "that was said already"
    reserve.note(found=True)
    assert reserve.kept == 0, "it begins anew"


class Events:
    """Things that happen at their times on a clock that stands still otherwise."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when_s: float, what: Callable[[], None]) -> None:
        """Have something happen."""
        self._count += 1
        heapq.heappush(self._due, (when_s, self._count, what))

    async def run(self, until_s: float) -> None:
        """Let everything happen, and whoever it concerns come to rest in between."""
        while self._due and self._due[0][0] <= until_s:
            when_s, _, what = heapq.heappop(self._due)
            self._clock.advance(when_s - self._clock.monotonic())
            what()
            for _ in range(3):
                await asyncio.sleep(0)


async def _overloaded(latency_s: Callable[[], float], rng: random.Random) -> tuple[float, float]:
    """Use of the slots, and the p99 of the wait of high, at twice the capacity of 48 slots of 50 ms for 5 s."""
    clock = FakeClock(0.0)
    events = Events(clock)
    bulkhead = Bulkhead(BulkheadSettings(48, 50, 60.0), "a", clock)
    waits: list[float] = []
    busy_s = 0.0

    async def ask(priority: Priority) -> None:
        nonlocal busy_s
        came_s = clock.monotonic()
        try:
            async with bulkhead(exchange(priority=priority), Scripted()):
                began_s = clock.monotonic()
                if priority == "high":
                    waits.append(began_s - came_s)
                over = asyncio.Event()
                events.at(began_s + latency_s(), over.set)
                await over.wait()
                busy_s += clock.monotonic() - began_s
        except TargetBusy:
            assert priority == "normal"

    tasks: list[asyncio.Task[None]] = []

    def come() -> None:
        priority: Priority = "high" if rng.random() < 0.1 else "normal"
        tasks.append(asyncio.ensure_future(ask(priority)))
        events.at(clock.monotonic() + rng.expovariate(2 * 48 / 0.05), come)

    events.at(0.0, come)
    await events.run(5.0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return busy_s / 5.0 / 48, sorted(waits)[int(len(waits) * 0.99)]


@pytest.mark.anyio
@pytest.mark.parametrize("spread_s", [0.0, 0.02, 0.045], ids=["equal", "unequal", "wild"])
async def test_high_hardly_waits_at_twice_the_capacity_and_little_capacity_is_lost(spread_s: float) -> None:
    """Without slots that are kept, the p99 of its wait is half a reply's time when all take 50 ms."""
    rng = random.Random(7)
    used, wait_s = await _overloaded(lambda: rng.uniform(0.05 - spread_s, 0.05 + spread_s), rng)
    assert used > 0.93
    assert wait_s < 0.006
