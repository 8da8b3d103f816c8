"""Limits and budgets: a request is let in when all of its rules have room for the worst that it may come to.

Above the yield one hold takes a request, its tokens, a place and its money of all counters at once, or
nothing of any (F50). Below it the hold is settled with what the tries really used, whatever ended the
reply (F51): settling never waits, so it needs no task and cannot be interrupted.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from gateway.core.errors import GatewayError, Refused
from gateway.core.exchange import Exchange, Reply
from gateway.core.pipeline import Handler
from gateway.policies.calendar import Periods
from gateway.policies.claims import Account, Draft, Entry, draft, spends, totals
from gateway.policies.desk import Desk
from gateway.policies.detours import Detours, Way
from gateway.policies.matching import Matched, RuleSet, Scoped
from gateway.policies.quoting import Quoter, Quotes, bound_tokens
from gateway.policies.verdicts import misfits, refusal, states, tell, unpriced
from gateway.store.base import Claim, Hold, Verdict

Settled = tuple[int, ...] | list[Entry | None]
"""What each claim of a hold comes to: known from the first, or found in an entry (None: what was claimed)."""


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """What a route's configuration says about admission."""

    default_max_tokens: int
    """Held, and sent, where a limit on tokens or money applies and the client sends no bound."""
    tag_labels: tuple[str, ...]
    """Tags that are kept in the totals for reports."""
    reports_all: bool
    """Whether requests that meet no rule enter the totals too."""
    falls_over_budget: bool
    """Whether the route has a fallback for `over_budget`: then every try asks the budgets for itself."""


class Admission:
    """One route's admission. Above the yield it raises Refused and StoreUnavailable; at it, nothing is done.

    Rules about targets are not asked here: see `attempt_admission`.
    """

    def __init__(
        self,
        rules: RuleSet,
        desk: Desk,
        quoter: Quoter,
        downgrades: Mapping[str, Way],
        settings: AdmissionSettings,
    ) -> None:
        """`downgrades`: what the pressure steps name, by name, without an admission of their own."""
        self._choose = rules.for_exchange
        self._bounds_always = rules.meters_attempts
        self.desk = desk
        self.quoter = quoter
        self.downgrades = downgrades
        self.settings = settings
        self._days = Periods("day", "UTC")

    def __call__(self, exchange: Exchange, call_next: Handler) -> AbstractAsyncContextManager[Reply]:
        """The reply of `call_next`, or of a cheaper way, if there is room for it."""
        # A branch (a shadow) brings the account of the exchange that it comes from, which may end first.
        exchange.admission = None
        if self._bounds_always:
            bound_tokens(exchange, self.settings.default_max_tokens)
        if self._choose.is_empty and not self.settings.reports_all:
            return call_next(exchange)
        matched = self._choose(exchange)
        if not matched.scoped and not self.settings.reports_all:
            return call_next(exchange)
        return _Scope(self, matched, exchange, call_next)

    def settle(self, exchange: Exchange, hold: Hold, own: Settled, error: BaseException | None) -> None:
        """Settle everything that the exchange holds. `own` is about `hold`."""
        ledger, account, attempts = self.desk.ledger, exchange.admission, exchange.attempts
        if not attempts and isinstance(error, Refused):
            # A rule about targets has refused it: refused requests use nothing of any rule (F65).
            ledger.settle(hold, [0] * len(hold.claims))
            return
        spent = totals(attempts)
        if exchange.cost_nusd is not None and exchange.cost_nusd > spent.cost_nusd:
            spent.cost_nusd = exchange.cost_nusd
        spend, *others = spends(exchange, spent, self._days.at(self.desk.now_s()).name, self.settings.tag_labels)
        for other in others:
            ledger.settle(Hold(self.desk.ids(), ()), (), other)
        if isinstance(own, tuple):
            ledger.settle(hold, own, spend)
            return
        assert isinstance(account, Account)
        if spent.has_unknown_cost:
            exchange.decide("limits", "charged the worst case: the price of a try is not known")
        account.close(ledger, hold, own, spent, spend)


_NO_HOLD = Hold("", ())


