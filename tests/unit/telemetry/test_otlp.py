"""Spans as a collector gets them, and collectors that are slow, silent or away."""

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from socket import create_server, socket
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from gateway.core.errors import ClientGone, Outcome, UpstreamError, UpstreamTimeout
from gateway.core.exchange import Attempt, Exchange, Usage
from gateway.telemetry.otlp import TraceSettings
from gateway.telemetry.tracing import Destination, Tracer

MakeExchange = Callable[..., Exchange]
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
VALID = f"00-{TRACE_ID}-{PARENT_ID}-01".encode()
DESTINATION = Destination(provider="azure", model="gpt-4.1-2025-04-14", address="eu.example.com", port=443)


class Collector:
    """An OTLP/HTTP collector in a thread, which remembers what it was sent."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        collector = self

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """Remember one export."""
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                collector.paths.append(self.path)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def spans(self) -> dict[str, Span]:
        """All spans received, by name."""
        return {
            span.name: span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that answers."""
    running = Collector()
    yield running
    running.close()


@pytest.fixture
def black_hole() -> Iterator[str]:
    """The address of a collector that accepts connections and never answers."""
    with create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def traced(endpoint: str, *, sample: float = 1.0, max_queue: int = 2048) -> Tracer:
    """A tracer that exports to `endpoint`."""
    settings = TraceSettings(
        endpoint, sample, "llm-gateway", "1.2.3", "prod", {"x-collector-key": "abc"}, max_queue=max_queue
    )
    return Tracer(settings, Random(7))


