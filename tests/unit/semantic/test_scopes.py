"""What processes make of one log: what they would give for a question, and what they forget."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

import msgspec
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.semantic.guards import GUARDS
from gateway.semantic.log import Compared, Seen, pack
from gateway.semantic.rows import Room, Vector, packed_vector
from gateway.semantic.scopes import Rules, Scopes
from gateway.semantic.verified import FACTS, KINDS, Decision, VerifiedSettings
from gateway.semantic.zones import Verdict
from tests.fakes import FakeClock

SCOPE, OTHER = b"a" * 32, b"b" * 32
ASKED, ALIKE = "How do I reset my password?", "how can I reset my password?"
STATIC, VERIFIED = Rules("static", threshold=0.9), Rules("verified", max_wrong=0.05)
CLEAN = "lone-clean"


def at(cosine: float) -> Vector:
    """A vector that has this cosine with `at(1)`."""
    return numpy.array([cosine, math.sqrt(1 - cosine**2), 0], numpy.float32)


def key(name: str) -> str:
    """The hexadecimal key of an entry."""
    return name.encode().hex().ljust(64, "0")


class Coin(Random):
    """Falls as it is told."""

    falls = 0.5

    def random(self) -> float:
        return self.falls


@dataclass
class Log:
    """One log, and the processes that fold it."""

    room: Room = field(default_factory=Room)
    by: str = "minilm"
    clock: FakeClock = field(default_factory=FakeClock)
    records: list[tuple[str, bytes]] = field(default_factory=list)
    processes: list[Scopes] = field(default_factory=list)
    deleted: list[tuple[int, str]] = field(default_factory=list)
    coin: Coin = field(default_factory=lambda: Coin(7))
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def join(self) -> Scopes:
        """One more process, which is told what there is."""
        process = Scopes(self.by, self.room, self.coin, self.clock, self.append)
        process.fold(self.records)
        self.processes.append(process)
        return process

    def append(self, packed: bytes) -> None:
        """Add a record and tell everybody."""
        record = (f"{next(self._numbers)}-0", packed)
        self.records.append(record)
        for number, process in enumerate(self.processes):
            self.deleted += [(number, each) for each in process.fold([record])]

    def seen(self, text: str = ASKED, entry: str = "", **changes: object) -> None:
        """A question was answered, and `entry` stored, or one of its own."""
        about = Seen(
            scope=SCOPE,
            tenant="key=a",
            route="demo",
            by=self.by,
            entry=key(entry or text[:20]),
            until_s=self.clock.wall() + 100.0,
            text=text,
            vector=packed_vector(at(1)),
            names=("key:a", f"entry:{entry}"),
            max_wrong=0.05,
        )
        self.append(pack(msgspec.structs.replace(about, **changes)))

    def labels(
        self, number: int, verdict: Verdict = "equal", *, is_audit: bool = False, similarity: float = 0.97
    ) -> None:
        """So many pairs were compared, far away from where anybody looks."""
        for _ in range(number):
            compared = Compared(key("x"), "none", CLEAN, similarity, is_audit, verdict)
            text = f"Label {len(self.records)}"
            self.seen(text, "label", vector=packed_vector(numpy.array([0, 0, 1], numpy.float32)), compared=compared)


def look(
    process: Scopes, text: str = ALIKE, cosine: float = 1.0, rules: Rules = STATIC, scope: bytes = SCOPE
) -> Decision:
    """What a process would do with a question."""
    return process.look(scope, text, at(cosine), rules)


def test_what_nobody_asked_has_no_neighbour() -> None:
    decision = look(Log().join())
    assert (decision.action, decision.reason) == ("pass", "none")


@pytest.mark.parametrize("rules", [STATIC, VERIFIED])
def test_nothing_of_one_scope_is_seen_from_another(rules: Rules) -> None:
    """F116: neither by its words nor by its meaning."""
    log = Log()
    process = log.join()
    log.seen()
    log.seen("Something else in the other scope", "canary", scope=OTHER, vector=packed_vector(at(-1)))
    for text in (ASKED, ALIKE):
        assert look(process, text, rules=rules).entry == key(ASKED[:20])
        assert look(process, text, rules=rules, scope=OTHER).entry is None


@pytest.mark.parametrize("rules", [STATIC, VERIFIED, Rules("shadow")])
def test_the_very_same_words_need_no_similarity(rules: Rules) -> None:
    log = Log()
    process = log.join()
    log.seen(entry="e")
    decision = look(process, "How do I  reset my password? ", -1.0, rules)
    assert decision == Decision("serve", "same", key("e"), similarity=1.0)


def test_in_static_mode_a_neighbour_above_the_threshold_is_given() -> None:
    log = Log()
    process = log.join()
    log.seen(entry="e")
    decision = look(process, cosine=0.91)
    assert (decision.action, decision.reason, decision.entry, decision.row) == ("serve", "static", key("e"), "1-0")
    assert decision.kind == ""
    assert decision.similarity == pytest.approx(0.91, abs=1e-3)
    below = look(process, cosine=0.89)
    assert (below.action, below.reason, below.entry) == ("pass", "far", None)
    assert below.similarity == pytest.approx(0.89, abs=1e-3)


def test_in_static_mode_a_guard_objects_and_is_named() -> None:
    log = Log()
    process = log.join()
    log.seen("How do I reset my 2 passwords?")
    decision = look(process, "How do I reset my 3 passwords?")
    assert (decision.action, decision.reason, decision.guard, decision.entry) == ("pass", "number", "number", None)
    assert look(process, "How do I reset my 3 passwords?", 0.5).reason == "far"


def test_in_static_mode_one_that_no_guard_objects_to_is_given_behind_one_that_one_does() -> None:
    log = Log()
    process = log.join()
    log.seen("How do I reset my 2 passwords?", "other")
    log.seen(ASKED, "e", vector=packed_vector(at(0.95)))
    assert look(process).entry == key("e")
    refused = look(process, "How do I reset my 3 passwords?")
    assert (refused.action, refused.guard) == ("pass", "number")
    assert refused.similarity == pytest.approx(1.0, abs=1e-3)


def test_words_that_differ_in_case_alone_need_no_guard() -> None:
    log = Log()
    process = log.join()
    log.seen("Ok so what", "e")
    assert look(process, "ok so what").entry == key("e")


def test_what_is_far_away_is_not_even_read() -> None:
    log = Log()
    process = log.join()
    log.seen("How do I reset my 2 passwords?")
    decision = look(process, "How do I reset my 3 passwords?", 0.59, VERIFIED)
    assert (decision.action, decision.reason, decision.guard) == ("pass", "far", None)
    assert decision.similarity == pytest.approx(0.59, abs=1e-3)
    assert look(process, "How do I reset my 3 passwords?", 0.61, VERIFIED).guard == "number"


def test_what_the_log_has_forgotten_is_forgotten_here() -> None:
    """However many tenants there are."""
    log = Log(Room(records=2))
    process = log.join()
    for number in range(3):
        log.seen(f"Question {number}", tenant=f"key={number}", scope=bytes([number]) * 32)
    assert len(process) == 2
    assert process.question_of("1-0") is None


def test_a_scope_without_rows_gives_nothing() -> None:
    log = Log()
    process = log.join()
    log.seen()
    log.clock.advance(100)
    for rules in (STATIC, VERIFIED):
        for text in (ASKED, ALIKE):
            assert look(process, text, rules=rules).reason == "none"
    assert len(process) == 0


def test_a_vector_of_other_dimensions_is_an_error() -> None:
    log = Log()
    process = log.join()
    log.seen()
    with pytest.raises(ValueError, match="shape"):
        process.look(SCOPE, ALIKE, numpy.ones(5, numpy.float32), STATIC)


def test_verified_mode_is_closed_opens_with_labels_and_closes_with_wrong_ones() -> None:
    log = Log()
    process = log.join()
    log.seen(entry="e")
    closed = look(process, rules=VERIFIED)
    assert (closed.action, closed.reason, closed.entry, closed.kind) == ("learn", "closed", key("e"), CLEAN)
    log.labels(50)
    assert look(process, rules=VERIFIED).reason == "closed"
    log.labels(250)
    opened = look(process, rules=VERIFIED)
    assert (opened.action, opened.reason, opened.entry, opened.row) == ("serve", "open", key("e"), "1-0")
    log.coin.falls = 0.01
    audit = look(process, rules=VERIFIED)
    assert (audit.action, audit.reason, audit.entry) == ("audit", "audit", key("e"))
    log.labels(20, "different", is_audit=True)
    assert look(process, rules=VERIFIED).reason == "closed"
    standing = process.standing()["demo"]
    assert (standing.scopes, standing.open, standing.labels, standing.wrong) == (1, 0, 20, 20)
    assert 0.5 < standing.lower < 1
    assert standing.upper == 1


def test_in_verified_mode_other_facts_are_never_learned_of() -> None:
    log = Log()
    process = log.join()
    log.seen("How do I reset my 2 passwords?")
    decision = look(process, "How do I reset my 3 passwords?", rules=VERIFIED)
    assert (decision.action, decision.guard) == ("pass", "number")


def test_what_is_never_served_is_what_guards_can_say() -> None:
    assert set(GUARDS) >= FACTS
    assert VerifiedSettings().never == FACTS


def test_the_order_of_the_kinds_is_what_receipts_were_written_in() -> None:
    assert KINDS == ("lone-clean", "lone-flagged", "backed-clean", "backed-flagged")


def test_another_bound_judges_what_was_learned_anew() -> None:
    """As after a reload."""
    log = Log()
    process = log.join()
    log.seen(entry="e")
    log.labels(300)
    strict = Rules("verified", max_wrong=0.01)
    assert look(process, rules=VERIFIED).action == "serve"
    assert look(process, rules=strict).reason == "closed"
    assert look(process, rules=VERIFIED).action == "serve"
    assert look(process, rules=Rules("shadow", max_wrong=0.01)).reason == "closed"


def test_a_confirmed_question_leads_to_the_entry_of_its_neighbour() -> None:
    log = Log()
    process = log.join()
    log.seen(entry="e")
    alias = Compared(key("e"), "1-0", CLEAN, 0.97, False, "equal")
    log.seen("Password gone, what to do", "own", compared=alias)
    assert look(process, "Password gone, what to do").entry == key("e")
    assert process.question_of("2-0") == "Password gone, what to do"
    assert process.question_of("3-0") is None


@pytest.mark.parametrize("verdict", ["different", "unsure"])
def test_a_question_that_is_not_confirmed_has_its_own_entry(verdict: Verdict) -> None:
    log = Log()
    process = log.join()
    log.seen(entry="e")
    log.seen("Password gone, what to do", "own", compared=Compared(key("e"), "1-0", CLEAN, 0.97, False, verdict))
    assert look(process, "Password gone, what to do").entry == key("own")


def test_an_alias_ends_with_the_entry_that_it_leads_to() -> None:
    log = Log()
    process = log.join()
    log.seen(entry="e")
    log.clock.advance(50)
    log.seen("Password gone, what to do", "own", compared=Compared(key("e"), "1-0", CLEAN, 0.97, False, "equal"))
    log.clock.advance(51)
    assert look(process, "Password gone, what to do").reason == "none"


def test_an_entry_that_has_ended_gets_no_alias_whether_its_row_was_dropped_or_not() -> None:
    """Else a process in which somebody had looked would know another row than the others."""
    log = Log()
    one, two = log.join(), log.join()
    log.seen(entry="e")
    log.clock.advance(101)
    assert look(one).reason == "none"
    log.seen("Password gone, what to do", "own", compared=Compared(key("e"), "1-0", CLEAN, 0.97, False, "equal"))
    for process in (one, two):
        assert look(process, "Password gone, what to do").entry == key("own")


def test_an_alias_whose_neighbour_went_meanwhile_has_its_own_entry() -> None:
    log = Log()
    process = log.join()
    log.seen(entry="e")
    process.forget(key("e"))
    log.seen("Password gone, what to do", "own", compared=Compared(key("e"), "1-0", CLEAN, 0.97, False, "equal"))
    assert look(process, "Password gone, what to do").entry == key("own")


def test_audits_that_were_wrong_twice_remove_the_row() -> None:
    log = Log()
    process = log.join()
    log.seen(entry="e")
    for number in range(2):
        wrong = Compared(key("e"), "1-0", CLEAN, 0.97, True, "different")
        log.seen(f"Other {number}", "own", vector=packed_vector(at(-1)), compared=wrong)
    assert process.question_of("1-0") is None
    assert look(process).reason == "far"


def test_a_question_of_the_same_words_takes_the_place_of_the_former() -> None:
    """Twice the same would pass for two witnesses."""
    log = Log()
    process = log.join()
    log.seen(ASKED, "e")
    log.seen(f" {ASKED}", "f")
    assert len(process) == 1
    assert look(process, ASKED).entry == key("f")
    assert look(process).entry == key("f")


def test_too_many_aliases_of_one_entry_make_room() -> None:
    log = Log()
    process = log.join()
    most = VerifiedSettings().rows_per_entry
    for number in range(most + 1):
        log.seen(f"Question number {number}", "e")
    assert len(process) == most
    assert process.question_of("1-0") is None


def test_a_label_counts_though_its_question_has_ended() -> None:
    """After a restart most have."""
    log = Log()
    log.labels(300)
    log.clock.advance(1000)
    log.seen(entry="e")
    process = log.join()
    assert look(process, rules=VERIFIED).action == "serve"
    assert len(process) == 1


def test_a_label_of_a_kind_that_is_not_known_is_none() -> None:
    """A newer version may have written it."""
    log = Log()
    process = log.join()
    log.seen(entry="e")
    for kind in ("", "crowded-clean"):
        log.seen(f"Other {kind}", "own", compared=Compared(key("e"), "1-0", kind, 0.97, True, "equal"))
    process.complain(key("own"), "crowded-clean", 0.9)
    assert process.standing()["demo"].labels == 0
    assert look(process, ASKED).entry == key("e")


def test_what_is_gone_from_the_store_is_forgotten_here() -> None:
    log = Log()
    one, two = log.join(), log.join()
    log.seen(entry="e")
    one.forget(key("e"))
    one.forget(key("e"))
    assert look(one).reason == "none"
    assert look(two).entry == key("e")


def test_a_complaint_removes_the_entry_everywhere_and_counts() -> None:
    log = Log()
    processes = log.join(), log.join()
    log.seen(entry="e")
    log.labels(300)
    assert all(look(each, rules=VERIFIED).action == "serve" for each in processes)
    for number in range(20):
        log.seen(f"Wrong {number}", f"wrong {number}", vector=packed_vector(at(-1)))
        processes[0].complain(key(f"wrong {number}"), CLEAN, 0.97)
    for each in processes:
        assert look(each, rules=VERIFIED).reason == "closed"
        assert look(each, "Wrong 1").entry is None


def test_a_complaint_about_its_own_question_removes_the_entry_and_teaches_nothing() -> None:
    log = Log()
    process = log.join()
    log.seen(entry="e")
    process.complain(key("e"), "", 0.0)
    process.complain(key("e"), "", 0.0)
    assert look(process, ASKED).reason == "none"


def test_a_purge_removes_what_it_names_and_its_aliases_everywhere() -> None:
    log = Log()
    processes = log.join(), log.join()
    log.seen(entry="e")
    log.seen("Password gone, what to do", "own", compared=Compared(key("e"), "1-0", CLEAN, 0.97, False, "equal"))
    log.seen("Who are you?", "other", names=("key:b",))
    processes[0].purge("entry:e")
    for each in processes:
        assert look(each, ASKED).entry is None
        assert look(each, "Password gone, what to do").entry is None
        assert look(each, "Who are you?").entry == key("other")


def test_every_process_deletes_the_records_of_a_purge() -> None:
    log = Log()
    processes = log.join(), log.join()
    log.seen(entry="e")
    log.seen("Password gone, what to do", "own", compared=Compared(key("e"), "1-0", CLEAN, 0.97, False, "equal"))
    processes[1].purge("entry:e")
    assert sorted(log.deleted) == [(0, "1-0"), (0, "2-0"), (1, "1-0"), (1, "2-0")]


def test_a_purge_names_the_records_too_whose_rows_are_no_longer_kept() -> None:
    """Their prompts still stand in the log."""
    log = Log(Room(per_scope=1))
    log.seen("Crowded out")
    log.seen("Of another embedder", by="other")
    log.seen("Of an odd size", vector=b"abc")
    log.seen("Gone from the store", "gone")
    log.seen("Ended", until_s=log.clock.wall())
    log.seen("Of another key", names=("key:b",))
    process = log.join()
    process.forget(key("gone"))
    process.purge("key:a")
    assert [number for _, number in log.deleted] == ["1-0", "2-0", "3-0", "4-0", "5-0"]
    process.purge("key:a")
    assert len(log.deleted) == 5


def test_vectors_of_another_embedder_are_not_compared() -> None:
    log = Log()
    process = log.join()
    log.seen(by="other")
    log.seen(vector=b"")
    assert look(process, ASKED).reason == "none"
    assert process.standing() == {}
    log.seen(vector=bytes(6))
    assert look(process, ASKED).reason == "none"
    assert len(process) == 0


def test_what_is_no_record_is_passed_over() -> None:
    log = Log()
    process = log.join()
    log.append(b"\xc1")
    log.append(pack(["later", 1]))
    log.append(pack(["seen", 1]))
    log.seen(entry="e")
    assert look(process).entry == key("e")


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_garbage_does_no_harm(records: Sequence[bytes]) -> None:
    log = Log()
    process = log.join()
    log.seen(entry="e")
    for record in records:
        log.append(record)
    assert look(process).entry == key("e")


def test_what_one_tells_all_know() -> None:
    log = Log()
    one, two = log.join(), log.join()
    vector = packed_vector(at(1))
    until_s = log.clock.wall() + 1
    one.tell(Seen(SCOPE, "key=a", "demo", "minilm", key("e"), until_s, ASKED, vector, ("key:a",), 0.05))
    assert look(one).entry == look(two).entry == key("e")


def test_a_log_that_begins_anew_is_learned_anew() -> None:
    log = Log()
    process = log.join()
    log.seen(entry="e")
    process.reset()
    assert (len(process), process.standing(), process.size_bytes) == (0, {}, 0)
    process.fold(log.records)
    assert look(process).entry == key("e")


def test_the_scope_that_was_longest_unused_makes_room() -> None:
    log = Log(Room(scopes=2))
    process = log.join()
    scopes = [bytes([number]) * 32 for number in range(3)]
    for scope in scopes[:2]:
        log.seen(scope=scope)
    assert look(process, scope=scopes[0]).action == "serve"
    log.seen(scope=scopes[2])
    assert [look(process, scope=scope).action for scope in scopes] == ["serve", "pass", "serve"]
    assert len(process) == 2
    assert process.standing()["demo"].scopes == 2


def test_what_a_route_has_come_to_is_over_all_its_scopes() -> None:
    log = Log()
    process = log.join()
    for scope in (SCOPE, OTHER):
        log.seen(scope=scope, compared=Compared(key("x"), "none", CLEAN, 0.97, True, "equal"))
    log.seen("Who?", scope=SCOPE, compared=Compared(key("x"), "none", CLEAN, 0.97, False, "different"))
    log.seen(scope=b"c" * 32, route="other")
    standing = process.standing()
    assert (standing["demo"].scopes, standing["demo"].labels, standing["demo"].wrong) == (2, 2, 0)
    assert (standing["other"].scopes, standing["other"].lower, standing["other"].upper) == (1, 0.0, 1.0)


def test_no_text_is_shown() -> None:
    log = Log()
    process = log.join()
    log.seen()
    assert repr(process) == "Scopes(1 scopes, 1 rows)"


TEXTS = (ASKED, ALIKE, "How do I reset my 2 passwords?", "Who are you?", "How do I change my password?")
COSINES = (1.0, 0.99, 0.95, 0.8, 0.65, 0.3)
_seen = st.tuples(
    *(
        st.just("seen"),
        st.sampled_from(TEXTS),
        st.sampled_from(COSINES),
        st.sampled_from("ab"),
        st.sampled_from("efgh"),
    ),
    st.none() | st.tuples(st.booleans(), st.sampled_from(["equal", "equal", "different", "unsure"])),
)
_steps = st.one_of(
    _seen,
    _seen,
    _seen,
    st.tuples(st.just("look"), st.sampled_from(TEXTS), st.sampled_from(COSINES), st.sampled_from("ab")),
    st.tuples(st.just("complained"), st.sampled_from("efgh"), st.sampled_from(KINDS), st.sampled_from(COSINES)),
    st.tuples(st.just("purged"), st.sampled_from(["key:a", "key:b", "tag:x=1"])),
    st.tuples(st.just("labels"), st.sampled_from(["equal", "equal", "different"])),
    st.tuples(st.just("wait"), st.sampled_from([10.0, 60.0])),
)


def _outcomes(process: Scopes) -> list[Decision]:
    return [
        look(process, text, cosine, rules, scope)
        for scope in (SCOPE, OTHER)
        for rules in (VERIFIED, STATIC)
        for text in TEXTS
        for cosine in COSINES[:4]
    ]


@settings(max_examples=60)
@given(st.lists(_steps, max_size=25), st.integers(1, 7))
def test_whoever_folds_one_log_comes_to_the_same(steps: Sequence[tuple[object, ...]], size: int) -> None:
    """Whoever looked meanwhile, and in whatever pieces the log was told."""
    log = Log()
    asked, idle, late = log.join(), log.join(), log.join()
    log.processes.remove(late)
    told = 0
    for step in steps:
        _take(log, asked, step)
        if step[0] == "wait":
            # Who is told late may not be told of what has ended before, so let it keep up until then.
            late.fold(log.records[told:])
            told = len(log.records)
            log.clock.advance(float(str(step[1])))
    for start in range(told, len(log.records), size):
        late.fold(log.records[start : start + size])
    assert _outcomes(asked) == _outcomes(idle) == _outcomes(late)
    assert asked.standing() == idle.standing() == late.standing()


def _take(log: Log, asked: Scopes, step: tuple[object, ...]) -> None:
    match step:
        case ("seen", str(text), float(cosine), str(scope), str(entry), compared):
            found = log.processes[0].look(scope.encode() * 32, text, at(cosine), VERIFIED)
            label = None
            if isinstance(compared, tuple) and found.entry is not None and found.row is not None and found.kind:
                is_audit, verdict = compared
                label = Compared(found.entry, found.row, found.kind, found.similarity, is_audit, verdict)
            names = (f"key:{scope}", f"tag:x={entry == 'e':d}")
            vector = packed_vector(at(cosine))
            # An entry's key names its scope.
            entry += scope
            log.seen(text, entry, scope=scope.encode() * 32, vector=vector, names=names, compared=label)
        case ("look", str(text), float(cosine), str(scope)):
            asked.look(scope.encode() * 32, text, at(cosine), VERIFIED)
        case ("complained", str(entry), str(kind), float(cosine)):
            asked.complain(key(f"{entry}a"), kind, cosine)
        case ("purged", str(name)):
            asked.purge(name)
        case ("labels", "equal" | "different" as verdict):
            log.labels(150 if verdict == "equal" else 5, verdict, is_audit=verdict == "different")
