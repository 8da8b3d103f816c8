"""Where one token ends and what kind it is."""

import pytest

from gateway.semantic.guards_scan import scan


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Hello, World!", [("hello", "w"), (",", ","), ("world", "w"), (".", ".")]),
        ("don't", [("do", "w"), ("not", "w")]),
        ("can't won't", [("can", "w"), ("not", "w"), ("will", "w"), ("not", "w")]),
        ("what's it's", [("what", "w"), ("is", "w"), ("it", "w"), ("is", "w")]),
        ("dont", [("do", "w"), ("not", "w")]),
        ("we're I've he'd", [(each, "w") for each in ("we", "are", "i", "have", "he", "would")]),
        ("use `rm -rf` now", [("use", "w"), ("rm -rf", "c"), ("now", "w")]),
        ("see https://a.example/b?c=d.", [("see", "w"), ("https://a.example/b?c=d", "c")]),
        ("to a.b@c.example please", [("to", "w"), ("a.b@c.example", "c")]),
        ("in /var/log/a.txt", [("in", "w"), ("/var/log/a.txt", "c")]),
        ("grep -v and --all", [("grep", "w"), ("-v", "c"), ("and", "w"), ("--all", "c")]),
        ("C++ C# .NET", [("C++", "c"), ("C#", "c"), (".NET", "c")]),
        ("df.merge() os.path", [("df.merge()", "c"), ("os.path", "c")]),
        ("get_user_id", [("get_user_id", "c")]),
        ("the regex ^\\d+$", [("the", "w"), ("regex", "w"), ("^\\d+$", "c")]),
        ("$HOME", [("$HOME", "c")]),
        ("say 'Good day' now", [("say", "w"), ("good", "q"), ("day", "q"), ("now", "w")]),
        ("5km 5 km", [("5", "n"), ("km", "w"), ("5", "n"), ("km", "w")]),
        ("$5 5%", [("5", "n"), ("$", "s"), ("5", "n"), ("percent", "w")]),
        ("100 Mb and 100 mb", [("100", "n"), ("Mb", "w"), ("and", "w"), ("100", "n"), ("mb", "w")]),
        ("5 p.m. e.g. now", [("5", "n"), ("pm", "w"), ("now", "w")]),
        ("two-factor", [("two", "w"), ("factor", "w")]),
        ("log in to it", [("login", "w"), ("to", "w"), ("it", "w")]),
        ("and/or", [("and", "w"), ("/", "s"), ("or", "w")]),
        ("", []),
    ],
)  # fmt: skip
def test_texts_are_cut_into_tokens(text: str, tokens: list[tuple[str, str]]) -> None:
    assert [(each.low, each.kind) for each in scan(text)] == tokens


def test_capitals_count_inside_a_sentence_alone() -> None:
    found = {each.low: each.capital for each in scan("Paris is in France. Who is NASA for iPhone users?")}
    assert (found["paris"], found["france"], found["who"], found["nasa"], found["iphone"]) == (0, 1, 0, 2, 1)


def test_where_every_word_has_a_capital_none_counts() -> None:
    assert {each.capital for each in scan("How Do I Reset My Password")} == {0}


def test_a_possessive_is_marked() -> None:
    assert [each.possessive for each in scan("my manager's plan")] == [False, True, False]


def test_a_long_run_of_marks_is_read_in_linear_time() -> None:
    # With an unbounded pattern these took seconds.
    for text in ("a-" * 1000, "a." * 1000, "a:" * 1000, "x" * 2000, "(" * 2000, "'" * 2000, "/a" * 1000, "@" * 2000):
        assert len(scan(text)) <= 2000
