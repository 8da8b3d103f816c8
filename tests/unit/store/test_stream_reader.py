"""Where a process stands in a stream: what a real server does to it, over one connection at a time."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from gateway.core.pipeline import spawn
from gateway.store.connect import AnyConnection, Opener, parse
from gateway.store.records import MOST_TOLD
from gateway.store.stream_reader import StreamReader
from tests.redis_servers import RedisServer, needs_redis
from tests.unit.store.record_bench import Listener, numbered
from tests.unit.store.redis_bench import until

pytestmark = [needs_redis, pytest.mark.anyio]

KEY = "{gw}:cache:log:t"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server for all tests of this file."""
    made = RedisServer()
    asyncio.run(made.start())
    yield made
    made.remove()


@pytest.fixture
async def empty(server: RedisServer, anyio_backend: str) -> RedisServer:
    """The server, with nothing on it."""
    await server.run("FLUSHALL")
    return server


class Process:
    """A reader, who is told, and its task."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.listener = Listener()
        self.caught_up = asyncio.Event()
        self.reader = StreamReader(KEY, self.listener.apply, self.listener.reset, self.caught_up)
        self.reading: asyncio.Task[str] | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[AnyConnection]:
        """Over a new connection."""
        connection = await Opener(parse(self.server.url), KEY, 1.0)()
        try:
            await self.reader.find_place(connection)
            self.reading = spawn(self.reader.read_on(connection), "reading")
            yield connection
        finally:
            assert self.reading is not None
            self.reading.cancel()
            await asyncio.wait((self.reading,))
            await connection.disconnect(nowait=True)

    async def has_told(self, *records: bytes) -> None:
        """Return when exactly these were told."""
        await until(lambda: self.listener.records == list(records))


async def add(server: RedisServer, *records: bytes, name: str = "*") -> list[bytes]:
    """Append; their ids."""
    return [await server.run("XADD", KEY, name, "r", record) for record in records]


@pytest.fixture
def process(empty: RedisServer) -> Process:
    """A reader that is not connected."""
    return Process(empty)


async def test_what_is_kept_is_told_and_then_what_comes(process: Process, empty: RedisServer) -> None:
    await add(empty, b"a", b"b")
    async with process.connected():
        await process.caught_up.wait()
        assert process.listener.records == [b"a", b"b"]
        await add(empty, b"c")
        await process.has_told(b"a", b"b", b"c")
    assert process.listener.resets == 0


async def test_a_long_log_is_told_in_batches(process: Process, empty: RedisServer) -> None:
    wanted = numbered(MOST_TOLD * 2)
    await add(empty, *wanted)
    async with process.connected():
        await process.caught_up.wait()
    assert process.listener.records == wanted
    assert process.listener.batches == [MOST_TOLD, MOST_TOLD]


async def test_a_new_connection_goes_on_where_the_last_one_stood(process: Process, empty: RedisServer) -> None:
    await add(empty, b"a")
    async with process.connected():
        await process.has_told(b"a")
    await add(empty, b"b")
    async with process.connected():
        await process.has_told(b"a", b"b")
    assert process.listener.resets == 0


async def test_a_stream_that_was_emptied_meanwhile_is_told_anew(process: Process, empty: RedisServer) -> None:
    await add(empty, b"a")
    async with process.connected():
        await process.has_told(b"a")
    await empty.run("FLUSHALL")
    await add(empty, b"b")
    async with process.connected():
        await process.has_told(b"b")
    assert process.listener.resets == 1


async def test_an_older_replica_has_not_got_what_was_told(process: Process, empty: RedisServer) -> None:
    """Its newest record is older than the one told last; and then it goes on."""
    await add(empty, b"a", b"b")
    async with process.connected():
        await process.has_told(b"a", b"b")
    (first, _), (second, _) = process.listener.told
    await empty.run("FLUSHALL")
    await add(empty, b"a", name=first)
    async with process.connected():
        await process.has_told(b"a")
    assert process.listener.resets == 1
    # And one whose newest is newer, but that never had `b`.
    await add(empty, b"c")
    process.listener.told.append((second, b"b"))
    process.reader._last = (int(second.partition("-")[0]), int(second.partition("-")[2]))
    async with process.connected():
        await process.has_told(b"a", b"c")
    assert process.listener.resets == 2


async def test_a_server_that_is_emptied_under_a_living_connection(process: Process, empty: RedisServer) -> None:
    async with process.connected():
        await process.caught_up.wait()
        await add(empty, b"a")
        await process.has_told(b"a")
        await empty.run("FLUSHALL")
        await until(lambda: process.listener.resets)
        assert process.listener.told == []
        await add(empty, b"b")
        await process.has_told(b"b")
        assert process.listener.resets == 1


async def test_a_server_that_is_emptied_and_filled_again_at_once(process: Process, empty: RedisServer) -> None:
    await add(empty, b"a")
    async with process.connected():
        await process.has_told(b"a")
        await empty.run("FLUSHALL")
        await add(empty, b"b", b"c")
        await process.has_told(b"b", b"c")
        await add(empty, b"d")
        await process.has_told(b"b", b"c", b"d")
    assert process.listener.resets == 1


async def test_a_stream_that_is_younger_than_its_place_is_told_anew(process: Process, empty: RedisServer) -> None:
    """As after a failover to a server whose clock is behind: by its ids nothing new would ever come."""
    await add(empty, b"a", name="9000000000000-1")
    async with process.connected():
        await process.has_told(b"a")
        await empty.run("FLUSHALL")
        await add(empty, b"b", name="5-1")
        await process.has_told(b"b")
    assert process.listener.resets == 1


async def test_a_reader_that_is_paused_tells_nothing_and_knows_how_far_it_is_behind(
    process: Process, empty: RedisServer
) -> None:
    await add(empty, b"a", name="1000-0")
    async with process.connected():
        await process.has_told(b"a")
        process.reader.pause()
        await add(empty, b"b", name="3500-0")
        await until(lambda: process.reader.lag_s == 2.5)
        assert process.listener.records == [b"a"]
        process.reader.resume()
        await process.has_told(b"a", b"b")
        await until(lambda: process.reader.lag_s == 0.0)
    assert process.listener.resets == 0


async def test_a_paused_reader_that_was_told_nothing_is_as_far_behind_as_the_log_is_long(
    process: Process, empty: RedisServer
) -> None:
    process.reader.pause()
    async with process.connected():
        await until(lambda: process.reader.lag_s == 0.0)
        await add(empty, b"a", name="1000-0")
        await add(empty, b"b", name="2000-0")
        await until(lambda: process.reader.lag_s == 1.0)


async def test_what_was_trimmed_before_it_was_told_is_missed_by_telling_anew(
    process: Process, empty: RedisServer
) -> None:
    await add(empty, b"a", b"b")
    async with process.connected():
        await process.has_told(b"a", b"b")
        process.reader.pause()
        await add(empty, b"c", b"d", b"e")
        await empty.run("XTRIM", KEY, "MAXLEN", 2)
        process.reader.resume()
        await process.has_told(b"d", b"e")
        assert process.listener.resets == 1


async def test_trimming_what_was_told_is_not_noticed(process: Process, empty: RedisServer) -> None:
    await add(empty, b"a")
    async with process.connected():
        await process.has_told(b"a")
        for number in range(2):
            await add(empty, b"%d" % number)
            await until(lambda last=b"%d" % number: process.listener.records[-1] == last)  # type: ignore[misc]
            await until(lambda: process.reader._anchor == process.reader._last)
            await empty.run("XTRIM", KEY, "MAXLEN", 1)
    assert process.listener.resets == 0
    assert len(process.listener.told) == 3


async def test_deleted_records_in_the_middle_are_passed_over(process: Process, empty: RedisServer) -> None:
    first, second, third = await add(empty, b"a", b"b", b"c")
    await empty.run("XDEL", KEY, second)
    async with process.connected():
        await process.has_told(b"a", b"c")
        await add(empty, b"d")
        await process.has_told(b"a", b"c", b"d")
        await empty.run("XDEL", KEY, third)
        await until(lambda: process.reader._anchor == process.reader._last)
    async with process.connected():
        await add(empty, b"e")
        await process.has_told(b"a", b"c", b"d", b"e")
    assert process.listener.resets == 0
    assert first == process.listener.told[0][0].encode()


async def test_a_deletion_of_the_record_told_last_is_harmless(process: Process, empty: RedisServer) -> None:
    _, last = await add(empty, b"a", b"b")
    async with process.connected():
        await process.has_told(b"a", b"b")
        await until(lambda: process.reader._anchor == process.reader._last)
        await empty.run("XDEL", KEY, last)
        await add(empty, b"c")
        await process.has_told(b"a", b"b", b"c")
        assert process.listener.resets == 0


async def test_a_log_of_which_everything_is_deleted_is_forgotten_once(process: Process, empty: RedisServer) -> None:
    ids = await add(empty, b"a", b"b")
    async with process.connected():
        await process.has_told(b"a", b"b")
        await empty.run("XDEL", KEY, *ids)
        await process.has_told()
        await add(empty, b"c")
        await process.has_told(b"c")
        await until(lambda: process.reader._anchor == process.reader._last)
        assert process.listener.resets == 1


async def test_a_record_that_is_none_is_passed_over(process: Process, empty: RedisServer) -> None:
    await empty.run("XADD", KEY, "*", "other", b"x")
    await add(empty, b"a")
    await empty.run("XADD", KEY, "*", "r", b"x", "s", b"y")
    async with process.connected():
        await process.has_told(b"a")
        await empty.run("XADD", KEY, "*", "other", b"x")
        await add(empty, b"b")
        await process.has_told(b"a", b"b")
    assert process.listener.resets == 0


async def test_a_key_that_is_no_stream_ends_it_with_a_reason(process: Process, empty: RedisServer) -> None:
    async with process.connected():
        await process.caught_up.wait()
        await empty.run("SET", KEY, "x")
        assert process.reading is not None
        assert "WRONGTYPE" in await process.reading
    assert process.listener.told == []


async def test_a_server_that_stops_answering_is_noticed(process: Process, empty: RedisServer) -> None:
    """F67."""
    async with process.connected():
        await process.caught_up.wait()
        empty.freeze()
        try:
            assert process.reading is not None
            assert "TimeoutError" in await asyncio.wait_for(process.reading, 5.0)
        finally:
            empty.thaw()
