"""Endings that come off, and those that do not."""

import pytest

from gateway.semantic.guards_stem import degree, listed, stem


@pytest.mark.parametrize(
    "forms",
    [
        "file files",
        "city cities",
        "box boxes",
        "size sizes",
        "house houses",
        "class classes",
        "make makes making made",
        "run running ran",
        "cancel canceled cancelled cancelling",
        "create creates creating created",
        "quick quickly",
        "legal legally",
        "automatic automatically",
        "possible possibly",
        "write wrote written writing",
        "child children",
        "try tries tried trying",
        "use used using",
        "bacterium bacteria",
    ],
)
def test_forms_of_one_word_have_one_stem(forms: str) -> None:
    assert len({stem(form)[0] for form in forms.split()}) == 1


@pytest.mark.parametrize(
    "pair",
    [
        *("plane plan", "care car", "news new", "pandas panda", "virus viru", "speed spe", "note not", "hope hop"),
        *("marketing market", "hardly hard", "paper pap", "austria australia", "maria mario", "less les", "king k"),
        *("teacher teach", "us use", "customs custom", "building build"),
    ],
)
def test_different_words_keep_different_stems(pair: str) -> None:
    one, other = pair.split()
    assert stem(one)[0] != stem(other)[0]


def test_a_plural_is_known_as_one() -> None:
    assert [stem(each)[1] for each in listed("file files child children news pandas bus buses")] == [
        *(False, True, False, True),
        *(False, False, False, True),
    ]


@pytest.mark.parametrize(
    ("word", "plain", "grade"),
    [
        ("fast", "fast", 0),
        ("faster", "fast", 1),
        ("largest", "large", 2),
        ("bigger", "big", 1),
        ("easiest", "easy", 2),
        ("best", "good", 2),
        ("worse", "bad", 1),
        ("teacher", "teacher", 0),
        ("forest", "forest", 0),
        ("number", "number", 0),
    ],
)
def test_degrees_are_taken_off_adjectives_alone(word: str, plain: str, grade: int) -> None:
    assert degree(word) == (plain, grade)
