"""The table of metrics: complete, and named as Prometheus wants it."""

import pytest

from gateway.telemetry.table import DURATION_BUCKETS, FIRST_TOKEN_BUCKETS, METRICS, TABLE, Metric

PROMISED = {
    "gateway_requests_total": ("route", "target", "outcome"),
    "gateway_request_duration_seconds": ("route", "target"),
    "gateway_time_to_first_token_seconds": ("route", "target"),
    "gateway_overhead_seconds": ("route",),
    "gateway_inflight_requests": ("route",),
    "gateway_tokens_total": ("route", "target", "type"),
    "gateway_upstream_attempts_total": ("target", "outcome"),
    "gateway_cost_usd_total": ("route", "target"),
    "gateway_cost_unknown_total": ("target",),
    "gateway_split_weight": ("route", "target"),
    "gateway_config_info": ("revision", "environment"),
    "gateway_config_last_reload_successful": (),
    "gateway_config_last_reload_success_timestamp_seconds": (),
    "gateway_event_loop_lag_seconds": (),
}


def test_every_promised_metric_is_there_with_its_labels() -> None:
    assert {name: TABLE[name].labels for name in PROMISED} == PROMISED


def test_no_name_stands_twice() -> None:
    assert len(TABLE) == len(METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: str(metric.name))
def test_a_metric_is_named_and_explained_as_prometheus_wants_it(metric: Metric) -> None:
    assert metric.name.startswith(("gateway_", "process_"))
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.name.endswith("_info") == (metric.kind == "info")
    assert metric.help.endswith(".")
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert not {"le", "quantile", "job", "instance", "key", "prompt", "model"} & set(metric.labels)


def test_a_reply_of_ten_minutes_still_falls_into_a_bucket() -> None:
    """F130: the default buckets of most libraries end at ten seconds."""
    assert DURATION_BUCKETS[-1] > 600
    assert FIRST_TOKEN_BUCKETS[-1] == 81.92
