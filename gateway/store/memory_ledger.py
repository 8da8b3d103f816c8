"""The ledger of one process: holds on counters in memory, decided without ever waiting.

`hold` never suspends, so nothing runs between looking at its counters and taking from them: that is
all the atomicity there is, and needs. Claims are taken one after the other; the first that does not
fit gives back those before it. What must survive the process is touched as it changes, and written
by the state file's thread.

Nothing stays for ever: counters that a fresh one could replace, settled ids and lapsed holds are
dropped a few at a time, on the way.
"""

from collections import deque
from collections.abc import Sequence

from gateway.core.clock import Clock
from gateway.store.base import LEASE_S, BudgetState, Claim, Grant, Hold, OnCrossing, Spend, Verdict
from gateway.store.counters import Books, BudgetCounter, Counter, SlotCounter, WindowCounter
from gateway.store.saving import Saver
from gateway.store.sqlite import StateFile
from gateway.store.tables import Saved
from gateway.store.totals import SpendTotals
from gateway.store.windows import US_PER_S

REMEMBERED = 512
"""Settled ids that are known at least; at most twice as many. Few, because what is kept of each request is memory
that the next ones cannot take again while it is still in the cache."""
_LEASE_US = round(LEASE_S * US_PER_S)
# Looked at after each `_SWEEP_US`: some 25 µs of work.
_SWEPT_AT_ONCE = 100
_SWEEP_US = 10_000
_HOUR_S = 3600.0

_CounterKey = tuple[str, str, str, str | float]


# When it was taken, and the counter of each claim: None for what a dry run did not take. A bare tuple: one is made
# for every request.
_Record = tuple[int, tuple[Claim, ...], list[Counter | None], Verdict]


