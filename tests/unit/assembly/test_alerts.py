"""What the parts have to tell, in the words of events and metrics."""

from typing import Any

from gateway.assembly.alerts import budget_alert
from gateway.store.base import Crossing
from gateway.telemetry.events import Events
from gateway.telemetry.metrics import Registry
from tests.fakes import FakeClock


def test_a_mark_that_is_passed_is_an_event_and_a_count() -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    registry = Registry()
    tell = budget_alert(Events(None, FakeClock(), lambda event, fields: told.append((event, fields))), registry)
    tell(Crossing("team", "key=a", "2026-11-21", 50_000_000_000, 51_000_000_000, 100_000_000_000))
    assert told == [
        (
            "budget_alert",
            {
                "limit": "team",
                "scope": "key=a",
                "period": "2026-11-21",
                "at": "50%",
                "spent": "$51.00",
                "budget": "$100.00",
            },
        )
    ]
    [sample] = registry.snapshot().metrics["gateway_budget_alerts_total"]
    assert (sample.labels, sample.value) == (("team", "50%"), 1)
