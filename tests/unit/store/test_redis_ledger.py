"""What the ledger in Redis does beyond the suite of all stores."""

from collections.abc import AsyncIterator

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.store.base import Grant, Spend, Verdict
from gateway.store.redis import RedisStore
from tests.redis_servers import RedisServer, needs_redis, redis_server
from tests.unit.store.redis_bench import (
    ENDS_AT_S,
    a_store,
    ask,
    money,
    new_hold,
    running,
    slot,
    spent_and_held,
    tokens,
    until,
    used,
)

pytestmark = [needs_redis, pytest.mark.anyio]


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    async with running(a_store(server.url)) as store:
        yield store


async def test_a_hold_without_claims_needs_no_store() -> None:
    store = a_store("redis://127.0.0.1:1")
    assert await store.ledger.hold("a", ()) == Verdict(True, ())
    with pytest.raises(StoreUnavailable):
        await ask(store, slot(1))


async def test_spend_without_a_hold_is_counted(store: RedisStore) -> None:
    spend = Spend("2026-11-21", "k", "r", "t", (), 1, 2, 3, 4)
    store.ledger.settle(new_hold(), (), spend)
    await until(lambda: not store.undelivered)
    assert await store.ledger.spend("2026-11-21", "2026-11-21") == [spend]


async def test_many_budgets_are_listed_page_by_page(store: RedisStore) -> None:
    for n in range(0, 1200, 100):
        for at in range(100):
            store.ledger.settle(new_hold(money(1, 10, scope=f"key={n + at}")), (1,))
    await until(lambda: not store.undelivered)
    await store.ledger.grant(Grant("g", "day", "key=7", 5, ENDS_AT_S))
    budgets = await store.ledger.budgets()
    assert len(budgets) == 1200
    assert {each.scope for each in budgets} == {f"key={n}" for n in range(1200)}
    assert [each.scope for each in budgets if each.granted_nusd] == ["key=7"]


async def test_a_day_has_a_bounded_number_of_lines(server: RedisServer, store: RedisStore) -> None:
    """As F125: 50,000 invented names."""
    fields = [word for n in range(20_000) for word in (f'["k{n}","r","t",[]]', b"\x94\x01\x01\x01\x01")]
    await server.run("HSET", "{gw}:spend:2026-11-21", *fields)
    for n in range(3):
        store.ledger.settle(new_hold(), (), Spend("2026-11-21", f"new{n}", "r", "t", (), 1, 2, 3, 4))
    await until(lambda: not store.undelivered)
    assert await server.run("HLEN", "{gw}:spend:2026-11-21") == 20_001


async def test_a_long_stretch_of_days_is_read_and_no_longer_one(store: RedisStore) -> None:
    for day in ("2024-02-29", "2026-01-31", "2026-11-21"):
        store.ledger.settle(new_hold(), (), Spend(day, "k", "r", "t", (), 1, 2, 3, 4))
    await until(lambda: not store.undelivered)
    found = await store.ledger.spend("2000-01-01", "2026-11-21")
    assert [line.day for line in found] == ["2026-01-31", "2026-11-21"]
    assert await store.ledger.spend("2026-11-21", "2026-11-20") == []


async def test_an_adopted_hold_is_told_at_once_when_the_store_is_there(store: RedisStore) -> None:
    hold = new_hold(money(10, 100), slot(3), tokens(5, 100))
    store.ledger.adopt(hold.id, hold.claims, Verdict(True, ()))
    assert await spent_and_held(store) == (0, 10)
    assert await used(store, slot(3)) == 1
    store.ledger.settle(hold, (8, 1, 6))
    assert await spent_and_held(store) == (8, 0)
    assert await used(store, tokens(0, 100)) == 6


async def test_what_was_seen_of_a_budget_is_remembered(store: RedisStore) -> None:
    claim = money(10, 100)
    assert store.ledger.last_used(claim) == 0
    hold, _ = await ask(store, claim)
    assert store.ledger.last_used(claim) == 10
    store.ledger.settle(hold, (4,))
    await until(lambda: not store.undelivered)
    assert store.ledger.last_used(claim) == 4


async def test_budgets_of_ended_periods_are_forgotten(store: RedisStore) -> None:
    now_us = int(store.now_s() * 1e6)
    store.ledger.learn([], [[f"b:1|1|r|p|{n}", now_us - 1, 5, 0] for n in range(10_001)], (1, 0))
    store.ledger.learn([], [["b:1|1|r|p|x", now_us + 60_000_000, 5, 0]], (1, 0))
    assert store.ledger.last_used(money(1, 1, rule="r", period="p", scope="3")) == 0
    assert store.ledger.last_used(money(1, 1, rule="r", period="p", scope="x")) == 5


async def test_a_hold_that_redis_has_lost_is_told_again_when_it_is_renewed(
    server: RedisServer, store: RedisStore
) -> None:
    hold, _ = await ask(store, slot(3))
    for key in (f"{{gw}}:hold:{hold.id}", "{gw}:leases", "{gw}:c:5|slots|key=a"):
        await server.run("DEL", key)
    assert await used(store, slot(3)) == 0
    await store.ledger.renew()
    assert await used(store, slot(3)) == 1


async def test_renewing_without_a_store_does_nothing() -> None:
    store = a_store("redis://127.0.0.1:1")
    hold = new_hold(slot(1))
    store.ledger.adopt(hold.id, hold.claims, Verdict(True, ()))
    await store.ledger.renew()
    assert store.ledger.known(hold.id) == Verdict(True, ())


async def test_settled_ids_are_known_for_long_and_not_for_ever(store: RedisStore) -> None:
    first = new_hold(money(1, 10**6))
    store.ledger.settle(first, (1,))
    for _ in range(8192):
        store.ledger.settle(new_hold(), ())
    assert store.ledger.known(first.id) is not None
    for _ in range(8192):
        store.ledger.settle(new_hold(), ())
    assert store.ledger.known(first.id) is None
