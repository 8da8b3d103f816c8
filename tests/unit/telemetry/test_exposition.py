"""The text that Prometheus reads."""

import shutil
import subprocess

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gateway.telemetry.exposition import label_names, render, watch_process
from gateway.telemetry.metrics import Registry
from gateway.telemetry.snapshot import Snapshot
from gateway.telemetry.table import METRICS

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def every_metric() -> Registry:
    """One series of every metric, with awkward label values."""
    registry = Registry()
    registry.configure(['gpt-"4"\\*\nx'], ["stable"])
    values = {"route": 'gpt-"4"\\*\nx', "target": "stable", "outcome": "ok", "type": "input", "state": "open"}
    for metric in METRICS:
        labels = [values.get(label, "x") for label in metric.labels]
        if metric.kind == "histogram":
            registry.histogram(metric.name, *labels).observe(0.3)
        elif metric.kind == "counter":
            registry.counter(metric.name, *labels).value = 2
        else:
            registry.gauge(metric.name, *labels).value = 1
    return registry


def test_every_metric_is_written_as_text_that_prometheus_can_read() -> None:
    body, content_type = render(every_metric().snapshot(), "text/plain")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse_text(body.decode())
        for sample in family.samples
    }
    assert content_type.startswith("text/plain; version=0.0.4")
    names = {key[0] for key in samples}
    for metric in METRICS:
        assert (metric.name + "_count" if metric.kind == "histogram" else metric.name) in names
    route = ("route", 'gpt-"4"\\*\nx')
    assert samples["gateway_overhead_seconds_bucket", ("le", "0.25"), route] == 0
    assert samples["gateway_overhead_seconds_bucket", ("le", "0.5"), route] == 1
    assert samples["gateway_overhead_seconds_bucket", ("le", "+Inf"), route] == 1
    assert samples["gateway_overhead_seconds_sum", route] == 0.3


def test_a_client_that_asks_for_openmetrics_gets_it() -> None:
    body, content_type = render(every_metric().snapshot(), OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    parsed = parse_openmetrics(body.decode())  # type: ignore[no-untyped-call]  # prometheus_client has no types here
    families = {family.name: family.type for family in parsed}
    assert families["gateway_requests"] == "counter"
    assert families["gateway_config"] == "info"
    assert families["gateway_request_duration_seconds"] == "histogram"


def test_nothing_counted_is_an_empty_page() -> None:
    assert render(Snapshot(), "")[0] == b""


def test_promtool_finds_nothing_to_complain_about() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    body, _ = render(every_metric().snapshot(), "")
    checked = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_the_process_tells_its_own_memory_and_files() -> None:
    registry = Registry()
    watch_process(registry)
    metrics = registry.snapshot().metrics
    assert metrics["process_resident_memory_bytes"][0].value > 1_000_000
    assert metrics["process_open_fds"][0].value >= 3
    assert metrics["process_cpu_seconds_total"][0].value > 0


def test_tags_are_labels_of_costs() -> None:
    registry = Registry()
    registry.configure(["chat"], ["stable"], {"costCenter": ["42"], "cost-center": ["7"]})
    registry.cost("chat", "stable", {"costCenter": "42", "cost-center": "7"}).value += 0.5
    text = render(registry.snapshot(), "")[0].decode()
    assert 'gateway_cost_usd_total{costCenter="42",cost_center="7",route="chat",target="stable"} 0.5' in text


def test_a_tag_is_a_label_that_prometheus_takes() -> None:
    assert label_names(["team", "cost.center", "cost-center", "route", "__x"]) == [
        "team",
        "cost_center",
        "tag_cost_center",
        "tag_route",
        "tag___x",
    ]
