"""Clients that leave: upstream stops at once, and everything they held comes back."""

import asyncio
import math
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest

from gateway.config.load import load
from gateway.edge.serve import Options, serving
from gateway.mock.server import MockServer
from gateway.telemetry.sink import LogSink
from tests.gateway.calls import (
    CHATS,
    EVENT_STREAMS,
    SPEECH,
    STREAMS,
    WHOLE,
    Leave,
    Way,
    form,
    plain,
    request,
    settled,
    wire,
)
from tests.gateway.harness import CHAT, Gateway, gateway
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

NOTICED_S = 0.25
"""From the client's FIN or RST until the upstream sees its own (the failure modes' figure)."""
GAP_S = 0.1

ALL_ON = """
apiVersion: gateway/v1
server: {listen: "127.0.0.1:0", admin: "127.0.0.1:0", drain: 5s}
required_tags: [service, team]
telemetry: {logs: json, traces: {otlp: "http://127.0.0.1:9/", sample: 100%}}
keys:
  - id: app
    hash: "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
    tags: {service: app}
targets:
  mock: {provider: mock, base_url: MOCK_URL, model: other}
routes:
  - {model: demo, target: mock}
"""
"""Every policy there is: keys, tags, traces, a rewritten model. The key is `foo`."""


def call_of(gw: Gateway) -> dict[str, Any]:
    """The last call at the mock."""
    return gw.mock.log.entries()[-1]


async def noticed(gw: Gateway, left_s: float, limit_s: float = NOTICED_S) -> dict[str, Any]:
    """The last call once the mock saw its peer go; asserts that this was in time."""
    call = await until(lambda: call_of(gw) if call_of(gw)["closed_early"] else None)
    assert call is not None
    assert call["t_closed"] - left_s <= limit_s
    await settled(gw)
    return call


async def gone(gw: Gateway) -> dict[str, Any]:
    """The request's log line; asserts what it says of a client that left."""
    line: dict[str, Any] = (await until(gw.requests))[-1]
    assert (line["status"], line["outcome"]) == (499, "client_gone")
    assert await gw.metric("gateway_requests_total", outcome="client_gone") == 1
    return line


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("way", STREAMS, ids=str)
async def test_upstream_is_closed_when_the_client_leaves_amid_a_stream(way: Way, how: Leave) -> None:
    """F1, F4."""
    async with gateway() as gw, wire(gw) as client:
        await client.post(way, x_mock="tokens=100,gap=100")
        await client.until(b"\r\n\r\n")
        await until(lambda: call_of(gw)["tokens_sent"] >= 3)
        call = await noticed(gw, client.leave(how))
        assert call["tokens_sent"] <= 3 + math.ceil(NOTICED_S / GAP_S)
        await gone(gw)


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("wait", ["ttfb", "latency"])
@pytest.mark.parametrize("way", STREAMS, ids=str)
async def test_upstream_is_closed_when_the_client_leaves_before_the_first_token(
    way: Way, wait: str, how: Leave
) -> None:
    """F2, F4: nothing has been sent to the client, so nobody writes to it and notices."""
    async with gateway() as gw, wire(gw) as client:
        await client.post(way, x_mock=f"{wait}=10000")
        await until(lambda: gw.mock.stats.inflight == 1)
        assert (await noticed(gw, client.leave(how)))["tokens_sent"] == 0
        await gone(gw)


@pytest.mark.parametrize("way", WHOLE, ids=str)
async def test_upstream_is_closed_when_the_client_leaves_during_a_call_without_stream(way: Way) -> None:
    """F3, F4: and the log says 499."""
    async with gateway() as gw, wire(gw) as client:
        await client.post(way, stream=False, x_mock="latency=10000")
        await until(lambda: gw.mock.stats.inflight == 1)
        await noticed(gw, client.leave("fin"))
        line = await gone(gw)
        assert line["stream"] is False and line["route"] == "demo" and line["target"] == "mock"


