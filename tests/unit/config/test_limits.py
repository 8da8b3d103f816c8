"""Sections of limits, their store and webhooks."""

import pytest
from pydantic import ValidationError

from gateway.config.limits import EVENTS, Limit, Match, Webhook
from gateway.config.schema import Config
from gateway.config.secret import Reference
from gateway.config.units import Rate

MINIMAL = {"apiVersion": "gateway/v1"}


def test_a_limit_matches_everything_unless_told_otherwise() -> None:
    limit = Limit.model_validate({"name": "a", "requests": "600/min"})
    assert (limit.per, limit.match, limit.requests, limit.tokens) == ((), Match(), Rate(600, 60.0), None)
    assert (limit.mode, limit.on_crash, limit.dry_run, limit.timezone) == (None, "return", False, "UTC")


def test_a_step_of_pressure_refuses_nothing_by_default() -> None:
    limit = Limit.model_validate(
        {"name": "a", "budget": "$1/day", "pressure": ({"at": "80%", "downgrade_to": "small"},)}
    )
    step = limit.pressure[0]
    assert (step.at, step.downgrade_to, step.only_priority, step.refuse) == (0.8, "small", None, False)


def test_the_store_is_memory_or_a_redis() -> None:
    assert Config.model_validate(MINIMAL).store.kind == "memory"
    assert Config.model_validate(MINIMAL | {"store": "memory"}).store.kind == "memory"
    reference = Reference("env:REDIS_URL", "redis://:canary@127.0.0.1:6379/0")
    store = Config.model_validate(MINIMAL | {"store": {"redis": reference}}).store
    assert (store.kind, store.timeout, store.prefix) == ("redis", 0.05, "gw")
    assert store.redis is not None
    assert store.redis.reveal() == "redis://:canary@127.0.0.1:6379/0"
    assert "canary" not in repr(store)


def test_a_webhook_is_told_everything_unless_it_asks_for_less() -> None:
    webhook = Webhook.model_validate({"url": "https://hooks.example.com/x"})
    assert webhook.events == EVENTS
    assert webhook.out_of_service is None
    with pytest.raises(ValidationError):
        Webhook.model_validate({"url": "https://hooks.example.com/x", "events": ()})


def test_a_webhook_without_its_secrets_is_out_of_service() -> None:
    unset = Reference("env:HOOK", None)
    assert Webhook.model_validate({"url": unset}).out_of_service == "HOOK is not set"
    webhook = Webhook.model_validate({"url": "https://h/x", "headers": {"authorization": unset}})
    assert webhook.out_of_service == "HOOK is not set"
