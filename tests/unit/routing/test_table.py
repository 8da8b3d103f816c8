"""Which route serves a model."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.globs import glob_pattern
from gateway.routing.table import ModelFilter, ModelTable, is_glob, specificity


@pytest.mark.parametrize(("name", "answer"), [("gpt-4", False), ("gpt-*", True), ("gpt-?", True), ("", False)])
def test_a_glob_is_known_by_its_wildcards(name: str, answer: bool) -> None:
    assert is_glob(name) is answer


def test_a_longer_prefix_is_more_specific_then_more_letters() -> None:
    globs = ["*", "*-mini", "g*", "gpt-*", "gpt-*-mini", "gpt-4?"]
    assert sorted(globs, key=specificity) == ["*", "*-mini", "g*", "gpt-*", "gpt-*-mini", "gpt-4?"]


def test_an_exact_name_wins_over_every_glob() -> None:
    table = ModelTable({"*": "all", "gpt-*": "gpt", "gpt-4.1": "exact"})
    assert table.find("gpt-4.1") == "exact"


def test_the_order_of_the_file_does_not_matter() -> None:
    entries = {"*": 1, "gpt-*": 2, "gpt-4*": 3, "o?": 4}
    for order in itertools.permutations(entries.items()):
        table = ModelTable(dict(order))
        assert [table.find(model) for model in ("gpt-4.1", "gpt-3.5", "o3", "o30", "x")] == [3, 2, 4, 1, 1]


def test_no_entry_is_none_now_and_the_second_time() -> None:
    table = ModelTable({"gpt-*": 1})
    assert [table.find("claude"), table.find("claude")] == [None, None]


def test_a_remembered_answer_is_the_same() -> None:
    table = ModelTable({"gpt-*": 1, "gpt-4*": 2})
    assert [table.find("gpt-4"), table.find("gpt-4")] == [2, 2]


def test_invented_names_do_not_fill_the_memory() -> None:
    """F127: clients invent names."""
    table = ModelTable({"gpt-*": 1})
    for number in range(10_000):
        assert table.find(f"gpt-{number}") == 1
    remembered = next(value for value in vars(table).values() if isinstance(value, dict) and len(value) > 1)
    assert len(remembered) <= 4096


def test_an_entry_may_be_falsy() -> None:
    assert ModelTable({"a": 0, "b*": 0}).find("a") == 0
    assert ModelTable({"a": 0, "b*": 0}).find("bb") == 0


@given(st.text(alphabet="ab.*?[", max_size=8), st.text(alphabet="ab.[", max_size=8))
def test_a_name_without_wildcards_matches_itself_alone(glob: str, name: str) -> None:
    if not is_glob(glob):
        assert bool(glob_pattern(glob).fullmatch(name)) == (glob == name)
    assert glob_pattern("*").fullmatch(name)


@pytest.mark.parametrize(
    ("globs", "model", "answer"),
    [
        (["*"], "x", True),
        (["support-*", "o3"], "support-chat", True),
        (["support-*", "o3"], "o3", True),
        (["support-*", "o3"], "o30", False),
        ([], "x", False),
    ],
)
def test_a_filter_allows_what_any_of_its_globs_matches(globs: list[str], model: str, answer: bool) -> None:
    assert ModelFilter(iter(globs)).allows(model) is answer
