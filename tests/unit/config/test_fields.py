"""The types of single settings."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.config import fields


def read(kind: Any, value: object) -> Any:
    """`value` as a setting of type `kind`."""
    return TypeAdapter(kind).validate_python(value, strict=True)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (fields.Pause, "0s", 0.0),
        (fields.Duration, "30d", 2592000.0),
        (fields.Size, "1KiB", 1024),
        (fields.Fraction, "10%", 0.1),
        (fields.Name, "gpt-4.1_eu", "gpt-4.1_eu"),
        (fields.ModelPattern, "meta-llama/Llama-3*", "meta-llama/Llama-3*"),
        (fields.TagValue, 42, "42"),
        (fields.KeyHash, "sha256:" + "AB" * 32, "sha256:" + "ab" * 32),
        (fields.Expiry, "2027-01-31", datetime(2027, 2, 1, tzinfo=UTC).timestamp()),
        (fields.Expiry, "2027-01-31T18:00:00Z", datetime(2027, 1, 31, 18, tzinfo=UTC).timestamp()),
        (fields.Expiry, "2027-01-31T18:00:00+02:00", datetime(2027, 1, 31, 16, tzinfo=UTC).timestamp()),
    ],
)
def test_a_setting_becomes_what_the_gateway_computes_with(kind: Any, value: object, expected: object) -> None:
    assert read(kind, value) == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (fields.Duration, "0s"),
        (fields.Duration, "31d"),
        (fields.Size, "1B"),
        (fields.Name, ""),
        (fields.Name, "a" * 65),
        (fields.Name, "name\n"),
        (fields.Name, "-name"),
        (fields.ModelPattern, "gpt-[45]"),
        (fields.TagName, "9lives"),
        (fields.TagValue, True),
        (fields.TagValue, ""),
        (fields.TagValue, "a\nb"),
        (fields.KeyHash, "sk-gw-something"),
        (fields.KeyHash, 5),
        (fields.Expiry, "9999-12-31"),
        (fields.Expiry, "2027-1-31"),
        (fields.Expiry, "2027-01-31T18:00:00"),
    ],
)
def test_what_a_setting_cannot_be_is_refused(kind: Any, value: object) -> None:
    with pytest.raises(ValidationError):
        read(kind, value)


def test_what_stands_in_place_of_a_hash_is_not_repeated() -> None:
    with pytest.raises(ValidationError) as refused:
        read(fields.KeyHash, "sk-gw-canary")
    assert "canary" not in refused.value.errors()[0]["msg"]


def test_a_quantity_is_shown_with_its_unit() -> None:
    assert TypeAdapter(fields.Duration).dump_python(300.0) == "5m"
    assert TypeAdapter(fields.Expiry).dump_python(0.0) == "1970-01-01T00:00:00Z"
