"""A running gateway whose Redis goes away: each class of limits does what it is declared to, and finds back."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.gateway.calls import CHATS, MESSAGES
from tests.gateway.harness import CHAT, Gateway, gateway
from tests.gateway.spending import NUSD, limited, outcome, quiet, redis_store, served, storm
from tests.gateway.waiting import until
from tests.redis_servers import LossyProxy, RedisServer, needs_redis, redis_cluster, redis_server

pytestmark = [pytest.mark.anyio, needs_redis]

GONE = "503 store_unavailable"
RATE = "429 rate_limit_exceeded"
SPENT = "429 insufficient_quota"
FULL = "429 concurrency_limit_exceeded"
MONEY = "name: money, budget: $1/month"
RPM = "name: rpm, requests: 10/min"
PAUSE_MS = 2_000
ADDED_S = 0.15
"""The most that the first request of an outage may take longer (F66)."""


@asynccontextmanager
async def counted(*limits: str, **store: str) -> AsyncIterator[tuple[Gateway, RedisServer]]:
    """A gateway under these limits, and its Redis."""
    timeout = store.pop("timeout", "50ms")
    async with (
        redis_server() as server,
        gateway(limited(*limits, more=redis_store(timeout, **store)), {"REDIS_URL": server.url}) as gw,
    ):
        yield gw, server


async def store_of(gw: Gateway) -> dict[str, Any]:
    """What `/readyz?verbose` says of the store."""
    answer = await gw.admin.get("/readyz?verbose")
    assert answer.status_code == 200, "an outage of the store is no reason to send nobody here"
    detail: dict[str, Any] = answer.json()["store"]
    return detail


async def is_up(gw: Gateway) -> bool:
    """Whether the gateway says that the store answers, by its metric."""
    return await gw.metric("gateway_store_up") == 1.0


async def took_s(gw: Gateway) -> tuple[str, float]:
    """What came of one request, and how long it took."""
    begun = time.monotonic()
    answer = await gw.client.post(CHATS.path, json=CHAT)
    return outcome(answer), time.monotonic() - begun


async def test_a_redis_that_stops_answering_costs_one_timeout_and_then_nothing() -> None:
    """F66, F67: nothing hangs and nothing is tried again inside a request; the gateway stays ready, and says so."""
    async with counted(MONEY, RPM) as (gw, server):
        assert await store_of(gw) == {"kind": "redis", "up": True}
        assert (await took_s(gw))[0] == "200"
        await server.run("CLIENT", "PAUSE", PAUSE_MS)
        answers = [await took_s(gw) for _ in range(20)]
        assert {what for what, _ in answers} == {GONE}
        assert sorted(seconds for _, seconds in answers)[-2] < ADDED_S
        assert answers[0][1] < 1.0, "no retry of a client library fits into that"
        assert not await is_up(gw) and await store_of(gw) == {"kind": "redis", "up": False}
        assert (await gw.client.get("/livez")).status_code == 200
        assert await gw.metric("gateway_store_degraded_seconds_total") > 0
        await until(lambda: is_up(gw), PAUSE_MS / 1000 + 5.0)
        assert outcome(await gw.client.post(CHATS.path, json=CHAT)) == "200"
        assert await quiet(gw.admin) == 2 * NUSD // 10


async def test_a_closed_budget_answers_503_in_both_dialects() -> None:
    """F66: with the time to come back at, and without a call upstream; nor does the admin plane make up figures."""
    async with counted(MONEY, RPM) as (gw, server):
        server.kill()
        for way in (CHATS, MESSAGES):
            headers = {"content-type": "application/json"}
            answer = await gw.client.post(way.path, content=way.body(stream=False), headers=headers)
            assert answer.status_code == 503, answer.text
            assert answer.headers["retry-after"] == "1" and "x-should-retry" not in answer.headers
            assert "store" in answer.json()["error"]["message"]
        assert gw.mock.log.entries() == []
        assert (await gw.admin.get("/admin/v1/budgets")).status_code == 503


@pytest.mark.parametrize(
    ("limit", "rule", "declared", "expected"),
    [
        ("rate_limits", RPM, "local", {"200": 5, RATE: 15}),
        ("rate_limits", RPM, "open", {"200": 20}),
        ("rate_limits", RPM, "closed", {GONE: 20}),
        ("rate_limits", "name: slots, concurrency: 8", "local", {"200": 4, FULL: 16}),
        ("rate_limits", "name: tpm, tokens: 200/min", "local", {"200": 5, RATE: 15}),
        ("budgets", MONEY, "local", {"200": 5, SPENT: 15}),
        ("budgets", MONEY, "open", {"200": 20}),
        ("budgets", MONEY, "closed", {GONE: 20}),
    ],
)
async def test_each_class_does_what_it_is_declared_to(
    limit: str, rule: str, declared: str, expected: dict[str, int]
) -> None:
    """F66, F74: `local` is this process's declared share, half of each limit here."""
    async with counted(rule, share="50%", **{limit: declared}) as (gw, server):
        server.kill()
        if declared == "closed":
            # Before the first question nobody knows that it is gone.
            assert (await took_s(gw))[0] == GONE
        answers = await storm([gw.address], 20, CHAT | {"max_tokens": 19}, x_mock="latency=300ms")
        assert answers.outcomes == expected
        name = rule.split()[1].strip(",")
        if declared != "closed":
            decision = await gw.metric("gateway_limit_decisions_total", limit=name, decision=declared)
            assert decision == expected["200"]


