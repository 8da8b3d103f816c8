"""The ledger in Redis: holds that all processes see."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any

from msgspec import Raw

from gateway.core.errors import StoreUnavailable
from gateway.store.base import BudgetState, Claim, Crossing, Grant, Hold, OnCrossing, Spend, Verdict
from gateway.store.batch import Batcher
from gateway.store.debts import Debts
from gateway.store.packing import (
    US_PER_S,
    Op,
    budget_name,
    pack_claims,
    read_budget,
    read_spend,
    read_verdict,
    split_budget_name,
)
from gateway.store.waiting import Mark, Operation

REMEMBERED = 8192
"""Settled ids that are known at least; at most twice as many."""
RECALLED = 2000
"""Settled ids that a store is told of whose memory is behind, lest it takes their holds for those of the dead."""
MOST_UNDELIVERED = 100_000
"""Settlements that wait one by one; after that they are summed up."""
RENEWED_AT_ONCE = 200
_MOST_DAYS = 800
_DAYS_AT_ONCE = 31
_LEAST_SWEPT = 10_000


class _Live:
    """A hold that is not settled. `is_known`: the store has been told of it, or is about to be."""

    __slots__ = ("claims", "is_known", "packed", "taken_us", "verdict")

    def __init__(self, claims: tuple[Claim, ...], packed: Raw, taken_us: int, verdict: Verdict) -> None:
        self.claims = claims
        self.packed = packed
        self.taken_us = taken_us
        self.verdict = verdict
        self.is_known = True


class RedisLedger:
    """See Ledger. `batcher` is set right after it has been made: they know each other."""

    batcher: Batcher

    def __init__(self, now_s: Callable[[], float], on_crossing: OnCrossing) -> None:
        self._now_s = now_s
        self._on_crossing = on_crossing
        self._debts = Debts()
        self._live: dict[str, _Live] = {}
        self._settled: dict[str, Verdict] = {}
        self._settled_before: dict[str, Verdict] = {}
        # Budget -> end of its period, spent, held, and the mark of the answer: as last heard.
        self._seen: dict[str, tuple[int, int, int, Mark]] = {}
        self._most_seen = _LEAST_SWEPT

    async def hold(self, hold_id: str, claims: Sequence[Claim]) -> Verdict:
        """See Ledger. A caller that is cancelled holds nothing (F72)."""
        known = self.known(hold_id)
        if known is not None:
            return known
        if not claims:
            return Verdict(True, ())
        packed = pack_claims(claims)
        future = self.batcher.ask((Op.HOLD, hold_id, packed), hold_id)
        try:
            answer = await future
        except asyncio.CancelledError:
            # Answered in the moment of the cancellation; what is not yet answered is released by the batcher.
            if future.done() and not future.cancelled() and future.exception() is None:
                self.batcher.tell((Op.RELEASE, [hold_id]))
            raise
        verdict = read_verdict(answer)
        if verdict.granted:
            self._live[hold_id] = _Live(tuple(claims), packed, self._now_us(), verdict)
        return verdict

    def known(self, hold_id: str) -> Verdict | None:
        """What was answered to a hold of this process; None for one that is not known, or was refused."""
        live = self._live.get(hold_id)
        if live is not None:
            return live.verdict
        return self._settled.get(hold_id) or self._settled_before.get(hold_id)

    def adopt(self, hold_id: str, claims: Sequence[Claim], verdict: Verdict) -> None:
        """A hold that was granted without the store: it is told of it as soon as it can be, if it lives so long."""
        live = _Live(tuple(claims), pack_claims(claims), self._now_us(), verdict)
        self._live[hold_id] = live
        if self.batcher.is_up:
            self.batcher.tell((Op.REGISTER, hold_id, live.packed, live.taken_us))
        else:
            live.is_known = False

    def settle(self, hold: Hold, used: Sequence[int], spend: Spend | None = None) -> None:
        """See Ledger."""
        hold_id = hold.id
        if hold_id in self._settled or hold_id in self._settled_before:
            return
        live = self._live.pop(hold_id, None)
        self._settled[hold_id] = Verdict(True, ()) if live is None else live.verdict
        if len(self._settled) >= REMEMBERED:
            self._settled, self._settled_before = {}, self._settled
        if spend is not None:
            self._debts.add(spend)
        if live is None:
            live = _Live(hold.claims, pack_claims(hold.claims), self._now_us(), Verdict(True, ()))
        if live.is_known and self.batcher.waiting < MOST_UNDELIVERED:
            self.batcher.tell((Op.SETTLE, hold_id, live.packed, used, live.taken_us))
        else:
            self._debts.charge(live.claims, used, live.taken_us)

    async def budgets(self) -> list[BudgetState]:
        """See Ledger."""
        found: dict[str, Sequence[Any]] = {}
        skip, has_more = 0, True
        while has_more:
            has_more, page = await self.batcher.ask((Op.READ_BUDGETS, skip))
            found.update((fields[0], fields) for fields in page)
            skip += len(page)
        now_us = self._now_us()
        current = [fields for fields in found.values() if fields[1] > now_us]
        granted = await self._granted([fields[0] for fields in current])
        return [read_budget(fields, granted[fields[0]]) for fields in current]

    async def _granted(self, names: Sequence[str]) -> dict[str, int]:
        by_rule: dict[str, list[str]] = {}
        for name in names:
            by_rule.setdefault(split_budget_name(name)[0], []).append(name)
        granted: dict[str, int] = {}
        for rule, of_rule in by_rule.items():
            scopes = [split_budget_name(name)[1] for name in of_rule]
            granted.update(zip(of_rule, await self.batcher.ask((Op.READ_GRANTED, rule, scopes)), strict=True))
        return granted

    async def grant(self, grant: Grant) -> None:
        """See Ledger."""
        until_us = int(grant.until_s * US_PER_S)
        await self.batcher.ask((Op.GRANT, grant.rule, grant.id, grant.scope, grant.amount_nusd, until_us))

    async def spend(self, first_day: str, last_day: str) -> list[Spend]:
        """See Ledger. At most the last 800 of these days."""
        last = date.fromisoformat(last_day)
        count = min((last - date.fromisoformat(first_day)).days + 1, _MOST_DAYS)
        days = [(last - timedelta(days=back)).isoformat() for back in range(count - 1, -1, -1)]
        found = []
        for at in range(0, len(days), _DAYS_AT_ONCE):
            some = days[at : at + _DAYS_AT_ONCE]
            answers = await asyncio.gather(*[self.batcher.ask((Op.READ_SPEND, day)) for day in some])
            for day, lines in zip(some, answers, strict=True):
                found += [read_spend(day, field, sums) for field, sums in lines]
        return found

    def last_used(self, claim: Claim) -> int:
        """Nano-USD of the claim's budget that were spent or held when this process last heard of it."""
        seen = self._seen.get(budget_name(claim.rule, claim.scope, claim.period))
        return 0 if seen is None else seen[1] + seen[2]

    async def renew(self) -> None:
        """Lengthen the lease of every live hold. Does nothing while the store is gone."""
        ids = [hold_id for hold_id, live in self._live.items() if live.is_known]
        try:
            for at in range(0, len(ids), RENEWED_AT_ONCE):
                missing = await self.batcher.ask((Op.RENEW, ids[at : at + RENEWED_AT_ONCE]))
                for hold_id in missing:
                    if live := self._live.get(hold_id):
                        self.batcher.tell((Op.REGISTER, hold_id, live.packed, live.taken_us))
        except StoreUnavailable:
            return

    @property
    def owed(self) -> int:
        """See waiting.Owner."""
        return self._debts.owed

    def collect(self) -> list[Operation]:
        """See waiting.Owner."""
        return self._debts.collect()

    def rejoin(self, is_first: bool, has_lost: bool) -> list[Operation]:
        """See waiting.Owner: the holds that live; and what was last seen of budgets and is over, if that is lost."""
        operations: list[Operation] = []
        if has_lost:
            operations += [(Op.AT_LEAST, name, seen[0], seen[1], *seen[3]) for name, seen in self._seen.items()]
            settled = [*self._settled_before, *self._settled][-RECALLED:]
            some = range(0, len(settled), RENEWED_AT_ONCE)
            operations += [(Op.FORGET, settled[at : at + RENEWED_AT_ONCE]) for at in some]
        for hold_id, live in self._live.items():
            if is_first or not live.is_known:
                operations.append((Op.REGISTER, hold_id, live.packed, live.taken_us))
                live.is_known = True
        return operations

    def learn(self, crossings: Sequence[Any], budgets: Sequence[Any], mark: Mark) -> None:
        """See waiting.Owner."""
        for name, ends_us, spent, held in budgets:
            self._seen[name] = (ends_us, spent, held, mark)
        if len(self._seen) > self._most_seen:
            now_us = self._now_us()
            self._seen = {name: seen for name, seen in self._seen.items() if seen[0] > now_us}
            self._most_seen = max(_LEAST_SWEPT, 2 * len(self._seen))
        for name, passed, spent, limit in crossings:
            rule, scope, period = split_budget_name(name)
            self._on_crossing(Crossing(rule, scope, period, passed, spent, limit))

    def _now_us(self) -> int:
        return int(self._now_s() * US_PER_S)
