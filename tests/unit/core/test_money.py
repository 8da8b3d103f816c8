"""Money in whole nano-USD."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.money import MAX_NUSD, NUSD_PER_USD, nusd, show_usd, usd


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        ("2.00", 2_000_000_000),
        ("0.000000001", 1),
        ("0.0000000005", 0),
        ("0.0000000015", 2),
        (Decimal("0.1"), 100_000_000),
        (7, 7_000_000_000),
        ("-1.5", -1_500_000_000),
    ],
)
def test_an_amount_in_dollars_is_whole_nano_dollars(written: Decimal | int | str, amount: int) -> None:
    assert nusd(written) == amount


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "$0.00"),
        (12_500_000_000, "$12.50"),
        (42_000, "$0.000042"),
        (1, "$0.000000001"),
        (-1_000_000_000, "-$1.00"),
        (1_234_567_890_000_000, "$1,234,567.89"),
    ],
)
def test_an_amount_is_shown_exactly_and_at_least_to_the_cent(amount: int, shown: str) -> None:
    assert show_usd(amount) == shown


@given(st.integers(min_value=-MAX_NUSD, max_value=MAX_NUSD))
def test_what_is_shown_is_the_amount(amount: int) -> None:
    assert nusd(show_usd(amount).replace("$", "").replace(",", "")) == amount


def test_the_largest_amount_is_exact_as_a_double_which_is_what_lua_counts_in() -> None:
    assert int(float(MAX_NUSD)) == MAX_NUSD
    assert show_usd(MAX_NUSD) == "$9,007,199.254740991"


def test_dollars_are_for_people() -> None:
    assert usd(NUSD_PER_USD // 4) == 0.25
