"""`gateway serve --workers 2`: two processes on one port behave as one gateway."""

import asyncio
import hashlib
import os
import signal
import time

import pytest

from tests.gateway.harness import PLAIN
from tests.gateway.processes import Serving, is_alive, serving
from tests.gateway.traffic import requests, streams
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

TWO = ("--workers", "2")
RENAMED = PLAIN.replace(
    "- {model: demo, target: mock}", "- {model: demo, target: mock}\n  - {model: more, target: mock}"
)
HASHES = [hashlib.sha256(f"sk-{name}".encode()).hexdigest() for name in ("stays", "goes")]
ONE_KEY = PLAIN + f'keys:\n  - {{id: stays, hash: "sha256:{HASHES[0]}"}}\n'
TWO_KEYS = ONE_KEY + f'  - {{id: goes, hash: "sha256:{HASHES[1]}"}}\n'


async def _revisions(gw: Serving, count: int = 24) -> set[str]:
    """The revisions that answer now, each request on a connection of its own, so that both workers are asked."""
    answers = await asyncio.gather(*(gw.ask() for _ in range(count)))
    assert {answer.status_code for answer in answers} == {200}
    return {answer.headers["x-gateway-config"] for answer in answers}


async def _applied(gw: Serving, revision: str, timeout_s: float = 2.0) -> None:
    async def is_applied() -> bool:
        shown = (await gw.admin.get("/admin/v1/config")).json()
        return bool(shown["revision"] == revision)

    await until(is_applied, timeout_s)


async def _workers_become(gw: Serving, count: float, timeout_s: float = 15.0) -> None:
    async def are() -> bool:
        return await gw.metric("gateway_workers") == count

    await until(are, timeout_s)


async def test_what_both_have_counted_is_one_number_and_what_both_have_seen_is_found() -> None:
    async with serving(PLAIN, *TWO) as gw:
        asked = [f"req-{number}" for number in range(40)]
        answers = await asyncio.gather(*(gw.ask(x_request_id=request_id) for request_id in asked))
        assert {answer.status_code for answer in answers} == {200}
        assert await gw.metric("gateway_requests_total", route="demo", outcome="ok") == 40
        assert await gw.metric("gateway_workers") == 2
        assert await gw.metric("gateway_request_duration_seconds_count", route="demo") == 40
        found = [await gw.admin.get(f"/admin/v1/requests/{request_id}") for request_id in asked]
        assert [answer.json()["request_id"] for answer in found] == asked
        assert (await gw.admin.get("/admin/v1/requests/req-40")).status_code == 404
        [target] = (await gw.admin.get("/admin/v1/targets")).json()["targets"]
        assert 2 <= target["connections"]["open"] <= 40
        assert len(gw.run.requests()) == 40


async def test_a_reload_reaches_every_worker_and_cuts_no_stream() -> None:
    """F79."""
    async with serving(PLAIN, *TWO) as gw, streams(gw.client, 20, "tokens=20,gap=50ms") as opened:
        [before] = await _revisions(gw)
        after = await gw.reload(RENAMED)
        assert await _revisions(gw) == {after} != {before}
        gw.run.write_config(PLAIN)
        gw.run.signal(signal.SIGHUP)
        await _applied(gw, before)
        assert await _revisions(gw) == {before}
        await opened.ended()
        assert opened.count(is_complete=True) == 20


async def test_a_removed_key_is_refused_by_every_worker_within_a_second() -> None:
    """F81."""
    async with serving(TWO_KEYS, *TWO) as gw:
        async with requests(gw.client, authorization="Bearer sk-stays") as asked:
            assert (await gw.ask(authorization="Bearer sk-goes")).status_code == 200
            gw.run.write_config(ONE_KEY)
            since_s = time.monotonic()

            async def is_refused() -> bool:
                # On connections of their own: sixteen that all go to one worker are one in 32,768.
                answers = await asyncio.gather(*(gw.ask(authorization="Bearer sk-goes") for _ in range(16)))
                return {answer.status_code for answer in answers} == {401}

            await until(is_refused, 5.0)
            assert time.monotonic() - since_s < 1.0
        assert set(asked.statuses) == {200}
        assert asked.faults == []


async def test_a_drain_reaches_every_worker() -> None:
    """F82, F131."""
    config = PLAIN.replace("drain: 5s", "drain: 20s")
    async with serving(config, *TWO) as gw, streams(gw.client, 50, "tokens=20,gap=50ms") as opened:
        workers = gw.run.workers()
        gw.run.signal(signal.SIGTERM)
        await until(lambda: "draining" in gw.run.messages())
        assert (await gw.admin.get("/readyz")).status_code == 503
        await until(gw.refuses)
        await opened.ended()
        assert opened.count(is_complete=True) == 50
        assert await gw.run.ended() == 0
        assert not any(is_alive(pid) for pid in workers)
        assert [line["outcome"] for line in gw.run.requests()] == ["ok"] * 50


