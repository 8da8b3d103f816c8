"""Streams and replies that break: the client is told in its own dialect, and nothing counts as a success."""

import json
from contextlib import AsyncExitStack
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.gateway.calls import (
    AZURE,
    CHATS,
    EVENT_STREAMS,
    MESSAGES,
    RESPONSES,
    SPEECH,
    STREAMS,
    WHOLE,
    Way,
    events,
    frames,
    plain,
    request,
    scripted,
    settled,
    streamed,
    wire,
)
from tests.gateway.harness import CHAT, PLAIN, Gateway, gateway
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
SCRIPTED = PLAIN.replace("provider: mock, base_url: MOCK_URL", "provider: openai, base_url: UPSTREAM/v1")
TOKEN = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"tok1"},"finish_reason":null}]}\n\n'


async def asked(gw: Gateway, way: Way, order: str) -> bytes:
    """The body of a stream that begins well, under the mock's `order`."""
    reply = await gw.client.post(way.path, content=way.body(stream=True), headers=JSON | {"x-mock": order})
    assert reply.status_code == 200, reply.text
    return reply.content


async def ended(gw: Gateway, outcome: str) -> dict[str, Any]:
    """The request's log line; asserts that log and metrics say `outcome`, and that nothing is held."""
    line: dict[str, Any] = (await until(gw.requests))[-1]
    assert (line["status"], line["outcome"]) == (200, outcome)
    assert await gw.metric("gateway_requests_total", outcome=outcome) == 1
    assert await gw.metric("gateway_upstream_attempts_total", outcome=outcome) == 1
    await settled(gw)
    return line


def is_error(way: Way, event: dict[str, Any], code: str | None = None) -> bool:
    """Whether `event` is an error as the way's dialect words it, of the gateway's own making when `code` is given."""
    if way is RESPONSES:
        return (
            event["type"] == "error" and event.keys() >= {"code", "message", "param"} and code in (None, event["code"])
        )
    if way is MESSAGES:
        return bool(event["type"] == "error" and event["error"].keys() == {"type", "message"})
    error = event.get("error", {})
    return error.keys() == {"message", "type", "param", "code"} and code in (None, error["code"])


@pytest.mark.parametrize("way", EVENT_STREAMS, ids=str)
async def test_a_providers_error_event_is_passed_on_and_counted(way: Way) -> None:
    """F15, F17: status 200, a token, then an error; as it came, and the last thing in the stream."""
    async with gateway() as gw:
        body = await asked(gw, way, "error_after=1")
        found = events(body)
        assert is_error(way, found[-1]) and b"tok1" in body and b"[DONE]" not in body
        assert not any(is_error(way, event) for event in found[:-1] if "error" in event)
        if way.path.startswith("/v1/messages") or way is RESPONSES:
            assert frames(body)[-1].startswith(b"event: error\n")
        line = await ended(gw, "upstream_error")
        # Anthropic reports the first token as it begins.
        assert (line["output_tokens"], line["usage_source"]) == (1, "provider" if way is MESSAGES else "estimated")


@pytest.mark.parametrize("way", EVENT_STREAMS, ids=str)
async def test_a_stall_is_told_in_the_clients_dialect(way: Way) -> None:
    """F17, F13: an error of the gateway's own, after two tokens."""
    async with gateway(plain(target="timeouts: {idle: 100ms}")) as gw:
        body = await asked(gw, way, "stall_after=2")
        last = events(body)[-1]
        assert is_error(way, last, "upstream_timeout"), last
        line = await ended(gw, "upstream_timeout")
        if way is RESPONSES:
            numbers = [event["sequence_number"] for event in events(body)]
            assert numbers == list(range(len(numbers)))
        if way is MESSAGES:
            assert last["request_id"] == line["request_id"] and last["error"]["type"] == "timeout_error"
            assert frames(body)[-1].startswith(b"event: error\n")
        assert line["output_tokens"] == 2 and line["usage_source"] == "estimated"


@pytest.mark.parametrize(
    "order", ["rst_after=2", "split=20,rst_after=2", "split=1,crlf,rst_after=1", "eof_after=2", "eof_after=1,crlf"]
)
@pytest.mark.parametrize("way", EVENT_STREAMS, ids=str)
async def test_a_stream_that_stops_early_ends_with_an_error_event(way: Way, order: str) -> None:
    """F16, F18, F19: a reset, or a clean end without the last event; every frame is whole."""
    async with gateway() as gw:
        body = await asked(gw, way, order)
        found = events(body)
        assert is_error(way, found[-1], "upstream_error"), found[-1]
        assert b"tok1" in body and b"[DONE]" not in body
        line = await ended(gw, "truncated")
        assert line["output_tokens"] in (1, 2)


