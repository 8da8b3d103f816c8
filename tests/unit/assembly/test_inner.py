"""Requests that the gateway makes itself, by the ways of the generation that is in force; the mock answers them."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from gateway.assembly.build import Builder
from gateway.assembly.generation import Generation
from gateway.assembly.inner import InnerCalls
from gateway.assembly.pools import SharedPools
from gateway.assembly.targets import pool_maker
from gateway.core.clock import SystemClock
from gateway.core.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    NoHealthyTarget,
    RateLimited,
    TargetEjected,
    UpstreamError,
)
from gateway.core.exchange import Exchange, Reply
from gateway.core.pipeline import Handler, Policy
from gateway.mock.server import MockServer
from gateway.store.base import Override, Spend
from gateway.store.memory import MemoryStore
from gateway.telemetry.events import Events
from tests.fakes import FakeClock, Sightings, loaded

pytestmark = pytest.mark.anyio

TARGETS = """\
apiVersion: gateway/v1
targets:
  m: {provider: mock, model: m, price: {request: $0.10}}
  cheap: {provider: mock, model: c, price: {request: $0.01}}
  slow: {provider: mock, model: "m:ttfb=60s", price: {request: $0.10}, max_inflight: 1}
  broken: {provider: mock, model: "m:status=500", breaker: {consecutive: 1}}
  claude: {provider: anthropic, base_url: MOCK_URL, model: claude, api_key: env:KEY}
  dead: {provider: openai, base_url: "http://127.0.0.1:1/v1", model: d, api_key: env:NOT_SET}
routes:
  - {model: demo, target: m}
"""
ROUTES = """\
  - {model: judging, target: m, cache: {exact: 1h}, shadow: {target: cheap, sample: 100%}, priority: high}
  - {model: trying, target: broken, fallback: [cheap]}
  - {model: claudes, target: claude}
