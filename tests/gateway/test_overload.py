"""More than the gateway can take: the least important is turned away first, and what is taken is served."""

import asyncio
import hashlib
from collections import Counter

import pytest

from tests.gateway.harness import gateway
from tests.gateway.resilience import ask, config, why
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio


def _key(name: str, priority: str) -> str:
    digest = hashlib.sha256(f"{name}-key".encode()).hexdigest()
    return f'  - {{id: {name}, hash: "sha256:{digest}", priority: {priority}}}'


KEYS = "keys:\n" + "\n".join(_key(name, name) for name in ("low", "normal", "high"))


async def test_the_least_important_is_turned_away_first() -> None:
    """Of 40 places, a fifth is kept for `high`; `low` is the first to wait outside."""
    text = config({"a": ""}, "target: a", KEYS).replace(
        "drain: 5s", "drain: 5s, max_inflight: 40, overload: {reserve_high: 20%}"
    )
    async with gateway(text) as gw:

        async def send(name: str, mock: str) -> int:
            return (await ask(gw, authorization=f"Bearer {name}-key", x_mock=mock)).status_code

        held = [asyncio.ensure_future(send("high", "latency=1500ms")) for _ in range(36)]
        await until(lambda: gw.mock.stats.inflight == 36)
        # 36 of 40: `low` is out, of `normal` hardly any gets in, `high` has its places.
        low = Counter([await send("low", "tokens=1") for _ in range(10)])
        high = Counter([await send("high", "tokens=1") for _ in range(10)])
        assert low == {503: 10}
        assert high == {200: 10}
        assert Counter(await asyncio.gather(*held)) == {200: 36}
        assert await send("low", "tokens=1") == 200


async def test_once_high_found_a_target_full_a_place_is_kept_free_for_it() -> None:
    """Of five places one: `normal` gets four from then on, and `high` does not have to wait for a reply to end."""
    text = config({"a": "; max_inflight: 5, queue: {size: 0}"}, "target: a", KEYS)
    async with gateway(text) as gw:

        async def send(name: str, mock: str = "tokens=1") -> int:
            return (await ask(gw, authorization=f"Bearer {name}-key", x_mock=mock)).status_code

        async def hold(count: int, latency: str) -> list[asyncio.Task[int]]:
            held = [asyncio.ensure_future(send("normal", latency)) for _ in range(count)]
            await until(lambda: gw.mock.stats.inflight == count)
            return held

        held = await hold(5, "latency=500ms")
        assert await send("high") == 503
        assert await asyncio.gather(*held) == [200] * 5
        held = await hold(4, "latency=1500ms")
        reply = await ask(gw, authorization="Bearer normal-key")
        assert reply.status_code == 503
        assert "4 in flight, 1 kept for high priority, and its queue is full" in " ".join(await why(gw, reply))
        assert await send("high") == 200
        assert await asyncio.gather(*held) == [200] * 4


async def test_a_refusal_says_when_to_come_back() -> None:
    """F29."""
    text = config({"a": ""}, "target: a, priority: low").replace("drain: 5s", "drain: 5s, max_inflight: 4")
    async with gateway(text) as gw:
        held = [asyncio.ensure_future(ask(gw, x_mock="latency=500ms")) for _ in range(3)]
        await until(lambda: gw.mock.stats.inflight >= 2)
        replies = [await ask(gw) for _ in range(6)]
        refused = [reply for reply in replies if reply.status_code == 503]
        assert refused
        assert {reply.json()["error"]["code"] for reply in refused} == {"overloaded"}
        assert all(int(reply.headers["retry-after"]) >= 1 for reply in refused)
        assert (await gw.client.get("/livez")).status_code == 200
        await asyncio.gather(*held)
