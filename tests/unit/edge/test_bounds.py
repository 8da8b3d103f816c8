"""What a client connection may take of time. The sweep is called by hand, with times to come."""

import asyncio
import json
import logging
from typing import Any

import pytest

from gateway.core.errors import ClientGone, GatewayError, InvalidRequest, RequestTimeout
from gateway.edge.protocol import EdgeProtocol
from tests.unit.edge.downstream import GET, KEEPALIVE_S, LIMITS, Desk, Downstream, now_s, talking, until

pytestmark = pytest.mark.anyio

POST = b"POST /%d HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n"
LARGE = 4 * 1024 * 1024


async def _expect_refusal(client: Downstream, status: int, code: str) -> None:
    answer = await client.answer()
    assert answer.status == status
    assert answer.headers[b"connection"] == b"close"
    assert answer.headers[b"content-type"] == b"application/json"
    assert json.loads(answer.body)["error"]["code"] == code
    assert await client.rest() == b""


def _is_ended(connection: EdgeProtocol, after_s: float) -> bool:
    """Whether a sweep that much later ends the connection."""
    connection.sweep(now_s() + after_s)
    return connection.transport.is_closing()


def _has_body(connection: EdgeProtocol, size: int) -> bool:
    return connection.has_unread_body and len(connection.active.body) == size


@pytest.mark.parametrize("begun", [b"\r\n", b"GET / HT", b"GET / HTTP/1.1\r\nhost: a\r\nx: "])
async def test_a_head_that_takes_too_long_is_answered_408(begun: bytes) -> None:
    """F94: an empty line before it does not make it idle."""
    async with talking(Desk()) as (client, connection):
        client.send(GET)
        await client.answer()
        client.send(begun)
        connection.sweep(now_s() + LIMITS.header_timeout_s - 1)
        assert not connection.transport.is_closing()
        # Sooner than an idle connection would be closed.
        await until(lambda: _is_ended(connection, LIMITS.header_timeout_s + 0.1))
        await _expect_refusal(client, 408, "request_timeout")


async def test_a_connection_that_never_sends_a_byte_is_answered_408() -> None:
    """F94."""
    async with talking(Desk()) as (client, connection):
        connection.sweep(now_s() + LIMITS.header_timeout_s + 0.1)
        await _expect_refusal(client, 408, "request_timeout")


async def test_bytes_that_trickle_do_not_prolong_the_time_of_a_head() -> None:
    """F94."""
    async with talking(Desk()) as (client, connection):
        client.send(b"GET /a")
        await until(lambda: getattr(connection, "url", b"") == b"/a")
        began_s = connection._since_s
        client.send(b"b")
        await until(lambda: connection.url == b"/ab")
        assert connection._since_s == began_s


async def test_a_body_that_trickles_is_interrupted() -> None:
    """F94."""
    desk = Desk(is_open=False)
    async with talking(desk) as (client, connection):
        client.send(POST % 1, b"a" * 1000)
        await until(lambda: desk.scopes != [] and _has_body(connection, 1000))
        connection.sweep(now_s() + LIMITS.body_timeout_s - 1)
        assert desk.gone == []
        connection.sweep(now_s() + LIMITS.body_timeout_s + 0.1)
        assert [type(error) for error in desk.gone] == [RequestTimeout]
        assert "server.body_timeout" in str(desk.gone[0])


async def test_a_body_that_trickles_is_cut_where_nobody_can_be_interrupted() -> None:
    """F94: as on the admin plane."""

    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async with talking(deaf) as (client, connection):
        client.send(POST % 1)
        await until(lambda: connection.has_unread_body)
        connection.sweep(now_s() + LIMITS.body_timeout_s + 0.1)
        assert await client.rest() == b""


async def test_a_body_has_to_bring_something_in_every_window() -> None:
    """F94."""
    desk = Desk(is_open=False)
    async with talking(desk) as (client, connection):
        client.send(POST % 1)
        # Counted from the chunk after the one that ends the head.
        await until(lambda: connection.has_unread_body)
        client.send(b"a" * 1024)
        await until(lambda: desk.scopes != [] and _has_body(connection, 1024))
        over_s = now_s() + LIMITS.body_timeout_s + 0.1
        connection.sweep(over_s)
        assert desk.gone == []
        connection.sweep(over_s + LIMITS.body_timeout_s - 1)
        assert desk.gone == []
        connection.sweep(over_s + LIMITS.body_timeout_s + 0.1)
        assert [type(error) for error in desk.gone] == [RequestTimeout]


async def test_a_body_that_we_do_not_read_is_not_the_clients_fault() -> None:
    desk = Desk(is_open=False)
    async with talking(desk) as (client, connection):
        client.send(POST % 1, b"a" * 90_000)
        await until(lambda: connection.flow.read_paused)
        connection.sweep(now_s() + LIMITS.body_timeout_s + 0.1)
        connection.sweep(now_s() + 2 * LIMITS.body_timeout_s + 0.2)
        assert desk.gone == []


async def _pour(connection: EdgeProtocol) -> None:
    connection.begin(200, b"", length=LARGE)
    connection.write(b"a" * LARGE)
    await connection.drained()
    connection.end()


