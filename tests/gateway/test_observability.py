"""What Prometheus and whoever is paged see: bounded metrics that tell the truth, and why a request went its way."""

import random
import shutil
import subprocess
from itertools import pairwise
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.table import METRICS, TABLE
from tests.gateway.calls import CHATS, COMPLETIONS, EVENT_STREAMS, MESSAGES, RESPONSES, Way
from tests.gateway.harness import CHAT, PLAIN, Gateway, gateway
from tests.gateway.keepalive import kept_alive
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

CHAT_PATH = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
INVENTED = 5_000
GLOB = PLAIN + '  - {model: "any-*", target: mock}\n'
SPLIT = """
apiVersion: gateway/v1
server: {listen: "127.0.0.1:0", admin: "127.0.0.1:0", drain: 5s}
keys:
  - {id: pinner, hash: "sha256:2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683", may_pin: true}
targets:
  one: {provider: mock, base_url: MOCK_URL}
  two: {provider: mock, base_url: MOCK_URL}
routes:
  - {model: demo, split: {one: 3, two: 1}}
"""
"""The key is `key`."""


async def samples(gw: Gateway) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every series with its value, by name and labels."""
    text = (await gw.admin.get("/metrics")).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def invent(gw: Gateway, count: int, rng: random.Random) -> None:
    """Requests in which everything that a client chooses is new: models, paths, keys, ids, prompts, tags, methods."""
    async with kept_alive(gw.address) as client:
        for number in range(count):
            word = f"{rng.getrandbits(64):016x}"
            kinds: list[tuple[str, dict[str, Any], dict[str, str], int]] = [
                (CHAT_PATH, CHAT | {"model": f"no-{word}"}, {}, 404),
                (CHAT_PATH, CHAT | {"model": f"any-{word}", "user": word}, {}, 200),
                (f"/v1/{word}/{word}", CHAT, {}, 404),
                (f"/openai/deployments/{word}/chat/completions", CHAT, {}, 404),
                (
                    f"{CHAT_PATH}?{word}={word}",
                    CHAT,
                    {"x-request-id": word, "x-gateway-prompt": f"{word}@{word}", "x-gateway-tags": f"t={word}"},
                    200,
                ),
                ("/v1/messages", CHAT | {"model": word}, {"x-api-key": word, "user-agent": word}, 404),
            ]
            path, body, headers, status = kinds[number % len(kinds)]
            assert (await client.ask(path, body, headers)).status == status, path


async def test_invented_names_add_no_series() -> None:
    """F125: models, paths, keys, ids, prompts and tags without end; the page does not grow by a line."""
    async with gateway(GLOB) as gw:
        rng = random.Random(125)
        await invent(gw, 6, rng)
        before = await samples(gw)
        await invent(gw, INVENTED, rng)
        after = await samples(gw)
        assert after.keys() == before.keys()
        # They were counted all the same.
        counted = sum(value for (name, _), value in after.items() if name == "gateway_requests_total")
        assert counted == INVENTED + 6
        routes = {dict(labels).get("route") for _, labels in after}
        assert routes == {None, "demo", "any-*", "other"}
        assert {dict(labels).get("target") for _, labels in after} == {None, "mock", "none"}


UNLESS_CONFIGURED = (
    "gateway_breaker_",
    "gateway_budget_",
    "gateway_cache_",
    "gateway_coalesced_",
    "gateway_cost_",
    "gateway_fallbacks_",
    "gateway_hedges_",
    "gateway_limit_",
    "gateway_retries_",
    "gateway_shadow_",
)


async def test_every_series_is_one_of_the_table() -> None:
    """F125: names, types and labels; and what the table promises without traffic is there."""
    async with gateway() as gw:
        await gw.client.post(CHAT_PATH, json=CHAT | {"stream": True})
        await gw.client.post(CHAT_PATH, json=CHAT, headers={"x-mock": "nousage"})
        families = list(text_string_to_metric_families((await gw.admin.get("/metrics")).text))
        seen = {family.name if family.name in TABLE else f"{family.name}_total": family for family in families}
        assert seen.keys() <= {metric.name for metric in METRICS}
        # What has not happened yet has no series; what a dashboard must find from the first scrape on has.
        missing = {metric.name for metric in METRICS} - seen.keys()
        assert missing <= {metric.name for metric in METRICS if metric.name.startswith(UNLESS_CONFIGURED)}
        for name, family in seen.items():
            metric = TABLE[name]
            assert family.type == ("gauge" if metric.kind == "info" else metric.kind)
            assert family.documentation == metric.help
            for sample in family.samples:
                assert sample.labels.keys() - {"le"} == set(metric.labels), sample


async def test_promtool_has_no_complaint() -> None:
    """F125: the page of a gateway with traffic of every kind."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    async with gateway(GLOB) as gw:
        await invent(gw, 6, random.Random(1))
        page = (await gw.admin.get("/metrics")).content
    checked = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, check=False)  # noqa: ASYNC221
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


