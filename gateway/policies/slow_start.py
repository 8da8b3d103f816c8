"""A target that has just come back gets a growing share of its requests, not all of them at once."""

import random

_FIRST_SHARE = 0.1


class SlowStart:
    """From a tenth to everything, in a straight line over `length_s` seconds; 0 seconds: at once.

    It is for those who choose among targets, who then take another one. A route's only target gets
    everything: to refuse what nobody else can serve would help no one.
    """

    __slots__ = ("_length_s", "_rng", "is_over", "until_s")

    def __init__(self, length_s: float, rng: random.Random) -> None:
        self._length_s = length_s
        self._rng = rng
        self.is_over = True
        self.until_s = 0.0

    def begin(self, now_s: float) -> None:
        """Start at the smallest share."""
        self.until_s = now_s + self._length_s
        self.is_over = self._length_s <= 0

    def admits(self, now_s: float) -> bool:
        """Whether this one request is within the share, by chance."""
        left_s = self.until_s - now_s
        if left_s <= 0:
            self.is_over = True
        return self.is_over or self._rng.random() < max(_FIRST_SHARE, 1 - left_s / self._length_s)
