"""Quantities as people write them (`50ms`, `32MiB`, `10%`), and back.

A bare number is refused wherever a unit is needed: nobody can see whether 30 means seconds or milliseconds.
"""

import re
from collections.abc import Iterable
from decimal import Decimal

DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$"
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)?(B|KiB|MiB|GiB)$"
PERCENT_PATTERN = r"^[0-9]+(\.[0-9]+)?%$"

# Decimal, so that 0.07% is the float nearest to 0.0007: one rounding, at the end.
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z%µ]*)")
_LONGEST = 64


class UnitError(ValueError):
    """A text that is no such quantity; `advice` says how to write it."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice


def parse_duration(value: object) -> float:
    """Seconds of `50ms`, `10s`, `5m`, `1h`, `2d`. Raises UnitError."""
    number, unit = _split(value, "duration", "s", "30s")
    if unit not in _SECONDS:
        raise UnitError(f'unknown unit in "{value}"', f"durations end in ms, s, m, h or d{_case(unit, _SECONDS)}")
    return float(number * _SECONDS[unit])


def parse_size(value: object) -> int:
    """Bytes of `512B`, `64KiB`, `32MiB`, `1GiB`. Raises UnitError."""
    number, unit = _split(value, "size", "B", "32MiB")
    if unit not in _BYTES:
        raise UnitError(f'unknown unit in "{value}"', f"sizes end in B, KiB, MiB or GiB{_case(unit, _BYTES)}")
    size = number * _BYTES[unit]
    if size != int(size):
        raise UnitError(f'"{value}" is not a whole number of bytes', "write it in a smaller unit")
    return int(size)


def parse_percent(value: object) -> float:
    """The fraction, from 0 to 1, of `10%`. Raises UnitError."""
    if isinstance(value, float) and 0 < value < 1:
        raise UnitError(f"{value} has no unit", f"write {show_percent(value)}")
    number, unit = _split(value, "percentage", "%", "10%")
    if unit != "%":
        raise UnitError(f'unknown unit in "{value}"', "percentages end in %")
    if number > 100:
        raise UnitError(f'"{value}" is more than 100%', "write 0% to 100%")
    return float(number / 100)


def show_duration(seconds: float) -> str:
    """The shortest exact text of a duration: 300.0 is `5m`."""
    if seconds == 0:
        return "0s"
    for unit in ("d", "h", "m", "s"):
        length = int(_SECONDS[unit])
        if seconds % length == 0:
            return f"{int(seconds // length)}{unit}"
    return f"{round(seconds * 1000, 6):.15g}ms"


def show_size(size_bytes: int) -> str:
    """The shortest exact text of a size: 1048576 is `1MiB`."""
    for unit in ("GiB", "MiB", "KiB"):
        if size_bytes and size_bytes % _BYTES[unit] == 0:
            return f"{size_bytes // _BYTES[unit]}{unit}"
    return f"{size_bytes}B"


def show_percent(fraction: float) -> str:
    """The text of a fraction: 0.01 is `1%`."""
    return f"{round(fraction * 100, 9):.12g}%"


def _split(value: object, kind: str, unit: str, example: str) -> tuple[Decimal, str]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise UnitError(f"{value} has no unit", f"write {value}{unit}")
    if not isinstance(value, str):
        raise UnitError(f"expected a {kind}", f"write it with its unit, such as {example}")
    found = _QUANTITY.fullmatch(value.strip()) if len(value) <= _LONGEST else None
    if found is None:
        raise UnitError(f'"{value[:_LONGEST]}" is not a {kind}', f"write a number and its unit, such as {example}")
    number = Decimal(found[1])
    if not found[2]:
        raise UnitError(f'"{value}" has no unit', f"write {value.strip()}{unit}")
    return number, found[2]


def _case(unit: str, known: Iterable[str]) -> str:
    for name in known:
        if name.casefold() == unit.casefold() or name.casefold().replace("i", "") == unit.casefold():
            return f"; write {name}"
    return ""
