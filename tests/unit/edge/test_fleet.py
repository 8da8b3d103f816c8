"""This process as the admin plane sees it."""

import pytest

from gateway.edge.fleet import Fleet, LocalFleet, target_connections
from gateway.transport.base import PoolStats
from tests.fakes import FakeFleet, loaded
from tests.unit.edge.house import House
from tests.unit.edge.test_running import TWO

pytestmark = pytest.mark.anyio


def _fleet(house: House) -> Fleet:
    return LocalFleet(house.running, house.sightings.registry, house.sightings.recent)


async def test_the_fleet_is_ready_when_its_process_is() -> None:
    house = House()
    fleet = _fleet(house)
    assert not fleet.is_ready
    await fleet.apply(loaded())
    assert fleet.is_ready
    assert house.running.current.listed_models == ["demo"]


async def test_its_metrics_are_its_processes() -> None:
    house = await House.serving()
    await house.call()
    [snapshot] = await _fleet(house).snapshots()
    assert [sample.labels for sample in snapshot.metrics["gateway_requests_total"]] == [("demo", "mock", "ok")]


async def test_connections_are_told_for_every_target_in_service_or_not() -> None:
    house = await House.serving(TWO)
    house.upstream._stats = PoolStats(open=3, idle=2, in_use=1, waiting=4)
    expected = {
        "a": {"open": 3, "idle": 2, "in_use": 1, "waiting": 4},
        "b": {"open": 0, "idle": 0, "in_use": 0, "waiting": 0},
    }
    assert target_connections(house.running) == expected
    assert await _fleet(house).targets() == expected


async def test_a_request_is_found_by_its_id() -> None:
    house = await House.serving()
    client = await house.call()
    fleet = _fleet(house)
    found = await fleet.find_request(client.headers[b"x-request-id"].decode())
    assert found is not None
    assert found["route"] == "demo"
    assert await fleet.find_request("req-unknown") is None


def test_the_fake_fleet_is_a_fleet() -> None:
    fleet: Fleet = FakeFleet()
    assert fleet.is_ready
