"""What every store does, whichever it is: one suite, run against memory and against a real Redis.

A test file of a store has a fixture `bench` that gives a `Bench`, and a class that inherits `StoreBehaviour`:

    @pytest.fixture
    async def bench() -> AsyncIterator[Bench]: ...

    class TestMemory(StoreBehaviour): ...
"""

import asyncio
import itertools
import math
from collections.abc import Sequence
from typing import Any, Protocol

import pytest
from msgspec.structs import replace

from gateway.store.base import (
    AuditEntry,
    BudgetState,
    Claim,
    Crossing,
    Grant,
    Hold,
    Override,
    Spend,
    Standing,
    Store,
    Verdict,
)

PERIOD_S = 1.0
"""Length of the windows here: short, for stores whose clock cannot be moved."""

_ids = itertools.count()


class Bench(Protocol):
    """A started store, and what a test cannot do through its protocol."""

    store: Store
    crossings: list[Crossing]
    """What `on_crossing` was called with."""

    def wall(self) -> float:
        """Unix seconds on the store's own clock."""
        ...

    async def advance(self, seconds: float) -> None:
        """Let that much time pass for the store; holds that live are renewed meanwhile, as in a running process."""
        ...

    async def lapse(self) -> None:
        """Let the lease of every hold that is not settled by now run out, as if its process had died."""
        ...

    async def delivered(self) -> None:
        """Return when everything settled so far is in the store."""
        ...


def hold_id() -> str:
    """One that nobody had before."""
    return f"hold-{next(_ids)}"


def requests(limit: int, *, rule: str = "rate", scope: str = "key=a", period_s: float = PERIOD_S, **more: Any) -> Claim:
    """One request of at most `limit` in a window."""
    return Claim(rule, scope, "window", "requests", 1, limit, period_s=period_s, **more)


def tokens(amount: int, limit: int, *, rule: str = "tpm", scope: str = "key=a", **more: Any) -> Claim:
    """`amount` tokens of at most `limit` in a window."""
    return Claim(rule, scope, "window", "tokens", amount, limit, period_s=PERIOD_S, **more)


def slot(limit: int, *, rule: str = "slots", scope: str = "key=a", **more: Any) -> Claim:
    """One of `limit` slots."""
    return Claim(rule, scope, "concurrency", "slots", 1, limit, **more)


def money(bench: Bench, amount: int, limit: int, *, scope: str = "key=a", **more: Any) -> Claim:
    """`amount` nano-USD of a budget whose period ends in an hour."""
    terms: dict[str, Any] = {"period": "2026-11-21", "ends_at_s": bench.wall() + 3600.0, "rule": "day"}
    return Claim(scope=scope, kind="budget", unit="nusd", amount=amount, limit=limit, **(terms | more))


async def ask(bench: Bench, *claims: Claim) -> Hold | None:
    """The hold, if it was granted."""
    hold = Hold(hold_id(), claims)
    verdict = await bench.store.ledger.hold(hold.id, claims)
    assert len(verdict.standings) == len(claims)
    return hold if verdict.granted else None


async def take(bench: Bench, *claims: Claim) -> Hold:
    """A hold that must be granted."""
    hold = await ask(bench, *claims)
    assert hold is not None
    return hold


async def look(bench: Bench, claim: Claim) -> Standing:
    """How a counter stands for `claim`, taking nothing: asked together with what can never be."""
    never = Claim("never", "", "concurrency", "slots", 1, 0)
    verdict = await bench.store.ledger.hold(hold_id(), (claim, never))
    assert not verdict.granted
    return verdict.standings[0]


async def spend_it(bench: Bench, claim: Claim, *, used: int | None = None) -> None:
    """Take and settle: `used`, or the whole amount."""
    hold = await take(bench, claim)
    bench.store.ledger.settle(hold, (claim.amount if used is None else used,))