class MemoryLedger:
    """Holds on this process's counters; see Ledger. A hold of three claims and its settlement cost 3.5 µs together.

    A hold that was refused is not remembered: its id, asked again, is decided again.
    """

    def __init__(
        self, file: StateFile | None, saved: Saved | None, saver: Saver, clock: Clock, on_crossing: OnCrossing
    ) -> None:
        self._monotonic = clock.monotonic
        self._wall = clock.wall
        self._file = file
        self._saver = saver
        self._books = Books(clock.wall, on_crossing, saver.touch)
        self._totals = SpendTotals(file, saver.touch)
        self._counters: dict[_CounterKey, Counter] = {}
        self._rota: deque[_CounterKey] = deque()
        self._live: dict[str, _Record] = {}
        self._lapsed: dict[str, _Record] = {}
        self._settled: dict[str, Verdict | None] = {}
        self._settled_before: dict[str, Verdict | None] = {}
        self._renews = False
        self._renewed_us = 0
        self._lapse_at_us = 0
        self._due_us = 0
        self._clean_at_s = 0.0
        if saved is not None:
            self._load(saved)

    def _load(self, saved: Saved) -> None:
        for rule, scope, period, ends_at_s, spent, _, told in saved.budgets:
            counter = BudgetCounter(rule, scope, period, ends_at_s, self._books)
            counter.spent, counter.told = spent, told
            self._enter((rule, scope, "nusd", period), counter)
        for grant in saved.grants:
            self._books.grants.add(Grant(*grant))

    def keep_alive(self) -> None:
        """Renew every live hold from now on, whenever this ledger does anything at all."""
        self._renews = True

    def renew(self) -> None:
        """Let the lease of every live hold begin anew, once."""
        self.tend()
        self._renewed_us = int(self._monotonic() * US_PER_S + 0.5)

    async def hold(self, hold_id: str, claims: Sequence[Claim]) -> Verdict:
        """See Ledger. Never suspends."""
        now_us = int(self._monotonic() * US_PER_S + 0.5)
        if now_us >= self._due_us:
            self._tend(now_us)
        if (
            hold_id in self._live
            or hold_id in self._settled
            or hold_id in self._settled_before
            or hold_id in self._lapsed
        ):
            return self._known(hold_id) or self._refuse(claims, (), now_us)
        known = self._counters
        counters: list[Counter | None] = []
        standings = []
        for claim in claims:
            key = (claim.rule, claim.scope, claim.unit, claim.period or claim.period_s)
            counter = known.get(key) or self._open(key, claim)
            standing = counter.take(claim, now_us)
            if standing is not None:
                counters.append(counter)
            elif claim.dry_run:
                standing = counter.standing(claim, now_us)
                counters.append(None)
            else:
                return self._refuse(claims, counters, now_us)
            standings.append(standing)
        verdict = Verdict(True, tuple(standings))
        self._live[hold_id] = (now_us, tuple(claims), counters, verdict)
        return verdict

    def _refuse(self, claims: Sequence[Claim], taken: Sequence[Counter | None], now_us: int) -> Verdict:
        for counter, claim in zip(taken, claims, strict=False):
            if counter is not None:
                counter.settle(claim, 0, now_us)
        standings = []
        for claim in claims:
            key = (claim.rule, claim.scope, claim.unit, claim.period or claim.period_s)
            counter = self._counters.get(key) or self._open(key, claim)
            standings.append(counter.standing(claim, now_us))
        return Verdict(False, tuple(standings))

    def _known(self, hold_id: str) -> Verdict | None:
        """The verdict that this hold has had; None when it was settled before it was asked for: that is too late."""
        record = self._live.get(hold_id) or self._lapsed.get(hold_id)
        if record is not None:
            return record[3]
        return self._settled.get(hold_id) or self._settled_before.get(hold_id)

    def _open(self, key: _CounterKey, claim: Claim) -> Counter:
        counter: Counter
        if claim.kind == "window":
            counter = WindowCounter(claim.period_s)
        elif claim.kind == "concurrency":
            counter = SlotCounter()
        else:
            counter = BudgetCounter(claim.rule, claim.scope, claim.period, claim.ends_at_s, self._books)
        self._enter(key, counter)
        return counter

    def _enter(self, key: _CounterKey, counter: Counter) -> None:
        self._counters[key] = counter
        self._rota.append(key)

    def settle(self, hold: Hold, used: Sequence[int], spend: Spend | None = None) -> None:
        """See Ledger."""
        hold_id = hold.id
        record = self._live.pop(hold_id, None)
        verdict: Verdict | None
        if record is None:
            if hold_id in self._settled or hold_id in self._settled_before:
                return
            verdict = self._settle_late(hold, used)
        else:
            taken_us, claims, counters, verdict = record
            for counter, claim, amount in zip(counters, claims, used, strict=True):
                if counter is not None:
                    counter.settle(claim, amount, taken_us)
        self._settled[hold_id] = verdict
        if len(self._settled) >= REMEMBERED:
            self._settled, self._settled_before = {}, self._settled
        if spend is not None:
            self._totals.add(spend)

    def _settle_late(self, hold: Hold, used: Sequence[int]) -> Verdict | None:
        """Settle a hold that has lapsed; its verdict. None: it was never made here, and is charged."""
        record = self._lapsed.pop(hold.id, None)
        if record is not None:
            taken_us, claims, counters, verdict = record
            for counter, claim, amount in zip(counters, claims, used, strict=True):
                if counter is not None:
                    counter.settle_late(claim, amount, taken_us)
            return verdict
        now_us = int(self._monotonic() * US_PER_S + 0.5)
        for claim, amount in zip(hold.claims, used, strict=True):
            key = (claim.rule, claim.scope, claim.unit, claim.period or claim.period_s)
            (self._counters.get(key) or self._open(key, claim)).charge(claim, amount, now_us)
        return None

    async def budgets(self) -> list[BudgetState]:
        """See Ledger."""
        self.tend()
        now_s = self._wall()
        amount = self._books.grants.amount
        return [
            BudgetState(
                each.rule,
                each.scope,
                each.period,
                each.ends_at_s,
                each.spent,
                each.held,
                amount(each.rule, each.scope, now_s),
            )
            for each in self._counters.values()
            if isinstance(each, BudgetCounter) and each.ends_at_s > now_s
        ]

    async def grant(self, grant: Grant) -> None:
        """See Ledger. Returns when it is in the state file."""
        if self._books.grants.add(grant):
            values = (grant.rule, grant.scope, grant.amount_nusd, grant.until_s)
            await self._saver.save([(("granted", (grant.id,)), values)])

    async def spend(self, first_day: str, last_day: str) -> list[Spend]:
        """See Ledger."""
        return await self._totals.between(first_day, last_day)

    def tend(self, rounds: int = 1) -> None:
        """End leases that are over, and drop some of what is no longer needed; `hold` does it on its way."""
        now_us = int(self._monotonic() * US_PER_S + 0.5)
        for _ in range(rounds):
            self._tend(now_us)

    def _tend(self, now_us: int) -> None:
        if self._renews:
            self._renewed_us = now_us
        elif now_us >= self._lapse_at_us:
            self._lapse(now_us)
        self._sweep(now_us)
        self._due_us = now_us + _SWEEP_US if self._renews else min(self._lapse_at_us, now_us + _SWEEP_US)
        now_s = self._wall()
        if now_s >= self._clean_at_s:
            self._clean_at_s = now_s + _HOUR_S
            self._books.grants.drop_ended()
            self._totals.drop_old(now_s)
            if self._file is not None:
                self._file.purge(now_s)

    def _lapse(self, now_us: int) -> None:
        over = []
        self._lapse_at_us = now_us + _LEASE_US
        for hold_id, record in self._live.items():
            ends_us = max(record[0], self._renewed_us) + _LEASE_US
            if ends_us > now_us:
                # They lie in the order in which they were taken, so this one ends next.
                self._lapse_at_us = ends_us
                break
            over.append(hold_id)
        for hold_id in over:
            record = self._live.pop(hold_id)
            taken_us, claims, counters, _ = record
            for counter, claim in zip(counters, claims, strict=True):
                if counter is not None:
                    counter.lapse(claim, taken_us)
            self._lapsed[hold_id] = record
            if len(self._lapsed) > REMEMBERED:
                del self._lapsed[next(iter(self._lapsed))]

    def _sweep(self, now_us: int) -> None:
        rota = self._rota
        for _ in range(min(len(rota), _SWEPT_AT_ONCE)):
            key = rota.popleft()
            if self._counters[key].is_idle(now_us):
                del self._counters[key]
            else:
                rota.append(key)
