"""A gateway in this process: its options, its two listeners, and its end."""

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import httpx
import pytest

from gateway.config.load import load
from gateway.core.errors import StoreUnavailable
from gateway.edge.control import Control
from gateway.edge.serve import Options, first_overrides, serve, serving, state_file
from gateway.store.base import Override
from gateway.telemetry.sink import LogSink
from tests.fakes import MOCK_CONFIG

pytestmark = pytest.mark.anyio


@pytest.fixture
def sink() -> Iterator[LogSink]:
    """A log that nobody reads; and the collector as it was before."""
    thresholds = gc.get_threshold()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    made = LogSink(nowhere)
    yield made
    made.close(2.0)
    os.close(nowhere)
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """Free ports, given on the command line."""
    path = tmp_path / "gateway.yaml"
    path.write_text(MOCK_CONFIG + "server: {drain: 1s}\n")
    return Options(path, {"SECRET": "sk-1"}, "127.0.0.1:0", "127.0.0.1:0", 1, "1.2.3", tmp_path / "state")


async def _mock() -> str:
    return "http://127.0.0.1:9"


def test_the_command_line_wins_over_the_file_and_shows_no_environment(options: Options) -> None:
    config = load(options.read()).config
    assert (config.server.listen.port, config.server.admin.port) == (0, 0)
    assert "sk-1" not in repr(options)


async def test_both_planes_serve_until_the_end_of_the_scope(options: Options, sink: LogSink) -> None:
    async with serving(options, load(options.read()), sink, _mock) as served, httpx.AsyncClient() as client:
        addresses = [served.data.address, served.admin.address]
        for host, port in addresses:
            assert (await client.get(f"http://{host}:{port}/readyz")).status_code == 200
    for address in addresses:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)


@pytest.mark.parametrize("plane", ["listen", "admin"])
async def test_a_taken_address_leaves_nothing_open(options: Options, sink: LogSink, plane: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        chosen = {"listen": options.listen, "admin": options.admin} | {plane: address}
        asked = Options(options.config, {}, chosen["listen"], chosen["admin"], 1, "1.2.3", options.state_dir)
        with pytest.raises(OSError, match=f"cannot listen on {address}"):
            async with serving(asked, load(asked.read()), sink, _mock):
                raise AssertionError("it serves")


async def test_what_operators_ordered_is_in_force_from_the_first_request_on(options: Options, sink: LogSink) -> None:
    shut = Override("isolate/key/open", {}, "ada", "drill", 0.0, None)
    async with serving(options, load(options.read()), sink, _mock) as served:
        assert served.process.running.current.isolation.keys == frozenset()
        await served.process.store.journal.put(shut)
    async with serving(options, load(options.read()), sink, _mock) as served:
        assert served.process.running.current.isolation.keys == {"open"}


class Away:
    """A control whose store does not answer."""

    async def refresh_overrides(self) -> None:
        """Fail."""
        raise StoreUnavailable("no answer")


async def test_a_gateway_starts_without_its_store_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """F74."""
    await first_overrides(cast(Control, Away()))
    assert caplog.messages == ["starting without overrides: no answer"]


def test_the_state_is_in_the_files_directory_unless_the_options_say_another(options: Options) -> None:
    loaded = load(options.read())
    assert state_file(options, loaded) == options.config.parent / "state" / "gateway.sqlite"
    assert state_file(replace(options, state_dir=None), loaded) == Path("state/gateway.sqlite")


async def test_it_announces_itself_obeys_signals_and_ends(
    options: Options, sink: LogSink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    running = asyncio.ensure_future(serve(options, load(options.read()), sink, _mock))

    async def said(text: str) -> None:
        async with asyncio.timeout(10):
            while text not in caplog.text:
                await asyncio.sleep(0.005)

    await said("listening on http://127.0.0.1:")
    options.config.write_text(MOCK_CONFIG.replace("demo", "second"))
    signal.raise_signal(signal.SIGHUP)
    await said("applied")
    signal.raise_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        assert await running == 0
    await said("stopped")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().remove_signal_handler(number)
