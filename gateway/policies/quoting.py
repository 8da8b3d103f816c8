"""What a request may come to at worst, as admission asks for it: of one target, or of any that may serve it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.core.exchange import Exchange, Operation, Request

DEFAULT_MAX_TOKENS = 4096
"""Output tokens that are held and sent where neither the client nor the route says how many there may be."""

_BOUNDED_OPERATIONS: frozenset[Operation] = frozenset({"chat", "text_completion", "responses", "messages"})


class Quote(Protocol):
    """The most that one request may use."""

    @property
    def input_tokens(self) -> int:
        """Of its prompt."""
        ...

    @property
    def output_tokens(self) -> int:
        """Of all its choices."""
        ...

    @property
    def cost_nusd(self) -> int | None:
        """In nano-USD; None when the price is not known."""
        ...


class TargetQuoter(Protocol):
    """Quotes for one target."""

    def worst_case(self, request: Request, max_tokens: int, strict: bool) -> Quote:
        """The most that one try may use. `strict`: bound by bytes, not by what was learned."""
        ...


class Quoter(Protocol):
    """Quotes for whatever may serve an exchange first."""

    def quote(self, exchange: Exchange, max_tokens: int, strict: bool) -> Quote:
        """The most that one try may use at any target that `covers` says yes to."""
        ...

    def covers(self, target: str) -> bool:
        """Whether the quotes are of this target too."""
        ...


@dataclass(frozen=True, slots=True)
class Worst:
    """The larger of several quotes, figure by figure."""

    input_tokens: int
    output_tokens: int
    cost_nusd: int | None


class AnyTarget:
    """The worst of several targets; of the pinned one alone where an exchange names it.

    If the price of one is not known, that of all is not.
    """

    __slots__ = ("_quoters", "_single")

    def __init__(self, quoters: Mapping[str, TargetQuoter]) -> None:
        """`quoters`: by target; at least one."""
        self._quoters = dict(quoters)
        self._single = next(iter(self._quoters.values())) if len(self._quoters) == 1 else None

    def quote(self, exchange: Exchange, max_tokens: int, strict: bool) -> Quote:
        """The worst of all, or of the one pinned."""
        request = exchange.request
        one = self._single or self._quoters.get(exchange.pinned_target or "")
        if one is not None:
            return one.worst_case(request, max_tokens, strict)
        quotes = [each.worst_case(request, max_tokens, strict) for each in self._quoters.values()]
        costs = [quote.cost_nusd for quote in quotes if quote.cost_nusd is not None]
        return Worst(
            max(quote.input_tokens for quote in quotes),
            max(quote.output_tokens for quote in quotes),
            max(costs) if len(costs) == len(quotes) else None,
        )

    def covers(self, target: str) -> bool:
        """Whether it is one of them."""
        return target in self._quoters


class Quotes:
    """The quotes of one request at one place, each asked for at most once."""

    __slots__ = ("_ask", "_calibrated", "_strict")

    def __init__(self, ask: Callable[[bool], Quote]) -> None:
        """`ask`: the quote, strict or not."""
        self._ask = ask
        self._strict: Quote | None = None
        self._calibrated: Quote | None = None

    def __call__(self, strict: bool) -> Quote:
        """The quote, strict or calibrated."""
        if strict:
            if self._strict is None:
                self._strict = self._ask(True)
            return self._strict
        if self._calibrated is None:
            self._calibrated = self._ask(False)
        return self._calibrated


def bound_tokens(exchange: Exchange, default: int) -> int:
    """The output tokens that a request may have: the client's bound, else `default`, which is then sent with it."""
    asked = exchange.request.head.max_tokens
    if asked is not None:
        return asked
    if exchange.max_tokens_sent is None:
        if exchange.request.operation not in _BOUNDED_OPERATIONS:
            return 0
        exchange.max_tokens_sent = default
    return exchange.max_tokens_sent
