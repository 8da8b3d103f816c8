"""One spelling for one text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.semantic.normalise import equal_text, normalise


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("  a \t b\n", "a b"),
        ("it\u2019s \u201cfine\u201d", 'it\'s "fine"'),
        ("2020\u20132021", "2020-2021"),
        ("wait\u2026", "wait..."),
        ("\uff28\uff45\uff4c\uff4c\uff4f", "Hello"),
        ("zero\u200bwidth", "zerowidth"),
        ("2\u00b2", "2^2"),
        ("3\u00bd", "3 1\u20442"),
        ("caf\u00e9", "caf\u00e9"),
        ("\u22125", "-5"),
    ],
)
def test_spellings_of_one_text_become_one(text: str, plain: str) -> None:
    assert normalise(text) == plain


@given(st.text())
def test_what_is_normalised_stays_as_it_is(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("How are you?", "how are you", True),
        ("Hello  there!", "hello there", True),
        ("print(x)", "print(x)", True),
        ("Call Polish", "Call polish", False),
        ("print(X)", "print(x)", False),
        ("what is userId", "what is userid", False),
        ("5 times", "6 times", False),
        ("is it", "it is", False),
    ],
)
def test_only_case_and_the_mark_at_the_end_may_differ_in_plain_texts(one: str, other: str, equal: bool) -> None:
    assert equal_text(one, other) is equal
    assert equal_text(other, one) is equal
