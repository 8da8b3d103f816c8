"""Rate-limit headers of the two dialects."""

import math
from datetime import datetime

import pytest

from gateway.core.exchange import Dialect, LimitState
from gateway.wire.limit_headers import PREFIXES, limit_headers, limit_lines, span

REQUESTS = LimitState("requests", 600, 599, 0.1)
TOKENS = LimitState("tokens", 200_000, 149_984, 360.0)
NOW_S = datetime.fromisoformat("2026-11-21T04:46:07.2Z").timestamp()


def test_openai_is_told_spans() -> None:
    """F64."""
    assert limit_headers("openai", (REQUESTS, TOKENS), NOW_S) == [
        (b"x-ratelimit-limit-requests", b"600"),
        (b"x-ratelimit-remaining-requests", b"599"),
        (b"x-ratelimit-reset-requests", b"100ms"),
        (b"x-ratelimit-limit-tokens", b"200000"),
        (b"x-ratelimit-remaining-tokens", b"149984"),
        (b"x-ratelimit-reset-tokens", b"6m0s"),
    ]


def test_anthropic_is_told_moments() -> None:
    """F64."""
    assert limit_headers("anthropic", (REQUESTS, TOKENS), NOW_S) == [
        (b"anthropic-ratelimit-requests-limit", b"600"),
        (b"anthropic-ratelimit-requests-remaining", b"599"),
        (b"anthropic-ratelimit-requests-reset", b"2026-11-21T04:46:08Z"),
        (b"anthropic-ratelimit-tokens-limit", b"200000"),
        (b"anthropic-ratelimit-tokens-remaining", b"149984"),
        (b"anthropic-ratelimit-tokens-reset", b"2026-11-21T04:52:08Z"),
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, b"0s"),
        (-3.0, b"0s"),
        (0.0001, b"1ms"),
        (0.12, b"120ms"),
        (0.9991, b"1s"),
        (1.0, b"1s"),
        (1.2, b"2s"),
        (59.5, b"1m0s"),
        (61.0, b"1m1s"),
        (360.0, b"6m0s"),
        (7200.0, b"2h0m0s"),
        (90_061.0, b"25h1m1s"),
        (math.inf, b"9600h0m0s"),
        (math.nan, b"9600h0m0s"),
    ],
)
def test_a_span_is_rounded_up_and_never_negative(seconds: float, text: bytes) -> None:
    """F64."""
    assert span(seconds) == text


DIALECTS: list[Dialect] = ["openai", "anthropic"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_remains_is_never_negative(dialect: Dialect) -> None:
    """F64: Azure sends -1."""
    headers = dict(limit_headers(dialect, (LimitState("tokens", 5, -1, math.inf),), NOW_S))
    assert [value for name, value in headers.items() if b"remaining" in name] == [b"0"]


def test_lines_and_headers_say_the_same_and_nothing_is_nothing() -> None:
    lines = limit_lines("openai", (REQUESTS,), NOW_S)
    assert lines == b"".join(b"%b: %b\r\n" % item for item in limit_headers("openai", (REQUESTS,), NOW_S))
    assert limit_lines("anthropic", (), NOW_S) == b""
    assert limit_headers("openai", (), NOW_S) == []
    names = [name for dialect in DIALECTS for name, _ in limit_headers(dialect, (TOKENS,), NOW_S)]
    assert all(name.startswith(PREFIXES) for name in names)
