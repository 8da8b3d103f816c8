"""What one scope serves, what it compares, and what it learns from it."""

from dataclasses import replace
from random import Random

import pytest

from gateway.semantic.verified import KINDS, Decision, Lesson, Served, Verified, VerifiedSettings, risk_table
from gateway.semantic.zones import RiskSettings, Verdict

RISK = RiskSettings(max_wrong=0.05)
SETTINGS = VerifiedSettings(never=frozenset({"number", "entity"}))


class Still:
    """A clock that stands where it is put."""

    now = 0.0

    def monotonic(self) -> float:
        """The time it was set to."""
        return self.now

    def wall(self) -> float:
        """The same."""
        return self.now


def scope(settings: VerifiedSettings = SETTINGS, clock: Still | None = None, seed: int = 1) -> Verified:
    """One with nothing in it."""
    clock = clock or Still()
    return Verified(settings, risk_table(RISK, clock), Random(seed), clock)


def attach(to: Verified, entry: str, *rows: str) -> None:
    """Rows of an entry, each with a text of its own."""
    for row in rows:
        assert to.attach(entry, row, row.encode()) == []


def clean(row: str) -> str | None:
    """No guard objects to anything."""
    return None


def near(*rows: str, best: float = 0.96) -> list[tuple[str, float]]:
    """Rows as a search gives them."""
    return [(row, best - 0.01 * at) for at, row in enumerate(rows)]


def taught(settings: VerifiedSettings = SETTINGS, kinds: tuple[str, ...] = ("lone-clean",)) -> Verified:
    """One whose labels have opened the given kinds from 0.90 up."""
    opened = scope(settings)
    for kind in kinds:
        for _ in range(200):
            opened.table.record(kind, 0.93, "equal", audited=False, now_s=0.0)
            opened.table.record(kind, 0.97, "equal", audited=False, now_s=0.0)
        assert opened.table.serves(kind, 0.95)
    return opened


def test_in_an_empty_scope_there_is_nothing_to_compare() -> None:
    decision = scope().decide([], clean)
    assert decision == Decision("pass", "none")
    assert not decision.wants_label


def test_before_the_labels_suffice_every_near_question_goes_upstream_and_is_compared() -> None:
    fresh = scope()
    attach(fresh, "e", "r")
    decision = fresh.decide(near("r"), clean)
    assert (decision.action, decision.reason, decision.entry, decision.row) == ("learn", "closed", "e", "r")
    assert decision.wants_label


def test_a_far_question_is_neither_served_nor_compared() -> None:
    fresh = scope()
    attach(fresh, "e", "r")
    assert fresh.decide(near("r", best=0.59), clean).action == "pass"
    assert fresh.decide(near("r", best=0.61), clean).action == "learn"


def test_once_the_labels_suffice_it_serves_and_audits_one_in_twenty() -> None:
    opened = taught()
    attach(opened, "e", "r")
    actions = [opened.decide(near("r"), clean).action for _ in range(4_000)]
    assert set(actions) == {"serve", "audit"}
    assert 150 < actions.count("audit") < 250


def test_a_flagged_pair_has_labels_of_its_own() -> None:
    opened = taught(kinds=("lone-clean",))
    attach(opened, "e", "r")
    decision = opened.decide(near("r"), lambda row: "content")
    assert (decision.action, decision.kind, decision.guard) == ("learn", "lone-flagged", "content")
    also = taught(kinds=("lone-flagged",))
    attach(also, "e", "r")
    assert {also.decide(near("r"), lambda row: "content").action for _ in range(20)} <= {"serve", "audit"}
    assert also.decide(near("r"), clean).action == "learn"


def test_what_a_hard_guard_refuses_is_never_served_and_never_a_label() -> None:
    opened = taught(kinds=KINDS)
    attach(opened, "e", "r")
    decision = opened.decide(near("r"), lambda row: "number")
    assert (decision.action, decision.reason) == ("pass", "number")
    assert not decision.wants_label


def test_behind_a_refused_neighbour_the_next_one_is_looked_at() -> None:
    opened = taught()
    attach(opened, "five", "r5")
    attach(opened, "six", "r6")
    decision = opened.decide(near("r5", "r6"), {"r5": "number", "r6": None}.__getitem__)
    assert (decision.entry, decision.row) == ("six", "r6")
    assert decision.similarity == pytest.approx(0.95)


def test_rows_of_one_entry_back_each_other() -> None:
    fresh = scope()
    attach(fresh, "e", "r1", "r2", "r3")
    attach(fresh, "f", "s")
    assert fresh.decide(near("r1", "r2", "r3"), clean).kind == "backed-clean"
    assert fresh.decide(near("r1", "r2", "s"), clean).kind == "lone-clean"
    assert fresh.decide(near("s", "r1", "r2", "r3"), clean).kind == "lone-clean"
    # One that is refused says nothing for or against.
    guards = {"r1": None, "r2": None, "r3": None, "s": "number"}
    assert fresh.decide(near("r1", "s", "r2", "r3"), guards.__getitem__).kind == "backed-clean"


def test_rows_that_are_gone_are_passed_over() -> None:
    fresh = scope()
    attach(fresh, "e", "r")
    assert fresh.decide(near("gone", "r"), clean).row == "r"


