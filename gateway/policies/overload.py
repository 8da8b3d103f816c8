"""Which requests to turn away when there is more to do than can be done: the least important first."""

from math import inf

from gateway.core.errors import Overloaded
from gateway.core.exchange import Priority

# The golden ratio's fraction: multiples of it, modulo 1, fill the unit interval as evenly as can be.
_STEP = 0.6180339887498949
_LOW_UNDER_STRAIN = 0.6
_NARROW = 0.9
_LEAST_RETRY_AFTER_S = 1.0
_MORE_RETRY_AFTER_S = 2.0


class Shedder:
    """Admits by priority, from the requests in flight, the event loop's lag and the process's memory.

    Each priority has a ramp: below it nobody is turned away, above it everybody, between them a share
    that grows, spread evenly over the requests, so that the gateway settles on the ramp instead of
    flapping between all and nothing.

    | | of `max_inflight` | lag, in multiples of `loop_lag_s` | of `max_rss` |
    | --- | --- | --- | --- |
    | low | from just below the reserve; from 60 % once the lag is over its limit | 2 to 4 | 90 to 95 % |
    | normal | the reserve's lower half | 4 to 8 | 95 to 100 % |
    | high | at all of it | never | never |

    The reserve is `reserve_high` (a share of `max_inflight`). The lag counts at any number in flight:
    a process may be out of time long before it is out of room.
    """

    def __init__(self, max_inflight: int, reserve_high: float, loop_lag_s: float | None, max_rss: int | None) -> None:
        """`loop_lag_s`, `max_rss` (bytes): None where they are no reason to turn anybody away."""
        self._max = max_inflight
        self._lag_s = loop_lag_s if loop_lag_s is not None else inf
        self._rss = max_rss if max_rss is not None else inf
        self._normal = (1 - reserve_high) * max_inflight
        self._normal_end = (1 - reserve_high / 2) * max_inflight
        self._low = _NARROW * self._normal
        self._low_strained = min(_LOW_UNDER_STRAIN * max_inflight, self._low)
        self._calm_rss = _NARROW * self._rss
        self._turn = 0.0

    def admit(self, priority: Priority, inflight: int, lag_s: float, rss: int) -> Overloaded | None:
        """None, or what to answer instead; `inflight` does not count this request. Costs 0.2 µs while all is calm."""
        if inflight < self._low_strained and lag_s < self._lag_s and rss < self._calm_rss:
            return None
        if priority == "high":
            share = 0.0 if inflight < self._max else 1.0
        elif priority == "normal":
            share = self._normal_share(inflight, lag_s, rss)
        else:
            share = self._low_share(inflight, lag_s, rss)
        if share <= 0:
            return None
        if share < 1:
            self._turn = (self._turn + _STEP) % 1
            if self._turn >= share:
                return None
        return Overloaded(
            f"The gateway has too much to do to take requests of {priority} priority.",
            retry_after_s=_LEAST_RETRY_AFTER_S + _MORE_RETRY_AFTER_S * min(share, 1.0),
        )

    def _normal_share(self, inflight: int, lag_s: float, rss: int) -> float:
        return max(
            _ramp(inflight, self._normal, self._normal_end),
            _ramp(lag_s, 4 * self._lag_s, 8 * self._lag_s),
            _ramp(rss, 0.95 * self._rss, self._rss),
        )

    def _low_share(self, inflight: int, lag_s: float, rss: int) -> float:
        start = self._low if lag_s < self._lag_s else self._low_strained
        return max(
            _ramp(inflight, start, self._normal),
            _ramp(lag_s, 2 * self._lag_s, 4 * self._lag_s),
            _ramp(rss, self._calm_rss, 0.95 * self._rss),
        )


def _ramp(value: float, start: float, end: float) -> float:
    """0 up to `start`, 1 from `end` on, a straight line between."""
    if value < start:
        return 0.0
    return 1.0 if value >= end else (value - start) / (end - start)
