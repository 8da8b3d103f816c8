"""Another try at the same target, when the first one failed before its reply began."""

import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType

from tenacity import AsyncRetrying, RetryCallState, stop_after_attempt, wait_exception, wait_exponential

from gateway.core.clock import Clock
from gateway.core.conditions import Condition, condition_of
from gateway.core.errors import GatewayError, NoHealthyTarget, Refused, TargetBusy, UpstreamFault
from gateway.core.exchange import Exchange, Reply
from gateway.core.pipeline import Handler
from gateway.policies.retry_budget import RetryBudget

_FIRST_WAIT_S = 0.1

Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """What is tried again, and how long that may take."""

    attempts: int
    """The first one included."""
    when: frozenset[Condition]
    max_wait_s: float
    """The longest wait before one retry, whoever asks for it; the jitter beside a Retry-After not counted."""
    total_s: float
    """From the request's beginning; no retry begins later."""


class FullJitter(wait_exponential):
    """Anything between nothing and twice the last bound; tenacity's own draws from a generator nobody can seed."""

    def __init__(self, first_s: float, longest_s: float, rng: random.Random) -> None:
        super().__init__(multiplier=first_s, max=longest_s)
        self._rng = rng

    def __call__(self, retry_state: RetryCallState) -> float:
        """Seconds to wait."""
        return self._rng.uniform(0, super().__call__(retry_state))


class Retry:
    """Tries again what the provider failed, as often as the settings and the target's budget allow.

    Above the yield, and only there: once the first event is out nothing is tried again (F25). The first
    try runs bare; tenacity's strategies decide from the first failure on. What the gateway itself
    refused, and a body that came as a stream, are not tried again. `when` says what is: a condition
    under which the provider may have worked on the request already (`first_token`,
    `idle_before_commit`) may be paid for twice (F31).

    A provider's Retry-After is waited for, plus jitter, unless it is longer than `max_wait_s` or than
    the time that is left: then the error goes up at once, with the wait in it (F27). Where the gateway
    has tried again in vain, or might not for lack of budget, the error says so (`retried`), so that the
    client's own retries do not multiply these (F30).
    """

    def __init__(
        self,
        settings: RetrySettings,
        budget: RetryBudget,
        clock: Clock,
        rng: random.Random,
        sleep: Sleep,
        on_retry: Callable[[Condition], None],
    ) -> None:
        self.settings = settings
        self.budget = budget
        self.clock = clock
        self.sleep = sleep
        self.on_retry = on_retry
        jitter = FullJitter(_FIRST_WAIT_S, settings.max_wait_s, rng)
        self.strategies = AsyncRetrying(
            stop=stop_after_attempt(settings.attempts), wait=wait_exception(_asked_wait_s) + jitter, reraise=True
        )

    def __call__(self, exchange: Exchange, call_next: Handler) -> AbstractAsyncContextManager[Reply]:
        """The reply of `call_next`, of the first try that has one."""
        return _Scope(self, exchange, call_next)

    def condition(self, exchange: Exchange, error: GatewayError) -> Condition | None:
        """Why `error` may be tried again; None when it may not."""
        if not isinstance(error, UpstreamFault) or exchange.request.body_stream is not None:
            return None
        condition = condition_of(error)
        return condition if condition in self.settings.when else None

    def wait_s(self, exchange: Exchange, state: RetryCallState, error: GatewayError) -> float | None:
        """Seconds until the next try, taken from the budget; None when there is none. Marks `error` when given up."""
        settings = self.settings
        if self.strategies.stop(state):
            error.retried = state.attempt_number > 1
            return None
        if error.retry_after_s is not None and error.retry_after_s > settings.max_wait_s:
            return None
        wait_s = float(self.strategies.wait(state))
        deadline_s = exchange.started_s + settings.total_s
        if exchange.client_deadline_s is not None:
            deadline_s = min(deadline_s, exchange.client_deadline_s)
        now_s = self.clock.monotonic()
        if now_s + wait_s >= deadline_s:
            error.retried = state.attempt_number > 1
            return None
        if not self.budget.allows(now_s):
            error.retried = True
            exchange.decide("retry", "not tried again: the target's retry budget is spent")
            return None
        return wait_s


class _Scope:
    """Written by hand, as every request passes it: 0.5 µs when the first try succeeds."""

    __slots__ = ("_call_next", "_exchange", "_inner", "_retry")

    def __init__(self, retry: Retry, exchange: Exchange, call_next: Handler) -> None:
        self._retry = retry
        self._exchange = exchange
        self._call_next = call_next

    async def __aenter__(self) -> Reply:
        exchange = self._exchange
        self._retry.budget.requested(exchange.received_s)
        try:
            inner = self._inner = self._call_next(exchange)
            return await inner.__aenter__()
        except UpstreamFault as error:
            failed = error
        try:
            return await self._again(failed)
        finally:
            # The error's traceback holds this frame.
            del failed

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._inner.__aexit__(kind, error, traceback)

    async def _again(self, error: UpstreamFault) -> Reply:
        """The reply of a later try. Raises the last error of the provider's."""
        retry, exchange = self._retry, self._exchange
        state = RetryCallState(retry.strategies, None, (), {})
        outcome: Reply | GatewayError = error
        try:
            while True:
                condition = retry.condition(exchange, error)
                if condition is None:
                    error.retried = state.attempt_number > 1
                    raise error
                state.set_exception((type(error), error, None))
                wait_s = retry.wait_s(exchange, state, error)
                if wait_s is None:
                    raise error
                await retry.sleep(wait_s)
                state.prepare_for_next_attempt()
                exchange.decide(
                    "retry",
                    f"{exchange.target}: try {state.attempt_number} after {wait_s:.3f} s, because of {condition}",
                )
                retry.on_retry(condition)
                outcome = await self._try(condition)
                if isinstance(outcome, Reply):
                    return outcome
                if isinstance(outcome, UpstreamFault):
                    error = outcome
                    continue
                if isinstance(outcome, (NoHealthyTarget, TargetBusy, Refused)):
                    # The gateway has closed the target meanwhile; what the provider said tells the client more.
                    error.retried = True
                    raise error
                raise outcome
        finally:
            # Their tracebacks hold this frame.
            del error, outcome, state

    async def _try(self, condition: Condition) -> Reply | GatewayError:
        """One more try: its reply, or what it failed with."""
        exchange = self._exchange
        begun = len(exchange.attempts)
        try:
            self._inner = self._call_next(exchange)
            return await self._inner.__aenter__()
        except GatewayError as error:
            return error
        finally:
            for attempt in exchange.attempts[begun:]:
                attempt.retry_of = condition


def _asked_wait_s(error: BaseException) -> float:
    """What the provider asked for with Retry-After."""
    wait_s = error.retry_after_s if isinstance(error, GatewayError) else None
    return wait_s or 0.0
