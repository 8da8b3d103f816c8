"""From a checked configuration to handlers."""

import asyncio
import random
from typing import Any

import pytest

from gateway.assembly.build import Builder, needs_mock
from gateway.assembly.generation import Generation
from gateway.assembly.pools import PoolKey, SharedPools
from gateway.core.errors import NoHealthyTarget
from gateway.core.exchange import RequestHead
from gateway.store.base import Override
from gateway.telemetry.events import Events
from gateway.transport.base import Origin, Upstream
from tests.fakes import FakeClock, FakeResponse, FakeUpstream, Sightings, exchange, loaded, memory_store, request

pytestmark = pytest.mark.anyio

TEXT = """\
apiVersion: gateway/v1
targets:
  mock: {provider: mock}
  up:
    provider: openai
    base_url: https://api.example/v1
    model: gpt-4.1
    api_key: env:UP_KEY
    headers: {X-Team: blue, X-Secret: env:UP_SECRET}
    timeouts: {connect: 1s, first_token: 2s, idle: 3s, total: 4s}
    max_connections: 7
    max_connection_age: 60s
    keepalive: 9s
  az: {provider: azure, base_url: "http://az.example:8000", api_key: env:NO_KEY, api_version: 2024-10-21}
routes:
  - {model: demo, target: mock}
  - {model: "gpt-*", split: {up: 1, az: 1}}
  - {model: dead, target: az}
"""
ENVIRON = {"UP_KEY": "sk-up", "UP_SECRET": "s3cret"}
KEY = PoolKey("a", Origin("http", "127.0.0.1", 1), "native", None, 10, None, 300.0)


class Works:
    """A builder whose pools are fake."""

    def __init__(self) -> None:
        self.upstream = FakeUpstream(
            FakeResponse(200, [(b"content-type", b"application/json")], [b'{"id":"c","choices":[]}'])
        )
        self.keys: list[PoolKey] = []
        clock = FakeClock()
        self.pools = SharedPools(self._make)
        sightings = Sightings(clock)
        self.registry = sightings.registry
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.store = memory_store(clock)
        events = Events(None, clock, lambda event, fields: self.told.append((event, fields)))
        rng = random.Random(7)
        self.builder = Builder(self.pools, sightings.observer, clock, rng, self.store, events, self.registry)

    def _make(self, key: PoolKey) -> Upstream:
        self.keys.append(key)
        return self.upstream

    def build(self, text: str = TEXT, *overrides: Override) -> Generation:
        """The generation of this configuration."""
        by_name = {override.name: override for override in overrides}
        return self.builder.build(loaded(text, ENVIRON), "http://127.0.0.1:9", by_name)


async def test_a_generation_has_every_route_and_target_of_the_file() -> None:
    generation = Works().build()
    assert list(generation.routes_by_name) == ["demo", "gpt-*", "dead"]
    assert generation.routes_by_name["gpt-*"].weights == {"up": 1.0, "az": 1.0}
    found = generation.routes.find("gpt-5")
    assert found is generation.routes_by_name["gpt-*"]
    assert list(generation.targets) == ["mock", "up", "az"]
    assert generation.revision == loaded(TEXT, ENVIRON).revision


async def test_a_target_without_its_credential_is_out_of_service_and_takes_no_pool() -> None:
    works = Works()
    generation = works.build()
    assert [key.target for key in works.keys] == ["mock", "up"]
    assert generation.targets["az"].out_of_service == "NO_KEY is not set"
    with pytest.raises(NoHealthyTarget, match="az: NO_KEY is not set"):
        generation.routes_by_name["dead"].handler(exchange())


async def test_pools_are_made_of_the_targets_settings() -> None:
    works = Works()
    works.build()
    assert works.keys == [
        PoolKey("mock", Origin("http", "127.0.0.1", 9), "native", None, 1000, None, 300.0),
        PoolKey("up", Origin("https", "api.example", 443), "native", None, 7, 9.0, 60.0),
    ]


async def test_a_target_sends_what_the_file_says() -> None:
    works = Works()
    generation = works.build()
    body = b'{"model":"gpt-x","messages":[]}'
    asked = exchange(request(head=RequestHead(model="gpt-x", body_model="gpt-x"), body=body))
    async with generation.routes_by_name["gpt-*"].handler(asked) as reply:
        assert reply.status == 200
    [sent], [timeouts] = works.upstream.requests, works.upstream.timeouts
    assert sent.target == b"/v1/chat/completions"
    assert sent.body == b'{"model":"gpt-4.1","messages":[]}'
    headers = dict(sent.headers)
    assert headers[b"authorization"] == b"Bearer sk-up"
    assert (headers[b"x-team"], headers[b"x-secret"]) == (b"blue", b"s3cret")
    assert (timeouts.connect_s, timeouts.idle_s, timeouts.deadline_s) == (1.0, 3.0, 1004.0)
    assert [attempt.target for attempt in asked.attempts] == ["up"]


async def test_the_built_in_mock_is_used_where_no_address_is_given() -> None:
    assert needs_mock(loaded(TEXT, ENVIRON))
    assert not needs_mock(loaded(TEXT.replace("{provider: mock}", "{provider: mock, base_url: 'http://h:1'}"), ENVIRON))
    with pytest.raises(AssertionError):
        Works().builder.build(loaded(TEXT, ENVIRON), None, {})


async def test_a_released_generation_gives_back_its_pools_but_not_the_next_ones() -> None:
    works = Works()
    first, second = works.build(), works.build()
    assert len(works.keys) == 2
    first.release()
    await asyncio.sleep(0)
    assert works.upstream.closed == 0
    second.release()
    await asyncio.sleep(0)
    assert works.upstream.closed == 2
    assert len(works.pools) == 0


async def test_what_operators_ejected_is_ejected_and_comes_back() -> None:
    works = Works()
    eject = Override("target/mock", {"ejected": True}, "ann", "patching", 0.0, None)
    first = works.build(TEXT, eject)
    breaker = first.targets["mock"].breaker
    assert breaker is not None and breaker.is_ejected
    assert works.told[-1] == ("breaker_ejected", {"target": "mock", "reason": "by ann: patching"})
    second = works.build()
    assert second.targets["mock"].breaker is breaker
    assert not breaker.is_ejected


async def test_an_isolation_is_the_generations_matter() -> None:
    isolate = Override("isolate/key/bot", {}, "ann", "leaked", 0.0, None)
    assert Works().build(TEXT, isolate).isolation.keys == {"bot"}


async def test_a_switch_leads_a_route_elsewhere() -> None:
    switch = Override("route/demo", {"split": {"up": 1.0}}, "ann", "release", 0.0, None)
    assert Works().build(TEXT, switch).routes_by_name["demo"].weights == {"up": 1.0}
