"""The types of settings of limits and prices: rates, money, dimensions, time zones, globs."""

import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, PlainValidator, WithJsonSchema

from gateway.config.faults import did_you_mean
from gateway.config.fields import Fraction, ModelPattern, refuse
from gateway.config.units import (
    BUDGET_PATTERN,
    MONEY_PATTERN,
    PERCENT_PATTERN,
    RATE_PATTERN,
    Budget,
    Rate,
    UnitError,
    parse_budget,
    parse_money,
    parse_rate,
    show_budget,
    show_rate,
)
from gateway.core.money import show_usd

_DIMENSIONS = ("key", "route", "target", "model")
_DIMENSION_PATTERN = r"^(key|route|target|model|tag\.[A-Za-z_][A-Za-z0-9_.-]{0,63})$"
_Amount = TypeVar("_Amount")


def _amount(parse: Callable[[object], _Amount]) -> Callable[[object], _Amount]:
    def validate(value: object) -> _Amount:
        try:
            return parse(value)
        except UnitError as fault:
            raise refuse(fault.message, fault.advice) from fault

    return validate


RateText = Annotated[
    Rate,
    PlainValidator(_amount(parse_rate)),
    PlainSerializer(show_rate, return_type=str),
    WithJsonSchema({"type": "string", "pattern": RATE_PATTERN, "examples": ["600/min", "200k/min", "10/s"]}),
]
"""A count in any stretch of its period."""
Money = Annotated[
    int,
    PlainValidator(_amount(parse_money)),
    PlainSerializer(show_usd, return_type=str),
    WithJsonSchema({"type": "string", "pattern": MONEY_PATTERN, "examples": ["$2.00", "$0.075"]}),
]
"""Nano-USD, 0 or more."""
BudgetText = Annotated[
    Budget,
    PlainValidator(_amount(parse_budget)),
    PlainSerializer(show_budget, return_type=str),
    WithJsonSchema({"type": "string", "pattern": BUDGET_PATTERN, "examples": ["$200/day", "$1,000/month"]}),
]
"""An amount in each period of the calendar."""


def _positive(fraction: float) -> float:
    if fraction <= 0:
        raise refuse("must be more than 0%")
    return fraction


Share = Annotated[
    Fraction,
    AfterValidator(_positive),
    WithJsonSchema({"type": "string", "pattern": PERCENT_PATTERN, "examples": ["50%", "80%"]}),
]
"""More than 0, at most 1."""


def _dimension(value: str) -> str:
    if re.fullmatch(_DIMENSION_PATTERN, value):
        return value
    advice = "write key, route, target, model or tag.NAME"
    if value.startswith("tags.") and re.fullmatch(_DIMENSION_PATTERN, value.replace("tags.", "tag.", 1)):
        advice = f"write {value.replace('tags.', 'tag.', 1)}"
    elif close := did_you_mean(value, _DIMENSIONS):
        advice = close
    elif re.fullmatch(_DIMENSION_PATTERN, f"tag.{value}"):
        advice = f"for a tag write tag.{value}; else key, route, target or model"
    raise refuse(f'"{value[:80]}" is nothing to count by', advice)


def once_each(values: tuple[str, ...]) -> tuple[str, ...]:
    """A validator of lists in which nothing may stand twice."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise refuse(f"`{value}` is given twice", "keep one")
    return values


Dimension = Annotated[
    str,
    AfterValidator(_dimension),
    WithJsonSchema({"type": "string", "pattern": _DIMENSION_PATTERN, "examples": ["key", "tag.costCenter"]}),
]
"""What has a counter of its own: `key`, `route`, `target`, `model` or `tag.NAME`."""
Dimensions = Annotated[tuple[Dimension, ...], AfterValidator(once_each)]


def _zone(value: str) -> str:
    try:
        if value != "UTC":
            ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # A directory of the database (`Europe`) and a path out of it are no zones either.
        advice = did_you_mean(value, available_timezones()) or "write a name such as Europe/Berlin, or UTC"
        raise refuse(f'"{value[:80]}" is not a time zone', advice) from None
    return value


Zone = Annotated[str, AfterValidator(_zone), WithJsonSchema({"type": "string", "examples": ["UTC", "Europe/Berlin"]})]
"""The IANA name of a time zone."""


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Globs = Annotated[
    tuple[ModelPattern, ...],
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""Names or globs of `*` and `?`, one of which has to match; none: everything does."""
