"""The exact cache of several gateways on one Redis, of several workers, and over a restart (F66, F116)."""

import asyncio
import signal
import sys
from pathlib import Path

import httpx
import pytest

from gateway.mock.server import MockServer
from tests.gateway.harness import CHAT, Gateway, gateway
from tests.gateway.processes import serving
from tests.gateway.spending import redis_store, storm
from tests.gateway.test_cache import CACHED, keyed, result
from tests.gateway.waiting import until
from tests.redis_servers import needs_redis, redis_server

pytestmark = pytest.mark.anyio

SHARED = CACHED + redis_store() + "\n"


async def given(gw: Gateway, **asked: str) -> None:
    """Wait until a reply is stored: with a Redis the client does not wait for that."""
    assert await result(gw, None, **asked) == "miss"

    async def is_stored() -> bool:
        return await gw.metric("gateway_cache_requests_total", result="stored") > 0

    await until(is_stored)


@needs_redis
async def test_replicas_share_replies_and_a_purge_on_one_holds_on_the_other_at_once() -> None:
    """F116: with the mock at one address, as a provider is."""
    async with redis_server() as server, gateway(keyed(SHARED), {"REDIS_URL": server.url}) as one:
        config = keyed(SHARED).replace("MOCK_URL", one.mock.url)
        async with gateway(config, {"REDIS_URL": server.url}) as other:
            await given(one, key="ann")
            assert await result(other, key="ann") == "hit"
            assert await result(other, key="bob") == "miss"
            for purging, asking in ((one, other), (other, one)):
                receipt = (await purging.admin.delete("/admin/v1/cache", params={"key": "ann"})).json()
                assert (receipt["matched"], receipt["is_complete"]) == (1, True)
                assert await result(asking, key="ann") == "miss"
                await until(lambda asking=asking: _is_hit(asking))  # type: ignore[misc]


async def _is_hit(gw: Gateway) -> bool:
    return await result(gw, key="ann") == "hit"


@needs_redis
async def test_equal_requests_at_two_replicas_are_one_call() -> None:
    async with redis_server() as server, gateway(SHARED, {"REDIS_URL": server.url}) as one:
        config = SHARED.replace("MOCK_URL", one.mock.url)
        async with gateway(config, {"REDIS_URL": server.url}) as other:
            answers = await storm([one.address, other.address], 100, x_mock="latency=300ms")
            assert answers.outcomes == {"200": 100}
            assert len(await one.calls()) == 1


@needs_redis
async def test_without_its_redis_a_cache_is_a_miss_and_never_an_error() -> None:
    """F66, F67: and it comes back with it."""
    async with redis_server() as server:
        config = CACHED + redis_store("100ms") + "\n"
        async with gateway(config, {"REDIS_URL": server.url}) as gw:
            await given(gw)
            assert await result(gw) == "hit"
            server.kill()
            assert [await result(gw) for _ in range(5)] == ["bypass"] * 5
            answers = await storm([gw.address], 20, x_mock="latency=200ms")
            assert answers.outcomes == {"200": 20}, "equal requests of one process are one call all the same"
            assert len(await gw.calls()) == 7
            gone = await gw.admin.delete("/admin/v1/cache", params={"key": "open"})
            assert gone.status_code == 503
            assert "retry-after" in gone.headers
            await server.start()

            async def is_back() -> bool:
                return await result(gw) == "hit"

            await until(is_back, 8.0)


@needs_redis
async def test_a_gateway_that_starts_without_its_redis_serves() -> None:
    """F74."""
    async with redis_server() as server:
        server.kill()
        async with gateway(SHARED, {"REDIS_URL": server.url}) as gw:
            assert await result(gw) == "bypass"


async def test_a_purge_reaches_every_worker() -> None:
    """Each has replies of its own, in memory and in a file of its own."""
    async with serving(CACHED + "cache: {persist: true}\n", "--workers", "2") as gw:

        async def hits() -> bool:
            answers = [await gw.ask() for _ in range(8)]
            return all(each.headers["x-gateway-cache"] == "hit" for each in answers)

        await until(hits, 10.0)
        stored = await gw.metric("gateway_cache_requests_total", result="stored")
        assert stored == len(await gw.run.calls()) == 2
        receipt = await gw.admin.delete("/admin/v1/cache", params={"route": "demo"})
        assert (receipt.status_code, receipt.json()["matched"]) == (200, 2)

        async def asked_again() -> bool:
            await asyncio.gather(*[gw.ask() for _ in range(4)])
            return len(await gw.run.calls()) == 4

        await until(asked_again, 10.0)


async def test_the_command_line_purges() -> None:
    async with gateway(CACHED) as gw:
        assert [await result(gw) for _ in range(2)] == ["miss", "hit"]
        admin = f"http://{gw.served.admin.address[0]}:{gw.served.admin.address[1]}"
        done = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "cache", "purge", "--key", "open", "--admin", admin),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await done.communicate()
        assert done.returncode == 0
        assert b"matched: 1" in said
        answer: httpx.Response = await gw.client.post("/v1/chat/completions", json=CHAT)
        assert answer.headers["x-gateway-cache"] == "miss"


async def test_a_restart_keeps_what_is_to_persist_and_brings_nothing_back_that_was_purged(tmp_path: Path) -> None:
    mock = MockServer()
    await mock.start("127.0.0.1", 0)
    forgetting = CACHED.replace("MOCK_URL", mock.url).replace("drain: 5s", f"drain: 5s, state_dir: {tmp_path}")
    keeping = forgetting + "cache: {persist: true}\n"

    async def life(config: str, expected: str, *, purge: bool = False) -> None:
        async with serving(config) as gw:
            assert (await gw.ask()).headers["x-gateway-cache"] == expected
            if purge:
                assert (await gw.admin.delete("/admin/v1/cache", params={"route": "demo"})).status_code == 200
            gw.run.signal(signal.SIGTERM)
            assert await gw.run.ended() == 0

    try:
        for config, expected in ((forgetting, "miss"), (keeping, "miss"), (forgetting, "miss"), (keeping, "hit")):
            await life(config, expected)
        await life(keeping, "hit", purge=True)
        await life(keeping, "miss")
        assert (tmp_path / "gateway-cache.sqlite").stat().st_mode & 0o077 == 0
    finally:
        await mock.aclose()
