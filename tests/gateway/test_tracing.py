"""Traces as a collector gets them, and trace context as providers get it."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway.telemetry import genai
from tests.gateway.calls import CHATS, WHOLE, Way
from tests.gateway.harness import CHAT, PLAIN, Gateway, gateway
from tests.gateway.keepalive import kept_alive
from tests.gateway.raw import Upstream, reply, say, upstream
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE_ID}-{PARENT_ID}-01"
UNSAMPLED = f"00-{TRACE_ID}-{PARENT_ID}-00"
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])")


def traced(endpoint: str, sample: str) -> str:
    """The plain configuration with an exporter."""
    return PLAIN + f'telemetry: {{traces: {{otlp: "{endpoint}", sample: {sample}, service_name: shop}}}}\n'


@asynccontextmanager
async def collector() -> AsyncIterator[Upstream]:
    """An OTLP/HTTP collector that takes everything."""
    async with upstream(reply(b"", content_type=b"application/x-protobuf")) as running:
        yield running


def spans(sink: Upstream) -> list[Span]:
    """Every span that the collector was sent."""
    return [
        span
        for body in sink.bodies
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def pair(sink: Upstream) -> tuple[Span, Span]:
    """The SERVER and the CLIENT span of the only request there was."""
    found = {span.kind: span for span in spans(sink)}
    assert len(found) == len(spans(sink)) == 2, found
    return found[Span.SPAN_KIND_SERVER], found[Span.SPAN_KIND_CLIENT]


def attributes(span: Span) -> dict[str, Any]:
    """A span's attributes as plain values."""
    plain: dict[str, Any] = {}
    for each in span.attributes:
        kind = each.value.WhichOneof("value")
        assert kind is not None
        value = getattr(each.value, kind)
        plain[each.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return plain


async def passed_on(gw: Gateway) -> dict[str, str]:
    """The headers of the last call upstream."""
    return dict((await gw.calls())[-1]["headers"])


async def test_a_request_is_a_server_span_in_the_callers_trace_with_a_client_span_below_it() -> None:
    """F128: continued, not begun anew; upstream gets the attempt's own span id, and neither tracestate nor baggage."""
    async with collector() as sink:
        async with gateway(traced(sink.url, "0%")) as gw:
            headers = {
                "traceparent": SAMPLED, "tracestate": "vendor=1", "baggage": "user=alice", "x-request-id": "abc",
                "x-gateway-prompt": "greet@3", "x-gateway-tags": "team=shop",
            }  # fmt: skip
            answer = await gw.client.post(CHATS.path, json=CHAT, headers=headers)
            assert answer.headers["x-request-id"] == "abc"
            sent = await passed_on(gw)
            line = (await until(gw.requests))[0]
        server, client = pair(sink)
        assert server.trace_id.hex() == client.trace_id.hex() == line["trace_id"] == TRACE_ID
        assert server.parent_span_id.hex() == PARENT_ID
        assert client.parent_span_id == server.span_id != client.span_id
        assert sent["traceparent"] == f"00-{TRACE_ID}-{client.span_id.hex()}-01"
        assert sent.keys().isdisjoint({"tracestate", "baggage", "x-request-id", "x-gateway-prompt", "x-gateway-tags"})
        assert server.trace_state == client.trace_state == "vendor=1"
        assert (server.name, client.name) == ("POST /v1/chat/completions", "chat demo")
        assert server.start_time_unix_nano <= client.start_time_unix_nano
        assert client.end_time_unix_nano <= server.end_time_unix_nano
        # Prompt, version and correlation id: the line, the spans and the client agree.
        for span in (server, client):
            told = attributes(span)
            assert (told["gateway.prompt.name"], told["gateway.prompt.version"]) == ("greet", "3")
            assert told["gateway.request.id"] == "abc" and told["gateway.config.revision"] == line["config_revision"]
            assert (told["gateway.route"], told["gateway.target"], told["gateway.cache"]) == ("demo", "mock", "bypass")
        assert (line["prompt_name"], line["prompt_version"], line["tags"]) == ("greet", "3", {"team": "shop"})
        assert attributes(client)["gateway.attempt"] == 1


async def test_the_service_is_named_in_every_export() -> None:
    """F128."""
    async with collector() as sink:
        async with gateway(traced(sink.url, "100%") + "environment: prod\n") as gw:
            await gw.client.post(CHATS.path, json=CHAT)
        (resource,) = ExportTraceServiceRequest.FromString(sink.bodies[0]).resource_spans
        told = {each.key: each.value.string_value for each in resource.resource.attributes}
        assert (told["service.name"], told["service.version"]) == ("shop", "test")
        assert told["deployment.environment.name"] == "prod"
        assert sink.heads[0].startswith(b"POST /v1/traces ")


REQUIRED = {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "server.address", "server.port"}


@pytest.mark.parametrize("way", WHOLE, ids=str)
async def test_client_spans_have_the_genai_attributes(way: Way, shared_data: Path) -> None:
    """F128: names of the published conventions, on every endpoint, stream or not."""
    published = (shared_data / "otel-genai" / "model_gen-ai_spans.yaml").read_text("utf-8")
    known = set(re.findall(r"ref:\s*([a-z_.]+)", published)) | set(re.findall(r"id:\s*([a-z_.]+)", published))
    for stream in (False, True)[: 1 + way.can_stream]:
        async with collector() as sink:
            async with gateway(traced(sink.url, "100%")) as gw:
                answer = await gw.client.post(way.path, content=way.body(stream=stream, temperature=0.5), headers=JSON)
                assert answer.status_code == 200, answer.text
            _, client = pair(sink)
            told = attributes(client)
            assert told.keys() >= REQUIRED
            assert {name for name in told if name.startswith("gen_ai.")} <= known
            assert client.name == f"{told['gen_ai.operation.name']} {told['gen_ai.request.model']}"
            assert told["gen_ai.operation.name"] in genai.OPERATIONS.values()
            assert ("gen_ai.request.stream" in told) is stream
            assert ("gen_ai.response.time_to_first_chunk" in told) is stream
            if way.can_stream:
                assert told["gen_ai.usage.output_tokens"] == 16 and told["gen_ai.response.id"]
                assert told["gen_ai.response.model"] == "demo" and told["gen_ai.request.temperature"] == 0.5
                assert len(told["gen_ai.response.finish_reasons"]) == 1


@pytest.mark.parametrize(
    ("order", "stream", "error_type", "status"),
    [
        ("status=503", False, "503", 503),
        ("status=400", False, "400", 400),
        ("error_after=2", True, "server_error", 200),
        ("eof_after=2", True, "upstream_error", 200),
        ("stall_after=1", True, "upstream_timeout", 200),
        ("rst_after=0", True, "upstream_error", None),
    ],
)
async def test_a_failed_attempt_says_so_in_its_span(
    order: str, stream: bool, error_type: str, status: int | None
) -> None:
    """F129: `error.type` and the span's status, beside the HTTP status that upstream sent."""
    async with collector() as sink:
        async with gateway(traced(sink.url, "100%").replace("MOCK_URL", "MOCK_URL, timeouts: {idle: 150ms}")) as gw:
            await gw.client.post(CHATS.path, content=CHATS.body(stream=stream), headers=JSON | {"x-mock": order})
        server, client = pair(sink)
        assert client.status.code == Status.STATUS_CODE_ERROR
        assert attributes(client)["error.type"] == error_type
        assert attributes(client).get("http.response.status_code") == status
        # A refusal that the client earned leaves the server span without status, as OpenTelemetry wants it.
        faulty = status is None or status != 400
        assert (server.status.code == Status.STATUS_CODE_ERROR) is faulty


async def test_a_request_without_a_route_has_a_server_span_alone() -> None:
    """F125: with nothing in its name that the client made up."""
    async with collector() as sink:
        async with gateway(traced(sink.url, "100%")) as gw:
            await gw.client.post("/v1/invented/by/me", json=CHAT)
            await gw.client.request("BREW", "/v1/coffee", json=CHAT)
            await gw.client.post(CHATS.path, json=CHAT | {"model": "invented"})
        found = spans(sink)
        assert {span.kind for span in found} == {Span.SPAN_KIND_SERVER}
        assert {span.name for span in found} <= {"POST", "_OTHER", "POST /v1/chat/completions"}


@pytest.mark.parametrize(
    ("sample", "parent", "recorded", "flag"),
    [
        ("0%", None, False, "00"),
        ("100%", None, True, "01"),
        ("0%", SAMPLED, True, "01"),
        ("100%", UNSAMPLED, False, "00"),
        ("100%", "not a parent", True, "01"),
        ("0%", "not a parent", False, "00"),
    ],
)
async def test_the_callers_decision_to_sample_wins(sample: str, parent: str | None, recorded: bool, flag: str) -> None:
    """F128: without one (or with an invalid one) the configured share decides. Upstream is told what was decided."""
    async with collector() as sink:
        async with gateway(traced(sink.url, sample)) as gw:
            for _ in range(5):
                headers = {} if parent is None else {"traceparent": parent}
                await gw.client.post(CHATS.path, json=CHAT, headers=headers)
            flags = [dict(call["headers"])["traceparent"][-2:] for call in await gw.calls()]
        assert flags == [flag] * 5
        assert len(spans(sink)) == (10 if recorded else 0)


async def test_a_share_of_the_traces_is_about_that_share() -> None:
    """F128: whole traces, server and client span together."""
    async with collector() as sink:
        async with gateway(traced(sink.url, "30%")) as gw, kept_alive(gw.address) as client:
            for _ in range(400):
                await client.ask()
        servers = [span for span in spans(sink) if span.kind == Span.SPAN_KIND_SERVER]
        # Six standard deviations of a binomial of 400 draws at 0.3.
        assert 65 <= len(servers) <= 175
        assert {span.span_id for span in servers} == {
            span.parent_span_id for span in spans(sink) if span.kind == Span.SPAN_KIND_CLIENT
        }


ID, PARENT = TRACE_ID, PARENT_ID
CONTINUED = [
    SAMPLED, UNSAMPLED, f"00-{ID}-{PARENT}-ff", f"cc-{ID}-{PARENT}-01", f"cc-{ID}-{PARENT}-01-what-the-future-will-be",
    f" {SAMPLED}", f"\t{SAMPLED}", f"{SAMPLED} ", f"{SAMPLED}\t", f"\t {SAMPLED} \t",
]  # fmt: skip
BEGUN_ANEW = [
    "", "foo", f"{SAMPLED}.", f"{SAMPLED}-what-the-future-will-be", f"cc-{ID}-{PARENT}-01.what-the-future-will-not-be",
    f"ff-{ID}-{PARENT}-01", f".0-{ID}-{PARENT}-01", f"0.-{ID}-{PARENT}-01", f"0-{ID}-{PARENT}-01",
    f"000-{ID}-{PARENT}-01", f"0000-{ID}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", f"00-.{ID[1:]}-{PARENT}-01",
    f"00-{ID[1:]}.-{PARENT}-01", f"00-{ID}0-{PARENT}-01", f"00-{ID[1:]}-{PARENT}-01", f"00-{ID.upper()}-{PARENT}-01",
    f"00-{ID}-{'0' * 16}-01", f"00-{ID}-.{PARENT[1:]}-01", f"00-{ID}-{PARENT}0-01", f"00-{ID}-{PARENT[1:]}-01",
    f"00-{ID}-{PARENT}-.0", f"00-{ID}-{PARENT}-0.", f"00-{ID}-{PARENT}-001", f"00-{ID}-{PARENT}-1", f"00-{ID}-{PARENT}",
    f"00-{ID}-{PARENT}-0X", f"00_{ID}_{PARENT}_01", f"{SAMPLED},{SAMPLED}", f"00-{ID}-{PARENT}-0\xb9",
]  # fmt: skip
"""The vectors of the W3C's own test suite for `traceparent` (w3c/trace-context, test/test.py), and a few more."""


async def sent_traceparent(gw: Gateway, *lines: str) -> tuple[str, str, str]:
    """Trace id, span id and flags that upstream got for a request with these header lines."""
    body = CHATS.body(stream=False)
    head = "\r\n".join([f"POST {CHATS.path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *lines])
    request = f"{head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode("latin-1") + body
    heard = await say(gw.address, request)
    assert heard.only.status == 200, heard
    match = TRACEPARENT.fullmatch((await passed_on(gw))["traceparent"])
    assert match is not None
    return match[1], match[2], match[3]


@pytest.mark.parametrize("value", CONTINUED)
async def test_a_valid_traceparent_is_continued(value: str) -> None:
    """F128: with a span id of the gateway's own, in version 00, whatever version came."""
    async with gateway() as gw:
        trace_id, span_id, flags = await sent_traceparent(gw, f"traceparent: {value}")
        assert (trace_id, flags) == (TRACE_ID, "00" if value == UNSAMPLED else "01")
        assert span_id not in (PARENT_ID, "0" * 16)


@pytest.mark.parametrize("value", BEGUN_ANEW)
async def test_an_invalid_traceparent_begins_a_trace_anew(value: str) -> None:
    """F128: and costs the request nothing."""
    async with gateway() as gw:
        trace_id, span_id, flags = await sent_traceparent(gw, f"traceparent: {value}", "tracestate: a=1")
        assert trace_id not in (TRACE_ID, "0" * 32) and span_id not in (PARENT_ID, "0" * 16)
        assert flags == "00"


async def test_which_headers_are_a_traceparent() -> None:
    """F128: none, the name in any case, near misses, and two of them (which are none)."""
    async with gateway() as gw:
        ids = [await sent_traceparent(gw) for _ in range(2)]
        assert len({trace_id for trace_id, _, _ in ids}) == 2
        for name in ("traceparent", "TraceParent", "TRACEPARENT", "tRaCePaReNt"):
            assert (await sent_traceparent(gw, f"{name}: {SAMPLED}"))[0] == TRACE_ID, name
        for name in ("trace-parent", "trace.parent"):
            assert (await sent_traceparent(gw, f"{name}: {SAMPLED}"))[0] != TRACE_ID, name
        other = SAMPLED.replace("0af7", "1bf7")
        trace_id, _, _ = await sent_traceparent(gw, f"traceparent: {SAMPLED}", f"traceparent: {other}")
        assert trace_id not in (TRACE_ID, other[3:35])


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        (["tracestate: foo=1,bar=2"], "foo=1,bar=2"),
        (["tracestate: foo=1", "tracestate: bar=2"], "foo=1,bar=2"),
        (["TraceState: foo=1 \t , \t bar=2"], "foo=1,bar=2"),
        (["tracestate: foo@=1"], ""),
        (["tracestate:"], ""),
        ([f"tracestate: foo={'x' * 10_000}"], ""),
    ],
)
async def test_tracestate_is_continued_in_our_own_spans_and_goes_no_further(lines: list[str], state: str) -> None:
    """F128, F96: an invalid or huge one is dropped, and the trace goes on."""
    async with collector() as sink:
        async with gateway(traced(sink.url, "0%")) as gw:
            trace_id, _, _ = await sent_traceparent(gw, f"traceparent: {SAMPLED}", *lines)
            assert trace_id == TRACE_ID and "tracestate" not in await passed_on(gw)
        server, client = pair(sink)
        assert server.trace_state == client.trace_state == state
