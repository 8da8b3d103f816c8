"""`gateway serve` in one process: data plane and admin plane on one event loop."""

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.config.load import Loaded, Sources, read
from gateway.core.clock import Clock, SystemClock
from gateway.core.errors import StoreUnavailable
from gateway.core.pipeline import spawn
from gateway.edge.admin import admin_app
from gateway.edge.control import Control
from gateway.edge.fleet import Fleet
from gateway.edge.listener import Listener, bind
from gateway.edge.process import MockStarter, ServingProcess, edge_limits, settle_heap
from gateway.edge.signals import Signals
from gateway.store.base import Journal
from gateway.telemetry.sink import LogSink

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    config: Path
    environ: dict[str, str] = field(repr=False)
    listen: str | None
    admin: str | None
    workers: int
    version: str
    state_dir: Path | None = None
    """Instead of `server.state_dir`."""

    def read(self) -> Sources:
        """The configuration's sources as they are now."""
        return read(self.config, self.environ, listen=self.listen, admin=self.admin)


async def open_admin(control: Control, fleet: Fleet, journal: Journal, clock: Clock) -> Listener:
    """The admin plane, listening."""
    config = control.loaded.config
    sock = bind(config.server.admin.host, config.server.admin.port)
    app = admin_app(control, fleet, journal, clock)
    listener = Listener(app, sock, edge_limits(config), config.server.keepalive_timeout)
    await listener.start()
    return listener


async def first_overrides(control: Control) -> None:
    """Serve with the overrides in force from the first request on, if the store tells them in time."""
    try:
        await control.refresh_overrides()
    except StoreUnavailable as error:
        logger.warning("starting without overrides: %s", error.message)


def announce(loaded: Loaded, data: tuple[str, int], admin: Listener) -> None:
    """Say what is served, and where."""
    for warning in loaded.warnings:
        logger.warning("configuration: %s", warning)
    logger.info(
        "listening on http://%s:%d, admin on http://%s:%d, configuration %s", *data, *admin.address, loaded.revision
    )


def state_file(options: Options, loaded: Loaded) -> Path:
    """Where the store in memory keeps what must outlive the process."""
    return (options.state_dir or Path(loaded.config.server.state_dir)) / "gateway.sqlite"


def bind_data(loaded: Loaded, *, shared: bool = False) -> socket.socket:
    """The data plane's socket. Raises OSError."""
    listen = loaded.config.server.listen
    return bind(listen.host, listen.port, shared=shared)


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway that serves, in this process."""

    process: ServingProcess
    control: Control
    data: Listener
    admin: Listener


@asynccontextmanager
async def serving(options: Options, loaded: Loaded, sink: LogSink, mock: MockStarter) -> AsyncIterator[Served]:
    """A gateway that serves until the scope ends, and then drains. Raises OSError when an address is taken."""
    clock: Clock = SystemClock()
    process = ServingProcess(loaded, sink, mock, clock, options.version, state_file(options, loaded))
    process.registry.gauge("gateway_workers").value = 1.0
    sock = bind_data(loaded)
    await process.store.start()
    await process.running.apply(loaded)
    journal = process.store.journal
    control = Control(options.read, loaded, process.fleet, process.registry, clock, journal)
    control.on_rejected = lambda faults: process.events.tell("config_rejected", "error", faults=faults[:10])
    try:
        admin = await open_admin(control, process.fleet, journal, clock)
    except OSError:
        sock.close()
        await process.store.aclose()
        await process.caches.aclose()
        raise
    await first_overrides(control)
    data = await process.listen(sock)
    watching = [
        spawn(control.watch(), "configuration watch"),
        spawn(control.watch_overrides(), "overrides watch"),
    ]
    try:
        yield Served(process, control, data, admin)
    finally:
        server = control.loaded.config.server
        for task in watching:
            task.cancel()
        await process.drain(server.drain_delay, server.drain)
        admin.stop_accepting()
        await admin.close()
        await process.close()


async def serve(options: Options, loaded: Loaded, sink: LogSink, mock: MockStarter) -> int:
    """Serve until SIGTERM or SIGINT, then drain. The exit status. Raises OSError when an address is taken."""
    signals = Signals()
    signals.install()
    async with serving(options, loaded, sink, mock) as served:
        control = served.control
        signals.on_hurry(served.process.hurry)
        signals.on_reload(lambda: spawn(control.reload("SIGHUP"), "reload"))
        settle_heap()
        announce(loaded, served.data.address, served.admin)
        await signals.stop.wait()
        logger.info("draining")
    logger.info("stopped")
    return 0
