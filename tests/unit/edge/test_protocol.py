"""What a client's bytes become: a request for the application, or a refusal."""

import asyncio
import json
from typing import Any

import pytest

from gateway.edge.protocol import EdgeProtocol
from tests.unit.edge.downstream import GET, LIMITS, Desk, Downstream, connected, listening, talking, until

pytestmark = pytest.mark.anyio

HEAD = b"POST /v1/x HTTP/1.1\r\nhost: a\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


class Reading(Desk):
    """Answers with the request's body."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        connection: EdgeProtocol = scope["gateway.connection"]
        self.scopes.append(scope)
        connection.on_gone = self.gone.append
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        connection.on_gone = None
        connection.respond(200, b"", body)


async def _expect_refusal(client: Downstream, status: int, code: str) -> str:
    """The message of the refusal that comes."""
    answer = await client.answer()
    error = json.loads(answer.body)["error"]
    assert (answer.status, error["code"]) == (status, code)
    assert answer.headers[b"content-type"] == b"application/json"
    assert answer.headers[b"connection"] == b"close"
    assert await client.rest() == b""
    return str(error["message"])


async def test_a_request_comes_with_its_parts() -> None:
    desk = Desk()
    async with talking(desk) as (client, connection):
        client.send(
            b"PUT /a%20b/%2f?x=%31#f HTTP/1.1\r\nHost: a\r\nX-Twice: 1\r\nX-Twice: 2\r\ncontent-length: 0\r\n\r\n"
        )
        await client.answer()
        (scope,) = desk.scopes
        assert (scope["type"], scope["method"], scope["http_version"]) == ("http", "PUT", "1.1")
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b//", b"/a%20b/%2f", b"x=%31")
        headers = [(b"host", b"a"), (b"x-twice", b"1"), (b"x-twice", b"2"), (b"content-length", b"0")]
        assert scope["headers"] == headers
        # It was there for the application, and is no longer: the two would hold each other.
        assert "gateway.connection" not in scope and connection.active.response_complete


async def test_white_space_around_a_value_is_not_part_of_it() -> None:
    """RFC 9110, 5.5."""
    desk = Desk()
    async with talking(desk) as (client, _):
        client.send(b"GET / HTTP/1.1\r\nhost: \ta\t \r\nx: b c \r\ny:   \r\n\r\n")
        await client.answer()
    assert desk.scopes[0]["headers"] == [(b"host", b"a"), (b"x", b"b c"), (b"y", b"")]


async def test_the_absolute_form_gives_its_path() -> None:
    """RFC 9112, 3.2.2."""
    desk = Desk()
    async with talking(desk) as (client, _):
        client.send(b"GET http://elsewhere:1/a?b HTTP/1.1\r\nhost: a\r\n\r\n")
        await client.answer()
    assert (desk.scopes[0]["raw_path"], desk.scopes[0]["query_string"]) == (b"/a", b"b")


async def test_a_request_may_come_byte_by_byte() -> None:
    desk = Reading()
    async with talking(desk) as (client, connection):
        for byte in HEAD + b"content-length: 2\r\n\r\nok":
            connection.data_received(bytes((byte,)))
        assert (await client.answer()).body == b"ok"
    assert (b"content-length", b"2") in desk.scopes[0]["headers"]


async def test_pipelined_requests_are_answered_in_their_order_one_at_a_time() -> None:
    """F87."""
    desk = Desk(is_open=False)
    async with talking(desk) as (client, connection):
        paths = [b"/%d" % number for number in range(5)]
        client.send(*(GET.replace(b"/ ", path + b" ") for path in paths))
        await until(lambda: len(connection.pipeline) == 4 and desk.scopes != [])
        assert len(desk.scopes) == 1
        desk.may_answer.set()
        assert [(await client.answer()).body for _ in paths] == paths
        client.send(GET)
        assert (await client.answer()).body == b"/"


async def test_a_pipelined_body_belongs_to_its_own_request() -> None:
    """F87."""
    async with talking(Reading()) as (client, _):
        client.send(*(HEAD + b"content-length: 3\r\n\r\n%03d" % number for number in range(5)))
        assert [(await client.answer()).body for _ in range(5)] == [b"%03d" % number for number in range(5)]


async def test_the_task_that_answers_is_known_to_the_application() -> None:
    tasks = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        connection: EdgeProtocol = scope["gateway.connection"]
        tasks.append(connection.task)
        connection.respond(200, b"", b"")

    async with talking(app) as (client, connection):
        client.send(GET)
        await client.answer()
        assert tasks == [connection.task]
        await until(lambda: not connection.tasks)


async def test_one_task_answers_the_requests_of_a_connection_and_ends_with_it() -> None:
    tasks = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        connection: EdgeProtocol = scope["gateway.connection"]
        tasks.append(connection.task)
        connection.respond(200, b"", b"")

    async with talking(app) as (client, connection):
        for _ in range(3):
            client.send(GET)
            await client.answer()
        assert len(tasks) == 3 and len(set(tasks)) == 1
        client.leave()
        await until(lambda: connection.task is not None and connection.task.done())


async def test_a_request_does_not_wait_until_the_one_before_it_has_settled() -> None:
    """Settling may take a call to a store."""
    settled = asyncio.Event()
    paths = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        connection: EdgeProtocol = scope["gateway.connection"]
        paths.append(scope["raw_path"])
        connection.respond(200, b"", scope["raw_path"])
        if len(paths) == 1:
            await settled.wait()

    async with talking(app) as (client, connection):
        for path in (b"/1", b"/2", b"/3"):
            client.send(GET.replace(b"/ ", path + b" "))
            assert (await client.answer()).body == path
        assert len(connection.tasks) == 1
        settled.set()
        await until(lambda: not connection.tasks)
        client.send(GET)
        assert (await client.answer()).body == b"/"


async def test_a_task_that_was_cancelled_is_not_used_again() -> None:
    tasks = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        connection: EdgeProtocol = scope["gateway.connection"]
        assert connection.task is not None
        tasks.append(connection.task)
        connection.respond(200, b"", b"")
        if len(tasks) == 1:
            connection.task.cancel()

    async with talking(app) as (client, _):
        for _ in range(2):
            client.send(GET)
            await client.answer()
    assert len(set(tasks)) == 2


class Plane:
    """An application that says it needs nothing around it, and then leaves the client without a reply."""

    is_direct = True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer nothing."""
        assert set(scope) >= {"method", "path", "raw_path", "query_string", "headers", "http_version"}


