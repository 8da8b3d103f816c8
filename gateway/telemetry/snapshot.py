"""Metrics of one process at one moment, and several processes' as one."""

from collections.abc import Callable, Iterable

from msgspec import Struct, field

from gateway.telemetry.table import TABLE, Merge, Metric

LASTING = ("counter", "histogram")


class Sample(Struct, array_like=True):
    """One series. `counts` (one for each bucket, not cumulative) and `sum` belong to histograms."""

    labels: tuple[str, ...]
    value: float = 0
    counts: list[int] = field(default_factory=list)
    sum: float = 0


class Snapshot(Struct):
    """All series of a process, by metric. Plain enough to cross to another process as JSON."""

    metrics: dict[str, list[Sample]] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    """Names of the tags that tagged metrics are labelled with."""


def retire(snapshot: Snapshot) -> Snapshot:
    """What remains of a worker that has ended: what it counted, but not what it held.

    Merged with those of the living, so that no counter goes back when a worker is replaced.
    """
    lasting = {name: samples for name, samples in snapshot.metrics.items() if TABLE[name].kind in LASTING}
    return Snapshot(lasting, snapshot.tags)


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Several processes' values as one, each metric by the rule in the table; `last` is the last snapshot's.

    Of tagged metrics, only what has the tags of the last process that counted any: after a change of
    the tags the others follow within a moment.
    """
    several = list(snapshots)
    tags = next((each.tags for each in reversed(several) if _has_tagged(each)), ())
    merged: dict[str, dict[tuple[str, ...], Sample]] = {}
    for snapshot in several:
        for name, samples in snapshot.metrics.items():
            metric = TABLE[name]
            if metric.tagged and snapshot.tags != tags:
                continue
            series = merged.setdefault(name, {})
            for sample in samples:
                known = series.get(sample.labels)
                series[sample.labels] = _copy(sample) if known is None else _merged(metric, known, sample)
    return Snapshot({name: list(series.values()) for name, series in merged.items()}, tags)


def _has_tagged(snapshot: Snapshot) -> bool:
    return any(TABLE[name].tagged for name in snapshot.metrics)


def _copy(sample: Sample) -> Sample:
    return Sample(sample.labels, sample.value, list(sample.counts), sample.sum)


def _merged(metric: Metric, known: Sample, sample: Sample) -> Sample:
    if metric.kind == "histogram":
        counts = [a + b for a, b in zip(known.counts, sample.counts, strict=True)]
        return Sample(known.labels, 0, counts, known.sum + sample.sum)
    return Sample(known.labels, RULES[metric.merge](known.value, sample.value))


RULES: dict[Merge, Callable[[float, float], float]] = {
    "sum": lambda known, new: known + new,
    "max": max,
    "min": min,
    "last": lambda known, new: new,
}