@pytest.mark.parametrize(
    "half", [b'data: {"id":"c","choices":[{"index":0,"delta":{"cont', b"data", b"data: {}\n", b"da\r"]
)
@pytest.mark.parametrize("cut", [True, False])
async def test_an_error_event_never_lands_inside_another(half: bytes, cut: bool) -> None:
    """F16: upstream breaks, or ends, in the middle of a frame; the piece of it is not passed on."""
    body = streamed(TOKEN + half, cut=cut)
    async with scripted([body]) as upstream, gateway(SCRIPTED.replace("UPSTREAM", upstream.url)) as gw:
        got = await asked(gw, CHATS, "")
        assert got.startswith(TOKEN)
        found = [frame for frame in frames(got) if b"error" in frame]
        assert len(found) == 1 and json.loads(found[0].removeprefix(b"data: "))["error"]["code"] == "upstream_error"
        assert frames(got)[-1] == found[0]
        await ended(gw, "truncated")


async def test_a_break_after_the_last_event_cuts_nothing() -> None:
    """F18, F19: whoever saw the finish reason has the whole answer."""
    last = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    body = streamed(TOKEN + last, cut=True)
    async with scripted([body]) as upstream, gateway(SCRIPTED.replace("UPSTREAM", upstream.url)) as gw:
        assert await asked(gw, CHATS, "") == TOKEN + last + b"data: [DONE]\n\n"
        await ended(gw, "ok")


async def test_one_of_two_choices_without_its_end_is_truncated() -> None:
    """F18: each choice has its own finish reason."""
    order = {"n": 2, "stream": True}
    last = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    body = streamed(TOKEN + TOKEN.replace(b'"index":0', b'"index":1') + last)
    async with scripted([body]) as upstream, gateway(SCRIPTED.replace("UPSTREAM", upstream.url)) as gw:
        reply = await gw.client.post(CHATS.path, json=CHAT | order)
        assert is_error(CHATS, events(reply.content)[-1])
        await ended(gw, "truncated")


@pytest.mark.parametrize("order", ["rst_after=2", "eof_after=0", "stall_after=2"])
async def test_a_download_that_stops_early_is_cut(order: str) -> None:
    """F19: no dialect has a word for an error inside a file, and the chunked body must not end as if it were whole."""
    async with gateway(plain(target="timeouts: {idle: 100ms}")) as gw, wire(gw) as client:
        await client.post(SPEECH, x_mock=order + ",tokens=8")
        if order == "eof_after=0":
            # The mock ends such a body well: bytes have no last event, so nothing is missing.
            await client.until(b"\r\n0\r\n\r\n")
        else:
            with pytest.raises((EOFError, ConnectionError)):
                await client.until(b"\r\n0\r\n\r\n")
            await until(gw.requests)
            await ended(gw, "truncated" if order == "rst_after=2" else "upstream_timeout")


@pytest.mark.parametrize(
    ("order", "openai_status", "anthropic_status"),
    [
        ("error_after=0", 502, 529),
        ("event_error", 502, 529),
        ("error_after=0,status=429", 429, 429),
        ("error_after=0,status=529", 503, 529),
        ("error_after=0,status=401", 502, 502),
    ],
)
@pytest.mark.parametrize("way", [CHATS, RESPONSES, MESSAGES, AZURE], ids=str)
async def test_an_error_as_the_first_event_has_a_status_of_its_own(
    way: Way, order: str, openai_status: int, anthropic_status: int
) -> None:
    """F26, F15: nothing was sent yet, so the client gets an HTTP error and another target could be tried.

    OpenAI has no 529: its word for overload means 503. An error without a status of its own is a 502.
    """
    async with gateway() as gw:
        headers = JSON | {"x-mock": order + ",comment"}
        reply = await gw.client.post(way.path, content=way.body(stream=True), headers=headers)
        assert reply.status_code == (anthropic_status if way is MESSAGES else openai_status), reply.text
        assert reply.headers["content-type"] == "application/json"
        assert is_error(MESSAGES if way is MESSAGES else CHATS, reply.json()), reply.text
        if reply.status_code in (429, 503, 529):
            assert int(reply.headers["retry-after"]) >= 1
        # A provider's words about the gateway's own account may quote its credential.
        assert "API key" not in reply.text and "x-api-key" not in reply.text
        line = (await until(gw.requests))[0]
        assert line["status"] == reply.status_code and line["outcome"] == "upstream_error"
        assert line["output_tokens"] is None
        assert await gw.metric("gateway_upstream_attempts_total", outcome="upstream_error") == 1
        await settled(gw)


REFUSED = b'{"error":{"type":"authentication_error","code":"e17","message":"bad key sk-canary-1"}}'


