"""Lists of models in both dialects, and Azure's paths as a way in."""

import json
import time
from datetime import UTC, datetime

import pytest

from tests.gateway.harness import CHAT, PLAIN, gateway
from tests.gateway.raw import COMPLETION, reply, upstream

pytestmark = pytest.mark.anyio

ROUTES = PLAIN + "  - {model: org/small, target: mock}\n  - {model: 'gpt-*', target: mock}\n"


async def test_openai_clients_are_told_of_every_route_by_name() -> None:
    """Globs are no models; the time is the configuration's."""
    async with gateway(ROUTES) as gw:
        answer = (await gw.client.get("/v1/models")).json()
        assert answer["object"] == "list"
        assert [model["id"] for model in answer["data"]] == ["demo", "org/small"]
        assert all(set(model) == {"id", "object", "created", "owned_by"} for model in answer["data"])
        assert abs(answer["data"][0]["created"] - time.time()) < 60
        assert (await gw.client.get("/v1/models/demo")).json() == answer["data"][0]
        assert await gw.calls() == []


async def test_anthropic_clients_are_told_in_their_dialect() -> None:
    """Known by their version header."""
    version = {"anthropic-version": "2023-06-01"}
    async with gateway(ROUTES) as gw:
        answer = (await gw.client.get("/v1/models", headers=version)).json()
        assert (answer["has_more"], answer["first_id"], answer["last_id"]) == (False, "demo", "org/small")
        model = answer["data"][0]
        assert (model["type"], model["id"], model["display_name"]) == ("model", "demo", "demo")
        assert abs((datetime.fromisoformat(model["created_at"]) - datetime.now(UTC)).total_seconds()) < 60
        assert (await gw.client.get("/v1/models/demo", headers=version)).json() == model
        missing = await gw.client.get("/v1/models/none", headers=version)
        assert (missing.status_code, missing.json()["type"]) == (404, "error")
        assert missing.json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models/org/small", 200), ("/v1/models/org%2Fsmall", 200), ("/v1/models/gpt-any", 200),
        ("/v1/models/none", 404),
        ("/v1/models/org%252Fsmall", 404), ("/v1/models/gpt-%252e%252e", 200), ("/v1/models/../x", 404),
    ],
)  # fmt: skip
async def test_a_model_is_found_by_its_name_decoded_once(path: str, status: int) -> None:
    """F89: a name that is decoded twice is another name."""
    async with gateway(ROUTES) as gw:
        assert (await gw.client.get(path)).status_code == status


async def test_models_are_read_only() -> None:
    """F107."""
    async with gateway() as gw:
        for method in ("POST", "DELETE", "PUT"):
            answer = await gw.client.request(method, "/v1/models/demo")
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


async def test_azure_clients_name_the_model_in_the_path() -> None:
    """F138: the path's deployment wins; the body needs no model, and its own is overruled."""
    async with gateway() as gw:
        messages = {"messages": CHAT["messages"]}
        for body in (messages, messages | {"model": "else"}):
            path = "/openai/deployments/demo/chat/completions?api-version=2024-10-21"
            answer = await gw.client.post(path, json=body, headers={"api-key": "any"})
            assert answer.status_code == 200
            assert answer.headers["x-gateway-route"] == "demo"
            assert (await gw.calls())[-1]["model"] == "demo"
        streamed = await gw.client.post(path, json=messages | {"stream": True})
        assert streamed.text.endswith("data: [DONE]\n\n")
        embedded = await gw.client.post(
            "/openai/deployments/demo/embeddings?api-version=2024-10-21", json={"input": "hi"}
        )
        assert embedded.json()["data"][0]["embedding"]
        completed = await gw.client.post("/openai/deployments/demo/completions?api-version=x", json={"prompt": "hi"})
        assert completed.json()["object"] == "text_completion"
        missing = await gw.client.post("/openai/deployments/none/chat/completions", json=messages)
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
        assert {call["query"] for call in await gw.calls()} == {""}


async def test_azures_newer_paths_are_openais_own() -> None:
    """F138: below /openai/v1."""
    async with gateway(PLAIN.replace("drain: 5s", "drain: 5s, default_route: demo")) as gw:
        assert (await gw.client.post("/openai/v1/chat/completions", json=CHAT)).status_code == 200
        assert (await gw.client.get("/openai/v1/files")).status_code == 200


async def test_an_azure_target_is_addressed_by_deployment() -> None:
    """F138: api-version and api-key are the gateway's, the client's version wins when it sends one."""
    async with upstream(reply(COMPLETION, b"x-ms-region: East US 2", b"apim-request-id: a")) as azure:
        config = PLAIN.replace(
            "provider: mock, base_url: MOCK_URL}",
            f"provider: azure, base_url: {azure.url}, model: gpt-4.1, api_key: env:K}}",
        )
        async with gateway(config, {"K": "azure-key"}) as gw:
            answer = await gw.client.post("/v1/chat/completions", json=CHAT)
            assert answer.status_code == 200
            assert answer.headers["x-ms-region"] == "East US 2"
            line = azure.heads[-1].split(b"\r\n")[0]
            assert line == b"POST /openai/deployments/gpt-4.1/chat/completions?api-version=2024-10-21 HTTP/1.1"
            assert azure.header(b"api-key") == [b"azure-key"]
            assert azure.header(b"authorization") == []
            assert json.loads(azure.bodies[-1])["model"] == "gpt-4.1"
            path = "/openai/deployments/demo/chat/completions?api-version=2025-01-01-preview&x=/../y"
            assert (await gw.client.post(path, json=CHAT)).status_code == 200
            assert azure.heads[-1].split(b" ")[1].endswith(b"?api-version=2025-01-01-preview")
            odd = "/openai/deployments/demo/chat/completions?api-version=../../x"
            assert (await gw.client.post(odd, json=CHAT)).status_code == 200
            assert azure.heads[-1].split(b" ")[1].endswith(b"?api-version=2024-10-21")


async def test_an_anthropic_target_keeps_version_and_beta() -> None:
    """F138: as the client sent them, else the configured version."""
    message = (
        b'{"id":"m","type":"message","role":"assistant","model":"m","content":[],"stop_reason":"end_turn","usage":{}}'
    )
    async with upstream(reply(message)) as provider:
        config = PLAIN.replace(
            "provider: mock, base_url: MOCK_URL}", f"provider: anthropic, base_url: {provider.url}, api_key: env:K}}"
        )
        async with gateway(config, {"K": "anthropic-key"}) as gw:
            asked = {"model": "demo", "max_tokens": 5, "messages": CHAT["messages"]}
            assert (await gw.client.post("/v1/messages", json=asked)).status_code == 200
            assert provider.header(b"anthropic-version") == [b"2023-06-01"]
            assert provider.header(b"x-api-key") == [b"anthropic-key"]
            headers = {"anthropic-version": "2024-01-01", "anthropic-beta": "a,b", "x-api-key": "mine"}
            assert (await gw.client.post("/v1/messages", json=asked, headers=headers)).status_code == 200
            assert provider.header(b"anthropic-version") == [b"2024-01-01"]
            assert provider.header(b"anthropic-beta") == [b"a,b"]
            assert provider.header(b"x-api-key") == [b"anthropic-key"]
            wrong = await gw.client.post("/v1/chat/completions", json=CHAT)
            assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "dialect_not_supported")
