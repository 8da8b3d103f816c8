"""A whole gateway as it is run: `python -m gateway serve` in processes of its own, with signals and exit status."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from gateway.mock.server import MockServer
from tests.gateway.harness import CHAT, PLAIN
from tests.gateway.waiting import until

ROOT = Path(__file__).parents[2]
START_S = 30.0
"""A start takes half a second; a machine that runs four of these at once may take longer."""

_LISTENING = re.compile(r"^listening on (http://\S+), admin on (http://\S+), configuration (\w+)$")


@dataclass(slots=True)
class Run:
    """A gateway process, with its files; it may serve, have ended, or never have come to serve."""

    process: subprocess.Popen[bytes]
    config_path: Path
    out_path: Path
    error_path: Path
    mock: MockServer

    def lines(self) -> list[dict[str, Any]]:
        """Every complete log line so far."""
        whole, _, _ = self.out_path.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def messages(self) -> list[str]:
        """What the process said about itself."""
        return [str(line["message"]) for line in self.lines() if line["event"] == "log"]

    def requests(self) -> list[dict[str, Any]]:
        """The log lines of requests."""
        return [line for line in self.lines() if line["event"] == "request"]

    def complaints(self) -> str:
        """What it wrote to standard error."""
        return self.error_path.read_text()

    def workers(self) -> list[int]:
        """The ids of its worker processes, oldest first."""
        return sorted(children(self.process.pid))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process that was started, not to its workers."""
        self.process.send_signal(number)

    async def ended(self, timeout_s: float = 15.0) -> int:
        """Its exit status, once it has ended."""
        await until(lambda: self.process.poll() is not None, timeout_s)
        assert self.process.returncode is not None
        return self.process.returncode

    def write_config(self, config: str) -> None:
        """Replace the configuration file by renaming a new one over it."""
        fresh = self.config_path.with_suffix(".new")
        fresh.write_text(config.replace("MOCK_URL", self.mock.url))
        fresh.rename(self.config_path)

    async def calls(self) -> list[dict[str, object]]:
        """What the mock was asked, in order."""
        async with httpx.AsyncClient() as client:
            found: list[dict[str, object]] = (await client.get(f"{self.mock.url}/__log")).json()
        return found


@dataclass(slots=True)
class Serving:
    """A gateway process that serves, and clients for its two planes."""

    run: Run
    url: str
    client: httpx.AsyncClient
    """For the data plane; every request on a connection of its own, so that workers share them."""
    admin: httpx.AsyncClient

    @property
    def address(self) -> tuple[str, int]:
        """Where the data plane listens."""
        url = httpx.URL(self.url)
        assert url.port is not None
        return url.host, url.port

    async def refuses(self) -> bool:
        """Whether nobody listens on the data plane's port any more."""
        try:
            _, writer = await asyncio.open_connection(*self.address)
        except ConnectionRefusedError:
            return True
        writer.close()
        return False

    async def ask(self, **headers: str) -> httpx.Response:
        """One chat request, not streamed; `_` in header names stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post("/v1/chat/completions", json=CHAT, headers=named)

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels; 0.0 when there is none."""
        text = (await self.admin.get("/metrics")).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def reload(self, config: str) -> str:
        """Replace the file and have it read at once; the revision that is served now."""
        self.run.write_config(config)
        answer = await self.admin.post("/admin/v1/reload")
        assert answer.status_code == 200, answer.text
        return str(answer.json()["revision"])


def children(pid: int) -> Iterator[int]:
    """The processes that `pid` has started and that have not been waited for."""
    for path in Path("/proc").iterdir():
        if not path.name.isdecimal():
            continue
        try:
            stat = (path / "stat").read_text()
        except OSError:
            # It has ended since.
            continue
        # The name before it may contain anything, brackets too.
        state, parent = stat.rpartition(")")[2].split()[:2]
        if int(parent) == pid and state != "Z":
            yield int(path.name)


def is_alive(pid: int) -> bool:
    """Whether the process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@asynccontextmanager
async def run(config: str = PLAIN, *arguments: str, environ: Mapping[str, str] | None = None) -> AsyncIterator[Run]:
    """`gateway serve` on `config`, from the moment it is started; what is left of it is killed at the end."""
    mock = MockServer()
    await mock.start("127.0.0.1", 0)
    with tempfile.TemporaryDirectory() as folder:
        config_path, out_path, error_path = (Path(folder) / name for name in ("gateway.yaml", "out", "err"))
        config_path.write_text(config.replace("MOCK_URL", mock.url))
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(config_path), *arguments]
        with out_path.open("ab") as out, error_path.open("ab") as error:
            process = subprocess.Popen(  # noqa: ASYNC220
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=error, cwd=folder, env=_environ(environ or {})
            )
        try:
            yield Run(process, config_path, out_path, error_path, mock)
        finally:
            _kill(process)
            await mock.aclose()


def _environ(more: Mapping[str, str]) -> dict[str, str]:
    # A proxy setting of the shell must not reach loopback traffic.
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return clean | {"PYTHONPATH": str(ROOT)} | dict(more)


def _kill(process: subprocess.Popen[bytes]) -> None:
    left = list(children(process.pid)) if process.poll() is None else []
    if process.poll() is None:
        process.kill()
        process.wait(timeout=10)
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@asynccontextmanager
async def serving(
    config: str = PLAIN, *arguments: str, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Serving]:
    """A gateway process that has come to serve `config`, with these further arguments."""
    async with run(config, *arguments, environ=environ) as started:
        await until(lambda: _addresses(started) is not None, START_S)
        data, admin = _addresses(started) or ("", "")
        one_each = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with (
            httpx.AsyncClient(base_url=data, timeout=20, limits=one_each) as client,
            httpx.AsyncClient(base_url=admin, timeout=20) as admin_client,
        ):
            yield Serving(started, data, client, admin_client)


def _addresses(started: Run) -> tuple[str, str] | None:
    assert started.process.poll() is None, started.complaints()
    for message in started.messages():
        if found := _LISTENING.match(message):
            return str(found[1]), str(found[2])
    return None