@pytest.mark.parametrize("declared", ["local", "open"])
async def test_on_return_the_stricter_of_both_counts(declared: str) -> None:
    """F73: what was let through alone is told to the store once, and counts there."""
    async with counted(MONEY, budgets=declared, rate_limits=declared) as (gw, server):
        assert (await storm([gw.address], 3)).outcomes == {"200": 3}
        assert await quiet(gw.admin) == 3 * NUSD // 10
        server.freeze()
        assert (await storm([gw.address], 4)).outcomes == {"200": 4}
        server.thaw()
        await until(lambda: is_up(gw), 5.0)
        assert await quiet(gw.admin) == 7 * NUSD // 10
        assert (await storm([gw.address], 50)).outcomes == {"200": 3, SPENT: 47}
        assert await quiet(gw.admin) == NUSD == served(gw.mock) * NUSD // 10


async def test_alone_no_more_is_spent_than_was_left() -> None:
    """F73: a spent budget stays spent while the store is gone."""
    async with counted(MONEY, budgets="local") as (gw, server):
        assert (await storm([gw.address], 8)).outcomes == {"200": 8}
        await quiet(gw.admin)
        server.kill()
        assert (await storm([gw.address], 50)).outcomes == {"200": 2, SPENT: 48}


async def test_a_gateway_that_starts_without_redis_serves_and_finds_it() -> None:
    """F74: by the declared rules until it is there, and then by it."""
    async with redis_server() as server:
        server.kill()
        config = limited(MONEY, RPM, more=redis_store("50ms"))
        async with gateway(config, {"REDIS_URL": server.url}) as gw:
            assert (await took_s(gw))[0] == GONE and not await is_up(gw)
            await server.start()
            await until(lambda: is_up(gw), 5.0)
            assert (await storm([gw.address], 12)).outcomes == {"200": 10, RATE: 2}
            assert await quiet(gw.admin) == NUSD
            assert await server.run("KEYS", "{gw}:b:*") != []


async def test_a_redis_that_forgets_is_told_what_was_there() -> None:
    """F73, F69: killed and started empty, without scripts: no budget is spent twice."""
    async with counted(MONEY) as (gw, server):
        assert (await storm([gw.address], 6)).outcomes == {"200": 6}
        await quiet(gw.admin)
        server.kill()
        assert (await took_s(gw))[0] == GONE
        await server.start()
        await until(lambda: is_up(gw), 8.0)
        assert (await storm([gw.address], 50)).outcomes == {"200": 4, SPENT: 46}
        assert await quiet(gw.admin) == NUSD


async def test_forgotten_scripts_cost_no_request() -> None:
    """F69: SCRIPT FLUSH all the time, and not one error."""
    async with counted("name: rpm, requests: 1000k/min", timeout="2s", rate_limits="closed") as (gw, server):
        over = asyncio.Event()

        async def flush() -> None:
            while not over.is_set():
                await server.run("SCRIPT", "FLUSH")
                await asyncio.sleep(0.01)

        flushing = asyncio.ensure_future(flush())
        for _ in range(10):
            assert (await storm([gw.address], 20)).outcomes == {"200": 20}
        over.set()
        await flushing
        assert await gw.metric("gateway_store_degraded_seconds_total") < 2.0 and await is_up(gw)


async def test_scripts_that_may_not_be_loaded_may_be_run() -> None:
    """F70: a user without SCRIPT; the limits are the shared ones, not those of one process."""
    async with redis_server() as server:
        await server.run("ACL", "SETUSER", "gw", "on", ">secret", "~{gw}*", "+@all", "-script", "-@dangerous")
        url = server.url.replace("redis://", "redis://gw:secret@")
        config = limited(MONEY, more=redis_store(rate_limits="closed"))
        async with gateway(config, {"REDIS_URL": url}) as one, gateway(config, {"REDIS_URL": url}) as other:
            answers = await storm([one.address, other.address], 100)
            assert answers.outcomes == {"200": 10, SPENT: 90}
            assert "secret" not in (await one.admin.get("/readyz?verbose")).text


