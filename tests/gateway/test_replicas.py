"""Three gateway processes that share a Redis: never a cent over, whatever happens to any of them or to it."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest

from tests.gateway.harness import CHAT
from tests.gateway.processes import Serving
from tests.gateway.spending import NUSD, Replicas, ledger, limited, quiet, redis_store, replicas, served, storm
from tests.gateway.waiting import until
from tests.redis_servers import RedisServer, needs_redis, redis_server
from tests.unit.store.redis_bench import end_leases

pytestmark = [pytest.mark.anyio, needs_redis]

SPENT = "429 insufficient_quota"
GONE = "503 store_unavailable"
TEN = limited("name: money, budget: $1/month", more=redis_store())
TEN_BY_TOKENS = limited("name: money, budget: $0.001/month", price="{input: $0, output: $10}", more=redis_store())
RETRIED = limited(
    "name: money, budget: $1/month",
    route="retry: {attempts: 2, when: [5xx], budget: 100%, max_wait: 100ms}, fallback: [spare]",
    targets="  spare: {extends: mock, price: {request: $0.20}}",
    more=redis_store("100ms"),
)

Havoc = Callable[[RedisServer, asyncio.Event], Awaitable[None]]


@asynccontextmanager
async def fleet(config: str, *options: str) -> AsyncIterator[tuple[Replicas, RedisServer]]:
    """Three replicas and their Redis."""
    async with redis_server(*options) as server, replicas(3, config, server.url) as three:
        yield three, server


async def test_of_a_thousand_requests_at_once_a_budget_for_ten_admits_ten() -> None:
    """F50: by the request and by tokens; every replica shows the same ledger."""
    async with fleet(TEN) as (three, _):
        answers = await storm(three.addresses, 1000)
        assert answers.broken == 0 and answers.outcomes == {"200": 10, SPENT: 990}
        assert all(each.headers["x-should-retry"] == "false" for each in answers.responses if each.status_code == 429)
        assert len(three.mock.log.entries()) == served(three.mock) == 10
        for each in three.all:
            assert await quiet(each.admin) == NUSD
        # Another budget on the same counters' Redis, by tokens.
        text = TEN_BY_TOKENS.replace("name: money", "name: tokens").replace("MOCK_URL", three.mock.url)
        three.mock.reset()
        for each in three.all:
            await each.reload(text)
        answers = await storm(three.addresses, 1000, CHAT | {"max_tokens": 10})
        assert answers.outcomes == {"200": 10, SPENT: 990}
        assert served(three.mock) == 10 and await quiet(three.all[0].admin, "tokens") == NUSD // 1000


async def test_a_killed_replicas_holds_come_back_when_their_lease_ends() -> None:
    """F51, F50: until then they are held, and nobody spends them; what it had settled stays spent."""
    async with fleet(TEN) as (three, server):
        first, *others = three.all
        addresses = [each.address for each in others]
        assert (await storm([first.address], 2)).outcomes == {"200": 2}
        doomed = asyncio.ensure_future(storm([first.address], 5, x_mock="latency=20s"))
        await until(lambda: three.mock.stats.inflight == 5, 5.0)
        first.run.process.send_signal(signal.SIGKILL)
        await first.run.ended()
        assert (await doomed).broken == 5
        assert (await storm(addresses, 300)).outcomes == {"200": 3, SPENT: 297}
        admin = others[0].admin
        assert await ledger(admin) == (NUSD // 2, NUSD // 2)
        # A lease has 60 s, and is renewed by the living alone: those of the dead are moved to their end.
        await end_leases(server)
        assert await quiet(admin) == NUSD // 2
        assert (await storm(addresses, 300)).outcomes == {"200": 5, SPENT: 295}
        assert await ledger(admin) == (NUSD, 0)


async def test_with_on_crash_charge_a_replica_killed_amid_a_storm_makes_nobody_overspend() -> None:
    """F50, F51: what the dead one held counts as spent, so not one call more than ten is made, whoever asks."""
    config = TEN.replace("budget: $1/month", "budget: $1/month, on_crash: charge")
    async with fleet(config) as (three, server):
        first, *others = three.all
        addresses = [each.address for each in others]
        running = asyncio.ensure_future(storm(three.addresses, 600, x_mock="latency=50ms"))
        await until(lambda: len(three.mock.log.entries()) > 0, 10.0)
        first.run.process.send_signal(signal.SIGKILL)
        answers = await running
        await first.run.ended()
        await end_leases(server)
        admin = others[0].admin
        await quiet(admin)
        answers_later = await storm(addresses, 100)
        assert await ledger(admin) == (NUSD, 0)
        assert len(three.mock.log.entries()) <= 10
        assert answers.outcomes["200"] + answers_later.outcomes["200"] <= 10


async def paused(server: RedisServer, over: asyncio.Event) -> None:
    """Stops answering for a while, again and again."""
    while not over.is_set():
        await server.run("CLIENT", "PAUSE", 200)
        await asyncio.sleep(0.5)


async def flushed(server: RedisServer, over: asyncio.Event) -> None:
    """Forgets its scripts all the time (F69)."""
    while not over.is_set():
        await server.run("SCRIPT", "FLUSH")
        await asyncio.sleep(0.02)


async def restarted(server: RedisServer, over: asyncio.Event) -> None:
    """Is killed and comes back with its append-only file."""
    while not over.is_set():
        await asyncio.sleep(0.3)
        server.kill()
        await asyncio.sleep(0.1)
        await server.start()
        await asyncio.sleep(0.6)


async def emptied(server: RedisServer, over: asyncio.Event) -> None:
    """Is killed once amid the traffic, and comes back with nothing: the gateways tell it what they know (F73)."""
    await asyncio.sleep(0.5)
    server.kill()
    await asyncio.sleep(0.1)
    await server.start()
    await over.wait()


async def demoted(server: RedisServer, over: asyncio.Event) -> None:
    """Becomes a replica of nobody who is there, and a master again (F71)."""
    while not over.is_set():
        await server.run("REPLICAOF", "127.0.0.1", 1)
        await asyncio.sleep(0.3)
        await server.run("REPLICAOF", "NO", "ONE")
        await asyncio.sleep(0.5)


@pytest.mark.parametrize("havoc", [paused, flushed, restarted, emptied, demoted], ids=lambda havoc: havoc.__name__)
async def test_whatever_redis_does_no_cent_too_much_is_spent(havoc: Havoc) -> None:
    """F50, F66-F71, F73: with retries, fallbacks and clients that leave; the ledger is the model server's own bill."""
    persistence = ("--appendonly", "yes", "--appendfsync", "always") if havoc is restarted else ()
    async with fleet(RETRIED, *persistence) as (three, server):
        over = asyncio.Event()
        harm = asyncio.ensure_future(havoc(server, over))
        rng = random.Random(7)
        seen: set[str] = set()
        for _ in range(12):
            asked = [
                asyncio.ensure_future(storm(three.addresses, 10, x_mock=directives))
                for directives in ("seq=500|200|500|500|200", "latency=30ms", "status=500", "tokens=3")
            ]
            leaving = asyncio.ensure_future(storm(three.addresses, 3, x_mock="status=500,latency=200ms"))
            await asyncio.sleep(rng.uniform(0.05, 0.15))
            leaving.cancel()
            for answers in await asyncio.gather(*asked):
                seen |= set(answers.outcomes)
            with suppress(asyncio.CancelledError):
                await leaving
        over.set()
        await harm
        await until(lambda: three.mock.stats.inflight == 0, 5.0)
        for each in three.all:
            await until(partial(_is_up, each), 8.0)
        away_s = sum([await each.metric("gateway_store_degraded_seconds_total") for each in three.all])
        if havoc is flushed:
            assert GONE not in seen, "a script that is not known is sent again, inside of the same call"
        else:
            assert away_s > 0.2
        assert seen <= {"200", SPENT, GONE, "500 None", "502 upstream_error", "500 server_error"}, seen
        await _spend_the_rest(three)
        spent = await quiet(three.all[0].admin, timeout_s=8.0)
        assert spent == _bill(three) <= NUSD
        assert spent > NUSD - 2 * NUSD // 10


async def _is_up(replica: Serving) -> bool:
    return await replica.metric("gateway_store_up") == 1.0


async def _spend_the_rest(three: Replicas) -> None:
    answers = await storm(three.addresses, 100)
    assert set(answers.outcomes) <= {"200", SPENT, GONE}, answers.outcomes


def _bill(three: Replicas) -> int:
    """What the requests that were answered cost, by the price of the target that did."""
    lines = [line for each in three.all for line in each.run.requests()]
    dear = sum(1 for line in lines if line["status"] == 200 and line["target"] == "spare")
    return (served(three.mock) + dear) * NUSD // 10
