"""A listening socket with a start and an end."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from gateway.edge.listener import Listener, bind
from gateway.edge.protocol import EdgeLimits

pytestmark = pytest.mark.anyio

LIMITS = EdgeLimits(max_header=65536, max_connections=10, header_timeout_s=5.0, body_timeout_s=5.0, write_timeout_s=5.0)
GET = b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


class App:
    """Answers 204, once it may."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.is_asked = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.is_asked.set()
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def _listening(app: App, keepalive_s: float = 5.0) -> AsyncIterator[Listener]:
    listener = Listener(app, bind("127.0.0.1", 0), LIMITS, keepalive_s)
    await listener.start()
    try:
        yield listener
    finally:
        listener.stop_accepting()
        await listener.close()


async def test_requests_are_answered_and_connections_counted() -> None:
    async with _listening(App()) as listener:
        assert listener.address[0] == "127.0.0.1"
        reader, writer = await asyncio.open_connection(*listener.address)
        writer.write(GET)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
        assert len(listener.connections) == 1
        writer.close()
        await writer.wait_closed()
        assert await listener.wait_idle(5.0)


async def test_the_end_closes_idle_connections_and_lets_replies_end() -> None:
    """F82."""
    app = App()
    async with _listening(app) as listener:
        _, idle = await asyncio.open_connection(*listener.address)
        reader, writer = await asyncio.open_connection(*listener.address)
        app.may_answer.clear()
        writer.write(GET)
        await app.is_asked.wait()
        address = listener.address
        listener.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)
        assert not await listener.wait_idle(0.0)
        app.may_answer.set()
        assert (await reader.read()).startswith(b"HTTP/1.1 204")
        assert await listener.wait_idle(5.0)
        for each in (idle, writer):
            each.close()
            await each.wait_closed()


async def test_waiting_for_the_end_can_be_cut_short() -> None:
    app = App()
    app.may_answer.clear()
    async with _listening(app) as listener:
        _, writer = await asyncio.open_connection(*listener.address)
        writer.write(GET)
        await app.is_asked.wait()
        hurried = asyncio.Event()
        hurried.set()
        async with asyncio.timeout(5):
            assert not await listener.wait_idle(60.0, hurried)
        app.may_answer.set()
        writer.close()
        await writer.wait_closed()


async def test_fractions_of_a_second_of_keep_alive_count() -> None:
    """F84."""
    async with _listening(App(), 0.05) as listener:
        reader, writer = await asyncio.open_connection(*listener.address)
        writer.write(GET)
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 204")
        writer.close()
        await writer.wait_closed()


async def test_replies_leave_at_once() -> None:
    """Without TCP_NODELAY a reply in two writes waits 40 ms; asyncio sets it where the socket's protocol is named."""
    async with _listening(App()) as listener:
        reader, writer = await asyncio.open_connection(*listener.address)
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        (connection,) = listener.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()
        await writer.wait_closed()


async def test_what_is_left_at_the_end_is_cut() -> None:
    app = App()
    app.may_answer.clear()
    async with _listening(app) as listener:
        reader, writer = await asyncio.open_connection(*listener.address)
        writer.write(GET)
        await app.is_asked.wait()
        await listener.close()
        # A cut is a reset or an end, by what was on its way.
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        app.may_answer.set()
        assert await listener.wait_idle(5.0)
        writer.close()
        with suppress(ConnectionResetError):
            await writer.wait_closed()


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_that_is_taken_is_named(shared: bool) -> None:
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: address already in use"):
            bind("127.0.0.1", port, shared=shared)


def test_a_shared_port_takes_several_sockets_that_children_inherit() -> None:
    with bind("127.0.0.1", 0, shared=True) as first, bind(*first.getsockname(), shared=True) as second:
        assert first.getsockname() == second.getsockname()
        assert first.get_inheritable()
        assert not first.getblocking()


def test_a_host_that_is_nobodys_is_named() -> None:
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:0: cannot assign requested address"):
        bind("192.0.2.1", 0)


def test_addresses_of_version_six_are_understood() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        with bind("::1", 0) as sock:
            assert sock.family is socket.AF_INET6
    except OSError as error:
        assert "cannot listen on ::1:0" in str(error)
