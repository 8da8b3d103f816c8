"""Keys that no section has."""

import pytest

from gateway.config.document import Path
from gateway.config.faults import Place
from gateway.config.schema import Config, Target, Timeouts
from gateway.config.unknown import LATER, keys_of, section_at, unknown_key

HERE = Place("a.yaml", 1, 1)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("rotues",), "unknown key `rotues` (did you mean `routes`?)"),
        (("targets", "a", "basurl"), "unknown key `basurl` (did you mean `base_url`?)"),
        (("drain",), "unknown key `drain` (it belongs in `server`)"),
        (("targets", "a", "listen"), "unknown key `listen` (it belongs in `server`)"),
        (("semantic",), "`semantic` is not yet known to this version (remove it for now)"),
        (("cache", "exact"), "unknown key `exact` (it belongs in `routes.*.cache`)"),
        (("targets", "a", "health"), "`health` is not yet known to this version (remove it for now)"),
        (("routes", 0, "rollout"), "`rollout` is not yet known to this version (remove it for now)"),
        (("routes", 0, "retry", "xyz"), "unknown key `xyz` (known here: attempts, budget, max_wait, when)"),
        (("keys", 0, "budget"), "unknown key `budget` (write it in an entry of `limits`, with `match` or `per`)"),
        (("limits", 0, "pressure", 0, "downgrade"), "unknown key `downgrade` (did you mean `downgrade_to`?)"),
        (("routes", 0, "max_inflight"), "unknown key `max_inflight` (it belongs in `server` or `targets.*`)"),
        (("routes", 0, "fallback", 0, "sample"), "unknown key `sample` (it belongs in `routes.*.shadow`)"),
    ],
)
def test_an_unknown_key_gets_the_advice_that_fits(path: Path, text: str) -> None:
    assert str(unknown_key(HERE, path)) == f"a.yaml:1:1: {text}"


def test_sections_are_found_by_their_position() -> None:
    assert section_at(()) is Config
    assert section_at(("targets", "any")) is Target
    assert section_at(("targets", "any", "timeouts")) is Timeouts
    assert section_at(("targets", "any", "tags")) is None


def test_keys_are_named_as_they_are_written() -> None:
    assert "apiVersion" in keys_of(Config)
    assert "api_version" not in keys_of(Config)


def test_no_key_is_both_known_and_yet_to_come() -> None:
    assert [names & set(keys_of(section)) for section, names in LATER.items()] == [set()] * len(LATER)