async def test_a_scraper_that_asks_for_openmetrics_gets_it() -> None:
    async with gateway() as gw:
        await gw.client.post(CHAT_PATH, json=CHAT)
        reply = await gw.admin.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
        assert reply.headers["content-type"].startswith("application/openmetrics-text")
        families = parse_openmetrics(reply.text)  # type: ignore[no-untyped-call]  # prometheus_client has no types here
        assert {"gateway_requests", "gateway_config", "gateway_build"} <= {family.name for family in families}


ENDINGS = {
    "error_after=2": (200, "upstream_error"),
    "eof_after=2": (200, "truncated"),
    "rst_after=2": (200, "truncated"),
    "stall_after=2": (200, "upstream_timeout"),
    "status=500": (500, "upstream_error"),
    "status=429": (429, "upstream_error"),
    "status=400": (400, "client_error"),
    "tokens=3": (200, "ok"),
}


@pytest.mark.parametrize("order", ENDINGS)
@pytest.mark.parametrize("way", [CHATS, COMPLETIONS, RESPONSES, MESSAGES], ids=str)
async def test_the_outcome_is_apart_from_the_status(way: Way, order: str) -> None:
    """F129: a stream that broke after its head is no success anywhere: metric, log line, `requests/{id}`."""
    status, outcome = ENDINGS[order]
    async with gateway(PLAIN.replace("MOCK_URL", "MOCK_URL, timeouts: {idle: 150ms}")) as gw:
        reply = await gw.client.post(way.path, content=way.body(stream=True), headers=JSON | {"x-mock": order})
        assert reply.status_code == status
        line = (await until(gw.requests))[0]
        assert (line["status"], line["outcome"]) == (status, outcome)
        assert await gw.metric("gateway_requests_total") == 1
        assert await gw.metric("gateway_requests_total", route="demo", target="mock", outcome=outcome) == 1
        shown = (await gw.admin.get(f"/admin/v1/requests/{reply.headers['x-request-id']}")).json()
        assert (shown["status"], shown["outcome"]) == (status, outcome)
        attempted = "rate_limited" if status == 429 else outcome
        assert await gw.metric("gateway_upstream_attempts_total", target="mock", outcome=attempted) == 1


@pytest.mark.parametrize("way", EVENT_STREAMS, ids=str)
async def test_a_client_that_leaves_is_a_499_of_its_own_outcome(way: Way) -> None:
    """F129: neither success nor anybody's failure; what was sent is counted."""
    async with gateway() as gw:
        headers = JSON | {"x-mock": "tokens=1000,gap=20"}
        async with gw.client.stream("POST", way.path, content=way.body(stream=True), headers=headers) as reply:
            seen = b""
            async for piece in reply.aiter_raw():
                seen += piece
                if b"tok2" in seen:
                    break
            request_id = reply.headers["x-request-id"]
        line = (await until(gw.requests))[0]
        assert (line["status"], line["outcome"], line["usage_source"]) == (499, "client_gone", "estimated")
        assert line["request_id"] == request_id and line["output_tokens"] >= 2
        assert await gw.metric("gateway_requests_total", outcome="client_gone") == 1


