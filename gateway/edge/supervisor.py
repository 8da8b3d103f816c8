"""`gateway serve --workers N`: N processes on one port, one admin plane that answers for all of them.

Each worker has a listening socket of its own on the shared port (SO_REUSEPORT), which the supervisor
opens and keeps: connections that wait in the queue of a worker that died are served by the one that
takes its place. A configuration is read and checked here once, and sent whole, so all workers serve
exactly the same.
"""

import asyncio
import logging
import socket

from gateway.assembly.stores import open_store
from gateway.config.load import Loaded
from gateway.core.clock import SystemClock
from gateway.core.pipeline import spawn
from gateway.edge.control import Control
from gateway.edge.desired import Desired
from gateway.edge.listener import Listener, bind
from gateway.edge.serve import Options, announce, bind_data, first_overrides, open_admin, state_file
from gateway.edge.signals import Signals
from gateway.edge.slot import WorkerProcess
from gateway.edge.workers import WorkerFleet
from gateway.telemetry.exposition import watch_process
from gateway.telemetry.metrics import Registry
from gateway.telemetry.sink import LogSink

logger = logging.getLogger(__name__)

_START_S = 30.0


def shared_sockets(loaded: Loaded, count: int) -> list[socket.socket]:
    """`count` sockets on the data plane's one port. Raises OSError when somebody else has it."""
    # Shared sockets would also share with another gateway of the same user, by mistake and in silence.
    bind_data(loaded).close()
    first = bind_data(loaded, shared=True)
    host, port = first.getsockname()[:2]
    return [first, *(bind(host, port, shared=True) for _ in range(count - 1))]


async def supervise(options: Options, loaded: Loaded, sink: LogSink) -> int:
    """Serve with `options.workers` processes until SIGTERM or SIGINT, then drain them all. The exit status.

    1 when no worker comes to serve. Raises OSError when an address is taken.
    """
    signals = Signals()
    signals.install()
    registry = Registry()
    registry.configure((), ())
    watch_process(registry)
    sockets = shared_sockets(loaded, options.workers)
    address = sockets[0].getsockname()[:2]
    workers = [WorkerProcess(number, sock) for number, sock in enumerate(sockets)]
    clock = SystemClock()
    # Only its journal is used: workers count for themselves, or in the shared store.
    store = open_store(loaded.config, clock, state_file(options, loaded), lambda crossing: None)
    fleet = WorkerFleet(workers, Desired(loaded), registry, store)
    control = Control(options.read, loaded, fleet, registry, clock, store.journal)
    try:
        admin = await open_admin(control, fleet, store.journal, clock)
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    await store.start()
    await first_overrides(control)
    keeping = [spawn(fleet.keep(worker), f"worker {worker.number}") for worker in workers]
    signals.on_hurry(fleet.hurry)
    if not await _has_started(fleet, signals):
        logger.error("no worker serves within %.0f s; giving up", _START_S)
        await _end(fleet, keeping, admin, 0.0, 0.0)
        await store.aclose()
        return 1
    signals.on_reload(lambda: spawn(control.reload("SIGHUP"), "reload"))
    watching = [
        spawn(control.watch(), "configuration watch"),
        spawn(control.watch_overrides(), "overrides watch"),
        spawn(fleet.watch(), "worker watch"),
    ]
    if not signals.stop.is_set():
        announce(loaded, address, admin)
    await signals.stop.wait()
    logger.info("draining")
    for task in watching:
        task.cancel()
    server = control.loaded.config.server
    await _end(fleet, keeping, admin, server.drain_delay, server.drain)
    await store.aclose()
    logger.info("stopped")
    await asyncio.to_thread(sink.flush, 2.0)
    return 0


async def _has_started(fleet: WorkerFleet, signals: Signals) -> bool:
    """Whether somebody serves, or there is no need any more."""
    waiting = [spawn(fleet.wait_ready(), "workers' start"), spawn(signals.stop.wait(), "stop")]
    await asyncio.wait(waiting, timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    return fleet.is_ready or signals.stop.is_set()


async def _end(
    fleet: WorkerFleet, keeping: list[asyncio.Task[None]], admin: Listener, delay_s: float, drain_s: float
) -> None:
    await fleet.drain(delay_s, drain_s)
    for task in keeping:
        task.cancel()
    admin.stop_accepting()
    await admin.close()
