"""What the tests of the store in Redis share: stores on a real server, and a bench for the common suites."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.core.clock import Clock, SystemClock
from gateway.store.base import Claim, Crossing, Hold, Verdict
from gateway.store.redis import RedisSettings, RedisStore
from tests.redis_servers import READY_S, RedisServer

LONG_S = 5.0
"""A timeout that no test is meant to meet, on a machine that is busy with others."""
ENDS_AT_S = 4_000_000_000.0
_seeds = itertools.count(1)
_ids = itertools.count(1)


def a_store(
    url: str,
    *,
    timeout_s: float = LONG_S,
    lease_s: float = 60.0,
    clock: Clock | None = None,
    crossings: list[Crossing] | None = None,
) -> RedisStore:
    """A store that is not started."""
    told: list[Crossing] = [] if crossings is None else crossings
    settings = RedisSettings(url, timeout_s=timeout_s, lease_s=lease_s)
    return RedisStore(settings, clock or SystemClock(), random.Random(next(_seeds)), told.append)


@asynccontextmanager
async def running(store: RedisStore) -> AsyncIterator[RedisStore]:
    """`store`, started, and closed afterwards."""
    await store.start()
    try:
        yield store
    finally:
        await store.aclose()


async def until(holds: Callable[[], object], seconds: float = READY_S) -> None:
    """Return when it holds; fail when it does not within that time."""
    try:
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"did not come true in {seconds} s") from None


def money(amount: int, limit: int, **changes: object) -> Claim:
    """`amount` of a budget that ends in no test."""
    terms = {"rule": "day", "scope": "key=a", "period": "2026-11-21", "ends_at_s": ENDS_AT_S} | changes
    return Claim(kind="budget", unit="nusd", amount=amount, limit=limit, **terms)  # type: ignore[arg-type]


def slot(limit: int, rule: str = "slots") -> Claim:
    """One slot."""
    return Claim(rule, "key=a", "concurrency", "slots", 1, limit)


def tokens(amount: int, limit: int) -> Claim:
    """Tokens of an hour."""
    return Claim("tpm", "key=a", "window", "tokens", amount, limit, 3600.0)


def new_hold(*claims: Claim) -> Hold:
    """With an id that nobody had before."""
    return Hold(f"hold-{next(_ids)}", claims)


async def ask(store: RedisStore, *claims: Claim) -> tuple[Hold, Verdict]:
    """A new hold, and what became of it."""
    hold = new_hold(*claims)
    return hold, await store.ledger.hold(hold.id, claims)


async def spent_and_held(store: RedisStore) -> tuple[int, int]:
    """Of the only budget, once everything is delivered."""
    await until(lambda: not store.undelivered)
    (budget,) = await store.ledger.budgets()
    return budget.spent_nusd, budget.held_nusd


async def used(store: RedisStore, claim: Claim) -> int:
    """What is in use at the claim's counter; takes nothing."""
    never = Claim("never", "", "concurrency", "slots", 1, 0)
    return (await ask(store, claim, never))[1].standings[0].used


@dataclass(slots=True)
class RedisBench:
    """A store on a Redis whose clock nobody can move: time passes by itself."""

    server: RedisServer
    crossings: list[Crossing] = field(default_factory=list)
    store: RedisStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = a_store(self.server.url, crossings=self.crossings)

    def wall(self) -> float:
        """By Redis TIME."""
        return self.store.now_s()

    async def advance(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def lapse(self) -> None:
        """Write into Redis that the leases are over."""
        await self.delivered()
        await end_leases(self.server)

    async def delivered(self) -> None:
        """Wait for it."""
        await until(lambda: not self.store.undelivered)


async def end_leases(server: RedisServer) -> None:
    """Let every lease be over, as if all processes had died long ago."""
    for key in await server.run("KEYS", "*"):
        if key == b"{gw}:leases" or key.startswith(b"{gw}:c:"):
            for place, hold_id in enumerate(await server.run("ZRANGE", key, 0, -1)):
                await server.run("ZADD", key, place + 1, hold_id)


@asynccontextmanager
async def bench_on(server: RedisServer) -> AsyncIterator[RedisBench]:
    """A bench on a server that forgets everything first."""
    await server.run("FLUSHALL")
    bench = RedisBench(server)
    async with running(bench.store):
        yield bench
