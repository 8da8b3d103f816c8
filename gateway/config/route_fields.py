"""The types of settings of routes: what a choice sticks to, conditions by name, what a tier looks at."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, PlainValidator, WithJsonSchema

from gateway.config.endpoints import CREDENTIAL_HEADERS, HEADER_PATTERN
from gateway.config.faults import did_you_mean
from gateway.config.fields import matching, refuse
from gateway.config.limit_fields import once_each
from gateway.config.units import (
    DURATION_PATTERN,
    SIZE_PATTERN,
    UnitError,
    parse_duration,
    parse_size,
    show_duration,
    show_size,
)

_STICKY_PATTERN = r"^(key|prompt|header:[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128})$"
_LONGEST_REGEX = 1000
_LONGEST_HEDGE_S = 600.0


def _sticky(value: str) -> str:
    if value.lower().startswith("header:") and value.removeprefix("header:"):
        return f"header:{_request_header(value[len('header:') :])}"
    if value not in {"key", "prompt"}:
        advice = did_you_mean(value, ("key", "prompt")) or "write header:NAME, key or prompt"
        raise refuse(f'"{value[:80]}" is nothing to stick to', advice)
    return value


def _request_header(value: str) -> str:
    name = matching(HEADER_PATTERN, "a header's name", "use letters, digits and dashes")(value).lower()
    if name in CREDENTIAL_HEADERS or name == "cookie":
        raise refuse(f"`{name}` carries a credential", "use the key: `sticky: [key]`, or the tags of keys")
    return name


StickyPart = Annotated[
    str,
    AfterValidator(_sticky),
    WithJsonSchema({"type": "string", "pattern": _STICKY_PATTERN, "examples": ["header:x-conversation-id", "key"]}),
]
"""`header:NAME` in lower case, `key`, or `prompt`."""
Sticky = Annotated[tuple[StickyPart, ...], AfterValidator(once_each)]


def _status(value: Any) -> Any:
    # 429 needs no quotes in YAML, and is a number then.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


RetryCondition = Annotated[Literal["connect", "429", "5xx", "first_token"], BeforeValidator(_status)]
FallbackCondition = Annotated[
    Literal[
        "ejected", "connect", "429", "5xx", "first_token", "idle_before_commit", "context_overflow", "content_filter",
        "over_budget",
    ],
    BeforeValidator(_status),
]  # fmt: skip
RETRY_CONDITIONS: tuple[RetryCondition, ...] = ("connect", "429", "5xx", "first_token")
FALLBACK_CONDITIONS: tuple[FallbackCondition, ...] = (
    *("ejected", "connect", "429", "5xx", "first_token", "idle_before_commit", "context_overflow", "over_budget"),
)
"""All but `content_filter`: what one provider refuses to say is not asked of the next unless somebody wants that."""


def _choice(conditions: tuple[str, ...]) -> WithJsonSchema:
    return WithJsonSchema({"type": "array", "items": {"enum": [*conditions, 429]}, "minItems": 1})


RetryConditions = Annotated[tuple[RetryCondition, ...], AfterValidator(once_each), _choice(RETRY_CONDITIONS)]
FallbackConditions = Annotated[
    tuple[FallbackCondition, ...],
    AfterValidator(once_each),
    _choice((*FALLBACK_CONDITIONS, "content_filter")),
]


def _after(value: object) -> float | str:
    if value == "p95":
        return "p95"
    try:
        seconds = parse_duration(value)
    except UnitError as fault:
        raise refuse(fault.message, f"{fault.advice}; or write p95") from fault
    if not 0 < seconds <= _LONGEST_HEDGE_S:
        raise refuse(f"{show_duration(seconds)} is out of range", "write more than 0s, at most 10m; or p95")
    return seconds


HedgeAfter = Annotated[
    float | Literal["p95"],
    PlainValidator(_after),
    PlainSerializer(lambda value: value if isinstance(value, str) else show_duration(value), return_type=str),
    WithJsonSchema({"anyOf": [{"const": "p95"}, {"type": "string", "pattern": DURATION_PATTERN}]}),
]
"""Seconds, or `p95`: the learned 95th percentile of the time to the first token."""


def _byte_count(value: object) -> int:
    try:
        size_bytes = parse_size(value)
    except UnitError as fault:
        raise refuse(fault.message, fault.advice) from fault
    if size_bytes < 1:
        raise refuse("must be more than 0B")
    return size_bytes


ByteCount = Annotated[
    int,
    PlainValidator(_byte_count),
    PlainSerializer(show_size, return_type=str),
    WithJsonSchema({"type": "string", "pattern": SIZE_PATTERN, "examples": ["500B", "4KiB"]}),
]
"""Bytes, at least 1."""


def _regex(value: str) -> str:
    if not 1 <= len(value) <= _LONGEST_REGEX:
        raise refuse(f"a pattern has 1 to {_LONGEST_REGEX} characters")
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError) as reason:
        raise refuse(f"not a regular expression: {reason}", "quotes '...' keep backslashes as they are") from None
    return value


Regex = Annotated[str, AfterValidator(_regex), WithJsonSchema({"type": "string", "format": "regex"})]
"""A regular expression of Python's `re`."""

_header_json = WithJsonSchema({"type": "string", "pattern": HEADER_PATTERN})
RequestHeader = Annotated[str, AfterValidator(_request_header), _header_json]
"""The name of a request's header in lower case, never of one with a credential."""


def _header_glob(value: str) -> str:
    if not 1 <= len(value) <= 256 or not value.isascii() or not value.isprintable():
        raise refuse("a header's glob is 1 to 256 printable ASCII characters")
    return value


HeaderGlob = Annotated[str, AfterValidator(_header_glob), WithJsonSchema({"type": "string", "maxLength": 256})]
