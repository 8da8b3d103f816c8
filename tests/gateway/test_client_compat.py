"""What applications build on: error shapes, ids, usage, waits, versions, and the official SDKs as they are."""

import json
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.gateway.calls import AZURE, CHATS, EVENT_STREAMS, MESSAGES, RESPONSES, WHOLE, Way, plain, settled
from tests.gateway.harness import CHAT, PLAIN, Gateway, gateway
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
KEYED = (
    PLAIN
    + """
keys:
  - {id: app, hash: "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", models: [demo]}
"""
)
ANTHROPIC_ONLY = PLAIN.replace("provider: mock", "provider: anthropic")
OPENAI_ONLY = PLAIN.replace("provider: mock, base_url: MOCK_URL", "provider: openai, base_url: MOCK_URL/v1")
AZURE_ONLY = PLAIN.replace("provider: mock", "provider: azure, model: gpt-4o")


def assert_error(way: Way, reply: httpx.Response) -> dict[str, Any]:
    """Assert the exact shape of the way's dialect; the error itself."""
    body = reply.json()
    if way.dialect == "anthropic":
        assert body.keys() == {"type", "error", "request_id"} and body["type"] == "error"
        assert body["error"].keys() == {"type", "message"}
        assert body["request_id"] == reply.headers["request-id"]
    else:
        assert body.keys() == {"error"}
        assert body["error"].keys() == {"message", "type", "param", "code"}
        assert isinstance(body["error"]["code"], str) and isinstance(body["error"]["type"], str)
    error: dict[str, Any] = body["error"]
    assert error["message"]
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]
    return error


@pytest.mark.parametrize("way", WHOLE, ids=str)
async def test_every_error_has_its_dialects_exact_shape(way: Way) -> None:
    """F133, F134: the gateway's own errors, from every stage a request passes."""
    auth = {"authorization": "Bearer foo"}
    bad = [
        (401, {}, way.body(stream=False)),
        (401, {"authorization": "Bearer bar"}, way.body(stream=False)),
        (400, auth, b"{"),
        (400, auth, b"[]"),
        (400, auth | {"x-gateway-timeout": "x"}, way.body(stream=False)),
        (415, auth | {"content-type": "text/plain"}, way.body(stream=False)),
        (403, auth, way.body(stream=False, model="else")),
        (502, auth | {"x-mock": "rst_after=0"}, way.body(stream=False)),
        (502, auth | {"x-mock": "status=401"}, way.body(stream=False)),
    ]
    async with gateway(KEYED) as gw:
        for status, headers, body in bad:
            if status == 403 and "deployments" in way.path:
                continue
            if status == 415 and way.name == "moderations":
                continue
            reply = await gw.client.post(way.path, content=body, headers=JSON | headers)
            assert reply.status_code == status, reply.text
            assert_error(way, reply)
        unknown = await gw.client.post("/v1/nothing", content=b"{}", headers=JSON | auth)
        assert unknown.status_code == 404 and assert_error(CHATS, unknown)["code"] == "not_found"
        method = await gw.client.get(way.path, headers=auth)
        assert method.status_code == 405 and method.headers["allow"] == "POST"
        await settled(gw)


@pytest.mark.parametrize("status", [400, 404, 408, 409, 413, 422, 429, 500, 503, 504, 529])
@pytest.mark.parametrize("way", [CHATS, RESPONSES, MESSAGES, AZURE], ids=str)
async def test_a_providers_error_keeps_status_and_body(way: Way, status: int) -> None:
    """F133: the provider's own words, when it speaks the client's dialect."""
    async with gateway() as gw:
        headers = JSON | {"x-mock": f"status={status}"}
        async with httpx.AsyncClient() as client:
            direct = await client.post(gw.mock.url + way.path, content=way.body(stream=True), headers=headers)
        reply = await gw.client.post(way.path, content=way.body(stream=True), headers=headers)
        assert reply.status_code == direct.status_code == status
        error, expected = reply.json(), direct.json()
        error.pop("request_id", None), expected.pop("request_id", None)
        assert error == expected


