"""From the routes of the configuration to handlers."""

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.assembly.build import Builder
from gateway.assembly.generation import Generation
from gateway.assembly.pools import PoolKey, SharedPools
from gateway.core.errors import BudgetExceeded, GatewayError, NoHealthyTarget, RateLimited, UpstreamError
from gateway.core.exchange import Exchange, RequestHead
from gateway.store.base import Override
from gateway.telemetry.events import Events
from gateway.transport.base import Timeouts, Upstream, UpstreamRequest
from tests.fakes import FakeClock, FakeResponse, FakeUpstream, Sightings, exchange, loaded, memory_store, request

pytestmark = pytest.mark.anyio

JSON = [(b"content-type", b"application/json")]
ANSWER = b'{"id":"c-1","model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
TARGETS = """\
apiVersion: gateway/v1
targets:
  a: {provider: mock, price: {request: $1.00}}
  b: {provider: mock, price: {request: $0.10}}
  c: {provider: mock, price: {request: $0.01}}
  dead: {provider: openai, base_url: "http://127.0.0.1:1/v1", api_key: env:NOT_SET, price: {request: $0.01}}
routes:
"""


class Calm(random.Random):
    """Chance that never makes anybody wait."""

    def uniform(self, a: float, b: float) -> float:
        """The least."""
        return a


class Provider(FakeUpstream):
    """One target's upstream: what it answers in turn, the last of it for ever; what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses = [200]
        self.opens = asyncio.Event()
        self.opens.set()

    async def open(self, request: UpstreamRequest, timeouts: Timeouts) -> FakeResponse:
        """The next answer."""
        self.requests.append(request)
        await self.opens.wait()
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        body = ANSWER if status == 200 else b'{"error":{"message":"no","type":"t","param":null,"code":null}}'
        return FakeResponse(status, list(JSON), [body])


class Works:
    """A builder with one scripted upstream for each target."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.sightings = Sightings(self.clock)
        self.upstreams: dict[str, Provider] = {}
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.store = memory_store(self.clock)
        self.builder = Builder(
            SharedPools(self._make),
            self.sightings.observer,
            self.clock,
            Calm(7),
            self.store,
            Events(None, self.clock, lambda event, fields: self.told.append((event, fields))),
            self.sightings.registry,
        )
        self.generation: Generation

    def _make(self, key: PoolKey) -> Upstream:
        return self.upstreams.setdefault(key.target, Provider())

    def build(self, routes: str, *overrides: Override) -> "Works":
        """Itself, with a generation of these routes."""
        configured = loaded(TARGETS + routes)
        self.sightings.registry.configure(
            [route.model for route in configured.config.routes], configured.config.targets
        )
        self.generation = self.builder.build(configured, "http://127.0.0.1:9", {each.name: each for each in overrides})
        return self

    async def call(self, model: str = "demo", **more: Any) -> Exchange:
        """One request that is answered; raises what it fails with."""
        body = b'{"model":"%b","messages":[{"role":"user","content":"hi"}]}' % model.encode()
        asked = exchange(request(head=RequestHead(model=model, body_model=model), body=body), route=model, **more)
        async with self.generation.routes_by_name[model].handler(asked) as reply:
            asked.status = reply.status
        return asked

    def asked(self) -> dict[str, int]:
        """How many requests each target has got, of those that got any."""
        return {name: len(each.requests) for name, each in sorted(self.upstreams.items()) if each.requests}

    def counted(self, name: str) -> Mapping[tuple[str, ...], float]:
        """A counter's series."""
        samples = self.sightings.registry.snapshot().metrics.get(name, [])
        return {sample.labels: sample.value for sample in samples if sample.value}


def steps(asked: Exchange) -> list[str]:
    """Which steps wrote something down."""
    return [decision.step for decision in asked.decisions]


async def test_a_route_to_one_target_decides_nothing_and_asks_no_ledger() -> None:
    works = Works().build("  - {model: demo, target: a}\n")
    asked = await works.call()
    assert (asked.target, asked.decisions, asked.admission) == ("a", [], None)
    assert asked.cost_nusd == 1_000_000_000


async def test_a_split_follows_its_weights_its_sticky_keys_and_its_overrides() -> None:
    text = "  - {model: demo, split: {a: 1, b: 1}, sticky: [key], priority: low}\n"
    works = Works().build(text)
    for _ in range(5):
        await works.call()
    [(_, count)] = works.asked().items()
    assert count == 5
    assert works.generation.routes_by_name["demo"].priority == "low"
    switch = Override("route/demo", {"split": {"c": 1.0}}, "ada", "drill", 0.0, None)
    works.build(text, switch)
    assert (await works.call()).target == "c"


