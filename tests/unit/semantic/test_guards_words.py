"""One word at a time."""

import pytest

from gateway.semantic.guards_words import (
    COMPARATIVE,
    PLURAL,
    SUPERLATIVE,
    antonymous,
    is_participle,
    negated,
    reason_for,
    word,
)


@pytest.mark.parametrize(
    ("low", "kind", "flags"),
    [
        ("files", "w", PLURAL),
        ("kilometers", "u", PLURAL),
        ("python", "e", 0),
        ("got", "l", 0),
        ("quickly", "m", 0),
        ("database", "s", 0),
        ("largest", "w", SUPERLATIVE),
        ("larger", "w", COMPARATIVE),
    ],
)
def test_words_have_a_kind_and_flags(low: str, kind: str, flags: int) -> None:
    assert word(low)[1:] == (kind, flags)


def test_synonyms_have_one_form_through_their_inflections() -> None:
    assert word("deleting").canonical == word("removes").canonical == word("erased").canonical
    assert word("km").canonical == word("kilometres").canonical
    assert word("summary").canonical == word("summarizing").canonical
    assert word("month").canonical != word("quarter").canonical


def test_participles_are_known() -> None:
    assert [is_participle(each) for each in ("chased", "written", "red", "write")] == [True, True, False, False]


def test_opposites_are_known_by_their_stems() -> None:
    assert antonymous(word("increasing").canonical, word("reduced").canonical)
    assert not antonymous(word("cat").canonical, word("dog").canonical)


def test_a_prefix_that_turns_a_word_round_is_known() -> None:
    assert negated("usual", "unusual") and negated("irregular", "regular")
    assert not negated("usual", "visual") and not negated("it", "unit")


def test_the_most_telling_difference_names_the_guard() -> None:
    assert reason_for([("cat", "w"), ("5", "n")], [("dog", "w")]) == "number"
    assert reason_for([("lima", "e")], [("city", "w")]) == "entity"
    assert reason_for([("buy", "w")], [("sell", "w")]) == "antonym"
    assert reason_for([("cat", "w")], []) == "content"
