"""Any store against a ledger that keeps every taking for ever and adds them all up each time it is asked.

A test file of a store makes a machine of its own, and hypothesis runs it:

    class MemoryMachine(LedgerMachine):
        def open_bench(self) -> AbstractAsyncContextManager[Bench]: ...

    TestProperties = MemoryMachine.TestCase

A store whose clock the test cannot move says `now_us = None`: then no time passes in the model, which is true
enough as long as the windows are an hour long, and `PERIOD_S` says so.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.store.base import BudgetState, Claim, Crossing, Grant, Hold, Verdict
from tests.unit.store.behaviour import Bench

Key = tuple[str, str, str]

SCOPES = ("", "key=a", "key=b")
FAR_S = 1_000_000.0
"""Until the budgets' period ends; no test gets there."""


@dataclass(slots=True)
class Taking:
    """What one claim of one hold took."""

    claim: Claim
    at_us: int
    amount: int
    state: Literal["held", "settled", "lapsed"] = "held"


@dataclass(slots=True)
class Model:
    """Everything that ever happened. Slow, and too simple to be wrong."""

    period_s: float
    now_us: Callable[[], int]
    takings: dict[Key, list[Taking]] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    told: dict[Key, int] = field(default_factory=dict)
    crossings: list[Crossing] = field(default_factory=list)

    def counts(self, taking: Taking) -> bool:
        """Whether a taking is part of what its counter has in use."""
        if taking.claim.kind == "concurrency":
            return taking.state == "held"
        if taking.claim.kind == "budget":
            return True
        width_us = round(self.period_s * 10_000)
        return self.now_us() // width_us - taking.at_us // width_us <= 100

    def used(self, claim: Claim) -> int:
        """Units in use at the claim's counter."""
        return sum(taking.amount for taking in self.takings.get(key_of(claim), ()) if self.counts(taking))

    def limit(self, claim: Claim) -> int:
        """The claim's limit, with grants."""
        return claim.limit + (self.granted(claim.rule, claim.scope) if claim.kind == "budget" else 0)

    def granted(self, rule: str, scope: str) -> int:
        """Sum of the grants for a budget."""
        return sum(
            grant.amount_nusd for grant in self.grants.values() if grant.rule == rule and grant.scope in (scope, "*")
        )

    def fits(self, claim: Claim) -> bool:
        """Whether the claim alone fits."""
        return self.used(claim) + max(claim.amount, 1) <= self.limit(claim)

    def take(self, claims: Sequence[Claim]) -> list[Taking | None] | None:
        """What each claim took (None: a dry run that did not fit), or None when the hold is refused."""
        if not all(claim.dry_run or self.fits(claim) for claim in claims):
            return None
        took: list[Taking | None] = []
        for claim in claims:
            taking = Taking(claim, self.now_us(), claim.amount) if self.fits(claim) else None
            if taking is not None:
                self.takings.setdefault(key_of(claim), []).append(taking)
            took.append(taking)
        return took

    def end(self, taking: Taking, used: int) -> None:
        """Settle."""
        taking.state = "settled"
        taking.amount = used
        self._tell(taking.claim)

    def lapse(self, taking: Taking) -> None:
        """Nobody settled it in time."""
        taking.state = "lapsed"
        if not taking.claim.charge_lost:
            taking.amount = 0
        self._tell(taking.claim)

    def charge(self, claim: Claim, used: int) -> None:
        """Settle what was never held here."""
        if claim.kind != "concurrency":
            taking = Taking(claim, self.now_us(), used)
            self.takings.setdefault(key_of(claim), []).append(taking)
            self.end(taking, used)

    def _tell(self, claim: Claim) -> None:
        if claim.kind != "budget":
            return
        key = key_of(claim)
        spent = self.spent(key)
        for mark in claim.alert_at:
            if self.told.get(key, 0) < mark <= spent:
                self.told[key] = mark
                self.crossings.append(Crossing(claim.rule, claim.scope, claim.period, mark, spent, claim.limit))

    def spent(self, key: Key) -> int:
        """Of a budget: what is not held."""
        return sum(taking.amount for taking in self.takings.get(key, ()) if taking.state != "held")

    def budgets(self) -> set[tuple[str, str, int, int, int]]:
        """Rule, scope, spent, held and granted of every budget that has something of them."""
        found = set()
        for (name, scope, unit), takings in self.takings.items():
            if unit == "nusd":
                held = sum(taking.amount for taking in takings if taking.state == "held")
                found.add((name, scope, self.spent((name, scope, unit)), held, self.granted(name, scope)))
        return {each for each in found if any(each[2:4])}


