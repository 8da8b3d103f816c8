"""One serving process: everything that it is made of, its start, and its end without a cut (CONTRACT, lifecycle)."""

import asyncio
import gc
import random
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.assembly.alerts import budget_alert
from gateway.assembly.build import Builder
from gateway.assembly.caches import Caches, open_blobs
from gateway.assembly.hooks import Caller, open_webhooks, wanted
from gateway.assembly.inner import InnerCalls
from gateway.assembly.pools import SharedPools
from gateway.assembly.stores import declare, open_store
from gateway.assembly.targets import pool_maker
from gateway.config.load import Loaded
from gateway.config.schema import Config
from gateway.core.clock import Clock
from gateway.core.pipeline import spawn
from gateway.edge.asgi import DataPlane
from gateway.edge.fleet import LocalFleet
from gateway.edge.listener import Listener
from gateway.edge.protocol import EdgeLimits
from gateway.edge.running import Running
from gateway.telemetry.events import Events
from gateway.telemetry.exposition import watch_process
from gateway.telemetry.metrics import Registry
from gateway.telemetry.observe import Observer
from gateway.telemetry.otlp import TraceSettings
from gateway.telemetry.recent import Recent
from gateway.telemetry.sink import LogSink
from gateway.telemetry.tracing import Tracer

_CUT_GRACE_S = 2.0
_FLUSH_S = 2.0
_STORE_LOOK_S = 0.5
_GC_THRESHOLDS = (50_000, 50, 50)

MockStarter = Callable[[], Awaitable[str]]


def edge_limits(config: Config) -> EdgeLimits:
    """The bounds of client connections."""
    server = config.server
    return EdgeLimits(
        max_header=server.max_header,
        max_connections=server.max_connections,
        header_timeout_s=server.header_timeout,
        body_timeout_s=server.body_timeout,
        write_timeout_s=server.write_timeout,
    )


def trace_settings(config: Config, version: str) -> TraceSettings:
    """What the tracer is made from."""
    traces = config.telemetry.traces
    return TraceSettings(
        endpoint=traces.otlp,
        headers={name: secret.reveal() for name, secret in traces.headers.items() if secret.is_set},
        sample=traces.sample,
        service_name=traces.service_name,
        service_version=version,
        environment=config.environment,
    )


