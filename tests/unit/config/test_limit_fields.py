"""The types of settings of limits and prices."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.config import limit_fields
from gateway.config.units import Budget, Rate


def read(kind: Any, value: object) -> Any:
    """`value` as a setting of type `kind`."""
    return TypeAdapter(kind).validate_python(value, strict=True)


@pytest.mark.parametrize(
    ("kind", "value", "expected", "shown"),
    [
        (limit_fields.RateText, "200k/min", Rate(200_000, 60.0), "200k/min"),
        (limit_fields.Money, "$0.075", 75_000_000, "$0.075"),
        (limit_fields.BudgetText, "$1,000/month", Budget(10**12, "month"), "$1,000.00/month"),
        (limit_fields.Share, "50%", 0.5, "50%"),
        (limit_fields.Dimension, "tag.costCenter", "tag.costCenter", "tag.costCenter"),
        (limit_fields.Dimensions, ("key", "tag.a.b"), ("key", "tag.a.b"), ["key", "tag.a.b"]),
        (limit_fields.Zone, "UTC", "UTC", "UTC"),
        (limit_fields.Globs, "gpt-*", ("gpt-*",), ["gpt-*"]),
        (limit_fields.Globs, ("a", "b"), ("a", "b"), ["a", "b"]),
    ],
)
def test_a_setting_becomes_what_the_gateway_computes_with(
    kind: Any, value: object, expected: object, shown: object
) -> None:
    assert read(kind, value) == expected
    assert TypeAdapter(kind).dump_python(read(kind, value), mode="json") == shown


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (limit_fields.RateText, 600),
        (limit_fields.Money, 2.5),
        (limit_fields.BudgetText, "$5"),
        (limit_fields.Share, "0%"),
        (limit_fields.Dimension, "tag."),
        (limit_fields.Dimension, "tag.9"),
        (limit_fields.Dimension, "user"),
        (limit_fields.Dimensions, ("key", "key")),
        (limit_fields.Dimensions, "key"),
        (limit_fields.Zone, "Europe"),
        (limit_fields.Zone, ""),
        (limit_fields.Zone, "/etc/localtime"),
        (limit_fields.Globs, "a[b]"),
        (limit_fields.Globs, 5),
    ],
)
def test_what_a_setting_cannot_be_is_refused(kind: Any, value: object) -> None:
    with pytest.raises(ValidationError):
        read(kind, value)


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("tags.team", "write tag.team"),
        ("kye", "did you mean `key`?"),
        ("team", "for a tag write tag.team; else key, route, target or model"),
        ("9%", "write key, route, target, model or tag.NAME"),
    ],
)
def test_what_is_no_dimension_is_refused_with_advice(value: str, advice: str) -> None:
    with pytest.raises(ValidationError) as refused:
        read(limit_fields.Dimension, value)
    assert refused.value.errors()[0]["ctx"]["advice"] == advice
