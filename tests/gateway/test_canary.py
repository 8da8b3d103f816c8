"""What must appear nowhere, sent everywhere, and looked for in everything that leaves the gateway."""

import asyncio
import hashlib
import json
import logging

import httpx
import pytest

from tests.gateway.harness import Gateway, gateway
from tests.gateway.raw import hang_up, reply, say, upstream
from tests.gateway.test_relays import form
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

WORD = "zqcanary"
PROMPT, REPLY, FILE, FIELD = f"{WORD}-prompt", f"{WORD}-reply", f"{WORD}-file", f"{WORD}-field"
CLIENT_KEY, WRONG_KEY = f"gw-{WORD}-client-0123456789", f"gw-{WORD}-wrong-0123456789"
PROVIDER_KEY, ADMIN_TOKEN, TRACE_KEY = f"sk-{WORD}-provider", f"{WORD}-admin-token", f"{WORD}-collector"
ENVIRON = {"PROVIDER_KEY": PROVIDER_KEY, "ADMIN_TOKEN": ADMIN_TOKEN, "TRACE_KEY": TRACE_KEY}

CONFIG = """
apiVersion: gateway/v1
server: {{listen: "127.0.0.1:0", admin: "127.0.0.1:0", drain: 5s, default_route: demo, admin_token: env:ADMIN_TOKEN,
         max_body: 1MiB}}
telemetry: {{traces: {{otlp: "{collector}", sample: 100%, headers: {{x-collector-key: env:TRACE_KEY}}}},
            tag_labels: [team]}}
keys:
  - {{id: main, hash: "sha256:{digest}", models: [demo, leaky, dead, "none-*"]}}
targets:
  mock: {{breaker: off, provider: mock, base_url: MOCK_URL, api_key: env:PROVIDER_KEY}}
  leaky: {{breaker: off, provider: openai, base_url: {leaky}/v1, api_key: env:PROVIDER_KEY,
          headers: {{x-secret-header: env:TRACE_KEY}}}}
  dead: {{breaker: off, provider: openai, base_url: "http://127.0.0.1:1/v1", api_key: env:PROVIDER_KEY}}
routes:
  - {{model: demo, target: mock}}
  - {{model: leaky, target: leaky}}
  - {{model: dead, target: dead}}
"""
LEAK = json.dumps(
    {"error": {"message": f"Incorrect API key provided: {PROVIDER_KEY} ({PROMPT}).", "type": "x", "code": PROVIDER_KEY}}
).encode()

CREDENTIALS = [
    {"authorization": f"Bearer {WRONG_KEY}"},
    {"authorization": f"Basic {WRONG_KEY}"},
    {"authorization": WRONG_KEY},
    {"x-api-key": WRONG_KEY},
    {"api-key": WRONG_KEY},
    {"authorization": f"Bearer {CLIENT_KEY}x"},
    {},
]
GOOD = {"authorization": f"Bearer {CLIENT_KEY}"}
NOISE = {
    "cookie": f"session={FIELD}", "x-goog-api-key": FIELD, "proxy-authorization": f"Basic {FIELD}", "referer": FIELD,
    "x-forwarded-for": FIELD, "baggage": f"a={FIELD}", "tracestate": f"a={FIELD}", "x-anything": FIELD,
    "user-agent": FIELD,
}  # fmt: skip


def _chat(model: str, **more: object) -> dict[str, object]:
    messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": f"{PROMPT} {REPLY}"}]
    tools = [{"type": "function", "function": {"name": FIELD, "description": FIELD, "parameters": {}}}]
    return {"model": model, "messages": messages, "tools": tools, "user": FIELD, "metadata": {"a": FIELD}, **more}


async def _everything(gw: Gateway) -> list[httpx.Response]:
    """Every kind of request, good and bad, with a canary wherever something can stand."""
    client, answers = gw.client, []
    chat = "/v1/chat/completions"
    for mock in ("echo", "status=401", "status=400", "status=500", "status=429", "html,status=502", "badjson_after=1",
                 "event_error", "error_after=1", "eof_after=1", "rst_after=1", "nonsense=1"):  # fmt: skip
        for stream in (False, True):
            headers = GOOD | NOISE | {"x-mock": mock}
            answers.append(await client.post(f"{chat}?key={FIELD}", json=_chat("demo", stream=stream), headers=headers))
    for model in ("leaky", "dead", "none-such"):
        answers.append(await client.post(chat, json=_chat(model), headers=GOOD))
    for credential in CREDENTIALS:
        for path in (chat, "/v1/messages", "/v1/files", "/v1/models", f"/{FIELD}"):
            answers.append(await client.post(path, json=_chat("demo"), headers=credential))
    say_it = {"model": "demo", "max_tokens": 5, "system": PROMPT, "messages": [{"role": "user", "content": PROMPT}]}
    answers.append(await client.post("/v1/messages", json=say_it, headers=GOOD | {"x-mock": "echo"}))
    answers.append(
        await client.post("/v1/responses", json={"model": "demo", "input": PROMPT}, headers=GOOD | {"x-mock": "echo"})
    )
    answers.append(await client.post("/v1/embeddings", json={"model": "demo", "input": PROMPT}, headers=GOOD))
    kind, body = form(FILE.encode(), purpose=FIELD)
    answers.append(await client.post("/v1/files", content=body, headers=GOOD | kind))
    json_type = {"content-type": "application/json"}
    for broken in (f'{{"model":"demo","messages":"{PROMPT}', f'["{PROMPT}"]', f'{{"{PROMPT}":NaN}}',
                   f'{{"model":["{PROMPT}"]}}', f'{{"model":"demo","temperature":"{PROMPT}"}}',
                   f'{{"model":"demo","x":"{PROMPT}\\ud800"}}'):  # fmt: skip
        answers.append(await client.post(chat, content=broken, headers=GOOD | json_type))
    answers.append(await client.post(chat, content=PROMPT.encode(), headers=GOOD | {"content-type": FIELD}))
    for name in (
        "x-gateway-tags",
        "x-gateway-prompt",
        "x-gateway-timeout",
        "x-gateway-target",
        "x-request-id",
        "traceparent",
    ):
        answers.append(await client.post(chat, json=_chat("demo"), headers=GOOD | {name: f"{{{FIELD}}}"}))
    return answers


