"""The accumulators, and the bound on how many there can be."""

import pytest

from gateway.telemetry.metrics import MAX_CHILDREN, MAX_FORMER_NAMES, Registry


def configured() -> Registry:
    """A registry that knows two routes and two targets."""
    registry = Registry()
    registry.configure(["chat", "embed"], ["stable", "next"])
    return registry


def series_count(registry: Registry) -> int:
    """All series of all metrics."""
    return sum(len(samples) for samples in registry.snapshot().metrics.values())


def test_a_child_is_the_same_object_every_time() -> None:
    registry = configured()
    registry.counter("gateway_requests_total", "chat", "stable", "ok").value += 2
    assert registry.counter("gateway_requests_total", "chat", "stable", "ok").value == 2
    assert registry.series("chat", "stable") is registry.series("chat", "stable")
    assert registry.inflight("chat") is registry.inflight("chat")
    assert registry.attempts("stable", "ok") is registry.attempts("stable", "ok")


def test_an_observation_on_a_bound_belongs_to_that_bucket() -> None:
    histogram = configured().histogram("gateway_overhead_seconds", "chat")
    for value in (0.0001, 0.00011, 1.0, 2.0):
        histogram.observe(value)
    assert histogram.counts[:2] == [1, 1]
    assert histogram.counts[-2:] == [1, 1]
    assert histogram.sum == pytest.approx(3.00021)


def test_fifty_thousand_invented_names_add_no_series() -> None:
    """F125."""
    registry = configured()
    registry.series("invented", "invented").count("ok")
    registry.inflight("invented")
    registry.attempts("invented", "ok")
    before = series_count(registry)
    for number in range(50_000):
        registry.series(f"model-{number}", f"target-{number}").count("ok")
        registry.inflight(f"model-{number}").value += 1
        registry.attempts(f"target-{number}", "ok").value += 1
    assert series_count(registry) == before
    assert registry.counter("gateway_requests_total", "other", "other", "ok").value == 50_001


def test_a_request_without_route_and_target_counts_as_other_and_none() -> None:
    registry = configured()
    registry.series(None, None).count("client_error")
    assert registry.counter("gateway_requests_total", "other", "none", "client_error").value == 1


def tagged() -> Registry:
    """A registry whose costs are labelled with two tags."""
    registry = Registry()
    registry.configure(["chat"], ["stable"], {"team": ["ml", "web"], "costCenter": ["42"]})
    return registry


def cost_series(registry: Registry) -> set[tuple[str, ...]]:
    """The labels of what costs were counted."""
    return {sample.labels for sample in registry.snapshot().metrics.get("gateway_cost_usd_total", [])}


def test_costs_are_counted_by_route_target_and_the_configured_tags() -> None:
    registry = tagged()
    registry.cost("chat", "stable", {"team": "ml", "costCenter": "42", "other": "x"}).value += 0.5
    registry.cost("chat", "stable", {"team": "web"}).value += 0.25
    assert registry.cost("chat", "stable", {"costCenter": "42", "team": "ml"}).value == 0.5
    assert registry.snapshot().tags == ("team", "costCenter")
    assert cost_series(registry) == {("chat", "stable", "ml", "42"), ("chat", "stable", "web", "none")}


def test_tags_that_clients_invent_add_no_series_and_are_not_remembered() -> None:
    """F125."""
    registry = tagged()
    for number in range(20_000):
        registry.cost("chat", "stable", {"team": f"team-{number}"}).value += 1
        registry.cost(f"model-{number}", "stable", {"team": "ml"}).value += 1
    assert cost_series(registry) == {("chat", "stable", "other", "none"), ("other", "stable", "ml", "none")}
    assert registry.cost("chat", "stable", {"team": "anybody"}).value == 20_000
    assert len(registry._costs) == 0


def test_without_tags_costs_have_route_and_target_alone() -> None:
    registry = configured()
    registry.cost("chat", "next", {"team": "ml"}).value += 1
    registry.cost(None, "next", {}).value += 1
    assert cost_series(registry) == {("chat", "next"), ("other", "next")}


def test_other_tags_begin_the_costs_anew_and_other_values_do_not() -> None:
    registry = tagged()
    registry.cost("chat", "stable", {"team": "ml"}).value += 1
    registry.configure(["chat"], ["stable"], {"team": ["new"], "costCenter": []})
    registry.cost("chat", "stable", {"team": "ml"}).value += 1
    assert cost_series(registry) == {("chat", "stable", "ml", "none"), ("chat", "stable", "other", "none")}
    registry.configure(["chat"], ["stable"], {"team": ["ml"]})
    assert cost_series(registry) == set()
    assert registry.cost("chat", "stable", {"team": "ml"}).value == 0


def test_a_route_that_a_reload_removed_keeps_its_counters() -> None:
    """F79: counters stay monotonic."""
    registry = configured()
    registry.series("chat", "stable").count("ok", 3)
    registry.configure(["embed"], ["next"])
    registry.series("chat", "stable").count("ok")
    assert registry.counter("gateway_requests_total", "chat", "stable", "ok").value == 4


def test_removed_routes_are_forgotten_when_there_are_too_many() -> None:
    registry = configured()
    for number in range(MAX_FORMER_NAMES + 5):
        registry.configure([f"route-{number}"], ["stable"])
        registry.series(f"route-{number}", "stable").count("ok")
        registry.inflight(f"route-{number}")
    assert len(registry.snapshot().metrics["gateway_inflight_requests"]) <= MAX_FORMER_NAMES + 1
    registry.series("route-0", "stable").count("ok")
    assert registry.counter("gateway_requests_total", "other", "stable", "ok").value == 1


def test_a_metric_never_has_more_children_than_its_bound() -> None:
    registry = Registry()
    for number in range(MAX_CHILDREN + 10):
        registry.gauge("gateway_build_info", f"v{number}").value = 1
    samples = registry.snapshot().metrics["gateway_build_info"]
    assert len(samples) == MAX_CHILDREN + 1
    assert samples[-1].labels == ("other",)


def test_what_a_reload_replaces_can_be_cleared() -> None:
    registry = configured()
    registry.gauge("gateway_split_weight", "chat", "stable").value = 95
    registry.clear("gateway_split_weight")
    registry.gauge("gateway_split_weight", "chat", "next").value = 100
    assert [sample.labels for sample in registry.snapshot().metrics["gateway_split_weight"]] == [("chat", "next")]


def test_values_that_are_read_on_demand_are_fresh_in_every_snapshot() -> None:
    registry = configured()
    connections = iter([3.0, 5.0])

    def refresh() -> None:
        registry.gauge("gateway_connections").value = next(connections)

    registry.on_snapshot(refresh)
    assert registry.snapshot().metrics["gateway_connections"][0].value == 3
    assert registry.snapshot().metrics["gateway_connections"][0].value == 5


def test_a_metric_of_another_kind_or_with_other_labels_is_a_bug() -> None:
    registry = configured()
    with pytest.raises(AssertionError, match="is a gauge"):
        registry.counter("gateway_connections")
    with pytest.raises(AssertionError, match="has the labels"):
        registry.gauge("gateway_inflight_requests")