async def state(bench: Bench, scope: str = "key=a") -> BudgetState:
    """The one budget counter of `scope`."""
    await bench.delivered()
    (found,) = [each for each in await bench.store.ledger.budgets() if each.scope == scope]
    return found


def a_spend(**changes: Any) -> Spend:
    """One request's addition to the totals."""
    base = Spend("2026-11-21", "checkout", "chat", "gpt", (("team", "ml"),), 1, 10, 5, 300)
    return replace(base, **changes)


@pytest.mark.anyio
class WindowBehaviour:
    """Sliding windows."""

    async def test_a_window_admits_its_limit_and_not_one_more(self, bench: Bench) -> None:
        held = [await ask(bench, requests(5)) for _ in range(8)]
        assert [hold is not None for hold in held] == [True] * 5 + [False] * 3

    async def test_refused_requests_consume_nothing(self, bench: Bench) -> None:
        """F65: hammering does not keep a window full."""
        claim = requests(2)
        await take(bench, claim)
        await take(bench, claim)
        for _ in range(50):
            assert await ask(bench, claim) is None
        await bench.advance(PERIOD_S * 1.02)
        await take(bench, claim)
        await take(bench, claim)

    async def test_no_double_at_the_edge_of_a_window(self, bench: Bench) -> None:
        """F63."""
        claim = requests(10)
        await bench.advance(PERIOD_S * 0.9)
        admitted = [await ask(bench, claim) for _ in range(20)]
        await bench.advance(PERIOD_S * 0.2)
        admitted += [await ask(bench, claim) for _ in range(20)]
        assert sum(hold is not None for hold in admitted) == 10

    async def test_after_retry_after_the_claim_fits(self, bench: Bench) -> None:
        claim = tokens(60, 100)
        await take(bench, claim)
        await bench.advance(PERIOD_S * 0.3)
        await take(bench, tokens(30, 100))
        standing = await look(bench, claim)
        assert not standing.fits
        assert 0 < standing.retry_after_s <= PERIOD_S * 1.011
        await bench.advance(standing.retry_after_s)
        await take(bench, claim)

    async def test_what_is_larger_than_its_limit_never_fits(self, bench: Bench) -> None:
        standing = await look(bench, tokens(101, 100))
        assert (standing.fits, standing.retry_after_s) == (False, math.inf)

    async def test_tokens_settled_to_less_make_room_at_once(self, bench: Bench) -> None:
        """F52: the worst case is held; the truth counts afterwards."""
        hold = await take(bench, tokens(900, 1000))
        assert await ask(bench, tokens(900, 1000)) is None
        bench.store.ledger.settle(hold, (100,))
        await take(bench, tokens(900, 1000))

    async def test_tokens_settled_to_more_take_room_at_once(self, bench: Bench) -> None:
        hold = await take(bench, tokens(10, 1000))
        bench.store.ledger.settle(hold, (950,))
        assert await ask(bench, tokens(51, 1000)) is None
        await take(bench, tokens(50, 1000))

    async def test_tokens_are_settled_in_the_moment_in_which_they_were_taken(self, bench: Bench) -> None:
        hold = await take(bench, tokens(10, 100))
        await bench.advance(PERIOD_S * 0.6)
        bench.store.ledger.settle(hold, (100,))
        assert await ask(bench, tokens(1, 100)) is None
        await bench.advance(PERIOD_S * 0.45)
        await take(bench, tokens(100, 100))

    async def test_a_settlement_after_the_window_changes_nothing(self, bench: Bench) -> None:
        hold = await take(bench, tokens(10, 100))
        await bench.advance(PERIOD_S * 1.05)
        await take(bench, tokens(50, 100))
        bench.store.ledger.settle(hold, (100,))
        await take(bench, tokens(50, 100))
        assert await ask(bench, tokens(1, 100)) is None

    async def test_standings_agree_with_the_next_decision(self, bench: Bench) -> None:
        """F64: what is said to be left can be taken, and not one more."""
        verdict = await bench.store.ledger.hold(hold_id(), (tokens(30, 100),))
        (standing,) = verdict.standings
        assert (standing.fits, standing.used, standing.limit, standing.retry_after_s) == (True, 30, 100, 0.0)
        assert PERIOD_S * 0.9 <= standing.reset_s <= PERIOD_S * 1.011
        assert await ask(bench, tokens(71, 100)) is None
        await take(bench, tokens(70, 100))

    async def test_a_refused_standing_does_not_count_its_own_claim(self, bench: Bench) -> None:
        await take(bench, tokens(30, 100))
        standing = await look(bench, tokens(71, 100))
        assert (standing.fits, standing.used, standing.limit) == (False, 30, 100)
        assert (await look(bench, tokens(70, 100))).fits

    async def test_an_untouched_window_has_nothing_to_reset(self, bench: Bench) -> None:
        standing = await look(bench, tokens(1, 100))
        assert (standing.fits, standing.used, standing.reset_s) == (True, 0, 0.0)

    async def test_nothing_asked_fits_only_while_something_is_left(self, bench: Bench) -> None:
        await take(bench, tokens(99, 100))
        await take(bench, tokens(0, 100))
        await take(bench, tokens(1, 100))
        assert await ask(bench, tokens(0, 100)) is None

    async def test_a_new_limit_holds_for_what_is_already_counted(self, bench: Bench) -> None:
        """F61: counters live apart from the configuration."""
        for _ in range(3):
            await take(bench, requests(5))
        assert await ask(bench, requests(3)) is None
        await take(bench, requests(4))

    async def test_counters_of_different_names_do_not_meet(self, bench: Bench) -> None:
        """F60: no name can be written so that it is somebody else's."""
        names = [("a", "b|c"), ("a|b", "c"), ("a", ""), ("", "a"), ("{a}", "b"), ("a", "*"), ("a:b", "c"), ("a", "b:c")]
        names += [("a", "tag=\N{SNOWMAN}"), ("a", "b\nc"), ("a b", "c"), ("a", "b c")]
        for rule, scope in names:
            for claim in (requests(1, rule=rule, scope=scope), tokens(1, 1, rule=rule, scope=scope)):
                await take(bench, claim)
                assert await ask(bench, claim) is None


