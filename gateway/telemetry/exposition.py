"""Metrics as text for Prometheus, by `prometheus_client`, and what that library knows of the process itself."""

import re
from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gateway.telemetry.metrics import Registry
from gateway.telemetry.snapshot import Sample, Snapshot
from gateway.telemetry.table import METRICS, TABLE, Metric

TAKEN_LABELS = frozenset({"route", "target", "le", "quantile", "job", "instance"})
"""Labels that cost metrics have besides tags, and those that Prometheus itself sets."""


def watch_process(registry: Registry) -> None:
    """Put CPU, memory and open files of this process into every snapshot. Nothing where there is no /proc."""
    collector = ProcessCollector(registry=None)

    def refresh() -> None:
        for sample in (sample for family in collector.collect() for sample in family.samples):
            metric = TABLE.get(sample.name)
            if metric is not None:
                child = registry.counter if metric.kind == "counter" else registry.gauge
                child(sample.name).value = sample.value

    registry.on_snapshot(refresh)


def render(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    """The body and content type of `/metrics`: OpenMetrics for a client that accepts it, else text 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_SnapshotCollector(snapshot))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _SnapshotCollector(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Family]:
        for metric in METRICS:
            samples = self._snapshot.metrics.get(metric.name)
            if samples:
                labels = (*metric.labels, *label_names(self._snapshot.tags)) if metric.tagged else metric.labels
                yield from _family(metric, labels, samples)


def label_names(tags: Iterable[str]) -> list[str]:
    """The labels for these tags: as they are called, as far as Prometheus allows (letters, digits, underscores).

    One that is called like another label, or begins as Prometheus's own do, gets `tag_` in front.
    """
    names: list[str] = []
    for tag in tags:
        name = re.sub("[^a-zA-Z0-9_]", "_", tag)
        while name in names or name in TAKEN_LABELS or name.startswith("__") or name[:1].isdigit():
            name = f"tag_{name}"
        names.append(name)
    return names


def _family(metric: Metric, labels: tuple[str, ...], samples: list[Sample]) -> Iterator[Family]:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=labels)
        bounds = [*(format(bound, "g") for bound in metric.buckets), "+Inf"]
        for sample in samples:
            cumulative = list(zip(bounds, map(float, accumulate(sample.counts)), strict=True))
            histogram.add_metric(sample.labels, cumulative, sample.sum)
        yield histogram
    elif metric.kind == "counter":
        counter = CounterMetricFamily(metric.name, metric.help, labels=labels)
        for sample in samples:
            counter.add_metric(sample.labels, sample.value)
        yield counter
    elif metric.kind == "gauge":
        gauge = GaugeMetricFamily(metric.name, metric.help, labels=labels)
        for sample in samples:
            gauge.add_metric(sample.labels, sample.value)
        yield gauge
    else:
        info = InfoMetricFamily(metric.name.removesuffix("_info"), metric.help, labels=labels)
        for sample in samples:
            info.add_metric(sample.labels, {})
        yield info