def key_of(claim: Claim) -> Key:
    """Which counter a claim is about."""
    return claim.rule, claim.scope, claim.unit


@st.composite
def some_claims(draw: st.DrawFn, period_s: float, ends_at_s: float) -> tuple[Claim, ...]:
    """Claims on counters that differ, small enough that several fit and that limits are met."""
    claims = []
    for kind in draw(st.lists(st.sampled_from("rtcbB"), min_size=1, max_size=4, unique=True)):
        scope = draw(st.sampled_from(SCOPES))
        dry_run = draw(st.integers(0, 5)) == 0
        if kind == "r":
            limit = draw(st.sampled_from((4, 6)))
            claims.append(Claim("rate", scope, "window", "requests", 1, limit, period_s, dry_run=dry_run))
        elif kind == "t":
            amount = draw(st.sampled_from((0, 50, 100)) | st.integers(0, 120))
            claims.append(Claim("rate", scope, "window", "tokens", amount, 100, period_s, dry_run=dry_run))
        elif kind == "c":
            claims.append(Claim("slots", scope, "concurrency", "slots", 1, 3, dry_run=dry_run))
        else:
            claims.append(
                Claim(
                    "day" if kind == "b" else "week",
                    scope,
                    "budget",
                    "nusd",
                    draw(st.sampled_from((0, 500, 1000)) | st.integers(0, 1200)),
                    1000,
                    period="2026-11-21",
                    ends_at_s=ends_at_s,
                    dry_run=dry_run,
                    charge_lost=kind == "B",
                    alert_at=(500, 800),
                )
            )
    return tuple(claims)