@pytest.mark.parametrize("sent", ["the body", "the first event", "a later event"])
async def test_an_error_about_the_gateways_account_keeps_the_providers_words_here(sent: str) -> None:
    """F42, F114: in a reply of status 200 too; the text may quote the target's credential."""
    event = b"data: " + REFUSED + b"\n\n"
    answer = {
        "the body": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (len(REFUSED), REFUSED),
        "the first event": streamed(event),
        "a later event": streamed(TOKEN + event),
    }[sent]
    async with (
        scripted([answer]) as upstream,
        gateway(SCRIPTED.replace("UPSTREAM", upstream.url)) as gw,
    ):
        reply = await gw.client.post(CHATS.path, json=CHAT | {"stream": sent != "the body"})
        begun = sent == "a later event"
        assert reply.status_code == (200 if begun else 502)
        assert (b"tok1" in reply.content) is begun
        error = (events(reply.content)[-1] if begun else reply.json())["error"]
        assert (error["code"], error["type"]) == ("upstream_error", "server_error")
        assert "refused the gateway's own credential" in error["message"]
        assert "canary" not in reply.text
        line = (await until(gw.requests))[-1]
        assert line["outcome"] == "upstream_error"
        assert "canary" not in json.dumps(line)
        await settled(gw)


@pytest.mark.parametrize("way", EVENT_STREAMS, ids=str)
async def test_nothing_is_tried_again_once_tokens_were_sent(way: Way) -> None:
    """F25, F31: three tokens and an error; upstream was asked once."""
    async with gateway() as gw:
        body = await asked(gw, way, "error_after=3")
        assert b"tok3" in body and b"tok4" not in body and body.count(b"tok1") == 1
        assert len(await gw.calls()) == 1
        await settled(gw)


@pytest.mark.parametrize(
    "order", ["rst_after=0", "status=500", "status=503", "status=429", "eof_after=0", "rst_after=1"]
)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("way", STREAMS, ids=str)
async def test_a_request_is_never_sent_twice(way: Way, stream: bool, order: str) -> None:
    """F31: whatever happens to it."""
    async with gateway() as gw:
        headers = JSON | {"x-mock": order}
        try:
            await gw.client.post(way.path, content=way.body(stream=stream), headers=headers)
        except httpx.RemoteProtocolError:
            # A download that broke is cut: it has no other way to say so.
            assert way is SPEECH
        assert len(gw.mock.log.entries()) == 1
        await settled(gw)


async def test_a_request_is_not_sent_again_when_a_kept_connection_closes_under_it() -> None:
    """F31: upstream closes an idle connection at the moment it is used; what it did with the request is unknown."""
    last = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    async with (
        scripted([streamed(last)], keep_open=True) as upstream,
        gateway(
            SCRIPTED.replace("UPSTREAM", upstream.url).replace("base_url", "timeouts: {first_token: 100ms}, base_url")
        ) as gw,
    ):
        assert (await gw.client.post(CHATS.path, json=CHAT | {"stream": True})).status_code == 200
        # The scripted upstream answers a connection's first request only.
        assert (await gw.client.post(CHATS.path, json=CHAT | {"stream": True})).status_code == 504
        assert len(upstream.requests) == 1
        await settled(gw)


@pytest.mark.parametrize("way", WHOLE, ids=str)
async def test_an_overloaded_provider_is_an_error(way: Way) -> None:
    """F42: 529, with the wait that SDKs look for."""
    async with gateway() as gw:
        headers = JSON | {"x-mock": "status=529"}
        reply = await gw.client.post(way.path, content=way.body(stream=False), headers=headers)
        assert reply.status_code == 529 and is_error(MESSAGES if way.dialect == "anthropic" else CHATS, reply.json())
        assert int(reply.headers["retry-after"]) >= 1 and int(reply.headers["retry-after-ms"]) >= 1
        assert (await until(gw.requests))[0]["outcome"] == "upstream_error"
        assert await gw.metric("gateway_upstream_attempts_total", outcome="upstream_error") == 1


@pytest.mark.parametrize("way", [way for way in WHOLE if way.name != "moderations"], ids=str)
async def test_an_error_in_a_200_is_an_error(way: Way) -> None:
    """F42: JSON that says error under a status that says success."""
    async with gateway() as gw:
        headers = JSON | {"x-mock": "error_after=0,status=503"}
        reply = await gw.client.post(way.path, content=way.body(stream=False), headers=headers)
        assert reply.status_code >= 500, reply.text
        assert is_error(MESSAGES if way.dialect == "anthropic" else CHATS, reply.json())
        assert (await until(gw.requests))[0]["outcome"] == "upstream_error"