async def test_a_reply_that_nobody_reads_is_cut() -> None:
    """F94: a reader that stops."""
    gone: list[GatewayError] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["gateway.connection"].on_gone = gone.append
        await _pour(scope["gateway.connection"])

    async with talking(app) as (client, connection):
        client.send(GET)
        await until(lambda: connection.is_congested)
        connection.sweep(now_s() + LIMITS.write_timeout_s - 1)
        assert not connection.transport.is_closing()
        connection.sweep(now_s() + LIMITS.write_timeout_s + 0.1)
        assert connection.transport.is_closing()
        await until(lambda: gone != [])
        assert [type(error) for error in gone] == [ClientGone]


async def test_a_reader_that_goes_on_reading_is_served_to_the_end() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await _pour(scope["gateway.connection"])

    async with talking(app) as (client, connection):
        client.send(GET)
        await until(lambda: connection.is_congested)
        assert len((await client.answer()).body) == LARGE
        await until(lambda: not connection.is_congested)
        connection.sweep(now_s() + LIMITS.write_timeout_s + 0.1)
        assert not connection.transport.is_closing()


async def test_a_connection_without_a_request_is_closed_after_a_while() -> None:
    """F84."""
    async with talking(Desk()) as (client, connection):
        client.send(GET)
        await client.answer()
        connection.sweep(now_s() + KEEPALIVE_S - 1)
        assert not connection.transport.is_closing()
        connection.sweep(now_s() + KEEPALIVE_S + 0.1)
        assert await client.rest() == b""


async def test_a_connection_whose_request_is_being_answered_is_not_idle() -> None:
    """F84."""
    desk = Desk(is_open=False)
    async with talking(desk) as (client, connection):
        client.send(GET)
        await until(lambda: desk.scopes != [])
        connection.sweep(now_s() + 100 * KEEPALIVE_S)
        desk.may_answer.set()
        assert (await client.answer()).status == 200


async def test_a_departure_is_told_at_once() -> None:
    """F1."""
    desk = Desk(is_open=False)
    async with talking(desk) as (client, _):
        client.send(GET)
        await until(lambda: desk.scopes != [])
        client.leave()
        await until(lambda: desk.gone != [])
        assert [type(error) for error in desk.gone] == [ClientGone]


async def test_a_departure_that_no_event_tells_is_found_by_the_sweep() -> None:
    """F1: nothing is read while a pipelined request waits for its turn."""
    desk = Desk(is_open=False)
    async with talking(desk) as (client, connection):
        client.send(GET, GET)
        await until(lambda: len(connection.pipeline) == 1)
        connection.sweep(now_s())
        assert not connection.transport.is_closing()
        await client.close()
        await until(lambda: _is_ended(connection, 0))
        await until(lambda: desk.gone != [])
        assert [type(error) for error in desk.gone] == [ClientGone]
        assert len(desk.scopes) == 1


async def test_a_client_that_sends_on_after_a_refusal_can_read_it_and_is_cut_in_the_end() -> None:
    """F97: a close with bytes unread would reset the connection, and the reply might be lost."""

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        scope["gateway.connection"].respond(413, b"", b"too large", close=True)

    async with talking(refuse) as (client, connection):
        client.send(POST % 1)
        answer = await client.answer()
        assert (answer.status, answer.body, answer.headers[b"connection"]) == (413, b"too large", b"close")
        assert await client.rest() == b""
        client.send(b"a" * 50_000, GET)
        connection.sweep(now_s() + 4)
        assert not connection.transport.is_closing()
        connection.sweep(now_s() + 5.1)
        assert connection.transport.is_closing()


async def test_what_is_not_http_behind_a_reply_that_has_begun_cuts_it() -> None:
    """F87: another reply inside would be taken for the first one's body."""
    may_end = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["gateway.connection"].begin(200, b"")
        scope["gateway.connection"].write(b"a")
        await may_end.wait()

    async with talking(app) as (client, _):
        client.send(GET)
        head = await client.piece(12)
        client.send(b"garbage\r\n\r\n")
        assert b"HTTP/1.1 4" not in head + await client.rest()
        may_end.set()


async def test_what_is_not_http_behind_requests_that_wait_cuts_them() -> None:
    """F87."""
    desk = Desk(is_open=False)
    async with talking(desk) as (client, _):
        client.send(GET, GET, b"garbage\r\n\r\n")
        assert await client.rest() == b""
        await until(lambda: desk.gone != [])


async def test_an_exchange_whose_connection_was_refused_is_told_and_writes_nothing_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """F87: its reply would go out behind the end of our side."""
    desk = Desk(is_open=False)
    with caplog.at_level(logging.INFO):
        async with talking(desk) as (client, connection):
            client.send(GET)
            await until(lambda: desk.scopes != [])
            client.send(b"garbage\r\n\r\n")
            await _expect_refusal(client, 400, "invalid_request_error")
            assert [type(error) for error in desk.gone] == [InvalidRequest]
            desk.may_answer.set()
            await until(lambda: desk.answered == [b"/"] and not connection.tasks)
    assert "ASGI" not in caplog.text