class LedgerMachine(RuleBasedStateMachine):
    """Holds, settlements, grants and time in any order; the store and the model must agree on everything."""

    PERIOD_S = 2.0

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.bench = self.runner.run(self.stack.enter_async_context(self.open_bench()))
        self.model = Model(self.PERIOD_S, self.now_us or (lambda: 0))
        self.ends_at_s = self.bench.wall() + FAR_S
        self.live: list[tuple[Hold, Verdict, list[Taking | None]]] = []
        self.lapsed: list[tuple[Hold, Verdict, list[Taking | None]]] = []
        self.settled: list[Hold] = []
        self.count = 0

    def open_bench(self) -> AbstractAsyncContextManager[Bench]:
        """A started store, empty."""
        raise NotImplementedError

    @property
    def now_us(self) -> Callable[[], int] | None:
        """The clock of the store's windows in microseconds, if the test moves it."""
        return None

    def teardown(self) -> None:
        """Close the store."""
        self.runner.run(self.stack.aclose())
        self.runner.close()

    @rule(data=st.data(), times=st.integers(1, 4))
    def hold(self, data: st.DataObject, times: int) -> None:
        """Ask for something new."""
        for _ in range(times):
            self.hold_one(data)

    def hold_one(self, data: st.DataObject) -> None:
        """Ask once."""
        claims = data.draw(some_claims(self.PERIOD_S, self.ends_at_s))
        self.count += 1
        hold = Hold(f"hold-{self.count}", claims)
        fits = [self.model.fits(claim) for claim in claims]
        before = [self.model.used(claim) for claim in claims]
        took = self.model.take(claims)
        verdict = self.runner.run(self.bench.store.ledger.hold(hold.id, claims))
        assert verdict.granted == (took is not None)
        assert [standing.fits for standing in verdict.standings] == fits
        assert [standing.limit for standing in verdict.standings] == [self.model.limit(claim) for claim in claims]
        used = before if took is None else [self.model.used(claim) for claim in claims]
        assert [standing.used for standing in verdict.standings] == used
        for claim, standing in zip(claims, verdict.standings, strict=True):
            assert (standing.retry_after_s == 0) == standing.fits
            assert (standing.retry_after_s == inf) == (max(claim.amount, 1) > self.model.limit(claim))
        if took is not None:
            self.live.append((hold, verdict, took))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def hold_again(self, data: st.DataObject) -> None:
        """The same id is the same hold."""
        hold, verdict, _ = data.draw(st.sampled_from(self.live))
        again = self.runner.run(self.bench.store.ledger.hold(hold.id, hold.claims))
        assert again.granted
        assert [standing.fits for standing in again.standings] == [standing.fits for standing in verdict.standings]

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """End a hold in its time."""
        self.end(data, self.live)

    @precondition(lambda self: self.lapsed)
    @rule(data=st.data())
    def settle_late(self, data: st.DataObject) -> None:
        """End a hold after its lease."""
        self.end(data, self.lapsed)

    def end(self, data: st.DataObject, holds: list[tuple[Hold, Verdict, list[Taking | None]]]) -> None:
        """Settle one of `holds`."""
        hold, _, took = holds.pop(data.draw(st.integers(0, len(holds) - 1)))
        used = [data.draw(st.integers(0, claim.amount + claim.amount // 10)) for claim in hold.claims]
        for taking, amount in zip(took, used, strict=True):
            if taking is not None:
                self.model.end(taking, amount)
        self.bench.store.ledger.settle(hold, used)
        self.settled.append(hold)

    @rule(data=st.data())
    def settle_oddly(self, data: st.DataObject) -> None:
        """Again, which changes nothing; or what is not known."""
        if not self.settled or data.draw(st.booleans()):
            self.settle_unknown(data)
            return
        hold = data.draw(st.sampled_from(self.settled))
        self.bench.store.ledger.settle(hold, [claim.amount for claim in hold.claims])

    def settle_unknown(self, data: st.DataObject) -> None:
        """Charge what another store has admitted."""
        claims = data.draw(some_claims(self.PERIOD_S, self.ends_at_s))
        self.count += 1
        hold = Hold(f"hold-{self.count}", claims)
        for claim in claims:
            self.model.charge(claim, claim.amount // 2)
        self.bench.store.ledger.settle(hold, [claim.amount // 2 for claim in claims])
        self.settled.append(hold)

    @rule(name=st.sampled_from(("day", "week")), scope=st.sampled_from((*SCOPES, "*")), number=st.integers(0, 3))
    def grant(self, name: str, scope: str, number: int) -> None:
        """More room; a known id changes nothing."""
        grant = Grant(f"grant-{number}", name, scope, 300, self.ends_at_s + FAR_S)
        self.model.grants.setdefault(grant.id, grant)
        self.runner.run(self.bench.store.ledger.grant(grant))

    @precondition(lambda self: self.now_us is not None)
    @rule(seconds=st.sampled_from((0.001, 0.02, 0.5, 1.0, 2.0)))
    def advance(self, seconds: float) -> None:
        """Time passes, and holds live on."""
        self.runner.run(self.bench.advance(seconds))

    @precondition(lambda self: self.live)
    @rule(rarely=st.sampled_from((False, False, True)))
    def lapse(self, rarely: bool) -> None:
        """Nobody renews anything."""
        if not rarely:
            return
        self.runner.run(self.bench.lapse())
        for lapsed in self.live:
            for taking in lapsed[2]:
                if taking is not None:
                    self.model.lapse(taking)
            self.lapsed.append(lapsed)
        self.live.clear()

    @invariant()
    def budgets_agree(self) -> None:
        """Spent, held and granted are the model's, and every mark was told once, in order."""

        async def read() -> list[BudgetState]:
            await self.bench.delivered()
            return await self.bench.store.ledger.budgets()

        budgets = self.runner.run(read())
        found = {(each.rule, each.scope, each.spent_nusd, each.held_nusd, each.granted_nusd) for each in budgets}
        assert {each for each in found if any(each[2:4])} == self.model.budgets()
        assert by_counter(self.bench.crossings) == by_counter(self.model.crossings)


def by_counter(crossings: Sequence[Crossing]) -> list[Crossing]:
    """In an order in which several counters that lapse at once do not matter."""
    return sorted(crossings, key=lambda each: (each.rule, each.scope, each.mark_nusd))