async def test_a_retry_is_made_and_counted() -> None:
    works = Works().build("  - {model: demo, target: a, retry: {attempts: 3}}\n")
    works.upstreams["a"].statuses = [503, 503, 200]
    asked = await works.call()
    assert [attempt.retry_of for attempt in asked.attempts] == [None, "5xx", "5xx"]
    assert works.counted("gateway_retries_total") == {("demo", "5xx"): 2.0}


async def test_one_attempt_is_no_retry() -> None:
    works = Works().build("  - {model: demo, target: a, retry: {attempts: 1}}\n")
    works.upstreams["a"].statuses = [503]
    with pytest.raises(UpstreamError):
        await works.call()
    assert works.asked() == {"a": 1}


async def test_a_fallback_is_taken_and_counted_and_one_out_of_service_is_passed_over() -> None:
    works = Works().build("  - {model: demo, target: a, fallback: [dead, b, c]}\n")
    works.upstreams["a"].statuses = [500]
    asked = await works.call()
    assert (asked.target, works.asked()) == ("b", {"a": 1, "b": 1})
    assert works.counted("gateway_fallbacks_total") == {("demo", "a", "b", "5xx"): 1.0}


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_refused_account_is_a_reason_where_ejected_is_one(status: int) -> None:
    """F37."""
    works = Works().build("  - {model: demo, target: a, fallback: [{to: b, when: [ejected]}]}\n")
    works.upstreams["a"].statuses = [status]
    assert (await works.call()).target == "b"
    assert [(event, fields["target"]) for event, fields in works.told] == [
        ("breaker_opened", "a"),
        ("account_refused", "a"),
    ]
    # It is not even asked the next time.
    assert (await works.call()).target == "b"
    assert works.asked() == {"a": 1, "b": 2}


async def test_a_full_queue_is_a_reason_where_ejected_is_one() -> None:
    """F48."""
    works = Works()
    text = TARGETS.replace("a: {provider: mock,", "a: {provider: mock, max_inflight: 1, queue: {size: 0},")
    route = "  - {model: demo, target: a, fallback: [{to: b, when: [ejected]}]}\n"
    works.generation = works.builder.build(loaded(text + route), "http://127.0.0.1:9", {})
    stalled = works.upstreams["a"]
    stalled.opens.clear()
    first = asyncio.ensure_future(works.call())
    while not stalled.requests:
        await asyncio.sleep(0)
    assert (await works.call()).target == "b"
    stalled.opens.set()
    assert (await first).target == "a"


async def test_a_pool_is_balanced_until_an_operator_gives_it_weights() -> None:
    text = "  - {model: demo, pool: [a, b, c, dead], balance: cheapest}\n"
    works = Works().build(text)
    asked = await works.call()
    assert (asked.target, steps(asked)) == ("c", ["balance"])
    works.build(text, Override("route/demo", {"split": {"a": 1.0, "b": 0.0}}, "ada", "drill", 0.0, None))
    assert (await works.call()).target == "a"


async def test_a_tier_takes_what_is_simple_enough_and_says_why_when_it_is_out() -> None:
    works = Works().build(
        "  - {model: demo, target: a, tiers: [{to: c, when: {max_messages: 1, tools: false}}]}\n"
        "  - {model: out, target: a, tiers: [{to: dead, when: {max_messages: 1}}]}\n"
    )
    assert (await works.call()).target == "c"
    with pytest.raises(NoHealthyTarget, match="NOT_SET is not set"):
        await works.call("out")


async def test_a_second_request_is_sent_when_the_first_is_slow_and_counted_as_won() -> None:
    works = Works().build("  - {model: demo, target: a, fallback: [b], hedge: {after: 1ms, max: 100%}}\n")
    works.upstreams["a"].opens.clear()
    asked = await works.call()
    assert asked.target == "b"
    assert works.counted("gateway_hedges_total") == {("demo", "won"): 1.0}


async def test_what_a_target_made_is_asked_of_it_again() -> None:
    works = Works().build("  - {model: demo, split: {a: 1, b: 1}}\n")
    body = b'{"model":"demo","input":"hi","previous_response_id":"resp_1"}'
    works.builder._made_by.put("resp_1", "b")
    for _ in range(5):
        asked = exchange(
            request(operation="responses", suffix="responses", head=RequestHead("demo", body_model="demo"), body=body),
            route="demo",
        )
        async with works.generation.routes_by_name["demo"].handler(asked):
            pass
    assert works.asked() == {"b": 5}


async def _until_no_shadow(works: Works) -> None:
    async with asyncio.timeout(5):
        while len(works.builder.shadows):
            await asyncio.sleep(0)
        await asyncio.sleep(0)


