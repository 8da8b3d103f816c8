"""A choice among equals: which target of a pool is least busy, quickest to its first event, or cheapest."""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from math import exp, inf
from types import TracebackType
from typing import Literal

from gateway.core.clock import Clock
from gateway.core.errors import GatewayError
from gateway.core.exchange import Exchange, Reply
from gateway.core.pipeline import Handler
from gateway.routing.split import Arm, Split

Method = Literal["weighted", "least_inflight", "ewma_ttft", "cheapest"]

DECAY_S = 30.0
"""Seconds in which what is known of a target's speed loses 63 % of its weight."""

FAILURE_S = 1.0
"""A try that failed before its first event counts as at least this long: failing fast must not look fast."""

MAX_FAILURE_S = 60.0
"""The most that failures make of a target's time; forgotten after minutes, where a breaker has not acted before."""


class Average:
    """A mean that forgets: each value counts `exp(-age / DECAY_S)`. None until there is one.

    Read, it shrinks with its own age (Finagle's Peak EWMA does the same): a target that was slow, and is
    therefore left alone, gets a try again after about `DECAY_S · ln(its time / the others')`.
    """

    __slots__ = ("_at_s", "_value")

    def __init__(self) -> None:
        self._value: float | None = None
        self._at_s = 0.0

    def add(self, value: float, now_s: float) -> None:
        """Count one more value."""
        if self._value is None:
            self._value = value
        else:
            # With many values a second each would count for nothing; one in twenty is the least.
            kept = min(exp((self._at_s - now_s) / DECAY_S), 0.95)
            self._value = self._value * kept + value * (1.0 - kept)
        self._at_s = now_s

    def raise_to(self, value: float, now_s: float) -> None:
        """Take `value` for the mean at once."""
        self._value = value
        self._at_s = now_s

    def read(self, now_s: float) -> float | None:
        """The mean, less what age has taken of it; None without any value."""
        return None if self._value is None else self._value * exp((self._at_s - now_s) / DECAY_S)


class Load:
    """What one process knows of one target: its requests in flight, and its time to the first event.

    Kept by whoever builds, outside of any generation, so that a reload forgets nothing. Streams and
    whole replies are told apart: a whole reply takes as long as all of a stream.
    """

    __slots__ = ("inflight", "streamed_s", "whole_s")

    def __init__(self) -> None:
        self.inflight = 0
        self.streamed_s = Average()
        self.whole_s = Average()

    def speed(self, exchange: Exchange) -> Average:
        """Seconds until a reply of this exchange's kind begins."""
        return self.streamed_s if exchange.request.head.stream else self.whole_s


