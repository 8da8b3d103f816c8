"""One generation as the data plane sees it."""

import hashlib

import pytest

from gateway.core.errors import InvalidApiKey, InvalidRequest
from gateway.core.exchange import Consumer
from tests.unit.edge.house import House

pytestmark = pytest.mark.anyio

HASH = hashlib.sha256(b"sk-1").hexdigest()
TEXT = f"""\
apiVersion: gateway/v1
server: {{max_body: 1MiB, max_inflight: 7, default_route: demo}}
required_tags: [service]
keys:
  - {{id: one, hash: "sha256:{HASH}", tags: {{team: a}}, models: ["demo", "gpt-*"], may_pin: true, expires: 2024-01-31}}
targets:
  mock: {{provider: mock}}
routes:
  - {{model: demo, target: mock}}
  - {{model: "gpt-*", target: mock}}
  - {{model: zeta, target: mock}}
"""


async def test_keys_become_consumers_found_by_their_hash() -> None:
    view = (await House.serving(TEXT)).running.current
    consumer = view.keyring.identify({b"x-api-key": b"sk-1"})
    assert (consumer.id, consumer.tags, consumer.models, consumer.may_pin) == (
        "one",
        {"team": "a"},
        ("demo", "gpt-*"),
        True,
    )
    assert consumer.expires_at is not None
    with pytest.raises(InvalidApiKey):
        view.keyring.identify({b"x-api-key": HASH.encode()})


async def test_a_key_that_has_expired_is_refused() -> None:
    house = await House.serving(TEXT)
    house.clock.advance(366 * 86400.0)
    with pytest.raises(InvalidApiKey):
        house.running.current.keyring.identify({b"x-api-key": b"sk-1"})


async def test_bounds_and_defaults_are_the_files() -> None:
    view = (await House.serving(TEXT)).running.current
    assert (view.max_body, view.max_inflight, view.default_route) == (1024 * 1024, 7, "demo")
    assert tuple(view.required_tags) == ("service",)
    assert view.created_s == 1_700_000_000
    assert view.revision == view.loaded.revision


async def test_globs_are_not_listed_as_models() -> None:
    assert (await House.serving(TEXT)).running.current.listed_models == ["demo", "zeta"]


async def test_a_consumer_uses_what_its_key_allows() -> None:
    view = (await House.serving(TEXT)).running.current
    consumer = view.keyring.identify({b"x-api-key": b"sk-1"})
    assert [view.allows(consumer, model) for model in ("demo", "gpt-9", "zeta", "demo")] == [True, True, False, True]
    assert view.allows(Consumer("all"), "anything")


async def test_an_open_gateway_serves_loopback_names_only() -> None:
    """F101."""
    with pytest.raises(InvalidRequest):
        (await House.serving()).running.current.hosts.require(b"evil.example")
    (await House.serving(TEXT)).running.current.hosts.require(b"gateway.example")


async def test_closing_gives_the_pools_back() -> None:
    house = await House.serving()
    house.running.current.close()
    assert len(house.running.pools) == 0
