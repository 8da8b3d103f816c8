"""One of several serving processes: it does what its supervisor says, and ends when the supervisor does."""

import asyncio
import logging
import signal
import socket
from pathlib import Path
from typing import Any

import msgspec

from gateway.config.load import ConfigError
from gateway.core.clock import SystemClock
from gateway.core.errors import StoreUnavailable
from gateway.core.pipeline import spawn
from gateway.edge.channel import Channel
from gateway.edge.desired import Desired, restore
from gateway.edge.fleet import LocalFleet, refresh_budgets
from gateway.edge.process import MockStarter, ServingProcess, settle_heap
from gateway.store.base import Grant
from gateway.telemetry.sink import LogSink

logger = logging.getLogger(__name__)


def ignore_signals() -> None:
    """Leave signals to the supervisor: a service manager or a terminal sends them to every process of the group."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


class Worker:
    """Answers the supervisor's calls: `start`, `apply`, `metrics`, `drain`, `hurry`, and what a fleet is asked."""

    def __init__(self, listening: socket.socket, sink: LogSink, mock: MockStarter, version: str) -> None:
        self._socket = listening
        self._sink = sink
        self._mock = mock
        self._version = version
        self._process: ServingProcess | None = None
        # One change at a time, in the order in which they were asked for: the last one must win.
        self._changing = asyncio.Lock()
        self.done = asyncio.Event()

    async def answer(self, name: str, payload: Any) -> Any:
        """Do what is asked. Raises LookupError for a name that is not known."""
        match name:
            case "start":
                return await self._start(*payload)
            case "apply":
                return await self._apply(payload)
            case "metrics":
                return await self._metrics()
            case "drain":
                return await self._drain(*payload)
            case "hurry":
                return self._hurry()
        return await self._tell(self._serving.fleet, name, payload)

    async def _tell(self, fleet: LocalFleet, name: str, payload: Any) -> Any:
        """What the admin plane asks of this process."""
        match name:
            case "targets":
                return await fleet.targets()
            case "find":
                return await fleet.find_request(payload)
            case "evidence":
                return await fleet.evidence(*payload)
            case "restore":
                return await fleet.restore(payload)
            case "budgets":
                return msgspec.to_builtins(await fleet.budgets())
            case "grant":
                return await fleet.grant(msgspec.convert(payload, Grant))
            case "spend":
                return msgspec.to_builtins(await fleet.spend(*payload))
            case "purge":
                return await _purge(fleet, payload)
        raise LookupError(f"no call {name!r}")

    async def _metrics(self) -> bytes:
        serving = self._serving
        if not serving.store.is_shared:
            # What is shared is the supervisor's to tell: it would be summed over the workers.
            await refresh_budgets(serving.registry, serving.store, serving.running.current.loaded.config)
        return msgspec.msgpack.encode(serving.registry.snapshot())

    @property
    def _serving(self) -> ServingProcess:
        assert self._process is not None, "the worker has not been started"
        return self._process

    async def _start(self, number: int, dumped: bytes) -> None:
        async with self._changing:
            desired = _restore(dumped)
            folder = desired.loaded.config.server.state_dir
            process = ServingProcess(
                desired.loaded,
                self._sink,
                self._mock,
                SystemClock(),
                self._version,
                Path(folder) / f"worker-{number}.sqlite",
            )
            await process.store.start()
            await process.running.apply(desired.loaded, desired.overrides)
            await process.listen(self._socket)
            process.registry.gauge("gateway_workers").value = 1.0
            self._process = process
            settle_heap()

    async def _apply(self, dumped: bytes) -> None:
        async with self._changing:
            # Off the loop: a file with thousands of routes takes a second to parse.
            desired = await asyncio.to_thread(_restore, dumped)
            await self._serving.running.apply(desired.loaded, desired.overrides)

    async def _drain(self, delay_s: float, drain_s: float) -> None:
        async with self._changing:
            process = self._process
        if process is not None:
            await process.drain(delay_s, drain_s)
        self.done.set()

    def _hurry(self) -> None:
        if self._process is not None:
            self._process.hurry()

    async def orphaned(self) -> None:
        """The supervisor is gone: end as it would have asked, without the delay."""
        drain_s = 0.0 if self._process is None else self._process.running.current.loaded.config.server.drain
        await self._drain(0.0, drain_s)

    async def close(self) -> None:
        """Give everything back."""
        if self._process is not None:
            await self._process.close()


async def _purge(fleet: LocalFleet, scope: str) -> Any:
    """The receipt; a text, where it has to be asked again, as the channel knows no such error."""
    try:
        return msgspec.to_builtins(await fleet.purge(scope))
    except StoreUnavailable as error:
        return error.message


def _restore(dumped: bytes) -> Desired:
    """What the supervisor has loaded. Raises ValueError, which the channel carries, where it could not have."""
    try:
        return restore(dumped)
    except ConfigError as error:
        raise ValueError("; ".join(map(str, error.faults))) from error


async def work(listening: socket.socket, control: socket.socket, sink: LogSink, mock: MockStarter, version: str) -> int:
    """Serve on `listening`, obeying `control`, until told to stop. The exit status."""
    worker = Worker(listening, sink, mock, version)
    reader, writer = await asyncio.open_connection(sock=control)
    channel = Channel(reader, writer, worker.answer)
    running = spawn(channel.run(), "supervisor channel")
    finished = spawn(worker.done.wait(), "end of the drain")
    await asyncio.wait([running, finished], return_when=asyncio.FIRST_COMPLETED)
    if not worker.done.is_set():
        logger.warning("the supervisor is gone; draining")
        await worker.orphaned()
    await worker.close()
    writer.close()
    await asyncio.gather(running, finished, return_exceptions=True)
    return 0
