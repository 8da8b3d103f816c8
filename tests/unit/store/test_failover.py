"""What holds while Redis is gone, and how it finds back: real outages of a real server."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from gateway.core.clock import SystemClock
from gateway.core.errors import StoreUnavailable
from gateway.store.base import AuditEntry, Claim, Crossing, Grant, Hold, Spend, Verdict
from gateway.store.failover import FailoverStore, FailureRules
from gateway.store.memory import MemoryStore
from gateway.store.redis import RedisStore
from tests.redis_servers import LossyProxy, RedisServer, free_port, needs_redis, redis_server
from tests.unit.store.redis_bench import (
    a_store,
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

pytestmark = [needs_redis, pytest.mark.anyio]

LOCAL = FailureRules("local", "local", 1.0)
CLOSED = FailureRules("local", "closed", 1.0)
OPEN = FailureRules("open", "open", 1.0)
RECOVERY_S = 5.0
SPEND = Spend("2026-11-21", "k", "r", "t", (), 1, 10, 5, 7)


class Pair:
    """A store that fails over, and the shared one behind it."""

    def __init__(
        self, url: str, rules: FailureRules, timeout_s: float = 1.0, crossings: list[Crossing] | None = None
    ) -> None:
        told: list[Crossing] = [] if crossings is None else crossings
        self.shared: RedisStore = a_store(url, timeout_s=timeout_s, crossings=told)
        self.store = FailoverStore(self.shared, MemoryStore(None, SystemClock(), told.append), rules)

    async def ask(self, *claims: Claim) -> tuple[Hold, Verdict]:
        """A new hold."""
        hold = new_hold(*claims)
        return hold, await self.store.ledger.hold(hold.id, claims)

    async def take(self, *claims: Claim) -> Hold:
        """One that must be granted."""
        hold, verdict = await self.ask(*claims)
        assert verdict.granted
        return hold

    async def use(self, *claims: Claim, spend: Spend | None = None) -> None:
        """Take, and settle to what was asked."""
        hold = await self.take(*claims)
        self.store.ledger.settle(hold, [claim.amount for claim in claims], spend)


@asynccontextmanager
async def pair(
    url: str, rules: FailureRules, timeout_s: float = 1.0, crossings: list[Crossing] | None = None
) -> AsyncIterator[Pair]:
    """Started, and closed afterwards."""
    made = Pair(url, rules, timeout_s, crossings)
    await made.store.start()
    try:
        yield made
    finally:
        await made.store.aclose()


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


async def is_back(*pairs: Pair) -> None:
    """Return when all are up."""
    await until(lambda: all(each.store.is_up for each in pairs), RECOVERY_S)


async def forgets(server: RedisServer, *pairs: Pair, line: LossyProxy | None = None) -> None:
    """Flush the server, and open the line to it; return when all have been away for that, and are back."""
    begun_s = time.time()
    await server.run("FLUSHALL")
    if line is not None:
        line.is_mute = False
    await until(lambda: all(each.store.is_up and each.shared.since_s > begun_s for each in pairs), RECOVERY_S)


async def is_gone(*pairs: Pair) -> None:
    """Return when none is up."""
    await until(lambda: not any(each.store.is_up for each in pairs))


async def test_while_it_is_there_the_shared_store_decides(server: RedisServer) -> None:
    async with pair(server.url, CLOSED) as one, pair(server.url, CLOSED) as two:
        assert (one.store.is_shared, one.store.is_up) == (True, True)
        hold, verdict = await one.ask(money(60, 100))
        assert (verdict.granted, verdict.mode) == (True, "shared")
        assert not (await two.ask(money(60, 100)))[1].granted
        one.store.ledger.settle(hold, (60,), SPEND)
        assert await spent_and_held(one.shared) == (60, 0)
        assert [each.spent_nusd for each in await two.store.ledger.budgets()] == [60]
        await two.store.ledger.grant(Grant("g", "day", "*", 20, two.store.now_s() + 60.0))
        assert (await one.ask(money(60, 100)))[1].granted
        assert await two.store.ledger.spend("2026-11-21", "2026-11-21") == [SPEND]
        await one.store.journal.record(AuditEntry(1.0, "ann", "switch", "route/a", "why"))
        assert len(await two.store.journal.audit(5)) == 1
        assert await one.store.leases.acquire("a", "one", 10.0)
        assert not await two.store.leases.acquire("a", "two", 10.0)
        assert one.store.figures.round_trips > 0
        assert one.store.figures.operations > 0
        assert one.store.last_error == ""
        assert one.store.detail["state"] == "up"


async def test_a_server_that_stops_answering_costs_one_timeout_and_then_nothing(server: RedisServer) -> None:
    """F66: nobody hangs, whoever waits is let go together, and it is back by itself."""
    async with pair(server.url, CLOSED, timeout_s=0.05) as one:
        await one.use(money(1, 100), tokens(1, 100))
        await server.run("CLIENT", "PAUSE", 2000, "ALL")
        begun = time.monotonic()
        results = await asyncio.gather(*[one.ask(money(1, 100)) for _ in range(50)], return_exceptions=True)
        assert time.monotonic() - begun <= 0.3
        assert {type(result) for result in results} == {StoreUnavailable}
        assert not one.store.is_up
        begun = time.monotonic()
        for _ in range(100):
            with pytest.raises(StoreUnavailable) as caught:
                await one.ask(money(1, 100))
            assert caught.value.retry_after_s == 1.0
            await one.use(tokens(0, 100))
        assert (time.monotonic() - begun) / 200 <= 0.005
        about = one.store.detail
        assert (about["state"], about["budgets"], about["rate_limits"]) == ("down", "closed", "local")
        assert "no answer in time" in about["error"]
        await is_back(one)
        assert one.store.figures.degraded_s > 0
        assert await spent_and_held(one.shared) == (1, 0)


async def test_a_frozen_server_is_the_same(server: RedisServer) -> None:
    """F66: nothing is taken by questions that are read only after the outage."""
    async with pair(server.url, CLOSED, timeout_s=0.1) as one:
        server.freeze()
        try:
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    await one.ask(money(10, 100), slot(5))
        finally:
            server.thaw()
        await is_back(one)
        await until(lambda: not one.shared.undelivered)
        assert await used(one.shared, money(0, 100)) == 0
        assert await used(one.shared, slot(5)) == 0


async def test_a_killed_server_is_gone_at_once(server: RedisServer) -> None:
    """F67: no retries inside a request."""
    async with pair(server.url, LOCAL) as one:
        await one.use(money(1, 100))
        server.kill()
        begun = time.monotonic()
        _, verdict = await one.ask(money(1, 100))
        assert time.monotonic() - begun <= 0.15
        assert (verdict.granted, verdict.mode) == (True, "local")
        assert one.store.is_up is False
        with pytest.raises(StoreUnavailable):
            await one.store.ledger.budgets()
        with pytest.raises(StoreUnavailable):
            await one.store.journal.overrides()


async def test_a_lost_answer_counts_once(server: RedisServer) -> None:
    """F68: the line is cut between the script and its answer, again and again."""
    async with LossyProxy(server.port) as proxy, pair(proxy.url, CLOSED) as one:
        rng = random.Random(3)
        granted = settled = 0
        for _ in range(60):
            proxy.drops = rng.choice((0, 1, 1, 2, 3))
            try:
                hold, verdict = await one.ask(money(10, 10_000), tokens(10, 10_000), slot(100))
            except StoreUnavailable:
                await is_back(one)
                continue
            assert verdict.granted
            granted += 1
            if rng.random() < 0.8:
                proxy.drops = rng.choice((0, 1, 3))
                one.store.ledger.settle(hold, (7, 7, 1))
                settled += 1
        proxy.drops = 0
        await is_back(one)
        assert proxy.lost > 20
        assert await spent_and_held(one.shared) == (7 * settled, 10 * (granted - settled))
        assert await used(one.shared, tokens(0, 10_000)) == 7 * settled + 10 * (granted - settled)
        assert await used(one.shared, slot(100)) == granted - settled


async def test_answers_that_never_come_count_once(server: RedisServer) -> None:
    """F68: the line stays, and is mute; what was taken for nobody is given back."""
    async with LossyProxy(server.port) as proxy, pair(proxy.url, CLOSED, timeout_s=0.1) as one:
        held = [await one.take(money(10, 10_000), slot(100)) for _ in range(5)]
        proxy.is_mute = True
        for hold in held[:3]:
            one.store.ledger.settle(hold, (7, 1), SPEND)
        with pytest.raises(StoreUnavailable):
            await one.ask(money(10, 10_000), slot(100))
        proxy.is_mute = False
        await is_back(one)
        assert await spent_and_held(one.shared) == (21, 20)
        assert await used(one.shared, slot(100)) == 2
        (line,) = await one.store.ledger.spend("2026-11-21", "2026-11-21")
        assert line.requests == 3


@asynccontextmanager
async def unanswered(server: RedisServer) -> AsyncIterator[tuple[Pair, Pair, LossyProxy, LossyProxy]]:
    """Two, and their lines. The first settles to 7 and gets no answer; the second hears of it, spends 20, holds 10."""
    async with LossyProxy(server.port) as line, LossyProxy(server.port) as other, AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(pair(each.url, CLOSED, timeout_s=0.2)) for each in (line, other)]
        hold = await one.take(money(10, 100))
        line.is_mute = True
        one.store.ledger.settle(hold, (7,))
        await until(lambda: line.lost)
        await two.use(money(20, 100))
        await two.take(money(10, 100))
        assert await spent_and_held(two.shared) == (27, 10)
        await is_gone(one)
        yield one, two, line, other


async def test_a_settlement_without_an_answer_counts_once_though_the_memory_is_lost(server: RedisServer) -> None:
    """F67, F68: others have heard of it, and tell how the budget stood with it; then it comes again."""
    async with unanswered(server) as (one, two, line, _):
        await forgets(server, one, two, line=line)
        assert await spent_and_held(one.shared) == (27, 10)
        await one.use(money(3, 100))
        assert await spent_and_held(one.shared) == (30, 10)


async def test_it_counts_once_though_the_one_who_has_heard_of_it_comes_late(server: RedisServer) -> None:
    """F67, F68: what was counted again before anybody said that it had been is taken back."""
    async with unanswered(server) as (one, two, line, slow):
        slow.is_mute = True
        await is_gone(two)
        await forgets(server, one, line=line)
        assert await spent_and_held(one.shared) == (7, 0)
        assert await server.run("TTL", "{gw}:doubts") > 0
        await one.use(money(3, 100))
        slow.is_mute = False
        await is_back(two)
        assert await spent_and_held(one.shared) == (30, 10)
        assert await server.run("EXISTS", "{gw}:doubts") == 0


async def test_it_counts_once_though_the_memory_is_lost_again(server: RedisServer) -> None:
    """F67, F68: while the store gathers, and after what came again."""
    async with unanswered(server) as (one, two, line, _):
        for _ in range(3):
            await server.run("FLUSHALL")
            line.is_mute = False
            await asyncio.sleep(0.6)
        await forgets(server, one, two)
        assert await spent_and_held(one.shared) == (27, 10)
        await forgets(server, one, two)
        assert await spent_and_held(one.shared) == (27, 10)


PUT_BACK = """
redis.call('FLUSHALL')
for i = 1, #ARGV, 3 do redis.call('RESTORE', ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
"""


@asynccontextmanager
async def forgetting_this(server: RedisServer, *pairs: Pair) -> AsyncIterator[None]:
    """What is done here is lost afterwards, as by a failover to a replica that was behind."""
    for each in pairs:
        await spent_and_held(each.shared)
    before: list[bytes] = []
    for key in await server.run("KEYS", "*"):
        before += (key, b"%d" % await server.run("PTTL", key), await server.run("DUMP", key))
    yield
    await server.run("EVAL", PUT_BACK, 0, *before)


async def test_a_redis_that_comes_back_older_is_told_what_came_since(server: RedisServer) -> None:
    """F67: what was settled since counts once, though its hold is there again; what was taken since is held."""
    lost = {"charge_lost": True}
    async with pair(server.url, CLOSED) as one, pair(server.url, CLOSED) as two:
        hold = await one.take(money(10, 1000, **lost), slot(5), tokens(10, 1000))
        await two.use(money(30, 1000))
        async with forgetting_this(server, one, two):
            one.store.ledger.settle(hold, (7, 1, 7))
            await until(lambda: not one.shared.undelivered)
            await two.use(money(20, 1000))
            await two.take(money(10, 1000), slot(5))
            assert await spent_and_held(two.shared) == (57, 10)
        await is_gone(one, two)
        await is_back(one, two)
        assert await spent_and_held(two.shared) == (57, 10)
        assert await used(two.shared, slot(5)) == 1
        assert await used(two.shared, tokens(0, 1000)) == 10
        await end_leases(server)
        assert await spent_and_held(two.shared) == (57, 0)


@pytest.mark.parametrize("is_first", [True, False])
async def test_an_older_redis_counts_a_settlement_without_an_answer_once(server: RedisServer, is_first: bool) -> None:
    """F67, F68: its number is the next one there, so nothing seems to be lost until another comes."""
    async with LossyProxy(server.port) as line, LossyProxy(server.port) as other, AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(pair(each.url, CLOSED, timeout_s=0.2)) for each in (line, other)]
        hold = await one.take(money(10, 100))
        await two.use(money(5, 100))
        async with forgetting_this(server, one, two):
            line.is_mute = True
            one.store.ledger.settle(hold, (7,))
            await until(lambda: line.lost)
            await two.use(money(20, 100))
            assert await spent_and_held(two.shared) == (32, 0)
            other.is_mute = True
            await is_gone(one, two)
        for each, its_line in [(one, line), (two, other)] if is_first else [(two, other), (one, line)]:
            its_line.is_mute = False
            await is_back(each)
        await is_back(one)
        assert await spent_and_held(one.shared) == (32, 0)


async def test_what_a_memory_that_is_lost_has_never_seen_is_counted(server: RedisServer) -> None:
    """F67: a settlement on its way when the server dies; and what a process has spent that is gone by then."""
    async with pair(server.url, CLOSED) as one, pair(server.url, CLOSED) as two:
        async with pair(server.url, CLOSED) as gone:
            await gone.use(money(30, 200))
        hold = await one.take(money(10, 200))
        await two.use(money(20, 200))
        assert await spent_and_held(two.shared) == (50, 10)
        one.store.ledger.settle(hold, (7,))
        server.kill()
        await is_gone(one, two)
        await server.start()
        await is_back(one, two)
        assert await spent_and_held(one.shared) == (57, 0)


async def test_a_server_that_has_become_a_replica_is_gone(server: RedisServer) -> None:
    """F71: READONLY inside a script, without a loop of reconnections."""
    async with pair(server.url, CLOSED) as one:
        await one.use(money(1, 100))
        await server.run("REPLICAOF", "127.0.0.1", free_port())
        with pytest.raises(StoreUnavailable):
            await one.ask(money(1, 100))
        await asyncio.sleep(0.5)
        assert not one.store.is_up
        assert "ReadOnly" in one.store.last_error
        assert one.store.figures.round_trips < 60
        await server.run("REPLICAOF", "NO", "ONE")
        await is_back(one)
        assert await spent_and_held(one.shared) == (1, 0)


async def test_starting_without_redis_works_and_finds_it_later() -> None:
    """F74."""
    server = RedisServer()
    try:
        async with pair(server.url, LOCAL) as one:
            assert not one.store.is_up
            live = await one.take(money(30, 100), slot(5))
            await one.use(money(20, 100), tokens(9, 100), spend=SPEND)
            assert one.store.detail["undelivered"] > 0
            await server.start()
            await is_back(one)
            assert await spent_and_held(one.shared) == (20, 30)
            assert await used(one.shared, tokens(0, 100)) == 9
            assert await used(one.shared, slot(5)) == 1
            assert await one.store.ledger.spend("2026-11-21", "2026-11-21") == [SPEND]
            one.store.ledger.settle(live, (25, 1))
            assert await spent_and_held(one.shared) == (45, 0)
            assert await used(one.shared, slot(5)) == 0
            assert (await one.ask(money(56, 100)))[1].granted is False
            assert (await one.ask(money(55, 100)))[1].mode == "shared"
    finally:
        server.remove()


async def test_on_return_the_stricter_of_both_counts(server: RedisServer) -> None:
    """F73: what two processes used alone is added to what was there, once."""
    async with pair(server.url, LOCAL) as one, pair(server.url, LOCAL) as two:
        await one.use(money(10, 100), tokens(10, 100))
        await until(lambda: not one.shared.undelivered)
        server.freeze()
        await is_gone(one, two)
        for each in (one, two):
            await each.use(money(30, 100), tokens(30, 100))
            await each.use(money(5, 100))
        server.thaw()
        await is_back(one, two)
        await until(lambda: not (one.shared.undelivered or two.shared.undelivered))
        assert await spent_and_held(one.shared) == (80, 0)
        assert await used(two.shared, tokens(0, 100)) == 70
        assert not (await two.ask(tokens(31, 100)))[1].granted


async def test_settlements_of_what_was_shared_wait_for_redis(server: RedisServer) -> None:
    async with pair(server.url, CLOSED) as one:
        holds = [await one.take(money(10, 10_000), slot(600)) for _ in range(600)]
        server.freeze()
        for hold in holds:
            one.store.ledger.settle(hold, (4, 1), SPEND)
            one.store.ledger.settle(hold, (4, 1), SPEND)
        await is_gone(one)
        server.thaw()
        await is_back(one)
        assert await spent_and_held(one.shared) == (2400, 0)
        assert await used(one.shared, slot(600)) == 0
        (line,) = await one.store.ledger.spend("2026-11-21", "2026-11-21")
        assert line.requests == 600


@asynccontextmanager
async def without(rules: FailureRules, *, seen: Sequence[Claim] = ()) -> AsyncIterator[Pair]:
    """A store whose Redis is gone; `seen` was used before."""
    async with redis_server() as server, pair(server.url, rules) as one:
        if seen:
            await one.use(*seen)
            await until(lambda: not one.shared.undelivered)
        server.kill()
        await is_gone(one)
        yield one


async def test_closed_is_closed_for_its_class_alone() -> None:
    async with without(CLOSED) as one:
        assert (await one.ask(tokens(1, 100), slot(1)))[1].mode == "local"
        with pytest.raises(StoreUnavailable, match="closed"):
            await one.ask(tokens(1, 100), money(1, 100))
        assert (await one.ask(tokens(99, 100)))[1].granted
        assert not (await one.ask(tokens(1, 100)))[1].granted
        assert not (await one.ask(slot(1)))[1].granted
    async with without(FailureRules("closed", "local", 1.0)) as one:
        assert (await one.ask(money(1, 100)))[1].mode == "local"
        with pytest.raises(StoreUnavailable, match="closed"):
            await one.ask(slot(1))


async def test_a_dry_run_is_never_closed() -> None:
    async with without(FailureRules("closed", "closed", 1.0)) as one:
        _, verdict = await one.ask(money(1, 100, dry_run=True))
        assert (verdict.granted, verdict.mode) == (True, "open")
        assert (await one.ask())[1].granted


async def test_open_is_granted_and_still_counted() -> None:
    async with redis_server() as server, pair(server.url, OPEN) as one:
        server.kill()
        await is_gone(one)
        _, verdict = await one.ask(money(70, 100), tokens(1, 100), slot(1))
        assert (verdict.granted, verdict.mode) == (True, "open")
        assert [(standing.fits, standing.limit) for standing in verdict.standings] == [(True, 100)] * 2 + [(True, 1)]
        await one.use(money(70, 100), slot(1))
        await server.start()
        await is_back(one)
        assert await spent_and_held(one.shared) == (70, 70)


async def test_alone_a_process_has_its_share() -> None:
    async with without(FailureRules("local", "local", 0.25)) as one:
        assert not (await one.ask(money(26, 100)))[1].granted
        await one.take(money(25, 100))
        assert not (await one.ask(tokens(26, 100)))[1].granted
        await one.take(tokens(25, 100), slot(3))
        _, verdict = await one.ask(tokens(1, 100), slot(3), money(0, 100))
        assert [standing.fits for standing in verdict.standings] == [False, False, False]
        assert [standing.limit for standing in verdict.standings] == [25, 1, 25]


async def test_alone_a_process_spends_no_more_than_was_left() -> None:
    async with without(LOCAL, seen=(money(80, 100),)) as one:
        assert not (await one.ask(money(21, 100)))[1].granted
        await one.use(money(15, 100))
        assert not (await one.ask(money(6, 100)))[1].granted
        await one.take(money(5, 100))


async def test_what_was_used_in_one_outage_is_not_counted_again_in_the_next(server: RedisServer) -> None:
    async with pair(server.url, LOCAL) as one:
        for round_of in range(2):
            server.freeze()
            await is_gone(one)
            await one.use(money(40, 100))
            server.thaw()
            await is_back(one)
            await until(lambda: not one.shared.undelivered)
            assert await spent_and_held(one.shared) == (40 * (round_of + 1), 0)


async def test_marks_passed_during_an_outage_are_told_once_after_it() -> None:
    told: list[Crossing] = []
    async with redis_server() as server, pair(server.url, LOCAL, crossings=told) as one:
        server.kill()
        await is_gone(one)
        await one.use(money(60, 100, alert_at=(50,)))
        assert told == []
        await server.start()
        await is_back(one)
        await until(lambda: not one.shared.undelivered)
        assert told == [Crossing("day", "key=a", "2026-11-21", 50, 60, 100)]


async def test_a_hold_is_known_to_its_process_in_any_state(server: RedisServer) -> None:
    async with pair(server.url, CLOSED) as one:
        claims = (money(10, 100),)
        hold = await one.take(*claims)
        server.kill()
        await is_gone(one)
        assert (await one.store.ledger.hold(hold.id, claims)).granted
        one.store.ledger.settle(hold, (10,))
        assert (await one.store.ledger.hold(hold.id, claims)).granted


async def test_callers_who_leave_during_an_outage_leave_nothing(server: RedisServer) -> None:
    """F72."""
    async with pair(server.url, CLOSED) as one:
        server.freeze()
        tasks = [asyncio.ensure_future(one.ask(money(10, 1000), slot(100))) for _ in range(20)]
        await asyncio.sleep(0.05)
        for task in tasks[:10]:
            task.cancel()
        await asyncio.gather(*tasks[:10], return_exceptions=True)
        server.thaw()
        results = [each for each in await asyncio.gather(*tasks[10:], return_exceptions=True)]
        await is_back(one)
        for result in results:
            if not isinstance(result, BaseException):
                one.store.ledger.settle(result[0], (0, 1))
        await until(lambda: not one.shared.undelivered)
        assert await used(one.shared, slot(100)) == 0
        assert await used(one.shared, money(0, 1000)) == 0


async def test_through_every_outage_no_cent_is_lost_or_spent_twice() -> None:
    """F67, F69, F73: three processes under load, Redis killed, frozen and flushed; budgets are closed."""
    limit, price = 5000, 7
    bill = 0
    async with redis_server() as server, AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(pair(server.url, CLOSED, timeout_s=0.5)) for _ in range(3)]
        is_over = asyncio.Event()

        async def client(one: Pair, seed: int) -> None:
            nonlocal bill
            rng = random.Random(seed)
            while not is_over.is_set():
                try:
                    hold, verdict = await one.ask(money(10, limit), slot(50), tokens(10, 10**9))
                except StoreUnavailable:
                    await asyncio.sleep(0.02)
                    continue
                await asyncio.sleep(rng.random() * 0.03)
                if verdict.granted:
                    bill += price
                    one.store.ledger.settle(hold, (price, 1, price))
                else:
                    await asyncio.sleep(0.02)

        async def outages() -> None:
            for _ in range(2):
                await asyncio.sleep(0.2)
                server.freeze()
                await asyncio.sleep(0.7)
                server.thaw()
                await is_back(*pairs)
                await server.run("SCRIPT", "FLUSH")
                await asyncio.sleep(0.2)
                server.kill()
                await asyncio.sleep(0.3)
                await server.start()
                await is_back(*pairs)
            is_over.set()

        await asyncio.gather(outages(), *[client(pairs[n % 3], n) for n in range(15)])
        await until(lambda: not any(each.shared.undelivered for each in pairs))
        async with running(a_store(server.url)) as watcher:
            spent, held = await spent_and_held(watcher)
            assert (spent, held) == (bill, 0)
            assert spent <= limit
            assert await used(watcher, slot(50)) == 0
