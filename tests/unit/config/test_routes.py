"""Where requests go, and what is tried when a target fails."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.schema import Fallback, Hedge, Retry, Route, TierConditions


def route(**settings: Any) -> Route:
    """A route with these settings."""
    return Route.model_validate({"model": "a", "target": "t"} | settings)


def test_a_route_has_weights_however_it_was_written() -> None:
    assert Route.model_validate({"model": "a", "target": "t"}).weights == {"t": 1.0}
    assert Route.model_validate({"model": "a", "split": {"t": 95, "u": 0.5}}).weights == {"t": 95.0, "u": 0.5}
    assert Route.model_validate({"model": "a", "pool": ("t", "u")}).weights == {"t": 1.0, "u": 1.0}


def test_nothing_is_tried_unless_it_is_asked_for() -> None:
    plain = route()
    assert (plain.retry, plain.hedge, plain.shadow, plain.fallback, plain.tiers, plain.sticky) == (None, None, None) + (
        (),
    ) * 3
    assert (plain.priority, plain.max_ejected, plain.balance) == ("normal", 0.5, "weighted")


def test_a_retry_is_one_more_attempt_for_a_fifth_of_the_requests() -> None:
    """F30."""
    retry = route(retry={}).retry
    assert retry == Retry()
    assert (retry.attempts, retry.when, retry.budget, retry.max_wait) == (
        2,
        ("connect", "429", "5xx", "first_token"),
        0.2,
        5.0,
    )


def test_statuses_are_written_with_or_without_quotes() -> None:
    assert route(retry={"when": (429, "5xx")}).retry == Retry(when=("429", "5xx"))
    with pytest.raises(ValidationError):
        route(retry={"when": (True,)})


def test_a_fallback_is_a_name_or_a_section() -> None:
    assert route(fallback=("u", {"to": "v", "when": (429,)})).fallback == (
        Fallback(to="u"),
        Fallback(to="v", when=("429",)),
    )


def test_what_a_provider_refuses_to_say_is_not_asked_of_the_next_by_default() -> None:
    assert "content_filter" not in Fallback(to="u").when
    assert {"ejected", "context_overflow", "over_budget"} < set(Fallback(to="u").when)


def test_a_hedge_waits_for_the_usual_or_for_a_time() -> None:
    usual = route(hedge={}).hedge
    assert usual == Hedge()
    assert (usual.after, usual.max) == ("p95", 0.1)
    hedge = route(hedge={"after": "1500ms", "max": "5%"}).hedge
    assert hedge is not None
    assert (hedge.after, hedge.max) == (1.5, 0.05)


def test_a_tier_looks_at_what_is_written_alone() -> None:
    tiers = route(tiers=({"to": "u", "when": {"max_prompt_bytes": "2KiB", "tools": False, "header": {"X-A": "b*"}}},))
    conditions = tiers.tiers[0].when
    assert conditions == TierConditions.model_validate(
        {"max_prompt_bytes": "2048B", "tools": False, "header": {"x-a": "b*"}}
    )
    assert (conditions.max_prompt_bytes, conditions.max_messages, conditions.regex) == (2048, None, None)
