"""A worker in this process, told what to do over its channel."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway.config.load import Sources
from gateway.edge.channel import CallFailed, Channel
from gateway.edge.desired import Desired
from gateway.edge.listener import bind
from gateway.edge.worker import Worker, ignore_signals, work
from gateway.store.base import Grant, Override
from gateway.store.blobs import Receipt
from gateway.telemetry.sink import LogSink
from gateway.telemetry.snapshot import Snapshot
from tests.fakes import MOCK_CONFIG, loaded

pytestmark = pytest.mark.anyio

FIRST = Desired(loaded())
SECOND = Desired(loaded(MOCK_CONFIG.replace("demo", "second")))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own, where the worker keeps its state."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


async def _mock() -> str:
    return "http://127.0.0.1:9"


async def _answer_nothing(name: str, payload: Any) -> Any:
    raise LookupError(name)


@dataclass
class Desk:
    """The supervisor's end of a worker."""

    channel: Channel
    writer: asyncio.StreamWriter
    url: str
    working: "asyncio.Task[int]"

    async def ask(self, name: str, payload: Any = None) -> Any:
        """The worker's answer."""
        return await self.channel.call(name, payload, timeout_s=10.0)

    async def models(self) -> list[str]:
        """What the worker serves."""
        async with httpx.AsyncClient() as client:
            listed = (await client.get(f"{self.url}/v1/models")).json()
        return [model["id"] for model in listed["data"]]


@asynccontextmanager
async def _desk(sink: LogSink) -> AsyncIterator[Desk]:
    sock = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    working = asyncio.ensure_future(work(sock, theirs, sink, _mock, "1.2.3"))
    reader, writer = await asyncio.open_connection(sock=ours)
    channel = Channel(reader, writer, _answer_nothing)
    running = asyncio.ensure_future(channel.run())
    try:
        yield Desk(channel, writer, url, working)
    finally:
        writer.close()
        await asyncio.gather(working, running, return_exceptions=True)
        sock.close()


async def test_a_worker_serves_changes_over_and_drains(sink: LogSink) -> None:
    async with _desk(sink) as desk:
        await desk.ask("start", [3, FIRST.dump()])
        assert await desk.models() == ["demo"]
        await desk.ask("apply", SECOND.dump())
        assert await desk.models() == ["second"]
        snapshot = msgspec.msgpack.decode(await desk.ask("metrics"), type=Snapshot)
        assert [sample.value for sample in snapshot.metrics["gateway_workers"]] == [1.0]
        state = (await desk.ask("targets"))["mock"]
        assert state["connections"] == {"open": 0, "idle": 0, "in_use": 0, "waiting": 0}
        assert state["breaker"]["state"] == "closed"
        assert await desk.ask("find", "nobody") is None
        await desk.ask("drain", [0.0, 5.0])
        async with asyncio.timeout(10):
            assert await desk.working == 0


LIMITED = Desired(
    loaded(
        MOCK_CONFIG.replace("{provider: mock}", "{provider: mock, price: {request: $0.01}}")
        + "limits: [{name: all, budget: $1/day}]\n"
    ),
    {"isolate/key/open": Override("isolate/key/open", {}, "ada", "drill", 0.0, None)},
)


async def test_a_worker_answers_what_the_admin_plane_asks_of_a_process(sink: LogSink, here: Path) -> None:
    async with _desk(sink) as desk:
        await desk.ask("start", [3, LIMITED.dump()])
        assert (here / "state" / "worker-3.sqlite").exists()
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{desk.url}/v1/chat/completions", json={"model": "demo", "messages": []})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "isolated")
        assert [record["key"] for record in await desk.ask("evidence", ["key", "open"])] == ["open"]
        assert await desk.ask("restore", "mock") is None
        grant = Grant("g", "all", "*", 5, 9e9)
        assert await desk.ask("grant", msgspec.to_builtins(grant)) is None
        with pytest.raises(CallFailed, match="no call"):
            await desk.ask("dance")
        assert await desk.ask("budgets") == []
        assert await desk.ask("spend", ["2026-11-01", "2026-11-30"]) == []
        snapshot = msgspec.msgpack.decode(await desk.ask("metrics"), type=Snapshot)
        assert [sample.value for sample in snapshot.metrics["gateway_budget_limit_usd"]] == [1.0]
        await desk.ask("drain", [0.0, 5.0])


