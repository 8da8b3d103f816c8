"""Accumulators behind the metrics of `table`.

The accumulators are plain objects that are resolved once per route and target and then only added
to: 0.3 µs a request, where `prometheus_client`'s own `.labels()` costs 8 (see `exposition` for how
they become text). They belong to the event loop's thread and take no lock.

Labels come from closed sets. A route or target that is not configured counts as `other`, so that
invented model names add no series; `none` stands for a request that reached no target.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Literal, TypeVar

from gateway.core.errors import Outcome
from gateway.telemetry.snapshot import Sample, Snapshot
from gateway.telemetry.table import TABLE, Kind, Metric

TokenType = Literal["input", "output", "cached_input", "reasoning"]

OTHER = "other"
NONE = "none"

MAX_CHILDREN = 10_000
"""Series of one metric. What comes above it is counted under `other`: a last defence, not a setting."""

MAX_FORMER_NAMES = 1_000
"""Routes (and targets) that a reload has removed and that still keep their series."""


class Counter:
    """A sum that only grows: `counter.value += 1`."""

    kinds: ClassVar[tuple[Kind, ...]] = ("counter",)
    __slots__ = ("value",)

    def __init__(self, metric: Metric) -> None:
        self.value: float = 0


class Gauge:
    """A value that goes up and down: `gauge.value = 3`."""

    kinds: ClassVar[tuple[Kind, ...]] = ("gauge", "info")
    __slots__ = ("value",)

    def __init__(self, metric: Metric) -> None:
        self.value: float = 0


class Histogram:
    """Observations counted in buckets; `counts` is not cumulative and ends with the bucket to infinity."""

    kinds: ClassVar[tuple[Kind, ...]] = ("histogram",)
    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, metric: Metric) -> None:
        self.bounds = metric.buckets
        self.counts = [0] * (len(metric.buckets) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation. A bucket holds what is less than or equal to its bound."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


Child = TypeVar("Child", Counter, Gauge, Histogram)
Children = dict[str, dict[tuple[str, ...], Child]]


class RouteSeries:
    """The accumulators of one route and target, resolved once."""

    __slots__ = (
        "_labels", "_registry", "cached_input", "duration", "estimated", "first_token",
        "input", "output", "overhead", "reasoning", "requests",
    )  # fmt: skip

    def __init__(self, registry: "Registry", route: str, target: str) -> None:
        self._registry = registry
        self._labels = (route, target)
        self.requests: dict[Outcome, Counter] = {}
        self.duration = registry.histogram("gateway_request_duration_seconds", route, target)
        self.first_token = registry.histogram("gateway_time_to_first_token_seconds", route, target)
        self.overhead = registry.histogram("gateway_overhead_seconds", route)
        self.input = self._tokens("input")
        self.output = self._tokens("output")
        self.cached_input = self._tokens("cached_input")
        self.reasoning = self._tokens("reasoning")
        self.estimated = registry.counter("gateway_usage_estimated_total", route, target)
        self.count("ok", 0)

    def _tokens(self, kind: TokenType) -> Counter:
        return self._registry.counter("gateway_tokens_total", *self._labels, kind)

    def count(self, outcome: Outcome, requests: int = 1) -> None:
        """Count requests of this outcome; its series appears with the first one."""
        counter = self.requests.get(outcome)
        if counter is None:
            counter = self._registry.counter("gateway_requests_total", *self._labels, outcome)
            self.requests[outcome] = counter
        counter.value += requests


class Registry:
    """All accumulators of one process. For the event loop's thread alone."""

    def __init__(self) -> None:
        self._counters: Children[Counter] = {}
        self._gauges: Children[Gauge] = {}
        self._histograms: Children[Histogram] = {}
        self._series: dict[tuple[str | None, str | None], RouteSeries] = {}
        self._inflight: dict[str, Gauge] = {}
        self._attempts: dict[tuple[str, Outcome], Counter] = {}
        self._names: dict[str, dict[str, None]] = {"route": {}, "target": {}}
        self._refreshers: list[Callable[[], None]] = []
        self._tags: dict[str, frozenset[str]] = {}
        self._costs: dict[tuple[str | None, ...], Counter] = {}
        self._unknown_costs: dict[str, Counter] = {}

    def configure(
        self, routes: Iterable[str], targets: Iterable[str], tags: Mapping[str, Iterable[str]] | None = None
    ) -> None:
        """Tell which routes and targets are configured; at start and after each reload.

        `tags` are the values that the configuration has for each tag of `telemetry.tag_labels`; others,
        which clients may invent, count as `other`. Names of earlier configurations keep their series,
        since counters must not go back and old requests may still run, but only the last
        `MAX_FORMER_NAMES` of them; another list of tags begins tagged metrics anew.
        """
        if tuple(tags or ()) != tuple(self._tags):
            for name in [name for name in self._counters if TABLE[name].tagged]:
                del self._counters[name]
        self._tags = {name: frozenset(values) for name, values in (tags or {}).items()}
        self._costs.clear()
        for label, names in (("route", list(routes)), ("target", list(targets))):
            known = self._names[label]
            for name in names:
                known.pop(name, None)
                known[name] = None
            for former in list(known)[: max(0, len(known) - len(set(names)) - MAX_FORMER_NAMES)]:
                del known[former]
                self._forget(label, former)

    def on_snapshot(self, refresh: Callable[[], None]) -> None:
        """Call `refresh` before every snapshot, to set what is cheaper to read than to keep."""
        self._refreshers.append(refresh)

    def snapshot(self) -> Snapshot:
        """All values now."""
        for refresh in self._refreshers:
            refresh()
        metrics: dict[str, list[Sample]] = {}
        for name, counters in self._counters.items():
            metrics[name] = [Sample(labels, child.value) for labels, child in counters.items()]
        for name, gauges in self._gauges.items():
            metrics[name] = [Sample(labels, child.value) for labels, child in gauges.items()]
        for name, histograms in self._histograms.items():
            metrics[name] = [Sample(labels, 0, list(h.counts), h.sum) for labels, h in histograms.items()]
        return Snapshot(metrics, tuple(self._tags))

    def counter(self, name: str, *labels: str) -> Counter:
        """The counter with these label values, made on first use."""
        return self._child(self._counters, Counter, name, labels)

    def gauge(self, name: str, *labels: str) -> Gauge:
        """The gauge (or info, whose value is 1) with these label values, made on first use."""
        return self._child(self._gauges, Gauge, name, labels)

    def histogram(self, name: str, *labels: str) -> Histogram:
        """The histogram with these label values, made on first use."""
        return self._child(self._histograms, Histogram, name, labels)

    def clear(self, name: str) -> None:
        """Forget all series of a gauge or info whose label values change with a reload."""
        self._gauges.pop(name, None)

    def series(self, route: str | None, target: str | None) -> RouteSeries:
        """What a request of this route and target adds to. None and unknown names have series of their own."""
        found = self._series.get((route, target))
        if found is not None:
            return found
        key = (self._known("route", route or OTHER), self._known("target", target or NONE))
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = RouteSeries(self, *key)
        return found

    def inflight(self, route: str) -> Gauge:
        """How many requests of a route are being served."""
        found = self._inflight.get(route)
        if found is None:
            found = self.gauge("gateway_inflight_requests", route)
            if route in self._names["route"]:
                self._inflight[route] = found
        return found

    def attempts(self, target: str, outcome: Outcome) -> Counter:
        """How many tries at a target came to this."""
        found = self._attempts.get((target, outcome))
        if found is None:
            found = self.counter("gateway_upstream_attempts_total", target, outcome)
            if target in self._names["target"]:
                self._attempts[target, outcome] = found
        return found

    def unknown_cost(self, target: str) -> Counter:
        """How many tries of this target used something whose price nobody knows."""
        found = self._unknown_costs.get(target)
        if found is None:
            found = self.counter("gateway_cost_unknown_total", target)
            if target in self._names["target"]:
                self._unknown_costs[target] = found
        return found

    def cost(self, route: str | None, target: str, tags: Mapping[str, str]) -> Counter:
        """What tries of this route, target and tags have cost, in US dollars. A tag that is missing is `none`."""
        key = (route, target, *map(tags.get, self._tags))
        found = self._costs.get(key)
        if found is not None:
            return found
        values = [self._tag(name, tags.get(name)) for name in self._tags]
        found = self.counter("gateway_cost_usd_total", route or OTHER, target, *values)
        # What clients invented is not remembered: there is no end to it.
        if OTHER not in values and route in self._names["route"] and target in self._names["target"]:
            self._costs[key] = found
        return found

    def _tag(self, name: str, value: str | None) -> str:
        if value is None:
            return NONE
        return value if value in self._tags[name] else OTHER

    def _known(self, label: str, value: str) -> str:
        names = self._names.get(label)
        if names is None or value in names or value == NONE:
            return value
        return OTHER

    def _child(self, store: Children[Child], make: type[Child], name: str, labels: tuple[str, ...]) -> Child:
        metric = TABLE[name]
        assert metric.kind in make.kinds, f"{name} is a {metric.kind}"
        own = len(metric.labels)
        expected = own + len(self._tags) if metric.tagged else own
        assert len(labels) == expected, f"{name} has the labels {metric.labels}, not {labels}"
        children = store.setdefault(name, {})
        labels = tuple(map(self._known, metric.labels, labels)) + labels[own:]
        child = children.get(labels)
        if child is not None:
            return child
        if len(children) >= MAX_CHILDREN:
            labels = tuple(OTHER for _ in labels)
        return children.setdefault(labels, make(metric))

    def _forget(self, label: str, value: str) -> None:
        stores = (self._counters, self._gauges, self._histograms)
        for name, children in (item for store in stores for item in store.items()):
            names = TABLE[name].labels
            if label in names:
                place = names.index(label)
                for labels in [labels for labels in children if labels[place] == value]:
                    del children[labels]
        place = ("route", "target").index(label)
        self._series = {key: series for key, series in self._series.items() if key[place] != value}
        self._inflight.clear()
        self._attempts.clear()
        self._costs.clear()
        self._unknown_costs.clear()
