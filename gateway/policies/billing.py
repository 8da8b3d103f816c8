"""Each try's bill: what it used, and what that cost.

Billed is what the provider reported, else what was relayed (both are settled by the target's own
scope, which ends first). A try that the provider refused, or that no byte of ever left here for,
costs nothing. One that was accepted and came to no answer (a timeout, a cut, a client that left) may
have been worked on: its prompt is billed, by estimate (F31, F55). That a client left before the
connection was made cannot be told from that, and is billed too: rather a prompt too much than one
too few.
"""

from collections.abc import Callable

from gateway.core.errors import (
    ClientFault,
    ClientGone,
    DeadlineExceeded,
    GatewayFault,
    ShuttingDown,
    UpstreamAccountError,
    UpstreamConnectError,
    UpstreamError,
    UpstreamTimeout,
)
from gateway.core.exchange import Attempt, Exchange
from gateway.core.price import Price, cost_nusd
from gateway.core.tokens import estimate_tokens
from gateway.policies.calibration import Calibration
from gateway.policies.quote import is_plain_text

# Relayed paths that a provider charges for by what they make. The rest keep, list, or judge something.
_MAKING = ("audio/", "images/", "videos", "responses/compact")


class Billing:
    """Writes into a try of one target what it used and cost. It sees every try alone, once, when it is over."""

    __slots__ = ("_by_model", "_calibration", "_price")

    def __init__(
        self,
        price: Price | None,
        calibration: Calibration | None,
        by_model: Callable[[str], Price | None] | None = None,
    ) -> None:
        """`calibration` learns from what the provider reports. `by_model` knows prices by the name of the model that
        answered, for a target without a price of its own."""
        self._price = price
        self._calibration = calibration
        self._by_model = by_model

    def settle(self, exchange: Exchange, attempt: Attempt, status: int | None, error: BaseException | None) -> None:
        """Write the bill of a try that is over. `status` is its reply's; None if none began."""
        if (error is not None or status != 200) and _was_refused(status, error):
            return
        operation = exchange.request.operation
        if operation == "relay":
            self._settle_relayed(exchange, attempt)
            return
        if operation == "count_tokens":
            return
        usage = exchange.usage
        if usage.input_tokens is None:
            # Nothing was heard of it, but it had been sent.
            usage.input_tokens = estimate_tokens(len(exchange.request.body))
            usage.output_tokens = usage.output_tokens or 0
            usage.source = "estimated"
        elif usage.source == "provider" and self._calibration is not None and self._calibration.wants_next():
            self._learn(exchange, self._calibration)
        attempt.usage = usage
        price = self._price
        if price is None and self._by_model is not None:
            price = self._price_of(exchange, self._by_model)
        _charge(exchange, attempt, None if price is None else cost_nusd(price, usage))

    def _settle_relayed(self, exchange: Exchange, attempt: Attempt) -> None:
        """What a relayed path used nobody here can tell: it has a declared price per request, or none."""
        request = exchange.request
        if request.method != "POST":
            return
        if self._price is not None and self._price.request:
            _charge(exchange, attempt, self._price.request)
        elif request.suffix.startswith(_MAKING):
            _charge(exchange, attempt, None)

    @staticmethod
    def _price_of(exchange: Exchange, by_model: Callable[[str], Price | None]) -> Price | None:
        for name in (exchange.model_served, exchange.request.head.model):
            price = by_model(name) if name else None
            if price is not None:
                return price
        return None

    @staticmethod
    def _learn(exchange: Exchange, calibration: Calibration) -> None:
        request, tokens = exchange.request, exchange.usage.input_tokens
        if tokens and is_plain_text(request):
            calibration.observe(len(request.body), tokens)


def _charge(exchange: Exchange, attempt: Attempt, cost: int | None) -> None:
    """Write down a cost, and the sum of all tries: None as soon as one is not known."""
    attempt.cost_nusd = cost
    attempts = exchange.attempts
    if cost is not None and len(attempts) > 1:
        for other in attempts:
            if other is not attempt:
                if other.cost_nusd is None:
                    cost = None
                    break
                cost += other.cost_nusd
    exchange.cost_nusd = cost


def _was_refused(status: int | None, error: BaseException | None) -> bool:
    """Whether the provider has surely not worked on it: it said so, or never got it."""
    if status is not None:
        return status >= 400
    if isinstance(error, DeadlineExceeded):
        # The client's own deadline, whatever was under way then.
        error = error.__cause__ or error
    if isinstance(error, UpstreamTimeout):
        return error.phase == "connect"
    if isinstance(error, UpstreamError):
        return error.upstream_status is not None
    if isinstance(error, ClientFault):
        return not isinstance(error, ClientGone | DeadlineExceeded)
    if isinstance(error, GatewayFault):
        return not isinstance(error, ShuttingDown)
    return isinstance(error, UpstreamConnectError | UpstreamAccountError)
