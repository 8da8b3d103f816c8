"""The end of a gateway process: SIGTERM, what still runs, and the exit status (CONTRACT, lifecycle)."""

import asyncio
import signal
import time

import httpx
import pytest

from tests.gateway.harness import PLAIN
from tests.gateway.processes import Serving, is_alive, run, serving
from tests.gateway.traffic import requests, streams
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

IMPATIENT = PLAIN.replace("drain: 5s", "drain: 200ms")
PATIENT = PLAIN.replace("drain: 5s", "drain: 20s")
DELAYED = PLAIN.replace("drain: 5s", "drain: 5s, drain_delay: 1s")


async def _ready(gw: Serving) -> int:
    return (await gw.admin.get("/readyz")).status_code


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
async def test_streams_end_as_they_would_have_while_the_gateway_drains(ending: signal.Signals) -> None:
    """F82, F131."""
    async with serving(PATIENT) as gw, streams(gw.client, 50, "tokens=20,gap=50ms") as opened:
        gw.run.signal(ending)
        await until(gw.refuses)
        assert await _ready(gw) == 503
        assert (await gw.admin.get("/livez")).status_code == 200
        await opened.ended()
        assert opened.count(is_complete=True) == 50
        assert await gw.run.ended() == 0
        assert [line["outcome"] for line in gw.run.requests()] == ["ok"] * 50


async def test_streams_that_outlast_the_grace_end_with_an_error_of_their_dialect() -> None:
    """F82."""
    paths = ("/v1/chat/completions", "/v1/messages", "/v1/responses")
    async with serving(IMPATIENT) as gw, streams(gw.client, 51, "tokens=2000,gap=50ms", *paths) as opened:
        gw.run.signal(signal.SIGTERM)
        await opened.ended()
        assert opened.count(has_error=True) == 51, [stream.body[-200:] for stream in opened.all if not stream.has_error]
        assert await gw.run.ended() == 0
        assert len(gw.run.requests()) == 51
        assert all(not call["completed"] for call in await gw.run.calls())


async def test_a_second_signal_ends_the_drain_at_once() -> None:
    """F82."""
    async with serving(PATIENT) as gw, streams(gw.client, 10, "tokens=2000,gap=50ms") as opened:
        gw.run.signal(signal.SIGTERM)
        await until(lambda: "draining" in gw.run.messages())
        assert opened.count(is_over=True) == 0
        gw.run.signal(signal.SIGTERM)
        await opened.ended(5.0)
        assert opened.count(has_error=True) == 10
        assert await gw.run.ended(5.0) == 0


async def test_a_second_signal_cuts_the_delay_short() -> None:
    async with serving(PLAIN.replace("drain: 5s", "drain: 5s, drain_delay: 60s")) as gw:
        gw.run.signal(signal.SIGTERM)
        await until(lambda: "draining" in gw.run.messages())
        gw.run.signal(signal.SIGINT)
        assert await gw.run.ended(5.0) == 0


async def test_requests_are_served_for_the_delay_and_told_to_go_elsewhere() -> None:
    """F83, F84."""
    async with serving(DELAYED) as gw, httpx.AsyncClient(base_url=gw.url, timeout=10) as keeping:
        first = await keeping.get("/v1/models")
        assert "connection" not in first.headers
        async with requests(gw.client) as asked:
            gw.run.signal(signal.SIGTERM)
            await until(lambda: "draining" in gw.run.messages())
            since_s = time.monotonic()
            assert await _ready(gw) == 503
            assert (await gw.client.get("/readyz")).status_code == 503
            on_a_kept_connection = await keeping.get("/v1/models")
            assert (on_a_kept_connection.status_code, on_a_kept_connection.headers["connection"]) == (200, "close")
            before = asked.answered
            await until(lambda: asked.answered > before + 10)
            assert time.monotonic() - since_s < 1.0, "too slow to tell anything about the delay"
            assert asked.faults == []
        assert set(asked.statuses) == {200}
        assert await gw.run.ended() == 0


async def test_a_signal_during_the_start_ends_it_cleanly() -> None:
    async with run(PLAIN, "--workers", "2") as started:
        # The supervisor has its signal handlers before it has workers.
        await until(lambda: len(started.workers()) == 2, 30.0)
        workers = started.workers()
        started.signal(signal.SIGTERM)
        assert await started.ended() == 0
        assert not any("listening on" in message for message in started.messages())
        assert not any(is_alive(pid) for pid in workers)


async def test_an_idle_connection_is_kept_as_long_as_configured_and_a_request_renews_it() -> None:
    """F84."""
    async with serving(PLAIN.replace("drain: 5s", "drain: 5s, keepalive_timeout: 600ms")) as gw:
        reader, writer = await asyncio.open_connection(*gw.address)
        for _ in range(4):
            writer.write(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            await reader.readuntil(b"ok\n")
            answered_s = time.monotonic()
            await asyncio.sleep(0.2)
        assert await reader.read() == b""
        assert 0.5 < time.monotonic() - answered_s < 3.0
        writer.close()
        await writer.wait_closed()


async def test_a_request_that_meets_the_idle_timeout_is_served_whole_or_not_at_all() -> None:
    """F84: a client may send it again when the connection closes without a byte, so it must not have been served."""
    async with serving(PLAIN.replace("drain: 5s", "drain: 5s, keepalive_timeout: 300ms")) as gw:
        body = b'{"model":"demo","messages":[]}'
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        post = head + b"content-length: %d\r\n\r\n%b" % (len(body), body)

        async def race(idle_s: float) -> bytes:
            reader, writer = await asyncio.open_connection(*gw.address)
            writer.write(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            await reader.readuntil(b"ok\n")
            await asyncio.sleep(idle_s)
            try:
                writer.write(post)
                return await reader.read()
            except ConnectionError:
                return b""
            finally:
                writer.close()

        heard = await asyncio.gather(*(race(0.28 + number * 0.0002) for number in range(200)))
        served = [answer for answer in heard if answer]
        assert all(answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"}") for answer in served)
        assert len(await gw.run.calls()) == len(served)
