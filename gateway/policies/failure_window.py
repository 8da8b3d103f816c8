"""How a target has fared lately: counts over a sliding window, and failures in a row. Pure arithmetic.

The window is a ring of ten slots, so what it counts is between nine and ten tenths of its length old
at most. Counting costs one comparison and two additions; a slot is cleared when its time comes.
"""

_SLOTS = 10


class SlidingCounts:
    """Two counts over the last `window_s` seconds, cheap to add to. Times are monotonic and never go back.

    What is counted in the present slot stands in `fresh_first` and `fresh_second`, as long as `turns_at_s`
    has not come; whoever adds to them calls `age` before.
    """

    __slots__ = ("_first", "_second", "_slot", "_width_s", "fresh_first", "fresh_second", "turns_at_s")

    def __init__(self, window_s: float) -> None:
        self._width_s = window_s / _SLOTS
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._first = [0] * _SLOTS
        self._second = [0] * _SLOTS
        self._slot = 0
        self.turns_at_s = 0.0
        self.fresh_first = 0
        self.fresh_second = 0

    @property
    def first(self) -> int:
        """How many of the first are in the window; after `age`."""
        return sum(self._first) + self.fresh_first

    @property
    def second(self) -> int:
        """How many of the second are in the window; after `age`."""
        return sum(self._second) + self.fresh_second

    def add_first(self, now_s: float) -> None:
        """Count one in the first."""
        self.age(now_s)
        self.fresh_first += 1

    def add_second(self, now_s: float) -> None:
        """Count one in the second."""
        self.age(now_s)
        self.fresh_second += 1

    def age(self, now_s: float) -> None:
        """Let go of what has left the window; before the counts are read."""
        if now_s < self.turns_at_s:
            return
        width_s = self._width_s
        if now_s - self.turns_at_s >= width_s * _SLOTS:
            self.clear()
            self.turns_at_s = now_s + width_s
            return
        self._first[self._slot], self._second[self._slot] = self.fresh_first, self.fresh_second
        self.fresh_first = self.fresh_second = 0
        while now_s >= self.turns_at_s:
            slot = self._slot = (self._slot + 1) % _SLOTS
            # Of the present slot the fresh counts tell.
            self._first[slot] = self._second[slot] = 0
            self.turns_at_s += width_s


class FailureWindow:
    """Successes and failures of one target, and whether they are reason enough to leave it alone.

    `consecutive` failures in a row are, or a share of `error_rate` (0 to 1) among at least
    `min_requests` in the window: one failed call of one is no rate (F35).
    """

    __slots__ = ("_consecutive", "_counts", "_error_rate", "_min_requests", "in_a_row")

    def __init__(self, consecutive: int, error_rate: float, min_requests: int, window_s: float) -> None:
        self._consecutive = consecutive
        self._error_rate = error_rate
        self._min_requests = min_requests
        self._counts = SlidingCounts(window_s)
        self.in_a_row = 0

    def clear(self) -> None:
        """Begin anew."""
        self._counts.clear()
        self.in_a_row = 0

    def succeeded(self, now_s: float) -> None:
        """Count a success."""
        self.in_a_row = 0
        counts = self._counts
        if now_s >= counts.turns_at_s:
            counts.age(now_s)
        # In the open, because every request passes here.
        counts.fresh_first += 1

    def failed(self, now_s: float) -> str | None:
        """Count a failure; why it is one too many, or None."""
        self.in_a_row += 1
        counts = self._counts
        counts.add_second(now_s)
        if self.in_a_row >= self._consecutive:
            return f"{self.in_a_row} failures in a row"
        total = counts.first + counts.second
        if total >= self._min_requests and counts.second >= self._error_rate * total:
            return f"{counts.second} of {total} requests failed"
        return None

    def totals(self, now_s: float) -> tuple[int, int]:
        """Successes and failures in the window."""
        self._counts.age(now_s)
        return self._counts.first, self._counts.second
