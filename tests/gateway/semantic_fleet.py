"""Two gateways with a semantic cache on one Redis, for tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.gateway.harness import Gateway, gateway
from tests.gateway.semantic_world import (
    World,
    ask,
    by,
    told,
    wordings,
    world,
)
from tests.gateway.spending import redis_store
from tests.gateway.test_cache import keyed
from tests.gateway.waiting import until
from tests.redis_servers import RedisServer, redis_server

STATIC = "{mode: static, threshold: 0.9}"
VERIFIED = "{max_wrong: 20%}"
THING = "xylophone"
FIRST, AGAIN = wordings(THING)[:2]
GIVEN = "semantic static"


@dataclass
class Fleet:
    """Two gateways, the Redis that they share, and their models."""

    one: Gateway
    other: Gateway
    redis: RedisServer
    found: World

    async def stream(self) -> bytes:
        """All that stands in the log."""
        return repr(await self.redis.run("XRANGE", "{gw}:cache:log:questions", "-", "+")).encode()


@asynccontextmanager
async def fleet(semantic: str, *, patience: str = "2s", **settings: str) -> AsyncIterator[Fleet]:
    """Two gateways, which share what a tenant may share."""
    async with redis_server() as redis, world() as found:
        config = keyed(by(found, semantic, share="tenant", **settings) + redis_store(patience) + "\n")
        environ = {"REDIS_URL": redis.url}
        async with gateway(config, environ) as one, gateway(config, environ) as other:
            yield Fleet(one, other, redis, found)


async def told_at(gw: Gateway, text: str, key: str = "ann", **headers: Any) -> str:
    """What the cache says to a question."""
    return told(await ask(gw, text, key=key, **headers))


async def comes(gw: Gateway) -> None:
    """Ask, each time in other words, until a gateway gives a reply."""
    left = iter(wordings(THING)[3:])

    async def is_given() -> bool:
        return await told_at(gw, next(left, FIRST)) == GIVEN

    await until(is_given, 5.0)


async def known(gw: Gateway, rows: int) -> None:
    """Wait until a gateway knows so many questions."""

    async def does() -> bool:
        return await gw.metric("gateway_cache_index_rows") == rows

    await until(does, 5.0)