def settle_heap() -> None:
    """Tell the collector that what was made until now stays; call it once, when the process has started to serve.

    A full collection walks the 300,000 objects that the imports leave behind, and at the default
    thresholds a busy process does so all the time: without, the same requests took 20 % less CPU.
    A request leaves no cycles behind, so rare collections find little.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


class ServingProcess:
    """The data plane of one process, from the first configuration to the last reply."""

    def __init__(
        self,
        loaded: Loaded,
        sink: LogSink,
        mock: MockStarter,
        clock: Clock,
        version: str,
        state_file: Path | None = None,
    ) -> None:
        """Listener bounds, logging, tracing and the store are those of `loaded`; a reload does not change them.
        `state_file` is that of the store in memory. Raises OSError when the state directory cannot be used.
        """
        rng = random.Random()
        self._config = loaded.config
        self._sink = sink
        self.registry = Registry()
        self.recent = Recent()
        self._tracer = Tracer(trace_settings(loaded.config, version), rng)
        requests_sink = sink if loaded.config.telemetry.logs == "json" else None
        self._observer = Observer(
            registry=self.registry,
            tracer=self._tracer,
            sink=requests_sink,
            recent=self.recent,
            clock=clock,
            defer=_next_turn,
        )
        self._caller = Caller(self._tracer)
        self.webhooks = open_webhooks(self._caller, clock, rng)
        self.events = Events(requests_sink, clock, self.webhooks.notify)
        self.store = open_store(loaded.config, clock, state_file, budget_alert(self.events, self.registry))
        cached = state_file and state_file.with_name(f"{state_file.stem}-cache.sqlite")
        questions = state_file and state_file.with_name(f"{state_file.stem}-questions.sqlite")
        blobs = open_blobs(loaded.config, clock, rng, cached)
        self.caches = Caches(blobs, self.registry, clock, rng, self.store.journal.record, questions)
        pools = SharedPools(pool_maker())
        self.inner = InnerCalls(self._observer, self._tracer, clock, rng)
        self.caches.inner = self.inner.inner
        builder = Builder(
            pools, self._observer, clock, rng, self.store, self.events, self.registry, self.caches, self.inner
        )
        self.running = Running(builder, self.registry, self._tracer, mock, clock)
        self.running.on_applied(self._follow)
        self.registry.gauge("gateway_build_info", version).value = 1.0
        self.registry.on_snapshot(self.running.refresh_gauges)
        self.registry.on_snapshot(self._count_dropped)
        self.registry.on_snapshot(self._count_store)
        watch_process(self.registry)
        self._data_plane = DataPlane(self.running, clock, rng)
        self._listener: Listener | None = None
        self._hurried = asyncio.Event()
        self._watching: list[asyncio.Task[None]] = []

    def _count_dropped(self) -> None:
        self.registry.counter("gateway_log_lines_dropped_total").value = self._sink.dropped
        self.registry.counter("gateway_spans_dropped_total").value = self._tracer.dropped
        for result, posts in self.webhooks.counts.items():
            self.registry.counter("gateway_webhook_posts_total", result).value = posts

    def _count_store(self) -> None:
        figures = self.store.figures
        self.registry.gauge("gateway_store_up").value = float(self.store.is_up)
        self.registry.counter("gateway_store_degraded_seconds_total").value = figures.degraded_s
        self.registry.counter("gateway_store_round_trips_total").value = figures.round_trips
        self.registry.counter("gateway_store_operations_total").value = figures.operations

    def _follow(self, applied: Loaded) -> None:
        declare(self.store, applied.config)
        self.webhooks.configure(applied.config.environment, wanted(applied.config))

    async def _watch_store(self) -> None:
        """Tell when the store goes and when it is back; for ever."""
        was_up = True
        while True:
            is_up = self.store.is_up
            if is_up != was_up:
                was_up = is_up
                self.events.tell("store_up" if is_up else "store_down", "info" if is_up else "error")
            await asyncio.sleep(_STORE_LOOK_S)

    @property
    def fleet(self) -> LocalFleet:
        """This process alone, as the admin plane sees it."""
        return LocalFleet(self.running, self.registry, self.recent, self.store)

    async def listen(self, sock: socket.socket) -> Listener:
        """Serve requests on `sock`. A configuration must have been applied."""
        listener = Listener(self._data_plane, sock, edge_limits(self._config), self._config.server.keepalive_timeout)
        await listener.start()
        self._listener = listener
        self._watching = [
            spawn(self.running.watch_loop_lag(), "event loop lag"),
            spawn(self._watch_store(), "store watch"),
        ]
        connections = self.registry.gauge("gateway_connections")
        self.registry.on_snapshot(lambda: setattr(connections, "value", float(len(listener.connections))))
        return listener

    async def drain(self, delay_s: float, drain_s: float) -> None:
        """Stop taking requests, let replies end for `drain_s`, then end the rest with an error event (F82, F83).

        For `delay_s` requests are still taken, and every reply asks the client to reconnect elsewhere.
        """
        running, listener = self.running, self._listener
        running.is_draining = True
        assert listener is not None
        await happens(self._hurried, delay_s)
        listener.stop_accepting()
        if not await listener.wait_idle(drain_s, self._hurried):
            running.interrupt_all()
            await listener.wait_idle(_CUT_GRACE_S)
        await listener.close()

    def hurry(self) -> None:
        """Cut the drain short, now or when it comes: no delay, and replies end with an error event at once."""
        self._hurried.set()

    async def close(self) -> None:
        """Give back connections and flush logs and spans, within bounds."""
        for task in self._watching:
            task.cancel()
        await self.running.shadows.cancel()
        await self.inner.cancel()
        await self.running.pools.aclose()
        await self.store.aclose()
        await self.caches.aclose()
        await self.webhooks.aclose(_FLUSH_S)
        await self._caller.aclose()
        self._observer.flush()
        await self._tracer.shutdown(_FLUSH_S)
        await asyncio.to_thread(self._sink.flush, _FLUSH_S)


def _next_turn(call: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(call)


async def happens(event: asyncio.Event, within_s: float) -> bool:
    """Whether `event` is set within this time; returns as soon as it is."""
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
