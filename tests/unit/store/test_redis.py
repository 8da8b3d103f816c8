"""The store in Redis, against a real one."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, ClassVar

import pytest
from hypothesis import Phase, settings
from redis.crc import key_slot

from gateway.core.clock import SystemClock
from gateway.core.errors import StoreUnavailable
from gateway.store.base import AuditEntry, Crossing, Grant, Override, Spend
from gateway.store.redis import RedisSettings, RedisStore
from tests.fakes import FakeClock
from tests.redis_servers import RedisServer, needs_redis, redis_server
from tests.unit.store.behaviour import StoreBehaviour
from tests.unit.store.properties import LedgerMachine
from tests.unit.store.redis_bench import (
    RedisBench,
    a_store,
    ask,
    bench_on,
    end_leases,
    money,
    new_hold,
    running,
    slot,
    spent_and_held,
    tokens,
    until,
    used,
)

pytestmark = needs_redis


@pytest.fixture(scope="module", autouse=True)
def shared_server() -> Iterator[RedisServer]:
    server = RedisServer()
    asyncio.run(server.start())
    RedisMachine.server = server
    yield server
    server.remove()


@pytest.fixture
async def bench(shared_server: RedisServer) -> AsyncIterator[RedisBench]:
    async with bench_on(shared_server) as bench:
        yield bench


class TestRedis(StoreBehaviour):
    """The suite that every store passes."""


class RedisMachine(LedgerMachine):
    """Any order of things, with windows so long that time does not matter."""

    PERIOD_S = 36_000.0
    server: ClassVar[RedisServer]

    def open_bench(self) -> AbstractAsyncContextManager[Any]:
        return bench_on(self.server)


# F50, F51, F65, F68: found by hypothesis, if at all. Shrinking would take long, for each step waits for a server.
TestProperties = RedisMachine.TestCase
TestProperties.settings = settings(max_examples=60, stateful_step_count=30, phases=[Phase.explicit, Phase.generate])


@pytest.mark.anyio
async def test_three_processes_and_a_thousand_requests_get_exactly_ten(shared_server: RedisServer) -> None:
    """F50: a budget for exactly ten, to the nano-dollar."""
    await shared_server.run("FLUSHALL")
    price, limit = 123_456_789, 1_234_567_890
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(running(a_store(shared_server.url))) for _ in range(3)]
        results = await asyncio.gather(*[ask(stores[n % 3], money(price, limit)) for n in range(1000)])
        granted = [(hold, n) for n, (hold, verdict) in enumerate(results) if verdict.granted]
        assert len(granted) == 10
        for hold, n in granted:
            stores[n % 3].ledger.settle(hold, (price,))
        await until(lambda: not any(store.undelivered for store in stores))
        assert await spent_and_held(stores[0]) == (limit, 0)
        assert sum(store.figures.operations for store in stores) >= 1000
        assert sum(store.figures.round_trips for store in stores) <= 100


@pytest.mark.anyio
async def test_concurrent_requests_share_their_round_trips(bench: RedisBench) -> None:
    async def client() -> None:
        for _ in range(20):
            hold, _ = await ask(bench.store, tokens(1, 10_000), money(1, 10_000))
            await asyncio.sleep(0)
            bench.store.ledger.settle(hold, (1, 1))

    before = bench.store.figures.round_trips
    await asyncio.gather(*[client() for _ in range(64)])
    await bench.delivered()
    assert (bench.store.figures.round_trips - before) / (64 * 20) <= 0.1


@pytest.mark.anyio
async def test_every_key_is_in_one_slot_and_ends_by_itself(bench: RedisBench) -> None:
    """F75."""
    store = bench.store
    claims = (tokens(5, 100), slot(3), money(5, 100, alert_at=(1,)))
    for _ in range(2):
        hold, _ = await ask(store, *claims)
    store.ledger.settle(hold, (5, 1, 5), Spend("2026-11-21", "k", "r", "t", (), 1, 1, 1, 5))
    await store.ledger.grant(Grant("g", "day", "*", 5, store.now_s() + 60))
    await store.journal.record(AuditEntry(1.0, "ann", "switch", "route/a", "why"))
    await store.journal.put(Override("route/a", {}, "ann", "why", 1.0, None))
    await store.leases.acquire("a", "me", 60.0)
    await bench.delivered()
    keys = await bench.server.run("KEYS", "*")
    kinds = {key.split(b":")[1] for key in keys}
    assert kinds == {
        *(b"w", b"c", b"b", b"hold", b"leases", b"client", b"pulse", b"grants", b"budgets", b"spend"),
        *(b"heard", b"audit", b"overrides", b"lock"),
    }
    assert len({key_slot(key) for key in keys}) == 1
    assert [key for key in keys if await bench.server.run("TTL", key) < 0] == []


@pytest.mark.anyio
async def test_what_ends_leaves_nothing_behind(bench: RedisBench) -> None:
    """F9, F51: a hundred that came and went, one way or the other."""
    store = bench.store
    for n in range(100):
        hold, _ = await ask(store, tokens(5, 10_000), slot(300), money(5, 10_000))
        if n % 2:
            store.ledger.settle(hold, (0, 1, 0))
    await bench.lapse()
    await store.ledger.budgets()
    assert await bench.server.run("ZCARD", "{gw}:leases") == 0
    assert await used(store, slot(300)) == 0
    assert await used(store, tokens(0, 10_000)) == 0
    assert await spent_and_held(store) == (0, 0)


@pytest.mark.anyio
async def test_a_flushed_script_is_loaded_again(bench: RedisBench) -> None:
    """F69: every few calls, and nobody notices."""
    holds = []
    for n in range(60):
        if n % 3 == 0:
            await bench.server.run("SCRIPT", "FLUSH")
        holds.append(await ask(bench.store, money(1, 40)))
    assert sum(verdict.granted for _, verdict in holds) == 40
    assert bench.store.figures.degraded_s == pytest.approx(0.0, abs=1.0)
    assert bench.store.last_error == ""


@pytest.mark.anyio
async def test_a_user_who_may_not_load_scripts_may_run_them(bench: RedisBench) -> None:
    """F70."""
    await bench.server.run("ACL", "SETUSER", "gate", "on", ">pa:ss@1", "~{gw}*", "+@all", "-script")
    await bench.server.run("SCRIPT", "FLUSH")
    store = a_store(bench.server.url.replace("redis://", "redis://gate:pa%3Ass%401@"))
    async with running(store):
        assert (await ask(store, money(1, 10)))[1].granted
        assert "pa:ss" not in repr(store.detail)


@pytest.mark.anyio
async def test_a_wrong_password_is_said_and_not_shown(bench: RedisBench) -> None:
    store = a_store(bench.server.url.replace("redis://", "redis://default:sesame@"))
    await bench.server.run("CONFIG", "SET", "requirepass", "other")
    try:
        async with running(store):
            assert not store.is_up
            assert store.detail["state"] == "down"
            assert "Authentication" in store.detail["error"]
            assert "sesame" not in repr(store.detail)
            with pytest.raises(StoreUnavailable) as caught:
                await ask(store, money(1, 10))
            assert caught.value.retry_after_s == 1.0
    finally:
        store = a_store(bench.server.url.replace("redis://", "redis://default:other@"))
        async with running(store):
            assert store.is_up
        await bench.server.run_as("other", "CONFIG", "SET", "requirepass", "")


@pytest.mark.anyio
async def test_the_settings_do_not_show_the_url() -> None:
    settings = RedisSettings("redis://:sesame@host/0")
    assert "sesame" not in repr(settings)
    with pytest.raises(ValueError, match="option") as caught:
        RedisStore(RedisSettings("redis://:sesame@host/0?colour=red"), SystemClock(), random.Random(1), print)
    assert "sesame" not in str(caught.value)


@pytest.mark.anyio
async def test_a_clock_that_is_wrong_admits_no_more(bench: RedisBench) -> None:
    """F62: the windows are the server's, and a process learns how wrong it is."""
    wrong = FakeClock(wall_s=SystemClock().wall() + 90.0)
    ahead = a_store(bench.server.url, clock=wrong)
    async with running(ahead):
        assert ahead.now_s() == pytest.approx(SystemClock().wall(), abs=2.0)
        for store in (bench.store, ahead) * 6:
            await ask(store, tokens(10, 100))
        assert await used(ahead, tokens(0, 100)) == 100
        assert await used(bench.store, tokens(0, 100)) == 100


