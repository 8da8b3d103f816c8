"""The state of one serving process."""

import asyncio

import pytest

from gateway.core.errors import GatewayError, ShuttingDown
from gateway.edge.running import resident_bytes
from gateway.store.base import Override
from gateway.transport.base import PoolStats
from tests.fakes import FakeUpstream, loaded
from tests.unit.edge.house import House

pytestmark = pytest.mark.anyio

TWO = """\
apiVersion: gateway/v1
environment: prod
targets:
  a: {provider: mock, base_url: "http://127.0.0.1:1"}
  b: {provider: openai, base_url: "http://127.0.0.1:2/v1", api_key: env:B_KEY}
routes:
  - {model: demo, split: {a: 3, b: 1}}
"""


def _values(house: House, name: str) -> dict[tuple[str, ...], float]:
    samples = house.sightings.registry.snapshot().metrics.get(name, [])
    return {sample.labels: sample.value for sample in samples}


async def test_without_a_configuration_nothing_is_ready() -> None:
    house = House()
    assert not house.running.is_ready
    with pytest.raises(AssertionError, match="no configuration"):
        _ = house.running.current


async def test_a_process_is_ready_until_it_drains() -> None:
    house = await House.serving()
    assert house.running.is_ready
    house.running.is_draining = True
    assert not house.running.is_ready


async def test_the_built_in_mock_is_started_only_for_targets_that_need_it() -> None:
    assert (await House.serving()).mocks_asked_for == 1
    assert (await House.serving(TWO)).mocks_asked_for == 0


async def test_what_is_served_is_described_in_the_metrics() -> None:
    house = await House.serving(TWO)
    revision = house.running.current.revision
    assert _values(house, "gateway_config_info") == {(revision, "prod"): 1.0}
    assert _values(house, "gateway_split_weight") == {("demo", "a"): 3.0, ("demo", "b"): 1.0}
    assert _values(house, "gateway_target_in_service") == {("a",): 1.0, ("b",): 0.0}


async def test_a_reload_leaves_no_weight_of_before() -> None:
    house = await House.serving(TWO)
    await house.running.apply(loaded(TWO.replace("split: {a: 3, b: 1}", "target: a")))
    assert _values(house, "gateway_split_weight") == {("demo", "a"): 1.0}
    assert len(_values(house, "gateway_config_info")) == 1


async def test_connections_are_counted_when_somebody_looks() -> None:
    house = await House.serving(TWO)
    house.upstream._stats = PoolStats(open=3, idle=2, in_use=1, waiting=4)
    house.running.is_draining = True
    house.running.refresh_gauges()
    assert _values(house, "gateway_upstream_connections") == {
        ("a", "in_use"): 1.0,
        ("a", "idle"): 2.0,
        ("a", "waiting"): 4.0,
    }
    assert _values(house, "gateway_draining") == {(): 1.0}
    assert _values(house, "gateway_breaker_state") == {("a",): 0.0}


async def test_a_reload_keeps_the_connections_of_what_did_not_change() -> None:
    """F79."""
    house = await House.serving(TWO)
    await house.running.apply(loaded(TWO.replace("a: 3", "a: 5")))
    assert [key.target for key in house.made] == ["a"]
    assert house.upstream.closed == 0
    assert len(house.running.pools) == 1


async def test_a_target_that_is_gone_has_its_connections_closed() -> None:
    house = await House.serving(TWO)
    await house.running.apply(loaded())
    await asyncio.sleep(0)
    assert house.upstream.closed == 1


async def test_the_end_of_a_drain_interrupts_every_exchange() -> None:
    """F83."""
    house = await House.serving()
    ended: list[GatewayError] = []

    def leaving(error: GatewayError) -> None:
        house.running.inflight.discard(leaving)
        ended.append(error)

    def staying(error: GatewayError) -> None:
        ended.append(error)

    house.running.inflight |= {staying, leaving}
    house.running.interrupt_all()
    assert [type(error) for error in ended] == [ShuttingDown, ShuttingDown]


async def test_the_loops_lag_is_measured_until_it_is_cancelled() -> None:
    house = House()
    gauge = house.sightings.registry.gauge("gateway_event_loop_lag_seconds")
    gauge.value = -1.0
    watching = asyncio.ensure_future(house.running.watch_loop_lag())
    await asyncio.sleep(0)
    house.clock.advance(0.75)
    while gauge.value < 0:
        await asyncio.sleep(0.02)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert gauge.value == pytest.approx(0.5)
    assert house.running.rss_bytes > 0


async def test_only_a_process_that_is_late_again_has_too_much_to_do() -> None:
    house = House()
    gauge = house.sightings.registry.gauge("gateway_event_loop_lag_seconds")
    watching = asyncio.ensure_future(house.running.watch_loop_lag())
    lags = []
    for late_s in (0.5, 1.0):
        await asyncio.sleep(0)
        house.clock.advance(0.25 + late_s)
        while gauge.value < late_s:
            await asyncio.sleep(0.02)
        lags.append(house.running.lag_s)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert lags == [0.0, 0.5]


async def test_a_target_out_of_service_has_no_pool() -> None:
    house = await House.serving(TWO)
    assert house.running.current.generation.targets["b"].upstream is None
    assert isinstance(house.running.current.generation.targets["a"].upstream, FakeUpstream)


SWITCH = Override("route/demo", {"split": {"a": 1.0}}, "ada", "drill", 0.0, None)


async def test_overrides_go_over_the_file_and_the_metrics_show_it() -> None:
    house = await House.serving(TWO)
    configured = house.running.current.loaded
    await house.running.apply(configured, {SWITCH.name: SWITCH})
    assert _values(house, "gateway_split_weight") == {("demo", "a"): 1.0}
    assert house.running.current.loaded is configured
    await house.running.apply(configured)
    assert _values(house, "gateway_split_weight") == {("demo", "a"): 3.0, ("demo", "b"): 1.0}


async def test_a_reload_and_an_override_forget_no_breaker() -> None:
    """F79."""
    house = await House.serving(TWO)
    before = house.running.current.generation.targets["a"].breaker
    assert before is not None
    await house.running.apply(loaded(TWO.replace("a: 3", "a: 5")), {SWITCH.name: SWITCH})
    assert house.running.current.generation.targets["a"].breaker is before


async def test_an_operator_closes_a_breaker_and_an_unknown_target_is_nothing_to_close() -> None:
    house = await House.serving(TWO)
    breaker = house.running.current.generation.targets["a"].breaker
    assert breaker is not None
    breaker.eject("drill", None)
    for name in ("a", "b", "nobody"):
        house.running.restore(name)
    assert breaker.state == 0
    assert [event for event, _ in house.told] == ["breaker_ejected", "breaker_restored"]


def test_resident_memory_is_told_in_bytes() -> None:
    assert resident_bytes() > 1024 * 1024
