"""The sections of the configuration, and its reference in the documentation."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.commands import schema
from gateway.config.load import Sources, load
from gateway.config.schema import Config, Key, Timeouts
from gateway.config.units import Budget

DOCS = Path(__file__).parents[3] / "docs" / "configuration.md"
TITLES = {
    "the file": "",
    "server": "Server",
    "server.overload": "Overload",
    "store": "Store",
    "on_store_failure": "OnStoreFailure",
    "cache": "Cache",
    "telemetry": "Telemetry",
    "telemetry.traces": "Traces",
    "keys[]": "Key",
    "targets.NAME": "Target",
    "targets.NAME.timeouts": "Timeouts",
    "targets.NAME.price": "Price",
    "targets.NAME.queue": "Queue",
    "targets.NAME.breaker": "Breaker",
    "targets.NAME.coalesce": "Coalesce",
    "routes[]": "Route",
    "routes[].retry": "Retry",
    "routes[].fallback[]": "Fallback",
    "routes[].hedge": "Hedge",
    "routes[].shadow": "Shadow",
    "routes[].cache": "RouteCache",
    "routes[].cache.semantic": "Semantic",
    "routes[].cache.semantic.judge": "Judge",
    "routes[].tiers[]": "Tier",
    "routes[].tiers[].when": "TierConditions",
    "limits[]": "Limit",
    "limits[].match": "Match",
    "limits[].pressure[]": "Pressure",
    "webhooks[]": "Webhook",
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
    environ = {"GATEWAY_ADMIN_TOKEN": "a", "AZURE_KEY": "b", "OPENAI_API_KEY": "c", "REDIS_URL": "redis://h"}
    loaded = load(Sources.of_text(example, environ))
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


def test_every_section_of_the_file_is_in_the_reference() -> None:
    assert set(TITLES.values()) - {""} == set(schema()["$defs"])


def test_the_example_has_limits_and_fallbacks() -> None:
    example = DOCS.read_text().split("## An example")[1].split("```yaml\n")[1].split("```")[0]
    environ = {"GATEWAY_ADMIN_TOKEN": "a", "AZURE_KEY": "b", "OPENAI_API_KEY": "c", "REDIS_URL": "redis://h"}
    config = load(Sources.of_text(example, environ)).config
    assert [limit.name for limit in config.limits] == ["per-key", "team-day"]
    assert config.limits[1].budget == Budget(200 * 10**9, "day")
    assert [step.downgrade_to for step in config.limits[1].pressure] == ["small", None]
    assert [fallback.to for fallback in config.routes[0].fallback] == ["payg", "small"]
    assert config.store.kind == "redis"


def test_limits_have_defaults_that_do_no_harm() -> None:
    config = Config.model_validate(MINIMAL)
    assert (config.store.kind, config.limits, config.webhooks) == ("memory", (), ())
    failure = config.on_store_failure
    assert (failure.rate_limits, failure.budgets, failure.cache, failure.share) == ("local", "closed", "bypass", 1.0)
    overload = config.server.overload
    assert (overload.loop_lag, overload.max_rss, overload.reserve_high) == (0.25, None, 0.2)


def test_a_configuration_cannot_be_changed() -> None:
    config = Config.model_validate(MINIMAL)
    with pytest.raises(ValidationError, match="frozen"):
        config.environment = "prod"


def test_a_key_may_ask_for_every_model_unless_told_otherwise() -> None:
    key = Key.model_validate({"id": "a", "hash": "sha256:" + "0" * 64})
    assert (key.models, key.may_pin, key.expires, key.tags) == (("*",), False, None, {})