@pytest.mark.anyio
async def test_a_period_that_has_long_ended_takes_nothing_more(bench: RedisBench) -> None:
    """F62: its counter may be gone, so nobody can say what is left."""
    old = money(1, 100, ends_at_s=bench.wall() - 100_000.0)
    _, verdict = await ask(bench.store, old)
    assert not verdict.granted
    just_over = money(1, 100, ends_at_s=bench.wall() - 1.0, period="yesterday")
    assert (await ask(bench.store, just_over))[1].granted


@pytest.mark.anyio
async def test_leases_are_renewed_while_the_process_lives_and_end_with_it(shared_server: RedisServer) -> None:
    """F7, F51."""
    await shared_server.run("FLUSHALL")
    async with running(a_store(shared_server.url)) as watcher:
        # Not closed in an orderly way: its task is stopped, as by kill -9.
        dead = a_store(shared_server.url, lease_s=0.3)
        await dead.start()
        hold, _ = await ask(dead, slot(1), money(60, 100))
        await asyncio.sleep(0.7)
        assert await used(watcher, slot(1)) == 1
        await dead.stop_renewing()
        await until(lambda: watcher.is_up)
        await asyncio.sleep(0.4)
        assert await used(watcher, slot(1)) == 0
        assert await spent_and_held(watcher) == (0, 0)
        # It was not dead after all.
        dead.ledger.settle(hold, (1, 60))
        await until(lambda: not dead.undelivered)
        assert await spent_and_held(watcher) == (60, 0)
        await dead.aclose()


