"""What labels open, and what closes again."""

from dataclasses import replace
from random import Random

import msgspec
import pytest

from gateway.semantic.zones import DAY_S, Audit, RiskSettings, RiskTable, Snapshot, Tally, Verdict

SETTINGS = RiskSettings(max_wrong=0.05, floor=0.8, step=0.05)
"""Four bins: 0.80, 0.85, 0.90, 0.95."""
ENOUGH = 200
"""More right labels than any zone of these settings needs."""


def table(settings: RiskSettings = SETTINGS, kinds: tuple[str, ...] = ("one", "two")) -> RiskTable:
    """An empty one."""
    return RiskTable(settings, kinds, now_s=0.0)


def teach(
    under: RiskTable, similarity: float, right: int = 0, wrong: int = 0, unsure: int = 0, kind: str = "one"
) -> None:
    """So many labels at one similarity, none of them an audit, the wrong ones first."""
    verdicts: list[tuple[Verdict, int]] = [("different", wrong), ("unsure", unsure), ("equal", right)]
    for verdict, times in verdicts:
        for _ in range(times):
            under.record(kind, similarity, verdict, audited=False, now_s=0.0)


def test_nothing_is_served_without_labels_and_the_need_is_told() -> None:
    fresh = table()
    assert not fresh.is_open
    assert not fresh.serves("one", 1.0)
    assert fresh.needed() == 125
    assert {zone.upper for zone in fresh.zones()} == {1.0}


def test_it_opens_with_the_label_that_was_told_and_not_before() -> None:
    taught = table()
    teach(taught, 0.97, right=taught.needed() - 1)
    assert not taught.is_open
    assert taught.needed() == 1
    teach(taught, 0.97, right=1)
    assert taught.is_open
    assert taught.needed() == 0


def test_wrong_labels_cost_many_right_ones() -> None:
    taught = table(kinds=("one",))
    before = taught.needed()
    teach(taught, 0.97, wrong=3)
    assert 3 * 40 < taught.needed() - before < 3 * 80


def test_a_zone_reaches_down_to_the_labels_that_bear_it_out() -> None:
    taught = table()
    teach(taught, 0.91, right=ENOUGH)
    assert taught.serves("one", 0.90)
    assert not taught.serves("one", 0.8999)
    teach(taught, 0.86, right=SETTINGS.edge_labels)
    assert taught.serves("one", 0.85)
    teach(taught, 0.81, wrong=20, right=20)
    assert not taught.serves("one", 0.8499)
    assert taught.serves("one", 0.85)


def test_a_bin_of_which_little_is_known_is_no_edge() -> None:
    taught = table()
    teach(taught, 0.91, right=ENOUGH)
    teach(taught, 0.86, right=SETTINGS.edge_labels - 1)
    assert not taught.serves("one", 0.86)
    teach(taught, 0.86, right=1)
    assert taught.serves("one", 0.86)


def test_a_bad_edge_is_not_hidden_by_a_good_middle() -> None:
    taught = table()
    teach(taught, 0.91, right=10 * ENOUGH)
    teach(taught, 0.81, right=30, wrong=10)
    assert taught.zones()[0].wrong == 0  # from 0.80 it would be 0.5 %
    assert not taught.serves("one", 0.81)
    assert taught.serves("one", 0.91)


def test_a_kind_is_borne_out_by_its_own_labels_alone() -> None:
    taught = table()
    teach(taught, 0.97, right=ENOUGH)
    assert taught.serves("one", 0.97)
    assert not taught.serves("two", 0.97)


def test_pairs_below_the_floor_are_not_counted() -> None:
    taught = table()
    teach(taught, 0.79, right=ENOUGH)
    taught.complain("one", 0.79, 0.0)
    assert [zone.labels for zone in taught.zones()] == [0, 0]


def test_wrong_audits_close_the_zone_again() -> None:
    taught = table()
    teach(taught, 0.97, right=ENOUGH)
    audits = 0
    while taught.is_open:
        taught.record("one", 0.97, "different", audited=True, now_s=0.0)
        audits += 1
    assert audits <= 6


def test_complaints_close_the_zone_again() -> None:
    taught = table()
    teach(taught, 0.97, right=10 * ENOUGH)
    complaints = 0
    while taught.is_open:
        taught.complain("one", 0.97, 0.0)
        complaints += 1
    assert complaints <= 6


def test_a_rise_among_audits_drops_all_that_was_learned_of_the_kind() -> None:
    """Two thousand good labels would carry a zone through a hundred bad ones; the drift does not wait for that."""
    taught = table()
    teach(taught, 0.97, right=2_000)
    teach(taught, 0.97, right=ENOUGH, kind="two")
    random = Random(3)
    audits = 0
    while taught.serves("one", 0.97):
        taught.record("one", 0.97, "different" if random.random() < 0.4 else "equal", audited=True, now_s=0.0)
        audits += 1
    assert audits < 40
    assert [zone.labels for zone in taught.zones()] == [0, ENOUGH]
    assert taught.serves("two", 0.97)


