"""What every process is to serve."""

import msgspec
import pytest

from gateway.config.load import ConfigError, Sources
from gateway.edge.desired import Desired, restore, shown
from gateway.store.base import Override
from tests.fakes import MOCK_CONFIG, loaded

SWITCH = Override("route/demo", {"split": {"mock": 1.0}}, "ada", "drill", 5.0, 65.0)
SHUT = Override("isolate/key/a", {}, "ada", "drill", 5.0, None)


def test_without_overrides_it_is_the_revision_of_the_file() -> None:
    configured = loaded()
    assert Desired(configured).id == configured.revision


def test_with_overrides_it_differs_whatever_their_order() -> None:
    configured = loaded()
    one = Desired(configured, {SWITCH.name: SWITCH, SHUT.name: SHUT})
    other = Desired(configured, {SHUT.name: SHUT, SWITCH.name: SWITCH})
    assert one.id == other.id
    assert one.id.startswith(f"{configured.revision}+")
    assert len({one.id, Desired(configured, {SHUT.name: SHUT}).id, configured.revision}) == 3


def test_another_process_gets_exactly_the_same() -> None:
    desired = Desired(loaded(), {SWITCH.name: SWITCH})
    there = restore(desired.dump())
    assert (there.id, dict(there.overrides)) == (desired.id, {SWITCH.name: SWITCH})
    assert there.loaded.config == desired.loaded.config


def test_sources_that_are_not_sound_are_refused() -> None:
    """F76."""
    broken = Sources.of_text(MOCK_CONFIG.replace("target: mock", "target: mokc"))
    with pytest.raises(ConfigError):
        restore(msgspec.msgpack.encode([broken.dump(), []]))


def test_an_override_is_shown_whole() -> None:
    assert shown(SWITCH) == {
        "name": "route/demo",
        "value": {"split": {"mock": 1.0}},
        "actor": "ada",
        "reason": "drill",
        "since_s": 5.0,
        "until_s": 65.0,
    }