async def test_a_minutes_long_stream_has_a_bucket_and_its_first_token_a_histogram_of_its_own() -> None:
    """F130: buckets to 81.92 s for the first token and beyond ten minutes for the whole; each measures its own time."""
    async with gateway() as gw:
        await gw.client.post(CHAT_PATH, json=CHAT | {"stream": True}, headers={"x-mock": "ttfb=100,tokens=11,gap=40"})
        series = await samples(gw)
        for name, enough_s in (("request_duration", 600.0), ("time_to_first_token", 60.0)):
            bounds = [
                float(dict(labels)["le"]) for metric, labels in series if metric == f"gateway_{name}_seconds_bucket"
            ]
            finite = sorted(bound for bound in bounds if bound != float("inf"))
            assert finite[-1] > enough_s and finite[0] <= 0.01, name
            assert max(b / a for a, b in pairwise(finite)) <= 2.0, name
        first_token = await gw.metric("gateway_time_to_first_token_seconds_sum")
        whole = await gw.metric("gateway_request_duration_seconds_sum")
        assert first_token >= 0.1 and whole - first_token >= 0.1
        assert await gw.metric("gateway_overhead_seconds_sum") < first_token


async def test_a_reply_that_is_no_stream_has_no_first_token() -> None:
    """F130."""
    async with gateway() as gw:
        await gw.client.post(CHAT_PATH, json=CHAT)
        assert await gw.metric("gateway_time_to_first_token_seconds_count") == 0
        assert await gw.metric("gateway_request_duration_seconds_count") == 1


async def test_the_gauge_of_requests_in_flight_goes_up_and_down() -> None:
    async with gateway() as gw:
        async with gw.client.stream(
            "POST", CHAT_PATH, json=CHAT | {"stream": True}, headers={"x-mock": "tokens=500,gap=20"}
        ) as reply:
            await anext(reply.aiter_raw())
            assert await gw.metric("gateway_inflight_requests", route="demo") == 1
        await until(lambda: _is_zero(gw, "gateway_inflight_requests"))


async def _is_zero(gw: Gateway, name: str) -> bool:
    return await gw.metric(name) == 0


async def test_the_metrics_and_the_log_agree_on_tokens() -> None:
    """F53: reported and estimated ones; the estimates are counted apart."""
    async with gateway() as gw:
        for order in ("tokens=7", "tokens=5,nousage", "eof_after=3"):
            await gw.client.post(CHAT_PATH, json=CHAT | {"stream": True}, headers={"x-mock": order})
        lines = await until(lambda: gw.requests() if len(gw.requests()) == 3 else [])
        for kind in ("input", "output"):
            logged = sum(line[f"{kind}_tokens"] for line in lines)
            assert await gw.metric("gateway_tokens_total", type=kind) == logged
        assert [line["usage_source"] for line in lines] == ["provider", "estimated", "estimated"]
        assert await gw.metric("gateway_usage_estimated_total", route="demo", target="mock") == 2


async def why(gw: Gateway, reply: httpx.Response) -> dict[str, Any]:
    """What the admin plane tells of the request behind `reply`."""
    answer = await gw.admin.get(f"/admin/v1/requests/{reply.headers['x-request-id']}")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def test_the_admin_plane_tells_why_a_request_went_its_way() -> None:
    """F134: by the id that the client was given: its line, its decisions, its attempts."""
    async with gateway(SPLIT) as gw:
        key = {"authorization": "Bearer key"}
        reply = await gw.client.post(CHAT_PATH, json=CHAT, headers=key | {"x-gateway-target": "two"})
        told = await why(gw, reply)
        assert {"step": "pin", "detail": "two"} in told["decisions"]
        assert (told["key"], told["route"], told["target"]) == ("pinner", "demo", "two")

        reply = await gw.client.post(CHAT_PATH, json=CHAT, headers=key | {"x-mock": "status=503"})
        told = await why(gw, reply)
        target = told["target"]
        weight = {"one": 3, "two": 1}[target]
        assert {"step": "split", "detail": f"{target} by weight {weight} of 4"} in told["decisions"]
        call = (await gw.calls())[-1]
        (attempt,) = told["upstream_attempts"]
        assert (attempt["number"], attempt["target"], attempt["status"]) == (1, target, 503)
        assert attempt["traceparent"] == dict(call["headers"])["traceparent"]
        assert attempt["upstream_request_id"] == call["request_id"]
        assert (told["outcome"], told["attempts"]) == ("upstream_error", 1)

        line = gw.requests()[-1]
        assert {name: told[name] for name in line} == line
        assert (await gw.admin.get("/admin/v1/requests/never-seen")).status_code == 404
