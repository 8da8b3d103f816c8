"""Quantities with units."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.units import (
    BUDGET_PATTERN,
    MONEY_PATTERN,
    RATE_PATTERN,
    Budget,
    Calendar,
    Rate,
    UnitError,
    parse_budget,
    parse_duration,
    parse_money,
    parse_percent,
    parse_rate,
    parse_size,
    show_budget,
    show_duration,
    show_percent,
    show_rate,
    show_size,
)
from gateway.core.money import MAX_NUSD, show_usd


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("50ms", 0.05), ("10s", 10.0), ("1.5s", 1.5), ("5m", 300.0), ("1h", 3600.0), ("2d", 172800.0), (" 3 s ", 3.0)],
)
def test_a_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "size"), [("512B", 512), ("64KiB", 65536), ("1.5MiB", 1572864), ("1GiB", 1024**3)])
def test_a_size_is_read_as_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "fraction"), [("0%", 0.0), ("2.5%", 0.025), ("100%", 1.0)])
def test_a_percentage_is_read_as_a_fraction(text: str, fraction: float) -> None:
    assert parse_percent(text) == fraction


@pytest.mark.parametrize(
    ("value", "message", "advice"),
    [
        (30, "30 has no unit", "write 30s"),
        ("30", '"30" has no unit', "write 30s"),
        (True, "expected a duration", "write it with its unit, such as 30s"),
        ("5M", 'unknown unit in "5M"', "durations end in ms, s, m, h or d; write m"),
        ("1e3s", '"1e3s" is not a duration', "write a number and its unit, such as 30s"),
        ("9" * 100 + "s", f'"{"9" * 64}" is not a duration', "write a number and its unit, such as 30s"),
    ],
)
def test_what_is_no_duration_is_refused_with_advice(value: object, message: str, advice: str) -> None:
    with pytest.raises(UnitError) as refused:
        parse_duration(value)
    assert (refused.value.message, refused.value.advice) == (message, advice)


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (1024, "write 1024B"),
        ("32MB", "sizes end in B, KiB, MiB or GiB; write MiB"),
        ("0.5B", "write it in a smaller unit"),
    ],
)
def test_what_is_no_size_is_refused_with_advice(value: object, advice: str) -> None:
    with pytest.raises(UnitError) as refused:
        parse_size(value)
    assert refused.value.advice == advice


@pytest.mark.parametrize(
    ("value", "advice"),
    [(0.1, "write 10%"), (10, "write 10%"), ("101%", "write 0% to 100%"), ("10pp", "percentages end in %")],
)
def test_what_is_no_percentage_is_refused_with_advice(value: object, advice: str) -> None:
    with pytest.raises(UnitError) as refused:
        parse_percent(value)
    assert refused.value.advice == advice


@given(st.integers(0, 30 * 86400 * 1000))
def test_a_shown_duration_is_read_back_as_the_same(milliseconds: int) -> None:
    assert parse_duration(show_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.integers(0, 2**40))
def test_a_shown_size_is_read_back_as_the_same(size: int) -> None:
    assert parse_size(show_size(size)) == size


@given(st.integers(0, 10_000))
def test_a_shown_percentage_is_read_back_as_the_same(hundredths: int) -> None:
    assert parse_percent(show_percent(hundredths / 10_000)) == hundredths / 10_000


def test_quantities_are_shown_in_their_largest_whole_unit() -> None:
    assert [show_duration(seconds) for seconds in (0, 0.05, 1.5, 75, 300, 86400)] == [
        "0s", "50ms", "1500ms", "75s", "5m", "1d",
    ]  # fmt: skip
    assert [show_size(size) for size in (0, 1000, 65536, 1024**3)] == ["0B", "1000B", "64KiB", "1GiB"]


@pytest.mark.parametrize(
    ("text", "count", "period_s"),
    [
        ("600/min", 600, 60.0),
        ("10/s", 10, 1.0),
        ("200k/min", 200_000, 60.0),
        ("1.5M/h", 1_500_000, 3600.0),
        ("5/day", 5, 86400.0),
        ("0.5k/h", 500, 3600.0),
        (" 1,000 / min ", 1000, 60.0),
    ],
)
def test_a_rate_is_read_as_a_count_and_a_period(text: str, count: int, period_s: float) -> None:
    assert parse_rate(text) == Rate(count, period_s)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("$2.00", 2 * 10**9), ("$0.075", 75 * 10**6), ("$1,000", 10**12), ("$0", 0), ("$0.000000001", 1)],
)
def test_money_is_read_as_nano_usd_exactly(text: str, amount: int) -> None:
    """F57: no float ever stands for money."""
    assert parse_money(text) == amount


@pytest.mark.parametrize(
    ("text", "amount", "calendar"),
    [("$200/day", 200 * 10**9, "day"), ("$0.50/hour", 5 * 10**8, "hour"), ("$1,000/month", 10**12, "month")],
)
def test_a_budget_is_read_as_an_amount_and_a_calendar(text: str, amount: int, calendar: Calendar) -> None:
    assert parse_budget(text) == Budget(amount, calendar)


@pytest.mark.parametrize(
    ("value", "message", "advice"),
    [
        (600, "600 has no unit", "write 600/min"),
        ("600", '"600" has no period', "write 600/min"),
        (True, "expected a rate", "write it as 600/min"),
        ("600/m", 'unknown period in "600/m"', "rates end in /s, /min, /h or /day; write /min"),
        ("600/", 'unknown period in "600/"', "rates end in /s, /min, /h or /day"),
        ("2K/s", 'unknown unit in "2K/s"', "k is a thousand, M a million; write 2k/s"),
        ("2m/s", 'unknown unit in "2m/s"', "k is a thousand, M a million; write 2M/s"),
        ("0.5/s", '"0.5/s" is not a whole number', "write it with a longer period"),
        ("0/s", '"0/s" lets nothing through', "write at least 1"),
        ("9007199254740992/s", '"9007199254740992/s" is too much', "9007199254740991 is the most"),
        ("1/2/s", 'unknown period in "1/2/s"', "rates end in /s, /min, /h or /day"),
        ("\u0663/s", '"\u0663/s" is not a rate', "write a count and its period, such as 600/min or 200k/min"),
        ("9" * 80 + "/s", f'"{"9" * 64}" is too long to be right', "write it as 600/min"),
    ],
)
def test_what_is_no_rate_is_refused_with_advice(value: object, message: str, advice: str) -> None:
    with pytest.raises(UnitError) as refused:
        parse_rate(value)
    assert (refused.value.message, refused.value.advice) == (message, advice)


@pytest.mark.parametrize(
    ("value", "message", "advice"),
    [
        (2.5, "2.5 has no unit", "write $2.5"),
        ("2.50", '"2.50" has no unit', "write $2.50"),
        (None, "expected an amount of money", "write it as $2.00"),
        ("2 USD", '"2 USD" is not an amount in US dollars', "write it as $2.00 or $1,000"),
        ("$1,00", '"$1,00" is not an amount in US dollars', "write it as $2.00 or $1,000"),
        ("$0.0000000001", '"$0.0000000001" is finer than a nano-dollar', "nine decimals are the most"),
        (
            "$9007199.254740992",
            '"$9007199.254740992" is more than can be counted exactly',
            "$9,007,199.254740991 is the most",
        ),
    ],
)
def test_what_is_no_money_is_refused_with_advice(value: object, message: str, advice: str) -> None:
    with pytest.raises(UnitError) as refused:
        parse_money(value)
    assert (refused.value.message, refused.value.advice) == (message, advice)


@pytest.mark.parametrize(
    ("value", "message", "advice"),
    [
        (200, "200 has no unit", "write $200/day"),
        ("$200", '"$200" has no period', "write $200/day"),
        ("200/day", '"200" has no unit', "write $200"),
        ("$200/d", 'unknown period in "$200/d"', "budgets end in /hour, /day, /week or /month; write /day"),
        ("$200/year", 'unknown period in "$200/year"', "budgets end in /hour, /day, /week or /month"),
        ("$0/day", '"$0/day" lets nothing through', "write more than $0"),
    ],
)
def test_what_is_no_budget_is_refused_with_advice(value: object, message: str, advice: str) -> None:
    with pytest.raises(UnitError) as refused:
        parse_budget(value)
    assert (refused.value.message, refused.value.advice) == (message, advice)


def test_what_was_read_is_taken_as_it_is() -> None:
    assert parse_rate(Rate(1, 1.0)) == Rate(1, 1.0)
    assert parse_budget(Budget(1, "day")) == Budget(1, "day")


@given(st.integers(1, 10**12), st.sampled_from([1.0, 60.0, 3600.0, 86400.0]))
def test_a_shown_rate_is_read_back_as_the_same(count: int, period_s: float) -> None:
    rate = Rate(count, period_s)
    assert parse_rate(show_rate(rate)) == rate
    assert re.search(RATE_PATTERN, show_rate(rate))


@given(st.integers(1, MAX_NUSD), st.sampled_from(["hour", "day", "week", "month"]))
def test_a_shown_budget_is_read_back_as_the_same(limit_nusd: int, calendar: Calendar) -> None:
    budget = Budget(limit_nusd, calendar)
    assert parse_budget(show_budget(budget)) == budget
    assert re.search(BUDGET_PATTERN, show_budget(budget))
    assert re.search(MONEY_PATTERN, show_usd(limit_nusd))