async def test_a_connection_left_without_a_reply_is_closed() -> None:
    async with talking(Plane()) as (client, connection):
        client.send(GET)
        assert await client.rest() == b""
        await until(lambda: not connection.tasks)


async def test_a_body_that_has_come_can_be_taken_whole_once() -> None:
    taken = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        connection: EdgeProtocol = scope["gateway.connection"]
        taken.extend([connection.whole_body(), connection.whole_body(), connection.has_unread_body])
        connection.respond(200, b"", b"")

    async with talking(app) as (client, _):
        client.send(HEAD + b"content-length: 2\r\n\r\nok")
        await client.answer()
    assert taken == [b"ok", b"", False]


async def test_a_body_that_is_still_coming_cannot_be_taken_whole() -> None:
    taken = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        connection: EdgeProtocol = scope["gateway.connection"]
        taken.extend([connection.whole_body(), connection.has_unread_body])
        connection.respond(200, b"", b"", close=True)

    async with talking(app) as (client, _):
        client.send(HEAD + b"content-length: 2\r\n\r\no")
        await client.answer()
    assert taken == [None, True]


async def test_a_body_of_a_client_that_left_cannot_be_taken() -> None:
    taken = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        taken.append(scope["gateway.connection"].whole_body())

    async with talking(app) as (client, connection):
        client.send(HEAD + b"content-length: 2\r\n\r\no")
        await until(lambda: connection.has_unread_body)
        client.leave()
        await until(lambda: bool(taken))
    assert taken == [None]


@pytest.mark.parametrize(
    "sent",
    [
        b"garbage\r\n\r\n",
        b"GET / HTTP/1.1\nhost: a\n\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nho st: a\r\n\r\n",
        b"GET / HTTP/9.9\r\nhost: a\r\n\r\n",
        HEAD + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
        HEAD + b"content-length: +1\r\n\r\na",
        CHUNKED + b"xyz\r\n",
        CHUNKED + b"1\r\nabc\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_not_http_is_refused_in_json(sent: bytes) -> None:
    """F87."""
    async with talking(Reading()) as (client, _):
        client.send(sent)
        assert "not valid HTTP" in await _expect_refusal(client, 400, "invalid_request_error")


async def test_a_body_that_breaks_off_its_rules_ends_its_exchange() -> None:
    """F87."""
    desk = Reading()
    async with talking(desk) as (client, connection):
        client.send(CHUNKED + b"1\r\na\r\n")
        await until(lambda: desk.scopes != [])
        client.send(b"xyz\r\n")
        await _expect_refusal(client, 400, "invalid_request_error")
        assert [error.code for error in desk.gone] == ["invalid_request_error"]
        await until(lambda: not connection.tasks)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 3000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 3000,
        b"GET / HTTP/1.1\r\n" + b"x: 1\r\n" * 400 + b"\r\n",
        b"GET /" + b"a" * 3000,
        b"\r\n" * 2000,
    ],
)
async def test_a_head_that_is_too_large_is_refused_complete_or_not(sent: bytes) -> None:
    """F95."""
    async with talking(Desk()) as (client, _):
        client.send(sent)
        message = await _expect_refusal(client, 431, "headers_too_large")
        assert "2048 bytes, 256 headers; server.max_header" in message


async def test_a_head_that_is_too_large_is_refused_however_slowly_it_comes() -> None:
    """F95."""
    async with talking(Desk()) as (client, connection):
        client.send(b"GET / HTTP/1.1\r\n")
        await until(lambda: getattr(connection, "headers", None) == [])
        for number in range(300):
            client.send(b"x-%03d: 1\r\n" % number)
        await _expect_refusal(client, 431, "headers_too_large")


