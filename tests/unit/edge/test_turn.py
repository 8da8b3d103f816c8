"""One request and its reply as Starlette sees them, over `receive` and `send`."""

import asyncio
import logging
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from tests.unit.edge.downstream import GET, talking, until

pytestmark = pytest.mark.anyio

POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\n"
EXPECTING = POST.replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n")


class Listening:
    """An application that keeps what it receives, and answers when all of it has come or the client is gone."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.after: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        while not self.messages or self.messages[-1].get("more_body"):
            self.messages.append(await receive())
        await PlainTextResponse("ok")(scope, receive, send)
        self.after.append(await receive())

    @property
    def body(self) -> bytes:
        """All that has come."""
        return b"".join(message["body"] for message in self.messages)


async def test_a_request_without_a_body_is_received_at_once() -> None:
    app = Listening()
    async with talking(app) as (client, _):
        client.send(GET)
        assert (await client.answer()).body == b"ok"
    assert app.messages == [{"type": "http.request", "body": b"", "more_body": False}]


async def test_a_body_is_received_in_the_pieces_it_comes_in() -> None:
    app = Listening()
    async with talking(app) as (client, _):
        client.send(POST)
        for count, piece in enumerate((b"ab", b"cd", b"ef"), start=1):
            client.send(piece)
            await until(lambda count=count: len(app.body) == 2 * count)  # type: ignore[misc]
        assert (await client.answer()).body == b"ok"
    assert app.body == b"abcdef"
    assert [message["more_body"] for message in app.messages[-2:]] == [True, False]


async def test_a_chunked_body_is_received_without_its_chunks() -> None:
    app = Listening()
    async with talking(app) as (client, _):
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", b"2\r\nab\r\n1;x=y\r\nc\r\n")
        await until(lambda: app.body == b"abc")
        client.send(b"0\r\n\r\n")
        assert (await client.answer()).body == b"ok"
    assert app.body == b"abc"


async def test_a_reply_that_is_complete_reads_as_a_departure() -> None:
    """As the ASGI specification has it: there is nothing more to receive."""
    app = Listening()
    async with talking(app) as (client, _):
        client.send(GET)
        await client.answer()
        await until(lambda: bool(app.after))
    assert app.after == [{"type": "http.disconnect"}]


async def test_a_client_that_leaves_is_received() -> None:
    """F1."""
    app = Listening()
    async with talking(app) as (client, _):
        client.send(POST, b"abc")
        await until(lambda: app.body == b"abc")
        client.leave()
        await until(lambda: app.messages[-1]["type"] != "http.request")
    assert app.messages[-1] == {"type": "http.disconnect"}


async def test_reading_goes_on_when_the_application_asks_for_more() -> None:
    """F97: a body waits with the client, not in memory, until it is wanted."""
    may_read = asyncio.Event()
    sizes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await may_read.wait()
        more = True
        while more:
            message = await receive()
            sizes.append(len(message["body"]))
            more = message["more_body"]
        await Response()(scope, receive, send)

    async with talking(app) as (client, connection):
        client.send(POST.replace(b"6", b"3000000"), b"a" * 3_000_000)
        await until(lambda: connection.flow.read_paused)
        assert len(connection.active.body) < 1_000_000
        may_read.set()
        await client.answer()
    assert sum(sizes) == 3_000_000


async def test_who_wants_the_body_says_continue() -> None:
    """RFC 9110, 10.1.1."""
    app = Listening()
    async with talking(app) as (client, _):
        client.send(EXPECTING)
        assert (await client.answer()).status == 100
        client.send(b"abcdef")
        assert (await client.answer()).body == b"ok"
    assert app.body == b"abcdef"


async def test_who_does_not_want_the_body_answers_without_continue() -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        scope["gateway.connection"].respond(413, b"", b"no", close=True)

    async with talking(refuse) as (client, _):
        client.send(EXPECTING)
        assert (await client.answer()).status == 413
        assert await client.rest() == b""


async def test_starlette_is_served_as_by_uvicorn() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked = Request(scope, receive)
        text = f"{asked.method} {asked.url.path} {asked.query_params['a']} {(await asked.body()).decode()}"
        await PlainTextResponse(text, 201)(scope, receive, send)

    async with talking(app) as (client, _):
        for _ in range(2):
            client.send(POST.replace(b"/ ", b"/x%20y?a=1 "), b"abcdef")
            answer = await client.answer()
            assert (answer.status, answer.body) == (201, b"POST /x y 1 abcdef")
            assert answer.headers[b"content-type"].startswith(b"text/plain")
            assert b"date" in answer.headers
            assert b"server" not in answer.headers


async def test_starlettes_streams_are_chunked() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await StreamingResponse(iter((b"a", b"b")))(scope, receive, send)

    async with talking(app) as (client, _):
        client.send(GET, GET)
        for _ in range(2):
            answer = await client.answer()
            assert (answer.body, answer.headers[b"transfer-encoding"]) == (b"ab", b"chunked")


async def test_an_application_that_fails_is_a_500_and_the_next_request_finds_a_new_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("nothing here")

    with caplog.at_level(logging.ERROR):
        async with talking(app) as (client, _):
            client.send(GET)
            answer = await client.answer()
            assert (answer.status, answer.headers[b"connection"]) == (500, b"close")
            assert await client.rest() == b""
    assert "nothing here" not in answer.body.decode()
    assert "Exception in ASGI application" in caplog.text
