"""Directives: their units, their places, and what is said of a wrong one."""

from pathlib import Path

import pytest

from gateway.core.errors import InvalidRequest
from gateway.mock.directives import NAMES, Directives, parse_directives


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("latency=50ms", "latency", 0.05),
        ("ttfb=2s", "ttfb", 2.0),
        ("ttfb=10000", "ttfb", 10.0),
        ("gap=10ms", "gap", 0.01),
        ("gap=200", "gap", 0.2),
        ("gap=1.5s", "gap", 1.5),
        ("latency=1m", "latency", 60.0),
        ("tokens=20", "tokens", 20),
        ("status=429", "status", 429),
        ("retry_after=2", "retry_after", "2"),
        ("retry_after=1e9", "retry_after", "1e9"),
        ("retry_after=-5", "retry_after", "-5"),
        ("retry_after=soon", "retry_after", "soon"),
        ("retry_after_ms=43", "retry_after_ms", "43"),
        ("retry_date=3", "retry_date", 3.0),
        ("retry_date=2m", "retry_date", 120.0),
        ("error_after=0", "error_after", 0),
        ("stall_after=3", "stall_after", 3),
        ("eof_after=3", "eof_after", 3),
        ("rst_after=3", "rst_after", 3),
        ("badjson_after=3", "badjson_after", 3),
        ("event_error", "event_error", True),
        ("nodone", "nodone", True),
        ("nousage=1", "nousage", True),
        ("zero_usage=true", "zero_usage", True),
        ("usage_in_choice=0", "usage_in_choice", False),
        ("split=7", "split", 7),
        ("crlf", "crlf", True),
        ("comment", "comment", True),
        ("gzip", "gzip", True),
        ("html", "html", True),
        ("bigchunk=64KiB", "bigchunk", 65536),
        ("bigchunk=64", "bigchunk", 65536),
        ("bigchunk=1MB", "bigchunk", 1_000_000),
        ("bigchunk=500B", "bigchunk", 500),
        ("seq=500|500|200", "seq", (500, 500, 200)),
        ("fail_rate=10%", "fail_rate", 0.1),
        ("fail_rate=0.25", "fail_rate", 0.25),
        ("quality=0.8", "quality", 0.8),
        ("quality=80%", "quality", 0.8),
        ("seed=-7", "seed", -7),
        ("echo", "echo", True),
    ],
)
def test_every_directive_has_its_unit(text: str, name: str, value: object) -> None:
    assert getattr(parse_directives(text, ""), name) == value
    assert getattr(parse_directives("", text), name) == value


def test_the_header_wins_over_the_model_directive_by_directive() -> None:
    directives = parse_directives("tokens=9", "tokens=5,gap=10ms")
    assert (directives.tokens, directives.gap) == (9, 0.01)


def test_nothing_asked_is_a_healthy_model() -> None:
    assert parse_directives("", "") == Directives()
    assert parse_directives(" , ", "").is_plain


@pytest.mark.parametrize("text", ["latency=1", "ttfb=1", "error_after=0", "split=1", "gzip", "html", "event_error"])
def test_what_delays_or_changes_a_body_is_not_plain(text: str) -> None:
    assert not parse_directives(text, "").is_plain


def test_an_unknown_directive_is_named_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match="Unknown mock directive 'tokns'") as caught:
        parse_directives("tokns=3", "")
    assert (caught.value.code, caught.value.param) == ("unknown_directive", "x-mock")
    assert all(name in caught.value.message for name in NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "tokens=many",
        "tokens=-1",
        "tokens=99999999",
        "gap=fast",
        "gap=1y",
        "status=99",
        "status=",
        "split=0",
        "bigchunk=1GiB",
        "bigchunk=0",
        "seq=500|x",
        "fail_rate=150%",
        "quality=1.5",
        "quality=1ms",
        "echo=perhaps",
        "retry_after=",
        "retry_after=a\r\nx: y",
        "seed=x",
    ],
)
def test_an_unusable_value_is_named_with_what_is_expected(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not usable: it takes") as caught:
        parse_directives("", text)
    assert (caught.value.code, caught.value.param) == ("bad_directive_value", "model")


def test_every_directive_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "mock.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"`{name}" not in page] == []
