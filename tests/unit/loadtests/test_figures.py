"""Figures, their verdicts and the baseline."""

import math
from pathlib import Path

import pytest

from loadtests.figures import (
    Baseline,
    Figure,
    failures,
    load_baseline,
    median_of,
    percentile,
    render,
    save_baseline,
    verdict,
)

HERE = "a machine"


def ratio(value: float, *, slack: float = 0.0, portable: bool = True, guarded: bool = True) -> Figure:
    return Figure("rate", value, "x nginx", "higher", 0.3, slack=slack, portable=portable, guarded=guarded)


def test_a_target_is_met_on_its_own_side() -> None:
    assert ratio(0.30).met
    assert not ratio(0.29).met
    assert Figure("p99", 3.0, "ms", "lower", 3.0).met
    assert not Figure("p99", 3.1, "ms", "lower", 3.0).met
    assert Figure("shown", 1e9, "ms", "lower").met


def test_a_value_that_could_not_be_measured_meets_nothing() -> None:
    assert not Figure("p99", math.nan, "ms", "lower").met


def test_fifteen_percent_behind_the_baseline_is_worse() -> None:
    assert not ratio(0.341).fell_behind(0.40)
    assert ratio(0.339).fell_behind(0.40)
    assert Figure("p99", 1.2, "ms", "lower", 3.0).fell_behind(1.0)
    assert not Figure("p99", 1.2, "ms", "lower", 3.0, slack=0.5).fell_behind(1.0)


def test_getting_better_is_never_worse() -> None:
    assert not ratio(0.9).fell_behind(0.4)
    assert not Figure("p99", -1.0, "ms", "lower").fell_behind(1.0)


def test_verdicts_say_missed_before_worse() -> None:
    assert verdict(ratio(0.1), 0.4) == "MISSED"
    assert verdict(ratio(0.31), 0.4) == "WORSE"
    assert verdict(ratio(0.31, guarded=False), 0.4) == "ok"
    assert verdict(ratio(0.31), None) == "ok"
    assert verdict(Figure("shown", 1.0, "s", "lower"), None) == ""


def test_times_of_another_machine_are_not_compared() -> None:
    baseline = Baseline("another machine", {"rate": 0.9})
    assert baseline.before(ratio(0.4), HERE) == 0.9
    assert baseline.before(ratio(0.4, portable=False), HERE) is None
    assert baseline.before(ratio(0.4, portable=False), "another machine") == 0.9
    assert failures([ratio(0.4)], baseline, HERE) == ["rate"]
    assert failures([ratio(0.4, portable=False)], baseline, HERE) == []


def test_the_baseline_keeps_what_was_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    assert load_baseline(path) is None
    save_baseline(path, [ratio(0.41234567), Figure("yard", 5.0, "us", "lower", guarded=False)], HERE)
    save_baseline(path, [Figure("p99", 2.0, "ms", "lower")], HERE)
    stored = load_baseline(path)
    assert stored == Baseline(HERE, {"rate": 0.4123, "p99": 2.0})


def test_the_baseline_of_another_machine_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    save_baseline(path, [ratio(0.4)], "another machine")
    save_baseline(path, [Figure("p99", 2.0, "ms", "lower")], HERE)
    assert load_baseline(path) == Baseline(HERE, {"p99": 2.0})


def test_the_table_has_target_baseline_and_verdict_beside_each_figure() -> None:
    table = render(
        [Figure("rate", 0.31, "x nginx", "higher", 0.3, 0.3, 0.32), Figure("asked", 12345.0, "requests", "higher")],
        Baseline(HERE, {"rate": 0.4}),
        HERE,
    )
    head, rule, rate, asked = table.splitlines()
    assert head.split() == ["figure", "value", "min-max", "target", "baseline"]
    assert set(rule) == {"-"}
    assert rate.split() == ["rate", "0.31", "x", "nginx", "0.3-0.32", "≥", "0.3", "0.4", "WORSE"]
    assert asked.split() == ["asked", "12,345", "requests"]


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (1.0, 4.0)])
def test_a_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], share) == expected


def test_a_percentile_of_nothing_is_nan() -> None:
    assert math.isnan(percentile([], 0.5))


def test_a_median_comes_with_its_extremes() -> None:
    assert median_of([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
