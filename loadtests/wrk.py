"""Closed-loop load by wrk, with figures as JSON instead of wrk's text."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtests.processes import BenchFailure, Child, start

SCRIPT = """wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.body = [==[{body}]==]
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"status":%d,"broken":%d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk got through."""

    requests: int
    duration_s: float
    p50_ms: float
    p99_ms: float
    refused: int
    """Answers with a status of 400 or more."""
    broken: int
    """Connections that failed, in any way."""

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return self.requests / self.duration_s


def script(body: str, key: str) -> str:
    """The Lua script that sends `body` to chat completions with `key`."""
    return SCRIPT.format(body=body, key=key)


def parse(output: str) -> Load:
    """The figures from wrk's output, whose last line is ours. Raises BenchFailure when it is not there."""
    lines = [line for line in output.splitlines() if line.startswith('{"requests"')]
    if not lines:
        raise BenchFailure(f"wrk gave no figures:\n{output}")
    found = json.loads(lines[-1])
    return Load(
        requests=found["requests"],
        duration_s=found["duration_us"] / 1e6,
        p50_ms=found["p50_us"] / 1e3,
        p99_ms=found["p99_us"] / 1e3,
        refused=found["status"],
        broken=found["broken"],
    )


@dataclass(frozen=True, slots=True)
class Wrk:
    """wrk on some cores, with a script of a folder."""

    folder: Path
    cores: tuple[int, ...]
    connections: int

    async def run(self, port: int, length_s: float, each_second: Callable[[], None] | None = None) -> Load:
        """Load on `port` for about `length_s` seconds (whole ones, at least 1). Raises BenchFailure on lost ones."""
        seconds = max(1, round(length_s))
        threads = min(2, len(self.cores), self.connections)
        output = self.folder / f"wrk-{port}.out"
        child = self._start(output, ["-t", str(threads), "-c", str(self.connections), "-d", f"{seconds}s"], port)
        try:
            await self._wait(child, seconds + 15, each_second)
        finally:
            if child.process.poll() is None:
                child.process.kill()
                child.process.wait()
        load = parse(_take(output))
        if load.refused or load.broken:
            raise BenchFailure(f"{load.refused} answers with an error status, {load.broken} broken connections")
        return load

    def _start(self, output: Path, sizes: list[str], port: int) -> Child:
        command = ["wrk", *sizes, "--timeout", "10s", "-s", str(self.folder / "chat.lua"), f"http://127.0.0.1:{port}"]
        output.unlink(missing_ok=True)
        return start("wrk", command, self.cores, self.folder, output)

    async def _wait(self, child: Child, limit_s: float, each_second: Callable[[], None] | None) -> None:
        loop = asyncio.get_running_loop()
        until, tick = loop.time() + limit_s, loop.time() + 1
        while child.process.poll() is None:
            await asyncio.sleep(0.02)
            if each_second is not None and loop.time() >= tick:
                tick += 1
                each_second()
            if loop.time() > until:
                raise BenchFailure(f"wrk did not end within {limit_s:g} s")


def _take(path: Path) -> str:
    return path.read_text(errors="replace")
