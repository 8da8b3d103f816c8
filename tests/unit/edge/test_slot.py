"""A slot of the fleet, with a real process in it."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.edge.channel import CallFailed, ChannelClosed
from gateway.edge.desired import Desired
from gateway.edge.listener import bind
from gateway.edge.slot import WorkerProcess
from tests.fakes import MOCK_CONFIG, loaded

pytestmark = pytest.mark.anyio

FIRST = Desired(loaded())
SECOND = Desired(loaded(MOCK_CONFIG.replace("demo", "second")))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes keep their state in a working directory of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))


@asynccontextmanager
async def _slot() -> AsyncIterator[WorkerProcess]:
    with bind("127.0.0.1", 0) as sock:
        worker = WorkerProcess(3, sock)
        try:
            yield worker
        finally:
            worker.kill()
            await worker.reap(10.0)


async def test_a_slot_without_a_process_has_nobody_to_call() -> None:
    async with _slot() as worker:
        with pytest.raises(ChannelClosed):
            await worker.call("metrics", timeout_s=1.0)
        assert not await worker.apply(SECOND.id, SECOND.dump())
        worker.kill()
        assert await worker.reap(0.0) == 0


async def test_a_process_serves_changes_over_and_ends_when_it_is_told_to() -> None:
    async with _slot() as worker:
        gone = await worker.start(FIRST.id, FIRST.dump())
        assert (worker.revision, worker.incarnation) == (FIRST.id, 1)
        assert await worker.apply(SECOND.id, SECOND.dump())
        assert (worker.revision, worker.asked_revision) == (SECOND.id, SECOND.id)
        assert not await worker.apply("bad", b"{}")
        assert (worker.revision, worker.asked_revision) == (SECOND.id, SECOND.id)
        with pytest.raises(CallFailed):
            await worker.call("unknown", timeout_s=5.0)
        await worker.call("drain", [0.0, 1.0], timeout_s=5.0)
        await gone
        assert await worker.reap(10.0) == 0


async def test_a_killed_process_is_told_and_its_slot_takes_another() -> None:
    async with _slot() as worker:
        gone = await worker.start(FIRST.id, FIRST.dump())
        worker.kill()
        async with asyncio.timeout(10):
            await gone
        assert await worker.reap(10.0) == -signal.SIGKILL
        await worker.start(SECOND.id, SECOND.dump())
        assert (worker.revision, worker.incarnation) == (SECOND.id, 2)


async def test_a_process_that_does_not_end_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    async with _slot() as worker:
        await worker.start(FIRST.id, FIRST.dump())
        assert await worker.reap(0.05) == -signal.SIGKILL
        assert "worker 3 does not end" in caplog.text


async def test_a_configuration_that_cannot_be_served_is_told() -> None:
    async with _slot() as worker:
        with pytest.raises(CallFailed):
            await worker.start("bad", b"{}")
        assert worker.revision == ""