class _Scope:
    """Written by hand: every request passes it."""

    __slots__ = ("_admission", "_call_next", "_exchange", "_hold", "_inner", "_matched", "_own")

    def __init__(self, admission: Admission, matched: Matched, exchange: Exchange, call_next: Handler) -> None:
        self._admission = admission
        self._matched = matched
        self._exchange = exchange
        self._call_next = call_next
        self._hold = _NO_HOLD
        self._own: Settled = matched.ones

    async def __aenter__(self) -> Reply:
        matched, exchange = self._matched, self._exchange
        desk = self._admission.desk
        if matched.metered:
            await self._admit_metered(desk)
        elif matched.fixed:
            self._hold, verdict = await desk.take(matched.fixed)
            self._show(matched.fixed, verdict)
            tell(exchange, matched, matched.fixed, matched.owners, verdict)
            if not verdict.granted:
                raise refusal(misfits(matched.fixed, matched.owners, verdict), exchange.priority, desk.now_s())
        else:
            self._hold = Hold(desk.ids(), ())
        try:
            self._inner = self._call_next(exchange)
            return await self._inner.__aenter__()
        except BaseException as error:
            self._admission.settle(exchange, self._hold, self._own, error)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._inner.__aexit__(kind, error, traceback)
        finally:
            self._admission.settle(self._exchange, self._hold, self._own, error)

    def _show(self, claims: Sequence[Claim], verdict: Verdict) -> None:
        """Write down for the client how its limits stand, if anybody knows."""
        if verdict.mode != "open":
            self._exchange.limits = states(claims, verdict.standings)

    async def _admit_metered(self, desk: Desk) -> None:
        """Try the ways that the rules allow, the client's own first, until one fits."""
        admission, exchange = self._admission, self._exchange
        settings, now_s = admission.settings, desk.now_s()
        max_tokens = bound_tokens(exchange, settings.default_max_tokens)
        detours: Detours | None = None
        way: Way | None = None
        if self._matched.has_downgrades:
            detours = Detours(admission.downgrades, self._matched, exchange)
            way = detours.by_level(now_s)
        with_budgets = True
        while True:
            quoter = way.quoter if way is not None else admission.quoter
            made = draft(
                self._matched,
                Quotes(partial(quoter.quote, exchange, max_tokens)),
                now_s,
                exchange.priority,
                with_budgets=with_budgets,
            )
            verdict = await self._take(desk, made)
            culprits = _budgets_alone(made, verdict)
            if culprits is None:
                break
            cheaper = detours.after(culprits) if detours is not None else None
            if cheaper is not None:
                way = cheaper
            elif culprits and with_budgets and settings.falls_over_budget:
                way, with_budgets = None, False
                exchange.decide(
                    "limits", f"{culprits[0].rule.name} has no room for the worst: each try asks for itself"
                )
            else:
                raise self._refused(made, verdict, now_s)
        self._tell(made, verdict)
        self._own = made.entries
        if way is not None:
            self._call_next = way.handler
        exchange.admission = Account(made.metered, quoter.covers if with_budgets else _covers_none)

    async def _take(self, desk: Desk, made: Draft) -> Verdict | None:
        """The verdict on a draft; None when it asks for nothing, or cannot be asked because a price is not known."""
        if made.unpriced or not made.claims:
            self._hold = Hold(desk.ids(), ())
            return None
        self._hold, verdict = await desk.take(made.claims)
        self._show(made.claims, verdict)
        if self._matched.has_downgrades:
            for claim, owner, standing in zip(made.claims, made.owners, verdict.standings, strict=True):
                if claim.kind == "budget":
                    owner.note(claim, standing)
        return verdict

    def _tell(self, made: Draft, verdict: Verdict | None) -> None:
        if verdict is not None:
            tell(self._exchange, self._matched, made.claims, made.owners, verdict)
            return
        for scoped in made.unpriced or self._matched.scoped:
            (scoped.tally.refused if made.unpriced else scoped.tally.allowed).value += 1

    def _refused(self, made: Draft, verdict: Verdict | None, now_s: float) -> GatewayError:
        self._tell(made, verdict)
        if verdict is None:
            return unpriced(made.unpriced[0])
        return refusal(misfits(made.claims, made.owners, verdict), self._exchange.priority, now_s)


def _covers_none(target: str) -> bool:
    return False


def _budgets_alone(made: Draft, verdict: Verdict | None) -> list[Scoped] | None:
    """The budgets that refuse a draft, empty when other rules refuse it too; None when nothing does."""
    if made.unpriced:
        return made.unpriced
    if verdict is None or verdict.granted:
        return None
    refusing = misfits(made.claims, made.owners, verdict)
    return [owner for owner, _, _ in refusing] if all(claim.kind == "budget" for _, claim, _ in refusing) else []