class Balance:
    """Hands an exchange to one arm of a pool, by `method`.

    - `weighted`: by chance, in proportion to the weights (a Split);
    - `least_inflight`: of two arms taken at random, the one with fewer requests in flight: nearly as
      even as the least of all, and several processes do not all run to the same one
      (M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001);
    - `ewma_ttft`: the least product of recent time to the first event and requests in flight plus this
      one. An arm of which nothing is known yet is tried first, by one request at a time;
    - `cheapest`: the lowest of `costs` (one without a cost is the dearest); of equals, as `least_inflight`.

    Arms that are out of service or ejected are passed over. When all are ejected, one of them answers
    for itself. A pinned exchange goes to the arm it names.
    """

    def __init__(
        self,
        arms: Sequence[Arm],
        method: Method,
        loads: Mapping[str, Load],
        clock: Clock,
        rng: random.Random,
        costs: Mapping[str, float] | None = None,
    ) -> None:
        """`loads` has every arm's target. `costs`: what the same request costs there, in whatever unit."""
        counted = [
            Arm(
                arm.target, arm.weight, _count(loads[arm.target], arm.handler, clock), arm.out_of_service, arm.available
            )
            for arm in arms
        ]
        self._method = method
        self._split = Split(counted, rng)
        self._serving = [arm for arm in counted if arm.handler is not None and arm.weight > 0]
        self._loads = loads
        self._clock = clock
        self._rng = rng
        self._costs = costs if costs is not None else {}
        choices: dict[Method, Callable[[Sequence[Arm], Exchange], Arm]] = {
            "least_inflight": self._least_inflight,
            "ewma_ttft": self._quickest,
            "cheapest": self._cheapest,
        }
        self._choose = choices.get(method)

    def __call__(self, exchange: Exchange) -> AbstractAsyncContextManager[Reply]:
        """The reply of the chosen arm. Raises NoHealthyTarget when every arm is out of service."""
        serving = self._serving
        if exchange.pinned_target or self._choose is None or not serving:
            return self._split(exchange)
        ready = [arm for arm in serving if arm.available is None or arm.available()]
        candidates = ready or serving
        arm = self._choose(candidates, exchange) if len(candidates) > 1 else candidates[0]
        if len(serving) > 1:
            detail = f"{len(ready)} of {len(serving)} ready" if ready else "though it is ejected: so are all others"
            exchange.decide("balance", f"{arm.target} by {self._method}, {detail}")
        assert arm.handler is not None
        return arm.handler(exchange)

    def _least_inflight(self, arms: Sequence[Arm], exchange: Exchange) -> Arm:
        chance, count = self._rng.random, len(arms)
        one = int(chance() * count)
        other = int(chance() * (count - 1))
        first, second = arms[one], arms[other + (other >= one)]
        return second if self._loads[second.target].inflight < self._loads[first.target].inflight else first

    def _cheapest(self, arms: Sequence[Arm], exchange: Exchange) -> Arm:
        lowest = min(self._costs.get(arm.target, inf) for arm in arms)
        equals = [arm for arm in arms if self._costs.get(arm.target, inf) == lowest]
        return self._least_inflight(equals, exchange) if len(equals) > 1 else equals[0]

    def _quickest(self, arms: Sequence[Arm], exchange: Exchange) -> Arm:
        now_s = self._clock.monotonic()
        best, least = arms[0], inf
        # From a random place on, so that equals share.
        start = int(self._rng.random() * len(arms))
        for arm in (*arms[start:], *arms[:start]):
            load = self._loads[arm.target]
            known_s = load.speed(exchange).read(now_s)
            if known_s is None:
                if load.inflight == 0:
                    return arm
                # Its first verdict is under way: until then it is no better than a failure.
                known_s = FAILURE_S
            wait = known_s * (load.inflight + 1)
            if wait < least:
                best, least = arm, wait
        return best


def _count(load: Load, handler: Handler | None, clock: Clock) -> Handler | None:
    if handler is None:
        return None

    def counted(exchange: Exchange) -> AbstractAsyncContextManager[Reply]:
        return _Counted(load, handler, exchange, clock)

    return counted


class _Counted:
    """One exchange in flight at one target: counted from its first step to its last, whatever ends it."""

    __slots__ = ("_clock", "_exchange", "_handler", "_inner", "_load")

    def __init__(self, load: Load, handler: Handler, exchange: Exchange, clock: Clock) -> None:
        self._load = load
        self._handler = handler
        self._exchange = exchange
        self._clock = clock

    async def __aenter__(self) -> Reply:
        load, clock = self._load, self._clock
        load.inflight += 1
        began_s = clock.monotonic()
        try:
            self._inner = self._handler(self._exchange)
            reply = await self._inner.__aenter__()
        except BaseException as error:
            load.inflight -= 1
            if isinstance(error, GatewayError) and error.source != "client":
                self._failed(began_s)
            raise
        now_s = clock.monotonic()
        exchange = self._exchange
        # A stored reply, and one that an equal request was waited for, say nothing of the target's speed.
        if reply.status < 400 and not exchange.is_stored and not exchange.coalesced_s:
            load.speed(exchange).add(now_s - began_s, now_s)
        return reply

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._inner.__aexit__(kind, error, traceback)
        finally:
            self._load.inflight -= 1

    def _failed(self, began_s: float) -> None:
        speed = self._load.speed(self._exchange)
        now_s = self._clock.monotonic()
        known_s = speed.read(now_s) or 0.0
        # Twice what it was: a target that fails again and again is asked less and less.
        speed.raise_to(max(now_s - began_s, min(max(2 * known_s, FAILURE_S), MAX_FAILURE_S)), now_s)