@pytest.mark.anyio
class HoldBehaviour:
    """Holds as a whole: all or none, once, and given back."""

    async def test_all_claims_are_taken_or_none(self, bench: Bench) -> None:
        first, last = requests(10), slot(1)
        purse = money(bench, 10, 100)
        await take(bench, slot(1))
        for _ in range(20):
            assert await ask(bench, first, purse, last) is None
        assert (await look(bench, first)).used == 0
        assert (await look(bench, purse)).used == 0

    async def test_each_standing_says_whether_its_claim_alone_fitted(self, bench: Bench) -> None:
        await take(bench, slot(1))
        verdict = await bench.store.ledger.hold(hold_id(), (requests(10), slot(1), tokens(5, 4)))
        assert not verdict.granted
        assert [standing.fits for standing in verdict.standings] == [True, False, False]

    async def test_no_claims_are_granted(self, bench: Bench) -> None:
        assert await bench.store.ledger.hold(hold_id(), ()) == Verdict(True, ())

    async def test_slots_come_back_whatever_was_used(self, bench: Bench) -> None:
        """F6, F9."""
        for used in (0, 1, 7):
            holds = [await take(bench, slot(2)) for _ in range(2)]
            assert await ask(bench, slot(2)) is None
            for hold in holds:
                bench.store.ledger.settle(hold, (used,))

    async def test_a_full_counter_of_slots_says_when_to_come_back(self, bench: Bench) -> None:
        await take(bench, slot(1))
        standing = await look(bench, slot(1))
        assert (standing.fits, standing.used) == (False, 1)
        assert 0 < standing.retry_after_s < math.inf
        assert (await look(bench, slot(0, rule="none"))).retry_after_s == math.inf

    async def test_the_same_hold_twice_is_one(self, bench: Bench) -> None:
        """F68."""
        claims = (requests(10), slot(10), money(bench, 5, 100))
        hold = Hold(hold_id(), claims)
        first = await bench.store.ledger.hold(hold.id, claims)
        again = await bench.store.ledger.hold(hold.id, claims)
        assert first.granted
        assert again.granted
        assert [standing.used for standing in again.standings] == [1, 1, 5]
        bench.store.ledger.settle(hold, (1, 1, 4))
        assert (await bench.store.ledger.hold(hold.id, claims)).granted
        assert [(await look(bench, claim)).used for claim in claims] == [1, 0, 4]

    async def test_settling_twice_is_settling_once(self, bench: Bench) -> None:
        purse = money(bench, 50, 100)
        held = await take(bench, slot(2), purse)
        await take(bench, slot(2))
        bench.store.ledger.settle(held, (1, 30), a_spend())
        bench.store.ledger.settle(held, (1, 30), a_spend())
        assert (await look(bench, slot(2))).used == 1
        assert (await state(bench)).spent_nusd == 30
        assert await bench.store.ledger.spend("2026-11-21", "2026-11-21") == [a_spend()]

    async def test_what_was_never_held_is_charged_all_the_same(self, bench: Bench) -> None:
        purse = money(bench, 50, 100)
        bench.store.ledger.settle(Hold(hold_id(), (purse,)), (70,))
        assert (await look(bench, purse)).used == 70

    async def test_a_dry_run_counts_and_never_refuses(self, bench: Bench) -> None:
        dry = requests(2, dry_run=True)
        fits = []
        for _ in range(4):
            verdict = await bench.store.ledger.hold(hold_id(), (dry, slot(100)))
            assert verdict.granted
            fits.append(verdict.standings[0].fits)
        assert fits == [True, True, False, False]
        assert (await look(bench, dry)).used == 2

    async def test_a_dry_budget_is_charged_for_what_fitted(self, bench: Bench) -> None:
        dry = money(bench, 60, 100, dry_run=True)
        first, second = await take(bench, dry), await take(bench, dry)
        bench.store.ledger.settle(first, (50,))
        bench.store.ledger.settle(second, (50,))
        assert (await state(bench)).spent_nusd == 50

    async def test_a_lapsed_hold_is_given_back(self, bench: Bench) -> None:
        """F7, F51."""
        purse = money(bench, 100, 100)
        await take(bench, slot(1), purse)
        assert await ask(bench, slot(1)) is None
        await bench.lapse()
        assert (await state(bench)).held_nusd == 0
        await take(bench, slot(1), purse)

    async def test_a_lapsed_hold_is_spent_where_the_rule_says_so(self, bench: Bench) -> None:
        await take(bench, money(bench, 70, 100, charge_lost=True))
        await bench.lapse()
        now = await state(bench)
        assert (now.spent_nusd, now.held_nusd) == (70, 0)

    @pytest.mark.parametrize("charge_lost", [False, True])
    async def test_a_hold_settled_after_its_lease_is_charged_what_it_used(
        self, bench: Bench, charge_lost: bool
    ) -> None:
        purse = money(bench, 70, 100, charge_lost=charge_lost)
        hold = await take(bench, slot(2), purse)
        await bench.lapse()
        await take(bench, slot(2))
        bench.store.ledger.settle(hold, (1, 30))
        bench.store.ledger.settle(hold, (1, 30))
        now = await state(bench)
        assert (now.spent_nusd, now.held_nusd) == (30, 0)
        assert (await look(bench, slot(2))).used == 1

    async def test_a_living_hold_outlives_its_first_lease(self, bench: Bench) -> None:
        hold = await take(bench, slot(1))
        await bench.advance(0.1)
        assert await ask(bench, slot(1)) is None
        bench.store.ledger.settle(hold, (1,))
        await take(bench, slot(1))

    async def test_many_at_once_get_what_there_is(self, bench: Bench) -> None:
        """F6: a slot is one request's, however many come at once."""
        granted = await asyncio.gather(*[ask(bench, slot(20), requests(30)) for _ in range(200)])
        assert sum(hold is not None for hold in granted) == 20
        for hold in granted:
            if hold is not None:
                bench.store.ledger.settle(hold, (1, 1))
        again = await asyncio.gather(*[ask(bench, slot(20), requests(30)) for _ in range(200)])
        assert sum(hold is not None for hold in again) == 10


