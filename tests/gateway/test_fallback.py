"""Another target when the first cannot answer; never once the answer has begun."""

import asyncio
import json
import time

import pytest

from tests.gateway.calls import events
from tests.gateway.harness import gateway
from tests.gateway.resilience import ask, asked, config, why

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("directives", "reason"),
    [
        ("status=500", "5xx"),
        ("status=529", "5xx"),
        ("status=503", "5xx"),
        ("status=502,html", "5xx"),
        ("status=429,retry_after=30", "429"),
        ("status=401", "account"),
        ("status=402", "account"),
        ("status=403", "account"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_target_that_refuses_is_left_for_the_next(directives: str, reason: str, stream: bool) -> None:
    """F37, F42, F43."""
    async with gateway(config({"a": f"{directives}; breaker: off", "b": ""}, "target: a, fallback: [b]")) as gw:
        reply = await ask(gw, stream=stream)
        assert (reply.status_code, reply.headers["x-gateway-target"]) == (200, "b")
        assert reply.headers["x-gateway-attempts"] == "2"
        assert await asked(gw) == {"a": 1, "b": 1}
        assert await gw.metric("gateway_fallbacks_total", **{"from": "a", "to": "b", "reason": reason}) == 1
        assert any(step.startswith("fallback: ") for step in await why(gw, reply))
        assert gw.requests()[-1]["attempts"] == 2


@pytest.mark.parametrize("directives", ["rst_after=0", "eof_after=0"])
async def test_a_connection_that_breaks_before_the_answer_falls_over(directives: str) -> None:
    async with gateway(config({"a": f"{directives}; breaker: off", "b": ""}, "target: a, fallback: [b]")) as gw:
        for stream in (False, True):
            reply = await ask(gw, stream=stream)
            assert (reply.status_code, reply.headers["x-gateway-target"]) == (200, "b"), stream


async def test_a_target_that_nobody_listens_at_falls_over() -> None:
    text = config({"a": "", "b": ""}, "target: a, fallback: [b]").replace(
        "a: {provider: mock, base_url: MOCK_URL", 'a: {provider: mock, base_url: "http://127.0.0.1:1"'
    )
    async with gateway(text) as gw:
        reply = await ask(gw)
        assert (reply.status_code, reply.headers["x-gateway-target"]) == (200, "b")
        assert await gw.metric("gateway_fallbacks_total", reason="connect") == 1


async def test_silence_before_the_first_token_falls_over() -> None:
    """F14."""
    slow = "ttfb=60000; breaker: off, timeouts: {first_token: 150ms}"
    async with gateway(config({"a": slow, "b": ""}, "target: a, fallback: [b]")) as gw:
        began = time.monotonic()
        reply = await ask(gw, stream=True)
        assert (reply.status_code, reply.headers["x-gateway-target"]) == (200, "b")
        assert time.monotonic() - began < 1.15


async def test_an_error_as_the_first_event_falls_over() -> None:
    """F26."""
    async with gateway(config({"a": "error_after=0; breaker: off", "b": ""}, "target: a, fallback: [b]")) as gw:
        reply = await ask(gw, stream=True)
        assert (reply.status_code, reply.headers["x-gateway-target"]) == (200, "b")
        assert b"error" not in reply.content


async def test_after_the_first_token_nobody_else_is_asked() -> None:
    """F25."""
    async with gateway(config({"a": "error_after=3; breaker: off", "b": ""}, "target: a, fallback: [b]")) as gw:
        reply = await ask(gw, stream=True)
        found = events(reply.content)
        texts = [each["choices"][0]["delta"].get("content") for each in found if each.get("choices")]
        assert [text for text in texts if text] == ["tok1", " tok2", " tok3"]
        assert "error" in found[-1]
        assert await asked(gw) == {"a": 1}


async def test_no_target_is_asked_twice_and_all_share_one_deadline() -> None:
    """F44: a, b and c stall; the answer comes when the time of the first is over."""
    slow = "ttfb=60000; breaker: off, timeouts: {first_token: 5s, total: 400ms}"
    text = config({"a": slow, "b": slow, "c": slow}, "target: a, fallback: [b, c, b, a]".replace(", b, a]", "]"))
    async with gateway(text) as gw:
        began = time.monotonic()
        reply = await ask(gw, stream=True)
        assert reply.status_code == 504
        assert time.monotonic() - began < 0.9
        assert max((await asked(gw)).values()) == 1


async def test_when_nobody_answers_the_client_is_told_of_what_it_asked_for() -> None:
    text = config({"a": "status=503; breaker: off", "b": "status=500; breaker: off"}, "target: a, fallback: [b]")
    async with gateway(text) as gw:
        reply = await ask(gw)
        assert reply.status_code == 503
        assert reply.headers["retry-after"].isdigit()
        assert await asked(gw) == {"a": 1, "b": 1}


async def test_a_prompt_too_long_goes_to_the_larger_model() -> None:
    """`context_overflow`: a provider's 400 is looked at before it is passed on."""
    refusal = json.dumps(
        {
            "error": {
                "message": "too long",
                "type": "invalid_request_error",
                "param": None,
                "code": "context_length_exceeded",
            }
        }
    ).encode()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(refusal)}\r\n\r\n"
        writer.write(head.encode() + refusal)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    text = config({"a": "", "b": ""}, "target: a, fallback: [{to: b, when: [context_overflow]}]").replace(
        "a: {provider: mock, base_url: MOCK_URL", f'a: {{provider: openai, base_url: "http://127.0.0.1:{port}/v1"'
    )
    async with server, gateway(text) as gw:
        reply = await ask(gw)
        assert (reply.status_code, reply.headers["x-gateway-target"]) == (200, "b")
        assert await gw.metric("gateway_fallbacks_total", reason="context_overflow") == 1


async def test_what_is_not_named_is_not_fallen_over_for() -> None:
    text = config({"a": "status=429; breaker: off", "b": ""}, "target: a, fallback: [{to: b, when: [connect]}]")
    async with gateway(text) as gw:
        assert (await ask(gw)).status_code == 429
        assert await asked(gw) == {"a": 1}


async def test_a_clients_own_fault_is_nobody_elses_work() -> None:
    """F36."""
    async with gateway(config({"a": "status=400", "b": ""}, "target: a, fallback: [b]")) as gw:
        for _ in range(20):
            assert (await ask(gw)).status_code == 400
        assert await asked(gw) == {"a": 20}
        assert await gw.metric("gateway_breaker_state", target="a") == 0
