"""Real Redis servers for tests: alone, with a replica, as a cluster, watched by sentinels, behind a lossy proxy."""

import asyncio
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

READY_S = 10.0
"""How long a server may take to answer."""

BINARY = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(BINARY is None, reason="redis-server is not installed (apt-get install redis-server)")


def free_port() -> int:
    """A loopback port that nobody has now; below 55,000, for a cluster's nodes also take the one 10,000 above."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 55_000:
            return port


@dataclass(slots=True)
class RedisServer:
    """One server process on loopback, without persistence unless its options say so."""

    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="redis-")))

    @property
    def url(self) -> str:
        """For a client."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def socket_path(self) -> Path:
        """Of the Unix socket."""
        return self.folder / "redis.sock"

    async def start(self) -> Self:
        """Run it, on the same port as before, and wait until it answers."""
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket_path)]
        words += ["--dir", str(self.folder), "--save", "", "--repl-diskless-sync-delay", "0", *self.options]
        self.launch(words)
        await until_answered(self.port)
        return self

    def launch(self, words: Sequence[str]) -> None:
        """Run the program with these words."""
        assert BINARY is not None
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([BINARY, *words], stdout=log, stderr=log)

    def kill(self) -> None:
        """As by kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Stop it where it stands: it accepts connections, and answers nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    async def run(self, *words: str | int | bytes) -> Any:
        """The answer to one command, over a connection of its own."""
        return await run(self.port, *words)

    async def run_as(self, password: str, *words: str | int) -> Any:
        """The same, with a password."""
        return await run(self.port, *words, password=password)

    def remove(self) -> None:
        """Kill it and drop its files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


async def run(port: int, *words: str | int | bytes, password: str | None = None) -> Any:
    """The answer of the server on that port."""
    client = Redis(port=port, password=password, socket_timeout=5.0)
    try:
        return await client.execute_command(*words)  # type: ignore[no-untyped-call]
    finally:
        await client.aclose()


async def until_answered(port: int) -> None:
    """Return when a server answers there."""
    async with asyncio.timeout(READY_S):
        while True:
            with suppress(RedisError, OSError):
                await run(port, "PING")
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def redis_server(*options: str) -> AsyncIterator[RedisServer]:
    """One server, gone afterwards."""
    server = RedisServer(options)
    try:
        yield await server.start()
    finally:
        server.remove()


@asynccontextmanager
async def redis_cluster(size: int = 3) -> AsyncIterator[list[RedisServer]]:
    """A cluster of masters that share the slots."""
    servers: list[RedisServer] = []
    try:
        for _ in range(size):
            options = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
            servers.append(await RedisServer((*options, "--cluster-node-timeout", "1000")).start())
        share = 16384 // size
        for at, server in enumerate(servers):
            last = 16383 if at == size - 1 else (at + 1) * share - 1
            await server.run("CLUSTER", "ADDSLOTS", *range(at * share, last + 1))
            await server.run("CLUSTER", "MEET", "127.0.0.1", servers[0].port)
        async with asyncio.timeout(READY_S):
            while not all([await _is_whole(server, size) for server in servers]):
                await asyncio.sleep(0.05)
        yield servers
    finally:
        for server in servers:
            server.remove()


async def _is_whole(server: RedisServer, size: int) -> bool:
    slots = await server.run("CLUSTER", "SLOTS")
    return len(slots) == size and b"cluster_state:ok" in await server.run("CLUSTER", "INFO")


@asynccontextmanager
async def redis_sentinel(watched: RedisServer, name: str) -> AsyncIterator[int]:
    """A sentinel of its own that watches one master; its port."""
    sentinel = RedisServer()
    config = sentinel.folder / "sentinel.conf"
    config.write_text(
        f"port {sentinel.port}\nbind 127.0.0.1\ndir {sentinel.folder}\n"
        f"sentinel monitor {name} 127.0.0.1 {watched.port} 1\n"
        f"sentinel down-after-milliseconds {name} 300\nsentinel failover-timeout {name} 1000\n"
    )
    try:
        sentinel.launch([str(config), "--sentinel"])
        await until_answered(sentinel.port)
        yield sentinel.port
    finally:
        sentinel.remove()


class LossyProxy:
    """A TCP proxy in front of a server. While `drops` is above 0, it cuts the line instead of answering."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self.drops = 0
        """How many answers are still to be lost."""
        self.lost = 0
        self.is_mute = False
        """Loses answers without cutting the line: who waits, waits."""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """For a client."""
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self._behind)
        try:
            passing = asyncio.ensure_future(self._pass(reader, other_writer))
            try:
                await self._answer(other_reader, writer)
            finally:
                passing.cancel()
                await asyncio.gather(passing, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()
            other_writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.is_mute:
                self.lost += 1
                continue
            if self.drops:
                self.drops -= 1
                self.lost += 1
                return
            writer.write(data)
            await writer.drain()
