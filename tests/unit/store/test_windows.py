"""The sliding window: never more than its limit in any stretch, hardly less, and its waiting times are true."""

from collections.abc import Sequence
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.windows import SUB_WINDOWS, US_PER_S, Window

STEPS = st.lists(st.tuples(st.integers(0, 700_000), st.integers(0, 12)), max_size=60)


def takes(window: Window, now_us: int, amount: int, limit: int) -> bool:
    """Whether it fitted."""
    return window.take(now_us, amount, limit) is not None


def most_in_any_stretch(taken: Sequence[tuple[int, int]], period_us: int) -> int:
    """The most units that any closed stretch of `period_us` holds; it can always begin at a unit."""
    return max((sum(units for at, units in taken if start <= at <= start + period_us) for start, _ in taken), default=0)


def test_a_limit_is_reached_and_not_passed() -> None:
    window = Window(1.0)
    assert [takes(window, 0, 3, 10) for _ in range(4)] == [True, True, True, False]
    assert window.used == 9
    assert takes(window, 0, 1, 10)


def test_units_leave_a_period_and_a_hundredth_after_the_start_of_their_sub_window() -> None:
    window = Window(1.0)
    assert takes(window, 9_999, 10, 10)
    assert not takes(window, 1_009_999, 1, 10)
    assert takes(window, 1_010_000, 10, 10)


def test_no_double_at_the_edge() -> None:
    """F63: ten at 0.95 s and ten at 1.05 s are not both within ten a second."""
    window = Window(1.0)
    taken = sum(takes(window, 950_000, 1, 10) for _ in range(10)) + sum(
        takes(window, 1_050_000, 1, 10) for _ in range(10)
    )
    assert taken == 10


def test_what_is_over_the_limit_never_fits() -> None:
    window = Window(60.0)
    assert not takes(window, 0, 11, 10)
    assert window.retry_after_s(0, 11, 10) == inf
    assert window.retry_after_s(0, 0, 0) == inf


def test_nothing_asked_fits_while_one_more_would() -> None:
    window = Window(60.0)
    assert takes(window, 0, 9, 10)
    assert takes(window, 0, 0, 10)
    assert takes(window, 0, 1, 10)
    assert not takes(window, 0, 0, 10)


def test_a_correction_changes_the_sub_window_in_which_it_was_taken() -> None:
    window = Window(1.0)
    assert takes(window, 0, 5, 10)
    assert takes(window, 500_000, 1, 10)
    window.correct(0, 4)
    assert window.used == 10
    window.turn(1_010_000)
    assert window.used == 1


def test_a_correction_of_what_no_longer_counts_is_nothing() -> None:
    window = Window(1.0)
    assert takes(window, 0, 5, 10)
    window.turn(1_010_000)
    window.correct(0, 4)
    assert window.used == 0


def test_what_has_happened_is_counted_above_the_limit_too() -> None:
    window = Window(1.0)
    window.add(0, 15)
    assert window.used == 15
    assert not takes(window, 0, 1, 10)
    assert window.retry_after_s(0, 1, 10) == 1.01


def test_the_window_resets_when_its_newest_unit_leaves() -> None:
    window = Window(1.0)
    assert window.reset_s(0) == 0.0
    assert takes(window, 0, 1, 10)
    assert takes(window, 300_000, 1, 10)
    assert takes(window, 400_000, 0, 10)
    assert window.reset_s(400_000) == pytest.approx(0.91)
    window.correct(300_000, -1)
    assert window.reset_s(400_000) == pytest.approx(0.61)
    assert window.reset_s(5_000_000) == 0.0


def test_a_period_that_does_not_divide_is_rounded_up() -> None:
    assert Window(1.00001).width_us * SUB_WINDOWS >= 1_000_010
    assert Window(0.000001).width_us == 1


