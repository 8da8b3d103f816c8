"""Several processes on one port."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config.load import load
from gateway.edge.listener import bind
from gateway.edge.serve import Options
from gateway.edge.supervisor import shared_sockets, supervise
from gateway.telemetry.sink import LogSink
from tests.fakes import MOCK_CONFIG

pytestmark = pytest.mark.anyio


@pytest.fixture
def sink() -> Iterator[LogSink]:
    """A log that nobody reads."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    made = LogSink(nowhere)
    yield made
    made.close(2.0)
    os.close(nowhere)


def _options(folder: Path, listen: str = "127.0.0.1:0", admin: str = "127.0.0.1:0") -> Options:
    path = folder / "gateway.yaml"
    path.write_text(MOCK_CONFIG + f"server: {{drain: 1s, state_dir: '{folder}'}}\n")
    return Options(path, {}, listen, admin, 2, "1.2.3", folder / "state")


def test_workers_get_a_socket_each_on_one_port(tmp_path: Path) -> None:
    sockets = shared_sockets(load(_options(tmp_path).read()), 3)
    assert len({sock.getsockname() for sock in sockets}) == 1
    assert len({sock.fileno() for sock in sockets}) == 3
    for sock in sockets:
        sock.close()


def test_a_port_that_other_workers_share_is_taken(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0, shared=True) as other:
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(OSError, match=f"cannot listen on {address}"):
            shared_sockets(load(_options(tmp_path, listen=address).read()), 2)


async def test_an_admin_port_that_is_taken_starts_no_worker(tmp_path: Path, sink: LogSink) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        options = _options(tmp_path, admin=address)
        with pytest.raises(OSError, match=f"cannot listen on {address}"):
            await supervise(options, load(options.read()), sink)
    _forget_signals()


async def test_workers_serve_until_a_signal_and_end_with_their_supervisor(
    tmp_path: Path, sink: LogSink, caplog: pytest.LogCaptureFixture
) -> None:
    """F82."""
    caplog.set_level(logging.INFO)
    options = _options(tmp_path)
    running = asyncio.ensure_future(supervise(options, load(options.read()), sink))
    async with asyncio.timeout(30):
        while "listening on http://127.0.0.1:" not in caplog.text:
            await asyncio.sleep(0.01)
    signal.raise_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        assert await running == 0
    assert [record.getMessage() for record in caplog.records][-2:] == ["draining", "stopped"]
    _forget_signals()


def _forget_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().remove_signal_handler(number)
