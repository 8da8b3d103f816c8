"""How long the first event usually takes, learned from the requests themselves."""

from itertools import accumulate
from math import log

_LEAST_S = 0.001
_GROWTH = 1.1
_BUCKETS = 160
_LEARNED_FROM = 50
_HALVED_AT = 2000
_RECOMPUTED_EVERY = 32
_SCALE = 1 / log(_GROWTH)


class LatencyQuantile:
    """A quantile of the times seen lately, at most 10 % too high; None until 50 of them have been seen.

    A histogram of buckets that grow by a tenth, from 1 ms to over an hour. Its counts are halved every
    2,000 times, so that a change is followed.
    """

    def __init__(self, quantile: float) -> None:
        self._quantile = quantile
        self._counts = [0] * _BUCKETS
        self._seen = 0
        self._until_next = 0
        self.value_s: float | None = None

    def observe(self, seconds: float) -> None:
        """Count one time."""
        place = int(log(seconds / _LEAST_S) * _SCALE) + 1 if seconds > _LEAST_S else 0
        self._counts[min(place, _BUCKETS - 1)] += 1
        self._seen += 1
        self._until_next -= 1
        if self._seen >= _LEARNED_FROM and self._until_next <= 0:
            self._recompute()

    def _recompute(self) -> None:
        self._until_next = _RECOMPUTED_EVERY
        wanted = self._quantile * self._seen
        place = next(place for place, below in enumerate(accumulate(self._counts)) if below >= wanted)
        self.value_s = _LEAST_S * _GROWTH**place
        if self._seen >= _HALVED_AT:
            self._counts = [count // 2 for count in self._counts]
            self._seen = sum(self._counts)
