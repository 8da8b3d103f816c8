"""Connections shared by requests: reuse, bounds, age, faults, and that no cancellation loses one."""

import asyncio
import random
import socket
from contextlib import suppress

import pytest

from gateway.core.errors import GatewayError, Overloaded, UpstreamConnectError, UpstreamTimeout, UpstreamTruncated
from gateway.core.pipeline import spawn
from gateway.transport.base import Origin, PoolStats
from gateway.transport.pool import Limits, PoolTransport
from gateway.transport.tls import tls_context
from tests.unit.transport.conftest import Authority
from tests.unit.transport.loopback import CHUNKED, OK, Call, answer_ok, drained, get, pool_to, post, serve, within

pytestmark = pytest.mark.anyio


class HeldClock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


async def call(pool: PoolTransport) -> bytes:
    response = await pool.open(post(), within())
    try:
        return await response.read_all(1000)
    finally:
        response.close()


async def answer_nothing(call: Call) -> None:
    await call.gone()


async def refused() -> Origin:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return Origin("http", "127.0.0.1", sock.getsockname()[1])


async def test_one_connection_carries_many_requests() -> None:
    async with serve(answer_ok) as server, pool_to(server.origin) as pool:
        for _ in range(10):
            assert await call(pool) == b"ok"
        assert len(server.calls) == 1
        assert pool.stats() == PoolStats(open=1, idle=1, in_use=0, waiting=0)


async def test_the_connection_used_last_is_used_next() -> None:
    async with serve(answer_ok) as server, pool_to(server.origin) as pool:
        first = await pool.open(post(b"1"), within())
        second = await pool.open(post(b"2"), within())
        first.close()
        second.close()
        response = await pool.open(post(b"3"), within())
        assert [call.body for call in server.calls] == [b"1", b"3"]
        response.close()


async def test_get_head_and_post_share_a_connection_as_far_as_they_can() -> None:
    async with serve(answer_ok) as server, pool_to(server.origin) as pool:
        (await pool.open(get(), within())).close()
        assert await call(pool) == b"ok"
        assert len(server.calls) == 1


async def test_no_more_connections_than_allowed_and_those_who_wait_are_served_in_order() -> None:
    """F48."""
    async with serve(answer_ok) as server, pool_to(server.origin, Limits(max_connections=2)) as pool:
        served: list[int] = []

        async def one(number: int) -> None:
            response = await pool.open(post(b"%d" % number), within())
            served.append(number)
            response.close()

        await asyncio.gather(*(one(number) for number in range(20)))
        assert served[2:] == sorted(served[2:])
        assert len(server.calls) == 2
        assert pool.stats() == PoolStats(open=2, idle=2, in_use=0, waiting=0)


async def test_waiting_longer_than_a_connect_may_take_is_overload() -> None:
    """F29, F48."""
    async with serve(answer_nothing) as server, pool_to(server.origin, Limits(max_connections=1)) as pool:
        holder = spawn(pool.open(post(), within()), "holder")
        await drained(lambda: pool.stats().in_use == 1)
        with pytest.raises(Overloaded, match="none became free") as caught:
            await pool.open(post(), within(connect_s=0.01))
        assert caught.value.retry_after_s == 1.0
        with pytest.raises(UpstreamTimeout) as late:
            deadline = asyncio.get_running_loop().time() + 0.01
            await pool.open(post(), within(deadline_s=deadline))
        assert late.value.phase == "total"
        holder.cancel()
        await asyncio.wait([holder])
        assert pool.stats() == PoolStats(open=0, idle=0, in_use=0, waiting=0)


async def test_too_many_in_line_is_overload_at_once() -> None:
    """F48."""
    limits = Limits(max_connections=1, max_waiting=1)
    async with serve(answer_nothing) as server, pool_to(server.origin, limits) as pool:
        tasks = [spawn(pool.open(post(), within()), "caller") for _ in range(2)]
        await drained(lambda: pool.stats().waiting == 1)
        with pytest.raises(Overloaded, match="Too many"):
            await pool.open(post(), within())
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_a_slot_that_becomes_free_goes_to_the_first_in_line() -> None:
    """F7: the connection of the first caller dies; the second makes a new one."""

    async def script(call: Call) -> None:
        if call.number == 0:
            await call.request()
            call.reset()
        else:
            await answer_ok(call)

    async with serve(script) as server, pool_to(server.origin, Limits(max_connections=1)) as pool:
        first = spawn(pool.open(post(), within()), "first")
        await drained(lambda: pool.stats().in_use == 1)
        assert await call(pool) == b"ok"
        with suppress(UpstreamTruncated):
            await first


