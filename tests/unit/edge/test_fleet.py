"""This process as the admin plane sees it."""

from datetime import UTC, datetime
from typing import cast

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.edge.desired import Desired
from gateway.edge.fleet import Fleet, LocalFleet, TargetState, refresh_budgets, target_states, worse
from gateway.store.base import Claim, Grant, Hold, Store
from gateway.store.blobs import Receipt
from gateway.telemetry.metrics import Registry
from gateway.transport.base import PoolStats
from tests.fakes import MOCK_CONFIG, FakeFleet, loaded
from tests.unit.edge.house import House
from tests.unit.edge.test_running import TWO

pytestmark = pytest.mark.anyio


def _fleet(house: House) -> Fleet:
    return LocalFleet(house.running, house.sightings.registry, house.sightings.recent, house.store)


async def test_the_fleet_is_ready_when_its_process_is() -> None:
    house = House()
    fleet = _fleet(house)
    assert not fleet.is_ready
    await fleet.apply(Desired(loaded()))
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
    states = target_states(house.running)
    assert {name: state["connections"] for name, state in states.items()} == {
        "a": {"open": 3, "idle": 2, "in_use": 1, "waiting": 4},
        "b": {"open": 0, "idle": 0, "in_use": 0, "waiting": 0},
    }
    assert states["a"]["breaker"]["state"] == "closed"
    assert states["b"]["breaker"] is None
    assert await _fleet(house).targets() == states


def test_of_two_processes_connections_add_up_and_the_breaker_that_is_more_open_is_shown() -> None:
    closed, open_ = {"state": "closed"}, {"state": "open"}
    one = {"connections": {"open": 1, "idle": 0}, "breaker": closed}
    assert worse(one, {"connections": {"open": 2}, "breaker": open_}) == {
        "connections": {"open": 3, "idle": 0},
        "breaker": open_,
    }
    none: TargetState = {"connections": {}, "breaker": None}
    assert worse(one, none)["breaker"] == closed
    assert worse(none, none)["breaker"] is None


async def test_a_restored_target_has_a_closed_breaker() -> None:
    house = await House.serving()
    breaker = house.running.current.generation.targets["mock"].breaker
    assert breaker is not None
    breaker.eject("drill", None)
    await _fleet(house).restore("mock")
    await _fleet(house).restore("unknown")
    assert breaker.state == 0


async def test_evidence_is_the_last_requests_of_whom_it_is_about() -> None:
    house = await House.serving()
    await house.call()
    fleet = _fleet(house)
    assert [record["route"] for record in await fleet.evidence("key", "open")] == ["demo"]
    assert await fleet.evidence("key", "other") == []


BUDGET = MOCK_CONFIG.replace("{provider: mock}", "{provider: mock, price: {request: $0.01}}") + (
    "limits: [{name: all, budget: $1/day}, {name: unused, match: {key: nobody}, budget: $2/day}]\n"
)


async def test_budgets_grants_and_spend_are_the_stores() -> None:
    house = await House.serving(BUDGET)
    await house.call()
    fleet = _fleet(house)
    [state] = await fleet.budgets()
    assert (state.rule, state.spent_nusd, state.held_nusd) == ("all", 10_000_000, 0)
    await fleet.grant(Grant("g", "all", "*", 5, house.clock.wall() + 60.0))
    assert [state.granted_nusd for state in await fleet.budgets()] == [5]
    today = datetime.fromtimestamp(house.clock.wall(), UTC).strftime("%Y-%m-%d")
    [total] = await fleet.spend(today, today)
    assert (total.key, total.route, total.target, total.requests, total.cost_nusd) == (
        "open",
        "demo",
        "mock",
        1,
        10_000_000,
    )


async def test_the_metrics_of_budgets_are_brought_up_to_date_when_somebody_looks() -> None:
    """Settled spend, without what is held."""
    house = await House.serving(BUDGET)
    await house.call()
    ends_at_s = house.clock.wall() + 3600.0
    claim = Claim("all", "", "budget", "nusd", 7, 1_000_000_000, 0.0, "2023-11-14", ends_at_s)
    assert (await house.store.ledger.hold("h", [claim])).granted
    [snapshot] = await _fleet(house).snapshots()
    spent = {sample.labels: sample.value for sample in snapshot.metrics["gateway_budget_spent_usd"]}
    limit = {sample.labels: sample.value for sample in snapshot.metrics["gateway_budget_limit_usd"]}
    assert (spent, limit) == ({("all",): 0.01, ("unused",): 0.0}, {("all",): 1.0, ("unused",): 2.0})
    house.store.ledger.settle(Hold("h", (claim,)), [0])


class GoneLedger:
    """A ledger whose store does not answer."""

    async def budgets(self) -> list[object]:
        """Fail."""
        raise StoreUnavailable("gone")


class GoneStore:
    """A store that does not answer."""

    ledger = GoneLedger()


async def test_the_metrics_of_budgets_stay_while_the_store_is_away() -> None:
    registry = Registry()
    registry.gauge("gateway_budget_spent_usd", "all").value = 3.0
    await refresh_budgets(registry, cast(Store, GoneStore()), loaded(BUDGET).config)
    assert registry.gauge("gateway_budget_spent_usd", "all").value == 3.0


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


async def test_a_process_without_caches_has_nothing_to_purge() -> None:
    house = await House.serving()
    assert await _fleet(house).purge("key:a") == Receipt("key:a", 0, 0)
    assert await FakeFleet().purge("key:a") == Receipt("key:a", 1, 1)
