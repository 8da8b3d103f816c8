"""What an attacker would try: steering the gateway, its hosts, its admin plane, redirects, loops."""

import json
from typing import Any

import pytest

from tests.gateway.harness import CHAT, PLAIN, gateway
from tests.gateway.raw import COMPLETION, reply, say, upstream
from tests.gateway.test_auth import KEYED, MAIN, bearer
from tests.gateway.test_http_edge import to

pytestmark = pytest.mark.anyio

TOKEN = "admin-token-0123456789"
GUARDED = PLAIN.replace("drain: 5s", "drain: 5s, admin_token: env:ADMIN_TOKEN")
ENVIRON = {"ADMIN_TOKEN": TOKEN}


async def test_no_request_chooses_where_it_goes() -> None:
    """F106: by no field, header or query; a listener that must not be reached stays alone."""
    async with upstream(reply(COMPLETION)) as canary, gateway() as gw:
        names = [
            "base_url", "api_base", "endpoint", "url", "host", "custom_host", "proxy", "x-forwarded-host", "forwarded",
            "x-gateway-base-url", "x-portkey-custom-host", "x-original-url", "x-rewrite-url", "x-forwarded-server",
            "x-gateway-targets", "helicone-target-url", "openai-base-url",
        ]  # fmt: skip
        fields: dict[str, Any] = dict.fromkeys(names, canary.url)
        nested = {"extra_body": fields, "metadata": fields, "litellm_params": fields, "model_config": fields} | fields
        headers = {name: canary.url for name in names if name != "host"}
        for query in ("", f"?api_base={canary.url}&base_url={canary.url}"):
            answer = await gw.client.post(f"/v1/chat/completions{query}", json=CHAT | nested, headers=headers)
            assert answer.status_code == 200
        for model in (canary.url, f"openai/{canary.url}", f"demo@{canary.url}"):
            assert (await gw.client.post("/v1/chat/completions", json=CHAT | {"model": model})).status_code == 404
        assert canary.connections == 0
        assert [(call["path"], call["query"]) for call in await gw.calls()] == [("/v1/chat/completions", "")] * 2


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"303 See Other", b"307 Temporary", b"308 Permanent"])
@pytest.mark.parametrize("transport", ["native", "httpx"])
async def test_a_redirect_is_not_followed(status: bytes, transport: str) -> None:
    """F108: it would carry the credential elsewhere; the client gets a 502 and no location."""
    async with upstream(reply(COMPLETION)) as canary:
        moved = reply(b"{}", b"location: " + canary.url.encode() + b"/v1/chat/completions", status=status)
        async with upstream(moved) as provider:
            config = to(provider.url).replace("provider: openai", f"provider: openai, transport: {transport}")
            async with gateway(config) as gw:
                answer = await gw.client.post("/v1/chat/completions", json=CHAT)
                assert answer.status_code == 502
                assert "location" not in answer.headers
                assert canary.url not in answer.text
                assert (provider.connections, canary.connections) == (1, 0)


async def test_a_gateway_that_leads_to_itself_ends_the_loop() -> None:
    """F45: after a few hops it is a 508 that no client repeats."""
    async with gateway() as gw:
        looped = to(gw.url)
        assert (await gw.reload(looped))["faults"] == []
        answer = await gw.client.post("/v1/chat/completions", json=CHAT)
        assert answer.status_code in (502, 508)
        assert len(gw.requests()) == 5
        innermost = gw.requests()[0]
        assert innermost["status"] == 508
        assert "loop_detected" in innermost["reason"]
        again = await gw.client.post("/v1/chat/completions", json=CHAT, headers={"x-gateway-hops": "4"})
        assert (again.status_code, again.json()["error"]["code"]) == (508, "loop_detected")
        assert again.headers["x-should-retry"] == "false"


