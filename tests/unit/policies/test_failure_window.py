"""Counts in a sliding window."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from gateway.policies.failure_window import FailureWindow, SlidingCounts


@given(st.lists(st.tuples(st.floats(0, 7), st.booleans()), max_size=80))
def test_counts_are_those_of_the_last_nine_to_ten_tenths_of_the_window(steps: list[tuple[float, bool]]) -> None:
    counts = SlidingCounts(10.0)
    seen: deque[tuple[float, bool]] = deque()
    now_s = 1000.0
    for later_s, is_first in steps:
        now_s += later_s
        (counts.add_first if is_first else counts.add_second)(now_s)
        seen.append((now_s, is_first))
        for value, wanted in ((counts.first, True), (counts.second, False)):
            surely = sum(1 for at_s, first in seen if first is wanted and at_s > now_s - 8.999)
            possibly = sum(1 for at_s, first in seen if first is wanted and at_s >= now_s - 10.001)
            assert surely <= value <= possibly


def test_what_has_left_the_window_is_let_go_when_it_is_read() -> None:
    counts = SlidingCounts(10.0)
    counts.add_first(0.0)
    counts.add_second(3.0)
    counts.age(9.0)
    assert (counts.first, counts.second) == (1, 1)
    counts.age(10.5)
    assert (counts.first, counts.second) == (0, 1)
    counts.age(100.0)
    assert (counts.first, counts.second) == (0, 0)


def _window() -> FailureWindow:
    return FailureWindow(consecutive=5, error_rate=0.5, min_requests=20, window_s=30.0)


def test_one_failed_call_of_one_is_no_rate() -> None:
    """F35."""
    window = _window()
    assert window.failed(0.0) is None
    window.succeeded(0.1)
    assert window.totals(0.2) == (1, 1)


def test_failures_in_a_row_are_enough_and_a_success_ends_the_row() -> None:
    window = _window()
    for _ in range(4):
        assert window.failed(0.0) is None
    window.succeeded(0.0)
    for _ in range(4):
        assert window.failed(0.0) is None
    assert window.failed(0.0) == "5 failures in a row"


def test_a_rate_is_enough_once_there_are_enough_requests() -> None:
    window = _window()
    for number in range(9):
        window.succeeded(0.0)
        assert window.failed(0.0) is None, number
    window.succeeded(0.0)
    assert window.failed(0.0) == "10 of 20 requests failed"


def test_failures_of_long_ago_are_no_rate() -> None:
    window = _window()
    for number in range(18):
        (window.succeeded if number % 2 else window.failed)(0.0)
    window.succeeded(40.0)
    assert window.failed(40.0) is None


def test_a_cleared_window_begins_anew() -> None:
    window = _window()
    window.failed(0.0)
    window.clear()
    assert (window.in_a_row, window.totals(0.0)) == (0, (0, 0))
