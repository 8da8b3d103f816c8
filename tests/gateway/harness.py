"""A whole gateway for tests: real sockets, a real mock model server behind it, its log lines at hand."""

import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from gateway.config.load import load
from gateway.edge.serve import Options, Served, serving
from gateway.mock.server import MockServer
from gateway.telemetry.sink import LogSink

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
"""The smallest chat request, to the route that every test's gateway has."""

PLAIN = """
apiVersion: gateway/v1
server: {listen: "127.0.0.1:0", admin: "127.0.0.1:0", drain: 5s}
targets:
  mock: {breaker: off, provider: mock, base_url: MOCK_URL}
routes:
  - {model: demo, target: mock}
"""
"""One route to one mock, without a breaker: tests order many faults of it. `MOCK_URL` stands for the mock's address."""


@dataclass(slots=True)
class Gateway:
    """A gateway under test, and what stands around it."""

    served: Served
    mock: MockServer
    config_path: Path
    client: httpx.AsyncClient
    """For the data plane; asks for no path prefix."""
    admin: httpx.AsyncClient
    """For the admin plane."""
    sink: LogSink
    log_path: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, int]:
        """Where the data plane listens."""
        return self.served.data.address

    @property
    def url(self) -> str:
        """The data plane's base URL, without a path."""
        host, port = self.address
        return f"http://{host}:{port}"

    def lines(self) -> list[dict[str, Any]]:
        """Every log line so far."""
        self.sink.flush(2.0)
        return [json.loads(line) for line in self.log_path.read_bytes().splitlines()]

    def requests(self) -> list[dict[str, Any]]:
        """The log lines of requests."""
        return [line for line in self.lines() if line["event"] == "request"]

    async def calls(self) -> list[dict[str, Any]]:
        """What the mock was asked, in order."""
        async with httpx.AsyncClient() as client:
            found: list[dict[str, Any]] = (await client.get(f"{self.mock.url}/__log")).json()
        return found

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels; 0.0 when there is none."""
        text = (await self.admin.get("/metrics")).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def write_config(self, config: str) -> None:
        """Replace the configuration file, as an editor does: by renaming a new one over it."""
        text = config.replace("MOCK_URL", self.mock.url)
        fresh = self.config_path.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(self.config_path)

    async def reload(self, config: str) -> dict[str, Any]:
        """Replace the file and have it read at once; the admin API's answer."""
        self.write_config(config)
        answer: dict[str, Any] = (await self.admin.post("/admin/v1/reload")).json()
        return answer


@asynccontextmanager
async def gateway(config: str = PLAIN, environ: Mapping[str, str] | None = None) -> AsyncIterator[Gateway]:
    """A gateway that serves `config` in this process until the scope ends; drains then."""
    mock = MockServer()
    await mock.start("127.0.0.1", 0)
    with tempfile.TemporaryDirectory() as folder:
        config_path = Path(folder) / "gateway.yaml"
        config_path.write_text(config.replace("MOCK_URL", mock.url))
        log_path = Path(folder) / "log.jsonl"
        log_fd = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        sink = LogSink(log_fd)
        options = Options(config_path, dict(environ or {}), None, None, 1, "test", Path(folder))
        try:
            async with serving(options, load(options.read()), sink, lambda: _url(mock)) as served:
                admin_host, admin_port = served.admin.address
                host, port = served.data.address
                limits = httpx.Limits(max_connections=None)
                async with (
                    httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=10, limits=limits) as client,
                    httpx.AsyncClient(base_url=f"http://{admin_host}:{admin_port}", timeout=10) as admin,
                ):
                    yield Gateway(served, mock, config_path, client, admin, sink, log_path, dict(environ or {}))
        finally:
            sink.close(2.0)
            os.close(log_fd)
            await mock.aclose()


async def _url(mock: MockServer) -> str:
    return mock.url


def head(path: str = "/v1/chat/completions", body: bytes = b"", **headers: str) -> bytes:
    """A raw request: a POST of JSON, with more headers (`_` stands for `-`)."""
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def connect(address: tuple[str, int]) -> socket.socket:
    """A blocking TCP connection, for what no HTTP client would send."""
    return socket.create_connection(address, timeout=5)