async def test_many_small_headers_are_refused_by_their_number() -> None:
    """F95."""
    limits = type(LIMITS)(65536, 10, 10.0, 10.0, 10.0)
    async with talking(Desk(), limits) as (client, _):
        client.send(b"GET / HTTP/1.1\r\n" + b"x: 1\r\n" * 256 + b"\r\n")
        assert (await client.answer()).status == 200
        client.send(b"GET / HTTP/1.1\r\n" + b"x: 1\r\n" * 257 + b"\r\n")
        await _expect_refusal(client, 431, "headers_too_large")


async def test_a_body_that_comes_with_its_head_does_not_count_as_head() -> None:
    async with talking(Reading()) as (client, _):
        for _ in range(2):
            client.send(HEAD + b"content-length: 5000\r\n\r\n" + b"a" * 5000)
            assert len((await client.answer()).body) == 5000


async def test_a_long_url_is_refused() -> None:
    """F95."""
    limits = type(LIMITS)(65536, 10, 10.0, 10.0, 10.0)
    async with talking(Desk(), limits) as (client, _):
        client.send(b"GET /" + b"a" * (16 * 1024 - 1) + b" HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await client.answer()).status == 200
        client.send(b"GET /" + b"a" * 16 * 1024 + b" HTTP/1.1\r\nhost: a\r\n\r\n")
        assert "URL" in await _expect_refusal(client, 414, "uri_too_long")


@pytest.mark.parametrize("endless", [b"1;" + b"x" * 3000, b"0\r\n" + b"x: 1\r\n" * 500])
async def test_chunk_extensions_and_trailers_have_an_end(endless: bytes) -> None:
    """F95: they count towards no body limit."""
    desk = Reading()
    async with talking(desk) as (client, _):
        client.send(CHUNKED)
        await until(lambda: desk.scopes != [])
        client.send(endless)
        await _expect_refusal(client, 431, "headers_too_large")
        assert [error.code for error in desk.gone] == ["headers_too_large"]


async def test_a_trailer_is_no_header() -> None:
    """F87: it comes when all checks of headers have passed (RFC 9110, 6.5.1)."""
    desk = Reading()
    async with talking(desk) as (client, _):
        client.send(CHUNKED + b"1\r\na\r\n0\r\nx-gateway-tags: a=b\r\n\r\n")
        assert (await client.answer()).body == b"a"
    assert [name for name, _ in desk.scopes[0]["headers"]] == [b"host", b"transfer-encoding"]


async def test_one_connection_too_many_is_refused_and_the_others_are_not() -> None:
    """F94."""
    limits = type(LIMITS)(2048, 1, 10.0, 10.0, 10.0)
    async with listening(Desk(), limits) as listener:
        async with connected(listener) as first:
            first.send(GET)
            assert (await first.answer()).status == 200
            async with connected(listener) as second:
                answer = await second.answer()
                assert (answer.status, answer.headers[b"retry-after"]) == (503, b"1")
                assert json.loads(answer.body)["error"]["code"] == "overloaded"
                assert await second.rest() == b""
            first.send(GET)
            assert (await first.answer()).status == 200
        await until(lambda: not listener.connections)
        async with connected(listener) as third:
            third.send(GET)
            assert (await third.answer()).status == 200


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
async def test_an_upgrade_is_declined_and_the_request_is_answered(protocol: bytes) -> None:
    """RFC 9110, 7.8: Java's HTTP client asks for HTTP/2 on every new connection, also with a body."""
    desk = Reading()
    async with talking(desk) as (client, _):
        asking = HEAD + b"connection: Upgrade\r\nupgrade: %b\r\ncontent-length: 2\r\n\r\n" % protocol
        client.send(asking, b"ok")
        assert (await client.answer()).body == b"ok"
        client.send(asking)
        await until(lambda: len(desk.scopes) == 2)
        client.send(b"no", GET)
        assert (await client.answer()).body == b"no"
        assert (await client.answer()).body == b""
    assert b"upgrade" not in dict(desk.scopes[0]["headers"])
    assert len(desk.scopes) == 3


async def test_an_upgrade_that_is_not_http_after_all_is_refused() -> None:
    """F87."""
    async with talking(Reading()) as (client, _):
        client.send(HEAD + b"connection: upgrade\r\nupgrade: h2c\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n")
        await _expect_refusal(client, 400, "invalid_request_error")


async def test_after_a_refusal_nothing_more_is_read() -> None:
    """F87."""
    desk = Desk()
    async with talking(desk) as (client, _):
        client.send(b"garbage\r\n\r\n", GET)
        await _expect_refusal(client, 400, "invalid_request_error")
        client.send(GET)
    assert desk.scopes == []


async def test_a_departure_before_any_request_disturbs_nobody() -> None:
    desk = Desk()
    async with listening(desk) as listener:
        async with connected(listener) as client:
            client.send(b"GET / HT")
            await until(lambda: bool(listener.connections))
            client.leave()
            await until(lambda: not listener.connections)
        async with connected(listener) as client:
            client.send(GET)
            assert (await client.answer()).status == 200
    assert desk.gone == []
