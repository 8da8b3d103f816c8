"""What is written down of a request, whatever ended it."""

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from socket import socket
from typing import Any

import pytest

from gateway.core.clock import Clock
from gateway.core.errors import (
    ClientGone,
    GatewayError,
    InvalidRequest,
    NoHealthyTarget,
    NotFound,
    Outcome,
    ShuttingDown,
    UpstreamConnectError,
    UpstreamError,
    UpstreamTimeout,
    UpstreamTruncated,
)
from gateway.core.exchange import Attempt, Exchange, Usage
from gateway.telemetry.metrics import Registry
from gateway.telemetry.observe import Observer
from gateway.telemetry.otlp import TraceSettings
from gateway.telemetry.recent import Recent
from gateway.telemetry.sink import LogSink
from gateway.telemetry.tracing import Destination, Tracer

MakeExchange = Callable[..., Exchange]
DESTINATION = Destination("openai", "gpt-4.1", "api.example.com", 443)


@dataclass(slots=True)
class Desk:
    """An observer, and everything it writes to."""

    observer: Observer
    registry: Registry
    recent: Recent
    sink: LogSink
    path: Path

    def lines(self) -> list[dict[str, Any]]:
        """The log so far."""
        assert self.sink.flush(5)
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]

    def value(self, name: str, *labels: str) -> float:
        """A counter's or gauge's value; 0 when there is no such series."""
        samples = self.registry.snapshot().metrics.get(name, [])
        return sum(sample.value for sample in samples if sample.labels == labels)

    def observations(self, name: str, *labels: str) -> tuple[int, float]:
        """A histogram's count and sum."""
        samples = self.registry.snapshot().metrics.get(name, [])
        found = [sample for sample in samples if sample.labels == labels]
        return sum(sum(sample.counts) for sample in found), sum(sample.sum for sample in found)


@pytest.fixture
def desk(tmp_path: Path, clock: Clock) -> Iterator[Desk]:
    """An observer without a collector."""
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    sink, registry, recent = LogSink(fd), Registry(), Recent()
    registry.configure(["support-*"], ["stable", "payg"])
    tracer = Tracer(TraceSettings(None, 0.0, "gateway", "0", "test"), Random(7))
    observer = Observer(registry=registry, tracer=tracer, sink=sink, recent=recent, clock=clock)
    yield Desk(observer, registry, recent, sink, path)
    sink.close(5)
    os.close(fd)


@contextmanager
def attempting(observer: Observer, exchange: Exchange, attempt: Attempt, destination: Destination) -> Iterator[Attempt]:
    """A try at a target, from before it is sent until its reply is over."""
    span = observer.start_attempt(exchange, attempt, destination)
    try:
        yield attempt
    except BaseException as error:
        observer.end_attempt(exchange, attempt, span, error)
        raise
    observer.end_attempt(exchange, attempt, span, None)


def served(exchange: Exchange) -> Exchange:
    """An exchange that a target has answered well."""
    exchange.route, exchange.target, exchange.status = "support-*", "stable", 200
    return exchange


def test_a_stream_that_ends_well_is_counted_timed_and_logged(desk: Desk, make_exchange: MakeExchange) -> None:
    exchange = make_exchange(stream=True)
    exchange.started_s = 998.0
    with desk.observer.observe(exchange) as observation:
        served(exchange)
        observation.routed()
        exchange.first_event_s, exchange.overhead_s = 998.5, 0.0004
        exchange.usage = Usage(100, 40, 60, None, 10, "provider")
    labels = ("support-*", "stable")
    assert desk.value("gateway_requests_total", *labels, "ok") == 1
    assert desk.observations("gateway_request_duration_seconds", *labels) == (1, 2.0)
    assert desk.observations("gateway_time_to_first_token_seconds", *labels) == (1, 0.5)
    assert desk.observations("gateway_overhead_seconds", "support-*") == (1, 0.0004)
    tokens = {kind: desk.value("gateway_tokens_total", *labels, kind) for kind in ("input", "output")}
    assert tokens == {"input": 100, "output": 40}
    assert desk.value("gateway_tokens_total", *labels, "cached_input") == 60
    assert desk.value("gateway_tokens_total", *labels, "reasoning") == 10
    assert desk.value("gateway_usage_estimated_total", *labels) == 0
    (line,) = desk.lines()
    assert (line["outcome"], line["status"], line["reason"]) == ("ok", 200, None)
    assert (line["duration_ms"], line["ttft_ms"], line["overhead_ms"]) == (2000, 500, 0.4)
    assert desk.recent.find("req-1") is not None