def test_an_equal_answer_makes_the_question_an_alias() -> None:
    fresh = scope()
    attach(fresh, "e", "r")
    decision = fresh.decide(near("r"), clean)
    assert fresh.learn(decision, "equal") == Lesson(entry="e")
    attach(fresh, "e", "r2")
    assert fresh.exact(b"r2") == "e"
    assert fresh.exact(b"another") is None
    assert fresh.entry_of("r2") == "e"
    assert fresh.table.zones()[0].labels == 1


@pytest.mark.parametrize("verdict", ["different", "unsure"])
def test_any_other_answer_gets_an_entry_of_its_own(verdict: Verdict) -> None:
    fresh = scope()
    attach(fresh, "e", "r")
    assert fresh.learn(fresh.decide(near("r"), clean), verdict) == Lesson()
    assert fresh.entry_of("r") == "e"


def test_an_entry_that_went_while_the_answer_was_awaited_gets_no_alias() -> None:
    fresh = scope()
    attach(fresh, "e", "r")
    decision = fresh.decide(near("r"), clean)
    assert fresh.forget("e") == ["r"]
    assert fresh.learn(decision, "equal") == Lesson()
    assert fresh.table.zones()[0].labels == 1  # the label itself is as good as any


def audit(of: Verified, row: str) -> Decision:
    """The next decision on `row` that is an audit."""
    return next(decision for decision in iter(lambda: of.decide(near(row), clean), None) if decision.action == "audit")


def test_a_row_that_was_twice_about_to_be_served_wrongly_goes() -> None:
    opened = taught()
    attach(opened, "e", "r", "r2")
    first, second = audit(opened, "r"), audit(opened, "r")
    assert opened.learn(first, "different") == Lesson()
    assert opened.learn(second, "different") == Lesson(gone=("r",))
    assert opened.entry_of("r") is None
    assert opened.exact(b"r") is None
    assert opened.exact(b"r2") == "e"
    assert len(opened) == 1


def test_two_complaints_remove_the_entry_with_all_that_leads_to_it() -> None:
    opened = taught()
    attach(opened, "e", "r", "r2")
    served = Served("e", "lone-clean", 0.96)
    assert opened.complain(served) == Lesson()
    assert opened.complain(served) == Lesson(gone=("r", "r2"))
    assert (len(opened), opened.exact(b"r"), opened.entry_of("r2")) == (0, None, None)
    assert opened.complain(served) == Lesson()
    assert opened.table.zones()[0].wrong == 3


def test_strikes_end_with_what_they_were_counted_for() -> None:
    opened = taught()
    attach(opened, "e", "r")
    opened.complain(Served("e", "lone-clean", 0.96))
    opened.forget("e")
    attach(opened, "e", "r")
    assert opened.complain(Served("e", "lone-clean", 0.96)) == Lesson()


def test_an_entry_keeps_so_many_rows_and_the_oldest_goes() -> None:
    small = scope(replace(SETTINGS, rows_per_entry=2))
    attach(small, "e", "r1", "r2")
    assert small.attach("e", "r3", b"r3") == ["r1"]
    assert small.entry_of("r1") is None
    assert small.exact(b"r1") is None
    assert repr(small) == "Verified(1 entries, 2 rows)"


def test_a_text_that_is_answered_anew_leads_to_the_new_entry() -> None:
    fresh = scope()
    fresh.attach("old", "r1", b"text")
    fresh.attach("new", "r2", b"text")
    assert fresh.exact(b"text") == "new"
    fresh.forget("old")
    assert fresh.exact(b"text") == "new"
    fresh.forget("new")
    assert fresh.exact(b"text") is None


def test_forgetting_what_is_not_known_changes_nothing() -> None:
    fresh = scope()
    fresh.forget_row("r")
    assert fresh.forget("e") == []
    assert len(fresh) == 0


def test_labels_grow_old_while_nothing_is_learned() -> None:
    clock = Still()
    opened = Verified(SETTINGS, taught().table, Random(1), clock)
    attach(opened, "e", "r")
    assert opened.decide(near("r"), clean).action != "learn"
    clock.now = RISK.epoch_s + 1
    opened.decide(near("r"), clean)
    clock.now = 2 * RISK.epoch_s + 2
    assert opened.decide(near("r"), clean).action == "learn"


def served_wrong(seed: int, wrong_at: dict[float, float], questions: int) -> tuple[int, int]:
    """Hits of a made-up stream, and the wrong ones: similarity -> its chance to be wrong, all equally frequent."""
    world = Random(seed)
    made = scope(seed=seed + 1_000)
    attach(made, "e", "r")
    hits = wrong = 0
    for _ in range(questions):
        similarity = world.choice(list(wrong_at))
        is_wrong = world.random() < wrong_at[similarity]
        decision = made.decide([("r", similarity)], clean)
        if decision.action == "serve":
            hits += 1
            wrong += is_wrong
        elif decision.wants_label:
            made.learn(decision, "different" if is_wrong else "equal")
            if made.entry_of("r") is None:
                attach(made, "e", "r")
    return hits, wrong


def test_a_stream_is_served_where_it_is_safe_and_not_where_it_is_not() -> None:
    for seed in range(3):
        hits, wrong = served_wrong(seed, {0.96: 0.005, 0.91: 0.01, 0.85: 0.3, 0.78: 0.5}, 4_000)
        assert hits > 4_000 / 2 * 0.5
        assert wrong / hits <= 0.05


def test_a_stream_that_is_never_safe_is_never_served() -> None:
    hits = [served_wrong(seed, {0.96: 0.08, 0.91: 0.1, 0.85: 0.3}, 1_500)[0] for seed in range(5)]
    assert hits == [0] * 5
