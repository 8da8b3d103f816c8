"""One serving process, from its first configuration to its end."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.config.load import Loaded
from gateway.core.clock import SystemClock
from gateway.edge.listener import bind
from gateway.edge.process import ServingProcess, edge_limits, happens, settle_heap, trace_settings
from gateway.store.base import Override
from gateway.telemetry.sink import LogSink
from tests.fakes import MOCK_CONFIG, loaded

pytestmark = pytest.mark.anyio

GET = b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


@pytest.fixture
def sink() -> Iterator[LogSink]:
    """A log that nobody reads."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    made = LogSink(nowhere)
    yield made
    made.close(2.0)
    os.close(nowhere)


async def _mock() -> str:
    return "http://127.0.0.1:9"


@asynccontextmanager
async def _process(sink: LogSink, configured: Loaded | None = None) -> AsyncIterator[tuple[ServingProcess, int]]:
    configured = configured or loaded()
    process = ServingProcess(configured, sink, _mock, SystemClock(), "1.2.3")
    await process.running.apply(configured)
    listener = await process.listen(bind("127.0.0.1", 0))
    port = listener.address[1]
    try:
        yield process, port
    finally:
        await process.drain(0.0, 0.0)
        await process.close()


async def _ready(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET)
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return answer.partition(b"\r\n")[0]


async def test_a_process_serves_and_tells_of_itself(sink: LogSink) -> None:
    async with _process(sink) as (process, port):
        assert (await _ready(port)).startswith(b"HTTP/1.1 200")
        assert process.fleet.is_ready
        [snapshot] = await process.fleet.snapshots()
        assert snapshot.metrics["gateway_build_info"][0].labels == ("1.2.3",)
        assert snapshot.metrics["process_cpu_seconds_total"][0].value > 0
        assert snapshot.metrics["gateway_log_lines_dropped_total"][0].value == 0
        assert "gateway_connections" in snapshot.metrics
        assert snapshot.metrics["gateway_store_up"][0].value == 1.0
        assert snapshot.metrics["gateway_store_degraded_seconds_total"][0].value == 0.0


async def test_requests_are_taken_for_the_delay_of_a_drain(sink: LogSink) -> None:
    """F83."""
    async with _process(sink) as (process, port):
        draining = asyncio.ensure_future(process.drain(60.0, 60.0))
        await asyncio.sleep(0)
        assert not process.fleet.is_ready
        assert (await _ready(port)).startswith(b"HTTP/1.1 503")
        assert not draining.done()
        process.hurry()
        async with asyncio.timeout(5):
            await draining
        with pytest.raises(ConnectionRefusedError):
            await _ready(port)


async def test_what_must_outlive_the_process_is_in_its_file(sink: LogSink, tmp_path: Path) -> None:
    path = tmp_path / "state" / "gateway.sqlite"
    for expected in ([], ["route/demo"]):
        process = ServingProcess(loaded(), sink, _mock, SystemClock(), "1.2.3", path)
        await process.store.start()
        assert list(await process.store.journal.overrides()) == expected
        await process.store.journal.put(Override("route/demo", {"split": {"mock": 1.0}}, "ada", "drill", 0.0, None))
        await process.running.apply(loaded())
        await process.close()


async def test_a_state_directory_that_cannot_be_used_is_told(sink: LogSink, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no folder")
    with pytest.raises(OSError, match=r"gateway\.sqlite"):
        ServingProcess(loaded(), sink, _mock, SystemClock(), "1.2.3", tmp_path / "state" / "gateway.sqlite")


async def test_a_drain_ends_when_nobody_is_left(sink: LogSink) -> None:
    """F82."""
    async with _process(sink) as (process, _):
        async with asyncio.timeout(5):
            await process.drain(0.0, 60.0)
        assert not process.running.inflight


def test_the_bounds_of_connections_are_the_files() -> None:
    text = MOCK_CONFIG + "server: {max_header: 8KiB, max_connections: 7, header_timeout: 1s, body_timeout: 2s}\n"
    limits = edge_limits(loaded(text).config)
    assert (limits.max_header, limits.max_connections) == (8192, 7)
    assert (limits.header_timeout_s, limits.body_timeout_s, limits.write_timeout_s) == (1.0, 2.0, 60.0)


def test_headers_of_the_export_that_are_not_set_are_left_out() -> None:
    text = MOCK_CONFIG + "telemetry: {traces: {otlp: 'http://h:1', headers: {a: env:SET, b: env:UNSET}}}\n"
    settings = trace_settings(loaded(text, {"SET": "x"}).config, "1.2.3")
    assert settings.headers == {"a": "x"}
    assert settings.service_version == "1.2.3"


async def test_an_event_happens_or_does_not() -> None:
    event = asyncio.Event()
    assert not await happens(event, 0.0)
    event.set()
    assert await happens(event, 60.0)


def test_what_stays_is_left_to_the_collector_no_more() -> None:
    before = gc.get_threshold()
    try:
        settle_heap()
        assert gc.get_freeze_count() > 1000
        assert gc.get_threshold()[0] == 50_000
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
