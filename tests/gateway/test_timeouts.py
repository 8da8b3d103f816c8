"""Every wait has its end: connect, first token, idle, total, and the client's own."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.gateway.calls import (
    AZURE,
    CHATS,
    EVENT_STREAMS,
    MESSAGES,
    RESPONSES,
    SPEECH,
    WHOLE,
    Way,
    events,
    form,
    plain,
    scripted,
    settled,
)
from tests.gateway.harness import CHAT, PLAIN, Gateway, gateway
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
SLACK_S = 0.5
"""How much later than its limit an answer may come (the failure modes' figure)."""


@asynccontextmanager
async def within(low_s: float, high_s: float) -> AsyncIterator[None]:
    """Assert that the scope takes so long."""
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    yield
    assert low_s <= loop.time() - start_s <= high_s


def code_of(way: Way, answer: dict[str, Any]) -> str:
    """The code of an error, the type in Anthropic's dialect."""
    error = answer.get("error", answer)
    return str(error["type"] if way.dialect == "anthropic" else error["code"])


async def asked(gw: Gateway, way: Way, order: str, *, stream: bool, **headers: str) -> httpx.Response:
    """The answer under the mock's `order`."""
    sent = JSON | {"x-mock": order} | {name.replace("_", "-"): value for name, value in headers.items()}
    return await gw.client.post(way.path, content=way.body(stream=stream), headers=sent)


async def ended(gw: Gateway, outcome: str, status: int) -> None:
    """Assert what the log says, and that upstream was closed and nothing is held."""
    line = (await until(gw.requests))[-1]
    assert (line["outcome"], line["status"]) == (outcome, status)
    assert await gw.metric("gateway_requests_total", outcome=outcome) == 1
    await settled(gw)
    assert all(call["closed_early"] for call in gw.mock.log.entries())


@pytest.mark.parametrize("transport", ["native", "httpx"])
@pytest.mark.parametrize("order", ["latency=60000", "ttfb=60000", "stall_after=0"])
@pytest.mark.parametrize("way", EVENT_STREAMS, ids=str)
async def test_a_stream_that_does_not_begin_is_a_504(way: Way, order: str, transport: str) -> None:
    """F14, F7: no head, or a head and no event, within `first_token`. With fallbacks another target would be next."""
    async with gateway(plain(target=f"transport: {transport}, timeouts: {{first_token: 150ms}}")) as gw:
        async with within(0.14, 0.15 + SLACK_S):
            reply = await asked(gw, way, order, stream=True)
        assert reply.status_code == 504
        assert code_of(way, reply.json()) == ("timeout_error" if way is MESSAGES else "upstream_timeout")
        await ended(gw, "upstream_timeout", 504)


@pytest.mark.parametrize("transport", ["native", "httpx"])
@pytest.mark.parametrize("way", EVENT_STREAMS, ids=str)
async def test_a_stream_that_falls_silent_ends_with_an_error_event(way: Way, transport: str) -> None:
    """F13: after the first token; not held for `total`, and what was sent is counted."""
    async with gateway(plain(target=f"transport: {transport}, timeouts: {{idle: 150ms}}")) as gw:
        async with within(0.14, 0.15 + SLACK_S):
            reply = await asked(gw, way, "stall_after=1", stream=True)
        assert reply.status_code == 200 and b"tok1" in reply.content
        last = events(reply.content)[-1]
        assert code_of(way, last) == ("timeout_error" if way is MESSAGES else "upstream_timeout")
        await ended(gw, "upstream_timeout", 200)
        assert gw.requests()[0]["output_tokens"] == 1


async def test_pings_keep_no_stream_from_its_first_token_limit() -> None:
    """F14: comments are no answer."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    config = plain(target="timeouts: {first_token: 100ms}").replace(
        "provider: mock, base_url: MOCK_URL", "provider: openai, base_url: UPSTREAM"
    )
    async with (
        scripted([head, *[b": ping\n\n"] * 5], keep_open=True) as upstream,
        gateway(config.replace("UPSTREAM", upstream.url + "/v1")) as gw,
    ):
        assert (await asked(gw, CHATS, "", stream=True)).status_code == 504


@pytest.mark.parametrize("way", EVENT_STREAMS, ids=str)
async def test_a_slow_but_living_stream_is_not_idle(way: Way) -> None:
    """F13: the limit is on a gap, not on the stream."""
    async with gateway(plain(target="timeouts: {idle: 200ms, first_token: 200ms}")) as gw:
        reply = await asked(gw, way, "tokens=10,gap=40", stream=True)
        assert b"tok10" in reply.content and b"upstream_timeout" not in reply.content
        assert (await until(gw.requests))[0]["outcome"] == "ok"


@pytest.mark.parametrize("way", EVENT_STREAMS, ids=str)
async def test_the_total_limit_ends_a_living_stream(way: Way) -> None:
    """F13: a stream without end."""
    async with gateway(plain(target="timeouts: {total: 200ms}")) as gw:
        async with within(0.19, 0.2 + SLACK_S):
            reply = await asked(gw, way, "tokens=10000,gap=20", stream=True)
        last = events(reply.content)[-1]
        assert code_of(way, last) == ("timeout_error" if way is MESSAGES else "upstream_timeout")
        await ended(gw, "upstream_timeout", 200)


@pytest.mark.parametrize("way", WHOLE, ids=str)
async def test_the_total_limit_ends_a_call_without_stream(way: Way) -> None:
    """F7, F4: on every route."""
    async with gateway(plain(target="timeouts: {total: 150ms}")) as gw:
        async with within(0.14, 0.15 + SLACK_S):
            reply = await asked(gw, way, "latency=60000", stream=False)
        assert reply.status_code == 504
        assert code_of(way, reply.json()) == ("timeout_error" if way.dialect == "anthropic" else "upstream_timeout")
        await ended(gw, "upstream_timeout", 504)


async def test_an_upload_and_a_download_have_their_limits_too() -> None:
    """F7, F4: relayed bodies; a download that has begun can only be cut."""
    headers, body = form()
    async with gateway(plain(target="timeouts: {total: 150ms, idle: 100ms}")) as gw:
        path = "/v1/audio/transcriptions"
        reply = await gw.client.post(path, content=body, headers=headers | {"x-mock": "latency=60000"})
        assert reply.status_code == 504
        with pytest.raises(httpx.RemoteProtocolError):
            await asked(gw, SPEECH, "stall_after=2", stream=False)
        await settled(gw)
        assert [line["outcome"] for line in gw.requests()] == ["upstream_timeout"] * 2


@asynccontextmanager
async def deaf() -> AsyncIterator[str]:
    """The URL of an upstream that never takes a connection: its queue is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = []
    for _ in range(4):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(listener.getsockname())
        waiting.append(client)
    host, port = listener.getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        for client in waiting:
            client.close()
        listener.close()


@pytest.mark.parametrize("transport", ["native", "httpx"])
@pytest.mark.parametrize("way", [CHATS, MESSAGES], ids=str)
async def test_an_upstream_that_takes_no_connection_is_a_504(way: Way, transport: str) -> None:
    """F7: the connect limit, not the system's two minutes."""
    async with deaf() as url:
        config = plain(target=f"transport: {transport}, timeouts: {{connect: 150ms}}").replace("MOCK_URL", url)
        async with gateway(config) as gw:
            async with within(0.14, 0.15 + SLACK_S):
                reply = await asked(gw, way, "", stream=True)
            assert reply.status_code == 504
            assert code_of(way, reply.json()) == ("timeout_error" if way is MESSAGES else "upstream_timeout")
            await settled(gw)


@pytest.mark.parametrize("transport", ["native", "httpx"])
@pytest.mark.parametrize("way", [CHATS, MESSAGES, RESPONSES, AZURE, SPEECH], ids=str)
async def test_an_upstream_that_is_not_there_is_a_502(way: Way, transport: str) -> None:
    """F7: refused; at once, in the client's dialect, with nothing of the address that only operators need."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with gateway(plain(target=f"transport: {transport}").replace("MOCK_URL", url)) as gw:
            async with within(0.0, SLACK_S):
                reply = await asked(gw, way, "", stream=True)
            assert reply.status_code == 502
            assert code_of(way, reply.json()) == ("api_error" if way is MESSAGES else "upstream_error")
            line = (await until(gw.requests))[0]
            assert (line["outcome"], line["attempts"]) == ("upstream_error", 1)
            await settled(gw)


async def test_waiting_for_a_free_connection_ends_with_the_connect_limit() -> None:
    """F29, F48: all connections are taken: 503 with a time to come back."""
    async with gateway(plain(target="max_connections: 1, timeouts: {connect: 100ms, total: 2s}")) as gw:
        stuck = asyncio.ensure_future(asked(gw, CHATS, "latency=800", stream=False))
        await until(lambda: gw.mock.stats.inflight == 1)
        async with within(0.09, 0.1 + SLACK_S):
            reply = await asked(gw, CHATS, "", stream=False)
        assert reply.status_code == 503 and reply.json()["error"]["code"] == "overloaded"
        assert int(reply.headers["retry-after"]) >= 1 and int(reply.headers["retry-after-ms"]) >= 1
        assert (await stuck).status_code == 200
        await settled(gw)


@pytest.mark.parametrize("order", ["latency=60000", "ttfb=60000", "stall_after=0"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("way", EVENT_STREAMS, ids=str)
async def test_the_clients_own_limit_is_a_408(way: Way, stream: bool, order: str) -> None:
    """F36: `x-gateway-timeout` shortens; whose time it was shows in status, code and outcome."""
    async with gateway() as gw:
        async with within(0.14, 0.15 + SLACK_S):
            reply = await asked(gw, way, order, stream=stream, x_gateway_timeout="150ms")
        assert reply.status_code == 408, reply.text
        assert code_of(way, reply.json()) == ("invalid_request_error" if way is MESSAGES else "deadline_exceeded")
        assert reply.headers["x-should-retry"] == "false"
        await ended(gw, "client_error", 408)
        assert await gw.metric("gateway_upstream_attempts_total", outcome="client_error") == 1


@pytest.mark.parametrize("way", EVENT_STREAMS, ids=str)
async def test_the_clients_own_limit_ends_a_stream_with_an_error_event(way: Way) -> None:
    """F36: the status was sent; the code says whose time is over."""
    async with gateway() as gw:
        async with within(0.19, 0.2 + SLACK_S):
            reply = await asked(gw, way, "tokens=10000,gap=20", stream=True, x_gateway_timeout="0.2s")
        last = events(reply.content)[-1]
        assert code_of(way, last) == ("invalid_request_error" if way is MESSAGES else "deadline_exceeded")
        assert "x-gateway-timeout" in json.dumps(last)
        await ended(gw, "client_error", 200)


async def test_the_clients_limit_only_shortens() -> None:
    """F36: a longer one leaves the target's."""
    async with gateway(plain(target="timeouts: {total: 150ms}")) as gw:
        reply = await asked(gw, CHATS, "latency=60000", stream=False, x_gateway_timeout="10m")
        assert (reply.status_code, reply.json()["error"]["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize("value", ["20", "0s", "-1s", "soon", "1e3s", "", "1d", "nan"])
async def test_a_limit_without_sense_is_a_400(value: str) -> None:
    """F36: a number without its unit, and other text; upstream is not asked."""
    async with gateway() as gw:
        reply = await asked(gw, CHATS, "", stream=False, x_gateway_timeout=value)
        assert reply.status_code == 400 and "x-gateway-timeout" in reply.json()["error"]["message"]
        assert await gw.calls() == []


async def test_a_second_target_is_not_asked_after_a_timeout() -> None:
    """F14, F31: no retry and no fallback is configured, so there is none."""
    config = PLAIN.replace("base_url: MOCK_URL}", "base_url: MOCK_URL, timeouts: {first_token: 50ms}}")
    async with gateway(config) as gw:
        assert (
            await gw.client.post(CHATS.path, json=CHAT | {"stream": True}, headers={"x-mock": "ttfb=60000"})
        ).status_code == 504
        assert len(gw.mock.log.entries()) == 1
