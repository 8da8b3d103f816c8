"""What a route keeps and for whom, and the room for all of it."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.schema import Cache, RouteCache


def kept(**settings: Any) -> RouteCache:
    """A route's cache of an hour, with these settings."""
    return RouteCache.model_validate({"exact": "1h"} | settings)


def test_a_time_to_live_is_all_that_a_cache_needs() -> None:
    """F116: nobody is given another key's reply unless somebody wrote so."""
    plain = kept()
    assert (plain.exact, plain.share, plain.tool_calls, plain.max_temperature) == (3600.0, "key", False, 1.0)
    assert (plain.max_entry, plain.wait) == (1024**2, 60.0)


def test_a_time_to_live_is_what_a_cache_needs() -> None:
    with pytest.raises(ValidationError, match="exact"):
        RouteCache.model_validate({"share": "team"})


def test_the_room_is_64_mib_and_forgotten_with_the_process() -> None:
    assert (Cache().max_bytes, Cache().persist) == (64 * 1024**2, False)


@pytest.mark.parametrize("wait", ["0s", "5m"])
def test_a_wait_may_be_none_or_five_minutes(wait: str) -> None:
    assert kept(wait=wait).model_dump(mode="json")["wait"] == wait


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("wait", "301s", "301s is too long"),
        ("exact", "0s", "must be longer than 0s"),
        ("exact", "31d", "31d is too long"),
        ("share", "everybody", "Input should be 'key', 'team' or 'tenant'"),
        ("max_temperature", 2.1, "less than or equal to 2"),
        ("max_temperature", -0.1, "greater than or equal to 0"),
        ("max_temperature", float("nan"), "finite"),
        ("max_entry", "1B", "1B is out of range"),
        ("tool_calls", 1, "valid boolean"),
    ],
)
def test_what_makes_no_sense_is_refused(setting: str, value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        kept(**{setting: value})
