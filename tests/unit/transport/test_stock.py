"""The same promises over stock httpx: its pool, HTTP/2, proxies."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events
import pytest

from gateway.core.errors import (
    ClientGone,
    GatewayError,
    Overloaded,
    UpstreamConnectError,
    UpstreamError,
    UpstreamTimeout,
    UpstreamTruncated,
)
from gateway.core.pipeline import spawn
from gateway.transport.base import Origin, PoolStats
from gateway.transport.pool import Limits
from gateway.transport.stock import StockTransport
from tests.unit.transport.conftest import Authority
from tests.unit.transport.loopback import CHUNKED, Call, Script, answer_ok, drained, get, post, serve, within

pytestmark = pytest.mark.anyio

NOTHING = PoolStats(open=0, idle=0, in_use=0, waiting=0)


@asynccontextmanager
async def stock_to(origin: Origin, limits: Limits | None = None) -> AsyncIterator[StockTransport]:
    upstream = StockTransport(origin, ssl_context=None, limits=limits if limits is not None else Limits())
    try:
        yield upstream
    finally:
        await drained(lambda: upstream.stats() == NOTHING)
        await upstream.aclose()


async def call(upstream: StockTransport) -> bytes:
    response = await upstream.open(post(), within())
    try:
        return await response.read_all(1000)
    finally:
        response.close()


async def silent(call: Call) -> None:
    await call.gone()


async def test_a_connection_is_reused_and_the_request_is_sent_as_it_is() -> None:
    async with serve(answer_ok) as server, stock_to(server.origin) as upstream:
        for _ in range(3):
            assert await call(upstream) == b"ok"
            await drained(lambda: upstream.stats() == NOTHING)
        (one,) = server.calls
        assert one.body == b"{}"
        assert sorted(line.split(b":")[0] for line in one.head.split(b"\r\n")[1:-2]) == [
            b"content-length",
            b"content-type",
            b"host",
        ]
        assert one.head.startswith(b"post /v1/x?y=1 http/1.1")


async def test_a_response_shows_what_came() -> None:
    async def script(call: Call) -> None:
        await call.request()
        await call.send(b"HTTP/1.1 429 Slow Down\r\nX-A: 1\r\nX-A: 2\r\ncontent-length: 2\r\n\r\nno")
        await call.gone()

    async with serve(script) as server, stock_to(server.origin) as upstream:
        response = await upstream.open(get(), within())
        assert (response.status, response.http_version, response.is_delimited) == (429, "1.1", True)
        assert response.headers == [(b"x-a", b"1"), (b"x-a", b"2"), (b"content-length", b"2")]
        assert [await response.read(), await response.read(), await response.read()] == [b"no", b"", b""]
        response.close()
        response.close()


async def test_compressed_bodies_stay_as_they_are() -> None:
    async def script(call: Call) -> None:
        await call.request()
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8bxx")
        await call.gone()

    async with serve(script) as server, stock_to(server.origin) as upstream:
        assert await call(upstream) == b"\x1f\x8bxx"


async def test_bodies_are_streamed_with_and_without_a_length() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"c"

    async with serve(answer_ok) as server, stock_to(server.origin) as upstream:
        for length in (3, None):
            response = await upstream.open(post(body(), length), within())
            assert await response.read_all(10) == b"ok"
            response.close()
            assert server.calls[0].body == b"abc"
            assert (b"content-length: 3" in server.calls[0].head) is (length == 3)
            await drained(lambda: upstream.stats() == NOTHING)


async def test_a_client_that_leaves_during_its_upload_is_told_from_an_upstream_fault() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"ab"
        raise ClientGone("The client left.")

    async with serve(answer_ok) as server, stock_to(server.origin) as upstream:
        with pytest.raises(ClientGone):
            await upstream.open(post(body()), within())


async def test_a_reply_above_the_limit_is_an_error() -> None:
    async with serve(answer_ok) as server, stock_to(server.origin) as upstream:
        response = await upstream.open(post(), within())
        with pytest.raises(UpstreamError, match="larger than the 1 bytes"):
            await response.read_all(1)
        response.close()


async def test_a_line_break_in_a_header_is_refused() -> None:
    """F87."""
    async with serve(answer_ok) as server, stock_to(server.origin) as upstream:
        request = post()
        request.headers.append((b"x-api-key", b"key\n"))
        with pytest.raises(UpstreamConnectError, match="line break"):
            await upstream.open(request, within())


async def cut(call: Call) -> None:
    await call.request()
    await call.send(CHUNKED + b"1\r\nx\r\n")


async def cut_before_head(call: Call) -> None:
    await call.request()


async def test_a_cut_reply_is_truncated() -> None:
    """F18, F19."""
    async with serve(cut) as server, stock_to(server.origin) as upstream:
        response = await upstream.open(post(), within())
        assert await response.read() == b"x"
        for _ in range(2):  # a fault stays a fault
            with pytest.raises(UpstreamTruncated):
                await response.read()
        response.close()
    async with serve(cut_before_head) as server, stock_to(server.origin) as upstream:
        with pytest.raises(UpstreamTruncated):
            await upstream.open(post(), within())


async def test_reading_a_closed_response_is_truncated() -> None:
    async with serve(answer_ok) as server, stock_to(server.origin) as upstream:
        response = await upstream.open(post(), within())
        response.close()
        with pytest.raises(UpstreamTruncated):
            await response.read()


async def test_nobody_listening_is_no_connection() -> None:
    async with serve(answer_ok) as server:
        origin = server.origin
    async with stock_to(origin) as upstream:
        with pytest.raises(UpstreamConnectError):
            await upstream.open(post(), within())


async def test_every_phase_has_its_timeout(authority: Authority) -> None:
    """F13, F14, F44."""

    async def stalls(call: Call) -> None:
        await call.request()
        if b"stall" in call.body:
            await call.send(CHUNKED + b"1\r\nx\r\n")
        await call.gone()

    loop = asyncio.get_running_loop()
    async with serve(stalls) as server, stock_to(server.origin) as upstream:
        with pytest.raises(UpstreamTimeout) as caught:
            await upstream.open(post(), within(first_event_s=0.03))
        assert caught.value.phase == "first_token"
        with pytest.raises(UpstreamTimeout) as caught:
            await upstream.open(post(), within(first_event_s=None, deadline_s=loop.time() + 0.03))
        assert caught.value.phase == "total"
        with pytest.raises(UpstreamTimeout) as caught:
            await upstream.open(post(), within(deadline_s=loop.time() - 1))
        assert caught.value.phase == "total"
        for has_begun, timeouts, phase in (
            (True, within(idle_s=0.03), "idle"),
            (False, within(first_event_s=0.05), "first_token"),
            (False, within(first_event_s=None, deadline_s=loop.time() + 0.3), "total"),
        ):
            response = await upstream.open(post(b"stall"), timeouts)
            assert await response.read() == b"x"
            if has_begun:
                response.begin()
            with pytest.raises(UpstreamTimeout) as caught:
                await response.read()
            assert caught.value.phase == phase
            response.close()
        secure = StockTransport(
            Origin("https", "127.0.0.1", server.port), ssl_context=authority.client_context(), limits=Limits()
        )
        with pytest.raises(UpstreamTimeout) as caught:
            await secure.open(post(), within(connect_s=0.03))
        assert caught.value.phase == "connect"
        await drained(lambda: secure.stats() == NOTHING)
        await secure.aclose()


async def test_more_in_flight_than_allowed_is_overload() -> None:
    """F48."""
    limits = Limits(max_connections=1, max_waiting=1)
    async with serve(silent) as server, stock_to(server.origin, limits) as upstream:
        holder = spawn(upstream.open(post(), within()), "holder")
        await drained(lambda: upstream.stats().in_use == 1)
        with pytest.raises(Overloaded, match="none ended in time"):
            await upstream.open(post(), within(connect_s=0.01))
        with pytest.raises(UpstreamTimeout):
            await upstream.open(post(), within(deadline_s=asyncio.get_running_loop().time() + 0.01))
        waiter = spawn(upstream.open(post(), within()), "waiter")
        await drained(lambda: upstream.stats().waiting == 1)
        with pytest.raises(Overloaded, match="Too many"):
            await upstream.open(post(), within())
        waiter.cancel()
        holder.cancel()
        await asyncio.wait([holder, waiter])


async def cancel_after(upstream: StockTransport, turns: int) -> None:
    task = spawn(call(upstream), "cancelled caller")
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        error = task.exception()
        assert error is None or isinstance(error, GatewayError)


async def test_no_cancellation_loses_a_place() -> None:
    """F11: stock httpx itself fails this one."""
    chosen = random.Random(7)
    async with serve(answer_ok) as server, stock_to(server.origin, Limits(max_connections=8)) as upstream:
        for _ in range(10):
            await asyncio.gather(*(cancel_after(upstream, chosen.randrange(40)) for _ in range(30)))
        await drained(lambda: upstream.stats() == NOTHING)
        for _ in range(5):
            assert await asyncio.gather(*(call(upstream) for _ in range(8))) == [b"ok"] * 8


@pytest.mark.parametrize("has_head", [True, False])
async def test_a_caller_who_leaves_closes_the_upstream(has_head: bool) -> None:
    """F1, F2."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        await call.request()
        if has_head:
            await call.send(CHUNKED + b"1\r\nx\r\n")
        asked.set()
        await call.gone()
        gone.set()

    async with serve(script) as server, stock_to(server.origin) as upstream:
        caller = spawn(call(upstream), "caller")
        await asked.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
        async with asyncio.timeout(0.25):
            assert await gone.wait()