def test_what_is_taken_is_told_when_the_window_is_empty_again() -> None:
    window = Window(1.0)
    assert window.take(5_000, 1, 10) == pytest.approx(1.005)
    assert window.take(405_000, 0, 10) == pytest.approx(0.605)
    assert window.take(405_000, 10, 10) is None


def test_a_clock_that_stands_still_or_goes_back_counts_in_the_newest() -> None:
    window = Window(1.0)
    assert takes(window, 500_000, 5, 10)
    assert takes(window, 100_000, 5, 10)
    assert not takes(window, 100_000, 1, 10)
    window.turn(1_500_000)
    assert window.used == 10


def test_a_window_is_idle_when_nothing_in_it_can_count_again() -> None:
    window = Window(1.0)
    assert takes(window, 0, 1, 10)
    assert not window.is_idle(1_009_999)
    assert window.is_idle(1_010_000)


def test_a_busy_window_keeps_a_bounded_number_of_sub_windows() -> None:
    window = Window(1.0)
    for now_us in range(0, 5_000_000, 997):
        takes(window, now_us, 1, 10**9)
    assert len(window._units) == SUB_WINDOWS + 1


@given(steps=STEPS, limit=st.integers(1, 30))
def test_no_stretch_holds_more_than_the_limit(steps: list[tuple[int, int]], limit: int) -> None:
    window, now_us = Window(1.0), 0
    taken: list[tuple[int, int]] = []
    for wait_us, amount in steps:
        now_us += wait_us
        if takes(window, now_us, amount, limit):
            taken.append((now_us, amount))
    assert most_in_any_stretch(taken, US_PER_S) <= limit


@given(steps=STEPS, limit=st.integers(1, 30))
def test_nothing_is_refused_that_fits_a_period_longer_by_a_hundredth(steps: list[tuple[int, int]], limit: int) -> None:
    window, now_us = Window(1.0), 0
    taken: list[tuple[int, int]] = []
    for wait_us, amount in steps:
        now_us += wait_us
        recent = sum(units for at, units in taken if at > now_us - 1_010_000)
        if takes(window, now_us, amount, limit):
            taken.append((now_us, amount))
        else:
            assert recent + max(amount, 1) > limit


@given(steps=STEPS, limit=st.integers(1, 30), asked=st.integers(0, 30))
def test_the_wait_is_exact(steps: list[tuple[int, int]], limit: int, asked: int) -> None:
    window, now_us = Window(1.0), 0
    for wait_us, amount in steps:
        now_us += wait_us
        takes(window, now_us, amount, limit)
    wait_s = window.retry_after_s(now_us, asked, limit)
    if wait_s == inf:
        assert max(asked, 1) > limit
        return
    then_us = now_us + round(wait_s * US_PER_S)
    if wait_s > 0:
        assert not takes(window, then_us - 1, asked, limit)
    assert takes(window, then_us, asked, limit)


@given(steps=STEPS, limit=st.integers(1, 30), truths=st.lists(st.integers(0, 12), min_size=60, max_size=60))
def test_after_late_corrections_it_counts_as_if_the_truth_had_been_known(
    steps: list[tuple[int, int]], limit: int, truths: list[int]
) -> None:
    """Each step takes something; the truth about it comes two steps later, when its sub-window may be gone."""
    window, now_us = Window(1.0), 0
    taken: list[tuple[int, int]] = []
    counted: dict[int, int] = {}
    for step, (wait_us, amount) in enumerate(steps):
        now_us += wait_us
        alive = {
            number: units for number, units in counted.items() if taken[number][0] // 10_000 >= now_us // 10_000 - 100
        }
        fits = sum(alive.values()) + max(amount, 1) <= limit
        assert takes(window, now_us, amount, limit) == fits
        taken.append((now_us, amount if fits else 0))
        counted = alive | {step: amount if fits else 0}
        if step >= 2:
            at_us, held = taken[step - 2]
            window.correct(at_us, truths[step] - held)
            if step - 2 in counted:
                counted[step - 2] = truths[step]
        assert window.used == sum(counted.values())
