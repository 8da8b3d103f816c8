"""Several workers' metrics as one."""

import msgspec

from gateway.telemetry.metrics import Registry
from gateway.telemetry.snapshot import Snapshot, merge, retire


def worker(requests: int, *, lag_s: float, applied_at: float, weight: float) -> Snapshot:
    """What one worker has counted and holds."""
    registry = Registry()
    registry.configure(["chat"], ["stable"])
    series = registry.series("chat", "stable")
    series.count("ok", requests)
    for _ in range(requests):
        series.duration.observe(0.5)
    registry.inflight("chat").value = 2
    registry.gauge("gateway_event_loop_lag_seconds").value = lag_s
    registry.gauge("gateway_config_last_reload_success_timestamp_seconds").value = applied_at
    registry.gauge("gateway_split_weight", "chat", "stable").value = weight
    registry.gauge("gateway_workers").value = 1
    return registry.snapshot()


def value(snapshot: Snapshot, name: str) -> float:
    """The value of a metric's first series."""
    return snapshot.metrics[name][0].value


def spender(cost: float, **tags: str) -> Snapshot:
    """A worker that has counted a cost under these tags."""
    registry = Registry()
    registry.configure(["chat"], ["stable"], {name: [value] for name, value in tags.items()})
    registry.cost("chat", "stable", tags).value += cost
    return registry.snapshot()


def test_costs_are_merged_by_their_tags() -> None:
    idle = Registry().snapshot()
    merged = merge([spender(1, team="ml"), retire(spender(2, team="ml")), spender(4, team="web"), idle])
    assert merged.tags == ("team",)
    assert {sample.labels[2]: sample.value for sample in merged.metrics["gateway_cost_usd_total"]} == {
        "ml": 3,
        "web": 4,
    }


def test_costs_by_the_tags_of_before_a_change_are_left_out() -> None:
    merged = merge([spender(1, team="ml"), spender(2, costCenter="42")])
    assert merged.tags == ("costCenter",)
    [sample] = merged.metrics["gateway_cost_usd_total"]
    assert (sample.labels, sample.value) == (("chat", "stable", "42"), 2)


def test_workers_are_merged_by_the_rule_of_each_metric() -> None:
    both = merge([worker(3, lag_s=0.5, applied_at=100, weight=95), worker(4, lag_s=0.1, applied_at=200, weight=50)])
    assert value(both, "gateway_requests_total") == 7
    assert value(both, "gateway_inflight_requests") == 4
    assert value(both, "gateway_workers") == 2
    assert value(both, "gateway_event_loop_lag_seconds") == 0.5
    assert value(both, "gateway_config_last_reload_success_timestamp_seconds") == 100
    assert value(both, "gateway_split_weight") == 50
    duration = both.metrics["gateway_request_duration_seconds"][0]
    assert sum(duration.counts) == 7
    assert duration.sum == 3.5


def test_merging_leaves_its_sources_as_they_were() -> None:
    one = worker(3, lag_s=0, applied_at=1, weight=1)
    merge([one, one])
    assert value(one, "gateway_requests_total") == 3
    assert merge([one]) == one
    assert merge([]) == Snapshot()


def test_a_snapshot_survives_the_way_to_another_process() -> None:
    snapshot = worker(2, lag_s=0.1, applied_at=100, weight=95)
    assert msgspec.json.decode(msgspec.json.encode(snapshot), type=Snapshot) == snapshot
    assert msgspec.convert(msgspec.to_builtins(snapshot), Snapshot) == snapshot


def test_a_worker_that_ended_leaves_its_counters_but_not_its_gauges() -> None:
    """F126."""
    ended = retire(worker(3, lag_s=0.5, applied_at=100, weight=95))
    both = merge([ended, worker(1, lag_s=0.1, applied_at=200, weight=95)])
    assert value(both, "gateway_requests_total") == 4
    assert value(both, "gateway_inflight_requests") == 2
    assert value(both, "gateway_workers") == 1


def test_recycling_a_hundred_workers_leaves_the_number_of_series_as_it_is() -> None:
    """F126."""
    living = worker(1, lag_s=0.1, applied_at=200, weight=95)
    former = Snapshot()
    for _ in range(100):
        former = merge([former, retire(living)])
    merged = merge([former, living])
    assert {name: len(samples) for name, samples in merged.metrics.items()} == {
        name: len(samples) for name, samples in living.metrics.items()
    }
    assert value(merged, "gateway_requests_total") == 101
