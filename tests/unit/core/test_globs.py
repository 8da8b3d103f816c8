"""What a glob of the configuration means."""

import time

import pytest

from gateway.core.globs import glob_pattern


@pytest.mark.parametrize(
    ("glob", "matches", "misses"),
    [
        ("gpt-*", ["gpt-", "gpt-4.1", "gpt-a\nb"], ["gpt", "xgpt-4", "GPT-4"]),
        ("gpt-?", ["gpt-4"], ["gpt-", "gpt-41"]),
        ("*", ["", "anything/at:all"], []),
        ("a.c", ["a.c"], ["abc"]),
        ("a+(b)[c]", ["a+(b)[c]"], ["aa(b)c"]),
    ],
)
def test_only_stars_and_question_marks_are_special(glob: str, matches: list[str], misses: list[str]) -> None:
    pattern = glob_pattern(glob)
    assert [name for name in matches if not pattern.fullmatch(name)] == []
    assert [name for name in misses if pattern.fullmatch(name)] == []


def test_a_hostile_name_does_not_stall_the_match() -> None:
    pattern = glob_pattern("a*a*b")
    started = time.perf_counter()
    assert pattern.fullmatch("a" * 256) is None
    assert time.perf_counter() - started < 1.0
