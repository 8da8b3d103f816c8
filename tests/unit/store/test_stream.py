"""The language of streams: what a server says, and what is made of it."""

import asyncio
import socket
import time

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError

from gateway.store import stream
from gateway.store.connect import Opener, parse
from gateway.store.stream import BEGIN, Extent
from tests.redis_servers import needs_redis, redis_server

ENTRY = [b"12-3", [b"r", b"x"]]


def test_an_id_is_written_as_it_was_read() -> None:
    assert stream.place_of(b"1700000000000-12") == (1_700_000_000_000, 12)
    assert stream.text_of((1_700_000_000_000, 12)) == "1700000000000-12"
    assert stream.place_of(None) == BEGIN
    assert stream.text_of(BEGIN) == "0-0"


@pytest.mark.parametrize("name", ["0-0", "1-1", f"{2**64 - 1}-0"])
def test_an_id_is_known_as_one(name: str) -> None:
    assert stream.is_place(name)


@pytest.mark.parametrize("name", ["", "-", "1", "1-", "-1", "1-2-3", "a-1", "²-1", f"{2**64}-0", "9" * 5000 + "-0"])
def test_what_is_no_id_is_known_as_none(name: str) -> None:
    assert not stream.is_place(name)


def test_what_is_no_record_is_passed_over() -> None:
    entries = [
        [b"1-0", [b"r", b"a"]],
        [b"2-0", None],
        [b"3-0", [b"other", b"a"]],
        [b"4-0", [b"r", b"a", b"r", b"b"]],
        [b"5-0", [b"r", 7]],
        [b"6-0", [b"r", b""]],
    ]
    assert stream.records_of(entries) == [("1-0", b"a"), ("6-0", b"")]


def test_the_extent_is_read_whatever_else_is_said() -> None:
    old = [b"length", 1, b"last-generated-id", b"14-0", b"groups", 0, b"first-entry", ENTRY, b"last-entry", ENTRY]
    new = [*old, b"max-deleted-entry-id", b"0-0", b"entries-added", 3]
    assert stream.extent_of(old) == stream.extent_of(new) == Extent((14, 0), (12, 3), (12, 3))
    empty = [b"length", 0, b"last-generated-id", b"14-0", b"first-entry", None, b"last-entry", None]
    assert stream.extent_of(empty) == Extent((14, 0), BEGIN, BEGIN)


def test_a_stream_that_is_not_there_has_no_extent_and_another_refusal_is_raised() -> None:
    assert stream.extent_of(ResponseError("no such key")) == Extent(BEGIN, BEGIN, BEGIN)
    with pytest.raises(ReadOnlyError):
        stream.extent_of(ReadOnlyError("you may not"))


def test_a_reason_says_what_kind_of_fault_it_was() -> None:
    assert stream.reason_of(TimeoutError()) == "TimeoutError: no answer in time"
    assert stream.reason_of(RedisConnectionError("x" * 500)).startswith("ConnectionError: xxx")
    assert len(stream.reason_of(RedisConnectionError("x" * 500))) == 200


@needs_redis
@pytest.mark.anyio
async def test_a_refusal_is_an_answer_like_the_others() -> None:
    async with redis_server() as server:
        connection = await Opener(parse(server.url), "{gw}", 1.0)()
        answers = await stream.exchange(
            connection, [("SET", "a", b"1"), ("XADD", "a", "*", "r", b""), ("XINFO", "STREAM", "b"), ("GET", "a")]
        )
        assert (answers[0], answers[3]) == (b"OK", b"1")
        assert stream.extent_of(answers[2]) == Extent(BEGIN, BEGIN, BEGIN)
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            stream.raise_first(answers)
        stream.raise_first([answers[0], None])
        await connection.disconnect(nowait=True)


@pytest.mark.anyio
async def test_a_time_limit_is_kept() -> None:
    with pytest.raises(TimeoutError):
        async with stream.within(0.001):
            await asyncio.Event().wait()


@pytest.mark.anyio
async def test_what_has_come_in_time_is_not_late_because_the_loop_was_busy() -> None:
    """F67's other side: the answer was there, and nobody had looked."""
    near, far = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=near)

    def be_busy() -> None:
        time.sleep(0.05)
        far.send(b"x")

    with far:
        async with stream.within(0.02):
            asyncio.get_running_loop().call_soon(be_busy)
            assert await reader.readexactly(1) == b"x"
    writer.close()
    await writer.wait_closed()
