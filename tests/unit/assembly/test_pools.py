"""Connection pools that outlive a reload."""

import asyncio
from dataclasses import replace

import pytest

from gateway.assembly.pools import PoolKey, SharedPools
from gateway.transport.base import Origin, Upstream
from tests.fakes import FakeUpstream

pytestmark = pytest.mark.anyio

KEY = PoolKey("a", Origin("http", "127.0.0.1", 1), "native", None, 10, None, 300.0)


class Shop:
    """Makes pools and keeps them."""

    def __init__(self) -> None:
        self.made: dict[PoolKey, FakeUpstream] = {}
        self.pools = SharedPools(self._make)

    def _make(self, key: PoolKey) -> Upstream:
        assert key not in self.made
        self.made[key] = FakeUpstream()
        return self.made[key]


async def test_the_same_key_gives_the_same_pool() -> None:
    """F79: a reload drops no connection."""
    shop = Shop()
    assert shop.pools.acquire(KEY) is shop.pools.acquire(replace(KEY))
    assert len(shop.pools) == 1


async def test_targets_never_share_a_pool() -> None:
    """F48: a bulkhead."""
    shop = Shop()
    assert shop.pools.acquire(KEY) is not shop.pools.acquire(replace(KEY, target="b"))
    assert shop.pools.acquire(KEY) is not shop.pools.acquire(replace(KEY, ca_pem=b"x"))
    assert len(shop.pools) == 3


async def test_the_last_to_let_go_closes_the_pool() -> None:
    shop = Shop()
    shop.pools.acquire(KEY)
    shop.pools.acquire(KEY)
    shop.pools.release(KEY)
    await asyncio.sleep(0)
    assert (shop.made[KEY].closed, len(shop.pools)) == (0, 1)
    shop.pools.release(KEY)
    await asyncio.sleep(0)
    assert (shop.made[KEY].closed, len(shop.pools)) == (1, 0)


async def test_a_pool_that_was_closed_is_made_anew() -> None:
    shop = Shop()
    first = shop.pools.acquire(KEY)
    shop.pools.release(KEY)
    shop.made.clear()
    assert shop.pools.acquire(KEY) is not first


async def test_at_the_end_every_pool_is_closed() -> None:
    shop = Shop()
    shop.pools.acquire(KEY)
    shop.pools.acquire(replace(KEY, target="b"))
    await shop.pools.aclose()
    assert [upstream.closed for upstream in shop.made.values()] == [1, 1]
    assert len(shop.pools) == 0
