"""A quantile, learned."""

import random

import pytest

from gateway.routing.latency import LatencyQuantile


def test_nothing_is_known_until_enough_was_seen() -> None:
    learned = LatencyQuantile(0.95)
    for _ in range(49):
        learned.observe(1.0)
    assert learned.value_s is None
    learned.observe(1.0)
    assert learned.value_s == pytest.approx(1.0, rel=0.11)


def test_the_quantile_is_at_most_a_tenth_too_high() -> None:
    rng = random.Random(7)
    learned = LatencyQuantile(0.95)
    times = [rng.expovariate(1.0) for _ in range(1000)]
    for seconds in times:
        learned.observe(seconds)
    true_s = sorted(times)[949]
    assert learned.value_s is not None
    assert true_s * 0.9 <= learned.value_s <= true_s * 1.25


def test_a_change_is_followed() -> None:
    learned = LatencyQuantile(0.95)
    for _ in range(3000):
        learned.observe(10.0)
    for _ in range(8000):
        learned.observe(0.1)
    assert learned.value_s == pytest.approx(0.1, rel=0.11)


def test_times_beyond_the_ends_are_counted_at_the_ends() -> None:
    learned = LatencyQuantile(0.95)
    for _ in range(60):
        learned.observe(0.0)
    assert learned.value_s == 0.001
    learned = LatencyQuantile(0.95)
    for _ in range(60):
        learned.observe(1e9)
    assert learned.value_s is not None
    assert learned.value_s > 3600
