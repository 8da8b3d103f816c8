"""The processes that serve, as the admin plane sees them: one here, or several behind a supervisor."""

from typing import Any, Protocol

from gateway.config.load import Loaded
from gateway.edge.running import Running
from gateway.telemetry.metrics import Registry
from gateway.telemetry.recent import Recent
from gateway.telemetry.snapshot import Snapshot


class Fleet(Protocol):
    """Everything that serves with one configuration."""

    @property
    def is_ready(self) -> bool:
        """Whether every process takes new requests."""
        ...

    async def apply(self, loaded: Loaded) -> None:
        """Have every process serve with `loaded`."""
        ...

    async def snapshots(self) -> list[Snapshot]:
        """The metrics of every process."""
        ...

    async def targets(self) -> dict[str, dict[str, int]]:
        """Connections of each target, summed over the processes: `open`, `idle`, `in_use`, `waiting`."""
        ...

    async def find_request(self, request_id: str) -> dict[str, Any] | None:
        """The record of one of the last requests, from whichever process served it."""
        ...


def target_connections(running: Running) -> dict[str, dict[str, int]]:
    """Connections of each target of this process."""
    found: dict[str, dict[str, int]] = {}
    for name, live in running.current.generation.targets.items():
        if live.upstream is None:
            found[name] = {"open": 0, "idle": 0, "in_use": 0, "waiting": 0}
            continue
        stats = live.upstream.stats()
        found[name] = {
            "open": stats.open,
            "idle": stats.idle,
            "in_use": stats.in_use,
            "waiting": stats.waiting,
        }
    return found


class LocalFleet:
    """This process alone."""

    def __init__(self, running: Running, registry: Registry, recent: Recent) -> None:
        self._running = running
        self._registry = registry
        self._recent = recent

    @property
    def is_ready(self) -> bool:
        """Whether this process takes new requests."""
        return self._running.is_ready

    async def apply(self, loaded: Loaded) -> None:
        """Serve with `loaded`."""
        await self._running.apply(loaded)

    async def snapshots(self) -> list[Snapshot]:
        """The metrics of this process."""
        return [self._registry.snapshot()]

    async def targets(self) -> dict[str, dict[str, int]]:
        """Connections of each target."""
        return target_connections(self._running)

    async def find_request(self, request_id: str) -> dict[str, Any] | None:
        """The record of one of the last requests."""
        return self._recent.find(request_id)