def test_a_reply_that_is_no_stream_has_no_time_to_first_token(desk: Desk, make_exchange: MakeExchange) -> None:
    exchange = served(make_exchange())
    with desk.observer.observe(exchange):
        exchange.first_event_s = 1000.5
    assert desk.observations("gateway_time_to_first_token_seconds", "support-*", "stable") == (0, 0)
    assert desk.lines()[0]["ttft_ms"] is None


def test_estimated_usage_is_counted_as_such(desk: Desk, make_exchange: MakeExchange) -> None:
    with desk.observer.observe(served(make_exchange())) as _:
        pass
    exchange = served(make_exchange())
    with desk.observer.observe(exchange):
        exchange.usage = Usage(input_tokens=10, source="estimated")
    assert desk.value("gateway_usage_estimated_total", "support-*", "stable") == 1


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (InvalidRequest("bad"), 400, "client_error"),
        (UpstreamConnectError("refused"), 502, "upstream_error"),
        (UpstreamTimeout("slow", phase="idle"), 504, "upstream_timeout"),
        (UpstreamTruncated("cut"), 502, "truncated"),
        (NoHealthyTarget("none"), 503, "no_target"),
        (ShuttingDown("drained"), 503, "overloaded"),
        (ClientGone("left"), 499, "client_gone"),
    ],
)
def test_an_error_that_ends_the_scope_decides_outcome_and_status_and_goes_on(
    desk: Desk, make_exchange: MakeExchange, error: GatewayError, status: int, outcome: Outcome
) -> None:
    exchange = make_exchange()
    exchange.route, exchange.target = "support-*", "stable"
    with pytest.raises(type(error)) as caught, desk.observer.observe(exchange):
        raise error
    assert caught.value is exchange.error is error
    assert exchange.status == status
    assert desk.value("gateway_requests_total", "support-*", "stable", outcome) == 1
    assert (desk.lines()[0]["outcome"], desk.lines()[0]["status"]) == (outcome, status)


def test_a_stream_that_breaks_after_its_head_is_no_success(desk: Desk, make_exchange: MakeExchange) -> None:
    """F129: the status was sent as 200 and stays so; the outcome tells."""
    exchange = served(make_exchange(stream=True))
    with desk.observer.observe(exchange):
        exchange.error = UpstreamTruncated("the stream stopped before its end")
    (line,) = desk.lines()
    assert (line["outcome"], line["status"], line["level"]) == ("truncated", 200, "warning")
    assert desk.value("gateway_requests_total", "support-*", "stable", "ok") == 0


@pytest.mark.parametrize("leaving", [asyncio.CancelledError(), GeneratorExit()])
def test_a_client_that_leaves_is_a_499(desk: Desk, make_exchange: MakeExchange, leaving: BaseException) -> None:
    exchange = served(make_exchange(stream=True))
    with pytest.raises(type(leaving)), desk.observer.observe(exchange):
        raise leaving
    assert (desk.lines()[0]["outcome"], desk.lines()[0]["status"]) == ("client_gone", 499)
    assert desk.value("gateway_requests_total", "support-*", "stable", "client_gone") == 1


def test_a_cancellation_with_a_known_cause_counts_as_that(desk: Desk, make_exchange: MakeExchange) -> None:
    exchange = served(make_exchange())
    with pytest.raises(asyncio.CancelledError), desk.observer.observe(exchange):
        exchange.error = ShuttingDown("drained")
        raise asyncio.CancelledError
    assert desk.value("gateway_requests_total", "support-*", "stable", "overloaded") == 1