async def test_a_redis_that_has_become_a_replica_is_gone_until_it_is_a_master() -> None:
    """F71: READONLY is an outage, not an error of each request for ever."""
    async with counted(MONEY) as (gw, server):
        assert (await took_s(gw))[0] == "200"
        await server.run("REPLICAOF", "127.0.0.1", 1)
        assert {(await took_s(gw))[0] for _ in range(5)} == {GONE}
        assert not await is_up(gw)
        connected = int((await server.run("INFO", "stats"))["total_connections_received"])
        await asyncio.sleep(0.5)
        later = int((await server.run("INFO", "stats"))["total_connections_received"])
        assert later - connected <= 12, "it comes back with pauses, not in a loop"
        await server.run("REPLICAOF", "NO", "ONE")
        await until(lambda: is_up(gw), 5.0)
        assert (await storm([gw.address], 20)).outcomes == {"200": 9, SPENT: 11}


@pytest.mark.parametrize("is_mute", [False, True], ids=["cut", "mute"])
async def test_a_lost_answer_counts_once(is_mute: bool) -> None:
    """F68: what was done and not heard of is neither done twice nor forgotten."""
    async with redis_server() as server, LossyProxy(server.port) as proxy:
        config = limited(MONEY, more=redis_store("100ms"))
        async with gateway(config, {"REDIS_URL": proxy.url}) as gw:
            assert (await took_s(gw))[0] == "200"
            for _ in range(3):
                proxy.is_mute, proxy.drops = is_mute, 0 if is_mute else 2
                proxy.lost = 0
                await storm([gw.address], 5)
                await until(lambda: proxy.lost > 0, 5.0)
                proxy.is_mute, proxy.drops = False, 0
                await until(lambda: is_up(gw), 5.0)
            await storm([gw.address], 40)
            assert await quiet(gw.admin) == NUSD == served(gw.mock) * NUSD // 10


async def test_callers_that_leave_get_nobody_elses_answer() -> None:
    """F72: three hundred leave while the store is asked; those that stay are told how their own limit stands."""
    async with counted("name: tagged, per: [tag.team], requests: 1000/min", timeout="1s") as (gw, _):
        rooms = [f"team{number}" for number in range(20)]
        leaving = [
            asyncio.ensure_future(
                storm([gw.address], 1, x_gateway_tags=f"team={rooms[number % 20]}", x_mock="latency=1s")
            )
            for number in range(300)
        ]
        await asyncio.sleep(0.05)
        for each in leaving:
            each.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        for room in [f"fresh{number}" for number in range(20)]:
            left = []
            for _ in range(3):
                answer = (await storm([gw.address], 1, x_gateway_tags=f"team={room}")).responses[0]
                left.append(int(answer.headers["x-ratelimit-remaining-requests"]))
            assert left == [999, 998, 997]


async def test_a_cluster_takes_all_of_a_requests_keys() -> None:
    """F75: many counters in one decision, all in one slot."""
    rules = (RPM, "name: tpm, per: [key, model], tokens: 100k/min", "name: slots, concurrency: 50", MONEY)
    async with redis_cluster() as nodes:
        url = f"redis+cluster://127.0.0.1:{nodes[0].port}"
        config = limited(*rules, more=redis_store(rate_limits="closed"))
        async with gateway(config, {"REDIS_URL": url}) as gw:
            assert (await storm([gw.address], 30)).outcomes["200"] == 10
            assert await quiet(gw.admin) == NUSD
            assert await is_up(gw)
            filled = [await node.run("DBSIZE") for node in nodes]
            assert sorted(size > 0 for size in filled) == [False, False, True]


async def test_processes_on_one_redis_share_windows_and_places() -> None:
    """F62: whatever their own clocks say, the store's decides."""
    rules = (RPM, "name: slots, concurrency: 4")
    async with redis_server() as server:
        config = limited(*rules, more=redis_store())
        environ = {"REDIS_URL": server.url}
        async with gateway(config, environ) as one, gateway(config, environ) as other:
            answers = await storm([one.address, other.address], 40, x_mock="latency=300ms")
            assert answers.outcomes["200"] == 4 and FULL in answers.outcomes
            later = [await storm([gw.address], 1) for gw in (one, other) * 5]
            assert sum(answer.outcomes["200"] for answer in later) == 6


async def test_concurrent_requests_share_their_round_trips() -> None:
    """One batched call for what comes together."""
    async with counted("name: rpm, requests: 1000k/min", MONEY.replace("$1", "$1000"), timeout="2s") as (gw, _):
        before = await gw.metric("gateway_store_round_trips_total")
        assert (await storm([gw.address], 300)).outcomes == {"200": 300}
        await quiet(gw.admin)
        assert await gw.metric("gateway_store_round_trips_total") - before <= 150
