"""Counters one by one; what they do together is in behaviour.py."""

from math import inf

import pytest

from gateway.store.base import Claim, Crossing, Grant
from gateway.store.counters import KEPT_AFTER_END_S, SOON_S, Books, BudgetCounter, Grants, SlotCounter, WindowCounter
from gateway.store.saving import Savable
from tests.fakes import FakeClock

REQUEST = Claim("rate", "", "window", "requests", 1, 2, period_s=1.0)
SLOT = Claim("slots", "", "concurrency", "slots", 1, 1)


class Desk:
    """A budget counter whose period ends in 100 s, and what it tells."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.crossings: list[Crossing] = []
        self.touched: list[Savable] = []
        self.books = Books(self.clock.wall, self.crossings.append, self.touched.append)
        self.ends_at_s = self.clock.wall() + 100.0
        self.counter = BudgetCounter("day", "key=a", "2026-11-21", self.ends_at_s, self.books)

    def claim(self, amount: int, limit: int = 100, *, charge_lost: bool = False) -> Claim:
        return Claim(
            *("day", "key=a", "budget", "nusd", amount, limit),
            period="2026-11-21",
            ends_at_s=self.ends_at_s,
            charge_lost=charge_lost,
        )


def test_a_window_counter_takes_and_says_how_it_stands() -> None:
    counter = WindowCounter(1.0)
    first = counter.take(REQUEST, 0)
    assert first is not None
    assert (first.fits, first.used, first.limit, first.retry_after_s, first.reset_s) == (True, 1, 2, 0.0, 1.01)
    assert counter.take(REQUEST, 0) is not None
    assert counter.take(REQUEST, 0) is None
    refused = counter.standing(REQUEST, 0)
    assert (refused.fits, refused.used, refused.retry_after_s) == (False, 2, 1.01)


def test_a_window_counter_corrects_and_gives_back() -> None:
    counter = WindowCounter(1.0)
    for settled in (counter.settle, counter.settle_late):
        assert counter.take(REQUEST, 0) is not None
        if settled == counter.settle_late:
            counter.lapse(REQUEST, 0)
        settled(REQUEST, 0, 0)
    assert counter.standing(REQUEST, 0).used == 0
    counter.charge(REQUEST, 7, 0)
    assert counter.standing(REQUEST, 0).used == 7
    assert not counter.is_idle(0)
    assert counter.is_idle(1_010_000)


def test_slots_are_given_back_once() -> None:
    counter = SlotCounter()
    assert counter.is_idle(0)
    assert counter.take(SLOT, 0) is not None
    assert not counter.is_idle(0)
    assert counter.take(SLOT, 0) is None
    assert counter.standing(SLOT, 0).retry_after_s == SOON_S
    counter.lapse(SLOT, 0)
    counter.settle_late(SLOT, 1, 0)
    counter.charge(SLOT, 1, 0)
    assert counter.standing(SLOT, 0).used == 0


def test_no_slot_asked_fits_while_one_is_free() -> None:
    counter = SlotCounter()
    none = Claim("slots", "", "concurrency", "slots", 0, 1)
    assert counter.take(none, 0) is not None
    assert counter.take(SLOT, 0) is not None
    assert counter.take(none, 0) is None
    assert counter.standing(Claim("slots", "", "concurrency", "slots", 2, 1), 0).retry_after_s == inf


def test_a_budget_that_waits_for_held_money_is_asked_again_soon() -> None:
    desk = Desk()
    assert desk.counter.take(desk.claim(80), 0) is not None
    assert desk.counter.standing(desk.claim(30), 0).retry_after_s == SOON_S
    desk.clock.advance(99.75)
    assert desk.counter.standing(desk.claim(30), 0).retry_after_s == 0.25
    desk.clock.advance(10.0)
    assert desk.counter.standing(desk.claim(30), 0).retry_after_s == SOON_S


def test_a_spent_budget_is_asked_again_at_the_end_of_its_period() -> None:
    desk = Desk()
    desk.counter.charge(desk.claim(100), 100, 0)
    assert desk.counter.standing(desk.claim(1), 0).retry_after_s == 100.0
    desk.clock.advance(200.0)
    assert desk.counter.standing(desk.claim(1), 0).retry_after_s == SOON_S


def test_a_grant_that_ends_with_the_period_does_not_help_in_the_next() -> None:
    desk = Desk()
    desk.books.grants.add(Grant("g", "day", "key=a", 50, desk.ends_at_s))
    desk.counter.charge(desk.claim(100), 100, 0)
    assert desk.counter.standing(desk.claim(120), 0).retry_after_s == inf
    desk.books.grants.add(Grant("h", "day", "*", 50, desk.ends_at_s + 1.0))
    assert desk.counter.standing(desk.claim(120), 0).retry_after_s == 100.0


def test_a_budget_is_touched_once_until_it_is_written() -> None:
    desk = Desk()
    assert desk.counter.take(desk.claim(10), 0) is not None
    assert desk.touched == []
    desk.counter.settle(desk.claim(10), 0, 0)
    assert desk.touched == []
    assert desk.counter.take(desk.claim(10), 0) is not None
    desk.counter.settle(desk.claim(10), 7, 0)
    assert desk.touched == [desk.counter]
    desk.counter.is_touched = True
    desk.counter.charge(desk.claim(10), 3, 0)
    assert desk.touched == [desk.counter]
    assert desk.counter.row() == (("budget", ("day", "key=a", "2026-11-21")), (desk.ends_at_s, 10, 0, 0))


def test_money_that_is_spent_when_lost_is_written_when_it_is_held() -> None:
    desk = Desk()
    assert desk.counter.take(desk.claim(10, charge_lost=True), 0) is not None
    assert desk.touched == [desk.counter]
    assert desk.counter.row()[1] == (desk.ends_at_s, 0, 10, 0)
    desk.counter.settle(desk.claim(10, charge_lost=True), 0, 0)
    assert desk.counter.row()[1] == (desk.ends_at_s, 0, 0, 0)


def test_a_budget_outlives_its_period_while_something_is_held_and_an_hour_more() -> None:
    desk = Desk()
    assert desk.counter.take(desk.claim(10), 0) is not None
    desk.clock.advance(100.0 + KEPT_AFTER_END_S)
    assert not desk.counter.is_idle(0)
    desk.counter.settle(desk.claim(10), 10, 0)
    assert desk.counter.is_idle(0)


def test_a_mark_that_was_told_is_not_told_again_when_spend_sinks_and_rises() -> None:
    desk = Desk()
    claim = Claim("day", "key=a", "budget", "nusd", 60, 100, period="p", charge_lost=True, alert_at=(50,))
    assert desk.counter.take(claim, 0) is not None
    desk.counter.lapse(claim, 0)
    desk.counter.settle_late(claim, 10, 0)
    desk.counter.charge(claim, 60, 0)
    assert [crossing.spent_nusd for crossing in desk.crossings] == [60]


def test_grants_are_for_a_rule_a_scope_and_a_time() -> None:
    clock = FakeClock()
    grants = Grants(clock.wall)
    assert grants.add(Grant("a", "day", "key=a", 1, clock.wall() + 1.0))
    assert grants.add(Grant("b", "day", "*", 10, clock.wall() + 2.0))
    assert not grants.add(Grant("b", "day", "*", 100, clock.wall() + 2.0))
    assert grants.amount("day", "key=a", clock.wall()) == 11
    assert grants.amount("day", "key=b", clock.wall()) == 10
    assert grants.amount("week", "key=a", clock.wall()) == 0
    assert grants.amount("day", "key=a", clock.wall() + 1.0) == 10
    clock.advance(1.0)
    grants.drop_ended()
    assert list(grants.by_id) == ["b"]


@pytest.mark.parametrize("amount", [0, 1])
def test_a_budget_of_nothing_admits_nothing(amount: int) -> None:
    desk = Desk()
    assert desk.counter.take(desk.claim(amount, limit=0), 0) is None
    assert desk.counter.standing(desk.claim(amount, limit=0), 0).retry_after_s == inf
