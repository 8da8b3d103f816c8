"""Rate-limit headers of the two dialects: how the strictest rule stands after this request (F64).

OpenAI: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, with the reset as a span of time
(`120ms`, `1s`, `6m0s`). Anthropic: `anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`,
with the reset as a moment in RFC 3339. Times are rounded up: who waits that long has waited enough.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

from gateway.core.exchange import Dialect, Headers, LimitState

PREFIXES = (b"x-ratelimit-", b"anthropic-ratelimit-")
"""Of every header in this module; a provider's own of these names are about the gateway's account."""

_OPENAI = {
    unit: (
        b"x-ratelimit-limit-%b: %%d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%b\r\n"
        % ((unit.encode(),) * 3)
    )
    for unit in ("requests", "tokens")
}
_ANTHROPIC = {
    unit: (
        b"anthropic-ratelimit-%b-limit: %%d\r\nanthropic-ratelimit-%b-remaining: %%d\r\n"
        b"anthropic-ratelimit-%b-reset: %%b\r\n" % ((unit.encode(),) * 3)
    )
    for unit in ("requests", "tokens")
}
_LONGEST_S = 400 * 86400


def limit_lines(dialect: Dialect, states: Sequence[LimitState], wall_s: float) -> bytes:
    """The headers as lines with their ends. `wall_s`: now, in Unix seconds."""
    if dialect == "anthropic":
        return b"".join(
            [
                _ANTHROPIC[state.unit] % (*_amounts(state), _moment(math.ceil(wall_s + _bounded(state.reset_s))))
                for state in states
            ]
        )
    return b"".join([_OPENAI[state.unit] % (*_amounts(state), span(state.reset_s)) for state in states])


def limit_headers(dialect: Dialect, states: Sequence[LimitState], wall_s: float) -> Headers:
    """The same, as headers."""
    lines = limit_lines(dialect, states, wall_s).split(b"\r\n")[:-1]
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


def _amounts(state: LimitState) -> tuple[int, int]:
    return state.limit, max(state.remaining, 0)


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), _LONGEST_S) if math.isfinite(seconds) else _LONGEST_S


def span(seconds: float) -> bytes:
    """A span of time as OpenAI writes it: `0s`, `120ms`, `1s`, `6m0s`, `2h0m0s`."""
    seconds = _bounded(seconds)
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return b"%dms" % milliseconds if milliseconds else b"0s"
    return _whole_span(math.ceil(seconds))


@lru_cache(maxsize=1024)
def _whole_span(seconds: int) -> bytes:
    minutes, seconds = divmod(seconds, 60)
    if not minutes:
        return b"%ds" % seconds
    hours, minutes = divmod(minutes, 60)
    return b"%dh%dm%ds" % (hours, minutes, seconds) if hours else b"%dm%ds" % (minutes, seconds)


@lru_cache(maxsize=1024)
def _moment(unix_s: int) -> bytes:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%SZ}".encode()
