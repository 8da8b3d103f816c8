"""Who gets which request: by weight, by what it sticks to, by a pin, by a tier, by load."""

import asyncio
from collections import Counter

import pytest

from tests.gateway.harness import Gateway, gateway
from tests.gateway.resilience import ask, asked, config, why

pytestmark = pytest.mark.anyio


async def test_a_split_is_by_weight() -> None:
    """F46: 2,000 at 90/10 lie within five standard deviations; the router's own test has 10,000 within a point."""
    async with gateway(config({"a": "", "b": ""}, "split: {a: 90, b: 10}")) as gw:
        for _ in range(20):
            await asyncio.gather(*(ask(gw) for _ in range(100)))
        share = (await asked(gw))["b"] / 2000
        assert abs(share - 0.10) < 5 * (0.1 * 0.9 / 2000) ** 0.5
        assert await gw.metric("gateway_split_weight", route="demo", target="a") == 90


async def test_a_conversation_keeps_its_target_and_only_those_move_who_must() -> None:
    """F46: over a change of weights."""
    before = config({"a": "", "b": ""}, "split: {a: 90, b: 10}, sticky: [header:x-conversation-id, key]")
    async with gateway(before) as gw:
        first = await _targets(gw, 150)
        assert await _targets(gw, 150) == first
        assert (await gw.reload(before.replace("a: 90, b: 10", "a: 70, b: 30")))["changed"]
        second = await _targets(gw, 150)
        assert all(second[each] == "b" for each in first if first[each] == "b")
        moved = sum(first[each] != second[each] for each in first)
        assert 0 < moved < 150 * 0.35


async def _targets(gw: Gateway, count: int) -> dict[str, str]:
    replies = await asyncio.gather(*(ask(gw, x_conversation_id=f"c{number}") for number in range(count)))
    return {f"c{number}": reply.headers["x-gateway-target"] for number, reply in enumerate(replies)}


async def test_a_pool_sends_work_to_the_idlest() -> None:
    async with gateway(config({"a": "", "b": ""}, "pool: [a, b], balance: least_inflight")) as gw:
        slow = [asyncio.ensure_future(ask(gw, x_mock="latency=400ms")) for _ in range(4)]
        while gw.mock.stats.inflight < 4:
            await asyncio.sleep(0.005)
        await asyncio.gather(*slow)
        assert sorted((await asked(gw)).values()) == [2, 2]


async def test_the_cheapest_of_a_pool_is_asked() -> None:
    targets = {"dear": "; price: {input: $5.00, output: $5.00}", "cheap": "; price: {input: $1.00, output: $1.00}"}
    async with gateway(config(targets, "pool: [dear, cheap], balance: cheapest")) as gw:
        for _ in range(5):
            await ask(gw)
        assert await asked(gw) == {"cheap": 5}


async def test_simple_requests_go_to_a_smaller_model_and_it_is_told_why() -> None:
    route = "target: large, tiers: [{to: small, when: {max_prompt_bytes: 200B, tools: false}}]"
    async with gateway(config({"large": "", "small": ""}, route)) as gw:
        short = await ask(gw)
        long = await ask(gw, body={"messages": [{"role": "user", "content": "x" * 300}]})
        tools = await ask(gw, body={"tools": [{"type": "function", "function": {"name": "f"}}]})
        found = [reply.headers["x-gateway-target"] for reply in (short, long, tools)]
        assert found == ["small", "large", "large"]
        assert any(step.startswith("tier: small") for step in await why(gw, short))


async def test_a_stateful_response_returns_to_the_target_that_made_it() -> None:
    async with gateway(config({"a": "", "b": ""}, "split: {a: 1, b: 1}")) as gw:
        for _ in range(6):
            made = await gw.client.post("/v1/responses", json={"model": "demo", "input": "hi"})
            after = await gw.client.post(
                "/v1/responses", json={"model": "demo", "input": "on", "previous_response_id": made.json()["id"]}
            )
            assert after.headers["x-gateway-target"] == made.headers["x-gateway-target"]


async def test_one_stalled_target_does_not_slow_another() -> None:
    """F48: forty calls hang at one; the other answers as before."""
    targets = {"a": "; max_inflight: 10, queue: {size: 5, wait: 100ms}", "b": ""}
    text = config(targets, "target: a") + "  - {model: other, target: b}\n"
    async with gateway(text) as gw:
        hanging = [asyncio.ensure_future(ask(gw, x_mock="latency=2s")) for _ in range(40)]
        while gw.mock.stats.inflight < 10:
            await asyncio.sleep(0.005)
        replies = await asyncio.gather(*(ask(gw, body={"model": "other"}) for _ in range(20)))
        assert {reply.status_code for reply in replies} == {200}
        answered = await asyncio.gather(*hanging)
        counts = Counter(reply.status_code for reply in answered)
        assert counts[200] == 10 and counts[503] == 30
        busy = next(reply for reply in answered if reply.status_code == 503)
        assert busy.json()["error"]["code"] == "overloaded" and int(busy.headers["retry-after"]) >= 1


async def test_a_slow_answer_is_hedged_and_the_loser_is_cancelled_and_billed() -> None:
    targets = {"a": "ttfb=5s; price: {request: $0.01}", "b": "; price: {request: $0.02}"}
    async with gateway(config(targets, "target: a, fallback: [b], hedge: {after: 50ms, max: 100%}")) as gw:
        reply = await ask(gw, stream=True)
        assert (reply.status_code, reply.headers["x-gateway-target"]) == (200, "b")
        assert await gw.metric("gateway_hedges_total", route="demo", result="won") == 1
        calls = {str(call["model"]).partition(":")[0]: call for call in await gw.calls()}
        assert calls["a"]["closed_early"] is True
        assert gw.requests()[-1]["cost_usd"] == 0.03


async def test_a_copy_goes_to_the_shadow_and_the_client_does_not_wait_for_it() -> None:
    targets = {"a": "", "b": "latency=300ms"}
    async with gateway(config(targets, "target: a, shadow: {target: b, sample: 100%}")) as gw:
        loop = asyncio.get_running_loop()
        began = loop.time()
        reply = await ask(gw)
        assert loop.time() - began < 0.25
        assert reply.headers["x-gateway-target"] == "a"
        while not await gw.metric("gateway_shadow_requests_total", result="ok"):
            await asyncio.sleep(0.02)
        assert await asked(gw) == {"a": 1, "b": 1}
        [told] = [line for line in gw.lines() if line["event"] == "shadow_compared"]
        assert told["target"] == "b"
        assert await gw.metric("gateway_requests_total", target="b") == 0
