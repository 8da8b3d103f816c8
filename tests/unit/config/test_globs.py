"""Globs, compared with names and with each other."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.globs import globs_of, has_wildcard, is_about, matches, may_meet

GLOBS = st.text("ab*?", max_size=5)
NAMES = ["".join(letters) for length in range(8) for letters in itertools.product("ab", repeat=length)]


@pytest.mark.parametrize(
    ("glob", "name", "is_match"),
    [("*", "a/b", True), ("a*", "ab", True), ("a?", "a", False), ("a.b", "axb", False), ("a*", "a*", True)],
)
def test_a_glob_matches_names(glob: str, name: str, is_match: bool) -> None:
    assert matches(glob, name) is is_match


@given(GLOBS, GLOBS)
def test_two_globs_meet_when_a_name_matches_both(one: str, other: str) -> None:
    assert may_meet(one, other) is any(matches(one, name) and matches(other, name) for name in NAMES)


def test_globs_are_one_or_a_list() -> None:
    assert globs_of("a*") == ("a*",)
    assert globs_of(("a", 5, "b")) == ("a", "b")
    assert globs_of(None) == ()
    assert [has_wildcard(glob) for glob in ("a", "a*", "a?")] == [False, True, True]


@pytest.mark.parametrize(
    ("match", "is_met"),
    [
        ({}, True),
        ({"route": "gpt-*"}, True),
        ({"route": ("x", "gpt-4*")}, True),
        ({"route": "x"}, False),
        ({"model": "gpt-4.1"}, True),
        ({"route": "gpt-4*", "model": "claude-*"}, False),
    ],
)
def test_a_limit_is_about_the_routes_that_it_can_meet(match: dict[str, str], is_met: bool) -> None:
    assert is_about(match, "gpt-4*") is is_met
