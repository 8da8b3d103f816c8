"""Bodies that are sent piece by piece."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.core.errors import ClientGone, InternalError, InvalidRequest, UpstreamTimeout
from gateway.core.pipeline import spawn
from tests.unit.transport.loopback import CHUNKED, OK, Call, answer_ok, drained, pool_to, post, serve, within

pytestmark = pytest.mark.anyio


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece
        await asyncio.sleep(0)


async def endless(counter: list[int], size: int = 65536) -> AsyncIterator[bytes]:
    while True:
        counter.append(size)
        yield b"x" * size


async def test_a_body_of_known_length_is_sent_under_that_length() -> None:
    async with serve(answer_ok) as server, pool_to(server.origin) as pool:
        response = await pool.open(post(pieces(b"ab", b"", b"c"), 3), within())
        assert await response.read_all(10) == b"ok"
        response.close()
        assert (server.calls[0].body, pool.stats().idle) == (b"abc", 1)
        assert b"content-length: 3\r\n" in server.calls[0].head


async def test_a_body_of_unknown_length_is_sent_in_chunks() -> None:
    """An empty piece is not mistaken for the end."""
    async with serve(answer_ok) as server, pool_to(server.origin) as pool:
        for _ in range(2):
            response = await pool.open(post(pieces(b"ab", b"", b"c")), within())
            response.close()
            assert server.calls[0].body == b"abc"
        assert (len(server.calls), pool.stats().idle) == (1, 1)


async def test_an_empty_iterator_is_an_empty_body() -> None:
    async with serve(answer_ok) as server, pool_to(server.origin) as pool:
        for length in (0, None):
            response = await pool.open(post(pieces(), length), within())
            response.close()
            assert server.calls[0].body == b""


async def test_a_large_body_arrives_whole() -> None:
    body = bytes(range(256)) * 20_000
    async with serve(answer_ok) as server, pool_to(server.origin) as pool:
        response = await pool.open(post(body), within())
        response.close()
        assert server.calls[0].body == body
        assert pool.stats().idle == 1


async def test_an_upstream_that_does_not_read_holds_the_body_back_and_is_idle_in_the_end() -> None:
    """F24, F13."""
    never = asyncio.Event()

    async def script(_: Call) -> None:
        await never.wait()

    counter: list[int] = []
    async with serve(script) as server, pool_to(server.origin) as pool:
        with pytest.raises(UpstreamTimeout) as caught:
            await pool.open(post(endless(counter)), within(first_event_s=0.001, idle_s=0.05))
        assert caught.value.phase == "idle"
        assert sum(counter) < 64 * 1024 * 1024
        assert pool.stats().open == 0


async def test_an_early_refusal_is_delivered_and_the_rest_of_the_body_not_sent() -> None:
    """A 413 comes before the body is over: it is the answer, and the connection is not used again."""

    async def script(call: Call) -> None:
        await call.reader.readuntil(b"\r\n\r\n")
        await call.send(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig")
        await call.gone()

    held = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"first"
        await held.wait()

    async with serve(script) as server, pool_to(server.origin) as pool:
        response = await pool.open(post(slow()), within())
        assert response.status == 413
        assert await response.read_all(10) == b"big"
        assert pool.stats().in_use == 1
        response.close()
        assert pool.stats().open == 0


async def test_an_early_success_lets_the_upload_go_on() -> None:
    async def script(call: Call) -> None:
        await call.reader.readuntil(b"\r\n\r\n")
        await call.send(CHUNKED)
        rest = await call.reader.readexactly(6)
        await call.send(b"6\r\n%b\r\n0\r\n\r\n" % rest)
        await call.gone()

    answered = asyncio.Event()

    async def waits() -> AsyncIterator[bytes]:
        yield b"abc"
        await answered.wait()
        yield b"def"

    async with serve(script) as server, pool_to(server.origin) as pool:
        response = await pool.open(post(waits(), 6), within())
        assert response.status == 200
        answered.set()
        assert await response.read_all(10) == b"abcdef"
        response.close()
        assert pool.stats().idle == 1


@pytest.mark.parametrize(("length", "words"), [(2, "longer than the 2 bytes"), (9, "ended after 4 of the 9 bytes")])
async def test_a_body_that_is_not_as_long_as_declared_is_the_clients_fault(length: int, words: str) -> None:
    """F87."""
    async with serve(answer_ok) as server, pool_to(server.origin) as pool:
        with pytest.raises(InvalidRequest, match=words):
            await pool.open(post(pieces(b"ab", b"cd"), length), within())
        assert pool.stats().open == 0


async def test_a_client_that_leaves_during_its_upload_ends_the_exchange() -> None:
    """F3."""
    gone = asyncio.Event()

    async def script(call: Call) -> None:
        await call.gone()
        gone.set()

    async def leaves() -> AsyncIterator[bytes]:
        yield b"abc"
        raise ClientGone("The client left.")

    async with serve(script) as server, pool_to(server.origin) as pool:
        with pytest.raises(ClientGone):
            await pool.open(post(leaves()), within())
        assert pool.stats().open == 0
        await gone.wait()


async def test_a_broken_iterator_is_an_internal_error_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield b"abc"
        raise ZeroDivisionError

    async with serve(answer_ok) as server, pool_to(server.origin) as pool:
        with pytest.raises(InternalError):
            await pool.open(post(breaks()), within())
        await drained(lambda: "upstream upload failed" in caplog.text)


async def test_closing_the_response_stops_the_upload() -> None:
    """F1."""

    async def script(call: Call) -> None:
        await call.reader.readuntil(b"\r\n\r\n")
        await call.send(CHUNKED)
        await call.gone()

    stopped = asyncio.Event()

    async def waits() -> AsyncIterator[bytes]:
        try:
            yield b"abc"
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with serve(script) as server, pool_to(server.origin) as pool:
        response = await pool.open(post(waits()), within())
        response.close()
        assert pool.stats().open == 0
        await stopped.wait()


async def test_an_upload_into_a_full_socket_ends_with_its_exchange() -> None:
    """F12."""
    never = asyncio.Event()

    async def script(_: Call) -> None:
        await never.wait()

    counter: list[int] = []
    async with serve(script) as server, pool_to(server.origin) as pool:
        with pytest.raises(UpstreamTimeout) as caught:
            deadline = asyncio.get_running_loop().time() + 0.03
            await pool.open(post(endless(counter)), within(deadline_s=deadline))
        assert caught.value.phase == "total"
        sent = len(counter)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(counter) == sent


async def test_an_upload_that_was_held_back_goes_on_when_the_upstream_reads() -> None:
    """F24."""
    read_on = asyncio.Event()

    async def script(call: Call) -> None:
        await read_on.wait()
        assert await call.request()
        await call.send(OK)
        await call.gone()

    sent: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for number in range(400):
            sent.append(number)
            yield b"x" * 65536

    async with serve(script) as server, pool_to(server.origin) as pool:
        opening = spawn(pool.open(post(body(), 400 * 65536), within()), "opening")
        so_far = -1
        while len(sent) != so_far:
            so_far = len(sent)
            for _ in range(50):
                await asyncio.sleep(0)
        assert so_far < 400
        read_on.set()
        response = await opening
        response.close()
        assert len(server.calls[0].body) == 400 * 65536
        assert pool.stats().idle == 1
