"""From a checked configuration to handlers."""

import asyncio
import random
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from gateway.assembly.build import Builder, needs_mock, pool_key, pool_maker
from gateway.assembly.generation import Generation
from gateway.assembly.pools import PoolKey, SharedPools
from gateway.config.load import load, read
from gateway.core.errors import NoHealthyTarget
from gateway.core.exchange import RequestHead
from gateway.transport.base import Origin, Upstream
from gateway.transport.pool import PoolTransport
from gateway.transport.stock import StockTransport
from tests.fakes import FakeClock, FakeResponse, FakeUpstream, Sightings, exchange, loaded, request

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
        self.builder = Builder(self.pools, Sightings(clock).observer, clock, random.Random(7))

    def _make(self, key: PoolKey) -> Upstream:
        self.keys.append(key)
        return self.upstream

    def build(self, text: str = TEXT) -> Generation:
        """The generation of this configuration."""
        return self.builder.build(loaded(text, ENVIRON), "http://127.0.0.1:9")


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
        Works().builder.build(loaded(TEXT, ENVIRON), None)


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


async def test_the_transport_is_ours_unless_the_target_asks_for_the_stock_one() -> None:
    make = pool_maker()
    for transport, kind in (("native", PoolTransport), ("httpx", StockTransport)):
        for scheme in ("http", "https"):
            upstream = make(replace(KEY, transport=transport, origin=Origin(scheme, "127.0.0.1", 1)))
            assert isinstance(upstream, kind)
            await upstream.aclose()


async def test_a_target_trusts_the_authority_of_its_own_file(tmp_path: Path) -> None:
    authority = trustme.CA()
    pem = authority.cert_pem.bytes()
    (tmp_path / "ca.pem").write_bytes(pem)
    path = tmp_path / "gateway.yaml"
    path.write_text(
        "apiVersion: gateway/v1\n"
        "targets:\n  up: {provider: openai, base_url: 'https://localhost/v1', ca_file: ca.pem}\n"
        "routes: [{model: demo, target: up}]\n"
    )
    configured = load(read(path, {}))
    key = pool_key("up", configured.config.targets["up"], "https://localhost/v1", configured)
    assert key.ca_pem == pem
    upstream = pool_maker()(key)
    contexts = [value for value in _values(upstream) if isinstance(value, ssl.SSLContext)]
    trusted = {der for context in contexts for der in context.get_ca_certs(binary_form=True)}
    assert ssl.PEM_cert_to_DER_cert(pem.decode()) in trusted
    await upstream.aclose()


def _values(thing: object) -> list[object]:
    names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    return [*vars(thing).values(), *(getattr(thing, name, None) for name in names if hasattr(thing, name))]
