"""One connection: what the upstream may say, in any pieces, and what it may do to the socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.core.errors import UpstreamError, UpstreamTimeout, UpstreamTruncated
from gateway.core.pipeline import spawn
from gateway.transport.base import Timeouts, UpstreamRequest
from gateway.transport.connection import MAX_BARREN_BYTES, Connection
from gateway.transport.head import encode_head
from gateway.transport.response import Http1Response
from tests.unit.transport.loopback import CHUNKED, OK, Call, Script, get, post, serve, within

pytestmark = pytest.mark.anyio


class Keeper:
    """A pool of one."""

    def __init__(self) -> None:
        self.released: list[Connection] = []
        self.discarded: list[Connection] = []

    def release(self, connection: Connection) -> None:
        self.released.append(connection)

    def discard(self, connection: Connection) -> None:
        self.discarded.append(connection)


class Upstream:
    """A connection to a scripted server, and its keeper."""

    def __init__(self, connection: Connection, keeper: Keeper, calls: list[Call]) -> None:
        self.connection = connection
        self.keeper = keeper
        self.calls = calls

    async def head(self, request: UpstreamRequest | None = None, timeouts: Timeouts | None = None) -> Http1Response:
        """Send and wait for the head."""
        sent = request if request is not None else post()
        response = self.connection.start(encode_head(sent, b"h"), sent, timeouts if timeouts is not None else within())
        while not response.status:
            if response.error is not None:
                response.close()
                raise response.error
            await response.arrival()
        return response


@asynccontextmanager
async def connected(script: Script) -> AsyncIterator[Upstream]:
    async with serve(script) as server:
        keeper = Keeper()
        loop = asyncio.get_running_loop()
        connection = Connection(loop, keeper, loop.time())
        await loop.create_connection(lambda: connection, "127.0.0.1", server.port)
        try:
            yield Upstream(connection, keeper, server.calls)
        finally:
            connection.abort()
            assert keeper.discarded == [connection]
            await asyncio.sleep(0)


def says(*pieces: bytes, then_closes: bool = False, then_resets: bool = False) -> Script:
    """A server that answers one request with `pieces`, each in a segment of its own as far as it can."""

    async def script(call: Call) -> None:
        await call.request()
        for piece in pieces:
            await call.send(piece)
            await asyncio.sleep(0)
        if then_resets:
            call.reset()
        elif not then_closes:
            await call.gone()

    return script


async def test_a_complete_exchange_leaves_the_connection_for_the_next() -> None:
    async def script(call: Call) -> None:
        for _ in range(3):
            assert await call.request()
            assert call.body == b"{}"
            await call.send(OK)
        await call.gone()

    async with connected(script) as upstream:
        for number in range(3):
            response = await upstream.head()
            assert (response.status, response.http_version, response.is_delimited) == (200, "1.1", True)
            assert await response.read_all(100) == b"ok"
            response.close()
            assert len(upstream.keeper.released) == number + 1


REPLY = (
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nX-Empty:\r\nX-Twice: 1\r\nX-Twice: 2\r\ntransfer-encoding: chunked\r\n\r\n"
    b"3;ext=1\r\n\xf0\x9f\x98\r\n1\r\n\x80\r\n0\r\nx-trailer: 1\r\n\r\n"
)


class Recorder(asyncio.Transport):
    """A socket that writes down what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_aborted = False
        self.is_reading_paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: object = None) -> object:
        class Socket:
            def setsockopt(self, *_: object) -> None: ...
            def fileno(self) -> int:
                return -1

        return Socket() if name == "socket" else default

    def pause_reading(self) -> None:
        assert not self.is_reading_paused
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        assert self.is_reading_paused
        self.is_reading_paused = False

    def close(self) -> None:
        self.is_aborted = True

    def abort(self) -> None:
        self.is_aborted = True


def wired() -> tuple[Connection, Keeper, Recorder]:
    keeper, transport = Keeper(), Recorder()
    connection = Connection(asyncio.get_running_loop(), keeper, 0.0)
    connection.connection_made(transport)
    return connection, keeper, transport


async def test_a_reply_may_be_cut_into_segments_anywhere() -> None:
    """F20, F22; 1xx heads and trailers are passed over."""
    for cut in range(1, len(REPLY)):
        connection, keeper, _ = wired()
        response = connection.start(b"", post(), within())
        connection.data_received(REPLY[:cut])
        connection.data_received(REPLY[cut:])
        assert response.status == 200
        assert response.headers == [
            (b"x-empty", b""),
            (b"x-twice", b"1"),
            (b"x-twice", b"2"),
            (b"transfer-encoding", b"chunked"),
        ]
        assert await response.read_all(10) == "😀".encode()
        response.close()
        assert keeper.released == [connection]
        connection.abort()