async def test_a_drain_that_is_too_short_ends_every_workers_streams_with_an_error() -> None:
    """F82."""
    config = PLAIN.replace("drain: 5s", "drain: 200ms")
    async with serving(config, *TWO) as gw, streams(gw.client, 40, "tokens=2000,gap=50ms") as opened:
        gw.run.signal(signal.SIGTERM)
        await opened.ended()
        assert opened.count(has_error=True) == 40
        assert await gw.run.ended() == 0


async def test_a_second_signal_ends_every_workers_drain_at_once() -> None:
    config = PLAIN.replace("drain: 5s", "drain: 60s")
    async with serving(config, *TWO) as gw, streams(gw.client, 20, "tokens=2000,gap=50ms") as opened:
        gw.run.signal(signal.SIGTERM)
        await until(lambda: "draining" in gw.run.messages())
        gw.run.signal(signal.SIGTERM)
        await opened.ended(5.0)
        assert opened.count(has_error=True) == 20
        assert await gw.run.ended(10.0) == 0


async def test_a_worker_that_is_killed_takes_only_its_own_streams_and_is_replaced() -> None:
    """F126."""
    async with serving(PLAIN, *TWO) as gw, streams(gw.client, 40, "tokens=40,gap=50ms") as opened:
        await asyncio.gather(*(gw.ask() for _ in range(20)))
        counted = await gw.metric("gateway_requests_total")
        killed, other = gw.run.workers()
        os.kill(killed, signal.SIGKILL)
        # Connections that the kernel gives to the dead one's socket wait for the next one.
        answers = await asyncio.gather(*(gw.ask() for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        assert (await gw.admin.get("/readyz")).status_code == 200
        await opened.ended()
        assert 0 < opened.count(is_complete=True) < 40
        assert opened.count(is_complete=True) + sum(bool(stream.fault) for stream in opened.all) == 40
        await _workers_become(gw, 2)
        assert other in gw.run.workers()
        assert killed not in gw.run.workers()
        survived = opened.count(is_complete=True)
        assert await gw.metric("gateway_requests_total") == counted + 20 + survived


async def test_counters_never_fall_and_series_do_not_grow_while_workers_are_replaced() -> None:
    """F126."""
    async with serving(PLAIN, *TWO) as gw:
        await asyncio.gather(*(gw.ask() for _ in range(10)))
        counted, series = await gw.metric("gateway_requests_total"), await _series(gw)
        for _ in range(3):
            os.kill(gw.run.workers()[0], signal.SIGKILL)
            await _workers_become(gw, 1)
            assert await gw.metric("gateway_requests_total") == counted
            await _workers_become(gw, 2)
            assert await gw.metric("gateway_requests_total") == counted
        assert await _series(gw) <= series


async def _series(gw: Serving) -> set[str]:
    lines = (await gw.admin.get("/metrics")).text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


async def test_a_worker_that_hangs_holds_up_neither_metrics_nor_a_reload() -> None:
    async with serving(PLAIN, *TWO) as gw:
        await asyncio.gather(*(gw.ask() for _ in range(20)))
        counted = await gw.metric("gateway_requests_total")
        stopped = gw.run.workers()[0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            since_s = time.monotonic()
            assert await gw.metric("gateway_requests_total") == counted
            assert time.monotonic() - since_s < 2.0
            since_s = time.monotonic()
            revision = await gw.reload(RENAMED)
            assert time.monotonic() - since_s < 4.0
            assert (await gw.admin.get("/admin/v1/requests/nobody")).status_code == 404
        finally:
            os.kill(stopped, signal.SIGCONT)

        async def agree() -> bool:
            return await _revisions(gw) == {revision}

        await until(agree, 5.0)
        assert stopped in gw.run.workers()


async def test_a_worker_that_dies_during_a_reload_comes_back_with_the_new_configuration() -> None:
    """F76, F79."""
    async with serving(PLAIN, *TWO) as gw:
        dying = gw.run.workers()[1]
        reloading = asyncio.ensure_future(gw.reload(RENAMED))
        os.kill(dying, signal.SIGKILL)
        revision = await reloading
        # One more while its successor starts.
        await until(lambda: len(gw.run.workers()) == 2, 15.0)
        latest = await gw.reload(PLAIN)
        await _workers_become(gw, 2)
        assert await _revisions(gw) == {latest} != {revision}


async def test_workers_end_when_their_supervisor_is_gone() -> None:
    async with serving(PLAIN.replace("drain: 5s", "drain: 300ms"), *TWO) as gw:
        workers = gw.run.workers()
        gw.run.signal(signal.SIGKILL)
        await until(lambda: not any(is_alive(pid) for pid in workers), 10.0)
        assert len(workers) == 2
