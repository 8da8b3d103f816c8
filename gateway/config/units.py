"""Quantities as people write them (`50ms`, `32MiB`, `10%`, `600/min`, `$200/day`), and back.

A bare number is refused wherever a unit is needed: nobody can see whether 30 means seconds or milliseconds. Counts and
money are integers, money of nano-USD, so that sums are exact.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from gateway.core.money import MAX_NUSD, NUSD_PER_USD, show_usd

DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$"
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)?(B|KiB|MiB|GiB)$"
PERCENT_PATTERN = r"^[0-9]+(\.[0-9]+)?%$"

# Decimal, so that 0.07% is the float nearest to 0.0007: one rounding, at the end.
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z%µ]*)")
_LONGEST = 64

Calendar = Literal["hour", "day", "week", "month"]
"""The periods of budgets, as the calendar of a zone has them; a week begins on Monday."""

_NUMBER = r"(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.[0-9]+)?"
RATE_PATTERN = rf"^{_NUMBER}[kM]?/(s|min|h|day)$"
MONEY_PATTERN = rf"^\${_NUMBER}$"
BUDGET_PATTERN = rf"^\${_NUMBER}/(hour|day|week|month)$"

MAX_COUNT = 2**53 - 1
"""The largest count that every store holds exactly."""
_SCALES = {"": 1, "k": 1000, "M": 1_000_000}
_PERIODS_S = {"s": 1.0, "min": 60.0, "h": 3600.0, "day": 86400.0}
_CALENDARS: dict[str, Calendar] = {"hour": "hour", "day": "day", "week": "week", "month": "month"}
_RATE_SLIPS = {
    **dict.fromkeys(("sec", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("hr", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "days"), "day"),
}
_BUDGET_SLIPS = {
    **dict.fromkeys(("h", "hr", "hours"), "hour"),
    **dict.fromkeys(("d", "days"), "day"),
    **dict.fromkeys(("w", "weeks"), "week"),
    **dict.fromkeys(("m", "mo", "months"), "month"),
}


class UnitError(ValueError):
    """A text that is no such quantity; `advice` says how to write it."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` in any stretch of `period_s` seconds."""

    count: int
    period_s: float


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `limit_nusd` in each period of the calendar."""

    limit_nusd: int
    calendar: Calendar


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


def parse_rate(value: object) -> Rate:
    """The rate of `600/min`, `10/s`, `200k/min`, `1.5M/h`, `5/day`. Raises UnitError."""
    if isinstance(value, Rate):
        return value
    text = _text(value, "rate", "600/min", "{}/min")
    amount, slash, period = (part.strip() for part in text.partition("/"))
    found = re.fullmatch(rf"({_NUMBER})\s*([A-Za-z]?)", amount)
    if found is None:
        raise UnitError(f'"{text}" is not a rate', "write a count and its period, such as 600/min or 200k/min")
    if not slash:
        raise UnitError(f'"{text}" has no period', f"write {text}/min")
    if period not in _PERIODS_S:
        raise UnitError(f'unknown period in "{text}"', f"rates end in /s, /min, /h or /day{_slip(period, _RATE_SLIPS)}")
    if found[2] not in _SCALES:
        close = found[2].lower() if found[2] == "K" else "M"
        raise UnitError(f'unknown unit in "{text}"', f"k is a thousand, M a million; write {found[1]}{close}/{period}")
    count = _decimal(found[1]) * _SCALES[found[2]]
    if count != int(count):
        raise UnitError(f'"{text}" is not a whole number', "write it with a longer period")
    if count < 1:
        raise UnitError(f'"{text}" lets nothing through', "write at least 1")
    if count > MAX_COUNT:
        raise UnitError(f'"{text}" is too much', f"{MAX_COUNT} is the most")
    return Rate(int(count), _PERIODS_S[period])


def parse_money(value: object) -> int:
    """Nano-USD of `$2.00`, `$0.075`, `$1,000`. Raises UnitError."""
    text = _text(value, "amount of money", "$2.00", "${}")
    found = re.fullmatch(rf"\$\s?({_NUMBER})", text)
    if found is None:
        bare = re.fullmatch(_NUMBER, text)
        if bare is not None:
            raise UnitError(f'"{text}" has no unit', f"write ${text}")
        raise UnitError(f'"{text}" is not an amount in US dollars', "write it as $2.00 or $1,000")
    amount = _decimal(found[1]) * NUSD_PER_USD
    if amount != int(amount):
        raise UnitError(f'"{text}" is finer than a nano-dollar', "nine decimals are the most")
    if amount > MAX_NUSD:
        raise UnitError(f'"{text}" is more than can be counted exactly', f"{show_usd(MAX_NUSD)} is the most")
    return int(amount)


def parse_budget(value: object) -> Budget:
    """The budget of `$200/day`, `$0.50/hour`, `$1,000/month`. Raises UnitError."""
    if isinstance(value, Budget):
        return value
    text = _text(value, "budget", "$200/day", "${}/day")
    amount, slash, period = (part.strip() for part in text.partition("/"))
    if slash and period not in _CALENDARS:
        slip = _slip(period, _BUDGET_SLIPS)
        raise UnitError(f'unknown period in "{text}"', f"budgets end in /hour, /day, /week or /month{slip}")
    limit_nusd = parse_money(amount)
    if not slash:
        raise UnitError(f'"{text}" has no period', f"write {text}/day")
    if limit_nusd == 0:
        raise UnitError(f'"{text}" lets nothing through', "write more than $0")
    return Budget(limit_nusd, _CALENDARS[period])


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


def show_rate(rate: Rate) -> str:
    """The text of a rate: 200,000 in 60 s is `200k/min`."""
    period = next(name for name, length_s in _PERIODS_S.items() if length_s == rate.period_s)
    scale = next(name for name in ("M", "k", "") if rate.count % _SCALES[name] == 0)
    return f"{rate.count // _SCALES[scale]}{scale}/{period}"


def show_budget(budget: Budget) -> str:
    """The text of a budget: `$200.00/day`."""
    return f"{show_usd(budget.limit_nusd)}/{budget.calendar}"


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


def _text(value: object, kind: str, example: str, with_unit: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise UnitError(f"{value} has no unit", f"write {with_unit.format(value)}")
    if not isinstance(value, str):
        raise UnitError(f"expected {'an' if kind[0] in 'aeiou' else 'a'} {kind}", f"write it as {example}")
    text = value.strip()
    if len(text) > _LONGEST:
        raise UnitError(f'"{text[:_LONGEST]}" is too long to be right', f"write it as {example}")
    return text


def _decimal(number: str) -> Decimal:
    return Decimal(number.replace(",", ""))


def _slip(period: str, slips: dict[str, str]) -> str:
    known = slips.get(period.casefold()) or next((name for name in slips.values() if name == period.casefold()), None)
    return f"; write /{known}" if known else ""
