"""The cast of a bench: gateways, the yardstick, upstreams; each ends with the scenario that started it."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from loadtests import configs, nginx
from loadtests.client import chat_body
from loadtests.machine import Cores, free_port
from loadtests.options import Options
from loadtests.processes import BenchFailure, Child, kill, start, stop, wait_for_port
from loadtests.progress import Progress
from loadtests.redis import Redis, redis_command
from loadtests.wrk import Wrk, script

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Server:
    """Something that listens: nginx, or a mock."""

    child: Child
    port: int


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway under test."""

    child: Child
    port: int
    admin_port: int
    config: Path

    def rewrite(self, text: str, *, by_rename: bool) -> None:
        """Change the configuration, as an editor does (rename) or as `echo >` does (truncate and write)."""
        if by_rename:
            fresh = self.config.with_suffix(".new")
            fresh.write_text(text)
            fresh.replace(self.config)
        else:
            self.config.write_text(text)

    def signal_reload(self) -> None:
        """SIGHUP."""
        os.kill(self.child.pid, signal.SIGHUP)

    def cut_log(self) -> None:
        """Forget the log lines so far, so that a long run does not fill the disk."""
        os.truncate(self.child.output, 0)

    def admin(self) -> httpx.AsyncClient:
        """A client of its admin plane."""
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.admin_port}",
            headers={"authorization": f"Bearer {configs.ADMIN_TOKEN}"},
            timeout=10,
            trust_env=False,
        )

    async def metric(self, name: str, **labels: str) -> float:
        """The sum over a metric's series that have `labels`. Raises BenchFailure when `/metrics` fails."""
        async with self.admin() as admin:
            answer = await admin.get("/metrics")
        if answer.status_code != 200:
            raise BenchFailure(f"/metrics answered {answer.status_code}")
        return metric_sum(answer.text, name, labels)


def metric_sum(exposition: str, name: str, labels: dict[str, str]) -> float:
    """The sum over the series of `name` that have `labels`, in Prometheus' text format; 0 when there is none."""
    total = 0.0
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    for line in exposition.splitlines():
        series, _, value = line.rpartition(" ")
        if series.partition("{")[0] == name and all(label in series for label in wanted):
            total += float(value)
    return total


@dataclass(slots=True)
class Rig:
    """What scenarios start their processes with."""

    folder: Path
    cores: Cores
    options: Options
    progress: Progress
    _children: list[Child]

    @classmethod
    def build(cls, folder: Path, cores: Cores, options: Options, progress: Progress) -> "Rig":
        """A rig that works in `folder`."""
        configs.secrets(folder)
        (folder / "chat.lua").write_text(script(chat_body(configs.MODEL), configs.KEY))
        return cls(folder, cores, options, progress, [])

    def wrk(self) -> Wrk:
        """The closed-loop driver."""
        return Wrk(self.folder, self.cores.driver, self.options.connections)

    def kill_all(self) -> None:
        """End whatever is still running, at once."""
        for child in self._children:
            if child.process.poll() is None:
                kill(child)

    @asynccontextmanager
    async def canned(self) -> AsyncIterator[Server]:
        """nginx as an upstream that answers at once with about 700 bytes, and as collector of traces."""
        port = free_port()
        (self.folder / "canned.conf").write_text(nginx.canned(self.folder, port))
        async with self._running("canned", nginx.command(self.folder, "canned"), self.cores.upstream, port) as child:
            yield Server(child, port)

    @asynccontextmanager
    async def yardstick(self, upstream_port: int) -> AsyncIterator[Server]:
        """nginx as a bare proxy, on the gateway's core."""
        port = free_port()
        (self.folder / "yardstick.conf").write_text(nginx.yardstick(self.folder, port, upstream_port))
        async with self._running(
            "yardstick", nginx.command(self.folder, "yardstick"), self.cores.server, port
        ) as child:
            yield Server(child, port)

    @asynccontextmanager
    async def mock(self) -> AsyncIterator[Server]:
        """The mock model server."""
        port = free_port()
        command = [sys.executable, "-m", "gateway", "mock", "--listen", f"127.0.0.1:{port}"]
        async with self._running("mock", command, self.cores.upstream, port) as child:
            yield Server(child, port)

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[Redis]:
        """A Redis of its own, on the upstream's core; `store` in its `section` finds it."""
        port = free_port()
        (self.folder / "redis.url").write_text(f"redis://127.0.0.1:{port}/0\n")
        made = Redis(self._redis(port), port, partial(self._redis, port))
        try:
            await wait_for_port(made.child, port)
            yield made
        finally:
            made.resume()
            await stop(made.child)

    def _redis(self, port: int) -> Child:
        return self.launch("redis", redis_command(self.folder, port), self.cores.upstream, port)

    @asynccontextmanager
    async def gateway(
        self, setting: configs.Setting, *, workers: int = 1, cores: tuple[int, ...] | None = None
    ) -> AsyncIterator[Gateway]:
        """The gateway, on its core."""
        made = self.gateway_command(setting, workers)
        async with self._running("gateway", made.command, cores or self.cores.server, made.port) as child:
            await wait_for_port(child, made.admin_port)
            yield Gateway(child, made.port, made.admin_port, made.config)

    def gateway_command(self, setting: configs.Setting, workers: int = 1) -> "GatewayCommand":
        """Write a configuration, and choose ports."""
        port, admin_port = free_port(), free_port()
        config = self.folder / f"gateway-{port}.yaml"
        config.write_text(configs.gateway(self.folder, setting))
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
        command += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin_port}", "--workers", str(workers)]
        return GatewayCommand(command, port, admin_port, config)

    def launch(self, name: str, command: list[str], cores: tuple[int, ...], port: int) -> Child:
        """Start a process that `kill_all` knows."""
        child = start(name, command, cores, self.folder, self.folder / f"{name}-{port}.out")
        self._children.append(child)
        return child

    @asynccontextmanager
    async def _running(self, name: str, command: list[str], cores: tuple[int, ...], port: int) -> AsyncIterator[Child]:
        child = self.launch(name, command, cores, port)
        try:
            await wait_for_port(child, port)
            yield child
        finally:
            await stop(child)


@dataclass(frozen=True, slots=True)
class GatewayCommand:
    """How to start a gateway, and where it will be."""

    command: list[str]
    port: int
    admin_port: int
    config: Path


async def mock_stats(port: int) -> dict[str, Any]:
    """The mock's own counters."""
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/__stats")
        stats: dict[str, Any] = answer.json()
        return stats
