"""Tokens a byte, learned with a promise."""

import random
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policies.calibration import Calibration


def learned(ratios: list[float], epsilon: float = 0.1, **settings: int) -> Calibration:
    calibration = Calibration(epsilon, **settings)
    for ratio in ratios:
        calibration.observe(1_000_000, round(ratio * 1_000_000))
    return calibration


def test_too_few_requests_promise_nothing() -> None:
    assert learned([0.25] * 9, 0.1).tokens_per_byte is None
    assert learned([0.25] * 10, 0.1).tokens_per_byte == pytest.approx(0.25, rel=0.021)
    assert Calibration().tokens_per_byte is None


@settings(max_examples=200)
@given(
    ratios=st.lists(st.floats(min_value=0.001, max_value=2.0), min_size=20, max_size=100),
    epsilon=st.sampled_from([0.05, 0.1, 0.3]),
)
def test_the_bound_is_the_kth_smallest_ratio_and_at_most_four_percent_more(ratios: list[float], epsilon: float) -> None:
    calibration = learned(ratios, epsilon)
    bound = calibration.tokens_per_byte
    assert calibration.seen == len(ratios)
    assert bound is not None
    exact = sorted(round(ratio * 1_000_000) / 1_000_000 for ratio in ratios)[
        ceil((len(ratios) + 1) * (1 - epsilon)) - 1
    ]
    assert exact * (1 - 1e-9) <= bound <= exact * 1.02**2


@settings(max_examples=15)
@given(
    shape=st.lists(st.floats(min_value=0.01, max_value=3.0), min_size=1, max_size=6),
    spread=st.floats(min_value=0.0, max_value=1.5),
    seed=st.integers(min_value=0, max_value=1000),
)
def test_the_next_request_exceeds_the_bound_no_more_often_than_promised(
    shape: list[float], spread: float, seed: int
) -> None:
    """Whatever the ratios' distribution is; four standard errors of 400 trials are allowed for."""
    epsilon, trials = 0.1, 400
    rng = random.Random(seed)

    def ratio() -> float:
        return rng.choice(shape) * rng.lognormvariate(0, spread)

    exceeded = 0
    for _ in range(trials):
        bound = learned([ratio() for _ in range(40)], epsilon).tokens_per_byte
        exceeded += bound is not None and ratio() > bound
    assert exceeded / trials <= epsilon + 4 * (epsilon * (1 - epsilon) / trials) ** 0.5


def test_a_change_is_followed() -> None:
    calibration = learned([0.2] * 400, 0.1, half_life=100)
    before = calibration.tokens_per_byte
    assert before is not None
    assert before < 0.21
    for _ in range(100):
        calibration.observe(1000, 500)
    assert calibration.tokens_per_byte == pytest.approx(0.5, rel=0.021)
    for _ in range(1500):
        calibration.observe(1000, 200)
    assert calibration.tokens_per_byte == pytest.approx(0.2, rel=0.021)
    assert calibration.seen <= 200


def test_what_is_rare_and_high_is_not_forgotten_by_halving() -> None:
    calibration = Calibration(0.5, half_life=10)
    calibration.observe(1000, 900)
    for _ in range(200):
        calibration.observe(1000, 200)
    assert calibration.seen >= 10
    assert max(place for place, count in enumerate(calibration._counts) if count) > 400


def test_once_a_bound_is_known_each_eighth_request_is_looked_at() -> None:
    calibration = Calibration(0.1)
    assert all(calibration.wants_next() for _ in range(5))
    for _ in range(10):
        calibration.observe(1000, 250)
    assert sum(calibration.wants_next() for _ in range(80)) == 10


def test_no_body_teaches_nothing_and_no_tokens_are_a_ratio() -> None:
    calibration = Calibration(0.1)
    calibration.observe(0, 10)
    assert calibration.seen == 0
    for _ in range(10):
        calibration.observe(1000, 0)
    assert calibration.tokens_per_byte == pytest.approx(0.0001)


def test_a_ratio_beyond_the_last_bin_has_no_bound() -> None:
    assert learned([500.0] * 20, 0.1).tokens_per_byte is None


def test_the_bound_changes_at_times_that_no_request_can_choose() -> None:
    calibration = learned([0.2] * 1000, 0.1)
    before = calibration.tokens_per_byte
    for _ in range(5):
        calibration.observe(1000, 3000)
    assert calibration.tokens_per_byte == before
