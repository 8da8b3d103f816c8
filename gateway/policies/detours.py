"""The cheaper ways that a budget under pressure leads to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.core.exchange import Exchange
from gateway.core.pipeline import Handler
from gateway.policies.matching import Matched, Scoped
from gateway.policies.quoting import Quoter


@dataclass(frozen=True, slots=True)
class Way:
    """Something that can serve an exchange, and what that may cost."""

    handler: Handler
    quoter: Quoter


class Detours:
    """Those of one exchange, each taken at most once."""

    __slots__ = ("_exchange", "_matched", "_tried", "_ways")

    def __init__(self, ways: Mapping[str, Way], matched: Matched, exchange: Exchange) -> None:
        # Who names a target wants that one or none.
        self._ways = ways if not exchange.pinned_target else {}
        self._matched = matched
        self._exchange = exchange
        self._tried: set[str] = set()

    def by_level(self, now_s: float) -> Way | None:
        """The one that the budgets have come to already: of all rules, the step that stands highest."""
        if not self._ways:
            return None
        best: tuple[float, str, str] | None = None
        for scoped in self._matched.metered:
            terms = scoped.terms
            if terms.ladder is None or terms.periods is None or not terms.ladder.downgrades or scoped.is_dry:
                continue
            share = scoped.used_share(terms.periods.at(now_s).name)
            for at, name in terms.ladder.downgrades[: terms.ladder.downgrade(share)]:
                self._tried.add(name)
                if name in self._ways and (best is None or at >= best[0]):
                    best = at, name, f"{scoped.rule.name} is used to {share:.0%}: served by {name}"
        if best is None:
            return None
        self._exchange.decide("limits", best[2])
        return self._ways[best[1]]

    def after(self, culprits: Sequence[Scoped]) -> Way | None:
        """The next one that a budget has which did not fit; None when there is none."""
        for scoped in culprits:
            assert scoped.terms.ladder is not None
            for _, name in scoped.terms.ladder.downgrades:
                if name not in self._tried and name in self._ways:
                    self._tried.add(name)
                    self._exchange.decide("limits", f"{scoped.rule.name} has no room for the worst: served by {name}")
                    return self._ways[name]
        return None
