"""The sections of the configuration, and its reference in the documentation."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.commands import schema
from gateway.config.load import Sources, load
from gateway.config.schema import Config, Key, Route, Target, Timeouts

DOCS = Path(__file__).parents[3] / "docs" / "configuration.md"
TITLES = {
    "the file": "",
    "server": "Server",
    "telemetry": "Telemetry",
    "telemetry.traces": "Traces",
    "keys[]": "Key",
    "targets.NAME": "Target",
    "targets.NAME.timeouts": "Timeouts",
    "routes[]": "Route",
}
MINIMAL: dict[str, Any] = {"apiVersion": "gateway/v1"}


def documented() -> dict[str, dict[str, str]]:
    """Per section of the reference: each key and its default."""
    sections = re.split(r"^### `(.*)`$", DOCS.read_text(), flags=re.MULTILINE)[1:]
    rows = re.compile(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", re.MULTILINE)
    return {title: dict(rows.findall(text)) for title, text in zip(sections[::2], sections[1::2], strict=True)}


def shown_default(section: dict[str, Any], key: str) -> str:
    """A default as the reference shows it."""
    required = section.get("required", []) + [name for way in section.get("anyOf", [])[:1] for name in way["required"]]
    if key in required:
        return "required"
    default = section["properties"][key].get("default")
    if default in (None, [], {}) or isinstance(default, dict):
        return "none"
    return f"`{default}`" if isinstance(default, str) else f"`{json.dumps(default)}`"


def test_the_reference_has_every_setting_with_its_default_and_no_other() -> None:
    described = schema()
    sections = {title: described["$defs"][name] if name else described for title, name in TITLES.items()}
    assert documented() == {
        title: {key: shown_default(section, key) for key in section["properties"]}
        for title, section in sections.items()
    }


def test_the_example_in_the_documentation_loads() -> None:
    example = DOCS.read_text().split("## An example")[1].split("```yaml\n")[1].split("```")[0]
    loaded = load(Sources.of_text(example, {"GATEWAY_ADMIN_TOKEN": "a", "AZURE_KEY": "b"}))
    assert loaded.config.targets["gpt-next"].timeouts.total == 300.0
    assert loaded.config.keys is not None
    assert loaded.config.keys[0].tags == {"service": "checkout", "costCenter": "42"}


def test_the_defaults_are_those_of_the_contract() -> None:
    config = Config.model_validate(MINIMAL)
    server = config.server
    assert (str(server.listen), str(server.admin)) == ("127.0.0.1:8080", "127.0.0.1:8081")
    assert (server.drain, server.drain_delay, server.max_body, server.max_inflight) == (30.0, 0.0, 32 * 1024**2, 5000)
    assert config.environment == "dev"
    assert config.telemetry.traces.sample == 0.01
    timeouts = Timeouts()
    assert (timeouts.connect, timeouts.first_token, timeouts.idle, timeouts.total) == (5.0, 60.0, 60.0, 600.0)


def test_absent_keys_and_open_mean_the_same() -> None:
    assert Config.model_validate(MINIMAL).is_open
    assert Config.model_validate(MINIMAL | {"keys": "open"}).is_open
    assert not Config.model_validate(MINIMAL | {"keys": ()}).is_open


@pytest.mark.parametrize("keys", [None, "opne", {"open": True}, True])
def test_keys_left_empty_do_not_open_the_gateway(keys: object) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate(MINIMAL | {"keys": keys})


def test_a_configuration_cannot_be_changed() -> None:
    config = Config.model_validate(MINIMAL)
    with pytest.raises(ValidationError, match="frozen"):
        config.environment = "prod"


def test_a_target_without_its_secret_is_out_of_service() -> None:
    text = """\
apiVersion: gateway/v1
targets:
  a: {provider: openai, base_url: https://h/v1, api_key: env:UNSET}
  b: {provider: openai, base_url: https://h/v1, headers: {x-token: env:UNSET, x-team: t}}
  c: {provider: openai, base_url: https://h/v1, api_key: env:SET}
  d: {provider: mock}
"""
    targets = load(Sources.of_text(text, {"SET": "value"})).config.targets
    assert {name: target.out_of_service for name, target in targets.items()} == {
        "a": "UNSET is not set",
        "b": "UNSET is not set",
        "c": None,
        "d": None,
    }


def test_targets_know_the_dialects_that_they_answer() -> None:
    dialects = {
        provider: Target.model_validate({"provider": provider}).dialects
        for provider in ("openai", "azure", "anthropic", "mock")
    }
    assert dialects["openai"] == dialects["azure"] == {"openai"}
    assert dialects["anthropic"] == {"anthropic"}
    assert dialects["mock"] == {"openai", "anthropic"}


def test_a_route_has_weights_however_it_was_written() -> None:
    assert Route.model_validate({"model": "a", "target": "t"}).weights == {"t": 1.0}
    assert Route.model_validate({"model": "a", "split": {"t": 95, "u": 0.5}}).weights == {"t": 95.0, "u": 0.5}


def test_a_key_may_ask_for_every_model_unless_told_otherwise() -> None:
    key = Key.model_validate({"id": "a", "hash": "sha256:" + "0" * 64})
    assert (key.models, key.may_pin, key.expires, key.tags) == (("*",), False, None, {})