async def test_a_reply_may_come_byte_by_byte() -> None:
    connection, keeper, _ = wired()
    response = connection.start(b"", post(), within())
    for byte in REPLY:
        connection.data_received(bytes([byte]))
    assert await response.read_all(10) == "😀".encode()
    response.close()
    assert keeper.released == [connection]
    connection.abort()


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ],
)
async def test_a_reply_without_a_body_is_complete_at_once(reply: bytes) -> None:
    connection, keeper, _ = wired()
    response = connection.start(b"", post(), within())
    connection.data_received(reply)
    assert response.is_delimited
    assert await response.read() == b""
    response.close()
    assert keeper.released == [connection]
    connection.abort()


async def test_a_reply_to_head_has_no_body_whatever_its_length_says() -> None:
    connection, keeper, _ = wired()
    response = connection.start(b"", get(b"HEAD"), within())
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
    assert await response.read() == b""
    assert response.is_delimited
    response.close()
    assert keeper.discarded == [connection]


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ],
)
async def test_an_upstream_that_will_close_is_not_used_again(reply: bytes) -> None:
    connection, keeper, transport = wired()
    response = connection.start(b"", post(), within())
    connection.data_received(reply)
    assert await response.read_all(10) == b"ok"
    response.close()
    assert (keeper.released, keeper.discarded) == ([], [connection])
    assert transport.is_aborted


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9\r\n",
        b"<html>bad gateway</html>",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\r\n folded: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ],
)
async def test_what_is_not_strict_http_is_a_fault_of_the_upstream(reply: bytes) -> None:
    """F43, F87."""
    connection, keeper, transport = wired()
    response = connection.start(b"", post(), within())
    connection.data_received(reply)
    assert isinstance(response.error, UpstreamError)
    assert transport.is_aborted
    assert keeper.discarded == [connection]
    response.close()
    assert keeper.released == []


@pytest.mark.parametrize("surplus", [b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"garbage"])
async def test_what_follows_a_reply_never_reaches_the_next_request(surplus: bytes) -> None:
    """F72: nobody gets another's reply."""
    connection, keeper, transport = wired()
    response = connection.start(b"", post(), within())
    connection.data_received(OK + surplus)
    assert await response.read_all(100) == b"ok"
    assert response.headers == [(b"content-length", b"2")]
    response.close()
    assert (keeper.released, keeper.discarded) == ([], [connection])
    assert transport.is_aborted


