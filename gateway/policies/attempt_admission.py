"""Limits of targets, and the money of the tries after the first.

Stands around each target, inside whatever repeats a try. Above the yield the rules that mention a
target take a hold for this try alone; and where what the exchange holds does not cover this try at this
target's price, beside what other tries have used and may yet use, the difference is held too. Below
it the try's own hold is settled with what it used; the difference is given back with the exchange.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from gateway.core.errors import GatewayError
from gateway.core.exchange import Exchange, Reply
from gateway.core.pipeline import Handler
from gateway.policies.claims import Account, Cover, Draft, Entry, draft, totals, used_of
from gateway.policies.desk import Desk
from gateway.policies.matching import Matched, RuleSet
from gateway.policies.quoting import DEFAULT_MAX_TOKENS, Quote, Quotes, TargetQuoter, bound_tokens
from gateway.policies.verdicts import misfits, refusal, tell, tell_refused, unpriced
from gateway.store.base import Claim, Hold, Verdict


class AttemptAdmission:
    """The admission of tries at one target. Raises Refused and StoreUnavailable before the try is one.

    A branch of an exchange that may outlive it (a shadow) needs an `Admission` of its own.
    """

    def __init__(self, target: str, rules: RuleSet, desk: Desk, quoter: TargetQuoter) -> None:
        self.target = target
        self.desk = desk
        self.quoter = quoter
        self._choose = rules.for_target(target)

    def __call__(self, exchange: Exchange, call_next: Handler) -> AbstractAsyncContextManager[Reply]:
        """The reply of `call_next`, if there is room for this try."""
        account = exchange.admission
        if not isinstance(account, Account) or account.is_closed:
            account = None
        matched = None
        if not self._choose.is_empty:
            matched = self._choose(exchange)
            if not matched.scoped:
                matched = None
        if account is None and matched is None:
            return call_next(exchange)
        return _Scope(self, exchange, call_next, account, matched)


class _Scope:
    """Written by hand: every try passes it."""

    __slots__ = (
        "_account", "_admission", "_call_next", "_cover", "_draft",
        "_exchange", "_first", "_hold", "_inner", "_matched",
    )  # fmt: skip

    def __init__(
        self,
        admission: AttemptAdmission,
        exchange: Exchange,
        call_next: Handler,
        account: Account | None,
        matched: Matched | None,
    ) -> None:
        self._admission = admission
        self._exchange = exchange
        self._call_next = call_next
        self._account = account
        self._matched = matched
        self._first = len(exchange.attempts)
        self._hold: Hold | None = None
        self._draft: Draft | None = None
        self._cover: Cover | None = None

    async def __aenter__(self) -> Reply:
        try:
            quotes = Quotes(self._quote)
            if self._matched is not None:
                await self._take(self._matched, quotes)
            if self._account is not None:
                await self._extend(self._account, quotes)
            self._inner = self._call_next(self._exchange)
            return await self._inner.__aenter__()
        except BaseException:
            self._settle()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._inner.__aexit__(kind, error, traceback)
        finally:
            self._settle()

    async def _take(self, matched: Matched, quotes: Quotes) -> None:
        """Hold what the rules about this target ask for."""
        exchange, desk = self._exchange, self._admission.desk
        now_s = desk.now_s()
        made = draft(matched, quotes, now_s, exchange.priority)
        if made.unpriced:
            made.unpriced[0].tally.refused.value += 1
            raise unpriced(made.unpriced[0])
        if not made.claims:
            return
        hold, verdict = await desk.take(made.claims)
        tell(exchange, matched, made.claims, made.owners, verdict)
        if not verdict.granted:
            raise refusal(misfits(made.claims, made.owners, verdict), exchange.priority, now_s)
        self._hold, self._draft = hold, made

    async def _extend(self, account: Account, quotes: Quotes) -> None:
        """Hold what the exchange's own hold lacks for this try."""
        exchange = self._exchange
        cover = Cover(account.entries, quotes)
        if account.is_enough(self._admission.target):
            self._begin(account, cover)
            return
        no_price = cover.work_out()
        if no_price:
            raise unpriced(no_price[0])
        missing = account.missing(cover)
        # Before waiting, so that a try beside this one sees both what is asked for and what it is for.
        self._begin(account, cover)
        short = [(entry, amount) for entry, amount in zip(account.entries, missing, strict=True) if amount]
        if not short:
            return
        desk = self._admission.desk
        now_s = desk.now_s()
        claims = [entry.claim(amount, now_s, exchange.priority) for entry, amount in short]
        for entry, amount in short:
            entry.held += amount
        granted = False
        try:
            hold, verdict = await desk.take(claims)
            granted = verdict.granted
        finally:
            if not granted:
                for entry, amount in short:
                    entry.held -= amount
        if not granted:
            raise self._refused(claims, verdict, [entry for entry, _ in short])
        account.add(hold, [entry for entry, _ in short])

    def _begin(self, account: Account, cover: Cover) -> None:
        account.live.append(cover)
        self._cover = cover

    def _refused(self, claims: Sequence[Claim], verdict: Verdict, short: Sequence[Entry]) -> GatewayError:
        exchange = self._exchange
        refusing = misfits(claims, [entry.owner for entry in short], verdict)
        tell_refused(exchange, refusing)
        return refusal(refusing, exchange.priority, self._admission.desk.now_s())

    def _settle(self) -> None:
        attempts = self._exchange.attempts[self._first :]
        spent = totals(attempts)
        if self._cover is not None:
            assert self._account is not None
            self._account.end(self._cover, spent)
            self._cover = None
        hold, made = self._hold, self._draft
        if hold is not None:
            assert made is not None
            self._hold = None
            # Nothing was tried: whoever stood further in has refused it.
            used = used_of(hold, made.entries, spent) if attempts else [0] * len(hold.claims)
            self._admission.desk.ledger.settle(hold, used)

    def _quote(self, strict: bool) -> Quote:
        admission, exchange = self._admission, self._exchange
        max_tokens = bound_tokens(exchange, DEFAULT_MAX_TOKENS)
        return admission.quoter.worst_case(exchange.request, max_tokens, strict)
