"""The processes that serve, as the admin plane sees them: one here, or several behind a supervisor."""

from contextlib import suppress
from typing import Any, Protocol

from gateway.config.schema import Config
from gateway.core.errors import StoreUnavailable
from gateway.core.money import usd
from gateway.edge.desired import Desired
from gateway.edge.running import Running
from gateway.store.base import BudgetState, Grant, Spend, Store
from gateway.store.blobs import Receipt
from gateway.telemetry.metrics import Registry
from gateway.telemetry.recent import Recent
from gateway.telemetry.snapshot import Snapshot

TargetState = dict[str, Any]
"""`connections` (open, idle, in_use, waiting) and `breaker` (its detail, None without one)."""
_OPENNESS = {"closed": 0, "half_open": 1, "open": 2}

EVIDENCE = 100
"""Requests that are kept as evidence when something is isolated."""


class Fleet(Protocol):
    """Everything that serves with one configuration."""

    @property
    def is_ready(self) -> bool:
        """Whether every process takes new requests."""
        ...

    async def apply(self, desired: Desired) -> None:
        """Have every process serve with `desired`."""
        ...

    async def snapshots(self) -> list[Snapshot]:
        """The metrics of every process."""
        ...

    async def targets(self) -> dict[str, TargetState]:
        """Each target, over all processes."""
        ...

    async def find_request(self, request_id: str) -> dict[str, Any] | None:
        """The record of one of the last requests, from whichever process served it."""
        ...

    async def evidence(self, kind: str, subject: str) -> list[dict[str, Any]]:
        """Records of the last requests of a `key`, a `target` or a `tag` (`name=value`), newest first."""
        ...

    async def restore(self, target: str) -> None:
        """Close a target's breaker, in every process."""
        ...

    async def budgets(self) -> list[BudgetState]:
        """Every budget counter, summed over processes that count apart. Raises StoreUnavailable."""
        ...

    async def grant(self, grant: Grant) -> None:
        """Enlarge a budget. Raises StoreUnavailable."""
        ...

    async def spend(self, first_day: str, last_day: str) -> list[Spend]:
        """The totals of these days. Raises StoreUnavailable."""
        ...

    async def purge(self, scope: str) -> Receipt:
        """Remove the stored replies of a scope, in every process (`Purging.purge`).

        Raises StoreUnavailable unless all have done it: it has to be asked again then.
        """
        ...


async def refresh_budgets(registry: Registry, store: Store, config: Config) -> None:
    """Bring the metrics of budgets up to date. While the store is away they keep what they were."""
    limits = {limit.name: limit.budget.limit_nusd for limit in config.limits if limit.budget is not None}
    if not limits:
        return
    with suppress(StoreUnavailable):
        states = await store.ledger.budgets()
        for name in ("gateway_budget_spent_usd", "gateway_budget_limit_usd"):
            registry.clear(name)
        for name, limit_nusd in limits.items():
            registry.gauge("gateway_budget_limit_usd", name).value = usd(limit_nusd)
            spent_nusd = sum(state.spent_nusd for state in states if state.rule == name)
            registry.gauge("gateway_budget_spent_usd", name).value = usd(spent_nusd)


def target_states(running: Running) -> dict[str, TargetState]:
    """Each target of this process."""
    found: dict[str, TargetState] = {}
    for name, live in running.current.generation.targets.items():
        connections = {"open": 0, "idle": 0, "in_use": 0, "waiting": 0}
        if live.upstream is not None:
            stats = live.upstream.stats()
            connections = {"open": stats.open, "idle": stats.idle, "in_use": stats.in_use, "waiting": stats.waiting}
        breaker = None if live.breaker is None else live.breaker.detail
        found[name] = {"connections": connections, "breaker": breaker}
    return found


def worse(one: TargetState, other: TargetState) -> TargetState:
    """Two processes' views of a target as one: connections summed, and the breaker that is more open."""
    connections = {state: count + other["connections"].get(state, 0) for state, count in one["connections"].items()}
    breakers = [state["breaker"] for state in (one, other) if state["breaker"] is not None]
    breaker = max(breakers, key=lambda detail: _OPENNESS.get(detail["state"], 0), default=None)
    return {"connections": connections, "breaker": breaker}


class LocalFleet:
    """This process alone."""

    def __init__(self, running: Running, registry: Registry, recent: Recent, store: Store) -> None:
        self._running = running
        self._registry = registry
        self._recent = recent
        self._store = store

    @property
    def is_ready(self) -> bool:
        """Whether this process takes new requests."""
        return self._running.is_ready

    async def apply(self, desired: Desired) -> None:
        """Serve with `desired`."""
        await self._running.apply(desired.loaded, desired.overrides)

    async def snapshots(self) -> list[Snapshot]:
        """The metrics of this process."""
        await refresh_budgets(self._registry, self._store, self._running.current.loaded.config)
        return [self._registry.snapshot()]

    async def targets(self) -> dict[str, TargetState]:
        """Each target."""
        return target_states(self._running)

    async def find_request(self, request_id: str) -> dict[str, Any] | None:
        """The record of one of the last requests."""
        return self._recent.find(request_id)

    async def evidence(self, kind: str, subject: str) -> list[dict[str, Any]]:
        """Records of the last requests of a key, a target or a tag's value."""
        return self._recent.select(kind, subject, EVIDENCE)

    async def restore(self, target: str) -> None:
        """Close a target's breaker."""
        self._running.restore(target)

    async def budgets(self) -> list[BudgetState]:
        """Every budget counter of the store."""
        return await self._store.ledger.budgets()

    async def grant(self, grant: Grant) -> None:
        """Enlarge a budget."""
        await self._store.ledger.grant(grant)

    async def spend(self, first_day: str, last_day: str) -> list[Spend]:
        """The totals of these days."""
        return await self._store.ledger.spend(first_day, last_day)

    async def purge(self, scope: str) -> Receipt:
        """Remove the stored replies of a scope."""
        return await self._running.purge(scope)