async def test_a_read_that_was_cancelled_is_no_clean_end() -> None:
    """F19."""

    async def script(call: Call) -> None:
        await call.request()
        await call.send(CHUNKED)
        await call.gone()

    async with serve(script) as server, stock_to(server.origin) as upstream:
        response = await upstream.open(post(), within())
        reader = spawn(response.read(), "reader")
        for _ in range(5):
            await asyncio.sleep(0)
        reader.cancel()
        await asyncio.wait([reader])
        with pytest.raises(UpstreamTruncated, match="interrupted"):
            await response.read()
        response.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("keepalive_s", [None, 7.0])
async def test_a_transport_can_be_built_for_either_scheme(scheme: str, keepalive_s: float | None) -> None:
    limits = Limits(keepalive_s=keepalive_s)
    upstream = StockTransport(Origin(scheme, "127.0.0.1", 9), ssl_context=None, limits=limits)
    assert upstream.stats() == NOTHING
    await upstream.aclose()


async def test_after_closing_nothing_is_opened() -> None:
    upstream = StockTransport(Origin("http", "127.0.0.1", 9), ssl_context=None, limits=Limits())
    await upstream.aclose()
    with pytest.raises(UpstreamConnectError, match="are closed"):
        await upstream.open(post(), within())


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(answer_ok) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with stock_to(Origin("http", "model.example", 8000)) as upstream:
            assert await call(upstream) == b"ok"
        assert proxy.calls[0].head.startswith(b"post http://model.example:8000/v1/x?y=1 http/1.1")