async def _rudely(gw: Gateway) -> None:
    """What is no request, and a client that leaves in the middle."""
    await say(gw.address, f"{PROMPT}\r\nauthorization: Bearer {CLIENT_KEY}\r\n\r\n".encode())
    await say(gw.address, f"GET /v1/models HTTP/1.1\r\nhost: {FIELD}/\r\nauthorization : {WRONG_KEY}\r\n\r\n".encode())
    async with gw.client.stream(
        "POST", "/v1/chat/completions", json=_chat("demo", stream=True), headers=GOOD | {"x-mock": "echo,gap=20ms"}
    ) as answer:
        await anext(answer.aiter_raw())
    reader, writer = await asyncio.open_connection(*gw.address)
    writer.write(f"POST /v1/files HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {CLIENT_KEY}\r\n".encode())
    writer.write(b"content-length: 100\r\n\r\n" + PROMPT.encode())
    await writer.drain()
    await hang_up(writer)
    del reader


async def _admin(gw: Gateway) -> str:
    """Everything that the admin plane tells, with a token and without."""
    token = {"authorization": f"Bearer {ADMIN_TOKEN}"}
    requests = {f"/admin/v1/requests/{line['request_id']}" for line in gw.requests()}
    paths = [
        "/metrics",
        "/readyz?verbose",
        "/admin/v1/config",
        "/admin/v1/routes",
        "/admin/v1/targets",
        *sorted(requests),
    ]
    answers = [await gw.admin.get(path, headers=token) for path in paths]
    assert all(answer.status_code == 200 for answer in answers)
    answers += [await gw.admin.get(path, headers={"authorization": f"Bearer {WRONG_KEY}"}) for path in paths[2:5]]
    return "\n".join(f"{answer.headers} {answer.text}" for answer in answers)


async def test_no_prompt_no_reply_and_no_key_leaves_by_a_side_door(caplog: pytest.LogCaptureFixture) -> None:
    """F114: neither in the log, nor in metrics, admin answers, spans or error bodies. Zero hits."""
    caplog.set_level(logging.INFO)
    digest = hashlib.sha256(CLIENT_KEY.encode()).hexdigest()
    refused = reply(LEAK, status=b"401 Unauthorized")
    async with upstream(reply(b"", content_type=b"application/x-protobuf")) as collector, upstream(refused) as leaky:
        config = CONFIG.format(collector=collector.url, leaky=leaky.url, digest=digest)
        async with gateway(config, ENVIRON) as gw:
            answers = await _everything(gw)
            await _rudely(gw)
            # A secret that was pasted into the file by mistake: the faults name its place, not the secret.
            gw.write_config(config.replace("env:PROVIDER_KEY", PROVIDER_KEY))
            faults = await gw.admin.post("/admin/v1/reload", headers={"authorization": f"Bearer {ADMIN_TOKEN}"})
            assert faults.status_code == 422
            told = await _admin(gw) + faults.text
            lines = gw.requests()
            await until(lambda: len(b"".join(collector.bodies)) > 10_000, timeout_s=10)
            log = gw.log_path.read_text()
        spans = b"".join(collector.bodies).decode("latin-1")
        spans += collector.heads[-1].decode("latin-1").replace(TRACE_KEY, "")

    # First, that there was something to find, and that it went where it belongs.
    assert len(lines) >= 70
    assert {200, 400, 401, 403, 404, 415, 429, 500, 502} <= {answer.status_code for answer in answers}
    assert any(REPLY in answer.text for answer in answers)
    assert leaky.header(b"authorization") == [f"Bearer {PROVIDER_KEY}".encode()]
    assert "gen_ai.request.model" in spans

    known = [
        record.getMessage() for record in caplog.records if record.name.partition(".")[0] not in ("httpx", "httpcore")
    ]
    for where, text in (("log", log), ("records", "\n".join(known)), ("admin", told), ("spans", spans)):
        assert WORD not in text.lower(), f"{where}: …{text[max(text.lower().find(WORD) - 200, 0) :][:300]}…"
        assert digest not in text, where
    for answer in answers:
        shown = f"{answer.headers} {answer.text}"
        for secret in (CLIENT_KEY, WRONG_KEY, PROVIDER_KEY, ADMIN_TOKEN, TRACE_KEY, digest):
            assert secret not in shown