async def test_an_sdk_is_told_what_not_to_repeat() -> None:
    """F30: what cannot succeed is marked; what may, is left to the SDK."""
    async with gateway() as gw:

        async def should_retry(mock: str) -> tuple[int, str | None]:
            answer = await gw.client.post("/v1/chat/completions", json=CHAT, headers={"x-mock": mock})
            return answer.status_code, answer.headers.get("x-should-retry")

        # The gateway's own account at the provider: nothing that a client can mend.
        for status in (401, 402, 403):
            assert await should_retry(f"status={status}") == (502, "false")
        for status in (429, 503):
            assert await should_retry(f"status={status}") == (status, None)
        assert await should_retry("status=400") == (400, None)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "169.254.169.254", "[::2]"]
)
async def test_an_open_gateway_serves_loopback_names_only(host: str) -> None:
    """F88, F106, F120: a page whose name was re-bound to 127.0.0.1 drives neither plane."""
    async with gateway() as gw:
        for path in ("/v1/models", "/v1/files", "/nowhere"):
            answer = await gw.client.get(path, headers={"host": host})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "host_not_allowed")
        for path in ("/admin/v1/config", "/metrics", "/readyz"):
            assert (await gw.admin.get(path, headers={"host": host})).status_code == 400
        refused = await gw.client.post("/v1/chat/completions", json=CHAT, headers={"host": host})
        assert refused.status_code == 400
        assert await gw.calls() == []


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080"])
async def test_loopback_names_are_served(host: str) -> None:
    """F88."""
    async with gateway() as gw:
        assert (await gw.client.get("/v1/models", headers={"host": host})).status_code == 200
        assert (await gw.admin.get("/admin/v1/config", headers={"host": host})).status_code == 200


async def test_allowed_hosts_bind_a_gateway_with_keys() -> None:
    """F88: without the setting any name will do, with it only those."""
    async with gateway(KEYED) as gw:
        assert (await gw.client.get("/v1/models", headers=bearer(MAIN) | {"host": "any.example"})).status_code == 200
        await gw.reload(KEYED.replace("drain: 5s", 'drain: 5s, allowed_hosts: [llm.example.com, "*.inner.example"]'))
        expected = {
            "llm.example.com": 200, "LLM.example.com:443": 200, "a.inner.example": 200, "inner.example": 400,
            "a.b.inner.example": 400, "x.llm.example.com": 400, "llm.example.com.evil": 400, "localhost": 200,
        }  # fmt: skip
        for host, status in expected.items():
            answer = await gw.client.get("/v1/models", headers=bearer(MAIN) | {"host": host})
            assert (host, answer.status_code) == (host, status)


ADMIN_PATHS = [
    "/admin/v1/config", "/admin/v1/routes", "/admin/v1/targets", "/admin/v1/requests/x", "/admin/v1/reload", "/", "/x",
    "/admin%2fv1%2fconfig", "/admin/v1%2Fconfig", "/%61dmin/v1/config", "//admin/v1/config", "/admin//v1/config",
    "/livez/../admin/v1/config", "/livez%2f..%2fadmin/v1/config", "/metrics/../admin/v1/config",
    "/metrics;/admin/v1/config",
    "/admin/v1/config/", "/admin/v1/config?/metrics", "/metrics/", "/livez%00", "/ADMIN/v1/config",
    "/docs", "/openapi.json",
]  # fmt: skip


@pytest.mark.parametrize("path", ADMIN_PATHS)
async def test_the_admin_plane_wants_its_token_however_a_path_is_spelled(path: str) -> None:
    """F88, F107: `/admin%2f…` is routed as `/admin/…`, so access is decided on what is routed."""
    async with gateway(GUARDED, ENVIRON) as gw:
        for method in ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT"):
            for header in (
                "",
                "authorization: Bearer\r\n",
                f"authorization: Basic {TOKEN}\r\n",
                f"x-api-key: {TOKEN}\r\n",
            ):
                line = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{header}\r\n"
                heard = await say(gw.served.admin.address, line.encode())
                assert heard.answers[0].status == 401


async def test_the_admin_token_opens_the_admin_plane_and_nothing_else() -> None:
    """F121: health and metrics need none; a client's key is none."""
    async with gateway(GUARDED + KEYED[len(PLAIN) :], ENVIRON) as gw:
        for path in ("/livez", "/readyz", "/healthz", "/metrics"):
            assert (await gw.admin.get(path)).status_code == 200
        assert (await gw.admin.get("/admin/v1/config", headers=bearer(TOKEN))).status_code == 200
        assert (await gw.admin.get("/admin/v1/config", headers=bearer(MAIN))).status_code == 401
        assert (await gw.admin.get("/admin/v1/config", headers=bearer(TOKEN[:-1]))).status_code == 401
        assert (await gw.client.get("/v1/models", headers=bearer(TOKEN))).status_code == 401
        assert TOKEN not in (await gw.admin.get("/admin/v1/config", headers=bearer(TOKEN))).text


