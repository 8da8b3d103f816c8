"""Quantities with units."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.units import (
    UnitError,
    parse_duration,
    parse_percent,
    parse_size,
    show_duration,
    show_percent,
    show_size,
)


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
