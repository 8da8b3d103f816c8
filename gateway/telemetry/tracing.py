"""Spans: one for the exchange and one for each try at a target, in the caller's trace.

W3C Trace Context is read and written by hand and the sampling decision made before any SDK object
exists, because most requests are not sampled: they pay 0.5 µs here, where the SDK's own extraction
takes 2.5. A sampled request gets real SDK spans, about 50 µs.

`tracestate` is continued in our own spans and goes no further; `baggage` is not read at all. Both
may hold what is no provider's business.
"""

import re
from dataclasses import dataclass
from random import Random
from typing import Any, TypeGuard

from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.trace.status import Status, StatusCode
from opentelemetry.util.types import AttributeValue

from gateway.core.errors import ClientFault, GatewayError, Outcome, UpstreamFault
from gateway.core.exchange import Attempt, Exchange, Trace
from gateway.core.money import usd
from gateway.telemetry import genai
from gateway.telemetry.access import plain_code
from gateway.telemetry.control_spans import instrument
from gateway.telemetry.otlp import Pipeline, TraceSettings

TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?[ \t]*")
"""https://www.w3.org/TR/trace-context/#traceparent-header: lower case only; later versions may add fields.

White space after the value is no part of it (RFC 9110, 5.5), but httptools leaves it there.
"""

MAX_TRACESTATE_BYTES = 8192
MAX_NAME = 256
LOW_64 = 0xFFFF_FFFF_FFFF_FFFF

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Destination:
    """What a span says of a target. One for each target, made when the configuration is built."""

    provider: str
    """The kind of provider in the configuration: `openai`, `azure`, …"""
    model: str | None
    """The model that is asked for there; None passes the client's on."""
    address: str
    port: int


