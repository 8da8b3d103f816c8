"""The types of settings of routes."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.config import route_fields


def read(kind: Any, value: object) -> Any:
    """`value` as a setting of type `kind`."""
    return TypeAdapter(kind).validate_python(value, strict=True)


@pytest.mark.parametrize(
    ("kind", "value", "expected", "shown"),
    [
        (route_fields.StickyPart, "header:X-Conversation-Id", "header:x-conversation-id", "header:x-conversation-id"),
        (route_fields.Sticky, ("key", "prompt"), ("key", "prompt"), ["key", "prompt"]),
        (route_fields.RetryConditions, (429, "connect"), ("429", "connect"), ["429", "connect"]),
        (route_fields.FallbackConditions, ("content_filter",), ("content_filter",), ["content_filter"]),
        (route_fields.HedgeAfter, "p95", "p95", "p95"),
        (route_fields.HedgeAfter, "750ms", 0.75, "750ms"),
        (route_fields.ByteCount, "500B", 500, "500B"),
        (route_fields.Regex, r"^\s*(hi|hello)", r"^\s*(hi|hello)", r"^\s*(hi|hello)"),
        (route_fields.RequestHeader, "X-App", "x-app", "x-app"),
        (route_fields.HeaderGlob, "mobile/*", "mobile/*", "mobile/*"),
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
        (route_fields.StickyPart, "header:"),
        (route_fields.StickyPart, "header:a b"),
        (route_fields.StickyPart, "header:cookie"),
        (route_fields.StickyPart, "user"),
        (route_fields.Sticky, ("header:A", "header:a")),
        (route_fields.RetryConditions, ("ejected",)),
        (route_fields.RetryConditions, (True,)),
        (route_fields.RetryConditions, ("429", 429)),
        (route_fields.FallbackConditions, (500,)),
        (route_fields.HedgeAfter, "p99"),
        (route_fields.HedgeAfter, 2),
        (route_fields.HedgeAfter, "0s"),
        (route_fields.HedgeAfter, "1h"),
        (route_fields.ByteCount, 500),
        (route_fields.ByteCount, "0B"),
        (route_fields.Regex, "(a"),
        (route_fields.Regex, ""),
        (route_fields.Regex, "a" * 1001),
        (route_fields.Regex, "a{99999999999}"),
        (route_fields.RequestHeader, "X-Api-Key"),
        (route_fields.HeaderGlob, ""),
        (route_fields.HeaderGlob, "\u00e9"),
    ],
)
def test_what_a_setting_cannot_be_is_refused(kind: Any, value: object) -> None:
    with pytest.raises(ValidationError):
        read(kind, value)


def test_editors_are_told_that_429_needs_no_quotes() -> None:
    described = TypeAdapter(route_fields.RetryConditions).json_schema()
    assert described["items"]["enum"] == ["connect", "429", "5xx", "first_token", 429]
