"""The bench's own client, over real sockets of the loopback address."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from loadtests.client import Answer, Connection, Fleet, chat_body, chat_request

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nX-Gateway-Config: abc123\r\nTransfer-Encoding: chunked\r\n\r\n"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[int]:
    """The port of a server that runs `script` on each connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
    return head + await reader.readexactly(length)


async def ask(port: int) -> Answer:
    fleet = Fleet(port)
    try:
        return await fleet.ask(chat_request("bench", "k", stream=True))
    finally:
        fleet.close()


async def test_frames_are_counted_wherever_they_are_split() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD + chunk(b"data: 1\n") + chunk(b"\ndata: 2\n\ndata: 3\n\n") + chunk(b"data: [DO"))
        writer.write(chunk(b"NE]\n\n") + b"0\r\n\r\n")
        await reader.read()

    async with serving(script) as port:
        answer = await ask(port)
    assert (answer.events, answer.ok, answer.finished, answer.revision) == (4, True, True, "abc123")
    assert answer.first_byte_s is not None and answer.first_byte_s <= answer.ended_s


async def test_a_stream_without_its_last_event_is_not_finished() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD + chunk(b"data: 1\n\n") + b"0\r\n\r\n")
        await reader.read()

    async with serving(script) as port:
        answer = await ask(port)
    assert answer.ok and not answer.finished


async def test_a_connection_closed_in_a_reply_is_a_fault() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD + chunk(b"data: 1\n\n"))

    async with serving(script) as port:
        answer = await ask(port)
    assert not answer.ok and answer.events == 1 and answer.fault.startswith("connection lost")


async def test_bytes_that_are_not_http_are_a_fault() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"220 smtp ready\r\n")
        await reader.read()

    async with serving(script) as port:
        answer = await ask(port)
    assert not answer.ok and answer.fault.startswith("not HTTP")


async def test_nobody_listening_is_a_fault() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(script) as port:
        pass
    assert (await ask(port)).fault.startswith("no connection")


async def test_a_fleet_uses_a_connection_again_and_replaces_a_closed_one() -> None:
    connections = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for number in range(2):
            await read_request(reader)
            closing = b"Connection: close\r\n" if number else b""
            writer.write(b"HTTP/1.1 200 OK\r\n" + closing + b"Content-Length: 2\r\n\r\n{}")

    async with serving(script) as port:
        fleet = Fleet(port)
        request = chat_request("bench", "k")
        answers = [await fleet.ask(request) for _ in range(3)]
        fleet.close()
    assert [answer.ok for answer in answers] == [True, True, True]
    assert connections == 2


async def test_a_connection_left_before_the_answer_tells_its_driver() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(script) as port:
        _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
        ended: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        connection.send(chat_request("bench", "k"), ended.set_result)
        assert connection.busy and not connection.usable
        connection.abort()
        answer = await ended
    assert answer.status == 0 and not answer.complete


def test_a_chat_request_is_about_a_kilobyte() -> None:
    assert 900 < len(chat_body("bench")) < 1100
    assert b"Authorization: Bearer k\r\n" in chat_request("bench", "k")
