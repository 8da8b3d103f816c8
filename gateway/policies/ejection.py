"""How many of a route's targets may be out at once: breakers must not make an outage of a bad moment (F40)."""

from collections.abc import Sequence
from typing import Literal

from gateway.policies.breaker import Breaker


class EjectionPanel:
    """The breakers of all targets that one route may use, its fallbacks included.

    At most `max_ejected` of them (a share, rounded down, but always one) are out for their failures;
    those that open after that are *spared*: they go on getting requests, and probes. An operator's
    ejection and a refused account spare nobody, but they count. When nothing at all is within reach a
    *trickle* of one request a second goes to each target that failures or a pause keep out. A route's
    only target has a trickle while its provider asked for a pause (which one large request may have
    caused), not while its circuit is open: there the probe is enough.
    """

    def __init__(self, breakers: Sequence[Breaker], max_ejected: float) -> None:
        self._breakers = list(breakers)
        self._allowed = max(1, int(max_ejected * len(self._breakers)))

    def lets(self, breaker: Breaker, now_s: float) -> Literal["spared", "trickle"] | None:
        """How a request may still reach `breaker`'s target, which is not clear; None when it may not.

        Changes nothing: who uses a trickle must say so (`Breaker.trickle`).
        """
        if breaker.is_forced_out:
            return None
        is_cooling = breaker.is_cooling(now_s)
        if not is_cooling and not self._is_out(breaker):
            return "spared"
        if not breaker.is_trickle_due(now_s) or not (is_cooling or len(self._breakers) > 1):
            return None
        others = (other for other in self._breakers if other is not breaker)
        return None if any(self._is_within_reach(other, now_s) for other in others) else "trickle"

    def _is_within_reach(self, breaker: Breaker, now_s: float) -> bool:
        if breaker.turn(now_s):
            return True
        return not breaker.is_forced_out and not breaker.is_cooling(now_s) and not self._is_out(breaker)

    def _is_out(self, breaker: Breaker) -> bool:
        """Whether an open circuit is among the first ones, which the route can do without."""
        own = self._breakers.index(breaker)
        before = 0
        for place, other in enumerate(self._breakers):
            if other is breaker:
                continue
            is_earlier = (other.opened_s, place) < (breaker.opened_s, own)
            if other.is_forced_out or (other.is_open and is_earlier):
                before += 1
        return before < self._allowed