"""
DIME = 100_000_000


class _Caches:
    """Caches that no request may come to."""

    def make(self, *about: object) -> Policy:
        """One of them."""

        def refuse(exchange: Exchange, call_next: Handler) -> AbstractAsyncContextManager[Reply]:
            raise AssertionError("a call of the gateway's own has come to a cache")

        return refuse

    def likeness(self, *about: object) -> None:
        """Nothing measures what copies say."""


class _House:
    """A real builder before a real mock."""

    def __init__(self, mock: MockServer) -> None:
        self.mock = mock
        clock, rng = SystemClock(), random.Random(7)
        self.sightings = Sightings(FakeClock(clock.monotonic()))
        self.store = MemoryStore(None, clock, lambda crossing: None)
        self.pools = SharedPools(pool_maker())
        self.calls = InnerCalls(self.sightings.observer, self.sightings.tracer, clock, rng)
        registry = self.sightings.registry
        caches: Any = _Caches()
        observer = self.sightings.observer
        events = Events(None, clock)
        self.builder = Builder(self.pools, observer, clock, rng, self.store, events, registry, caches, self.calls)

    def build(self, more: str = "", *overrides: Override, targets: str = TARGETS) -> Generation:
        """A generation that is in force from now on."""
        text = targets.replace("MOCK_URL", self.mock.url) + more
        made = loaded(text, {"KEY": "sk-1"})
        return self.builder.build(made, self.mock.url, {each.name: each for each in overrides})

    def asked(self) -> list[tuple[object, str]]:
        """What the mock was asked: paths, and models without their directives."""
        return [(call["path"], str(call["model"]).partition(":")[0]) for call in self.mock.log.entries()]

    async def held_and_spent(self) -> list[tuple[int, int]]:
        """Of every budget counter, in nano-USD."""
        return [(state.held_nusd, state.spent_nusd) for state in await self.store.ledger.budgets()]

    async def spends(self) -> list[Spend]:
        """The totals of all days."""
        return await self.store.ledger.spend("2000-01-01", "2999-12-31")

    def line(self) -> dict[str, Any]:
        """What was written down of the last call."""
        return self.sightings.recent.latest(1)[0]


@asynccontextmanager
async def _house() -> AsyncIterator[_House]:
    mock = MockServer()
    house = _House(mock)
    await mock.start()
    try:
        yield house
    finally:
        await house.calls.cancel()
        await house.pools.aclose()
        await mock.aclose()


async def _until(claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not claim():
            await asyncio.sleep(0.001)


async def test_a_call_to_a_target_is_answered_billed_and_found_again() -> None:
    async with _house() as house:
        house.build("limits: [{name: judges, match: {key: judge}, budget: $1/day}]\n")
        assert await house.calls.inner("m", "judge").chat("Same?", why="support")
        assert house.asked() == [("/v1/chat/completions", "m")]
        assert await house.held_and_spent() == [(0, DIME)]
        [spend] = await house.spends()
        assert (spend.key, spend.target, spend.requests, spend.cost_nusd) == ("judge", "m", 1, DIME)
        line = house.line()
        assert house.sightings.recent.find(line["request_id"]) == line
        assert line["request_id"].startswith("judge-")
        assert (line["key"], line["route"], line["target"], line["outcome"]) == ("judge", "", "m", "ok")
        assert (line["cost_usd"], line["tags"]) == (0.1, {"why": "support"})
        assert house.sightings.registry.attempts("m", "ok").value == 1
        assert len(house.calls) == 0


async def test_vectors_are_billed_to_the_embedder() -> None:
    async with _house() as house:
        house.build("limits: [{name: vectors, match: {key: embedder}, budget: $1/day}]\n")
        found = await house.calls.inner("m", "embedder", 5.0).embed(["two words", "other words"], why="cache")
        assert [len(vector) for vector in found] == [1536, 1536]
        assert found[0] != found[1]
        assert house.asked() == [("/v1/embeddings", "m")]
        assert await house.held_and_spent() == [(0, DIME)]
        assert house.line()["key"] == "embedder"


async def test_a_limit_of_its_own_refuses_it_and_only_it() -> None:
    async with _house() as house:
        house.build("limits: [{name: few, match: {key: judge}, requests: 1/day}]\n")
        judge = house.calls.inner("m", "judge")
        await judge.chat("Same?", why="w")
        with pytest.raises(RateLimited, match="few"):
            await judge.chat("Same?", why="w")
        assert len(house.asked()) == 1
        assert house.line()["outcome"] == "rate_limited"
        await house.calls.inner("m", "embedder").embed(["a"], why="w")


async def test_a_limit_of_the_target_counts_it() -> None:
    async with _house() as house:
        house.build("limits: [{name: few, match: {target: m}, requests: 1/day}]\n")
        judge = house.calls.inner("m", "judge")
        await judge.chat("Same?", why="w")
        with pytest.raises(RateLimited):
            await judge.chat("Same?", why="w")
        assert len(house.asked()) == 1


async def test_a_budget_that_leads_elsewhere_leads_the_gateways_own_calls_nowhere() -> None:
    """Another model's vectors would be taken for this one's."""
    budget = "budget: $0.15/day, pressure: [{at: 50%, downgrade_to: cheap}]"
    async with _house() as house:
        house.build(f"limits: [{{name: little, {budget}}}]\n")
        embedder = house.calls.inner("m", "embedder")
        await embedder.embed(["a"], why="w")
        with pytest.raises(BudgetExceeded):
            await embedder.embed(["a"], why="w")
        assert house.asked() == [("/v1/embeddings", "m")]
        assert await house.held_and_spent() == [(0, DIME)]


async def test_a_cancelled_call_holds_nothing() -> None:
    """F6, F51: slot, money and connection are given back; what may have been worked on is billed."""
    async with _house() as house:
        generation = house.build("limits: [{name: all, match: {key: judge}, concurrency: 1, budget: $1/day}]\n")
        task = asyncio.ensure_future(house.calls.inner("slow", "judge").chat("Same?", why="w"))
        await _until(lambda: len(house.asked()) == 1)
        assert await house.held_and_spent() == [(DIME, 0)]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await house.held_and_spent() == [(0, DIME)]
        upstream = generation.targets["slow"].upstream
        assert upstream is not None
        assert (upstream.stats().in_use, upstream.stats().waiting) == (0, 0)
        # Both the rule's place and the target's are free again.
        with pytest.raises(DeadlineExceeded):
            await house.calls.inner("slow", "judge", 0.05).chat("Same?", why="w")
        assert len(house.asked()) == 2
        assert (await house.held_and_spent())[0][0] == 0
        assert len(house.calls) == 0


async def test_a_route_answers_by_its_targets_without_its_cache_and_its_shadow() -> None:
    async with _house() as house:
        house.build(ROUTES)
        judge = house.calls.inner("judging", "judge")
        for _ in range(2):
            await judge.chat("Same?", why="w")
        assert house.asked() == [("/v1/chat/completions", "m")] * 2
        assert len(house.builder.shadows) == 0
        assert (house.line()["route"], house.line()["cache"]) == ("judging", "bypass")


async def test_a_route_falls_over_and_its_breaker_hears_of_it() -> None:
    async with _house() as house:
        house.build(ROUTES)
        await house.calls.inner("trying", "judge").chat("Same?", why="w")
        assert house.asked() == [("/v1/chat/completions", "m"), ("/v1/chat/completions", "c")]
        assert (house.line()["target"], house.line()["attempts"]) == ("cheap", 2)
        with pytest.raises(TargetEjected):
            await house.calls.inner("broken", "judge").chat("Same?", why="w")


async def test_an_error_of_the_target_is_raised() -> None:
    async with _house() as house:
        house.build()
        with pytest.raises(UpstreamError):
            await house.calls.inner("broken", "judge").chat("Same?", why="w")


async def test_anthropic_is_asked_for_a_message_and_has_no_vectors() -> None:
    async with _house() as house:
        house.build(ROUTES)
        for name in ("claude", "claudes"):
            assert await house.calls.inner(name, "judge").chat("Same?", why="w")
        assert house.asked() == [("/v1/messages", "claude")] * 2
        with pytest.raises(InvalidRequest) as raised:
            await house.calls.inner("claude", "embedder").embed(["a"], why="w")
        assert raised.value.code == "dialect_not_supported"


async def test_the_name_is_looked_up_in_the_configuration_that_is_in_force() -> None:
    async with _house() as house:
        judge = house.calls.inner("demo", "judge")
        with pytest.raises(NoHealthyTarget, match="No configuration"):
            await judge.chat("Same?", why="w")
        house.build()
        await judge.chat("Same?", why="w")
        house.build(targets=TARGETS.replace("{model: demo, target: m}", "{model: demo, target: cheap}"))
        await judge.chat("Same?", why="w")
        house.build(targets=TARGETS.replace("model: demo", "model: other"))
        with pytest.raises(NoHealthyTarget, match="no target and no route 'demo'"):
            await judge.chat("Same?", why="w")
        assert [model for _, model in house.asked()] == ["m", "c"]


async def test_a_target_that_is_out_of_service_says_why() -> None:
    async with _house() as house:
        house.build()
        with pytest.raises(NoHealthyTarget, match="NOT_SET"):
            await house.calls.inner("dead", "judge").chat("Same?", why="w")


async def test_a_call_keeps_the_connections_of_its_generation_until_it_is_over() -> None:
    """F79: a reload cuts nothing that is under way."""
    async with _house() as house:
        first = house.build()
        task = asyncio.ensure_future(house.calls.inner("slow", "judge").chat("Same?", why="w"))
        await _until(lambda: len(house.asked()) == 1)
        pools = len(house.pools)
        house.build(targets=TARGETS.replace('ttfb=60s"', 'ttfb=60s", max_connections: 7'))
        first.release()
        assert len(house.pools) == pools + 1
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(house.pools) == pools
        await asyncio.sleep(0)


async def test_a_generation_without_calls_is_given_back_at_once() -> None:
    async with _house() as house:
        generation = house.build()
        await house.calls.inner("m", "judge").chat("Same?", why="w")
        generation.release()
        assert len(house.pools) == 0
        with pytest.raises(NoHealthyTarget):
            await house.calls.inner("m", "judge").chat("Same?", why="w")
        await asyncio.sleep(0)


async def test_an_operator_can_shut_the_judge_out() -> None:
    async with _house() as house:
        house.build("", Override("isolate/key/judge", {}, "ann", "costs", 0.0, None))
        with pytest.raises(Forbidden, match="judge is isolated"):
            await house.calls.inner("m", "judge").chat("Same?", why="w")
        await house.calls.inner("m", "embedder").embed(["a"], why="w")
        assert house.asked() == [("/v1/embeddings", "m")]


async def test_at_the_end_all_calls_are_ended_and_no_more_are_taken() -> None:
    async with _house() as house:
        house.build()
        task = asyncio.ensure_future(house.calls.inner("slow", "judge").chat("Same?", why="w"))
        await _until(lambda: len(house.asked()) == 1)
        assert len(house.calls) == 1
        await house.calls.cancel()
        assert task.cancelled()
        assert len(house.calls) == 0
        with pytest.raises(NoHealthyTarget):
            await house.calls.inner("m", "judge").chat("Same?", why="w")
