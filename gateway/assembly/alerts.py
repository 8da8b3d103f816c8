"""What the parts of the gateway have to tell, in the words of events and metrics."""

from gateway.core.money import show_usd
from gateway.store.base import Crossing, OnCrossing
from gateway.telemetry.events import Events
from gateway.telemetry.metrics import Registry


def budget_alert(events: Events, registry: Registry) -> OnCrossing:
    """Tells that a budget's settled spend has passed one of its marks (`alert_at`)."""

    def crossed(crossing: Crossing) -> None:
        share = f"{100 * crossing.mark_nusd / crossing.limit_nusd:g}%" if crossing.limit_nusd else "0%"
        registry.counter("gateway_budget_alerts_total", crossing.rule, share).value += 1
        events.tell(
            "budget_alert",
            "warning",
            limit=crossing.rule,
            scope=crossing.scope,
            period=crossing.period,
            at=share,
            spent=show_usd(crossing.spent_nusd),
            budget=show_usd(crossing.limit_nusd),
        )

    return crossed