async def test_a_connection_is_not_used_beyond_its_age() -> None:
    """F47."""
    clock = HeldClock()
    async with serve(answer_ok) as server:
        limits = Limits(keepalive_s=1000.0, max_age_s=300.0)
        pool = PoolTransport(server.origin, ssl_context=None, limits=limits, clock=clock)
        await call(pool)
        clock.now += 299.0
        await call(pool)
        assert len(server.calls) == 1
        clock.now += 2.0
        await call(pool)
        assert len(server.calls) == 2
        assert pool.stats().open == 1
        await pool.aclose()


async def test_a_connection_that_grew_old_in_use_is_not_kept() -> None:
    """F47."""
    clock = HeldClock()
    async with serve(answer_ok) as server:
        pool = PoolTransport(server.origin, ssl_context=None, limits=Limits(), clock=clock)
        response = await pool.open(post(), within())
        clock.now += 301.0
        response.close()
        assert pool.stats().open == 0
        await pool.aclose()


@pytest.mark.parametrize(
    ("header", "keepalive_s", "kept_s"),
    [
        (b"", None, 4.0),
        (b"", 20.0, 20.0),
        (b"keep-alive: timeout=11\r\n", None, 10.0),
        (b"keep-alive: timeout=1000\r\n", None, 60.0),
        (b"keep-alive: timeout=11\r\n", 20.0, 10.0),
        (b"keep-alive: timeout=11\r\n", 5.0, 5.0),
        (b"keep-alive: timeout=1\r\n", None, 0.0),
    ],
)
async def test_idle_connections_are_left_before_the_upstream_closes_them(
    header: bytes, keepalive_s: float | None, kept_s: float
) -> None:
    """F84."""

    async def script(call: Call) -> None:
        while await call.request():
            await call.send(b"HTTP/1.1 200 OK\r\n" + header + b"content-length: 2\r\n\r\nok")

    clock = HeldClock()
    async with serve(script) as server:
        limits = Limits(keepalive_s=keepalive_s)
        pool = PoolTransport(server.origin, ssl_context=None, limits=limits, clock=clock)
        await call(pool)
        assert pool.stats().idle == (1 if kept_s else 0)
        if kept_s:
            clock.now += kept_s - 0.01
            await call(pool)
            assert len(server.calls) == 1
            clock.now += kept_s
        await call(pool)
        assert len(server.calls) == 2
        await pool.aclose()


async def test_idle_connections_are_swept_when_nobody_comes() -> None:
    clock = HeldClock()
    async with serve(answer_ok) as server:
        pool = PoolTransport(server.origin, ssl_context=None, limits=Limits(), clock=clock)
        await call(pool)
        clock.now += 2.0
        await drained(lambda: pool._sweeper is not None)
        pool._sweep()
        assert pool.stats().idle == 1
        clock.now += 3.0
        pool._sweep()
        assert pool.stats() == PoolStats(open=0, idle=0, in_use=0, waiting=0)
        await pool.aclose()


async def test_a_connection_that_the_upstream_closes_while_idle_leaves_the_pool() -> None:
    """F84."""

    async def script(call: Call) -> None:
        await call.request()
        await call.send(OK)

    async with serve(script) as server, pool_to(server.origin) as pool:
        await call(pool)
        await drained(lambda: pool.stats().open == 0)
        assert await call(pool) == b"ok"
        assert len(server.calls) == 2


async def test_a_request_is_never_sent_twice() -> None:
    """F31: not even when a kept connection closes in its face."""

    async def script(call: Call) -> None:
        await call.request()
        await call.send(OK)
        await call.request()

    async with serve(script) as server, pool_to(server.origin) as pool:
        await call(pool)
        with pytest.raises(UpstreamTruncated):
            await call(pool)
        assert len(server.calls) == 1
        assert pool.stats().open == 0


async def test_a_refused_connection_says_where() -> None:
    origin = await refused()
    async with pool_to(origin) as pool:
        with pytest.raises(UpstreamConnectError, match=f"No connection to 127.0.0.1:{origin.port}: .*refused"):
            await pool.open(post(), within())
        assert pool.stats().open == 0


@pytest.mark.parametrize("host", ["name.invalid", "a" * 70 + ".invalid"])
async def test_a_name_that_does_not_resolve_is_no_connection(host: str) -> None:
    async with pool_to(Origin("http", host, 80)) as pool:
        with pytest.raises(UpstreamConnectError, match="No connection to"):
            await pool.open(post(), within())
        assert pool.stats().open == 0


