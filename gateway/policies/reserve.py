"""How many slots of a target are kept free, so that a request of high priority finds one when it comes."""

import math

from gateway.core.clock import Clock

# Of those of high priority that come while slots are short, about this share finds none.
_MISSED = 0.05
# The most that is kept, so that nine tenths of a target's capacity stay in use.
_MOST = 0.1
# From here on one slot may be kept, though it is more than a tenth; of fewer it would be a quarter or all.
_FEWEST_SLOTS = 5
_KEPT_FOR_S = 5.0


class Reserve:
    """Learns how many slots to keep from how often high priority found none.

    To be first in the queue is not enough where replies take equal times: slots that were taken together
    come free together, and until then there is none. So some are kept *free*: as one of them is taken,
    the next that comes free is kept instead. Keeping as many as high priority has at its peak, taken or
    not, would leave a fifth of a target idle; two or three that are free do.

    The number is learned as a quantile is (Robbins and Monro, 1951): one more for each that found none, a
    twentieth less for each that found one, so that about one in twenty finds none. At most a tenth of
    all is kept, one of 5 to 19, none of fewer. It is over 5 s after the last that came while slots were
    short: who is away needs nothing.
    """

    __slots__ = ("_clock", "_level", "_most", "_needed_s", "kept")

    def __init__(self, slots: int, clock: Clock) -> None:
        """`slots`: all that the target has."""
        self._clock = clock
        self._most = max(1, int(slots * _MOST)) if slots >= _FEWEST_SLOTS else 0
        self._level = 0.0
        self._needed_s = 0.0
        self.kept = 0
        """Slots to leave free for high priority."""

    def note(self, found: bool) -> None:
        """One of high priority came while slots were short, and `found` one or did not."""
        self._needed_s = self._clock.monotonic()
        self._level = min(max(0.0, self._level - _MISSED) if found else self._level + 1.0, self._most)
        self.kept = math.ceil(self._level)

    @property
    def left_s(self) -> float:
        """Seconds until nothing need be kept, if high priority stays away; 0 or less when they are over."""
        return self._needed_s + _KEPT_FOR_S - self._clock.monotonic()

    def is_over(self) -> bool:
        """Whether something was kept until now that need not be any more; nothing is kept then."""
        if not self.kept or self.left_s > 0:
            return False
        self._level = 0.0
        self.kept = 0
        return True
