"""Copies of requests to another target: what is compared, and what becomes of them when their target is out."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.embedding_model import model_folder
from tests.gateway.harness import Gateway, gateway
from tests.gateway.resilience import ask, asked, config
from tests.gateway.spending import NUSD, quiet
from tests.gateway.waiting import until

__all__ = ["model_folder"]

pytestmark = pytest.mark.anyio

SHADOWED = "target: a, shadow: {target: b, sample: 100%}"
QUICK = "breaker: {consecutive: 2, open_for: 30s}"
FAQ = "  - {model: faq, target: a, cache: {exact: 1h, semantic: {mode: static}}}\n"
"""Another route, whose look-ups by similarity want an embedder."""
QUESTION = "Please tell me how to reset the password of my account, since I forgot it while I was on holiday."
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": QUESTION}]}),
    "messages": ("/v1/messages", {"max_tokens": 100, "messages": [{"role": "user", "content": QUESTION}]}),
    "responses": ("/v1/responses", {"input": QUESTION, "store": False}),
}


def measured(embedder: str, *, b: str = "tokens=30", route: str = FAQ) -> str:
    """Two targets, the first of which says what it is told, and what this makes of their replies' texts."""
    return config({"a": "echo", "b": b}, SHADOWED, f"cache: {{{embedder}}}") + route


async def compared(gw: Gateway, count: int = 1) -> list[dict[str, Any]]:
    """The log lines of so many comparisons."""
    await until(lambda: len(_told(gw)) >= count, 10.0)
    assert len(_told(gw)) == count
    return _told(gw)


def _told(gw: Gateway) -> list[dict[str, Any]]:
    return [line for line in gw.lines() if line["event"] == "shadow_compared"]


async def call(gw: Gateway, way: str, **more: Any) -> None:
    """One request that is answered."""
    path, fields = WAYS[way]
    reply = await gw.client.post(path, json={"model": "demo"} | fields | more)
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("way", WAYS)
async def test_how_far_two_replies_are_apart_is_measured_whole_and_streamed_alike(way: str, model_folder: Path) -> None:
    async with gateway(measured(f"model_dir: {model_folder}")) as gw:
        await call(gw, way)
        [whole] = await compared(gw)
        await call(gw, way, stream=True)
        [_, streamed] = await compared(gw, 2)
        assert whole["distance"] == streamed["distance"]
        assert 0.5 < whole["distance"] < 1.2
        assert await gw.metric("gateway_shadow_distance_count", route="demo", target="b") == 2
        assert await gw.metric("gateway_shadow_distance_bucket", target="b", le="0.4") == 0
        assert {call["path"] for call in await gw.calls()} == {WAYS[way][0]}


async def test_replies_that_say_the_same_have_no_distance_between_them(model_folder: Path) -> None:
    async with gateway(measured(f"model_dir: {model_folder}", b="echo,latency=50ms")) as gw:
        await call(gw, "chat")
        [line] = await compared(gw)
        assert line["distance"] == 0
        assert await gw.metric("gateway_shadow_distance_bucket", target="b", le="0.01") == 1


async def test_what_replies_say_is_neither_logged_nor_asked_of_the_embedder_of_clients(model_folder: Path) -> None:
    async with gateway(measured(f"model_dir: {model_folder}")) as gw:
        await call(gw, "chat")
        await compared(gw)
        assert "holiday" not in json.dumps(gw.lines()) and "tok1" not in json.dumps(gw.lines())
        assert await gw.metric("gateway_cache_embeddings_total") == 0


async def test_a_reply_that_calls_a_tool_or_fails_has_no_distance(model_folder: Path) -> None:
    async with gateway(measured(f"model_dir: {model_folder}", b="seq=200|500")) as gw:
        tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
        await call(gw, "chat", tools=[tool], tool_choice="required")
        await compared(gw)
        await call(gw, "chat")
        lines = await compared(gw, 2)
        assert [(line["result"], line["distance"]) for line in lines] == [("ok", None), ("error", None)]
        assert await gw.metric("gateway_shadow_distance_count") == 0


