"""Traffic by weight: each exchange goes to one of several targets, chosen at random or by a key it sticks to."""

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import accumulate

from gateway.core.errors import Forbidden, NoHealthyTarget
from gateway.core.exchange import Exchange, Reply
from gateway.core.pipeline import Handler
from gateway.routing.sticky import Ring, Sticky

_RETRY_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class Arm:
    """One target of a split."""

    target: str
    weight: float
    handler: Handler | None
    """None when it is out of service."""
    out_of_service: str | None = None
    """Why it cannot serve at all (its credential is not set), or None."""
    available: Callable[[], bool] | None = None
    """Whether it takes requests now (its breaker lets them through); None: always. Asked where there is a choice."""


class Split:
    """Hands an exchange to one arm, with a chance in proportion to its weight.

    With `sticky`, an exchange that has one of its keys always goes to the same arm, and its retries
    with it; others go by chance. Chance is a random number for each exchange, not a sequence that
    fills the weights evenly: such a sequence meets the rhythm of clients' own loops. So 10,000 requests
    at 90/10 are within one point of it (three standard deviations), and 100 are not.

    Arms that are out of service take no traffic; the others share theirs in proportion. So it is with
    an arm that is ejected, for as long as it is, and of sticky exchanges only its own move. When all
    are ejected, the arm that would have been chosen answers for itself. A pinned exchange goes to the
    arm it names, and nowhere else.
    """

    def __init__(self, arms: Sequence[Arm], rng: random.Random, sticky: Sticky | None = None) -> None:
        self._arms = {arm.target: arm for arm in arms}
        self._serving = [arm for arm in arms if arm.handler is not None and arm.weight > 0]
        self._cumulative = list(accumulate(arm.weight for arm in self._serving))
        self._only = self._serving[0] if len(self._serving) == 1 else None
        self._rng = rng
        self._sticky = sticky
        self._ring = Ring([(arm.target, arm.weight) for arm in self._serving])

    def __call__(self, exchange: Exchange) -> AbstractAsyncContextManager[Reply]:
        """The reply of the chosen arm. Raises NoHealthyTarget when every arm is out of service."""
        arm = self._pinned(exchange) if exchange.pinned_target else (self._only or self._choose(exchange))
        assert arm.handler is not None
        return arm.handler(exchange)

    def _choose(self, exchange: Exchange) -> Arm:
        if not self._serving:
            reasons = "; ".join(f"{arm.target}: {arm.out_of_service or 'weight 0'}" for arm in self._arms.values())
            raise NoHealthyTarget(f"No target of this route is in service ({reasons}).", retry_after_s=_RETRY_AFTER_S)
        stuck = self._sticky.find(exchange) if self._sticky is not None else None
        if stuck is not None:
            source, key = stuck
            arm = self._serving[self._ring.choose(key)]
            reason = f"by {source}"
        else:
            arm = self._rng.choices(self._serving, cum_weights=self._cumulative)[0]
            reason = f"by weight {arm.weight:g} of {self._cumulative[-1]:g}"
        if arm.available is not None and not arm.available():
            return self._instead_of(arm, exchange, stuck[1] if stuck is not None else None)
        exchange.decide("split", f"{arm.target} {reason}")
        return arm

    def _instead_of(self, ejected: Arm, exchange: Exchange, key: bytes | None) -> Arm:
        others = [arm for arm in self._serving if arm is not ejected and (arm.available is None or arm.available())]
        if not others:
            exchange.decide("split", f"{ejected.target} though it is ejected: so are all others")
            return ejected
        if key is not None:
            arm = next(arm for place in self._ring.ranked(key) if (arm := self._serving[place]) in others)
        else:
            arm = self._rng.choices(others, [arm.weight for arm in others])[0]
        exchange.decide("split", f"{arm.target} instead of {ejected.target} (ejected)")
        return arm

    def _pinned(self, exchange: Exchange) -> Arm:
        arm = self._arms.get(exchange.pinned_target or "")
        if arm is None:
            names = ", ".join(self._arms)
            raise Forbidden(
                f"x-gateway-target: {exchange.pinned_target!r} is not a target of this route. It has: {names}.",
                code="pin_not_allowed",
            )
        if arm.handler is None:
            raise NoHealthyTarget(
                f"Target {arm.target} is out of service: {arm.out_of_service}.", retry_after_s=_RETRY_AFTER_S
            )
        exchange.decide("pin", arm.target)
        return arm
