"""One of several serving processes: it does what its supervisor says, and ends when the supervisor does."""

import asyncio
import logging
import signal
import socket
from typing import Any

import msgspec

from gateway.config.load import ConfigError, Loaded, Sources, load
from gateway.core.clock import SystemClock
from gateway.core.pipeline import spawn
from gateway.edge.channel import Channel
from gateway.edge.fleet import target_connections
from gateway.edge.process import MockStarter, ServingProcess, settle_heap
from gateway.telemetry.sink import LogSink

logger = logging.getLogger(__name__)


def ignore_signals() -> None:
    """Leave signals to the supervisor: a service manager or a terminal sends them to every process of the group."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


class Worker:
    """Answers the supervisor's calls: `start`, `apply`, `metrics`, `targets`, `find`, `drain`, `hurry`."""

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
                return await self._start(payload)
            case "apply":
                return await self._apply(payload)
            case "metrics":
                return msgspec.msgpack.encode(self._serving.registry.snapshot())
            case "targets":
                return target_connections(self._serving.running)
            case "find":
                return self._serving.recent.find(payload)
            case "drain":
                return await self._drain(*payload)
            case "hurry":
                return self._hurry()
        raise LookupError(f"no call {name!r}")

    @property
    def _serving(self) -> ServingProcess:
        assert self._process is not None, "the worker has not been started"
        return self._process

    async def _start(self, dumped: bytes) -> None:
        async with self._changing:
            loaded = _restore(dumped)
            process = ServingProcess(loaded, self._sink, self._mock, SystemClock(), self._version)
            await process.running.apply(loaded)
            await process.listen(self._socket)
            process.registry.gauge("gateway_workers").value = 1.0
            self._process = process
            settle_heap()

    async def _apply(self, dumped: bytes) -> None:
        async with self._changing:
            # Off the loop: a file with thousands of routes takes a second to parse.
            await self._serving.running.apply(await asyncio.to_thread(_restore, dumped))

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


def _restore(dumped: bytes) -> Loaded:
    """What the supervisor has loaded. Raises ValueError, which the channel carries, where it could not have."""
    try:
        return load(Sources.restore(dumped))
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
