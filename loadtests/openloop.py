"""Open-loop load: requests leave at their times whether or not earlier ones were answered.

A closed loop waits for a slow answer and so sends less just when the server is slow ("coordinated
omission"); here latency counts from the time at which a request *should* have left.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from loadtests.client import Answer, Fleet
from loadtests.figures import percentile


@dataclass(slots=True)
class Arrivals:
    """What became of the requests of one run."""

    sent: int = 0
    latencies_s: list[float] = field(default_factory=list)
    """Of whole answers with status 200, in ascending order when the run is over."""
    faults: Counter[str] = field(default_factory=Counter)
    """Every other end, by its reason."""
    revisions: set[str] = field(default_factory=set)
    late_s: float = 0.0
    """The longest time by which the driver itself was late."""

    def quantile_ms(self, share: float) -> float:
        """Latency in ms below which `share` of the answers came."""
        return percentile(self.latencies_s, share) * 1e3

    def note(self, answer: Answer, intended_s: float) -> None:
        """Count one answer."""
        if answer.ok:
            self.latencies_s.append(answer.ended_s - intended_s)
            self.revisions.add(answer.revision)
        else:
            self.faults[answer.fault or f"status {answer.status}"] += 1


Watcher = Callable[[Answer, float], None]


class OpenLoop:
    """Sends one request again and again, at random (Poisson) times of a given mean rate."""

    def __init__(
        self, fleet: Fleet, request: bytes, rate: float, rng: random.Random, watch: Watcher | None = None
    ) -> None:
        """`watch` gets each answer, and the monotonic time at which its request should have left."""
        self._watch = watch
        self._fleet = fleet
        self._request = request
        self._rate = rate
        self._rng = rng
        self._arrivals = Arrivals()
        self._open = 0
        self._next_s = 0.0
        self._end_s = 0.0
        self._drained = asyncio.Event()

    async def run(self, length_s: float, patience_s: float = 10.0) -> Arrivals:
        """Send for `length_s` seconds, then wait up to `patience_s` for the last answers."""
        self._next_s = time.monotonic()
        self._end_s = self._next_s + length_s
        self._turn()
        try:
            async with asyncio.timeout(length_s + patience_s):
                await self._drained.wait()
        except TimeoutError:
            self._arrivals.faults["no answer in time"] += self._open
        self._arrivals.latencies_s.sort()
        return self._arrivals

    def _turn(self) -> None:
        now = time.monotonic()
        while self._next_s <= now and self._next_s < self._end_s:
            self._send(self._next_s, now)
            self._next_s += self._rng.expovariate(self._rate)
        if self._next_s < self._end_s:
            self._again(now)
        elif self._open == 0:
            self._drained.set()

    def _again(self, now: float) -> None:
        loop = asyncio.get_running_loop()
        # The loop's timers have a grain of 1 ms, more than what is measured: for short waits it spins.
        if self._next_s - now > 0.003:
            loop.call_later(self._next_s - now - 0.002, self._turn)
        else:
            loop.call_soon(self._turn)

    def _send(self, intended_s: float, now: float) -> None:
        arrivals = self._arrivals
        arrivals.sent += 1
        arrivals.late_s = max(arrivals.late_s, now - intended_s)
        self._open += 1

        def over(answer: Answer) -> None:
            self._open -= 1
            arrivals.note(answer, intended_s)
            if self._watch is not None:
                self._watch(answer, intended_s)
            if self._open == 0 and self._next_s >= self._end_s:
                self._drained.set()

        self._fleet.send(self._request, over)