@pytest.mark.parametrize(
    ("embedder", "route"),
    [("model_dir: MODEL", ""), ("embedder: target:a, embed_timeout: 5s", FAQ), ("model_dir: /nowhere", FAQ)],
    ids=["no look-ups by similarity", "an embedder elsewhere", "no model"],
)
async def test_without_an_embedder_of_its_own_nothing_is_measured(embedder: str, route: str) -> None:
    """A shadow costs no embeddings."""
    async with gateway(measured(embedder, route=route)) as gw:
        for stream in (False, True):
            await call(gw, "chat", stream=stream)
        lines = await compared(gw, 2)
        assert [(line["result"], line["distance"]) for line in lines] == [("ok", None)] * 2
        assert await gw.metric("gateway_shadow_distance_count") == 0
        assert {call["path"] for call in await gw.calls()} == {"/v1/chat/completions"}


async def test_a_reload_that_ends_look_ups_by_similarity_ends_the_measuring(model_folder: Path) -> None:
    text = measured(f"model_dir: {model_folder}")
    async with gateway(text) as gw:
        await call(gw, "chat")
        assert (await compared(gw))[0]["distance"] is not None
        assert (await gw.reload(text.replace("mode: static", 'mode: "off"')))["changed"]
        await call(gw, "chat")
        assert (await compared(gw, 2))[1]["distance"] is None


def faults(gw: Gateway) -> list[dict[str, Any]]:
    """Log lines of what went wrong in the gateway itself: no request's own, and whatever has a traceback."""
    return [line for line in gw.lines() if _is_fault(line)]


def _is_fault(line: dict[str, Any]) -> bool:
    return "Traceback" in json.dumps(line) or (line["level"] == "error" and line["event"] != "request")


async def test_a_copy_to_a_target_whose_breaker_is_open_is_refused_and_nobody_notices() -> None:
    """Of whole replies and of streams; the breaker is that of a target which the route itself does not use."""
    targets = {"a": "", "b": f"status=500; {QUICK}"}
    async with gateway(config(targets, SHADOWED)) as gw:
        for number in range(5):
            reply = await ask(gw, stream=number % 2 == 1)
            assert (reply.status_code, reply.headers["x-gateway-target"]) == (200, "a")
            await compared(gw, number + 1)
        assert [line["result"] for line in await compared(gw, 5)] == ["error"] * 2 + ["refused"] * 3
        assert await gw.metric("gateway_shadow_requests_total", target="b", result="error") == 2
        assert await gw.metric("gateway_shadow_requests_total", target="b", result="refused") == 3
        assert await asked(gw) == {"a": 5, "b": 2}
        assert faults(gw) == []


PRICED = "; price: {request: $0.25}"
CHEAP = f"status=500; price: {{request: $0.01}}, {QUICK}"
PRESSED = "limits: [{name: money, budget: $1/month, pressure: [{at: 50%, downgrade_to: THERE}]}]\n"


async def test_a_cheaper_target_whose_breaker_is_open_is_refused_cleanly() -> None:
    """As any target that is out: told when to come again, and nothing stays on hold."""
    text = config({"a": PRICED, "c": CHEAP}, "target: a") + PRESSED.replace("THERE", "c")
    async with gateway(text) as gw:
        assert [(await ask(gw)).status_code for _ in range(4)] == [200, 200, 500, 500]
        for _ in range(3):
            reply = await ask(gw)
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "no_healthy_target")
            assert int(reply.headers["retry-after"]) >= 1
        assert await asked(gw) == {"a": 2, "c": 2}
        assert await quiet(gw.admin) == NUSD // 2
        assert faults(gw) == []


async def test_a_cheaper_route_whose_target_is_out_falls_over_as_it_does_for_its_own_clients() -> None:
    targets = {"a": PRICED, "c": CHEAP, "d": "; price: {request: $0.02}"}
    route = "  - {model: cheap, target: c, fallback: [d]}\n"
    text = config(targets, "target: a") + route + PRESSED.replace("THERE", "cheap")
    async with gateway(text) as gw:
        found = [(await ask(gw)).headers["x-gateway-target"] for _ in range(8)]
        assert found == ["a", "a"] + ["d"] * 6
        assert await asked(gw) == {"a": 2, "c": 2, "d": 6}
        assert faults(gw) == []
