"""From the routes of the configuration to handlers: what stands around what."""

import pytest

from gateway.core.errors import BudgetExceeded, GatewayError, NoHealthyTarget
from gateway.core.exchange import Exchange, RequestHead
from gateway.store.base import Override
from tests.fakes import FakeResponse, exchange, request
from tests.unit.assembly.test_build import Works

pytestmark = pytest.mark.anyio

HEAD = """\
apiVersion: gateway/v1
targets:
  a: {provider: mock, price: {input: $1.00, output: $1.00}}
  b: {provider: mock, price: {input: $5.00, output: $5.00}}
  dead: {provider: openai, base_url: "https://api.example/v1", api_key: env:NO_KEY, price: {input: $1.00}}
"""
BODY = b'{"model":"demo","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}'


def asking() -> Exchange:
    asked = exchange(request(head=RequestHead(model="demo", body_model="demo", max_tokens=5), body=BODY))
    asked.route = "demo"
    return asked


async def served(works: Works, text: str, *overrides: Override) -> Exchange:
    """An exchange of route `demo`, once it is over; its error is in it."""
    asked = asking()
    try:
        async with works.build(text, *overrides).routes_by_name["demo"].handler(asked):
            pass
    except GatewayError as error:
        asked.error = error
    return asked


def targets(asked: Exchange) -> list[str]:
    return [attempt.target for attempt in asked.attempts]


async def test_a_fallback_is_asked_when_the_first_target_fails() -> None:
    works = Works()
    works.upstream.response = FakeResponse(500, [(b"content-type", b"application/json")], [b"{}"])
    asked = await served(works, HEAD + "routes: [{model: demo, target: a, fallback: [b]}]\n")
    assert targets(asked) == ["a", "b"]
    samples = works.registry.snapshot().metrics["gateway_fallbacks_total"]
    assert [(sample.labels, sample.value) for sample in samples] == [(("demo", "a", "b", "5xx"), 1)]


async def test_a_target_that_is_out_of_service_is_passed_over() -> None:
    asked = await served(Works(), HEAD + "routes: [{model: demo, split: {dead: 9, a: 1}}]\n")
    assert targets(asked) == ["a"]
    alone = await served(Works(), HEAD + "routes: [{model: demo, target: dead}]\n")
    assert isinstance(alone.error, NoHealthyTarget)


async def test_a_tier_takes_what_meets_its_condition() -> None:
    tier = "tiers: [{to: a, when: {max_prompt_bytes: 1KiB}}]"
    asked = await served(Works(), HEAD + f"routes: [{{model: demo, target: b, {tier}}}]\n")
    assert targets(asked) == ["a"]


async def test_a_pool_is_balanced_by_its_method() -> None:
    asked = await served(Works(), HEAD + "routes: [{model: demo, pool: [b, a], balance: cheapest}]\n")
    assert targets(asked) == ["a"]


async def test_a_switch_goes_over_a_pool() -> None:
    switch = Override("route/demo", {"split": {"b": 1.0}}, "ann", "release", 0.0, None)
    text = HEAD + "routes: [{model: demo, pool: [b, a], balance: cheapest}]\n"
    assert targets(await served(Works(), text, switch)) == ["b"]


async def test_limits_stand_around_a_route_only_where_there_are_any() -> None:
    text = HEAD + "routes: [{model: demo, target: a}]\nlimits: [{name: tiny, budget: $0.000001/day}]\n"
    refused = await served(Works(), text)
    assert isinstance(refused.error, BudgetExceeded)
    assert targets(refused) == []
    free = await served(Works(), HEAD + "routes: [{model: demo, target: a}]\n")
    assert free.error is None and targets(free) == ["a"]


async def test_the_priority_of_a_route_is_told() -> None:
    generation = Works().build(HEAD + "routes: [{model: demo, target: a, priority: high}]\n")
    assert generation.routes_by_name["demo"].priority == "high"