@pytest.mark.anyio
async def test_a_hold_whose_lease_has_ended_by_mistake_is_taken_again(bench: RedisBench) -> None:
    hold, _ = await ask(bench.store, slot(3), money(60, 100), tokens(7, 100))
    await end_leases(bench.server)
    assert await used(bench.store, slot(3)) == 0
    await bench.store.ledger.renew()
    await bench.delivered()
    assert await used(bench.store, slot(3)) == 1
    assert await used(bench.store, tokens(0, 100)) == 7
    assert await spent_and_held(bench.store) == (0, 60)
    bench.store.ledger.settle(hold, (1, 50, 8))
    assert await spent_and_held(bench.store) == (50, 0)
    assert await used(bench.store, tokens(0, 100)) == 8


@pytest.mark.anyio
async def test_a_store_that_was_away_lets_the_living_speak_first(bench: RedisBench) -> None:
    """Leases that ended while nobody could renew them are no sign of death."""
    await ask(bench.store, slot(3), money(60, 100))
    await end_leases(bench.server)
    other = a_store(bench.server.url)
    pulse = b"\x94\xcf" + (1_000_000).to_bytes(8) + b"\x00\x00\x00"
    await bench.server.run("SET", "{gw}:pulse", pulse)
    async with running(other):
        assert await spent_and_held(other) == (0, 60)
        assert await used(other, slot(3)) == 1


