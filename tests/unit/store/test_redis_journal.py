"""Audit, overrides and names in Redis; what they do is in the suite of all stores."""

from collections.abc import AsyncIterator

import pytest

from gateway.store.base import AuditEntry, Override
from gateway.store.redis import RedisStore
from tests.redis_servers import RedisServer, needs_redis, redis_server
from tests.unit.store.redis_bench import a_store, running

pytestmark = [needs_redis, pytest.mark.anyio]


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    async with running(a_store(server.url)) as store:
        yield store


async def test_the_audit_is_shared_and_bounded(server: RedisServer, store: RedisStore) -> None:
    entry = AuditEntry(1.5, "\N{SNOWMAN}", "grant", "day", "why", {"amount": 2**53, "list": [None, 1.5, {}]})
    await store.journal.record(entry)
    async with running(a_store(server.url)) as other:
        assert await other.journal.audit(10) == [entry]
        assert await other.journal.audit(0) == []
    fill = "for n = 1, 10500 do redis.call('XADD', KEYS[1], '*', 'entry', '{}') end"
    await server.run("EVAL", fill, 1, "{gw}:audit")
    await store.journal.record(entry)
    assert 10_000 <= await server.run("XLEN", "{gw}:audit") <= 10_200


async def test_overrides_are_seen_by_all_and_keep_what_they_hold(server: RedisServer, store: RedisStore) -> None:
    now = store.now_s()
    lasting = Override("route/a|b", {"split": {"x": 1.5}}, "ann", "", now, None)
    timed = Override("target/\N{SNOWMAN}", {}, "bob", "why", now, now + 60.0)
    await store.journal.put(lasting)
    await store.journal.put(timed)
    async with running(a_store(server.url)) as other:
        assert await other.journal.overrides() == {lasting.name: lasting, timed.name: timed}
        assert await other.journal.drop(lasting.name) == lasting
    assert list(await store.journal.overrides()) == [timed.name]


async def test_what_has_ended_is_not_found_and_not_kept(server: RedisServer, store: RedisStore) -> None:
    over = Override("route/a", {}, "ann", "why", 0.0, store.now_s() - 1.0)
    await store.journal.put(over)
    assert await store.journal.drop(over.name) is None
    await store.journal.put(over)
    assert await store.journal.overrides() == {}
    assert await server.run("HLEN", "{gw}:overrides") == 0


async def test_a_name_has_one_owner_in_the_whole_fleet(server: RedisServer, store: RedisStore) -> None:
    async with running(a_store(server.url)) as other:
        assert await store.leases.acquire("a", "one", 60.0)
        assert not await other.leases.acquire("a", "two", 60.0)
        await other.leases.release("a", "two")
        assert 0 < await server.run("PTTL", "{gw}:lock:a") <= 60_000
        await store.leases.release("a", "one")
        assert await other.leases.acquire("a", "two", 60.0)
