"""Each try at a target is written down, measured, traced and billed."""

from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType

from gateway.core.clock import Clock
from gateway.core.exchange import Attempt, Exchange, Reply, Usage
from gateway.core.pipeline import Handler
from gateway.policies.billing import Billing
from gateway.telemetry.observe import Observer
from gateway.telemetry.tracing import Destination


class Attempted:
    """Opens an attempt above the yield; closes it below, with its bill, its count and its span, in this order.

    Innermost of all policies: what it sees is one try at one provider, whatever retries around it. A try after
    another one gets a usage of its own: the last one's is in its bill.
    """

    __slots__ = ("billing", "clock", "destination", "observer", "target")

    def __init__(
        self, target: str, destination: Destination, observer: Observer, clock: Clock, billing: Billing | None
    ) -> None:
        """`billing`: None where what the try stands around writes its bill."""
        self.target = target
        self.destination = destination
        self.observer = observer
        self.clock = clock
        self.billing = billing

    def __call__(self, exchange: Exchange, call_next: Handler) -> AbstractAsyncContextManager[Reply]:
        """The reply of `call_next`, as one attempt of `exchange`."""
        return _Scope(self, call_next, exchange)

    def bind(self, call_next: Handler) -> Handler:
        """As `Binding.bind`."""
        return partial(_Scope, self, call_next)


class _Scope:
    """Written by hand, and one for all that is done to a try: every request passes it."""

    __slots__ = ("_attempt", "_call_next", "_exchange", "_inner", "_policy", "_span", "_status")

    def __init__(self, policy: Attempted, call_next: Handler, exchange: Exchange) -> None:
        self._policy = policy
        self._call_next = call_next
        self._exchange = exchange

    async def __aenter__(self) -> Reply:
        policy, exchange = self._policy, self._exchange
        attempts = exchange.attempts
        number = len(attempts) + 1
        if number > 1:
            exchange.usage = Usage()
        attempt = self._attempt = Attempt(number, policy.target, b"", policy.clock.monotonic())
        attempts.append(attempt)
        exchange.target = policy.target
        self._span = policy.observer.start_attempt(exchange, attempt, policy.destination)
        self._status: int | None = None
        try:
            inner = self._inner = self._call_next(exchange)
            reply = await inner.__aenter__()
        except BaseException as error:
            self._close(error)
            raise
        self._status = reply.status
        return reply

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._inner.__aexit__(kind, error, traceback)
        except BaseException as raised:
            self._close(raised)
            raise
        self._close(error)

    def _close(self, error: BaseException | None) -> None:
        policy, exchange, attempt = self._policy, self._exchange, self._attempt
        if policy.billing is not None:
            policy.billing.settle(exchange, attempt, self._status, error)
        policy.observer.end_attempt(exchange, attempt, self._span, error)