def speaks_http2(on_event: Callable[[h2.connection.H2Connection, h2.events.Event], None]) -> Script:
    """A server that shows each event of an HTTP/2 connection to `on_event`."""

    async def script(call: Call) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        await call.send(connection.data_to_send())
        while data := await call.reader.read(65536):
            for event in connection.receive_data(data):
                on_event(connection, event)
            await call.send(connection.data_to_send())

    return script


async def test_http2_requests_share_a_connection_and_an_early_close_resets_its_stream_only(
    authority: Authority,
) -> None:
    """F1: httpcore would leave the stream running."""
    resets: list[h2.events.StreamReset] = []
    was_reset = asyncio.Event()

    def on_event(connection: h2.connection.H2Connection, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.StreamReset):
            resets.append(event)
            was_reset.set()
        elif isinstance(event, h2.events.StreamEnded):
            connection.send_headers(event.stream_id, [(":status", "200"), ("x-a", "1")])
            connection.send_data(event.stream_id, b"ok", end_stream=event.stream_id != 1)

    async with serve(speaks_http2(on_event), authority.server_context("localhost", alpn=("h2",))) as server:
        origin = Origin("https", "localhost", server.port)
        upstream = StockTransport(origin, ssl_context=authority.client_context(), limits=Limits())
        endless = await upstream.open(post(), within())
        assert (endless.http_version, endless.is_delimited, endless.headers) == ("2", True, [(b"x-a", b"1")])
        assert await endless.read() == b"ok"
        assert await call(upstream) == b"ok"
        endless.close()
        async with asyncio.timeout(0.25):
            await was_reset.wait()
        assert [(event.stream_id, event.error_code) for event in resets] == [(1, 8)]
        assert await call(upstream) == b"ok"
        assert len(server.calls) == 1
        await drained(lambda: upstream.stats() == NOTHING)
        await upstream.aclose()
        await drained(lambda: not server.tasks)
