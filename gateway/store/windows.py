"""A sliding window: how much of a limit any stretch of time has used.

Theory of operation. Time is cut into sub-windows of a hundredth of the period, numbered from the
clock's start. A unit counts from the moment it is taken until its sub-window, in full, lies further
back than the period: the current sub-window, and the hundred before it. So no stretch of one period
ever holds more than the limit, and a unit is kept at most 1 % longer than it had to be.

Everything is an integer: microseconds and units. Only sub-windows in which something was asked are
kept, so a window that is asked now and then is small, and one that is asked all the time has 101.
Nothing here reads a clock.
"""

from math import ceil, inf

SUB_WINDOWS = 100
"""Sub-windows in one period; the oldest that counts is one more."""

US_PER_S = 1_000_000


class Window:
    """Units taken in the last `period_s` seconds. Times are microseconds of one clock, and never go back."""

    __slots__ = ("_empty_us", "_newest", "_turn_us", "_units", "used", "width_us")

    def __init__(self, period_s: float) -> None:
        assert period_s > 0
        # Rounded up: a hundred of them are never shorter than the period.
        self.width_us = max(1, ceil(round(period_s * US_PER_S) / SUB_WINDOWS))
        self.used = 0
        """Units in the window, as of the last call of `take` or `turn`."""
        self._newest = -1
        # When the newest sub-window ends, and when it no longer counts.
        self._turn_us = 0
        self._empty_us = 0
        # Sub-window -> units, oldest first: a dict keeps its order, and sub-windows come in theirs.
        self._units: dict[int, int] = {}

    def take(self, now_us: int, amount: int, limit: int) -> float | None:
        """Seconds until the window is empty if nothing more comes; `amount` is counted. None: it did not fit.

        An amount of 0 fits where 1 would.
        """
        if now_us >= self._turn_us:
            self._turn(now_us)
        used = self.used + amount
        if used > limit or (not amount and used == limit):
            return None
        if not amount:
            return self.reset_s(now_us)
        self.used = used
        self._units[self._newest] += amount
        return (self._empty_us - now_us) / US_PER_S

    def correct(self, taken_us: int, by: int) -> None:
        """Add `by` units (or take some away) to what was taken at `taken_us`, if that still counts."""
        index = taken_us // self.width_us
        if index in self._units:
            self._units[index] += by
            self.used += by

    def add(self, now_us: int, amount: int) -> None:
        """Count `amount` now, whatever the limit: it has happened."""
        self.turn(now_us)
        self._units[self._newest] += amount
        self.used += amount

    def turn(self, now_us: int) -> None:
        """Forget what no longer counts at `now_us`."""
        if now_us >= self._turn_us:
            self._turn(now_us)

    def _turn(self, now_us: int) -> None:
        index = now_us // self.width_us
        oldest = index - SUB_WINDOWS
        units = self._units
        if units:
            over = []
            for old in units:
                if old >= oldest:
                    break
                over.append(old)
            for old in over:
                self.used -= units.pop(old)
        units[index] = 0
        self._newest = index
        self._turn_us = (index + 1) * self.width_us
        self._empty_us = self._turn_us + SUB_WINDOWS * self.width_us

    def retry_after_s(self, now_us: int, amount: int, limit: int) -> float:
        """Seconds until `amount` fits if nothing else comes: 0 when it does now, infinite when it never will."""
        self.turn(now_us)
        amount = amount or 1
        if amount > limit:
            return inf
        excess = self.used + amount - limit
        if excess <= 0:
            return 0.0
        for index, units in self._units.items():
            excess -= units
            if excess <= 0:
                return self._leaves_after_s(index, now_us)
        raise AssertionError("an empty window has room for what is not above its limit")

    def reset_s(self, now_us: int) -> float:
        """Seconds until nothing is counted if nothing comes; 0 when nothing is."""
        self.turn(now_us)
        if not self.used:
            return 0.0
        for index, units in reversed(self._units.items()):
            if units:
                return self._leaves_after_s(index, now_us)
        raise AssertionError("what is used was taken in some sub-window")

    def is_idle(self, now_us: int) -> bool:
        """Whether a new window would decide the same from now on, late corrections included."""
        return now_us >= self._empty_us

    def _leaves_after_s(self, index: int, now_us: int) -> float:
        return ((index + SUB_WINDOWS + 1) * self.width_us - now_us) / US_PER_S
