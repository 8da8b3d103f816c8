"""Nearest neighbours: right, really deleted, capped, apart from each other, and fast enough."""

import statistics
import time

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.semantic.index import BLOCK_ROWS, Index, Indexes, Vector


def vectors(count: int, dimensions: int = 384, seed: int = 7) -> Vector:
    """Unit vectors in any direction."""
    drawn = numpy.random.default_rng(seed).normal(size=(count, dimensions))
    units: Vector = (drawn / numpy.linalg.norm(drawn, axis=1, keepdims=True)).astype(numpy.float32)
    return units


def axis(*numbers: float) -> Vector:
    """A vector by its numbers."""
    return numpy.array(numbers, numpy.float32)


def filled(rows: Vector, exact_rows: int = 10_000, rescored: int = 200) -> Index:
    """An index of all rows, each under its number."""
    index = Index(rows.shape[1], exact_rows, rescored)
    for number, row in enumerate(rows):
        index.add(str(number), row)
    return index


def test_an_empty_index_finds_nothing() -> None:
    assert Index(3).search(axis(1, 0, 0), 5) == []


def test_the_nearest_come_first_with_their_cosine() -> None:
    index = Index(2)
    index.add("east", axis(1, 0))
    index.add("north", axis(0, 1))
    index.add("north east", axis(1, 1))
    found = index.search(axis(2, 0.1), 2)
    assert [entry for entry, _ in found] == ["east", "north east"]
    assert found[0][1] == pytest.approx(2 / (4 + 0.01) ** 0.5, abs=1e-6)


def test_lengths_do_not_matter() -> None:
    index = Index(2)
    index.add("long", axis(300, 400))
    ((_, similarity),) = index.search(axis(0.003, 0.004), 1)
    assert similarity == pytest.approx(1, abs=1e-6)


def test_no_more_than_there_are_and_no_more_than_asked_for() -> None:
    index = filled(vectors(7, 8))
    assert len(index.search(vectors(1, 8)[0], 99)) == 7
    assert len(index.search(vectors(1, 8)[0], 3)) == 3


@pytest.mark.parametrize(
    "bad", [(1, 2), (0, 0, 0), (float("nan"), 1, 1), (float("inf"), 1, 1)], ids=["short", "zero", "nan", "infinite"]
)
def test_a_vector_without_a_direction_is_refused_and_leaves_no_trace(bad: tuple[float, ...]) -> None:
    index = filled(vectors(3, 3))
    for act in (lambda: index.add("1", axis(*bad)), lambda: index.search(axis(*bad), 1)):
        with pytest.raises(ValueError, match="vector has"):
            act()
    assert index.entries == ["0", "1", "2"]


def test_an_entry_added_again_is_replaced_and_becomes_the_newest() -> None:
    index = Index(2)
    index.add("a", axis(1, 0))
    index.add("b", axis(1, 1))
    index.add("a", axis(0, 1))
    assert len(index) == 2
    assert index.oldest == "b"
    ((entry, similarity),) = index.search(axis(0, 1), 1)
    assert entry == "a"
    assert similarity == pytest.approx(1)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 25)), max_size=120))
def test_after_any_adding_and_removing_it_finds_what_a_plain_list_finds(acts: list[tuple[bool, int]]) -> None:
    known = vectors(26, 16)
    plain: dict[str, Vector] = {}
    index = Index(16)
    for adds, number in acts:
        name = str(number)
        if adds:
            index.add(name, known[number])
            plain.pop(name, None)
            plain[name] = known[number]
        else:
            assert index.remove(name) == (plain.pop(name, None) is not None)
    asked = vectors(1, 16, seed=8)[0]
    expected = sorted(plain, key=lambda name: -float(plain[name] @ asked))
    assert [entry for entry, _ in index.search(asked, 30)] == expected
    assert index.entries == list(plain)
    assert len(index) == len(plain)


def test_a_deleted_vector_is_gone_from_the_memory_too() -> None:
    index = filled(vectors(5, 64))
    for number in (1, 4, 0):
        index.remove(str(number))
    assert "1" not in index
    assert "2" in index
    (block,) = index._blocks
    assert numpy.count_nonzero(numpy.any(block.matrix, axis=1)) == 2
    assert numpy.count_nonzero(numpy.any(block.signs, axis=0)) == 2


def test_it_grows_by_doubling_and_gives_memory_back() -> None:
    rows = vectors(100, 16)
    index = filled(rows)
    full = index.size_bytes
    assert full == 128 * (16 * 4 + 8)
    for number in range(95):
        index.remove(str(number))
    assert index.size_bytes < full / 4
    assert [entry for entry, _ in index.search(rows[97], 1)] == ["97"]


@pytest.mark.parametrize("exact_rows", [10_000, 300])
def test_rows_of_several_blocks_are_one_index(exact_rows: int) -> None:
    count = 2 * BLOCK_ROWS + 3
    rows = vectors(count, 64)
    index = filled(rows, exact_rows=exact_rows, rescored=400)
    assert index.size_bytes == 3 * BLOCK_ROWS * (64 * 4 + 8)
    # From the middle and from the end: others move into their places, over the border too.
    gone = [0, 5, BLOCK_ROWS - 1, BLOCK_ROWS, count - 1, count - 2, 17]
    for number in gone:
        assert index.remove(str(number))
    assert index.size_bytes == 2 * BLOCK_ROWS * (64 * 4 + 8)
    for number in (1, 2, BLOCK_ROWS + 1, 2 * BLOCK_ROWS - 1, count - 3):
        entry, similarity = index.search(rows[number], 1)[0]
        assert entry == str(number)
        assert similarity == pytest.approx(1.0, abs=1e-5)
    for number in gone:
        assert index.search(rows[number], 1)[0][0] != str(number)
    index.add("again", rows[5])
    assert index.search(rows[5], 1)[0][0] == "again"


