"""Replies as they stand on the wire."""

import re
from typing import Any

import pytest

from gateway.edge.protocol import EdgeProtocol
from tests.unit.edge.downstream import GET, App, talking, until

pytestmark = pytest.mark.anyio

OLD = b"GET / HTTP/1.0\r\nhost: a\r\n\r\n"
OLD_KEPT = b"GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n"


def _whole(status: int = 200, headers: bytes = b"", body: bytes = b"ok", *, close: bool = False) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["gateway.connection"].respond(status, headers, body, close=close)

    return app


def _pieces(*pieces: bytes, length: int | None = None, close: bool = False) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        connection: EdgeProtocol = scope["gateway.connection"]
        connection.begin(200, b"x-a: 1\r\n", length=length, close=close)
        for piece in pieces:
            connection.write(piece)
        connection.end()

    return app


async def test_a_whole_reply_has_its_length_and_its_date_and_leaves_the_connection_open() -> None:
    async with talking(_whole(201, b"x-a: 1\r\nx-b: 2\r\n")) as (client, connection):
        for _ in range(2):
            client.send(GET)
            answer = await client.answer()
            assert (answer.status, answer.body) == (201, b"ok")
            assert re.fullmatch(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers.pop(b"date"))
            assert answer.headers == {b"x-a": b"1", b"x-b": b"2", b"content-length": b"2"}
        assert not connection.transport.is_closing()


async def test_a_reply_that_comes_in_pieces_is_chunked() -> None:
    async with talking(_pieces(b"data: a\n\n", b"data: b\n\n")) as (client, connection):
        for _ in range(2):
            client.send(GET)
            answer = await client.answer()
            assert answer.body == b"data: a\n\ndata: b\n\n"
            assert answer.headers[b"transfer-encoding"] == b"chunked"
            assert answer.headers[b"x-a"] == b"1"
            assert b"content-length" not in answer.headers
        assert not connection.transport.is_closing()


async def test_each_piece_is_a_chunk_of_its_own() -> None:
    async with talking(_pieces(b"ab", b"c" * 16, close=True)) as (client, _):
        client.send(GET)
        assert (await client.rest()).endswith(b"\r\n\r\n2\r\nab\r\n10\r\ncccccccccccccccc\r\n0\r\n\r\n")


async def test_pieces_of_a_known_length_are_not_chunked() -> None:
    async with talking(_pieces(b"ab", b"c", length=3)) as (client, _):
        client.send(GET)
        answer = await client.answer()
        assert (answer.body, answer.headers[b"content-length"]) == (b"abc", b"3")
        assert b"transfer-encoding" not in answer.headers


@pytest.mark.parametrize("ask", [OLD, OLD_KEPT])
async def test_http_1_0_gets_no_chunks_and_the_close_is_the_end(ask: bytes) -> None:
    async with talking(_pieces(b"ab", b"c")) as (client, _):
        client.send(ask)
        head, _, body = (await client.rest()).partition(b"\r\n\r\n")
        assert body == b"abc"
        assert b"connection: close" in head
        assert b"transfer-encoding" not in head


async def test_http_1_0_is_not_kept_open_after_a_whole_reply() -> None:
    async with talking(_whole()) as (client, _):
        client.send(OLD_KEPT)
        answer = await client.answer()
        assert (answer.body, answer.headers[b"connection"]) == (b"ok", b"close")
        assert await client.rest() == b""


@pytest.mark.parametrize("app", [_whole(close=True), _pieces(b"ok", close=True), _pieces(b"ok", length=2, close=True)])
async def test_a_reply_may_be_the_last_of_its_connection(app: App) -> None:
    """F84: while the gateway drains."""
    async with talking(app) as (client, _):
        client.send(GET)
        answer = await client.answer()
        assert (answer.body, answer.headers[b"connection"]) == (b"ok", b"close")
        assert await client.rest() == b""


@pytest.mark.parametrize("app", [_whole(), _pieces(b"ok")])
async def test_a_client_that_asks_for_the_close_gets_it(app: App) -> None:
    async with talking(app) as (client, _):
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        answer = await client.answer()
        assert (answer.body, answer.headers[b"connection"]) == (b"ok", b"close")
        assert await client.rest() == b""


async def test_head_gets_the_length_and_no_body() -> None:
    async with talking(_whole()) as (client, _):
        client.send(GET.replace(b"GET", b"HEAD"), GET)
        answer = await client.answer("HEAD")
        assert (answer.headers[b"content-length"], answer.body) == (b"2", b"")
        assert (await client.answer()).body == b"ok"


@pytest.mark.parametrize("status", [204, 304])
async def test_some_replies_have_no_body_and_no_length(status: int) -> None:
    """RFC 9110, 8.6."""
    async with talking(_whole(status)) as (client, _):
        client.send(GET, GET)
        for _ in range(2):
            answer = await client.answer()
            assert answer.status == status
            assert b"content-length" not in answer.headers


@pytest.mark.parametrize("path", [b"/", b"/begun"])
async def test_a_reply_to_a_client_that_left_goes_nowhere(path: bytes) -> None:
    ended = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        connection: EdgeProtocol = scope["gateway.connection"]
        if scope["raw_path"] == b"/begun":
            connection.begin(200, b"")
        while (await receive())["type"] != "http.disconnect":
            pass
        if scope["raw_path"] != b"/begun":
            connection.respond(200, b"", b"ok")
            connection.begin(200, b"")
        connection.write(b"a")
        connection.end()
        ended.append(scope["raw_path"])

    async with talking(app) as (client, connection):
        client.send(GET.replace(b"/ ", path + b" "))
        await until(lambda: connection.task is not None)
        client.leave()
        await until(lambda: ended == [path])
        assert connection.transport.is_closing()


async def test_a_cut_reply_has_no_end() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        connection: EdgeProtocol = scope["gateway.connection"]
        connection.begin(200, b"")
        connection.write(b"abc")
        connection.abort()

    async with talking(app) as (client, _):
        client.send(GET)
        assert not (await client.rest()).endswith(b"0\r\n\r\n")


async def test_the_date_is_renewed_with_the_servers() -> None:
    async with talking(_whole()) as (client, connection):
        client.send(GET)
        first = (await client.answer()).headers[b"date"]
        connection.server_state.default_headers = [(b"date", b"later")]
        client.send(GET)
        assert first != b"later"
        assert (await client.answer()).headers[b"date"] == b"later"


async def test_a_writer_waits_for_a_slow_reader() -> None:
    """F22: what waits in memory is bounded."""
    written = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        connection: EdgeProtocol = scope["gateway.connection"]
        connection.begin(200, b"")
        for _ in range(100):
            connection.write(b"a" * 100_000)
            written.append(1)
            if connection.is_congested:
                await connection.drained()
        connection.end()

    async with talking(app) as (client, connection):
        client.send(GET)
        await until(lambda: connection.is_congested)
        assert len(written) < 100
        assert len((await client.answer()).body) == 100 * 100_000
        assert not connection.is_congested
