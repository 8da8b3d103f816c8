"""`gateway serve` in one process: data plane and admin plane on one event loop."""

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.config.load import Loaded, Sources, read
from gateway.core.clock import Clock, SystemClock
from gateway.core.pipeline import spawn
from gateway.edge.admin import admin_app
from gateway.edge.control import Control
from gateway.edge.fleet import Fleet
from gateway.edge.listener import Listener, bind
from gateway.edge.process import MockStarter, ServingProcess, edge_limits, settle_heap
from gateway.edge.signals import Signals
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

    def read(self) -> Sources:
        """The configuration's sources as they are now."""
        return read(self.config, self.environ, listen=self.listen, admin=self.admin)


async def open_admin(control: Control, fleet: Fleet, loaded: Loaded) -> Listener:
    """The admin plane, listening."""
    server = loaded.config.server
    sock = bind(server.admin.host, server.admin.port)
    listener = Listener(admin_app(control, fleet), sock, edge_limits(loaded.config), server.keepalive_timeout)
    await listener.start()
    return listener


def announce(loaded: Loaded, data: tuple[str, int], admin: Listener) -> None:
    """Say what is served, and where."""
    for warning in loaded.warnings:
        logger.warning("configuration: %s", warning)
    logger.info(
        "listening on http://%s:%d, admin on http://%s:%d, configuration %s", *data, *admin.address, loaded.revision
    )


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
    process = ServingProcess(loaded, sink, mock, clock, options.version)
    process.registry.gauge("gateway_workers").value = 1.0
    sock = bind_data(loaded)
    await process.running.apply(loaded)
    control = Control(options.read, loaded, process.fleet, process.registry, clock)
    try:
        admin = await open_admin(control, process.fleet, loaded)
    except OSError:
        sock.close()
        raise
    data = await process.listen(sock)
    watching = spawn(control.watch(), "configuration watch")
    try:
        yield Served(process, control, data, admin)
    finally:
        server = control.loaded.config.server
        watching.cancel()
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
