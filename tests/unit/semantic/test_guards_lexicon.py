"""The classes of words do not overlap where an order of looking would decide."""

from itertools import combinations

from gateway.semantic.guards_lexicon import (
    ARTICLES,
    MODALS,
    NEGATIONS,
    NUMBERS,
    ORDINALS,
    PHRASES,
    PLACED,
    QUANTIFIERS,
    ROLES,
    SCALES,
    SOFT,
    STRICT,
)


def test_a_function_word_has_one_function() -> None:
    classes: dict[str, set[str]] = {
        "soft": set(SOFT),
        "strict": set(STRICT),
        "placed": set(PLACED) - NEGATIONS.keys(),
        "negation": set(NEGATIONS),
        "quantifier": set(QUANTIFIERS),
        "role": set(ROLES),
        "article": set(ARTICLES),
        "modal": set(MODALS),
    }
    shared = {(a, b): classes[a] & classes[b] for a, b in combinations(classes, 2) if classes[a] & classes[b]}
    assert shared == {}


def test_numbers_have_their_values() -> None:
    assert NUMBERS["zero"] == 0 and NUMBERS["nineteen"] == 19 and NUMBERS["ninety"] == 90
    assert ORDINALS["first"] == 1 and ORDINALS["twentieth"] == 20
    assert SCALES["million"] == 1_000_000


def test_no_phrase_is_replaced_by_another_one() -> None:
    assert [said for said in PHRASES.values() if said in PHRASES] == []
