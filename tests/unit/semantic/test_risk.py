"""The bound: right by itself, and right however often one looks."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.semantic.risk import (
    JEFFREYS,
    Drift,
    evidence,
    is_below,
    lower_bound,
    needed_labels,
    prior_near,
    upper_bound,
)

MISS = 0.05


def counts(most: int = 3_000) -> st.SearchStrategy[tuple[int, int]]:
    """Labels, and how many of them are wrong."""
    return st.integers(0, most).flatmap(lambda labels: st.tuples(st.just(labels), st.integers(0, labels)))


def test_without_labels_everything_is_possible() -> None:
    assert upper_bound(0, 0, MISS, JEFFREYS) == 1
    assert lower_bound(0, 0, MISS, JEFFREYS) == 0
    assert evidence(0, 0, 0.3, JEFFREYS) == 0


def test_the_evidence_is_what_the_integral_over_the_prior_gives() -> None:
    # The mixture of likelihood ratios, summed over a fine grid of the uniform prior.
    labels, wrong, share, cells = 30, 4, 0.3, 20_000
    grid = [(cell + 0.5) / cells for cell in range(cells)]
    ratios = [(q / share) ** wrong * ((1 - q) / (1 - share)) ** (labels - wrong) for q in grid]
    assert evidence(labels, wrong, share, (1.0, 1.0)) == pytest.approx(math.log(sum(ratios) / cells), abs=1e-6)


def test_known_bounds() -> None:
    # Worked out from the formula with B(1, n + 1) = 1 / (n + 1): M(p) = 1 / ((n + 1) (1 - p)^n) = 20 at the edge.
    expected = 1 - (1 / (101 * 20)) ** (1 / 100)
    assert upper_bound(100, 0, MISS, (1.0, 1.0)) == pytest.approx(expected, abs=1e-9)
    assert lower_bound(100, 100, MISS, (1.0, 1.0)) == pytest.approx(1 - expected, abs=1e-9)


@given(counts(), st.sampled_from([JEFFREYS, (1.0, 1.0), prior_near(0.02)]))
def test_the_bounds_enclose_what_was_seen_and_their_edges_are_where_the_evidence_suffices(
    seen: tuple[int, int], prior: tuple[float, float]
) -> None:
    labels, wrong = seen
    low, high = lower_bound(labels, wrong, MISS, prior), upper_bound(labels, wrong, MISS, prior)
    if labels:
        assert 0 <= low <= wrong / labels <= high <= 1
    for edge in (low, high):
        if 1e-9 < edge < 1 - 1e-9:
            assert evidence(labels, wrong, edge, prior) == pytest.approx(-math.log(MISS), abs=1e-3)


@given(counts(), st.sampled_from([0.01, 0.02, 0.05, 0.3]))
def test_being_below_is_having_the_upper_bound_below(seen: tuple[int, int], share: float) -> None:
    labels, wrong = seen
    high = upper_bound(labels, wrong, MISS, JEFFREYS)
    if abs(high - share) > 1e-9:
        assert is_below(labels, wrong, share, MISS, JEFFREYS) == (high < share)


@given(counts(400))
def test_a_wrong_label_never_lowers_the_bound_and_a_right_one_never_raises_it(seen: tuple[int, int]) -> None:
    labels, wrong = seen
    high = upper_bound(labels, wrong, MISS, JEFFREYS)
    assert upper_bound(labels + 1, wrong + 1, MISS, JEFFREYS) >= high - 1e-9
    assert upper_bound(labels + 1, wrong, MISS, JEFFREYS) <= high + 1e-9


@given(counts(2_000), st.sampled_from([0.01, 0.02, 0.05]))
def test_the_needed_labels_are_enough_and_one_less_is_not(seen: tuple[int, int], share: float) -> None:
    labels, wrong = seen
    prior = prior_near(share)
    needed = needed_labels(labels, wrong, share, MISS, prior)
    assert is_below(labels + needed, wrong, share, MISS, prior)
    if needed:
        assert not is_below(labels + needed - 1, wrong, share, MISS, prior)


def test_a_prior_near_the_share_needs_fewer_labels() -> None:
    miss = MISS / 24
    assert needed_labels(0, 0, 0.02, miss, JEFFREYS) == 488
    assert needed_labels(0, 0, 0.02, miss, prior_near(0.02)) == 375


def ever_fooled(random: Random, share: float, chances: list[float], prior: tuple[float, float]) -> bool:
    """Whether the bound is below `share` at any look, while every label is wrong with its own chance."""
    wrong = 0
    for labels, chance in enumerate(chances, 1):
        wrong += random.random() < chance
        if is_below(labels, wrong, share, MISS, prior):
            return True
    return False


@pytest.mark.parametrize("prior", [JEFFREYS, prior_near(0.05)])
def test_looking_after_every_label_fools_nobody_more_often_than_allowed(prior: tuple[float, float]) -> None:
    """A fixed-size interval would be fooled by this in far more than 5 % of the streams."""
    random = Random(5)
    fooled = sum(ever_fooled(random, 0.05, [0.05] * 1_000, prior) for _ in range(300))
    assert fooled <= 0.05 * 300


def test_a_share_that_comes_and_goes_fools_nobody_either() -> None:
    """The bound speaks of the running mean, so labels need not be alike: half are never wrong, half twice as often."""
    random = Random(6)
    chances = [0.0 if at % 40 < 20 else 0.1 for at in range(20, 1_020)]  # the wrong ones first: mean never below 0.05
    fooled = sum(ever_fooled(random, 0.05, chances, prior_near(0.05)) for _ in range(300))
    assert fooled <= 0.05 * 300


def test_a_clean_stream_is_believed_in_the_end() -> None:
    random = Random(7)
    believed = sum(ever_fooled(random, 0.05, [0.01] * 1_000, prior_near(0.05)) for _ in range(100))
    assert believed >= 95


def until_noticed(random: Random, drift: Drift, chance: float, most: int) -> int:
    """Labels until the drift is reported, at most `most`."""
    return next((at for at in range(1, most + 1) if drift.note(random.random() < chance)), most)


def test_a_rise_is_noticed_soon() -> None:
    random = Random(8)
    taken = [until_noticed(random, Drift(0.02), 0.1, 5_000) for _ in range(300)]
    assert 50 < sum(taken) / len(taken) < 110


def test_a_share_within_the_bound_is_seldom_called_a_rise() -> None:
    random = Random(9)
    taken = [until_noticed(random, Drift(0.02), 0.02, 4_000) for _ in range(100)]
    assert sum(taken) / len(taken) >= 400
    clean = [until_noticed(random, Drift(0.02), 0.007, 4_000) for _ in range(100)]
    assert sum(clean) / len(clean) > 3_000


def test_after_a_report_it_starts_anew() -> None:
    drift = Drift(0.02, patience=20.0)
    assert [drift.note(True) for _ in range(6)] == [False, False, True] * 2


@pytest.mark.parametrize("share", [0.001, 0.3, 0.6, 0.95])
def test_any_share_can_be_watched(share: float) -> None:
    drift = Drift(share)
    assert any(drift.note(True) for _ in range(400))