def test_a_bug_is_logged_as_internal_without_its_text(
    desk: Desk, make_exchange: MakeExchange, canaries: tuple[str, str]
) -> None:
    """F114."""
    with pytest.raises(KeyError), desk.observer.observe(make_exchange()):
        raise KeyError(canaries[0])
    (line,) = desk.lines()
    assert (line["outcome"], line["status"], line["level"]) == ("internal", 500, "error")
    assert not any(canary in json.dumps(line) for canary in canaries)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "ok"), (400, "client_error"), (404, "client_error"), (429, "upstream_error"), (500, "upstream_error"),
        (503, "upstream_error"), (504, "upstream_timeout"),
    ],
)  # fmt: skip
def test_a_providers_status_that_was_passed_on_is_the_outcome(
    desk: Desk, make_exchange: MakeExchange, status: int, outcome: Outcome
) -> None:
    exchange = served(make_exchange())
    with desk.observer.observe(exchange):
        exchange.status = status
    assert desk.value("gateway_requests_total", "support-*", "stable", outcome) == 1


def test_an_answer_from_the_cache_is_told_apart(desk: Desk, make_exchange: MakeExchange) -> None:
    exchange = served(make_exchange())
    with desk.observer.observe(exchange):
        exchange.cache, exchange.target = "hit", None
    assert desk.value("gateway_requests_total", "support-*", "none", "cached") == 1


def test_a_model_without_a_route_counts_as_other(desk: Desk, make_exchange: MakeExchange) -> None:
    """F125."""
    with pytest.raises(NotFound), desk.observer.observe(make_exchange("invented")) as observation:
        observation.routed()
        raise NotFound("no such model")
    assert desk.value("gateway_requests_total", "other", "none", "client_error") == 1
    assert desk.lines()[0]["model_requested"] == "invented"


def test_a_request_is_in_flight_from_its_route_to_its_end(desk: Desk, make_exchange: MakeExchange) -> None:
    exchange = make_exchange()
    with pytest.raises(asyncio.CancelledError), desk.observer.observe(exchange) as observation:
        assert desk.value("gateway_inflight_requests", "support-*") == 0
        served(exchange)
        observation.routed()
        observation.routed()
        assert desk.value("gateway_inflight_requests", "support-*") == 1
        raise asyncio.CancelledError
    assert desk.value("gateway_inflight_requests", "support-*") == 0


def test_an_attempt_is_sent_in_the_trace_of_its_exchange(desk: Desk, make_exchange: MakeExchange) -> None:
    """F128."""
    exchange, attempt = make_exchange(), Attempt(1, "stable")
    with attempting(desk.observer, exchange, attempt, DESTINATION) as begun:
        assert begun is attempt
        version, trace_id, span_id, flags = attempt.traceparent.decode().split("-")
        attempt.status = 200
    assert (version, trace_id, flags) == ("00", exchange.trace.trace_id, "00")
    assert span_id != exchange.trace.span_id
    assert desk.value("gateway_upstream_attempts_total", "stable", "ok") == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (UpstreamConnectError("refused"), "upstream_error"),
        (UpstreamTimeout("slow", phase="first_token"), "upstream_timeout"),
        (UpstreamError("busy", upstream_status=429), "rate_limited"),
        (UpstreamError("down", upstream_status=503), "upstream_error"),
        (asyncio.CancelledError(), "client_gone"),
        (KeyError("bug"), "internal"),
    ],
)
def test_an_attempt_is_counted_by_what_ended_it(
    desk: Desk, make_exchange: MakeExchange, error: BaseException, outcome: Outcome
) -> None:
    attempt = Attempt(1, "stable")
    with pytest.raises(type(error)), attempting(desk.observer, make_exchange(), attempt, DESTINATION):
        raise error
    assert desk.value("gateway_upstream_attempts_total", "stable", outcome) == 1


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(400, "client_error"), (429, "rate_limited"), (500, "upstream_error"), (504, "upstream_timeout")],
)
def test_an_attempt_that_was_refused_is_counted_by_the_providers_status(
    desk: Desk, make_exchange: MakeExchange, status: int, outcome: Outcome
) -> None:
    attempt = Attempt(1, "stable")
    with attempting(desk.observer, make_exchange(), attempt, DESTINATION):
        attempt.status = status
    assert desk.value("gateway_upstream_attempts_total", "stable", outcome) == 1