async def test_a_connect_that_takes_too_long_is_a_timeout(authority: Authority) -> None:
    """A server that never answers the TLS greeting."""
    async with serve(answer_nothing) as server:
        origin = Origin("https", "127.0.0.1", server.port)
        pool = PoolTransport(origin, ssl_context=authority.client_context(), limits=Limits())
        with pytest.raises(UpstreamTimeout) as caught:
            await pool.open(post(), within(connect_s=0.03))
        assert caught.value.phase == "connect"
        with pytest.raises(UpstreamTimeout) as caught:
            deadline = asyncio.get_running_loop().time() + 0.03
            await pool.open(post(), within(deadline_s=deadline))
        assert caught.value.phase == "total"
        assert pool.stats().open == 0
        await pool.aclose()


async def test_no_connection_is_made_when_no_time_is_left() -> None:
    """F44."""
    async with serve(answer_ok) as server, pool_to(server.origin) as pool:
        with pytest.raises(UpstreamTimeout) as caught:
            await pool.open(post(), within(deadline_s=asyncio.get_running_loop().time()))
        assert (caught.value.phase, pool.stats().open, len(server.calls)) == ("total", 0, 0)


async def test_tls_with_a_trusted_certificate_works_and_is_reused(authority: Authority) -> None:
    async with serve(answer_ok, authority.server_context("localhost")) as server:
        origin = Origin("https", "localhost", server.port)
        pool = PoolTransport(origin, ssl_context=authority.client_context(), limits=Limits())
        for _ in range(3):
            assert await call(pool) == b"ok"
        assert (len(server.calls), pool.stats().idle) == (1, 1)
        await pool.aclose()
        await drained(lambda: not server.tasks)


async def test_an_unknown_authority_is_refused_with_the_reason(authority: Authority) -> None:
    async with serve(answer_ok, authority.server_context("localhost")) as server:
        pool = PoolTransport(Origin("https", "localhost", server.port), ssl_context=tls_context(None), limits=Limits())
        with pytest.raises(UpstreamConnectError, match=r"certificate is not trusted \(.*certificate.*\)"):
            await call(pool)
        assert (pool.stats().open, [call.head for call in server.calls]) == (0, [])
        await pool.aclose()


async def test_a_certificate_for_another_host_is_refused(authority: Authority) -> None:
    async with serve(answer_ok, authority.server_context("other.example")) as server:
        origin = Origin("https", "localhost", server.port)
        pool = PoolTransport(origin, ssl_context=authority.client_context(), limits=Limits())
        with pytest.raises(UpstreamConnectError, match="Hostname mismatch"):
            await call(pool)
        await pool.aclose()


async def test_a_server_without_tls_is_refused_with_the_reason(authority: Authority) -> None:
    async def script(call: Call) -> None:
        await call.reader.read(100)
        await call.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serve(script) as server:
        origin = Origin("https", "127.0.0.1", server.port)
        pool = PoolTransport(origin, ssl_context=authority.client_context(), limits=Limits())
        with pytest.raises(UpstreamConnectError, match="TLS failed"):
            await call(pool)
        await pool.aclose()


async def test_closing_the_pool_ends_what_runs_and_what_waits() -> None:
    async with serve(answer_nothing) as server:
        pool = PoolTransport(server.origin, ssl_context=None, limits=Limits(max_connections=1))
        running = spawn(pool.open(post(), within()), "running")
        await drained(lambda: pool.stats().in_use == 1 and bool(server.calls))
        waiting = spawn(pool.open(post(), within()), "waiting")
        await drained(lambda: pool.stats().waiting == 1)
        await pool.aclose()
        await asyncio.wait([running, waiting])
        assert isinstance(running.exception(), UpstreamTruncated | UpstreamConnectError)
        assert isinstance(waiting.exception(), UpstreamConnectError)
        assert pool.stats() == PoolStats(open=0, idle=0, in_use=0, waiting=0)
        with pytest.raises(UpstreamConnectError, match="are closed"):
            await pool.open(post(), within())


async def test_closing_the_pool_during_a_connect_ends_it(authority: Authority) -> None:
    async with serve(answer_nothing) as server:
        origin = Origin("https", "127.0.0.1", server.port)
        pool = PoolTransport(origin, ssl_context=authority.client_context(), limits=Limits())
        opening = spawn(pool.open(post(), within(connect_s=0.05)), "opening")
        await drained(lambda: bool(server.calls))
        await pool.aclose()
        await asyncio.wait([opening])
        assert isinstance(opening.exception(), UpstreamConnectError | UpstreamTimeout)
        assert pool.stats() == PoolStats(open=0, idle=0, in_use=0, waiting=0)


