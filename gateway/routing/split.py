"""Traffic by weight: each exchange goes to one of several targets, chosen at random."""

import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import accumulate

from gateway.core.errors import Forbidden, NoHealthyTarget
from gateway.core.exchange import Exchange, Reply
from gateway.core.pipeline import Handler

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


class Split:
    """Hands an exchange to one arm, with a chance in proportion to its weight.

    Arms that are out of service take no traffic; the others share theirs in proportion. A pinned
    exchange goes to the arm it names, and nowhere else.
    """

    def __init__(self, arms: Sequence[Arm], rng: random.Random) -> None:
        self._arms = {arm.target: arm for arm in arms}
        self._serving = [arm for arm in arms if arm.handler is not None and arm.weight > 0]
        self._cumulative = list(accumulate(arm.weight for arm in self._serving))
        self._only = self._serving[0] if len(self._serving) == 1 else None
        self._rng = rng

    def __call__(self, exchange: Exchange) -> AbstractAsyncContextManager[Reply]:
        """The reply of the chosen arm. Raises NoHealthyTarget when every arm is out of service."""
        arm = self._pinned(exchange) if exchange.pinned_target else (self._only or self._choose(exchange))
        assert arm.handler is not None
        return arm.handler(exchange)

    def _choose(self, exchange: Exchange) -> Arm:
        if not self._serving:
            reasons = "; ".join(f"{arm.target}: {arm.out_of_service or 'weight 0'}" for arm in self._arms.values())
            raise NoHealthyTarget(f"No target of this route is in service ({reasons}).", retry_after_s=_RETRY_AFTER_S)
        arm = self._rng.choices(self._serving, cum_weights=self._cumulative)[0]
        exchange.decide("split", f"{arm.target} by weight {arm.weight:g} of {self._cumulative[-1]:g}")
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