@pytest.mark.parametrize("compare", [True, False])
async def test_a_shadow_is_counted_and_compared_where_that_is_wanted(compare: bool) -> None:
    setting = f"{{target: b, sample: 100%, compare: {'true' if compare else 'false'}}}"
    works = Works().build(f"  - {{model: demo, target: a, shadow: {setting}}}\n")
    works.upstreams["b"].statuses = [200, 400]
    for _ in range(2):
        assert (await works.call()).target == "a"
        await _until_no_shadow(works)
    counted = works.counted("gateway_shadow_requests_total")
    assert counted == {("demo", "b", "ok"): 1.0, ("demo", "b", "error"): 1.0}
    differences = works.counted("gateway_shadow_differences_total")
    assert differences == ({("demo", "b", "status"): 1.0} if compare else {})
    assert [event for event, _ in works.told] == (["shadow_compared"] * 2 if compare else [])


async def test_a_shadow_to_a_target_out_of_service_is_none() -> None:
    works = Works().build("  - {model: demo, target: a, shadow: {target: dead, sample: 100%}}\n")
    assert steps(await works.call()) == []


async def test_a_shadow_has_limits_of_its_own() -> None:
    works = Works().build(
        "  - {model: demo, target: a, shadow: {target: b, sample: 100%}}\n"
        "limits: [{name: shadows, match: {key: shadow}, requests: 1/day}, {name: mine, match: {key: tester}, "
        "requests: 2/day}]\n"
    )
    for _ in range(2):
        await works.call()
        await _until_no_shadow(works)
    assert works.asked() == {"a": 2, "b": 1}
    assert works.counted("gateway_shadow_requests_total") == {("demo", "b", "ok"): 1.0, ("demo", "b", "refused"): 1.0}
    with pytest.raises(RateLimited):
        await works.call()


async def test_a_request_is_admitted_before_anything_else_and_counted_in_the_totals() -> None:
    works = Works().build("  - {model: demo, target: a}\nlimits: [{name: few, requests: 1/day}]\n")
    await works.call()
    with pytest.raises(RateLimited):
        await works.call()
    [total] = await works.store.ledger.spend("2023-11-14", "2023-11-14")
    assert (total.route, total.target, total.requests, total.cost_nusd) == ("demo", "a", 1, 1_000_000_000)


BUDGET = "limits: [{name: team, budget: $2/day, pressure: [{at: 40%, downgrade_to: THERE}]}]\n"


@pytest.mark.parametrize(("there", "target"), [("b", "b"), ("cheap", "c")])
async def test_a_budget_under_pressure_leads_to_a_target_or_else_a_route(there: str, target: str) -> None:
    works = Works().build(
        "  - {model: demo, target: a}\n  - {model: cheap, target: c}\n" + BUDGET.replace("THERE", there)
    )
    assert [(await works.call()).target for _ in range(3)] == ["a", target, target]


async def test_a_budget_that_is_spent_refuses_and_falls_over_where_the_route_says_so() -> None:
    works = Works().build(
        "  - {model: demo, target: a}\n"
        "  - {model: safe, target: a, fallback: [{to: c, when: [over_budget]}]}\n"
        "limits: [{name: team, budget: $1.50/day}]\n"
    )
    assert (await works.call()).target == "a"
    with pytest.raises(BudgetExceeded):
        await works.call()
    asked = await works.call("safe")
    assert (asked.target, asked.cost_nusd) == ("c", 10_000_000)


async def test_a_rule_about_a_target_is_asked_for_each_try() -> None:
    works = Works().build(
        "  - {model: demo, target: a, fallback: [b]}\nlimits: [{name: a-few, match: {target: a}, requests: 1/day}]\n"
    )
    assert [(await works.call()).target for _ in range(2)] == ["a", "b"]


async def test_an_ejected_target_without_a_breaker_is_out_of_service() -> None:
    works = Works()
    text = (
        TARGETS.replace("a: {provider: mock,", "a: {provider: mock, breaker: off,") + "  - {model: demo, target: a}\n"
    )
    eject = Override("target/a", {"ejected": True}, "ada", "drill", 0.0, None)
    works.generation = works.builder.build(loaded(text), "http://127.0.0.1:9", {eject.name: eject})
    with pytest.raises(NoHealthyTarget, match="by ada: drill"):
        await works.call()


async def test_at_most_half_of_a_routes_targets_are_out_for_their_failures() -> None:
    """F40."""
    works = Works().build("  - {model: demo, split: {a: 1, b: 1}, fallback: [c]}\n")
    for each in works.upstreams.values():
        each.statuses = [500]
    failures: list[GatewayError] = []
    for _ in range(30):
        with pytest.raises(GatewayError) as failed:
            await works.call()
        failures.append(failed.value)
    # Two of three are spared: the last failures are still the provider's, and not the gateway's own.
    assert {failure.source for failure in failures[-5:]} == {"upstream"}
    states = [live.breaker.state for live in works.generation.targets.values() if live.breaker is not None]
    assert states.count(2) >= 1
