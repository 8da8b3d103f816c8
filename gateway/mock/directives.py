"""What a caller may ask the mock to do, as `name=value` words in `x-mock` or in the model's name."""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from gateway.core.errors import InvalidRequest

MAX_TOKENS = 1_000_000
"""Most tokens one answer may have; beyond it a typing error would fill the machine's memory."""
MAX_CHUNK_BYTES = 64 * 1024 * 1024

_DURATION_UNITS = {"": 0.001, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE_UNITS = {"": 1024, "B": 1, "kB": 1000, "KB": 1000, "MB": 1_000_000, "KiB": 1024, "MiB": 1024 * 1024}
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z%]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Directives:
    """How one answer is to be given. The defaults are a healthy model that answers at once."""

    latency: float = 0.0
    """Seconds before the status line."""
    ttfb: float = 0.0
    """Seconds before the first event of a stream, its status line being out; added to `latency` elsewhere."""
    tokens: int | None = None
    gap: float = 0.0
    """Seconds between two tokens of a stream."""
    status: int | None = None
    retry_after: str | None = None
    """Sent as it stands, so that `soon`, `-5` and `1e9` can be tried."""
    retry_after_ms: str | None = None
    retry_date: float | None = None
    """Seconds from now, sent as an HTTP date in `retry-after`."""
    error_after: int | None = None
    stall_after: int | None = None
    eof_after: int | None = None
    rst_after: int | None = None
    badjson_after: int | None = None
    event_error: bool = False
    nodone: bool = False
    nousage: bool = False
    zero_usage: bool = False
    usage_in_choice: bool = False
    split: int | None = None
    """Bytes of one piece of the body."""
    crlf: bool = False
    comment: bool = False
    gzip: bool = False
    html: bool = False
    bigchunk: int | None = None
    """Bytes of the text of one token."""
    seq: tuple[int, ...] = ()
    fail_rate: float = 0.0
    quality: float | None = None
    seed: int = 0
    echo: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether a complete body goes out as it is, at once."""
        return not (
            self.latency
            or self.ttfb
            or self.error_after is not None
            or self.stall_after is not None
            or self.eof_after is not None
            or self.rst_after is not None
            or self.badjson_after is not None
            or self.event_error
            or self.split
            or self.gzip
            or self.html
        )


def _duration(text: str) -> float:
    number, unit = _parts(text)
    return number * _DURATION_UNITS[unit]


def _size(text: str) -> int:
    number, unit = _parts(text)
    size = int(number * _SIZE_UNITS[unit])
    if not 1 <= size <= MAX_CHUNK_BYTES:
        raise ValueError(text)
    return size


def _share(text: str) -> float:
    number, unit = _parts(text)
    share = number / 100 if unit == "%" else number
    if unit not in ("", "%") or share > 1:
        raise ValueError(text)
    return share


def _parts(text: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return float(match[1]), match[2]


def _count(text: str) -> int:
    count = int(text)
    if not 0 <= count <= MAX_TOKENS:
        raise ValueError(text)
    return count


def _positive(text: str) -> int:
    count = _count(text)
    if count == 0:
        raise ValueError(text)
    return count


def _status(text: str) -> int:
    status = int(text)
    if not 200 <= status <= 599:
        raise ValueError(text)
    return status


def _statuses(text: str) -> tuple[int, ...]:
    return tuple(_status(part) for part in text.split("|"))


def _flag(text: str) -> bool:
    if text in ("", "1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise ValueError(text)


def _header_value(text: str) -> str:
    # A header value goes onto the wire as it stands; a line end in it would forge another header.
    if not text or not text.isprintable() or not text.isascii():
        raise ValueError(text)
    return text


_Reader = tuple[Callable[[str], Any], str]
_VALUES: dict[str, _Reader] = {
    "latency": (_duration, "a duration such as 50ms or 2s"),
    "ttfb": (_duration, "a duration such as 50ms or 2s"),
    "gap": (_duration, "a duration such as 10ms"),
    "retry_date": (lambda text: _duration(text if text[-1:].isalpha() else text + "s"), "seconds, such as 3"),
    "tokens": (_count, f"a number from 0 to {MAX_TOKENS}"),
    "status": (_status, "a status from 200 to 599"),
    "retry_after": (_header_value, "the header's value"),
    "retry_after_ms": (_header_value, "the header's value"),
    "error_after": (_count, "a number of tokens"),
    "stall_after": (_count, "a number of tokens"),
    "eof_after": (_count, "a number of tokens"),
    "rst_after": (_count, "a number of tokens"),
    "badjson_after": (_count, "a number of tokens"),
    "split": (_positive, "a number of bytes, at least 1"),
    "bigchunk": (_size, "a size from 1B to 64MiB, such as 64KiB"),
    "seq": (_statuses, "statuses such as 500|500|200"),
    "fail_rate": (_share, "a share such as 10% or 0.1"),
    "quality": (_share, "a share such as 80% or 0.8"),
    "seed": (int, "a whole number"),
}
_FLAGS = (
    "event_error",
    "nodone",
    "nousage",
    "zero_usage",
    "usage_in_choice",
    "crlf",
    "comment",
    "gzip",
    "html",
    "echo",
)
_READERS: dict[str, _Reader] = {**_VALUES, **dict.fromkeys(_FLAGS, (_flag, "no value, or 0 or 1"))}

NAMES = tuple(field.name for field in fields(Directives))
"""Every directive, in the order of the documentation."""


@lru_cache(maxsize=1024)
def parse_directives(header: str, model_suffix: str) -> Directives:
    """The directives of both places; where both name one, the header's counts.

    Raises InvalidRequest, naming the directive that is unknown or has a value it cannot take.
    """
    values: dict[str, Any] = {}
    for text, param in ((model_suffix, "model"), (header, "x-mock")):
        for word in text.split(","):
            name, _, value = word.strip().partition("=")
            if name:
                values[name.strip()] = _read(name.strip(), value.strip(), param)
    return Directives(**values)


def _read(name: str, value: str, param: str) -> Any:
    reader = _READERS.get(name)
    if reader is None:
        raise InvalidRequest(
            f"Unknown mock directive {name!r}. Known are: {', '.join(NAMES)}.", code="unknown_directive", param=param
        )
    read, expected = reader
    try:
        return read(value)
    except (ValueError, KeyError) as fault:
        raise InvalidRequest(
            f"Mock directive {name}={value!r} is not usable: it takes {expected}.",
            code="bad_directive_value",
            param=param,
        ) from fault
