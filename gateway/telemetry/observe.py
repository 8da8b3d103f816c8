"""One request seen from outside: its metrics, its log line, its spans, its place among the last requests.

The scope of an exchange is a synchronous context manager written by hand (a generator costs three
times as much) that watches and never swallows. What every request passes is written out at length
here: a call costs as much as ten of its lines. Together it is about 5 µs a request that is not sampled.
"""

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from types import TracebackType

from gateway.core.clock import Clock
from gateway.core.errors import ClientGone, GatewayError, InternalError, Outcome, UpstreamFault
from gateway.core.exchange import Attempt, Exchange
from gateway.core.money import usd
from gateway.telemetry.access import access_line, access_record
from gateway.telemetry.metrics import Gauge, Registry, RouteSeries
from gateway.telemetry.recent import Recent
from gateway.telemetry.sink import LogSink
from gateway.telemetry.tracing import Tracer

_ASKED = ("bypass", "miss")
"""What the cache has to do with replies that a target gave."""


Defer = Callable[[Callable[[], None]], object]
"""Has something called in the next turn of the event loop."""


class Observer:
    """Writes down what happens to requests. Every dependency is shared by all of them.

    Requests that end in the same turn of the event loop are written down together in the next one, which
    is before anything else can be heard of them: the same work for each, one after the other, costs less
    (docs/performance.md), and their replies are sent first.
    """

    __slots__ = ("_clock", "_defer", "_ended", "_recent", "_registry", "_sink", "_tracer", "inflight", "start_attempt")

    def __init__(
        self,
        *,
        registry: Registry,
        tracer: Tracer,
        sink: LogSink | None,
        recent: Recent,
        clock: Clock,
        defer: Defer | None = None,
    ) -> None:
        """Without `defer` every request is written down at once."""
        self._registry = registry
        self._tracer = tracer
        self._sink = sink
        self._recent = recent
        self._clock = clock
        self._defer = defer
        self._ended: deque[tuple[Exchange, float]] = deque()
        self.inflight = registry.inflight
        """How many requests of a route are being served (`Registry.inflight`)."""
        self.start_attempt = tracer.attempt
        """Gives an attempt that begins its trace context (`Tracer.attempt`); to be ended by `end_attempt`."""

    def observe(self, exchange: Exchange) -> "Observation":
        """A scope around the whole exchange: what it did is written down when the scope ends.

        `exchange.error` and `exchange.status` are filled in where an exception, or a client that
        left, ended the scope before anybody had set them.
        """
        return Observation(self, exchange)

    def end_attempt(
        self, exchange: Exchange, attempt: Attempt, span: object | None, error: BaseException | None
    ) -> None:
        """Count the attempt by what became of it and by what it cost, and end its span."""
        is_ok = error is None and attempt.status is not None and attempt.status < 400
        outcome: Outcome = "ok" if is_ok else attempt_outcome(exchange, attempt, error)
        self._registry.attempts(attempt.target, outcome).value += 1
        cost_nusd = attempt.cost_nusd
        if cost_nusd is None:
            self._registry.unknown_cost(attempt.target).value += 1
        elif cost_nusd:
            self._registry.cost(exchange.route, attempt.target, exchange.tags).value += usd(cost_nusd)
        if span is not None:
            self._tracer.end_attempt(span, exchange, attempt, outcome, error)

    def end(self, exchange: Exchange, error: BaseException | None) -> None:
        """Have a finished exchange written down; at once if `error` ended it."""
        ended_s = self._clock.monotonic()
        if error is not None or self._defer is None:
            self._complete(exchange, error, ended_s)
            return
        ended = self._ended
        if not ended:
            self._defer(self.flush)
        ended.append((exchange, ended_s))

    def flush(self) -> None:
        """Write down what has ended."""
        ended = self._ended
        try:
            while ended:
                exchange, ended_s = ended.popleft()
                self._complete(exchange, None, ended_s)
        finally:
            if ended and self._defer is not None:
                # One that could not be written down takes no other with it.
                self._defer(self.flush)

    def _complete(self, exchange: Exchange, error: BaseException | None, ended_s: float) -> None:
        is_ok = error is None and exchange.error is None and exchange.status == 200
        outcome: Outcome = "ok" if is_ok and exchange.cache in _ASKED else settle_outcome(exchange, error)
        duration_s = ended_s - exchange.started_s
        ttft_s = None
        if exchange.first_event_s is not None and exchange.request.head.stream:
            ttft_s = exchange.first_event_s - exchange.started_s
        _count(self._registry.series(exchange.route, exchange.target), exchange, outcome, duration_s, ttft_s)
        line = access_line(access_record(exchange, outcome, self._clock.wall(), duration_s, ttft_s))
        if self._sink is not None:
            self._sink.write(line)
        self._recent.add(line, exchange.decisions, exchange.attempts)
        if exchange.trace.span is not None:
            self._tracer.end(exchange, outcome)


