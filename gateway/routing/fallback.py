"""Another target, when the first one cannot answer: in the configured order, each for its own reasons.

Theory of operation. The primary handler (a target, or a split of several) is asked first. What it
fails with, before its reply has begun, is one *condition* (`core.conditions`), or none; a provider's
refusal that would be passed on as a reply has one too, so such a reply is left and its scope closed
before anybody sees it. The steps are gone through once, forward: a step is taken if its `when` has the
condition at hand and its target has not been tried for this request (F44); its own failure is the
condition for those after it. The first reply that is entered is the answer; what fails after that is
told to the client (F25). When nobody answers the client gets the primary's failure: it is about what
was asked for, and the others were only tried because of it.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType

from gateway.core.clock import Clock
from gateway.core.conditions import Condition, condition_of, condition_of_reply
from gateway.core.errors import (
    ClientGone,
    DeadlineExceeded,
    GatewayError,
    ShuttingDown,
    UpstreamFault,
    UpstreamTimeout,
)
from gateway.core.exchange import Exchange, Reply
from gateway.core.pipeline import Handler

OnFallback = Callable[[str, str, Condition], None]
"""Called with from, to and the reason, all of them configured names."""


def always() -> bool:
    """For a target that is always worth asking."""
    return True


@dataclass(frozen=True, slots=True)
class Step:
    """One target that may answer instead, for some reasons."""

    target: str
    handler: Handler
    when: frozenset[Condition]
    available: Callable[[], bool] = always
    """Whether it is worth asking now; one that is not is passed over, unless all are."""


class Fallback:
    """Hands an exchange to its primary handler and, when that cannot answer, to the steps.

    A pinned exchange stays where it is, and so does one whose body comes as a stream, once somebody may
    have read of it. No step begins after `total_s` from the request's beginning; the targets' own
    limits count from the same moment, so all tries together take as long as the longest of them may.
    A primary that is not `available` is asked last: for the reason `ejected`, if a step has that.
    """

    def __init__(
        self,
        primary: Step,
        steps: Sequence[Step],
        total_s: float,
        clock: Clock,
        on_fallback: OnFallback,
    ) -> None:
        """`primary.when` is not looked at; its `target` is the name to report where no target was tried."""
        self.primary = primary
        self.steps = tuple(steps)
        self.on_fallback = on_fallback
        self._total_s = total_s
        self._clock = clock

    def __call__(self, exchange: Exchange) -> AbstractAsyncContextManager[Reply]:
        """The reply of the first handler that has one. Raises the primary's error when none has."""
        if exchange.pinned_target is not None:
            return self.primary.handler(exchange)
        return _Scope(self, exchange)

    def next_step(self, exchange: Exchange, condition: Condition, after: int) -> int | None:
        """The place of the next step to take, from `after` on; None when there is none."""
        deadline_s = exchange.started_s + self._total_s
        if exchange.client_deadline_s is not None:
            deadline_s = min(deadline_s, exchange.client_deadline_s)
        if self._clock.monotonic() >= deadline_s:
            return None
        tried = {attempt.target for attempt in exchange.attempts}
        fitting = [
            place
            for place in range(after, len(self.steps))
            if condition in self.steps[place].when and self.steps[place].target not in tried
        ]
        return next((place for place in fitting if self.steps[place].available()), fitting[0] if fitting else None)


class _Scope:
    """Written by hand, as every request of a route with fallbacks passes it: 0.6 µs when the primary answers."""

    __slots__ = ("_exchange", "_fallback", "_inner")

    def __init__(self, fallback: Fallback, exchange: Exchange) -> None:
        self._fallback = fallback
        self._exchange = exchange
        self._inner: AbstractAsyncContextManager[Reply] | None = None

    async def __aenter__(self) -> Reply:
        exchange, fallback = self._exchange, self._fallback
        primary = fallback.primary
        if not primary.available():
            place = fallback.next_step(exchange, "ejected", 0)
            if place is not None:
                return await self._instead(None, "ejected", place)
        begun = len(exchange.attempts)
        failed: Reply | GatewayError
        try:
            inner = self._inner = primary.handler(exchange)
            reply = await inner.__aenter__()
            if reply.status < 400:
                return reply
            failed = reply
        except GatewayError as error:
            self._inner = None
            failed = error
        try:
            condition = _condition(failed)
            place = None
            if condition is not None and not self._is_used_up(begun):
                place = fallback.next_step(exchange, condition, 0)
            if condition is None or place is None:
                return _given(failed)
            await self._leave()
            return await self._instead(failed, condition, place)
        finally:
            # Its traceback holds this frame.
            del failed

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._inner is not None:
            await self._inner.__aexit__(kind, error, traceback)

    async def _instead(self, failed: Reply | GatewayError | None, condition: Condition, place: int) -> Reply:
        """The reply of a step, or what the primary came to; None is a primary that has not been asked yet."""
        exchange, fallback = self._exchange, self._fallback
        asked_target = exchange.target
        source = asked_target if failed is not None and asked_target is not None else fallback.primary.target
        following: int | None = place
        outcome: Reply | GatewayError | None = None
        try:
            while following is not None:
                step, following_place = fallback.steps[following], following + 1
                begun = len(exchange.attempts)
                outcome = await self._ask(step.handler, source, step.target, condition)
                found = _condition(outcome)
                if isinstance(outcome, Reply):
                    if found is None:
                        return outcome
                    await self._leave()
                elif _is_final(outcome):
                    raise outcome
                source, condition = step.target, found or condition
                following = None
                if not self._is_used_up(begun):
                    following = fallback.next_step(exchange, condition, following_place)
            if failed is None:
                return _given(await self._ask(fallback.primary.handler, source, fallback.primary.target, condition))
            exchange.target = asked_target
            if isinstance(failed, UpstreamFault) and failed.retry_after_s is None:
                failed.retried = True
            return _given(failed)
        finally:
            del failed, outcome

    async def _ask(self, handler: Handler, source: str, to: str, condition: Condition) -> Reply | GatewayError:
        self._exchange.decide("fallback", f"{to} instead of {source}: {condition}")
        self._fallback.on_fallback(source, to, condition)
        try:
            self._inner = handler(self._exchange)
            return await self._inner.__aenter__()
        except GatewayError as error:
            self._inner = None
            return error

    async def _leave(self) -> None:
        """Close the scope of a refusal: its body is here, and somebody else will answer."""
        inner, self._inner = self._inner, None
        if inner is not None:
            await inner.__aexit__(None, None, None)

    def _is_used_up(self, begun: int) -> bool:
        """Whether the body was a stream that somebody may have read of."""
        exchange = self._exchange
        return exchange.request.body_stream is not None and len(exchange.attempts) > begun


def _condition(failed: Reply | GatewayError) -> Condition | None:
    return condition_of(failed) if isinstance(failed, GatewayError) else condition_of_reply(failed)


def _given(failed: Reply | GatewayError) -> Reply:
    if isinstance(failed, GatewayError):
        raise failed
    return failed


def _is_final(error: GatewayError) -> bool:
    """Whether no other target can be the answer, so that the client must hear of this and not of the primary."""
    if isinstance(error, UpstreamTimeout):
        return error.phase == "total"
    return isinstance(error, (DeadlineExceeded, ClientGone, ShuttingDown))