@pytest.mark.parametrize("way", WHOLE, ids=str)
async def test_every_reply_has_a_request_id(way: Way) -> None:
    """F134: the client's own, or a fresh one; the same in the log and at the admin plane, in both dialects' headers."""
    async with gateway() as gw:
        for sent in ({}, {"x-request-id": "my.id-1"}):
            reply = await gw.client.post(way.path, content=way.body(stream=way.can_stream), headers=JSON | sent)
            request_id = reply.headers["x-request-id"]
            assert request_id == sent.get("x-request-id", request_id)
            assert way.dialect == "openai" or reply.headers["request-id"] == request_id
            line = (await until(gw.requests))[-1]
            assert line["request_id"] == request_id
            trace = gw.mock.log.entries()[-1]["headers"]
            assert isinstance(trace, list)
            assert dict(trace)["traceparent"].split("-")[1] == line["trace_id"]
            why = (await gw.admin.get(f"/admin/v1/requests/{request_id}")).json()
            assert why["request_id"] == request_id
            assert reply.headers["x-gateway-route"] == "demo" and reply.headers["x-gateway-target"] == "mock"
            assert reply.headers["x-gateway-attempts"] == "1" and "gateway;dur=" in reply.headers["server-timing"]


def openai_sdk(gw: Gateway, order: str = "", key: str = "foo") -> openai.AsyncOpenAI:
    """The SDK as an application has it: another base URL and key, nothing else."""
    headers = {"x-mock": order} if order else {}
    return openai.AsyncOpenAI(base_url=gw.url + "/v1", api_key=key, max_retries=0, default_headers=headers)