@pytest.mark.anyio
class BudgetBehaviour:
    """Money."""

    async def test_a_thousand_at_once_against_a_budget_for_ten(self, bench: Bench) -> None:
        """F50."""
        purse = money(bench, 123_456_789, 1_234_567_890)
        granted = await asyncio.gather(*[ask(bench, purse) for _ in range(1000)])
        held = [hold for hold in granted if hold is not None]
        assert len(held) == 10
        for hold in held:
            bench.store.ledger.settle(hold, (123_456_789,))
        assert await ask(bench, money(bench, 1, 1_234_567_890)) is None
        now = await state(bench)
        assert (now.spent_nusd, now.held_nusd) == (1_234_567_890, 0)

    async def test_a_budget_is_exact_to_the_nano_dollar_near_the_largest_amount(self, bench: Bench) -> None:
        limit = 2**53 - 1
        await spend_it(bench, money(bench, limit - 10, limit))
        assert await ask(bench, money(bench, 11, limit)) is None
        await spend_it(bench, money(bench, 10, limit))
        assert await ask(bench, money(bench, 1, limit)) is None
        assert (await state(bench)).spent_nusd == limit

    async def test_held_money_is_not_spent_money(self, bench: Bench) -> None:
        hold = await take(bench, money(bench, 70, 100))
        now = await state(bench)
        assert (now.spent_nusd, now.held_nusd, now.granted_nusd) == (0, 70, 0)
        assert (now.rule, now.scope, now.period) == ("day", "key=a", "2026-11-21")
        assert now.ends_at_s == pytest.approx(bench.wall() + 3600.0, abs=30.0)
        bench.store.ledger.settle(hold, (20,))
        assert (await state(bench)).spent_nusd == 20
        await take(bench, money(bench, 80, 100))

    async def test_nothing_asked_of_a_budget_fits_while_something_is_left(self, bench: Bench) -> None:
        await spend_it(bench, money(bench, 99, 100))
        await spend_it(bench, money(bench, 0, 100))
        hold = await take(bench, money(bench, 1, 100))
        assert await ask(bench, money(bench, 0, 100)) is None
        bench.store.ledger.settle(hold, (0,))
        await spend_it(bench, money(bench, 0, 100))

    async def test_what_cost_more_than_it_held_is_charged_in_full(self, bench: Bench) -> None:
        await spend_it(bench, money(bench, 10, 100), used=150)
        assert (await state(bench)).spent_nusd == 150
        assert (await look(bench, money(bench, 0, 100))).used == 150

    async def test_a_spent_budget_is_open_again_at_the_end_of_its_period(self, bench: Bench) -> None:
        ends_at_s = bench.wall() + 100.0
        await spend_it(bench, money(bench, 100, 100, ends_at_s=ends_at_s))
        standing = await look(bench, money(bench, 1, 100, ends_at_s=ends_at_s))
        assert standing.retry_after_s == pytest.approx(100.0, abs=5.0)
        assert standing.reset_s == pytest.approx(100.0, abs=5.0)
        await take(bench, money(bench, 100, 100, period="2026-11-22"))
        never = await look(bench, money(bench, 101, 100, ends_at_s=ends_at_s))
        assert never.retry_after_s == math.inf

    async def test_a_period_that_has_ended_is_not_listed(self, bench: Bench) -> None:
        await spend_it(bench, money(bench, 1, 100, ends_at_s=bench.wall() + 1.0, period="old"))
        await spend_it(bench, money(bench, 1, 100, period="new"))
        await bench.advance(1.1)
        await bench.delivered()
        assert [each.period for each in await bench.store.ledger.budgets()] == ["new"]

    async def test_a_grant_enlarges_one_scope(self, bench: Bench) -> None:
        await spend_it(bench, money(bench, 100, 100))
        await bench.store.ledger.grant(Grant("g1", "day", "key=a", 50, bench.wall() + 60.0))
        await bench.store.ledger.grant(Grant("g1", "day", "key=a", 50, bench.wall() + 60.0))
        assert (await look(bench, money(bench, 1, 100))).limit == 150
        await spend_it(bench, money(bench, 50, 100))
        assert await ask(bench, money(bench, 1, 100)) is None
        assert await ask(bench, money(bench, 101, 100, scope="key=b")) is None
        assert (await state(bench)).granted_nusd == 50

    async def test_a_grant_for_everybody_and_one_of_ones_own_add_up(self, bench: Bench) -> None:
        await bench.store.ledger.grant(Grant("g1", "day", "*", 50, bench.wall() + 60.0))
        await bench.store.ledger.grant(Grant("g2", "day", "key=a", 25, bench.wall() + 60.0))
        await take(bench, money(bench, 175, 100))
        assert await ask(bench, money(bench, 151, 100, scope="key=b")) is None
        await take(bench, money(bench, 150, 100, scope="key=b"))
        assert await ask(bench, money(bench, 101, 100, rule="week")) is None

    async def test_a_grant_is_over_at_its_time(self, bench: Bench) -> None:
        await bench.store.ledger.grant(Grant("g1", "day", "key=a", 50, bench.wall() + 0.5))
        assert (await look(bench, money(bench, 150, 100))).fits
        await bench.advance(0.6)
        standing = await look(bench, money(bench, 150, 100))
        assert (standing.fits, standing.limit) == (False, 100)

    async def test_a_mark_is_told_once_when_settled_spend_passes_it(self, bench: Bench) -> None:
        marks = (50, 80)
        hold = await take(bench, money(bench, 90, 100, alert_at=marks))
        await bench.delivered()
        assert bench.crossings == []
        bench.store.ledger.settle(hold, (49,))
        await bench.delivered()
        assert bench.crossings == []
        for used in (1, 10, 25, 5):
            await spend_it(bench, money(bench, used, 100, alert_at=marks))
        await bench.delivered()
        assert bench.crossings == [
            Crossing("day", "key=a", "2026-11-21", 50, 50, 100),
            Crossing("day", "key=a", "2026-11-21", 80, 85, 100),
        ]

    async def test_two_marks_passed_at_once_are_both_told(self, bench: Bench) -> None:
        await spend_it(bench, money(bench, 100, 100, alert_at=(50, 80)))
        await bench.delivered()
        assert [crossing.mark_nusd for crossing in bench.crossings] == [50, 80]

    async def test_each_counter_tells_its_own_marks(self, bench: Bench) -> None:
        for scope in ("key=a", "key=b"):
            await spend_it(bench, money(bench, 60, 100, scope=scope, alert_at=(50,)))
        await spend_it(bench, money(bench, 60, 100, period="2026-11-22", alert_at=(50,)))
        await bench.delivered()
        told = [(crossing.scope, crossing.period) for crossing in bench.crossings]
        assert told == [("key=a", "2026-11-21"), ("key=b", "2026-11-21"), ("key=a", "2026-11-22")]