async def test_upstream_is_closed_when_the_client_leaves_after_an_upload() -> None:
    """F3, F4: a relayed body was passed on, its answer is still to come."""
    headers, body = form()
    async with gateway() as gw, wire(gw) as client:
        client.writer.write(request("/v1/audio/transcriptions", body, x_mock="latency=10000", **headers))
        await until(lambda: gw.mock.stats.inflight == 1)
        await noticed(gw, client.leave("fin"))
        line = await gone(gw)
        assert (line["status"], line["outcome"]) == (499, "client_gone")


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_upstream_is_closed_when_the_client_leaves_amid_an_upload(how: Leave) -> None:
    """F3, F4: half a file is no file."""
    headers, body = form(1024 * 1024)
    async with gateway() as gw, wire(gw) as client:
        client.writer.write(request("/v1/audio/transcriptions", body, **headers)[: 512 * 1024])
        await client.writer.drain()
        await until(lambda: gw.mock.stats.connections == 1)
        client.leave(how)
        await until(lambda: gw.mock.stats.connections == 0, NOTICED_S)
        await settled(gw)
        assert gw.mock.log.entries() == []
        await gone(gw)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("wait", ["latency", "ttfb", "gap"])
async def test_upstream_is_closed_with_every_policy_on(wait: str, stream: bool) -> None:
    """F5: keys, tags, a rewritten model and recorded spans stand between; none of them hides the departure."""
    order = "tokens=100,gap=100" if wait == "gap" else f"{wait}=10000"
    if wait == "gap" and not stream:
        order = "latency=10000,ttfb=10000"
    async with gateway(ALL_ON) as gw, wire(gw) as client:
        await client.post(
            CHATS, stream=stream, x_mock=order, authorization="Bearer foo", x_gateway_tags="team=a", host="127.0.0.1"
        )
        await until(lambda: gw.mock.stats.inflight == 1)
        await noticed(gw, client.leave("fin"))
        line = await gone(gw)
        assert line["key"] == "app"


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_upstream_is_closed_when_the_client_leaves_with_a_request_in_line(how: Leave) -> None:
    """F2: a second, pipelined request stops the reading of the connection, not the watch over it.

    Only the sweep sees it, every 200 ms; a busy machine may be late with that.
    """
    async with gateway() as gw, wire(gw) as client:
        await client.post(CHATS, x_mock="ttfb=10000")
        await client.post(CHATS, stream=False)
        await until(lambda: gw.mock.stats.inflight == 1)
        await noticed(gw, client.leave(how), 1.0)
        await settled(gw)
        assert gw.mock.stats.inflight == 0


async def test_upstream_is_closed_over_stock_httpx_too() -> None:
    """F1, F2, F5: `transport: httpx`."""
    async with gateway(plain(target="transport: httpx")) as gw:
        for order in ("tokens=100,gap=100", "ttfb=10000", "latency=10000"):
            async with wire(gw) as client:
                await client.post(CHATS, x_mock=order)
                await until(lambda: gw.mock.stats.inflight == 1)
                await noticed(gw, client.leave("fin"))
        await settled(gw)
        assert gw.mock.stats.inflight == 0


async def answered(gw: Gateway, way: Way, **more: Any) -> None:
    """Ask until the answer is 200; the slot of whoever left must come back within the second."""
    headers = {"content-type": "application/json"}

    async def is_answered() -> bool:
        answer = await gw.client.post(way.path, content=way.body(stream=False, **more), headers=headers)
        return answer.status_code == 200

    await until(is_answered, 1.0)


async def test_a_cancelled_stream_gives_its_slot_back() -> None:
    """F6: one slot here and one connection upstream, a hundred streams aborted, each followed by a call."""
    config = plain(target="max_connections: 1, timeouts: {connect: 1s}", server="max_inflight: 1")
    async with gateway(config) as gw:
        for turn in range(100):
            async with wire(gw) as client:
                await client.post(CHATS, x_mock="tokens=100,gap=20" if turn % 2 else "ttfb=10000")
                await until(lambda: gw.mock.stats.inflight == 1)
                client.leave("rst" if turn % 3 else "fin")
            await answered(gw, CHATS)
        await settled(gw)
        assert await gw.metric("gateway_requests_total", outcome="client_gone") == 100


