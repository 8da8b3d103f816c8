"""Calls between a supervisor and its workers."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.edge.channel import MAX_FRAME_BYTES, Answer, CallFailed, Channel, ChannelClosed

pytestmark = pytest.mark.anyio


async def _echo(name: str, payload: Any) -> Any:
    if name == "wait":
        await asyncio.Event().wait()
    if name == "fail":
        raise LookupError("nothing here")
    return [name, payload]


@asynccontextmanager
async def _pair(answer: Answer = _echo) -> AsyncIterator[tuple[Channel, Channel, asyncio.StreamWriter]]:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    other_reader, other_writer = await asyncio.open_connection(sock=theirs)
    near, far = Channel(reader, writer, answer), Channel(other_reader, other_writer, answer)
    running = [asyncio.ensure_future(near.run()), asyncio.ensure_future(far.run())]
    try:
        yield near, far, other_writer
    finally:
        writer.close()
        other_writer.close()
        await asyncio.gather(*running, return_exceptions=True)


async def test_both_ends_may_call() -> None:
    async with _pair() as (near, far, _):
        assert await near.call("a", {"x": [1, b"2"]}, timeout_s=5) == ["a", {"x": [1, b"2"]}]
        assert await far.call("b", timeout_s=5) == ["b", None]


async def test_answers_find_their_calls_in_any_order() -> None:
    async with _pair() as (near, _, _):
        answers = await asyncio.gather(*(near.call("n", number, timeout_s=5) for number in range(50)))
        assert answers == [["n", number] for number in range(50)]


async def test_a_large_payload_passes() -> None:
    async with _pair() as (near, _, _):
        assert (await near.call("a", b"x" * 3_000_000, timeout_s=5))[1] == b"x" * 3_000_000


async def test_what_fails_over_there_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        async with _pair() as (near, _, _):
            with pytest.raises(CallFailed, match=r"LookupError: .?nothing here"):
                await near.call("fail", timeout_s=5)
    assert "fail failed" in caplog.text


async def test_a_call_takes_no_longer_than_it_may_and_its_late_answer_is_dropped() -> None:
    may_answer = asyncio.Event()

    async def late(name: str, payload: Any) -> Any:
        if name == "late":
            await may_answer.wait()
        return name

    async with _pair(late) as (near, _, _):
        with pytest.raises(TimeoutError):
            await near.call("late", timeout_s=0.01)
        may_answer.set()
        assert await near.call("next", timeout_s=5) == "next"


async def test_the_end_of_the_other_end_fails_what_waits_and_what_comes() -> None:
    async with _pair() as (near, _, other_writer):
        calling = asyncio.ensure_future(near.call("wait", timeout_s=5))
        await near.call("a", timeout_s=5)
        other_writer.close()
        with pytest.raises(ChannelClosed):
            await calling
        with pytest.raises(ChannelClosed):
            await near.call("a", timeout_s=5)


async def test_a_frame_of_unbelievable_size_ends_the_channel() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    channel = Channel(reader, writer, _echo)
    with theirs:
        theirs.sendall((MAX_FRAME_BYTES + 1).to_bytes(4))
        with pytest.raises(ChannelClosed):
            await channel.run()
    await writer.wait_closed()


async def test_an_answer_to_nobody_is_dropped() -> None:
    async with _pair() as (near, far, other_writer):
        other_writer.write((4).to_bytes(4) + b"\x93\x63\xc3\xc0")
        assert await far.call("a", timeout_s=5) == ["a", None]
        assert await near.call("b", timeout_s=5) == ["b", None]


async def test_an_answer_that_nobody_can_be_told_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    answering, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(name: str, payload: Any) -> Any:
        answering.set()
        await may_answer.wait()
        return b"x" * 1_000_000

    async with _pair(slow) as (near, _, other_writer):
        calling = asyncio.ensure_future(near.call("a", timeout_s=5))
        await answering.wait()
        other_writer.transport.abort()
        with pytest.raises(ChannelClosed):
            await calling
        may_answer.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert caplog.text == ""


async def test_a_connection_that_breaks_under_a_call_is_a_closed_channel() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    channel = Channel(reader, writer, _echo)
    theirs.close()
    # Nobody reads, so the end is not noticed before something is written.
    writer.write(b"x" * 10_000_000)
    with pytest.raises(ChannelClosed):
        await channel.call("a", timeout_s=5)
    writer.transport.abort()