class Observation:
    """The scope of one exchange, from `Observer.observe`."""

    __slots__ = ("_exchange", "_inflight", "_observer")

    def __init__(self, observer: Observer, exchange: Exchange) -> None:
        self._observer = observer
        self._exchange = exchange
        self._inflight: Gauge | None = None

    def __enter__(self) -> "Observation":
        return self

    def routed(self) -> None:
        """Count the exchange as in flight on its route, once `exchange.route` is known; until the scope ends."""
        route = self._exchange.route
        if self._inflight is None and route is not None:
            inflight = self._inflight = self._observer.inflight(route)
            inflight.value += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        inflight = self._inflight
        if inflight is not None:
            inflight.value -= 1
            self._inflight = None
        self._observer.end(self._exchange, error)


def settle_outcome(exchange: Exchange, error: BaseException | None) -> Outcome:
    """What became of an exchange, which `error` ended; also written into it.

    A provider's refusal that was passed on has no error: its status tells. A 429 counts as
    `upstream_error` there, since `rate_limited` means the gateway's own limits.
    """
    fault = exchange.error
    if fault is None and error is not None:
        fault = exchange.error = _fault(error)
    if fault is None:
        if exchange.status is None or exchange.status < 400:
            return "cached" if exchange.cache in ("hit", "semantic") else "ok"
        return _relayed(exchange.status, "upstream_error")
    if isinstance(fault, ClientGone) or exchange.status is None:
        exchange.status = fault.status
    return fault.outcome


def attempt_outcome(exchange: Exchange, attempt: Attempt, error: BaseException | None) -> Outcome:
    """What became of one try at a target. A cancelled one is what ended its exchange, or a client that left."""
    if isinstance(error, UpstreamFault) and error.upstream_status == 429:
        return "rate_limited"
    if isinstance(error, GatewayError):
        return error.outcome
    if error is not None:
        return exchange.error.outcome if exchange.error is not None else _fault(error).outcome
    if attempt.status is None or attempt.status < 400:
        return "ok"
    return _relayed(attempt.status, "rate_limited")


def _fault(error: BaseException) -> GatewayError:
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return ClientGone("The client left before its reply was complete.")
    return InternalError()


def _relayed(status: int, too_many: Outcome) -> Outcome:
    if status == 429:
        return too_many
    if status == 504:
        return "upstream_timeout"
    return "upstream_error" if status >= 500 else "client_error"


def _count(series: RouteSeries, exchange: Exchange, outcome: Outcome, duration_s: float, ttft_s: float | None) -> None:
    requests = series.requests.get(outcome)
    if requests is None:
        series.count(outcome)
    else:
        requests.value += 1
    # As `Histogram.observe`.
    duration = series.duration
    duration.counts[bisect_left(duration.bounds, duration_s)] += 1
    duration.sum += duration_s
    if ttft_s is not None:
        series.first_token.observe(ttft_s)
    overhead_s = exchange.overhead_s
    if overhead_s is not None:
        overhead = series.overhead
        overhead.counts[bisect_left(overhead.bounds, overhead_s)] += 1
        overhead.sum += overhead_s
    usage = exchange.usage
    if usage.input_tokens:
        series.input.value += usage.input_tokens
    if usage.output_tokens:
        series.output.value += usage.output_tokens
    if usage.cached_input_tokens:
        series.cached_input.value += usage.cached_input_tokens
    if usage.reasoning_tokens:
        series.reasoning.value += usage.reasoning_tokens
    if usage.source == "estimated":
        series.estimated.value += 1
