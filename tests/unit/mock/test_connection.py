"""Connections over real sockets: keep-alive, pipelining, leaving, and what is no HTTP."""

import asyncio
import json
import struct
from collections.abc import Callable
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import pytest

from gateway.mock import connection
from gateway.mock.server import MockServer
from tests.unit.mock.raw import HI, chat_http, dechunk, events, exchange, http, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops: their transports differ in how they tell of an end."""
    return "asyncio", {"use_uvloop": request.param}


async def until(is_true: Callable[[], object]) -> None:
    """Turn the loop until something has happened in the mock."""
    async with asyncio.timeout(5):
        while not is_true():
            await asyncio.sleep(0)


async def until_nothing_is_sent(server: MockServer) -> None:
    """Turn the loop until the only call has been stuck for a thousand turns."""
    sent, turns = 0, 0
    async with asyncio.timeout(10):
        while turns < 1000:
            await asyncio.sleep(0)
            now = server.log.entries()[0]["tokens_sent"]
            assert isinstance(now, int)
            turns = turns + 1 if now == sent > 0 else 0
            sent = now


async def talk(server: MockServer, *requests: bytes) -> list[bytes]:
    """Replies with a length to requests that follow each other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    replies = []
    for sent in requests:
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        replies.append(head + await reader.readexactly(length))
    writer.close()
    await writer.wait_closed()
    return replies


def keep_alive(path: str, body: object = None, method: str = "POST") -> bytes:
    return http(path, body, method=method, connection="keep-alive")


CHAT = keep_alive("/v1/chat/completions", {"model": "demo", "messages": HI})


async def test_one_connection_serves_many_requests() -> None:
    async with serving() as server:
        replies = await talk(server, CHAT, CHAT, keep_alive("/v1/models", method="GET"))
        assert [reply[:15] for reply in replies] == [b"HTTP/1.1 200 OK"] * 3
        assert {entry["connection"] for entry in server.log.entries()} == {1}
        assert server.stats.connections_total == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving() as server:
        asked = [http("/v1/models/" + name, method="GET", connection="keep-alive") for name in ("a", "b")]
        raw = await exchange(
            server, chat_http("latency=5ms").replace(b"connection: close", b"a: b") + b"".join(asked) + chat_http("")
        )
        assert raw.count(b"HTTP/1.1 200 OK") == 4
        assert raw.index(b'"id":"a"') < raw.index(b'"id":"b"')


async def test_a_request_that_comes_late_keeps_its_place() -> None:
    async with serving() as server:
        first, second = (http(f"/v1/models/{name}", method="GET", connection="keep-alive") for name in ("a", "b"))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(first * 5)
        while server.stats.requests_total == 0:
            await asyncio.sleep(0)
        writer.write(second + chat_http(""))
        raw = await reader.read()
        assert raw.rindex(b'"id":"a"') < raw.index(b'"id":"b"') < raw.index(b"chatcmpl-")
        writer.close()
        await writer.wait_closed()


async def test_too_many_pipelined_requests_are_refused() -> None:
    async with serving() as server:
        slow = chat_http("latency=10s").replace(b"connection: close", b"a: b")
        raw = await exchange(server, slow + CHAT * (connection.MAX_PIPELINED + 1))
        assert raw.startswith(b"HTTP/1.1 400 Bad Request")


async def test_a_stream_is_chunked_and_ends() -> None:
    async with serving() as server:
        raw = await exchange(server, chat_http("tokens=3,gap=1ms", stream=True))
        assert b"transfer-encoding: chunked\r\n" in raw
        assert events(dechunk(raw))[-1] == "[DONE]"


async def test_http_1_0_gets_its_stream_without_chunks() -> None:
    async with serving() as server:
        sent = http("/v1/chat/completions", {"model": "demo", "messages": HI, "stream": True}, version="1.0")
        raw = await exchange(server, sent)
        assert b"chunked" not in raw
        assert raw.endswith(b"data: [DONE]\n\n")


