"""One place in the fleet of workers: a socket that stays, and the process that serves it now."""

import asyncio
import logging
import socket
import subprocess
import sys
from typing import Any

from gateway.core.pipeline import spawn
from gateway.edge.channel import CallFailed, Channel, ChannelClosed
from gateway.telemetry.snapshot import Snapshot

logger = logging.getLogger(__name__)

_START_S = 30.0
_APPLY_S = 30.0


class WorkerProcess:
    """A worker as its supervisor knows it. The process may be replaced; the slot and its socket stay."""

    def __init__(self, number: int, listening: socket.socket) -> None:
        self.number = number
        self.listening = listening
        self.is_serving = False
        self.revision = ""
        """Of the configuration that it serves with."""
        self.asked_revision = ""
        """Of the configuration that it was told to serve with last; differs while it changes over."""
        self.counted = Snapshot()
        """Its metrics when it last told them; empty for a new process."""
        self.incarnation = 0
        """How many processes this slot has had."""
        self.silent_since_s: float | None = None
        """When it first failed to answer, on the loop's clock; None while it answers."""
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None

    async def start(self, revision: str, dumped: bytes) -> asyncio.Task[None]:
        """Start a process and have it serve with the sources in `dumped`. The task ends when the process is gone.

        Raises ChannelClosed, CallFailed and OSError (TimeoutError too) when it does not come to serve.
        """
        self.incarnation += 1
        self.silent_since_s = None
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "gateway", "worker", str(self.listening.fileno()), str(theirs.fileno())]
            # Nothing that may block: the child is spawned with its descriptors and goes its own way.
            self._process = subprocess.Popen(  # noqa: ASYNC220
                command, pass_fds=(self.listening.fileno(), theirs.fileno()), start_new_session=True
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        self._channel = Channel(reader, writer, _answer_nothing)
        running = spawn(self._channel.run(), f"worker {self.number} channel")
        self.asked_revision = revision
        await self._channel.call("start", [self.number, dumped], timeout_s=_START_S)
        self.revision = revision
        return running

    async def call(self, name: str, payload: Any = None, *, timeout_s: float) -> Any:
        """What the worker answers. Raises ChannelClosed, CallFailed and TimeoutError."""
        if self._channel is None:
            raise ChannelClosed
        return await self._channel.call(name, payload, timeout_s=timeout_s)

    async def apply(self, revision: str, dumped: bytes) -> bool:
        """Have it serve with the sources in `dumped`; whether it does. A failure is logged.

        Calls overtake none: a worker changes over in the order in which it was told to.
        """
        self.asked_revision = revision
        try:
            await self.call("apply", dumped, timeout_s=_APPLY_S)
        except (ChannelClosed, CallFailed, TimeoutError) as error:
            logger.error("worker %d did not apply configuration %s: %r", self.number, revision, error)
            if self.asked_revision == revision:
                self.asked_revision = self.revision
            return False
        self.revision = revision
        return True

    def kill(self) -> None:
        """End the process at once, if there is one."""
        if self._process is not None:
            self._process.kill()

    async def reap(self, grace_s: float) -> int:
        """Wait for the process to end, and kill it after `grace_s`. Its exit status; 0 if there was none."""
        self.is_serving = False
        process = self._process
        if process is None:
            return 0
        try:
            return await asyncio.to_thread(process.wait, grace_s)
        except subprocess.TimeoutExpired:
            logger.error("worker %d does not end; killing it", self.number)
            process.kill()
            return await asyncio.to_thread(process.wait)


async def _answer_nothing(name: str, payload: Any) -> Any:
    raise LookupError(f"no call {name!r}")
