"""What is owed to the shared store."""

from gateway.store.base import Spend
from gateway.store.debts import MOST_AT_ONCE, MOST_WINDOWS, Debts
from gateway.store.packing import OTHER_DIMENSIONS, Op, terms
from tests.unit.store.redis_bench import money, slot, tokens

WIDTH_US = 36_000_000


def test_nothing_is_owed_at_first() -> None:
    debts = Debts()
    assert debts.owed == 0
    assert debts.collect() == []


def test_use_is_summed_up_by_counter_and_moment() -> None:
    debts = Debts()
    budget, window = money(5, 100), tokens(5, 100)
    for taken_us in (1, WIDTH_US - 1, WIDTH_US):
        debts.charge((budget, window, slot(5)), (3, 4, 1), taken_us)
    debts.charge((budget,), (0,), 1)
    assert debts.owed == 3
    (operation,) = debts.collect()
    assert operation == (
        Op.CHARGE,
        (terms(budget), terms(window), terms(window)),
        (9, 8, 4),
        (0, 0, WIDTH_US),
    )
    assert debts.owed == 0


def test_spend_is_summed_up_by_its_dimensions() -> None:
    debts = Debts()
    spend = Spend("d", "k", "r", "t", (), 1, 10, 5, 7)
    debts.add(spend)
    debts.add(spend)
    assert debts.collect() == [(Op.ADD_SPEND, "d", '["k","r","t",[]]', OTHER_DIMENSIONS, 2, 20, 10, 14)]
    assert debts.collect() == []


def test_much_is_told_in_several_parts() -> None:
    debts = Debts()
    for n in range(MOST_AT_ONCE + 1):
        debts.charge((money(1, 100, scope=f"key={n}"),), (1,), 1)
        debts.add(Spend("d", f"k{n}", "r", "t", (), 1, 1, 1, 1))
    charge, *spends = debts.collect()
    assert (len(charge[1]), len(spends)) == (MOST_AT_ONCE, MOST_AT_ONCE)
    assert len(debts.collect()) == 2
    assert debts.owed == 0


def test_windows_are_bounded_and_money_is_not() -> None:
    debts = Debts()
    window, budget = tokens(1, 10), money(1, 10)
    for n in range(MOST_WINDOWS + 5):
        debts.charge((window, budget), (1, 1), n * WIDTH_US)
    assert debts.owed == MOST_WINDOWS + 1
    assert debts.collect()[0][2][0] == MOST_WINDOWS + 5