async def test_changes_happen_in_the_order_in_which_they_were_asked_for(sink: LogSink) -> None:
    async with _desk(sink) as desk:
        starting = asyncio.ensure_future(desk.ask("start", [3, FIRST.dump()]))
        for configured in (SECOND, FIRST, SECOND, FIRST, SECOND):
            last = asyncio.ensure_future(desk.ask("apply", configured.dump()))
        await asyncio.gather(starting, last)
        assert await desk.models() == ["second"]


async def test_a_configuration_that_cannot_be_served_is_refused_and_the_old_one_goes_on(sink: LogSink) -> None:
    """F76."""
    broken = Sources.of_text(MOCK_CONFIG.replace("target: mock", "target: mokc"))
    async with _desk(sink) as desk:
        await desk.ask("start", [3, FIRST.dump()])
        with pytest.raises(CallFailed, match="mokc"):
            await desk.ask("apply", msgspec.msgpack.encode([broken.dump(), []]))
        assert await desk.models() == ["demo"]


async def test_a_worker_that_has_not_started_only_ends(sink: LogSink) -> None:
    async with _desk(sink) as desk:
        with pytest.raises(CallFailed, match="not been started"):
            await desk.ask("metrics")
        await desk.ask("hurry")
        await desk.ask("drain", [60.0, 60.0])
        async with asyncio.timeout(10):
            assert await desk.working == 0


async def test_a_drain_can_be_cut_short(sink: LogSink) -> None:
    async with _desk(sink) as desk:
        await desk.ask("start", [3, FIRST.dump()])
        draining = asyncio.ensure_future(desk.ask("drain", [60.0, 60.0]))
        await asyncio.sleep(0)
        await desk.ask("hurry")
        async with asyncio.timeout(10):
            await draining
            assert await desk.working == 0


async def test_a_worker_ends_when_its_supervisor_is_gone(sink: LogSink, caplog: pytest.LogCaptureFixture) -> None:
    async with _desk(sink) as desk:
        await desk.ask("start", [3, FIRST.dump()])
        desk.writer.close()
        async with asyncio.timeout(10):
            assert await desk.working == 0
        assert "the supervisor is gone" in caplog.text


async def test_a_worker_that_never_started_ends_without_a_drain(sink: LogSink) -> None:
    with bind("127.0.0.1", 0) as sock:
        worker = Worker(sock, sink, _mock, "1.2.3")
        await worker.orphaned()
        await worker.close()
        assert worker.done.is_set()


def test_signals_are_left_to_the_supervisor() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    try:
        ignore_signals()
        assert [signal.getsignal(number) for number in numbers] == [signal.SIG_IGN] * 3
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


async def test_a_worker_purges_and_says_why_it_could_not(sink: LogSink, here: Path) -> None:
    config = MOCK_CONFIG.replace("target: mock", "target: mock, cache: {exact: 1h}")
    kept = Desired(loaded(config + "cache: {persist: true}\n"))
    async with _desk(sink) as desk:
        await desk.ask("start", [3, kept.dump()])
        assert (here / "state" / "worker-3-cache.sqlite").exists()
        assert msgspec.convert(await desk.ask("purge", "key:a"), Receipt) == Receipt("key:a", 1, 0)
        await desk.ask("drain", [0.0, 5.0])
    gone = Desired(loaded(config + "store: {redis: env:URL}\n", {"URL": "redis://127.0.0.1:1/0"}))
    async with _desk(sink) as desk:
        await desk.ask("start", [3, gone.dump()])
        assert "nothing was purged" in await desk.ask("purge", "key:a")
        await desk.ask("drain", [0.0, 5.0])
