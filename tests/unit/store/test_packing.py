"""What goes to the script and what comes back."""

import math
from typing import Any

import pytest
from msgspec import msgpack

from gateway.store.base import BudgetState, Claim, Spend, Standing, Verdict
from gateway.store.packing import (
    Op,
    budget_name,
    pack_claims,
    pack_dimensions,
    read_budget,
    read_spend,
    read_verdict,
    split_budget_name,
    terms,
)


@pytest.mark.parametrize(
    ("rule", "scope", "period"),
    [
        ("day", "key=a", "2026-11-21"),
        ("a|b", "c|d", "e|f"),
        ("", "", ""),
        ("3|3|a", "\N{SNOWMAN}|", "1|2"),
    ],
)
def test_a_budgets_name_can_be_taken_apart(rule: str, scope: str, period: str) -> None:
    assert split_budget_name(budget_name(rule, scope, period)) == (rule, scope, period)


def test_no_name_is_another_counters() -> None:
    """F60."""
    texts = ("", "a", "b", "a|b", "|", "1", "1|a")
    names = [budget_name(rule, scope, period) for rule in texts for scope in texts for period in texts]
    assert len(set(names)) == len(texts) ** 3
    claims = [Claim(rule, scope, "window", "tokens", 1, 1, 60.0) for rule in texts for scope in texts]
    assert len({terms(claim)[1] for claim in claims}) == len(texts) ** 2


def test_another_unit_or_period_is_another_counter() -> None:
    base: dict[str, Any] = {"rule": "r", "scope": "", "kind": "window", "amount": 1, "limit": 1}
    names = {
        terms(Claim(unit=unit, period_s=period_s, **base))[1]
        for unit in ("requests", "tokens")
        for period_s in (1.0, 60.0, 3600.0)
    }
    assert len(names) == 6


@pytest.mark.parametrize(("period_s", "width_us"), [(60.0, 600_000), (1.0, 10_000), (0.00005, 1), (1.000001, 10_001)])
def test_a_hundred_sub_windows_are_never_shorter_than_the_period(period_s: float, width_us: int) -> None:
    assert terms(Claim("r", "", "window", "requests", 1, 1, period_s))[5] == width_us


def test_claims_are_one_text_to_the_script() -> None:
    claims = [Claim("r", "k", "concurrency", "slots", 1, 2), Claim("r", "k", "budget", "nusd", 2**53 - 1, 2**53 - 1)]
    packed = bytes(pack_claims(claims))
    assert packed[0] == 0xDB
    assert int.from_bytes(packed[1:5]) == len(packed) - 5
    assert msgpack.decode(packed[5:]) == [
        [2, "c:1|r|k", 1, 2, False],
        [3, "b:1|0|r||k", 2**53 - 1, 2**53 - 1, False, "r", "k", 0, False, []],
    ]


def test_a_verdict_is_read_field_by_field() -> None:
    answer = [False, True, 3, 5, 0, 2_500_000, False, 9, 9, 1_500_000, 0, False, 0, 1, -1, 0]
    assert read_verdict(answer) == Verdict(
        False,
        (Standing(True, 3, 5, 0.0, 2.5), Standing(False, 9, 9, 1.5, 0.0), Standing(False, 0, 1, math.inf, 0.0)),
    )
    assert read_verdict([True]) == Verdict(True, ())


def test_a_budget_is_read_with_its_names() -> None:
    fields = [budget_name("day", "key=a", "p"), 1_500_000, 7, 8]
    assert read_budget(fields, 9) == BudgetState("day", "key=a", "p", 1.5, 7, 8, 9)


def test_dimensions_of_spend_come_back() -> None:
    spend = Spend("d", 'k"ey', "r", "\N{SNOWMAN}", (("team", "a,b"), ("x", "")), 1, 2, 3, 4)
    field = pack_dimensions((spend.day, spend.key, spend.route, spend.target, spend.tags))
    assert read_spend("d", field, [1, 2, 3, 4]) == spend


def test_operations_are_numbered_without_a_gap() -> None:
    assert [int(op) for op in Op] == list(range(1, len(Op) + 1))
