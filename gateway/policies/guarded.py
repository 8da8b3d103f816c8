"""The breaker as a policy: what it keeps away, and what it learns from every reply."""

from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType

from gateway.core.conditions import condition_of, condition_of_reply, effective_status
from gateway.core.errors import TargetEjected, UpstreamError, UpstreamFault, UpstreamReplyError, UpstreamTimeout
from gateway.core.exchange import Exchange, Reply
from gateway.core.pipeline import Handler
from gateway.policies.breaker import Breaker
from gateway.policies.ejection import EjectionPanel
from gateway.policies.probe import Pass

_LEAST_RETRY_AFTER_S = 1.0
_LONGEST_RETRY_AFTER_S = 60.0


class Guarded:
    """Keeps requests away from a target that is out (TargetEjected), and tells its breaker how the others fare.

    Above the yield it asks the breaker; below it the verdict is passed: a fault of the provider's counts
    whether it struck before the reply or amid its stream (F32). What the client did, its own short
    deadline, a 4xx and a cancellation never count (F36, F34). One call that was made for several
    requests counts once.
    """

    def __init__(self, breaker: Breaker, target: str, panel: EjectionPanel) -> None:
        self.breaker = breaker
        self.target = target
        self._panel = panel

    def __call__(self, exchange: Exchange, call_next: Handler) -> AbstractAsyncContextManager[Reply]:
        """The reply of `call_next`, unless the target is out."""
        return _Scope(self, call_next, exchange)

    def bind(self, call_next: Handler) -> Handler:
        """As `Binding.bind`."""
        return partial(_Scope, self, call_next)

    def available(self) -> bool:
        """Whether this target should be chosen for the next request, where there is a choice."""
        breaker = self.breaker
        return breaker.available or (
            not breaker.is_clear and self._panel.lets(breaker, breaker.clock.monotonic()) is not None
        )

    async def admit(self, exchange: Exchange) -> Pass | None:
        """A pass for a target that is not clear, or None when it has just become so. Raises TargetEjected."""
        breaker = self.breaker
        now_s = breaker.clock.monotonic()
        if breaker.turn(now_s):
            return None
        if breaker.is_probe_due(now_s):
            taken = await breaker.probe(now_s)
            if taken is not None:
                exchange.decide("breaker", f"{self.target}: this request is the probe")
                return taken
            now_s = breaker.clock.monotonic()
        way = self._panel.lets(breaker, now_s)
        if way is not None:
            exchange.decide("breaker", f"{self.target} is {breaker.describe()}; let through ({way})")
            return breaker.trickle(now_s) if way == "trickle" else Pass("spared")
        exchange.target = self.target
        exchange.decide("breaker", f"{self.target} is {breaker.describe()}")
        left_s = breaker.left_s(now_s)
        wait_s = min(max(left_s, _LEAST_RETRY_AFTER_S), _LONGEST_RETRY_AFTER_S)
        raise TargetEjected(f"Target {self.target} takes no requests at the moment.", retry_after_s=wait_s)


class _Scope:
    """Written by hand, as every request passes it: 0.8 µs around a target that is well."""

    __slots__ = ("_breaker", "_call_next", "_epoch", "_exchange", "_guarded", "_inner", "_refused", "_taken")

    def __init__(self, guarded: Guarded, call_next: Handler, exchange: Exchange) -> None:
        self._guarded = guarded
        self._breaker = guarded.breaker
        self._exchange = exchange
        self._call_next = call_next
        self._taken: Pass | None = None
        self._refused = False

    async def __aenter__(self) -> Reply:
        breaker = self._breaker
        if not breaker.is_clear:
            self._taken = await self._guarded.admit(self._exchange)
        self._epoch = breaker.epoch
        try:
            inner = self._inner = self._call_next(self._exchange)
            reply = await inner.__aenter__()
        except BaseException as error:
            self._judge(error)
            raise
        if reply.status >= 400:
            self._refused = condition_of_reply(reply) == "account"
        if self._taken is not None:
            self._taken.entered_s = breaker.clock.monotonic()
        return reply

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._inner.__aexit__(kind, error, traceback)
        except BaseException as raised:
            self._judge(raised)
            raise
        breaker, taken = self._breaker, self._taken
        if error is not None:
            self._judge(error)
        elif self._is_echo():
            return
        elif self._refused:
            breaker.refused_account(self._epoch, "the account was refused in a reply")
            if taken is not None:
                breaker.give_back(taken)
        elif taken is not None:
            breaker.succeeded(self._epoch, taken)
            breaker.give_back(taken)
        elif self._epoch == breaker.epoch:
            # As `breaker.succeeded` without a pass, one call less.
            breaker.window.succeeded(breaker.clock.monotonic())

    def _judge(self, error: BaseException) -> None:
        breaker, taken = self._breaker, self._taken
        if isinstance(error, UpstreamFault) and not self._is_echo():
            self._judge_fault(error)
        if taken is not None:
            breaker.give_back(taken)

    def _is_echo(self) -> bool:
        """Whether another request tells the breaker of this call. Who has a pass always tells itself."""
        attempts = self._exchange.attempts
        return self._taken is None and bool(attempts) and attempts[-1].is_echo

    def _judge_fault(self, error: UpstreamFault) -> None:
        breaker = self._breaker
        condition = condition_of(error)
        if condition == "account":
            breaker.refused_account(self._epoch, _told(error))
        elif condition == "429":
            breaker.throttled(self._epoch, self._taken, error.retry_after_s)
        elif isinstance(error, (UpstreamError, UpstreamReplyError)) and effective_status(error) < 500:
            # An error that is the caller's own, in a reply of status 200: the target is well.
            breaker.succeeded(self._epoch, self._taken)
        elif not (isinstance(error, UpstreamTimeout) and error.phase == "total" and len(self._exchange.attempts) > 1):
            # Of the time for all attempts an earlier one may have taken the most; that is not this target's fault.
            breaker.failed(self._epoch, self._taken, _told(error))


def _told(error: UpstreamFault) -> str:
    """What happened, without the provider's words: they may quote the client."""
    if isinstance(error, UpstreamTimeout):
        return f"timeout ({error.phase})"
    if isinstance(error, (UpstreamError, UpstreamReplyError)):
        return f"status {effective_status(error)}"
    return type(error).__name__