def test_no_zone_opens_below_one_that_looks_bad() -> None:
    """Inside an open zone few are labelled: the many labels of its edge must not hide what has gone wrong inside."""
    taught = table()
    teach(taught, 0.91, right=ENOUGH)
    assert taught.serves("one", 0.91)
    teach(taught, 0.91, wrong=20)
    teach(taught, 0.81, right=3_000)
    # From 0.80 the pooled share is now far below 5 %, but what was served has 9 %.
    assert not taught.is_open


def test_a_zone_whose_pairs_mostly_cannot_be_judged_stays_closed() -> None:
    taught = table()
    teach(taught, 0.97, right=ENOUGH, unsure=ENOUGH)
    assert not taught.is_open
    (zone, _) = taught.zones()
    assert (zone.unsure, zone.labels, zone.needed) == (ENOUGH, ENOUGH, 0)
    teach(taught, 0.97, right=3 * ENOUGH)
    assert taught.is_open


def test_labels_grow_old_by_time() -> None:
    taught = table()
    teach(taught, 0.97, right=ENOUGH)
    taught.refresh(31 * DAY_S)
    assert taught.is_open  # between one epoch and two
    taught.refresh(62 * DAY_S)
    assert not taught.is_open
    assert taught.needed() == table().needed()


def test_labels_grow_old_by_number_and_the_younger_ones_take_over() -> None:
    taught = table(replace(SETTINGS, epoch_labels=300))
    teach(taught, 0.97, right=300 + 1)
    teach(taught, 0.97, right=299)
    assert taught.zones()[0].labels == 600
    teach(taught, 0.97, right=1)
    assert taught.zones()[0].labels == 301
    assert taught.is_open


def test_a_zone_reports_how_it_stands() -> None:
    taught = table()
    teach(taught, 0.91, right=ENOUGH, wrong=1, unsure=2)
    zone = taught.zones()[0]
    assert (zone.kind, zone.threshold, zone.is_open) == ("one", 0.9, True)
    assert (zone.labels, zone.wrong, zone.unsure, zone.needed) == (ENOUGH + 1, 1, 2, 0)
    assert 1 / 201 < zone.upper < 0.05


def test_audits_measure_the_served_share_apart_from_the_labels() -> None:
    taught = table()
    assert taught.audit() == Audit(0, 0, 0.0, 1.0)
    teach(taught, 0.97, right=2 * ENOUGH)
    seldom: dict[int, Verdict] = {50: "different", 100: "unsure"}
    for at in range(101):
        verdict = seldom.get(at, "equal")
        taught.record("one", 0.97, verdict, audited=True, now_s=0.0)
    audit = taught.audit()
    assert (audit.labels, audit.wrong) == (100, 1)
    assert 0 < audit.lower < 0.01 < audit.upper < 0.15


def test_a_restart_goes_on_where_it_was() -> None:
    taught = table()
    teach(taught, 0.97, right=ENOUGH, unsure=3)
    taught.record("one", 0.97, "different", audited=True, now_s=0.0)
    coded = msgspec.msgpack.encode(taught.snapshot(now_s=10.0))
    teach(taught, 0.97, wrong=1)  # a copy: what comes later is not in it
    again = table()
    assert again.restore(msgspec.msgpack.decode(coded, type=Snapshot), now_s=1_000.0)
    assert again.serves("one", 0.97)
    assert again.zones()[0].wrong == 1
    assert again.audit().wrong == 1
    again.refresh(990.0 + SETTINGS.epoch_s)
    assert again.is_open
    again.refresh(990.0 + 2 * SETTINGS.epoch_s)
    assert not again.is_open


@pytest.mark.parametrize(
    "other", [table(kinds=("one",)), table(replace(SETTINGS, floor=0.7)), table(replace(SETTINGS, step=0.1))]
)
def test_what_was_counted_otherwise_is_not_taken_over(other: RiskTable) -> None:
    taught = table()
    teach(taught, 0.97, right=ENOUGH)
    assert not other.restore(taught.snapshot(0.0), 0.0)
    assert not other.is_open


def test_similarities_beyond_one_by_rounding_are_in_the_highest_bin() -> None:
    taught = table()
    teach(taught, 1.0000001, right=ENOUGH)
    assert taught.serves("one", 1.0000001)


def test_an_empty_tally_is_not_unsure() -> None:
    assert Tally().unsure_share == 0
    assert Tally(labels=3, unsure=1).unsure_share == pytest.approx(0.25)


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_as_risky_as_is_forbidden_is_hardly_ever_served(seed: int) -> None:
    """Every kind and every similarity is wrong exactly as often as must not be: opening is an error of the bound."""
    random = Random(seed)
    opened = 0
    for _ in range(20):
        taught = table()
        for _ in range(400):
            kind = random.choice(("one", "two"))
            verdict: Verdict = "different" if random.random() < 0.05 else "equal"
            taught.record(kind, random.uniform(0.8, 1), verdict, audited=False, now_s=0.0)
            if taught.is_open:
                opened += 1
                break
    assert opened <= 1