async def test_the_openai_sdk_works_as_it_is() -> None:
    """F133 to F136: chat, stream, tools, vision, embeddings, responses, models, files."""
    async with gateway(KEYED) as gw, openai_sdk(gw) as sdk:
        chat = await sdk.chat.completions.create(model="demo", messages=[{"role": "user", "content": "hi"}])
        assert chat.choices[0].message.content and chat.usage and chat.usage.completion_tokens == 16
        assert chat._request_id and chat._request_id == gw.requests()[-1]["request_id"]
        text = ""
        usage = None
        async for chunk in await sdk.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
        ):
            usage = chunk.usage or usage
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
        assert text == chat.choices[0].message.content and usage and usage.completion_tokens == 16
        vectors = await sdk.embeddings.create(model="demo", input=["a", "b"])
        assert len(vectors.data) == 2
        response = await sdk.responses.create(model="demo", input="hi")
        assert response.output_text and response.status == "completed"
        kinds = [event.type async for event in await sdk.responses.create(model="demo", input="hi", stream=True)]
        assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
        assert [model.id async for model in sdk.models.list()] == ["demo"]
        assert (await sdk.models.retrieve("demo")).id == "demo"
        tools = await sdk.chat.completions.create(
            model="demo",
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "look"},
                        {"type": "image_url", "image_url": {"url": "https://images.example/a.png"}},
                    ],
                }
            ],
            tools=[{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
            tool_choice="required",
        )
        calls = tools.choices[0].message.tool_calls
        assert calls and calls[0].type == "function" and calls[0].function.name == "look"
        await settled(gw)


async def test_the_openai_sdk_understands_errors() -> None:
    """F133, F134: code, type, param and request id are set; the exception is the one an application catches."""
    asked: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
    async with gateway(KEYED) as gw:
        async with openai_sdk(gw, key="wrong") as sdk:
            with pytest.raises(openai.AuthenticationError) as unknown:
                await sdk.chat.completions.create(**asked)
        assert unknown.value.code == "invalid_api_key" and unknown.value.type and unknown.value.request_id
        async with openai_sdk(gw) as sdk:
            with pytest.raises(openai.PermissionDeniedError) as forbidden:
                await sdk.chat.completions.create(**asked | {"model": "else"})
            assert (forbidden.value.code, forbidden.value.param) == ("model_not_allowed", "model")
        async with openai_sdk(gw, "status=429,retry_after=2") as sdk:
            with pytest.raises(openai.RateLimitError) as limited:
                await sdk.chat.completions.create(**asked | {"stream": True})
            assert limited.value.code == "rate_limit_exceeded" and limited.value.request_id
        async with openai_sdk(gw, "rst_after=0") as sdk:
            with pytest.raises(openai.InternalServerError) as broken:
                await sdk.chat.completions.create(**asked)
            assert broken.value.code == "upstream_error" and broken.value.status_code == 502
            assert broken.value.request_id == gw.requests()[-1]["request_id"]


async def test_the_anthropic_sdk_works_as_it_is() -> None:
    """F133, F134, F138: messages, stream, token counts, errors."""
    ask: dict[str, Any] = {"model": "demo", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
    async with gateway(KEYED) as gw:
        async with anthropic.AsyncAnthropic(base_url=gw.url, api_key="foo", max_retries=0) as sdk:
            message = await sdk.messages.create(**ask)
            assert message.usage.output_tokens == 16 and message._request_id == gw.requests()[-1]["request_id"]
            async with sdk.messages.stream(**ask) as stream:
                text = "".join([piece async for piece in stream.text_stream])
                final = await stream.get_final_message()
            assert text == message.content[0].to_dict()["text"] and final.usage.output_tokens == 16
            counted = await sdk.messages.count_tokens(model="demo", messages=ask["messages"])
            assert counted.input_tokens == 1
            with pytest.raises(anthropic.PermissionDeniedError) as forbidden:
                await sdk.messages.create(**ask | {"model": "else"})
            assert forbidden.value.request_id == gw.requests()[-1]["request_id"]
        async with anthropic.AsyncAnthropic(base_url=gw.url, api_key="wrong", max_retries=0) as sdk:
            with pytest.raises(anthropic.AuthenticationError):
                await sdk.messages.create(**ask)
        await settled(gw)


async def test_the_azure_sdk_reaches_an_azure_target() -> None:
    """F138: deployments path both ways, `api-version` as the client says, the key as Azure wants it."""
    environ = {"AZURE_KEY": "upstream-secret"}
    config = KEYED.replace("provider: mock", "provider: azure, model: gpt-4o, api_key: env:AZURE_KEY")
    async with gateway(config, environ) as gw:
        async with openai.AsyncAzureOpenAI(
            azure_endpoint=gw.url, api_key="foo", api_version="2025-01-01-preview", max_retries=0
        ) as sdk:
            chat = await sdk.chat.completions.create(model="demo", messages=[{"role": "user", "content": "hi"}])
            assert chat.choices[0].message.content
            await sdk.embeddings.create(model="demo", input="hi")
        calls = gw.mock.log.entries()
        assert [(call["path"], call["query"]) for call in calls] == [
            ("/openai/deployments/gpt-4o/chat/completions", "api-version=2025-01-01-preview"),
            ("/openai/deployments/gpt-4o/embeddings", "api-version=2025-01-01-preview"),
        ]
        for call in calls:
            headers = dict(call["headers"])  # type: ignore[call-overload]
            assert headers["api-key"] == "upstream-secret" and "authorization" not in headers


async def test_azure_gets_a_version_when_the_client_names_none() -> None:
    """F138: from an OpenAI path to an Azure target; the configured version."""
    async with gateway(AZURE_ONLY.replace("model: gpt-4o", "model: gpt-4o, api_version: 2024-06-01")) as gw:
        assert (await gw.client.post(CHATS.path, json=CHAT)).status_code == 200
        call = gw.mock.log.entries()[0]
        assert (call["path"], call["query"]) == (
            "/openai/deployments/gpt-4o/chat/completions",
            "api-version=2024-06-01",
        )


async def test_anthropic_version_and_beta_reach_the_provider() -> None:
    """F138: as the client says; a version of the target's where it says none."""
    async with gateway(ANTHROPIC_ONLY) as gw:
        beta = {"anthropic-version": "2023-01-01", "anthropic-beta": "files-api-2025-04-14,x"}
        body = MESSAGES.body(stream=False)
        for headers in (JSON | beta, JSON):
            assert (await gw.client.post(MESSAGES.path, content=body, headers=headers)).status_code == 200
        first, second = (dict(call["headers"]) for call in await gw.calls())
        assert first["anthropic-version"] == "2023-01-01" and first["anthropic-beta"] == "files-api-2025-04-14,x"
        assert second["anthropic-version"] == "2023-06-01" and "anthropic-beta" not in second


async def test_openai_beta_and_idempotency_key_reach_the_provider() -> None:
    """F138."""
    async with gateway(OPENAI_ONLY) as gw:
        headers = {"openai-beta": "assistants=v2", "idempotency-key": "k-1"}
        assert (await gw.client.post(CHATS.path, json=CHAT, headers=headers)).status_code == 200
        seen = dict((await gw.calls())[0]["headers"])
        assert headers.items() <= seen.items()


@pytest.mark.parametrize("way", [CHATS, RESPONSES, MESSAGES], ids=str)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_target_of_another_dialect_is_a_clear_400(way: Way, stream: bool) -> None:
    """F133: until translation exists: names the target and both dialects, asks nobody."""
    async with gateway(OPENAI_ONLY if way is MESSAGES else ANTHROPIC_ONLY) as gw:
        reply = await gw.client.post(way.path, content=way.body(stream=stream), headers=JSON)
        assert reply.status_code == 400
        error = assert_error(way, reply)
        assert all(word in error["message"] for word in ("mock", "openai", "anthropic", "dialect"))
        assert way is MESSAGES or error["code"] == "dialect_not_supported"
        assert await gw.calls() == []
        assert (await until(gw.requests))[0]["outcome"] == "client_error"


@pytest.mark.parametrize(
    ("order", "seconds", "milliseconds"),
    [
        ("retry_after=2", 2, 2000),
        ("retry_after_ms=43", 1, 43),
        ("retry_after_ms=43,retry_after=7", 1, 43),
        ("retry_after=1.5", 2, 1500),
        ("retry_after=600", 60, 60_000),
        ("retry_after=1e9", 60, 60_000),
        ("retry_after=-5", 1, 1),
        ("retry_after=nan", 1, 1000),
        ("retry_after=soon", 1, 1000),
        ("retry_after=inf", 1, 1000),
        ("", 1, 1000),
    ],
)
@pytest.mark.parametrize("status", [429, 503, 529])
@pytest.mark.parametrize("way", [CHATS, MESSAGES], ids=str)
async def test_a_wait_is_passed_on_in_a_form_that_sdks_obey(
    way: Way, status: int, order: str, seconds: int, milliseconds: int
) -> None:
    """F27, F28, F29, F137: never more than 60 s, always there, and never nonsense."""
    async with gateway() as gw:
        headers = JSON | {"x-mock": f"status={status},{order}"}
        reply = await gw.client.post(way.path, content=way.body(stream=True), headers=headers)
        assert reply.status_code == status
        assert reply.headers.get_list("retry-after") == [str(seconds)]
        assert reply.headers.get_list("retry-after-ms") == [str(milliseconds)]
        assert len(gw.mock.log.entries()) == 1


async def test_a_wait_as_a_date_is_passed_on_as_seconds() -> None:
    """F27, F28."""
    async with gateway() as gw:
        reply = await gw.client.post(CHATS.path, json=CHAT, headers={"x-mock": "status=429,retry_date=30"})
        assert reply.status_code == 429 and 27 <= int(reply.headers["retry-after"]) <= 30


async def test_the_gateways_own_503_says_when_to_come_back() -> None:
    """F29: too many requests in flight; a target without its credential."""
    async with (
        gateway(plain(server="max_inflight: 1")) as gw,
        gw.client.stream("POST", CHATS.path, json=CHAT | {"stream": True}, headers={"x-mock": "gap=100"}),
    ):
        for way in (CHATS, MESSAGES):
            reply = await gw.client.post(way.path, content=way.body(stream=False), headers=JSON)
            assert reply.status_code == 503 and assert_error(way, reply)
            assert int(reply.headers["retry-after"]) >= 1 and int(reply.headers["retry-after-ms"]) >= 1
    async with gateway(plain(target="api_key: env:NOT_SET")) as gw:
        reply = await gw.client.post(CHATS.path, json=CHAT)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "no_healthy_target")
        assert int(reply.headers["retry-after"]) >= 1


@pytest.mark.parametrize("way", EVENT_STREAMS, ids=str)
async def test_unknown_members_of_a_request_reach_the_provider(way: Way) -> None:
    """F136, F103: what the gateway does not know it does not touch; only the model's name is rewritten."""
    odd = {"new": {"deep": [1, 2.50, None, "\u2028"]}, "zz": 1e-7}
    text = json.dumps(way.fields | {"stream": False} | odd, ensure_ascii=False, separators=(" ,", ": "))
    async with gateway(plain(target="model: other")) as gw:
        reply = await gw.client.post(way.path, content=text.encode(), headers=JSON)
        assert reply.status_code == 200
        call = gw.mock.log.entries()[0]
        assert call["model"] == "other"
        added = len(", ") + len('"model": "other"') if "model" not in way.fields else 1
        assert isinstance(call["body_bytes"], int)
        assert abs(call["body_bytes"] - len(text.encode()) - added) <= 2


async def test_retries_of_an_sdk_reach_the_provider_once_each() -> None:
    """F31, F137: the SDK's own retry, after the wait that was passed on, is the only one."""
    order = "seq=429|200,retry_after_ms=10"
    async with gateway() as gw, openai_sdk(gw, order).with_options(max_retries=2) as sdk:
        chat = await sdk.chat.completions.create(model="demo", messages=[{"role": "user", "content": "hi"}])
        assert chat.choices and len(gw.mock.log.entries()) == 2
