"""The state of one serving process: the current configuration, what is in flight, whether it drains."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

from gateway.assembly.build import Builder, needs_mock
from gateway.assembly.caches import Caches
from gateway.assembly.generation import Generations
from gateway.assembly.pools import SharedPools
from gateway.config.load import Loaded
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError, ShuttingDown
from gateway.edge.serving import Serving, serving
from gateway.routing.shadow import Shadows
from gateway.store.base import Override
from gateway.store.blobs import Receipt
from gateway.telemetry.metrics import Registry
from gateway.telemetry.observe import Observer
from gateway.telemetry.tracing import Tracer

_LAG_INTERVAL_S = 0.25
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Interrupt(Protocol):
    """Ends one exchange from outside."""

    def __call__(self, error: GatewayError) -> None:
        """End it, with this as the reason."""
        ...


class Running:
    """What the data plane and the control plane of one process share."""

    def __init__(
        self, builder: Builder, registry: Registry, tracer: Tracer, mock: Callable[[], Awaitable[str]], clock: Clock
    ) -> None:
        """`mock` starts the built-in mock when it is first needed, and gives its base URL."""
        self.generations: Generations[Serving] = Generations()
        self.inflight: set[Interrupt] = set()
        self.is_draining = False
        self.observer: Observer = builder.observer
        self.tracer = tracer
        self.registry = registry
        self._on_applied: list[Callable[[Loaded], None]] = []
        self.lag_s = 0.0
        """How late the event loop ran each of its last two timers, at least."""
        self.rss_bytes = 0
        self._builder = builder
        self._mock = mock
        self._clock = clock

    @property
    def is_ready(self) -> bool:
        """Whether new requests are welcome."""
        return not self.is_draining and self.generations.current is not None

    @property
    def pools(self) -> SharedPools:
        """The upstream connections of all generations."""
        return self._builder.pools

    @property
    def shadows(self) -> Shadows:
        """The copies of requests that are under way."""
        return self._builder.shadows

    @property
    def current(self) -> Serving:
        """What new exchanges are served with."""
        current = self.generations.current
        assert current is not None, "no configuration is loaded yet"
        return current

    async def apply(self, loaded: Loaded, overrides: Mapping[str, Override] | None = None) -> None:
        """Serve with `loaded`, and `overrides` over it, from now on; exchanges that run keep what they began with."""
        mock_url = await self._mock() if needs_mock(loaded) else None
        if self._builder.caches is not None:
            await self._builder.caches.prepare(loaded.config)
        generation = self._builder.build(loaded, mock_url, overrides or {})
        self.registry.configure(generation.routes_by_name, generation.targets, tag_values(loaded))
        self.generations.swap(serving(loaded, generation, self._clock))
        self._describe(loaded)
        for told in self._on_applied:
            told(loaded)

    def on_applied(self, told: Callable[[Loaded], None]) -> None:
        """Call `told` with every configuration that has come into force."""
        self._on_applied.append(told)

    def _describe(self, loaded: Loaded) -> None:
        registry, generation = self.registry, self.current.generation
        for name in ("gateway_config_info", "gateway_split_weight", "gateway_target_in_service"):
            registry.clear(name)
        registry.gauge("gateway_config_info", loaded.revision, loaded.config.environment).value = 1.0
        for route in generation.routes_by_name.values():
            for target, weight in route.weights.items():
                registry.gauge("gateway_split_weight", route.name, target).value = weight
        for target_name, live in generation.targets.items():
            registry.gauge("gateway_target_in_service", target_name).value = float(live.out_of_service is None)

    def refresh_gauges(self) -> None:
        """Bring up to date what is only worth computing when somebody looks."""
        registry = self.registry
        registry.gauge("gateway_draining").value = float(self.is_draining)
        registry.clear("gateway_upstream_connections")
        registry.clear("gateway_breaker_state")
        for name, live in self.current.generation.targets.items():
            if live.breaker is not None:
                registry.gauge("gateway_breaker_state", name).value = float(live.breaker.state)
            if live.upstream is None:
                continue
            stats = live.upstream.stats()
            for state, count in (("in_use", stats.in_use), ("idle", stats.idle), ("waiting", stats.waiting)):
                registry.gauge("gateway_upstream_connections", name, state).value = float(count)

    @property
    def caches(self) -> Caches | None:
        """The stored replies of all routes."""
        return self._builder.caches

    async def purge(self, scope: str) -> Receipt:
        """Remove stored replies (`Purging.purge`)."""
        caches = self._builder.caches
        return Receipt(scope, 0, 0) if caches is None else await caches.purge(scope)

    def restore(self, target: str) -> None:
        """Close the breaker of a target, if it has one."""
        live = self.current.generation.targets.get(target)
        if live is not None and live.breaker is not None:
            live.breaker.restore("by an operator")

    def interrupt_all(self) -> None:
        """End every exchange with an error in its dialect: the drain's time is over."""
        for interrupt in list(self.inflight):
            interrupt(ShuttingDown("The gateway is shutting down.", retry_after_s=1.0))

    async def watch_loop_lag(self) -> None:
        """Measure for ever how late the event loop runs its timers."""
        gauge = self.registry.gauge("gateway_event_loop_lag_seconds")
        while True:
            due_s = self._clock.monotonic() + _LAG_INTERVAL_S
            await asyncio.sleep(_LAG_INTERVAL_S)
            lag_s = max(self._clock.monotonic() - due_s, 0.0)
            # A process that was only paused is late once; one that has too much to do is late again.
            self.lag_s = min(float(gauge.value), lag_s)
            gauge.value = lag_s
            self.rss_bytes = resident_bytes()


def tag_values(loaded: Loaded) -> dict[str, set[str]]:
    """The values that keys have for each tag that costs are labelled with: a closed set (F125)."""
    keys = loaded.config.keys or ()
    return {name: {key.tags[name] for key in keys if name in key.tags} for name in loaded.config.telemetry.tag_labels}


def resident_bytes() -> int:
    """Memory that this process has in RAM; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
