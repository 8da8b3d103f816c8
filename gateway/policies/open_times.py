"""How long a circuit stays open: longer each time in succession, up to a cap, never exactly as long as another's."""

import random
from math import inf

_JITTER = 0.1


class OpenTimes:
    """n times `first_s`, at most `longest_s`, plus up to a tenth; as Envoy's ejection times.

    The jitter only lengthens, so that what was told to a client is never cut short.
    """

    __slots__ = ("_closed_at_s", "_first_s", "_healthy_s", "_last_s", "_longest_s", "_rng", "in_succession")

    def __init__(self, first_s: float, longest_s: float, healthy_s: float, rng: random.Random) -> None:
        """`healthy_s`: the least time closed after which the past does not count."""
        self._first_s = first_s
        self._longest_s = longest_s
        self._healthy_s = healthy_s
        self._rng = rng
        self._last_s = 0.0
        self._closed_at_s = -inf
        self.in_succession = 0

    def closed(self, now_s: float) -> None:
        """Note that the circuit has closed."""
        self._closed_at_s = now_s

    def forget(self) -> None:
        """Begin again with the shortest time."""
        self.in_succession = 0

    def opened(self, now_s: float, *, was_closed: bool, is_longest: bool) -> float:
        """Seconds to stay open from now on. Once healthy for as long as it had been out, the count begins anew."""
        if was_closed and now_s - self._closed_at_s >= max(self._last_s, self._healthy_s):
            self.in_succession = 0
        self.in_succession += 1
        wanted_s = self._longest_s if is_longest else self._first_s * self.in_succession
        self._last_s = min(wanted_s, self._longest_s) * self._rng.uniform(1, 1 + _JITTER)
        return self._last_s
