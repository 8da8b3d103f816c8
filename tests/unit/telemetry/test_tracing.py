"""W3C trace context, by the rules of https://www.w3.org/TR/trace-context/ and its test suite."""

import re
from collections.abc import Callable
from random import Random

import pytest

from gateway.core.exchange import Attempt, Exchange
from gateway.telemetry.otlp import TraceSettings
from gateway.telemetry.tracing import Destination, Tracer

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
VALID = f"00-{TRACE_ID}-{PARENT_ID}-01".encode()
DESTINATION = Destination(provider="openai", model=None, address="api.example.com", port=443)
EXACT = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]")


def untraced() -> Tracer:
    """A tracer without a collector, with fixed ids."""
    return Tracer(TraceSettings(None, 1.0, "gateway", "0", "test"), Random(7))


@pytest.mark.parametrize(
    "traceparent",
    [
        VALID,
        f"00-{TRACE_ID}-{PARENT_ID}-00".encode(),
        f"00-{TRACE_ID}-{PARENT_ID}-ff".encode(),
        f"cc-{TRACE_ID}-{PARENT_ID}-01".encode(),
        f"cc-{TRACE_ID}-{PARENT_ID}-01-what-the-future-will-be-like".encode(),
        f"cc-{TRACE_ID}-{PARENT_ID}-01-".encode(),
    ],
)
def test_a_valid_traceparent_is_continued_with_a_span_id_of_our_own(traceparent: bytes) -> None:
    """F128."""
    trace = untraced().begin(traceparent, None)
    assert trace.trace_id == TRACE_ID
    assert trace.span_id != PARENT_ID
    assert re.fullmatch("[0-9a-f]{16}", trace.span_id)
    assert trace.sampled == (not traceparent.endswith(b"-00"))


@pytest.mark.parametrize(
    "traceparent",
    [
        b"",
        b"00",
        VALID + b"-",
        VALID + b"-what-the-future-will-be-like",
        VALID + b".",
        VALID + b"\n",
        b" " + VALID,
        VALID.upper(),
        f"00-{TRACE_ID.upper()}-{PARENT_ID}-01".encode(),
        f"ff-{TRACE_ID}-{PARENT_ID}-01".encode(),
        f"0x-{TRACE_ID}-{PARENT_ID}-01".encode(),
        f"000-{TRACE_ID}-{PARENT_ID}-01".encode(),
        f"cc-{TRACE_ID}-{PARENT_ID}-01.what".encode(),
        f"00-{'0' * 32}-{PARENT_ID}-01".encode(),
        f"00-{TRACE_ID}-{'0' * 16}-01".encode(),
        f"00-{TRACE_ID[:-1]}-{PARENT_ID}-01".encode(),
        f"00-{TRACE_ID}0-{PARENT_ID}-01".encode(),
        f"00-.{TRACE_ID[1:]}-{PARENT_ID}-01".encode(),
        f"00-{TRACE_ID}-{PARENT_ID[:-1]}-01".encode(),
        f"00-{TRACE_ID}-{PARENT_ID}-1".encode(),
        f"00-{TRACE_ID}-{PARENT_ID}-.0".encode(),
        f"00-{TRACE_ID}-{PARENT_ID}-001".encode(),
        "00-٣af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".encode(),
    ],
)
def test_an_invalid_traceparent_begins_a_new_trace(traceparent: bytes) -> None:
    """F128."""
    trace = untraced().begin(traceparent, b"vendor=1")
    assert trace.trace_id != TRACE_ID
    assert re.fullmatch("[0-9a-f]{32}", trace.trace_id)
    assert not trace.sampled


def test_without_a_collector_nothing_is_recorded_and_the_callers_choice_is_passed_on(
    make_exchange: Callable[..., Exchange],
) -> None:
    tracer = untraced()
    for parent, flags in ((VALID, b"01"), (None, b"00")):
        exchange = make_exchange()
        exchange.trace = tracer.begin(parent, b"vendor=1")
        attempt = Attempt(1, "stable")
        assert exchange.trace.span is None
        assert tracer.attempt(exchange, attempt, DESTINATION) is None
        assert attempt.traceparent.endswith(b"-" + flags)
    assert tracer.dropped == 0


def test_every_attempt_is_sent_with_a_span_id_of_its_own(make_exchange: Callable[..., Exchange]) -> None:
    """F128."""
    tracer = untraced()
    exchange = make_exchange()
    exchange.trace = tracer.begin(VALID, None)
    attempts = [Attempt(number, "stable") for number in (1, 2)]
    for attempt in attempts:
        tracer.attempt(exchange, attempt, DESTINATION)
        assert EXACT.fullmatch(attempt.traceparent)
        assert attempt.traceparent.split(b"-")[1].decode() == TRACE_ID
    sent = {attempt.traceparent.split(b"-")[2].decode() for attempt in attempts}
    assert len(sent | {exchange.trace.span_id, PARENT_ID}) == 4


@pytest.mark.anyio
async def test_shutdown_without_a_collector_does_nothing() -> None:
    tracer = untraced()
    await tracer.shutdown(0.0)
    assert tracer.dropped == 0


def test_new_traces_have_ids_that_differ() -> None:
    tracer = untraced()
    traces = [tracer.begin(None, None) for _ in range(1000)]
    assert len({trace.trace_id for trace in traces} | {trace.span_id for trace in traces}) == 2000


def test_the_headers_of_the_collector_are_not_in_the_repr_of_the_settings() -> None:
    """F114: they hold its key."""
    settings = TraceSettings(None, 1.0, "gateway", "0", "test", {"authorization": "Bearer canary"})
    assert "canary" not in repr(settings)


@pytest.mark.anyio
async def test_an_sdk_that_is_disabled_leaves_requests_unrecorded_but_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    tracer = Tracer(TraceSettings("http://127.0.0.1:1", 1.0, "gateway", "0", "test"), Random(7))
    fresh, continued = tracer.begin(None, None), tracer.begin(VALID, None)
    assert fresh.span is continued.span is None
    assert int(fresh.trace_id, 16) != 0
    assert continued.trace_id == TRACE_ID
    await tracer.shutdown(1)


def test_ending_a_trace_that_is_not_recorded_does_nothing(make_exchange: Callable[..., Exchange]) -> None:
    exchange = make_exchange()
    untraced().end(exchange, "ok")
    assert exchange.trace.span is None
