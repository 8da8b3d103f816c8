"""Collectors that are away, silent, or come back: they cost spans and never time."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.gateway.calls import CHATS
from tests.gateway.harness import CHAT, PLAIN, gateway
from tests.gateway.keepalive import kept_alive
from tests.gateway.processes import serving
from tests.gateway.raw import hang_up
from tests.gateway.test_tracing import collector, spans, traced
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

Collector = Callable[[], AbstractContextManager[str]]

LIMIT_S = 0.05
"""What a dead collector may add to the p99: a blocked loop would add seconds, a loaded machine tens of milliseconds."""


@contextmanager
def black_hole() -> Iterator[str]:
    """A collector that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def nobody() -> Iterator[str]:
    """A collector that refuses connections."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{closed.getsockname()[1]}"


async def times(config: str, count: int) -> list[float]:
    """How long each of `count` requests took, one after the other, in order of size."""
    async with gateway(config) as gw, kept_alive(gw.address) as client:
        found = [await client.ask() for _ in range(count)]
    assert {answer.status for answer in found} == {200}
    return sorted(answer.took_s for answer in found)


@pytest.mark.parametrize("collector_of", [black_hole, nobody])
async def test_a_dead_collector_costs_spans_and_no_time(collector_of: Collector) -> None:
    """F127: p99 as without one, though every request is traced; lost spans are counted; the end is bounded."""
    count = 1_200
    usual = await times(PLAIN, count)
    loop = asyncio.get_running_loop()
    with collector_of() as url:
        async with gateway(traced(url, "100%")) as gw:
            async with kept_alive(gw.address) as client:
                found = sorted([(await client.ask()).took_s for _ in range(count)])
            assert found[int(count * 0.99)] <= usual[int(count * 0.99)] + LIMIT_S
            # An export that blocked the loop would do so for its time limit of 2 s.
            assert found[-1] < 1.5

            async def dropped() -> float:
                return await gw.metric("gateway_spans_dropped_total")

            assert await until(dropped, timeout_s=10) > 0
            leaving_s = loop.time()
        assert loop.time() - leaving_s < 5.0


@pytest.mark.parametrize("collector_of", [black_hole, nobody])
async def test_a_dead_collector_does_not_hold_the_process(collector_of: Collector) -> None:
    """F127: SIGTERM with spans in the queue; exit status 0 within the flush limit."""
    loop = asyncio.get_running_loop()
    with collector_of() as url:
        async with serving(traced(url, "100%")) as gw:
            for _ in range(20):
                assert (await gw.ask()).status_code == 200
            gw.run.signal(signal.SIGTERM)
            start_s = loop.time()
            assert await gw.run.ended() == 0
            assert loop.time() - start_s < 6.0
            assert gw.run.complaints() == ""


async def test_spans_that_wait_are_sent_before_the_process_ends() -> None:
    """F131: what was begun a moment before SIGTERM reaches a collector that is there."""
    async with collector() as sink:
        async with serving(traced(sink.url, "100%")) as gw:
            for _ in range(20):
                assert (await gw.ask()).status_code == 200
            gw.run.signal(signal.SIGTERM)
            assert await gw.run.ended() == 0
        assert len(spans(sink)) == 40


async def test_a_collector_that_comes_back_gets_spans_again() -> None:
    """F127: what was lost stays lost, what comes later arrives."""
    received: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await hang_up(writer)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        async with gateway(traced(f"http://127.0.0.1:{listener.getsockname()[1]}", "100%")) as gw:
            await gw.client.post(CHATS.path, json=CHAT)

            async def dropped() -> float:
                return await gw.metric("gateway_spans_dropped_total")

            assert await until(dropped, timeout_s=10) == 2
            server = await asyncio.start_server(take, sock=listener)
            try:
                await gw.client.post(CHATS.path, json=CHAT)
                await until(lambda: received, timeout_s=10)
                assert await dropped() == 2
            finally:
                server.close()
                await server.wait_closed()