async def test_a_response_closed_after_the_pool_was_closed_does_no_harm() -> None:
    async with serve(answer_ok) as server:
        pool = PoolTransport(server.origin, ssl_context=None, limits=Limits())
        response = await pool.open(post(), within())
        await pool.aclose()
        assert await response.read_all(10) == b"ok"
        response.close()
        assert pool.stats().open == 0


async def cancel_after(pool: PoolTransport, turns: int) -> None:
    task = spawn(call(pool), "cancelled caller")
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        error = task.exception()
        assert error is None or isinstance(error, GatewayError)


@pytest.mark.parametrize("connections", [1, 8])
async def test_no_cancellation_loses_a_connection_or_a_slot(connections: int) -> None:
    """F11, F12: 1,000 calls cancelled after 0 to 5 turns of the loop, more at once than connections; then 100 work."""
    chosen = random.Random(7)
    async with serve(answer_ok) as server, pool_to(server.origin, Limits(max_connections=connections)) as pool:
        for _ in range(25):
            await asyncio.gather(*(cancel_after(pool, chosen.randrange(6)) for _ in range(40)))
        assert pool.stats().in_use == 0
        assert pool.stats().waiting == 0
        for _ in range(10):
            assert await asyncio.gather(*(call(pool) for _ in range(10))) == [b"ok"] * 10
        assert pool.stats().in_use == 0
        assert pool.stats().open <= connections


async def test_no_cancellation_among_callers_who_are_served_loses_a_connection() -> None:
    """F11: cancelled callers and patient ones compete for two connections."""
    chosen = random.Random(11)
    async with serve(answer_ok) as server, pool_to(server.origin, Limits(max_connections=2)) as pool:
        for _ in range(20):
            patient = [call(pool) for _ in range(10)]
            hasty = [cancel_after(pool, chosen.randrange(30)) for _ in range(20)]
            results = await asyncio.gather(*patient, *hasty)
            assert results[:10] == [b"ok"] * 10
        assert pool.stats().in_use == 0


async def test_no_cancellation_during_tls_loses_a_slot(authority: Authority) -> None:
    """F11."""
    chosen = random.Random(13)
    async with serve(answer_ok, authority.server_context("localhost")) as server:
        origin = Origin("https", "localhost", server.port)
        pool = PoolTransport(origin, ssl_context=authority.client_context(), limits=Limits(max_connections=3))
        for _ in range(5):
            await asyncio.gather(*(cancel_after(pool, chosen.randrange(60)) for _ in range(10)))
        assert (pool.stats().in_use, pool.stats().waiting) == (0, 0)
        assert await call(pool) == b"ok"
        await pool.aclose()
        await drained(lambda: not server.tasks)


async def test_a_connection_handed_to_a_caller_who_is_cancelled_in_that_moment_is_kept() -> None:
    """F11."""
    async with serve(answer_ok) as server, pool_to(server.origin, Limits(max_connections=1)) as pool:
        response = await pool.open(post(), within())
        waiter = spawn(pool.open(post(), within()), "waiter")
        await drained(lambda: pool.stats().waiting == 1)
        response.close()
        waiter.cancel()
        await asyncio.wait([waiter])
        assert waiter.cancelled()
        assert pool.stats() == PoolStats(open=1, idle=1, in_use=0, waiting=0)
        assert len(server.calls) == 1


async def test_a_connection_that_dies_while_handed_over_is_replaced() -> None:
    async with serve(answer_ok) as server, pool_to(server.origin, Limits(max_connections=1)) as pool:
        response = await pool.open(post(), within())
        waiter = spawn(call(pool), "waiter")
        await drained(lambda: pool.stats().waiting == 1)
        connection = next(iter(pool._connections))
        response.close()
        connection.abort()
        assert await waiter == b"ok"
        assert pool.stats() == PoolStats(open=1, idle=1, in_use=0, waiting=0)


async def test_cancelling_a_reader_closes_its_upstream_at_once() -> None:
    """F1, F2."""
    gone = asyncio.Event()

    async def script(call: Call) -> None:
        await call.request()
        await call.send(CHUNKED)
        await call.gone()
        gone.set()

    async with serve(script) as server, pool_to(server.origin) as pool:
        reading = spawn(call(pool), "reading")
        await drained(lambda: bool(server.calls and server.calls[0].head))
        reading.cancel()
        await asyncio.wait([reading])
        assert pool.stats().open == 0
        async with asyncio.timeout(0.25):
            await gone.wait()