async def test_the_data_plane_has_no_admin_path() -> None:
    """F121: with a key and on an open gateway alike."""
    paths = [
        "/metrics",
        "/admin/v1/config",
        "/admin/v1/reload",
        "/docs",
        "/openapi.json",
        "/console",
        "/debug",
        "/__log",
    ]
    for config, headers in ((PLAIN, {}), (KEYED, bearer(MAIN))):
        async with gateway(config) as gw:
            for path in paths:
                for method in ("GET", "POST"):
                    answer = await gw.client.request(method, path, headers=headers)
                    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


LITERALS = [
    "{{7*7}}",
    "${jndi:ldap://x}",
    "os.environ/HOME",
    "env:HOME",
    "file:///etc/passwd",
    "file:/etc/passwd",
    "$(id)",
    "%s%n",
]


@pytest.mark.parametrize("text", LITERALS)
async def test_nothing_in_a_request_is_evaluated(text: str) -> None:
    """F119: it reaches the provider, the log and the client as the letters that it is."""
    async with gateway() as gw:
        messages = [{"role": "user", "content": text}]
        answer = await gw.client.post(
            "/v1/chat/completions",
            json=CHAT | {"messages": messages},
            headers={"x-mock": "echo", "x-gateway-tags": f"a={text}"},
        )
        assert answer.json()["choices"][0]["message"]["content"] == text
        assert gw.requests()[-1]["tags"] == {"a": text}
        unknown = await gw.client.post("/v1/chat/completions", json=CHAT | {"model": text})
        assert repr(text) in unknown.json()["error"]["message"]
        assert gw.requests()[-1]["model_requested"] == text


async def test_a_log_line_cannot_be_forged() -> None:
    """F132: whatever stands in a model, a tag or a path, one request is one line."""
    forged = 'x"}\n{"level":"critical","event":"request"\r\n\u2028\x1b[2J'
    async with gateway() as gw:
        await gw.client.post("/v1/chat/completions", json=CHAT | {"model": forged})
        await gw.client.post("/v1/chat/completions", json=CHAT, headers={"x-gateway-tags": 'a="}{'})
        assert [line["model_requested"] for line in gw.requests()] == [forged, "demo"]


@pytest.mark.parametrize(
    "tags", ["a", "=b", "a=b;c", "1a=b", "a=b,,c=d", ",".join(f"t{number}=x" for number in range(17))]
)
async def test_malformed_tags_are_refused(tags: str) -> None:
    """F60: or taken as they are, but never guessed."""
    async with gateway() as gw:
        answer = await gw.client.post("/v1/chat/completions", json=CHAT, headers={"x-gateway-tags": tags})
        assert answer.status_code == (200 if tags == "a=b;c" else 400)


async def test_a_tag_of_the_key_cannot_be_overridden() -> None:
    """F60: who pays is known from the key alone."""
    config = KEYED.replace("id: main,", "id: main, tags: {costCenter: '42'},")
    async with gateway(config) as gw:
        headers = bearer(MAIN) | {"x-gateway-tags": "costCenter=7,service=chat"}
        assert (
            await gw.client.post("/v1/chat/completions", json=CHAT | {"user": "other"}, headers=headers)
        ).status_code == 200
        assert gw.requests()[-1]["tags"] == {"costCenter": "42", "service": "chat"}


async def test_an_error_of_the_admin_plane_is_json() -> None:
    """F107: unknown paths and methods as well."""
    async with gateway() as gw:
        for method, path, status in (
            ("GET", "/nowhere", 404),
            ("GET", "/admin/v1/reload", 405),
            ("POST", "/metrics", 405),
        ):
            answer = await gw.admin.request(method, path)
            assert answer.status_code == status
            assert json.loads(answer.text)["error"]["message"]