@pytest.mark.parametrize("order", ["status=502,html", "status=500,html", "status=200,html", "html", "status=404,html"])
@pytest.mark.parametrize("way", [way for way in WHOLE if way.name != "moderations"], ids=str)
async def test_html_of_a_middle_box_becomes_a_json_502(way: Way, order: str) -> None:
    """F43: the original status is kept in the record of attempts."""
    async with gateway() as gw:
        for stream in {way.can_stream, False}:
            reply = await gw.client.post(way.path, content=way.body(stream=stream), headers=JSON | {"x-mock": order})
            assert reply.status_code == 502, reply.text
            assert is_error(MESSAGES if way.dialect == "anthropic" else CHATS, reply.json(), "upstream_error")
            assert "<" not in reply.text
        why = (await gw.admin.get(f"/admin/v1/requests/{reply.headers['x-request-id']}")).json()
        status = int(order[7:10]) if order.startswith("status") else 200
        assert [attempt["status"] for attempt in why["upstream_attempts"]] == [status], why
        await settled(gw)


async def test_an_empty_or_broken_body_becomes_a_json_502() -> None:
    """F43: a 200 with half a document."""
    async with gateway() as gw:
        for order in ("badjson_after=0", "badjson_after=1"):
            reply = await gw.client.post(CHATS.path, json=CHAT, headers={"x-mock": order})
            assert reply.status_code == 502 and is_error(CHATS, reply.json(), "upstream_error")


@pytest.mark.parametrize(
    "raw", [b"", b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\n"]
)
async def test_an_upstream_that_does_not_speak_http_is_a_json_502(raw: bytes) -> None:
    """F43: nothing, an empty 502, another protocol, half a head."""
    async with scripted([raw]) as upstream, gateway(SCRIPTED.replace("UPSTREAM", upstream.url)) as gw:
        for stream in (True, False):
            reply = await gw.client.post(CHATS.path, json=CHAT | {"stream": stream})
            assert reply.status_code == 502 and is_error(CHATS, reply.json(), "upstream_error"), reply.text
        await settled(gw)


async def test_a_dead_upstream_holds_up_nobody_else() -> None:
    """F48: a hundred calls stall on one target, beyond its connections; the other one answers as ever."""
    config = (
        PLAIN.replace("targets:\n", "targets:\n  dead: {provider: mock, base_url: MOCK_URL, max_connections: 50}\n")
        + "  - {model: stuck, target: dead}\n"
    )
    async with gateway(config) as gw, AsyncExitStack() as clients:
        body = json.dumps(CHAT | {"model": "stuck"}).encode()
        for _ in range(100):
            client = await clients.enter_async_context(wire(gw))
            client.writer.write(request(CHATS.path, body, x_mock="latency=60000"))
        await until(lambda: gw.mock.stats.inflight == 50)
        await until(lambda: len(gw.served.process.running.inflight) == 100)
        assert await gw.metric("gateway_upstream_connections", target="dead", state="waiting") == 50
        for _ in range(50):
            reply = await gw.client.post(CHATS.path, json=CHAT)
            assert reply.status_code == 200 and reply.elapsed.total_seconds() < 0.5
        await clients.aclose()
        await settled(gw)


@pytest.mark.parametrize("order", ["error_after=1", "eof_after=1", "rst_after=1", "stall_after=1"])
async def test_the_openai_sdk_raises_on_a_broken_stream(order: str) -> None:
    """F15, F17, F18, F19: an application sees an exception, not a short answer."""
    async with (
        gateway(plain(target="timeouts: {idle: 100ms}")) as gw,
        openai.AsyncOpenAI(
            base_url=gw.url + "/v1", api_key="k", max_retries=0, default_headers={"x-mock": order}
        ) as sdk,
    ):
        with pytest.raises(openai.APIError) as chat:
            async for _ in await sdk.chat.completions.create(
                model="demo", messages=[{"role": "user", "content": "hi"}], stream=True
            ):
                pass
        assert chat.value.message
        # The SDK hands the error event of this API to the application as an event.
        try:
            kinds = [event.type async for event in await sdk.responses.create(model="demo", input="hi", stream=True)]
        except openai.APIError:
            kinds = ["error"]
        assert kinds[-1] == "error"


@pytest.mark.parametrize("order", ["error_after=1", "eof_after=1", "rst_after=1", "stall_after=1"])
async def test_the_anthropic_sdk_raises_on_a_broken_stream(order: str) -> None:
    """F15, F17, F18, F19."""
    async with (
        gateway(plain(target="timeouts: {idle: 100ms}")) as gw,
        anthropic.AsyncAnthropic(base_url=gw.url, api_key="k", max_retries=0, default_headers={"x-mock": order}) as sdk,
    ):
        with pytest.raises(anthropic.APIError):
            async for _ in await sdk.messages.create(
                model="demo", max_tokens=100, messages=[{"role": "user", "content": "hi"}], stream=True
            ):
                pass
