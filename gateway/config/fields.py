"""The types of single settings: what each accepts, what it becomes, how it is shown and described to editors.

Quantities, names, tags and keys are here; addresses, headers and secrets in `endpoints`.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from gateway.config.units import (
    DURATION_PATTERN,
    PERCENT_PATTERN,
    SIZE_PATTERN,
    UnitError,
    parse_duration,
    parse_percent,
    parse_size,
    show_duration,
    show_percent,
    show_size,
)

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
PATTERN_PATTERN = r"^[A-Za-z0-9._:/@+*?-]{1,256}$"
_TAG_PATTERN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"
_HASH_PATTERN = r"^sha256:[0-9a-fA-F]{64}$"
_LONGEST_DURATION_S = 30 * 86400.0
_LARGEST_SIZE = 16 * 1024**3

_HASH_OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def refuse(message: str, advice: str = "") -> PydanticCustomError:
    """The error by which a validator of ours says what is wrong and what to do."""
    return PydanticCustomError("setting", "{message}", {"message": message, "advice": advice})


def _quantity(parse: Callable[[object], float]) -> Callable[[object], float]:
    def validate(value: object) -> float:
        try:
            return parse(value)
        except UnitError as fault:
            raise refuse(fault.message, fault.advice) from fault

    return validate


def _within_days(seconds: float) -> float:
    if seconds > _LONGEST_DURATION_S:
        raise refuse(f"{show_duration(seconds)} is too long", "30d is the longest")
    return seconds


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise refuse("must be longer than 0s")
    return seconds


def _sizeable(size_bytes: int) -> int:
    if not 1024 <= size_bytes <= _LARGEST_SIZE:
        raise refuse(f"{show_size(size_bytes)} is out of range", "write 1KiB to 16GiB")
    return size_bytes


_duration_json = WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["50ms", "30s", "5m"]})
Pause = Annotated[
    float,
    BeforeValidator(_quantity(parse_duration)),
    AfterValidator(_within_days),
    PlainSerializer(show_duration, return_type=str),
    _duration_json,
]
"""Seconds, 0 or more."""
Duration = Annotated[Pause, AfterValidator(_positive), _duration_json]
"""Seconds, more than 0."""
Size = Annotated[
    int,
    BeforeValidator(_quantity(parse_size)),
    AfterValidator(_sizeable),
    PlainSerializer(show_size, return_type=str),
    WithJsonSchema({"type": "string", "pattern": SIZE_PATTERN, "examples": ["64KiB", "32MiB"]}),
]
"""Bytes."""
Fraction = Annotated[
    float,
    BeforeValidator(_quantity(parse_percent)),
    PlainSerializer(show_percent, return_type=str),
    WithJsonSchema({"type": "string", "pattern": PERCENT_PATTERN, "examples": ["1%", "10%"]}),
]
"""0 to 1."""


def matching(pattern: str, what: str, advice: str) -> Callable[[str], str]:
    """A validator that takes texts of `pattern` and says of others that they are not `what`."""
    compiled = re.compile(pattern)

    def validate(value: str) -> str:
        if compiled.fullmatch(value) is None:
            raise refuse(f'"{value[:80]}" is not {what}', advice)
        return value

    return validate


def _text(pattern: str, what: str, advice: str) -> Any:
    return AfterValidator(matching(pattern, what, advice))


Name = Annotated[
    str,
    _text(NAME_PATTERN, "a name", "use 1 to 64 letters, digits, dots, dashes and underscores"),
    WithJsonSchema({"type": "string", "pattern": NAME_PATTERN}),
]
"""A name that can be a metric label, a header value and a part of a path."""
TagName = Annotated[
    str,
    _text(_TAG_PATTERN, "a tag's name", "use letters, digits, dots, dashes and underscores, a letter first"),
    WithJsonSchema({"type": "string", "pattern": _TAG_PATTERN}),
]


def _pattern(value: str) -> str:
    if set(value) & set("[]{}!"):
        raise refuse(f'"{value[:80]}" is not a pattern', "only * (anything) and ? (one character) are special")
    return matching(PATTERN_PATTERN, "a model name or pattern", "use letters, digits, . _ - : / @ + and * or ?")(value)


ModelPattern = Annotated[
    str, AfterValidator(_pattern), WithJsonSchema({"type": "string", "pattern": PATTERN_PATTERN, "examples": ["gpt-*"]})
]
"""A model's name, or a glob of `*` (anything, slashes included) and `?` (one character)."""


def _tag_value(value: object) -> str:
    # A tag is text, but `42` without quotes is what everybody writes for a cost centre.
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        shown = str(value).lower() if isinstance(value, bool) else "text"
        raise refuse("a tag's value is text", f'write "{shown}"')
    text = str(value)
    if not 1 <= len(text) <= 256 or not text.isprintable():
        raise refuse("a tag's value is 1 to 256 printable characters")
    return text


TagValue = Annotated[str, PlainValidator(_tag_value), WithJsonSchema({"type": ["string", "number"], "maxLength": 256})]


def _hash(value: object) -> str:
    # The value is not repeated: what stands here by mistake is likely the key itself.
    if not isinstance(value, str) or re.fullmatch(_HASH_PATTERN, value) is None:
        raise refuse(
            "not a key's hash", 'write "sha256:" and 64 hexadecimal digits, as `gateway keys new ID` prints it'
        )
    if value.lower().endswith(_HASH_OF_NOTHING):
        raise refuse("the hash of an empty key", "hash the key itself: printf %s KEY | sha256sum")
    return value.lower()


KeyHash = Annotated[str, PlainValidator(_hash), WithJsonSchema({"type": "string", "pattern": _HASH_PATTERN})]
"""`sha256:` and 64 hexadecimal digits in lower case."""


def _expiry(value: object) -> float:
    text = value if isinstance(value, str) else ""
    try:
        if len(text) == len("2027-01-31"):
            last_day = date.fromisoformat(text)
            return datetime.combine(last_day + timedelta(days=1), time(), UTC).timestamp()
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as fault:
        raise refuse("not a date", "write 2027-01-31, or 2027-01-31T18:00:00Z") from fault
    if moment.tzinfo is None:
        raise refuse(f'"{text}" names no time zone', f"write {text}Z for UTC")
    return moment.timestamp()


def _show_moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Expiry = Annotated[
    float,
    PlainValidator(_expiry),
    PlainSerializer(_show_moment, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["2027-01-31", "2027-01-31T18:00:00Z"]}),
]
"""Unix seconds; a date alone means the end of that day in UTC."""
