"""The growing share of a target that has just come back."""

import random

from gateway.policies.slow_start import SlowStart


def _share(slow_start: SlowStart, now_s: float) -> float:
    return sum(slow_start.admits(now_s) for _ in range(2000)) / 2000


def test_the_share_grows_from_a_tenth_to_everything() -> None:
    slow_start = SlowStart(30.0, random.Random(7))
    slow_start.begin(1000.0)
    assert abs(_share(slow_start, 1000.0) - 0.1) < 0.03
    assert abs(_share(slow_start, 1015.0) - 0.5) < 0.03
    assert abs(_share(slow_start, 1027.0) - 0.9) < 0.03
    assert not slow_start.is_over
    assert _share(slow_start, 1030.0) == 1.0
    assert slow_start.is_over


def test_without_a_length_everything_comes_back_at_once() -> None:
    slow_start = SlowStart(0.0, random.Random(7))
    slow_start.begin(1000.0)
    assert slow_start.is_over
    assert _share(slow_start, 1000.0) == 1.0