@pytest.mark.parametrize(
    ("order", "status"),
    [
        ("ttfb=60000", 504),
        ("latency=60000", 504),
        ("status=502", 502),
        ("status=504", 504),
        ("rst_after=0", 502),
        ("eof_after=0", 502),
    ],
)
async def test_a_failed_call_gives_its_slot_back(order: str, status: int) -> None:
    """F7: timeouts, 502 and 504 in a row, on one slot."""
    # Only what is waited for in vain is waited for briefly: a busy machine may take a while for the rest.
    first_token = "30ms" if "60000" in order else "5s"
    times = f"timeouts: {{connect: 1s, first_token: {first_token}, idle: 5s}}"
    config = plain(target=f"max_connections: 1, {times}", server="max_inflight: 1")
    async with gateway(config) as gw:
        for _ in range(10):
            answer = await gw.client.post(CHATS.path, json=CHAT | {"stream": True}, headers={"x-mock": order})
            assert answer.status_code == status, answer.text
        answer = await gw.client.post(CHATS.path, json=CHAT)
        assert answer.status_code == 200
        await settled(gw)


async def test_a_slot_is_free_before_its_log_line_is_written() -> None:
    """F8: nobody reads the log; the last byte of a reply frees its slot all the same."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(write_fd, b"\n" * 4096)
    sink = LogSink(write_fd)
    mock = MockServer()
    await mock.start()

    async def url() -> str:
        return mock.url

    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "gateway.yaml"
            path.write_text(plain(server="max_inflight: 1").replace("MOCK_URL", mock.url))
            options = Options(path, {}, None, None, 1, "test")
            async with serving(options, load(options.read()), sink, url) as served:
                reader, writer = await asyncio.open_connection(*served.data.address)
                for _ in range(50):
                    writer.write(request(CHATS.path, CHATS.body(stream=False)))
                    head = await reader.readuntil(b"\r\n\r\n")
                    assert head.startswith(b"HTTP/1.1 200")
                    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                    await reader.readexactly(length)
                writer.close()
                await writer.wait_closed()
                os.close(read_fd)
        assert sink.dropped > 0
    finally:
        await asyncio.to_thread(sink.close, 2.0)
        os.close(write_fd)
        await mock.aclose()


@pytest.mark.parametrize("way", [*WHOLE, SPEECH], ids=str)
async def test_a_finished_call_gives_its_slot_back_on_every_route(way: Way) -> None:
    """F9, F4: five times the limit, one after the other, with and without stream."""
    config = plain(target="max_connections: 1, timeouts: {connect: 1s}", server="max_inflight: 1")
    headers = {"content-type": "application/json"}
    async with gateway(config) as gw:
        for stream in {way.can_stream, False}:
            for _ in range(5):
                answer = await gw.client.post(way.path, content=way.body(stream=stream), headers=headers)
                assert answer.status_code == 200, answer.text
        await settled(gw)
        assert await gw.metric("gateway_requests_total", outcome="ok") == len(gw.requests())


async def test_a_finished_upload_gives_its_slot_back() -> None:
    """F9, F4."""
    config = plain(target="max_connections: 1, timeouts: {connect: 1s}", server="max_inflight: 1")
    headers, body = form()
    async with gateway(config) as gw:
        for _ in range(5):
            answer = await gw.client.post("/v1/audio/transcriptions", content=body, headers=headers)
            assert answer.status_code == 200, answer.text
        await settled(gw)


async def test_cleaning_up_after_large_streams_holds_nobody_up() -> None:
    """F10: thirty streams of 5 MB dropped at once; readiness is asked meanwhile."""
    async with gateway() as gw:
        clients = []
        for _ in range(30):
            reader, writer = await asyncio.open_connection(*gw.address, limit=1024)
            writer.write(request(CHATS.path, CHATS.body(stream=True), x_mock="tokens=80,bigchunk=64KiB"))
            clients.append((reader, writer))
        await until(lambda: gw.mock.stats.requests_total == 30)
        assert (await gw.client.get("/readyz")).status_code == 200
        loop = asyncio.get_running_loop()
        for _, writer in clients:
            writer.transport.abort()
        waits = []
        for _ in range(20):
            start_s = loop.time()
            assert (await gw.client.get("/readyz")).status_code == 200
            waits.append(loop.time() - start_s)
        assert sorted(waits)[-2] < 0.1
        await settled(gw)


@pytest.mark.parametrize("transport", ["native", "httpx"])
async def test_calls_cancelled_within_a_few_turns_leak_no_connection(transport: str) -> None:
    """F11: a thousand calls cancelled after 0 to 5 turns of the loop, more at once than there are connections."""
    config = plain(target=f"transport: {transport}, max_connections: 8, timeouts: {{connect: 2s}}")
    rng = random.Random(11)
    count = 1000 if transport == "native" else 200

    async def cancelled(gw: Gateway, turns: int) -> None:
        async with wire(gw) as client:
            await client.post(CHATS, x_mock="latency=20")
            for _ in range(turns):
                await asyncio.sleep(0)
            client.leave("rst")

    async with gateway(config) as gw:
        for _ in range(count // 40):
            async with asyncio.TaskGroup() as group:
                for _ in range(40):
                    group.create_task(cancelled(gw, rng.randrange(6)))
        await settled(gw, 5.0)
        answers = await asyncio.gather(*(gw.client.post(CHATS.path, json=CHAT) for _ in range(100)))
        assert [answer.status_code for answer in answers] == [200] * 100
        await settled(gw)
        assert gw.mock.stats.connections <= 8


@pytest.mark.parametrize("transport", ["native", "httpx"])
async def test_timeouts_amid_a_stream_close_their_connections(transport: str) -> None:
    """F12: two hundred streams stall after the first token."""
    config = plain(target=f"transport: {transport}, max_connections: 40, timeouts: {{idle: 50ms, connect: 5s}}")
    headers = {"x-mock": "stall_after=1"}
    async with gateway(config) as gw:

        async def stalled() -> str:
            return (await gw.client.post(CHATS.path, json=CHAT | {"stream": True}, headers=headers)).text

        for _ in range(5):
            texts = await asyncio.gather(*(stalled() for _ in range(40)))
            assert all("upstream_timeout" in text for text in texts)
        await settled(gw)
        await until(lambda: gw.mock.stats.connections == 0)
        assert (await gw.client.post(CHATS.path, json=CHAT)).status_code == 200


async def test_two_thousand_streams_cancelled_at_random_moments_leave_nothing_behind() -> None:
    """F1, F2, F6, F11: no request in flight, no connection in use, no task, and the next call works."""
    rng = random.Random(2000)
    orders = ["tokens=50,gap=5", "ttfb=10000", "latency=10000", "tokens=200,gap=1", "stall_after=2", "tokens=3"]

    async def cancelled(gw: Gateway, way: Way, order: str, wait_s: float, how: Leave) -> None:
        async with wire(gw) as client:
            await client.post(way, x_mock=order)
            try:
                async with asyncio.timeout(wait_s):
                    await client.until(b"never sent")
            except (TimeoutError, EOFError):
                client.leave(how)

    async with gateway() as gw:
        assert (await gw.client.post(CHATS.path, json=CHAT)).status_code == 200
        await settled(gw)
        tasks_before = len(asyncio.all_tasks())
        for _ in range(20):
            async with asyncio.TaskGroup() as group:
                for _ in range(100):
                    how: Leave = "rst" if rng.random() < 0.5 else "fin"
                    way, order = rng.choice(EVENT_STREAMS), rng.choice(orders)
                    group.create_task(cancelled(gw, way, order, rng.random() * 0.06, how))
        await settled(gw, 5.0)
        await until(lambda: len(asyncio.all_tasks()) <= tasks_before)
        assert await gw.metric("gateway_upstream_connections", state="waiting") == 0
        assert len(await until(lambda: gw.requests() if len(gw.requests()) >= 1900 else [])) <= 2001
        assert {line["outcome"] for line in gw.requests()} <= {"ok", "client_gone"}
        assert (await gw.client.post(CHATS.path, json=CHAT)).status_code == 200
