"""The log as whoever reads it gets it: one true line a request, whatever the client wrote, and none lost at the end."""

import asyncio
import json
import signal
from urllib.parse import quote

import httpx
import pytest

from tests.gateway.harness import CHAT, PLAIN, Gateway, gateway
from tests.gateway.processes import Serving, serving
from tests.gateway.raw import reply, upstream
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

CHAT_PATH = "/v1/chat/completions"
FIELDS = (
    "ts level event request_id trace_id key route target model_requested model_served prompt_name prompt_version "
    "input_tokens output_tokens cached_input_tokens usage_source cost_usd cache attempts outcome status "
    "ttft_ms duration_ms overhead_ms stream tags config_revision reason"
)
FORGERIES = [
    'a\n{"level":"error","event":"request","request_id":"forged"}',
    'a"}\r\n{"event":"request"}',
    "a\x1b[2J\x1b[1;31mforged\x00\x07\x08",
    "a\u2028{}\u2029{}\x85{}",
    'a\\n{"event":"request"}',
    "a" * 255,
]


async def test_a_request_is_one_line_with_the_promised_fields() -> None:
    """F134: in their order; id, trace, prompt, tags and figures as the client sent and got them."""
    async with gateway() as gw:
        answer = await gw.client.post(
            CHAT_PATH,
            json=CHAT | {"stream": True, "max_tokens": 4},
            headers={
                "x-request-id": "order-66", "x-gateway-prompt": "team/greet@3.1", "x-gateway-tags": "costCenter=42",
                "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            },
        )  # fmt: skip
        (line,) = await until(gw.requests)
        assert " ".join(line) == FIELDS
        assert (line["request_id"], answer.headers["x-request-id"]) == ("order-66", "order-66")
        assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
        assert (line["prompt_name"], line["prompt_version"], line["tags"]) == (
            "team/greet",
            "3.1",
            {"costCenter": "42"},
        )
        assert (line["key"], line["route"], line["target"]) == ("open", "demo", "mock")
        assert (line["input_tokens"], line["output_tokens"], line["usage_source"]) == (1, 4, "provider")
        assert (line["status"], line["outcome"], line["stream"], line["attempts"]) == (200, "ok", True, 1)
        assert line["config_revision"] == answer.headers["x-gateway-config"]
        assert 0 < line["overhead_ms"] < line["ttft_ms"] <= line["duration_ms"]
        assert line["level"] == "info" and line["reason"] is None


async def test_every_request_has_a_line_however_early_it_fails() -> None:
    """F131: refused before a route, a body or even a key is known."""
    config = PLAIN + f'keys:\n  - {{id: main, hash: "sha256:{"0" * 64}"}}\n'
    async with gateway(config) as gw:
        answers = [
            await gw.client.post(CHAT_PATH, json=CHAT),
            await gw.client.get("/nowhere"),
            await gw.client.post(CHAT_PATH, content=b"{", headers={"content-type": "text/plain"}),
        ]
        lines = await until(lambda: gw.requests() if len(gw.requests()) == len(answers) else [])
        assert [line["request_id"] for line in lines] == [answer.headers["x-request-id"] for answer in answers]
        assert [line["status"] for line in lines] == [answer.status_code for answer in answers]
        assert {line["outcome"] for line in lines} == {"client_error"}
        assert all(line["reason"] for line in lines)


def whole_lines(gw: Gateway) -> list[bytes]:
    """The file's lines as bytes: nothing in it but printable text and the newlines between."""
    assert gw.sink.flush(2.0)
    raw = gw.log_path.read_bytes()
    assert not {byte for byte in raw if byte < 0x20 and byte != 0x0A} and 0x7F not in raw
    return raw.splitlines()


@pytest.mark.parametrize("forgery", FORGERIES, ids=range(len(FORGERIES)))
async def test_no_line_can_be_forged(forgery: str) -> None:
    """F132: by a model (known or not), a path, a query, a tag or a prompt, nor by what a provider answers."""
    async with gateway(PLAIN + '  - {model: "a*", target: mock}\n') as gw:
        await gw.client.post(CHAT_PATH, json=CHAT | {"model": forgery})
        await gw.client.post(CHAT_PATH, json=CHAT | {"model": "b" + forgery})
        await gw.client.post("/v1/" + quote(forgery), json=CHAT)
        await gw.client.post(CHAT_PATH, params={"q": forgery}, json=CHAT)
        await gw.client.post(CHAT_PATH, json=CHAT, headers={"x-gateway-tags": 'a="},{"x', "x-request-id": '"}{"a'})
        lines = [json.loads(line) for line in whole_lines(gw)]
        assert len(lines) == 5 and all(" ".join(line) == FIELDS for line in lines)
        assert [line["model_requested"] for line in lines[:2]] == [forgery, "b" + forgery]
        assert "forged" not in {line["request_id"] for line in lines}


async def test_a_provider_forges_no_line_and_names_no_secret_in_it() -> None:
    """F132, F114: neither as the model it says it served, nor as the code of its error."""
    said = json.dumps(FORGERIES[0])
    error = f'{{"error":{{"message":{said},"type":{said},"code":"sk-canary-0123456789"}}}}'
    served = f'{{"id":{said},"model":{said},"choices":[{{"index":0,"finish_reason":{said},"message":{{}}}}]}}'
    for body in (error, served):
        async with upstream(reply(body.encode())) as provider:
            config = PLAIN.replace(
                "provider: mock, base_url: MOCK_URL", f"provider: openai, base_url: {provider.url}/v1"
            )
            async with gateway(config) as gw:
                await gw.client.post(CHAT_PATH, json=CHAT)
                (line,) = whole_lines(gw)
                assert b"sk-canary" not in line and " ".join(json.loads(line)) == FIELDS


async def ask_on(gw: Serving, answered: list[str]) -> None:
    """Requests one after the other on one connection until there is no answer any more."""
    async with httpx.AsyncClient(base_url=gw.url, timeout=20) as client:
        try:
            while True:
                answer = await client.post(CHAT_PATH, json=CHAT)
                answered.append(answer.headers["x-request-id"])
        except httpx.TransportError:
            return


async def stream_on(gw: Serving, answered: list[str]) -> None:
    """One stream that is still running when the process is told to end."""
    headers = {"x-mock": "tokens=30,gap=20"}
    async with gw.client.stream("POST", CHAT_PATH, json=CHAT | {"stream": True}, headers=headers) as answer:
        body = (await answer.aread()).decode()
        assert body.endswith("data: [DONE]\n\n")
        answered.append(answer.headers["x-request-id"])


@pytest.mark.parametrize("workers", [1, 2])
async def test_no_line_is_lost_when_the_process_is_told_to_end_under_load(workers: int) -> None:
    """F131: as many lines as answers, each of them whole, and each answer has its own."""
    async with serving(PLAIN, "--workers", str(workers)) as gw:
        answered: list[str] = []
        streams = [asyncio.ensure_future(stream_on(gw, answered)) for _ in range(10)]
        await until(lambda: gw.run.mock.stats.inflight >= 10, 10.0)
        loops = [asyncio.ensure_future(ask_on(gw, answered)) for _ in range(6)]
        await until(lambda: len(answered) > 200, 20.0)
        gw.run.signal(signal.SIGTERM)
        await asyncio.gather(*streams, *loops)
        assert await gw.run.ended() == 0
        lines = gw.run.requests()
        assert sorted(line["request_id"] for line in lines) == sorted(answered)
        assert {line["outcome"] for line in lines} == {"ok"}
        # The log's last byte is the end of a line: none was cut.
        assert gw.run.out_path.read_bytes().endswith(b"}\n")
        assert len(gw.run.mock.log.entries()) == len(answered)


async def test_logs_may_be_off() -> None:
    """The metrics and the admin plane know of the request all the same."""
    async with gateway(PLAIN + "telemetry: {logs: off}\n") as gw:
        answer = await gw.client.post(CHAT_PATH, json=CHAT)
        assert (await gw.admin.get(f"/admin/v1/requests/{answer.headers['x-request-id']}")).status_code == 200
        assert await gw.metric("gateway_requests_total", outcome="ok") == 1
        assert gw.requests() == []