def attributes(span: Span) -> dict[str, Any]:
    """A span's attributes as plain values."""
    plain: dict[str, Any] = {}
    for pair in span.attributes:
        kind = pair.value.WhichOneof("value")
        assert kind is not None
        value = getattr(pair.value, kind)
        plain[pair.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return plain


def answered(exchange: Exchange) -> Attempt:
    """An exchange that was served as a stream by its first attempt, as far as that is known before its end."""
    exchange.route, exchange.target, exchange.model_served = "support-*", "stable", "gpt-4.1-2025-04-14"
    exchange.prompt_name, exchange.prompt_version = "greeting", "7"
    exchange.usage = Usage(
        input_tokens=100, output_tokens=40, cached_input_tokens=60, cache_write_tokens=0, reasoning_tokens=10
    )
    exchange.first_event_s, exchange.response_id, exchange.finish_reasons = 1000.75, "chatcmpl-1", ["stop"]
    exchange.status = 200
    attempt = Attempt(1, "stable", started_s=1000.5, status=200)
    exchange.attempts.append(attempt)
    return attempt


@pytest.mark.anyio
async def test_a_sampled_request_is_a_server_span_with_a_client_span_for_its_attempt(
    collector: Collector, make_exchange: MakeExchange
) -> None:
    """F128: the caller's trace goes on, its tracestate in our spans and nowhere else."""
    tracer = traced(collector.url)
    exchange = make_exchange(stream=True)
    exchange.trace = tracer.begin(VALID, b"vendor=opaque,other=1")
    attempt = answered(exchange)
    span = tracer.attempt(exchange, attempt, DESTINATION)
    assert span is not None
    tracer.end_attempt(span, exchange, attempt, "ok", None)
    tracer.end(exchange, "ok")
    await tracer.shutdown(5)

    spans = collector.spans()
    server, client = spans["POST /v1/chat/completions"], spans["chat gpt-4.1-2025-04-14"]
    assert server.trace_id.hex() == client.trace_id.hex() == TRACE_ID == exchange.trace.trace_id
    assert server.parent_span_id.hex() == PARENT_ID
    assert server.span_id.hex() == exchange.trace.span_id
    assert client.parent_span_id == server.span_id
    assert attempt.traceparent.decode() == f"00-{TRACE_ID}-{client.span_id.hex()}-01"
    assert server.trace_state == client.trace_state == "vendor=opaque,other=1"
    assert (server.kind, client.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    assert tracer.dropped == 0


@pytest.mark.anyio
async def test_spans_carry_the_promised_attributes(collector: Collector, make_exchange: MakeExchange) -> None:
    tracer = traced(collector.url)
    exchange = make_exchange(stream=True)
    exchange.trace = tracer.begin(None, None)
    attempt = answered(exchange)
    span = tracer.attempt(exchange, attempt, DESTINATION)
    assert span is not None
    tracer.end_attempt(span, exchange, attempt, "ok", None)
    tracer.end(exchange, "ok")
    await tracer.shutdown(5)

    gateway_attributes = {
        "gateway.request.id": "req-1",
        "gateway.route": "support-*",
        "gateway.target": "stable",
        "gateway.prompt.name": "greeting",
        "gateway.prompt.version": "7",
        "gateway.config.revision": "rev-1",
        "gateway.cache": "bypass",
    }
    spans = collector.spans()
    assert attributes(spans["chat gpt-4.1-2025-04-14"]) == gateway_attributes | {
        "gateway.attempt": 1,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.request.model": "gpt-4.1-2025-04-14",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-4.1-2025-04-14",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 40,
        "gen_ai.usage.cache_read.input_tokens": 60,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 10,
        "server.address": "eu.example.com",
        "server.port": 443,
        "http.response.status_code": 200,
    }
    assert attributes(spans["POST /v1/chat/completions"]) == gateway_attributes | {
        "gateway.outcome": "ok",
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
    }


@pytest.mark.anyio
async def test_the_collector_is_told_who_sends_and_is_shown_the_configured_header(
    collector: Collector, make_exchange: MakeExchange
) -> None:
    tracer = traced(collector.url + "/")
    exchange = make_exchange()
    exchange.trace = tracer.begin(None, None)
    tracer.end(exchange, "ok")
    await tracer.shutdown(5)
    resource = {
        pair.key: pair.value.string_value for pair in collector.requests[0].resource_spans[0].resource.attributes
    }
    assert resource["service.name"] == "llm-gateway"
    assert resource["service.version"] == "1.2.3"
    assert resource["deployment.environment.name"] == "prod"
    assert collector.headers[0]["x-collector-key"] == "abc"
    assert collector.paths == ["/v1/traces"]


@pytest.mark.anyio
async def test_failures_are_visible_on_both_spans_and_a_client_that_left_is_no_error(
    collector: Collector, make_exchange: MakeExchange
) -> None:
    """F129."""
    tracer = traced(collector.url)
    timeout = UpstreamTimeout("no event within 10 s", phase="first_token")
    for model, error in (
        ("slow", timeout),
        ("bad", UpstreamError("502", upstream_status=502)),
        ("gone", ClientGone("")),
    ):
        exchange = make_exchange(model)
        exchange.request.suffix = model
        exchange.trace = tracer.begin(None, None)
        exchange.error, exchange.status = error, error.status
        attempt = Attempt(1, "stable")
        span = tracer.attempt(exchange, attempt, Destination("openai", None, "api.example.com", 443))
        assert span is not None
        tracer.end_attempt(span, exchange, attempt, error.outcome, error)
        tracer.end(exchange, error.outcome)
    await tracer.shutdown(5)
    seen = {
        name: (attributes(span)["error.type"], span.status.code == span.status.STATUS_CODE_ERROR)
        for name, span in collector.spans().items()
    }
    assert seen == {
        "chat slow": ("upstream_timeout", True),
        "POST /v1/slow": ("upstream_timeout", True),
        "chat bad": ("502", True),
        "POST /v1/bad": ("upstream_error", True),
        "chat gone": ("client_gone", False),
        "POST /v1/gone": ("client_gone", False),
    }


@pytest.mark.anyio
async def test_a_path_that_is_not_served_gives_a_span_no_name(
    collector: Collector, make_exchange: MakeExchange
) -> None:
    """F125."""
    tracer = traced(collector.url)
    exchange = make_exchange()
    exchange.request.suffix = ""
    exchange.trace = tracer.begin(None, None)
    tracer.end(exchange, "client_error")
    await tracer.shutdown(5)
    assert "http.route" not in attributes(collector.spans()["POST"])


@pytest.mark.anyio
async def test_a_refusal_that_was_passed_on_is_an_error_of_the_attempt_alone(
    collector: Collector, make_exchange: MakeExchange
) -> None:
    tracer = traced(collector.url)
    refused: tuple[tuple[str, int | None, Outcome], ...] = (("0", 400, "client_error"), ("1", None, "upstream_error"))
    for name, status, outcome in refused:
        exchange = make_exchange()
        exchange.request.suffix = name
        exchange.trace = tracer.begin(None, None)
        attempt = Attempt(1, "stable", status=status)
        span = tracer.attempt(exchange, attempt, Destination("mock", name, "127.0.0.1", 80))
        assert span is not None
        tracer.end_attempt(span, exchange, attempt, outcome, None)
        exchange.status = 400
        tracer.end(exchange, "client_error")
    await tracer.shutdown(5)
    spans = collector.spans()
    assert attributes(spans["chat 0"])["error.type"] == "400"
    assert attributes(spans["chat 1"])["error.type"] == "upstream_error"
    assert attributes(spans["chat 0"])["gen_ai.provider.name"] == "mock"
    assert spans["chat 0"].status.code == spans["chat 0"].status.STATUS_CODE_ERROR
    assert spans["POST /v1/0"].status.code == spans["POST /v1/0"].status.STATUS_CODE_UNSET


@pytest.mark.anyio
async def test_no_prompt_and_no_key_is_exported(
    collector: Collector, make_exchange: MakeExchange, canaries: tuple[str, str]
) -> None:
    """F114."""
    tracer = traced(collector.url)
    exchange = make_exchange()
    exchange.trace = tracer.begin(None, None)
    attempt = answered(exchange)
    span = tracer.attempt(exchange, attempt, DESTINATION)
    assert span is not None
    error = UpstreamError(f"{canaries[0]} {canaries[1]}")
    tracer.end_attempt(span, exchange, attempt, "upstream_error", error)
    exchange.error = error
    tracer.end(exchange, "upstream_error")
    await tracer.shutdown(5)
    exported = b"".join(request.SerializeToString() for request in collector.requests)
    assert exported
    assert not any(canary.encode() in exported for canary in canaries)


@pytest.mark.anyio
async def test_the_configured_share_of_new_traces_is_sampled_and_a_callers_choice_wins(collector: Collector) -> None:
    tracer = traced(collector.url, sample=0.1, max_queue=1)
    sampled = sum(tracer.begin(None, None).sampled for _ in range(5000))
    assert 400 < sampled < 600
    assert tracer.begin(VALID, None).sampled
    assert not tracer.begin(VALID[:-2] + b"00", None).sampled
    assert not traced(collector.url, sample=0.0).begin(None, None).sampled
    await tracer.shutdown(5)


@pytest.mark.anyio
async def test_a_silent_collector_blocks_neither_requests_nor_shutdown(
    black_hole: str, make_exchange: MakeExchange
) -> None:
    """F127."""
    tracer = traced(black_hole, max_queue=64)
    began = time.monotonic()
    for _ in range(1000):
        exchange = make_exchange()
        exchange.trace = tracer.begin(None, None)
        tracer.end(exchange, "ok")
    assert time.monotonic() - began < 2
    assert tracer.dropped >= 800
    began = time.monotonic()
    await tracer.shutdown(0.1)
    assert time.monotonic() - began < 1
    assert tracer.dropped >= 936


@pytest.mark.anyio
async def test_spans_for_a_collector_that_is_away_are_counted_as_dropped(make_exchange: MakeExchange) -> None:
    """F127."""
    with socket() as unbound:
        unbound.bind(("127.0.0.1", 0))
        tracer = traced(f"http://127.0.0.1:{unbound.getsockname()[1]}")
        exchange = make_exchange()
        exchange.trace = tracer.begin(None, None)
        tracer.end(exchange, "ok")
        await tracer.shutdown(5)
    assert tracer.dropped == 1
    gc.collect()


SCRIPT = """
import asyncio, random, sys
from gateway.telemetry.otlp import TraceSettings
from gateway.telemetry.tracing import Tracer

async def main():
    tracer = Tracer(TraceSettings(sys.argv[1], 1.0, "gateway", "0", "test"), random.Random(7))
    for _ in range(1000):
        tracer.begin(None, None).span.end()
    await tracer.shutdown(0.1)

asyncio.run(main())
print("out")
"""


def test_a_process_exits_although_its_collector_is_silent(black_hole: str) -> None:
    """F127: neither the SDK's threads nor its exit handler hold the process back."""
    ended = subprocess.run([sys.executable, "-c", SCRIPT, black_hole], capture_output=True, timeout=15, check=True)
    assert ended.stdout == b"out\n"