class Tracer:
    """Begins traces and tries, and ends them. For the event loop's thread."""

    __slots__ = ("_pipeline", "_rng", "_threshold")

    def __init__(self, settings: TraceSettings, rng: Random) -> None:
        self._rng = rng
        self._pipeline = Pipeline(settings, rng) if settings.endpoint is not None else None
        self._threshold = round(settings.sample * (1 << 64)) if self._pipeline is not None else 0

    @property
    def dropped(self) -> int:
        """Spans lost so far because the collector was too slow or away."""
        return self._pipeline.dropped if self._pipeline is not None else 0

    def watch_calls(self, client: Any) -> None:
        """Give the calls of an `httpx.AsyncClient` spans of their own, where spans go anywhere."""
        if self._pipeline is not None:
            instrument(client, self._pipeline.provider)

    def begin(self, traceparent: bytes | None, tracestate: bytes | None) -> Trace:
        """The trace context of a new exchange: the caller's continued, or a new one if that is missing or invalid.

        Several `traceparent` headers are none: pass None. Several `tracestate` are joined by commas.
        """
        if traceparent is not None:
            match = TRACEPARENT.fullmatch(traceparent)
            if match is not None and _is_valid(match):
                return self._continued(match, tracestate)
        bits = self._rng.getrandbits(192)
        if self._threshold and bits & LOW_64 < self._threshold:
            recorded = self._recorded(None)
            if recorded is not None:
                return recorded
        ids = bits.to_bytes(24, "big").hex()
        return Trace(ids[16:], ids[:16], False)

    def attempt(self, exchange: Exchange, attempt: Attempt, destination: Destination) -> object | None:
        """Write `attempt.traceparent`, with a span id of its own; the client span when the trace is recorded."""
        trace = exchange.trace
        parent = trace.span
        if parent is None:
            span_id = self._rng.getrandbits(64).to_bytes(8, "big").hex()
            attempt.traceparent = f"00-{trace.trace_id}-{span_id}-{'01' if trace.sampled else '00'}".encode()
            return None
        assert is_span(parent) and self._pipeline is not None
        operation = genai.OPERATIONS[exchange.request.operation]
        model = (destination.model or exchange.request.head.model or "")[:MAX_NAME]
        span = self._pipeline.tracer.start_span(
            f"{operation} {model}".rstrip(),
            set_span_in_context(parent, Context()),
            SpanKind.CLIENT,
            _request_attributes(exchange, attempt, destination, operation, model),
        )
        attempt.traceparent = f"00-{trace.trace_id}-{span.get_span_context().span_id:016x}-01".encode()
        return span

    def end_attempt(
        self, span: object, exchange: Exchange, attempt: Attempt, outcome: Outcome, error: BaseException | None
    ) -> None:
        """End a client span with what the target answered."""
        assert is_span(span)
        span.set_attributes(_response_attributes(exchange, attempt))
        if outcome != "ok":
            span.set_attribute(genai.ERROR_TYPE, _error_type(outcome, error, attempt.status))
            if outcome != "client_gone":
                span.set_status(Status(StatusCode.ERROR))
        span.end()

    def end(self, exchange: Exchange, outcome: Outcome) -> None:
        """End the server span of an exchange, if it has one."""
        span = exchange.trace.span
        if not is_span(span):
            return
        request = exchange.request
        method = request.method if request.method in METHODS else "_OTHER"
        span.update_name(method)
        if request.suffix:
            # Of relayed paths the first segment only: the rest may hold ids.
            suffix = request.suffix if request.operation != "relay" else request.suffix.partition("/")[0]
            span.update_name(f"{method} /v1/{suffix}")
            span.set_attribute(genai.HTTP_ROUTE, f"/v1/{suffix}")
        span.set_attributes({genai.HTTP_METHOD: method, **_gateway_attributes(exchange)})
        if exchange.status is not None:
            span.set_attribute(genai.HTTP_STATUS, exchange.status)
        if exchange.error is not None:
            span.set_attribute(genai.ERROR_TYPE, plain_code(exchange.error))
        # A server span stays without status when the client was at fault (OpenTelemetry, HTTP server spans).
        if (exchange.status or 0) >= 500 or (
            exchange.error is not None and not isinstance(exchange.error, ClientFault)
        ):
            span.set_status(Status(StatusCode.ERROR))
        span.set_attribute("gateway.outcome", outcome)
        span.end()

    async def shutdown(self, timeout_s: float) -> None:
        """Send what is queued, for at most `timeout_s`, whatever the collector does."""
        if self._pipeline is not None:
            await self._pipeline.shutdown(timeout_s)

    def _continued(self, match: re.Match[bytes], tracestate: bytes | None) -> Trace:
        trace_id, parent_id = match[2].decode(), match[3].decode()
        sampled = bool(int(match[4], 16) & 1)
        if sampled and self._pipeline is not None:
            parent = SpanContext(
                int(trace_id, 16), int(parent_id, 16), True, TraceFlags(TraceFlags.SAMPLED), _trace_state(tracestate)
            )
            recorded = self._recorded(parent)
            if recorded is not None:
                return recorded
        return Trace(trace_id, self._rng.getrandbits(64).to_bytes(8, "big").hex(), sampled)

    def _recorded(self, parent: SpanContext | None) -> Trace | None:
        assert self._pipeline is not None
        context = Context()
        if parent is not None:
            context = set_span_in_context(NonRecordingSpan(parent), context)
        span = self._pipeline.tracer.start_span("request", context, SpanKind.SERVER)
        if not span.is_recording():
            # OTEL_SDK_DISABLED: the SDK then has no ids to give.
            return None
        ids = span.get_span_context()
        return Trace(f"{ids.trace_id:032x}", f"{ids.span_id:016x}", True, span)


def is_span(span: object | None) -> TypeGuard[Span]:
    """Whether this is a span that is being recorded."""
    return isinstance(span, Span)