def test_the_signs_find_the_same_neighbour_in_a_big_index() -> None:
    rows = vectors(3_000)
    index = filled(rows, exact_rows=1_000)
    noise = vectors(200, seed=9) * 0.5
    asked = rows[:200] + noise  # cosine near 0.9
    found = [index.search(each, 1)[0] for each in asked]
    assert [entry for entry, _ in found] == [str(number) for number in range(200)]
    exact = [float(row @ each) / float(numpy.linalg.norm(each)) for row, each in zip(rows, asked, strict=False)]
    assert [similarity for _, similarity in found] == pytest.approx(exact, abs=1e-5)


def test_the_signs_still_give_as_many_as_asked_for() -> None:
    index = filled(vectors(60, 70), exact_rows=20, rescored=10)
    asked = vectors(1, 70, seed=3)[0]
    found = index.search(asked, 30)
    assert len({entry for entry, _ in found}) == 30
    assert [similarity for _, similarity in found] == sorted((s for _, s in found), reverse=True)
    assert len(index.search(asked, 60)) == 60


def test_deletions_reach_the_signs() -> None:
    rows = vectors(400, 64)
    index = filled(rows, exact_rows=50)
    index.remove("7")
    assert index.search(rows[7], 1)[0][0] != "7"
    assert index.search(rows[399], 1)[0][0] == "399"


def test_a_search_among_ten_thousand_takes_half_a_millisecond() -> None:
    # The bound is 0.5 ms on a quiet core; here it is only shown that nothing is wrong by a factor.
    rows = vectors(10_000)
    for exact_rows in (10_000, 1_000):
        index = filled(rows, exact_rows=exact_rows)
        took = []
        for row in rows[:60]:
            started = time.perf_counter()
            index.search(row, 5)
            took.append(time.perf_counter() - started)
        assert statistics.quantiles(took, n=10)[0] < 0.003


def test_what_it_shows_of_itself_is_its_size() -> None:
    assert repr(filled(vectors(2, 4))) == "Index(2 entries x 4)"


def test_a_search_sees_its_scope_alone() -> None:
    """F116: the nearest question of another tenant, or of another scope, is not even compared."""
    indexes = Indexes(2, per_scope=10, per_tenant=10)
    indexes.add("one", "one/a", "secret", axis(1, 0))
    indexes.add("one", "one/b", "other", axis(0, 1))
    indexes.add("two", "two/a", "own", axis(-1, 0))
    assert [entry for entry, _ in indexes.search("two/a", axis(1, 0), 5)] == ["own"]
    assert [entry for entry, _ in indexes.search("one/b", axis(1, 0), 5)] == ["other"]
    assert indexes.search("three", axis(1, 0), 5) == []


def test_a_scope_of_another_tenant_is_refused() -> None:
    """F116."""
    indexes = Indexes(2, per_scope=10, per_tenant=10)
    indexes.add("one", "shared", "a", axis(1, 0))
    with pytest.raises(ValueError, match="another tenant"):
        indexes.add("two", "shared", "b", axis(0, 1))


def test_a_full_scope_loses_its_oldest_entry() -> None:
    indexes = Indexes(2, per_scope=2, per_tenant=10)
    for name in "ab":
        assert indexes.add("t", "s", name, axis(1, 0)) == []
    assert indexes.add("t", "s", "c", axis(1, 0)) == [("s", "a")]
    assert indexes.count("s") == 2


def test_a_full_tenant_loses_its_oldest_entry_wherever_it_is() -> None:
    indexes = Indexes(2, per_scope=10, per_tenant=3)
    indexes.add("t", "s1", "a", axis(1, 0))
    indexes.add("t", "s2", "b", axis(1, 0))
    indexes.add("u", "s3", "c", axis(1, 0))
    indexes.add("t", "s2", "d", axis(1, 0))
    assert indexes.add("t", "s2", "e", axis(1, 0)) == [("s1", "a")]
    assert indexes.count("s1") == 0
    assert len(indexes) == 4


def test_an_entry_added_again_costs_no_other_its_place() -> None:
    indexes = Indexes(2, per_scope=2, per_tenant=2)
    indexes.add("t", "s", "a", axis(1, 0))
    indexes.add("t", "s", "b", axis(1, 0))
    assert indexes.add("t", "s", "a", axis(0, 1)) == []
    assert indexes.add("t", "s", "c", axis(0, 1)) == [("s", "b")]


def test_what_was_removed_leaves_nothing_behind() -> None:
    indexes = Indexes(2, per_scope=9, per_tenant=9)
    for name in "abcd":
        indexes.add("t", "s", name, axis(1, 0))
    before = indexes.size_bytes
    assert indexes.remove("s", "a")
    assert not indexes.remove("s", "a")
    assert not indexes.remove("nowhere", "a")
    assert indexes.drop("s", ["b", "a"]) == 1
    assert before == indexes.size_bytes > 0
    assert indexes.drop("s") == 2
    assert indexes.drop("s") == 0
    assert indexes.size_bytes == len(indexes) == 0
    # The name is free again: nothing remembers whose it was.
    assert indexes.add("u", "s", "x", axis(1, 0)) == []
