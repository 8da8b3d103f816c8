"""What is this ledger's own: it never waits, forgets in time, and loses nothing that must be kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.store.base import LEASE_S, Claim, Crossing, Grant, Hold, Spend, Verdict
from gateway.store.counters import KEPT_AFTER_END_S
from gateway.store.memory_ledger import REMEMBERED, MemoryLedger
from gateway.store.saving import Saver
from gateway.store.sqlite import StateFile
from tests.fakes import FakeClock

SLOT = Claim("slots", "", "concurrency", "slots", 1, 1)


def at_once(ledger: MemoryLedger, hold_id: str, *claims: Claim) -> Verdict:
    """The verdict, from a hold that must not suspend."""
    coroutine = ledger.hold(hold_id, claims)
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    verdict = stopped.value.value
    assert isinstance(verdict, Verdict)
    return verdict


def untold(_: Crossing) -> None:
    """Where no mark is looked for."""


def in_memory(clock: FakeClock) -> MemoryLedger:
    return MemoryLedger(None, None, Saver(None), clock, untold)


def budget(
    clock: FakeClock, amount: int, *, scope: str = "key=a", charge_lost: bool = False, ends_s: float = 9e5
) -> Claim:
    return Claim(
        *("day", scope, "budget", "nusd", amount, 1000),
        period="2026-11-21",
        ends_at_s=1_700_000_000.0 + ends_s,
        charge_lost=charge_lost,
        alert_at=(500,),
    )


class Run:
    """One life of a ledger beside a file; `die` is kill -9, a moment after the last change was handed over."""

    def __init__(self, path: Path, clock: FakeClock) -> None:
        self.crossings: list[Crossing] = []
        self.file = StateFile(path, wall_s=clock.wall(), busy_s=1.0)
        self.saver = Saver(self.file)
        self.ledger = MemoryLedger(self.file, self.file.take_saved(), self.saver, clock, self.crossings.append)

    def die(self) -> None:
        self.saver.stop()
        self.file.close(5.0)


@contextmanager
def run(path: Path, clock: FakeClock) -> Iterator[Run]:
    each = Run(path, clock)
    yield each
    each.die()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.sqlite"


def test_a_hold_never_suspends(clock: FakeClock) -> None:
    ledger = in_memory(clock)
    assert at_once(ledger, "a", SLOT).granted
    assert not at_once(ledger, "b", SLOT).granted


def test_a_refused_hold_asked_again_is_decided_again(clock: FakeClock) -> None:
    ledger = in_memory(clock)
    assert at_once(ledger, "a", SLOT).granted
    assert not at_once(ledger, "b", SLOT).granted
    ledger.settle(Hold("a", (SLOT,)), (1,))
    assert at_once(ledger, "b", SLOT).granted


def test_the_same_hold_gets_the_same_verdict_while_it_lives_after_it_and_after_its_lease(clock: FakeClock) -> None:
    ledger = in_memory(clock)
    verdict = at_once(ledger, "a", SLOT)
    assert at_once(ledger, "a", SLOT) is verdict
    clock.advance(LEASE_S)
    assert at_once(ledger, "a", SLOT) is verdict
    ledger.settle(Hold("a", (SLOT,)), (1,))
    assert at_once(ledger, "a", SLOT) is verdict
    for number in range(REMEMBERED):
        at_once(ledger, f"other-{number}", SLOT)
        ledger.settle(Hold(f"other-{number}", (SLOT,)), (1,))
    assert at_once(ledger, "a", SLOT) is verdict


def test_a_hold_that_comes_after_its_own_settlement_is_refused(clock: FakeClock) -> None:
    ledger = in_memory(clock)
    ledger.settle(Hold("a", (SLOT,)), (1,))
    verdict = at_once(ledger, "a", SLOT)
    assert not verdict.granted
    assert [standing.fits for standing in verdict.standings] == [True]
    assert at_once(ledger, "b", SLOT).granted


def test_settled_ids_are_forgotten_in_the_end(clock: FakeClock) -> None:
    ledger = in_memory(clock)
    for number in range(5 * REMEMBERED):
        at_once(ledger, f"{number}", SLOT)
        ledger.settle(Hold(f"{number}", (SLOT,)), (1,))
    assert len(ledger._settled) + len(ledger._settled_before) < 2 * REMEMBERED
    assert ledger._live == {}


def test_lapsed_holds_are_forgotten_in_the_end(clock: FakeClock) -> None:
    ledger = in_memory(clock)
    roomy = Claim("slots", "", "concurrency", "slots", 1, 10**9)
    for number in range(REMEMBERED + 10):
        at_once(ledger, f"{number}", roomy)
    clock.advance(LEASE_S)
    assert at_once(ledger, "last", roomy).standings[0].used == 1
    assert len(ledger._lapsed) == REMEMBERED


def test_a_lease_ends_at_its_time_and_not_before(clock: FakeClock) -> None:
    ledger = in_memory(clock)
    at_once(ledger, "a", SLOT)
    clock.advance(30.0)
    at_once(ledger, "b", Claim("other", "", "concurrency", "slots", 1, 1))
    clock.advance(LEASE_S - 30.001)
    assert not at_once(ledger, "c", SLOT).granted
    clock.advance(0.001)
    assert at_once(ledger, "d", SLOT).granted
    clock.advance(29.9)
    assert not at_once(ledger, "e", Claim("other", "", "concurrency", "slots", 1, 1)).granted
    clock.advance(0.1)
    assert at_once(ledger, "f", Claim("other", "", "concurrency", "slots", 1, 1)).granted


def test_a_renewed_lease_begins_anew(clock: FakeClock) -> None:
    ledger = in_memory(clock)
    at_once(ledger, "a", SLOT)
    clock.advance(LEASE_S - 1.0)
    ledger.renew()
    clock.advance(LEASE_S - 1.0)
    assert not at_once(ledger, "b", SLOT).granted
    clock.advance(1.0)
    assert at_once(ledger, "b", SLOT).granted


def test_a_process_that_was_stopped_for_long_keeps_its_holds(clock: FakeClock) -> None:
    ledger = in_memory(clock)
    ledger.keep_alive()
    at_once(ledger, "a", SLOT)
    clock.advance(10 * LEASE_S)
    assert not at_once(ledger, "b", SLOT).granted


def test_scopes_that_come_once_do_not_stay(clock: FakeClock) -> None:
    ledger = in_memory(clock)
    for number in range(20_000):
        rate = Claim("rate", f"key={number}", "window", "requests", 1, 5, period_s=1.0)
        slot = Claim("slots", f"key={number}", "concurrency", "slots", 1, 5)
        at_once(ledger, f"{number}", rate, slot)
        ledger.settle(Hold(f"{number}", (rate, slot)), (1, 1))
        clock.advance(0.001)
    # Some 1,000 live at a time, and each is looked at every so often.
    assert len(ledger._counters) < 5_000
    clock.advance(5.0)
    ledger.tend(rounds=100)
    assert ledger._counters == {}
    assert len(ledger._rota) == 0


def test_a_swept_counter_that_comes_back_begins_anew(clock: FakeClock) -> None:
    ledger = in_memory(clock)
    at_once(ledger, "a", SLOT)
    ledger.tend(rounds=3)
    assert not at_once(ledger, "b", SLOT).granted
    ledger.settle(Hold("a", (SLOT,)), (1,))
    ledger.tend(rounds=3)
    assert ledger._counters == {}
    assert at_once(ledger, "c", SLOT).standings[0].used == 1


def test_budgets_are_kept_for_their_period_however_idle(clock: FakeClock) -> None:
    ledger = in_memory(clock)
    ledger.settle(Hold("a", (budget(clock, 5, ends_s=100.0),)), (5,))
    clock.advance(99.0)
    ledger.tend(rounds=3)
    assert len(ledger._counters) == 1
    clock.advance(1.0 + KEPT_AFTER_END_S)
    ledger.tend(rounds=3)
    assert ledger._counters == {}


def test_a_hold_and_its_settlement_must_agree_on_the_number_of_claims(clock: FakeClock) -> None:
    ledger = in_memory(clock)
    at_once(ledger, "a", SLOT)
    with pytest.raises(ValueError, match="zip"):
        ledger.settle(Hold("a", (SLOT,)), (1, 1))


@pytest.mark.anyio
async def test_spent_money_survives_the_process(clock: FakeClock, path: Path) -> None:
    with run(path, clock) as first:
        claim = budget(clock, 600)
        at_once(first.ledger, "a", claim)
        first.ledger.settle(Hold("a", (claim,)), (550,))
        at_once(first.ledger, "held", budget(clock, 100))
        assert [crossing.mark_nusd for crossing in first.crossings] == [500]
    with run(path, clock) as second:
        (found,) = await second.ledger.budgets()
        assert (found.spent_nusd, found.held_nusd, found.ends_at_s) == (550, 0, claim.ends_at_s)
        assert not at_once(second.ledger, "b", budget(clock, 451)).granted
        claim = budget(clock, 450)
        at_once(second.ledger, "b", claim)
        second.ledger.settle(Hold("b", (claim,)), (450,))
        assert second.crossings == []


@pytest.mark.anyio
async def test_money_held_by_a_process_that_died_is_spent_where_the_rule_says_so(clock: FakeClock, path: Path) -> None:
    with run(path, clock) as first:
        at_once(first.ledger, "a", budget(clock, 300, charge_lost=True))
        at_once(first.ledger, "b", budget(clock, 100))
        claim = budget(clock, 50, charge_lost=True)
        at_once(first.ledger, "c", claim)
        first.ledger.settle(Hold("c", (claim,)), (7,))
    for _ in range(2):
        with run(path, clock) as later:
            (found,) = await later.ledger.budgets()
            assert (found.spent_nusd, found.held_nusd) == (307, 0)


@pytest.mark.anyio
async def test_grants_survive_until_their_time(clock: FakeClock, path: Path) -> None:
    with run(path, clock) as first:
        await first.ledger.grant(Grant("g", "day", "*", 500, clock.wall() + 60.0))
    with run(path, clock) as second:
        assert at_once(second.ledger, "a", budget(clock, 1500)).granted
        await second.ledger.grant(Grant("g", "day", "*", 500, clock.wall() + 60.0))
        assert not at_once(second.ledger, "b", budget(clock, 1)).granted
    clock.advance(60.0)
    with run(path, clock) as third:
        assert not at_once(third.ledger, "c", budget(clock, 1001)).granted


@pytest.mark.anyio
async def test_a_period_that_ended_meanwhile_is_forgotten(clock: FakeClock, path: Path) -> None:
    with run(path, clock) as first:
        first.ledger.settle(Hold("a", (budget(clock, 5, ends_s=10.0),)), (5,))
    clock.advance(10.0)
    with run(path, clock) as second:
        assert second.ledger._counters == {}


@pytest.mark.anyio
async def test_a_file_forgets_ended_periods_while_it_is_used(clock: FakeClock, path: Path) -> None:
    with run(path, clock) as only:
        only.ledger.settle(Hold("a", (budget(clock, 5, ends_s=10.0),)), (5,))
        clock.advance(2 * KEPT_AFTER_END_S)
        only.ledger.tend()
    # Opened at an earlier time, it would still be there.
    clock.wall_s = 1_700_000_000.0
    with run(path, clock) as again:
        assert again.ledger._counters == {}


@pytest.mark.anyio
async def test_totals_survive_the_process(clock: FakeClock, path: Path) -> None:
    spend = Spend("2023-11-14", "k", "r", "t", (), 1, 10, 5, 300)
    with run(path, clock) as first:
        first.ledger.settle(Hold("a", ()), (), spend)
        first.ledger.settle(Hold("a", ()), (), spend)
    with run(path, clock) as second:
        assert await second.ledger.spend("2023-11-14", "2023-11-14") == [spend]
