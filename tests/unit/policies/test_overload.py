"""Whom to turn away when there is too much to do."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Priority
from gateway.policies.overload import Shedder

PRIORITIES: tuple[Priority, ...] = ("low", "normal", "high")
MIB = 1024 * 1024


def _shedder() -> Shedder:
    return Shedder(max_inflight=1000, reserve_high=0.2, loop_lag_s=0.05, max_rss=1000 * MIB)


def _refused(
    priority: Priority, inflight: int = 0, lag_s: float = 0.0, rss: int = 0, shedder: Shedder | None = None
) -> float:
    """The share of 1,000 requests that is turned away."""
    shedder = shedder or _shedder()
    return sum(shedder.admit(priority, inflight, lag_s, rss) is not None for _ in range(1000)) / 1000


@pytest.mark.parametrize("priority", PRIORITIES)
def test_nobody_is_turned_away_while_all_is_calm(priority: Priority) -> None:
    assert _refused(priority, 599, 0.049, 899 * MIB) == 0


def test_low_goes_before_the_reserve_is_reached() -> None:
    assert _refused("low", 719) == 0
    assert 0.4 < _refused("low", 760) < 0.6
    assert _refused("low", 800) == 1


def test_low_goes_from_sixty_per_cent_once_the_loop_lags() -> None:
    assert _refused("low", 700, lag_s=0.0) == 0
    assert 0.4 < _refused("low", 700, lag_s=0.05) < 0.6
    assert _refused("low", 599, lag_s=0.05) == 0


def test_normal_goes_in_the_reserve_of_high() -> None:
    assert _refused("normal", 799) == 0
    assert 0.4 < _refused("normal", 850) < 0.6
    assert _refused("normal", 900) == 1


def test_high_goes_only_when_everything_is_taken() -> None:
    assert _refused("high", 999, lag_s=9.0, rss=2000 * MIB) == 0
    assert _refused("high", 1000) == 1


def test_a_lag_that_is_long_enough_counts_at_any_number_in_flight() -> None:
    assert [_refused("low", 10, lag_s) for lag_s in (0.1, 0.15, 0.2)] == [0, pytest.approx(0.5, abs=0.05), 1]
    assert [_refused("normal", 10, lag_s) for lag_s in (0.2, 0.3, 0.4)] == [0, pytest.approx(0.5, abs=0.05), 1]


def test_while_the_loop_lags_those_of_high_among_a_mixed_crowd_all_pass() -> None:
    """One shedder for all of them, as it is in a process that is short of CPU time; the lag grows and falls again."""
    shedder = _shedder()
    passed: dict[float, Counter[str]] = {}
    lags_s = (0.0, 0.1, 0.15, 0.25, 0.3, 0.35, 0.5, 5.0)
    for lag_s in (*lags_s, *reversed(lags_s)):
        at = passed.setdefault(lag_s, Counter())
        for _ in range(100):
            at.update(each for each in PRIORITIES if shedder.admit(each, 50, lag_s, 0) is None)
    assert {at["high"] for at in passed.values()} == {200}
    for priority in ("low", "normal"):
        shares = [passed[lag_s][priority] for lag_s in lags_s]
        assert shares == sorted(shares, reverse=True) and (shares[0], shares[-1]) == (200, 0)
    assert all(at["low"] <= at["normal"] <= at["high"] for at in passed.values())
    assert passed[0.25]["low"] == 0 < passed[0.25]["normal"], "low is gone before normal is"


def test_memory_counts_too() -> None:
    assert _refused("low", 0, rss=950 * MIB) == 1
    assert 0.4 < _refused("normal", 0, rss=975 * MIB) < 0.6
    assert _refused("normal", 0, rss=1000 * MIB) == 1


def test_what_is_not_set_is_no_reason() -> None:
    shedder = Shedder(max_inflight=10, reserve_high=0.0, loop_lag_s=None, max_rss=None)
    assert _refused("normal", 9, lag_s=60.0, rss=10**12, shedder=shedder) == 0
    assert _refused("normal", 10, shedder=shedder) == 1


def test_those_turned_away_on_a_ramp_are_spread_evenly() -> None:
    shedder = _shedder()
    refused = [shedder.admit("normal", 850, 0.0, 0) is not None for _ in range(100)]
    assert all(1 <= sum(refused[start : start + 4]) <= 3 for start in range(96))


def test_every_refusal_says_when_to_come_back() -> None:
    """F29."""
    shedder = _shedder()
    for inflight in (1000, 2000):
        for priority in PRIORITIES:
            error = shedder.admit(priority, inflight, 0.0, 0)
            assert error is not None
            assert error.status == 503
            assert error.retry_after_s is not None
            assert 1.0 <= error.retry_after_s <= 3.0


@given(st.integers(0, 1500), st.floats(0, 2), st.integers(0, 2000), st.floats(0, 1), st.integers(1, 1200))
def test_who_matters_more_is_never_turned_away_sooner(
    inflight: int, lag_s: float, rss_mib: int, reserve: float, max_inflight: int
) -> None:
    shares = []
    for priority in PRIORITIES:
        shedder = Shedder(max_inflight, reserve, 0.05, 1000 * MIB)
        refused = [shedder.admit(priority, inflight, lag_s, rss_mib * MIB) for _ in range(200)]
        shares.append(sum(error is not None for error in refused) / 200)
    low, normal, high = shares
    assert low >= normal - 0.02
    assert normal >= high - 0.02
    assert high in (0.0, 1.0)
    assert high == float(inflight >= max_inflight)
    assert all(math.isfinite(share) for share in shares)