def _is_valid(match: re.Match[bytes]) -> bool:
    version, more = match[1], match[5]
    if version == b"ff" or (version == b"00" and more is not None):
        return False
    return match[2].strip(b"0") != b"" and match[3].strip(b"0") != b""


def _trace_state(header: bytes | None) -> TraceState | None:
    if not header or len(header) > MAX_TRACESTATE_BYTES:
        return None
    return TraceState.from_header([header.decode("latin-1")])


def _gateway_attributes(exchange: Exchange) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "gateway.request.id": exchange.request_id,
        "gateway.config.revision": exchange.config_revision,
        "gateway.cache": exchange.cache,
    }
    optional = {
        "gateway.route": exchange.route,
        "gateway.target": exchange.target,
        "gateway.prompt.name": exchange.prompt_name,
        "gateway.prompt.version": exchange.prompt_version,
    }
    attributes.update({name: value for name, value in optional.items() if value is not None})
    return attributes


def _request_attributes(
    exchange: Exchange, attempt: Attempt, destination: Destination, operation: str, model: str
) -> dict[str, AttributeValue]:
    head = exchange.request.head
    attributes = _gateway_attributes(exchange)
    attributes |= {
        "gateway.target": attempt.target,
        "gateway.attempt": attempt.number,
        genai.PROVIDER_NAME: genai.PROVIDERS.get(destination.provider, destination.provider),
        genai.OPERATION_NAME: operation,
        genai.SERVER_ADDRESS: destination.address,
        genai.SERVER_PORT: destination.port,
    }
    optional: dict[str, AttributeValue | None] = {
        genai.REQUEST_MODEL: model or None,
        genai.REQUEST_STREAM: head.stream or None,
        genai.REQUEST_MAX_TOKENS: head.max_tokens,
        genai.REQUEST_TEMPERATURE: head.temperature,
        genai.REQUEST_TOP_P: head.top_p,
        genai.REQUEST_SEED: head.seed,
        genai.REQUEST_CHOICE_COUNT: head.n if head.n != 1 else None,
    }
    attributes.update({name: value for name, value in optional.items() if value is not None})
    return attributes


def _response_attributes(exchange: Exchange, attempt: Attempt) -> dict[str, AttributeValue]:
    usage = exchange.usage
    first_chunk_s = None
    if exchange.request.head.stream and exchange.first_event_s is not None:
        first_chunk_s = exchange.first_event_s - attempt.started_s
    optional: dict[str, AttributeValue | None] = {
        genai.HTTP_STATUS: attempt.status,
        genai.RESPONSE_ID: _short(exchange.response_id),
        genai.RESPONSE_MODEL: _short(exchange.model_served),
        genai.RESPONSE_FINISH_REASONS: [reason[:MAX_NAME] for reason in exchange.finish_reasons] or None,
        genai.RESPONSE_TIME_TO_FIRST_CHUNK: first_chunk_s,
        genai.USAGE_INPUT_TOKENS: usage.input_tokens,
        genai.USAGE_OUTPUT_TOKENS: usage.output_tokens,
        genai.USAGE_CACHE_READ_INPUT_TOKENS: usage.cached_input_tokens,
        genai.USAGE_CACHE_CREATION_INPUT_TOKENS: usage.cache_write_tokens,
        genai.USAGE_REASONING_OUTPUT_TOKENS: usage.reasoning_tokens,
        "gateway.cost_usd": usd(attempt.cost_nusd) if attempt.cost_nusd else None,
    }
    return {name: value for name, value in optional.items() if value is not None}


def _short(text: str | None) -> str | None:
    return text if text is None else text[:MAX_NAME]


def _error_type(outcome: Outcome, error: BaseException | None, status: int | None) -> str:
    if isinstance(error, UpstreamFault) and error.upstream_status is not None and error.upstream_status >= 400:
        return str(error.upstream_status)
    if isinstance(error, GatewayError):
        return plain_code(error)
    if error is None and status is not None:
        return str(status)
    return outcome