@pytest.mark.anyio
class ReportBehaviour:
    """Totals, audit, overrides and names of the fleet."""

    async def test_spend_is_summed_by_its_dimensions(self, bench: Bench) -> None:
        spends = [a_spend(), a_spend(cost_nusd=7), a_spend(target="mini"), a_spend(tags=(("team", "x"),))]
        spends += [a_spend(day="2026-11-22"), a_spend(day="2026-11-20")]
        await settle_spends(bench, spends)
        found = await bench.store.ledger.spend("2026-11-21", "2026-11-22")
        assert by_name(found) == by_name(
            [
                a_spend(requests=2, input_tokens=20, output_tokens=10, cost_nusd=307),
                a_spend(target="mini"),
                a_spend(tags=(("team", "x"),)),
                a_spend(day="2026-11-22"),
            ]
        )

    async def test_days_without_spend_are_empty(self, bench: Bench) -> None:
        assert await bench.store.ledger.spend("2026-01-01", "2026-12-31") == []

    async def test_the_audit_has_the_newest_first(self, bench: Bench) -> None:
        entries = [AuditEntry(bench.wall(), "ann", "switch", f"route/{n}", "why", {"n": n}) for n in range(5)]
        for entry in entries:
            await bench.store.journal.record(entry)
        assert await bench.store.journal.audit(3) == entries[:1:-1]
        assert await bench.store.journal.audit(10) == entries[::-1]

    async def test_an_override_stands_until_it_is_dropped(self, bench: Bench) -> None:
        journal = bench.store.journal
        first = Override("route/chat", {"split": {"a": 100}}, "ann", "incident", bench.wall(), None)
        await journal.put(first)
        assert await journal.overrides() == {"route/chat": first}
        second = replace(first, value={"target": "b"}, actor="bob")
        await journal.put(second)
        assert await journal.overrides() == {"route/chat": second}
        assert await journal.drop("route/chat") == second
        assert await journal.drop("route/chat") is None
        assert await journal.overrides() == {}

    async def test_an_override_is_gone_at_its_time(self, bench: Bench) -> None:
        now = bench.wall()
        await bench.store.journal.put(Override("target/a", {"eject": True}, "ann", "slow", now, now + 0.5))
        await bench.store.journal.put(Override("target/b", {"eject": True}, "ann", "slow", now, now + 600.0))
        await bench.advance(0.6)
        assert list(await bench.store.journal.overrides()) == ["target/b"]
        assert await bench.store.journal.drop("target/a") is None

    async def test_a_name_belongs_to_one_owner(self, bench: Bench) -> None:
        leases = bench.store.leases
        assert await leases.acquire("rollout/chat", "one", 10.0)
        assert await leases.acquire("rollout/chat", "one", 10.0)
        assert not await leases.acquire("rollout/chat", "two", 10.0)
        assert await leases.acquire("rollout/other", "two", 10.0)
        await leases.release("rollout/chat", "two")
        assert not await leases.acquire("rollout/chat", "two", 10.0)
        await leases.release("rollout/chat", "one")
        assert await leases.acquire("rollout/chat", "two", 10.0)

    async def test_a_name_is_free_when_its_lease_is_over(self, bench: Bench) -> None:
        leases = bench.store.leases
        assert await leases.acquire("rollout/chat", "one", 0.5)
        await bench.advance(0.6)
        assert await leases.acquire("rollout/chat", "two", 10.0)
        await leases.release("rollout/chat", "one")
        assert not await leases.acquire("rollout/chat", "one", 10.0)

    async def test_the_store_says_that_it_is_up(self, bench: Bench) -> None:
        assert bench.store.is_up
        assert {"kind", "state"} <= set(bench.store.detail)


class StoreBehaviour(WindowBehaviour, HoldBehaviour, BudgetBehaviour, ReportBehaviour):
    """All of it."""


async def settle_spends(bench: Bench, spends: Sequence[Spend]) -> None:
    """One settled request for each."""
    for spend in spends:
        hold = await take(bench, slot(1000))
        bench.store.ledger.settle(hold, (1,), spend)
    await bench.delivered()


def by_name(spends: Sequence[Spend]) -> list[Spend]:
    """In an order that does not depend on the store."""
    return sorted(spends, key=lambda spend: (spend.day, spend.key, spend.route, spend.target, spend.tags))