@pytest.mark.parametrize("surplus", [b"\r\n", b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
async def test_data_on_an_idle_connection_closes_it(surplus: bytes) -> None:
    """F72."""
    connection, keeper, transport = wired()
    response = connection.start(b"", post(), within())
    connection.data_received(OK)
    response.close()
    assert keeper.released == [connection]
    connection.data_received(surplus)
    assert transport.is_aborted
    assert keeper.discarded == [connection]


async def test_data_after_a_reply_that_is_not_closed_yet_spoils_the_connection_only() -> None:
    connection, keeper, _ = wired()
    response = connection.start(b"", post(), within())
    connection.data_received(OK)
    connection.data_received(b"more")
    assert await response.read_all(100) == b"ok"
    response.close()
    assert (keeper.released, keeper.discarded) == ([], [connection])


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
    ],
)
async def test_headers_and_trailers_have_a_limit(start: bytes) -> None:
    """F95."""
    connection, _, transport = wired()
    response = connection.start(b"", post(), within())
    connection.data_received(start)
    for _ in range(MAX_BARREN_BYTES // 1000 + 2):
        if not transport.is_aborted:
            connection.data_received(b"x-filler: %b\r\n" % (b"x" * 986))
    assert isinstance(response.error, UpstreamError)
    assert "bytes of headers" in response.error.message


async def test_reading_stops_while_the_reader_does_and_goes_on_with_it() -> None:
    """F24."""
    connection, keeper, transport = wired()
    response = connection.start(b"", post(), within())
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 600000\r\n\r\n")
    paused: list[bool] = []
    for _ in range(2):
        connection.data_received(b"x" * 200_000)
        paused.append(transport.is_reading_paused)
    assert len(await response.read()) == 400_000
    paused.append(transport.is_reading_paused)
    assert paused == [False, True, False]
    connection.data_received(b"x" * 200_000)
    assert len(await response.read()) == 200_000
    response.close()
    assert keeper.released == [connection]
    connection.abort()


async def test_tiny_chunks_count_for_the_memory_they_take() -> None:
    """F24."""
    connection, _, transport = wired()
    response = connection.start(b"", post(), within())
    connection.data_received(CHUNKED)
    connection.data_received(b"1\r\nx\r\n" * 6000)
    assert transport.is_reading_paused
    response.close()


async def test_the_keep_alive_header_is_noted() -> None:
    for value, seconds in ((b"timeout=5, max=100", 5), (b"max=3, Timeout=7", 7), (b"timeout=soon", None), (b"", None)):
        connection, _, _ = wired()
        response = connection.start(b"", post(), within())
        connection.data_received(b"HTTP/1.1 200 OK\r\nkeep-alive: %b\r\ncontent-length: 0\r\n\r\n" % value)
        response.close()
        assert connection.keep_alive_s == seconds
        connection.abort()


async def test_a_late_close_does_not_reach_the_next_exchange() -> None:
    connection, _, transport = wired()
    first = connection.start(b"", post(), within())
    connection.data_received(OK)
    first.close()
    second = connection.start(b"", post(), within())
    connection.finish(first)
    first.close()
    assert not transport.is_aborted
    connection.data_received(OK)
    assert await second.read_all(10) == b"ok"
    second.close()
    connection.abort()


@pytest.mark.parametrize(
    ("pieces", "got"),
    [
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok",), b"ok"),
        ((CHUNKED + b"2\r\nok\r\n",), b"ok"),
        ((CHUNKED + b"2\r\nok\r\n0\r\n",), b"ok"),
    ],
)
async def test_a_reply_that_ends_too_early_is_truncated(pieces: tuple[bytes, ...], got: bytes) -> None:
    """F18, F19."""
    async with connected(says(*pieces, then_closes=True)) as upstream:
        response = await upstream.head()
        assert await response.read() == got
        with pytest.raises(UpstreamTruncated, match="closed the connection in the middle"):
            await response.read()
        response.close()


async def test_a_reset_in_the_middle_is_truncated_even_without_a_declared_end() -> None:
    """F19."""
    connection, _, _ = wired()
    response = connection.start(b"", post(), within())
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nok")
    connection.connection_lost(ConnectionResetError())
    assert await response.read() == b"ok"
    with pytest.raises(UpstreamTruncated, match="reset") as caught:
        await response.read()
    assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_a_body_that_only_the_connection_ends_says_so() -> None:
    async with connected(says(b"HTTP/1.1 200 OK\r\n\r\n", b"ok", then_closes=True)) as upstream:
        response = await upstream.head()
        assert not response.is_delimited
        assert await response.read_all(10) == b"ok"
        assert await response.read() == b""
        response.close()
        assert upstream.keeper.released == []


@pytest.mark.parametrize(
    "how", [says(then_closes=True), says(then_resets=True), says(b"HTTP/1.1 20", then_closes=True)]
)
async def test_a_connection_closed_before_a_head_is_truncated(how: Script) -> None:
    """F31: the request may have been acted on."""
    async with connected(how) as upstream:
        with pytest.raises(UpstreamTruncated, match="before its reply began"):
            await upstream.head()


async def test_an_idle_connection_that_the_upstream_closes_is_noticed() -> None:
    """F84."""

    async def script(call: Call) -> None:
        await call.request()
        await call.send(OK)

    async with connected(script) as upstream:
        response = await upstream.head()
        response.close()
        async with asyncio.timeout(5):
            while not upstream.connection.is_dropped:
                await asyncio.sleep(0)
        assert upstream.connection.is_dropped


async def test_the_upstream_notices_a_close_before_the_end() -> None:
    """F1, F2: before the head and in the middle of the body."""
    gone = asyncio.Event()

    async def script(call: Call) -> None:
        await call.request()
        await call.send(CHUNKED + b"2\r\nok\r\n")
        await call.gone()
        gone.set()

    async with connected(script) as upstream:
        response = await upstream.head()
        assert await response.read() == b"ok"
        response.close()
        async with asyncio.timeout(0.25):
            await gone.wait()


async def test_an_upstream_that_never_answers_is_late_with_its_first_token() -> None:
    """F14."""
    async with connected(says()) as upstream:
        with pytest.raises(UpstreamTimeout) as caught:
            await upstream.head(timeouts=within(first_event_s=0.02))
        assert caught.value.phase == "first_token"


async def test_a_head_alone_is_no_first_event() -> None:
    """F14."""
    async with connected(says(CHUNKED)) as upstream:
        response = await upstream.head(timeouts=within(first_event_s=0.02))
        with pytest.raises(UpstreamTimeout) as caught:
            await response.read()
        assert caught.value.phase == "first_token"
        response.close()


async def test_an_upstream_that_stalls_after_its_first_event_is_idle() -> None:
    """F13."""
    async with connected(says(CHUNKED + b"2\r\nok\r\n")) as upstream:
        response = await upstream.head(timeouts=within(idle_s=0.02))
        assert await response.read() == b"ok"
        response.begin()
        with pytest.raises(UpstreamTimeout) as caught:
            await response.read()
        assert caught.value.phase == "idle"
        response.close()


async def test_an_upstream_that_stalls_while_somebody_listens_is_idle() -> None:
    """F13: listening arms the timer."""
    async with connected(says(CHUNKED + b"2\r\nok\r\n", b"2\r\nok\r\n")) as upstream:
        response = await upstream.head(timeouts=within(idle_s=0.02))
        response.begin()
        over = asyncio.get_running_loop().create_future()
        taken: list[bytes] = []

        def news() -> None:
            try:
                while (piece := response.take()) is not None:
                    taken.append(piece)
            except UpstreamTimeout as error:
                over.set_result(error.phase)

        response.listen(news)
        assert await over == "idle"
        assert b"".join(taken) == b"okok"
        response.listen(None)
        response.close()


async def test_silence_is_not_idle_while_nobody_reads() -> None:
    """F13, F24."""
    more = asyncio.Event()

    async def script(call: Call) -> None:
        await call.request()
        await call.send(CHUNKED + b"2\r\nok\r\n")
        await more.wait()
        await call.send(b"2\r\nok\r\n0\r\n\r\n")
        await call.gone()

    async with connected(script) as upstream:
        response = await upstream.head(timeouts=within(first_event_s=0.01, idle_s=0.02))
        assert await response.read() == b"ok"
        response.begin()
        # Longer than both limits: the time of a client that takes nothing.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.04):
                await more.wait()
        more.set()
        assert await response.read_all(10) == b"ok"
        response.close()


async def test_the_deadline_ends_a_reply_that_nobody_reads() -> None:
    """F44."""
    gone = asyncio.Event()

    async def script(call: Call) -> None:
        await call.request()
        await call.send(CHUNKED + b"2\r\nok\r\n")
        await call.gone()
        gone.set()

    async with connected(script) as upstream:
        deadline = asyncio.get_running_loop().time() + 0.03
        response = await upstream.head(timeouts=within(deadline_s=deadline))
        response.begin()
        async with asyncio.timeout(2):
            await gone.wait()
        assert await response.read() == b"ok"
        with pytest.raises(UpstreamTimeout) as caught:
            await response.read()
        assert caught.value.phase == "total"
        response.close()


async def test_the_timer_of_an_earlier_exchange_does_not_end_a_later_one() -> None:
    async def script(call: Call) -> None:
        while await call.request():
            await call.send(OK if b"fast" in call.body else CHUNKED)

    async with connected(script) as upstream:
        response = await upstream.head(post(b"fast"), within(first_event_s=0.01))
        response.close()
        response = await upstream.head(post(), within(first_event_s=0.05))
        started = asyncio.get_running_loop().time()
        with pytest.raises(UpstreamTimeout):
            await response.read()
        assert asyncio.get_running_loop().time() - started > 0.03
        response.close()


async def test_memory_stays_bounded_while_the_reader_stands_still() -> None:
    """F24."""
    written = 0

    async def script(call: Call) -> None:
        nonlocal written
        await call.request()
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 52428800\r\n\r\n")
        for _ in range(800):
            await call.send(b"x" * 65536)
            written += 65536
        await call.gone()

    async with connected(script) as upstream:
        response = await upstream.head()
        response.begin()
        while not response.is_paused:
            await asyncio.sleep(0)
        for _ in range(200):
            await asyncio.sleep(0)
        assert response.buffered <= 1024 * 1024
        assert written < 52428800
        size = 0
        while piece := await response.read():
            size += len(piece)
        assert size == 52428800
        response.close()
        assert upstream.keeper.released == [upstream.connection]


async def test_a_connection_given_up_while_connecting_is_closed_when_it_comes() -> None:
    keeper, transport = Keeper(), Recorder()
    connection = Connection(asyncio.get_running_loop(), keeper, 0.0)
    connection.abort()
    connection.connection_made(transport)
    assert transport.is_aborted
    assert keeper.discarded == [connection]


async def test_a_cancelled_reader_leaves_nothing_behind() -> None:
    """F6, F12."""
    async with connected(says(CHUNKED)) as upstream:
        response = await upstream.head()
        reader = spawn(response.read(), "reader")
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.wait([reader])
        response.close()
        assert upstream.keeper.discarded == [upstream.connection]