async def test_a_large_body_is_invited() -> None:
    async with serving() as server:
        sent = http("/v1/chat/completions", {"model": "demo", "messages": HI}, expect="100-continue")
        raw = await exchange(server, sent)
        assert raw.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("directives", ["ttfb=60s", "latency=60s", "tokens=100,gap=60s", "stall_after=1"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_is_seen_at_once(directives: str, stream: bool) -> None:
    """F1, F2, F3."""
    async with serving() as server:
        if "gap" in directives and not stream:
            directives = "latency=60s"
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(chat_http(directives, stream=stream))
        await until(lambda: server.stats.inflight == 1)
        writer.close()
        await until(lambda: server.stats.inflight == 0)
        [entry] = server.log.entries()
        assert (entry["closed_early"], entry["completed"]) == (True, False)
        assert isinstance(entry["t_closed"], float)
        await until(lambda: server.stats.connections == 0)


async def test_a_client_that_resets_is_seen_at_once() -> None:
    """F1: an RST is a leaving too."""
    async with serving() as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(chat_http("tokens=100,gap=60s", stream=True))
        await until(lambda: server.stats.inflight == 1)
        writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        await until(lambda: server.stats.connections == 0)
        assert server.log.entries()[0]["closed_early"] is True


async def test_a_client_that_reads_nothing_and_leaves_is_let_go() -> None:
    """F24: unread megabytes do not hold a connection that its client has closed."""
    async with serving() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(chat_http("tokens=2000,bigchunk=64KiB", stream=True))
        await reader.readuntil(b"\r\n\r\n")
        await until_nothing_is_sent(server)
        writer.write_eof()
        await until(lambda: server.stats.connections == 0)
        [entry] = server.log.entries()
        assert entry["closed_early"] is True
        assert isinstance(entry["tokens_sent"], int)
        assert entry["tokens_sent"] < 2000
        writer.close()


async def test_a_slow_reader_gets_every_byte() -> None:
    """F24: the stream stops while nobody reads, and goes on afterwards."""
    async with serving() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(chat_http("tokens=500,bigchunk=64KiB", stream=True))
        await reader.readuntil(b"\r\n\r\n")
        await until_nothing_is_sent(server)
        assert server.stats.inflight == 1
        received = 0
        while piece := await reader.read(1 << 20):
            received += len(piece)
        assert received > 500 * 65536
        assert server.log.entries()[0]["completed"] is True
        writer.close()


async def test_a_reset_reaches_the_client_as_one() -> None:
    """F19."""
    async with serving() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(chat_http("rst_after=2,gap=1ms", stream=True))
        seen = b""
        with pytest.raises(ConnectionResetError):
            while piece := await reader.read(65536):
                seen += piece
        writer.close()
        assert seen.count(b'"content":"') == 3
        assert server.log.entries()[0]["tokens_sent"] == 2


async def test_a_short_body_ends_in_a_fin() -> None:
    async with serving() as server:
        raw = await exchange(server, chat_http("eof_after=1"))
        head, _, body = raw.partition(b"\r\n\r\n")
        assert 0 < len(body) < int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01 not http\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused(sent: bytes) -> None:
    async with serving() as server:
        assert (await exchange(server, sent)).startswith(b"HTTP/1.1 4")


async def test_a_body_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_BODY_BYTES", 10)
    async with serving() as server:
        raw = await exchange(server, chat_http(""))
        assert raw.startswith(b"HTTP/1.1 413 ")
        assert server.log.entries() == []


async def test_the_log_shows_headers_and_the_digest_of_the_body() -> None:
    async with serving() as server:
        await exchange(server, http("/v1/nope?a=b", b"abc", X_Canary="1"))
        [entry] = json.loads((await talk(server, keep_alive("/__log", method="GET")))[0].partition(b"\r\n\r\n")[2])
        expected: dict[str, Any] = {
            "method": "POST",
            "path": "/v1/nope",
            "query": "a=b",
            "status": 404,
            "body_bytes": 3,
        }
        assert {name: entry[name] for name in expected} == expected
        assert entry["body_sha256"].startswith("ba7816bf")
        assert ["X-Canary", "1"] in entry["headers"]
        assert server.stats.requests_total == 1


async def test_without_the_log_calls_are_only_counted() -> None:
    async with serving(log_calls=False) as server:
        await talk(server, CHAT, CHAT)
        assert server.log.entries() == []
        assert server.stats.requests_total == 2