@pytest.mark.anyio
async def test_a_caller_who_is_cancelled_holds_nothing(bench: RedisBench) -> None:
    """F72: in whatever moment; and nobody gets the answer of another."""
    rng = random.Random(4)
    for _ in range(30):
        tasks = [asyncio.ensure_future(ask(bench.store, slot(1000), money(n, 10**9))) for n in range(1, 11)]
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)
        await asyncio.sleep(rng.choice((0.0, 0.0002, 0.0005, 0.001)))
        for task in tasks[::2]:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(result, BaseException):
                hold, verdict = result
                assert verdict.granted
                assert verdict.standings[1].limit == 10**9
                bench.store.ledger.settle(hold, (1, 0))
    await until(lambda: not bench.store.undelivered)
    assert await used(bench.store, slot(1000)) == 0
    assert await spent_and_held(bench.store) == (0, 0)


@pytest.mark.anyio
async def test_a_redis_that_lost_its_memory_is_told_what_was_there() -> None:
    """F67: killed and started again without a file, while money is spent and held by three processes."""
    async with redis_server() as server, AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(running(a_store(server.url))) for _ in range(3)]
        live = [await ask(store, money(10, 100), slot(9)) for store in stores]
        hold, _ = await ask(stores[1], money(50, 100))
        stores[1].ledger.settle(hold, (45,))
        await until(lambda: not stores[1].undelivered)
        server.kill()
        await until(lambda: not any(store.is_up for store in stores))
        stores[0].ledger.settle(live[0][0], (9, 1))
        await server.start()
        await until(lambda: all(store.is_up for store in stores), 5.0)
        assert await spent_and_held(stores[2]) == (54, 20)
        assert await used(stores[2], slot(9)) == 2
        assert not (await ask(stores[0], money(27, 100)))[1].granted
        assert (await ask(stores[0], money(26, 100)))[1].granted


@pytest.mark.anyio
async def test_flushed_data_are_told_again(bench: RedisBench) -> None:
    """An operator's FLUSHALL does not make money that was spent free again."""
    hold, _ = await ask(bench.store, money(60, 100))
    bench.store.ledger.settle(hold, (60,))
    await ask(bench.store, money(10, 100))
    await bench.delivered()
    await bench.server.run("FLUSHALL")
    with pytest.raises(StoreUnavailable):
        await ask(bench.store, money(10, 100))
    await until(lambda: bench.store.is_up, 5.0)
    assert await spent_and_held(bench.store) == (60, 10)


@pytest.mark.anyio
async def test_marks_are_told_by_whoever_settles_past_them(bench: RedisBench) -> None:
    told: list[Crossing] = []
    async with running(a_store(bench.server.url, crossings=told)) as other:
        claim = money(30, 100, alert_at=(50,))
        for store in (bench.store, other):
            hold, _ = await ask(store, claim)
            store.ledger.settle(hold, (30,))
            await until(lambda store=store: not store.undelivered)  # type: ignore[misc]
    assert bench.crossings == []
    assert told == [Crossing("day", "key=a", "2026-11-21", 50, 60, 100)]


@pytest.mark.anyio
async def test_what_redis_cannot_do_is_one_request_lost_and_not_the_store(
    bench: RedisBench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.server.run("SET", "{gw}:c:5|slots|key=a", "not a sorted set")
    with pytest.raises(StoreUnavailable):
        await ask(bench.store, slot(1))
    assert (await ask(bench.store, money(1, 10)))[1].granted
    assert "WRONGTYPE" in caplog.text


@pytest.mark.anyio
async def test_a_store_is_closed_with_everything_delivered(shared_server: RedisServer) -> None:
    await shared_server.run("FLUSHALL")
    async with running(a_store(shared_server.url)) as store:
        holds = [(await ask(store, money(1, 1000)))[0] for _ in range(20)]
        for hold in holds:
            store.ledger.settle(hold, (1,), Spend("2026-11-21", "k", "r", "t", (), 1, 1, 1, 1))
    async with running(a_store(shared_server.url)) as store:
        assert await spent_and_held(store) == (20, 0)
        (line,) = await store.ledger.spend("2026-11-21", "2026-11-21")
        assert line.requests == 20
        unknown = new_hold(money(5, 1000))
        store.ledger.settle(unknown, (5,))
        assert await spent_and_held(store) == (25, 0)