def test_an_attempt_that_was_cancelled_takes_the_cause_from_its_exchange(
    desk: Desk, make_exchange: MakeExchange
) -> None:
    exchange, attempt = make_exchange(), Attempt(1, "stable")
    exchange.error = ShuttingDown("drained")
    with pytest.raises(asyncio.CancelledError), attempting(desk.observer, exchange, attempt, DESTINATION):
        raise asyncio.CancelledError
    assert desk.value("gateway_upstream_attempts_total", "stable", "overloaded") == 1


def test_requests_that_end_in_one_turn_are_written_down_together_in_the_next(
    clock: Clock, make_exchange: MakeExchange
) -> None:
    recent, turns = Recent(), list[Callable[[], None]]()
    tracer = Tracer(TraceSettings(None, 0.0, "gateway", "0", "test"), Random(7))
    observer = Observer(registry=Registry(), tracer=tracer, sink=None, recent=recent, clock=clock, defer=turns.append)
    for _ in range(2):
        with observer.observe(served(make_exchange())):
            pass
    assert (len(recent), len(turns)) == (0, 1)
    with pytest.raises(KeyError), observer.observe(make_exchange()):
        raise KeyError("bug")
    assert len(recent) == 1, "what an error ended is written down at once"
    turns.pop()()
    assert (len(recent), len(turns)) == (3, 0)


def test_a_request_that_cannot_be_written_down_takes_no_other_with_it(
    clock: Clock, make_exchange: MakeExchange
) -> None:
    recent, turns = Recent(), list[Callable[[], None]]()
    tracer = Tracer(TraceSettings(None, 0.0, "gateway", "0", "test"), Random(7))
    observer = Observer(registry=Registry(), tracer=tracer, sink=None, recent=recent, clock=clock, defer=turns.append)
    broken = served(make_exchange())
    broken.request_id = "half a \ud800 pair"
    for exchange in (broken, served(make_exchange())):
        with observer.observe(exchange):
            pass
    with pytest.raises(UnicodeEncodeError):
        turns.pop()()
    turns.pop()()
    assert len(recent) == 1


def test_without_a_sink_everything_else_is_still_written_down(clock: Clock, make_exchange: MakeExchange) -> None:
    registry, recent = Registry(), Recent()
    tracer = Tracer(TraceSettings(None, 0.0, "gateway", "0", "test"), Random(7))
    observer = Observer(registry=registry, tracer=tracer, sink=None, recent=recent, clock=clock)
    with observer.observe(make_exchange()):
        pass
    assert len(recent) == 1


@pytest.mark.anyio
async def test_the_spans_of_a_recorded_exchange_end_with_its_scopes(clock: Clock, make_exchange: MakeExchange) -> None:
    """Two spans reach the (absent) collector's queue: one for the attempt, one for the exchange."""
    with socket() as silent:
        silent.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        tracer = Tracer(TraceSettings(endpoint, 1.0, "gateway", "0", "test"), Random(7))
        observer = Observer(registry=Registry(), tracer=tracer, sink=None, recent=Recent(), clock=clock)
        exchange, attempt = make_exchange(), Attempt(1, "stable")
        exchange.trace = tracer.begin(None, None)
        with observer.observe(exchange), attempting(observer, exchange, attempt, DESTINATION):
            attempt.status = 200
        assert attempt.traceparent.endswith(b"-01")
        await tracer.shutdown(5)
    assert tracer.dropped == 2


def test_what_a_try_cost_is_counted_and_what_nobody_knows_is_too(desk: Desk, make_exchange: MakeExchange) -> None:
    """F57: a price that is unknown is visible."""
    exchange = served(make_exchange())
    destination = Destination("openai", None, "eu.example.com", 443)
    for target, cost_nusd in (("stable", 250_000_000), ("payg", 500_000_000), ("stable", None), ("stable", 0)):
        attempt = Attempt(1, target)
        with attempting(desk.observer, exchange, attempt, destination):
            attempt.cost_nusd = cost_nusd
    assert desk.value("gateway_cost_usd_total", "support-*", "stable") == 0.25
    assert desk.value("gateway_cost_usd_total", "support-*", "payg") == 0.5
    assert desk.value("gateway_cost_unknown_total", "stable") == 1
