"""Time as everything here reads it, so that tests can hold it still."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one that never steps, for durations, and one that people read."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
