"""A log in Redis, against a real one: as every log, and what only a fleet has."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from gateway.store import redis_records
from gateway.store.redis import RedisSettings
from gateway.store.redis_records import RedisRecords
from tests.redis_servers import LossyProxy, RedisServer, needs_redis, redis_cluster, redis_sentinel, redis_server
from tests.unit.store.record_bench import Listener, RecordsBehaviour, append_all, numbered
from tests.unit.store.redis_bench import LONG_S, until

pytestmark = [needs_redis, pytest.mark.anyio]

KEY = "{gw}:cache:log:t"
_seeds = itertools.count(1)


@dataclass
class Process:
    """One process's log, and who is told there."""

    url: str
    timeout_s: float = LONG_S
    max_records: int = 10_000
    listener: Listener = field(default_factory=Listener)
    records: RedisRecords = field(init=False)

    def __post_init__(self) -> None:
        settings = RedisSettings(self.url, timeout_s=self.timeout_s)
        self.records = RedisRecords(settings, "t", self.max_records, random.Random(next(_seeds)))

    async def start(self) -> None:
        await self.records.start(lambda batch: self.listener.apply(batch), self.listener.reset)

    async def has_told(self, *records: bytes) -> None:
        """Return when exactly these were told."""
        await until(lambda: self.listener.records == list(records))

    async def is_live(self) -> None:
        await until(lambda: self.records.is_live)

    async def is_away(self) -> None:
        await until(lambda: not self.records.is_live)


@asynccontextmanager
async def opened(url: str, timeout_s: float = LONG_S, max_records: int = 10_000) -> AsyncIterator[Process]:
    """A started one."""
    process = Process(url, timeout_s, max_records)
    await process.start()
    try:
        yield process
    finally:
        await process.records.aclose()


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
    if server.process is None:
        await server.start()
    await server.run("FLUSHALL")
    return server


@pytest.fixture
async def one(empty: RedisServer) -> AsyncIterator[Process]:
    """A process."""
    async with opened(empty.url) as made:
        yield made


@pytest.fixture
async def other(empty: RedisServer) -> AsyncIterator[Process]:
    """Another one."""
    async with opened(empty.url) as made:
        yield made


class TestRedis(RecordsBehaviour):
    """As every log."""

    @pytest.fixture
    def records(self, one: Process) -> RedisRecords:
        """The log."""
        return one.records

    @pytest.fixture
    def listener(self, one: Process) -> Listener:
        """Who is told."""
        return one.listener


async def test_every_process_is_told_the_same_in_the_same_order(one: Process, other: Process) -> None:
    for number in range(100):
        one.records.append(b"one %d" % number)
        other.records.append(b"other %d" % number)
        if number % 10 == 0:
            await asyncio.sleep(0)
    await until(lambda: len(one.listener.told) == len(other.listener.told) == 200)
    assert one.listener.told == other.listener.told
    assert [each for each in one.listener.records if each.startswith(b"one")] == [b"one %d" % n for n in range(100)]


async def test_who_starts_later_is_told_everything_before_the_start_is_over(one: Process, empty: RedisServer) -> None:
    await append_all(one.records, one.listener, numbered(1000))
    async with opened(empty.url) as late:
        assert late.listener.told == one.listener.told
        assert late.records.lag_s == 0.0


async def test_what_was_appended_is_written_before_the_end(empty: RedisServer) -> None:
    async with opened(empty.url) as process:
        for record in numbered(500):
            process.records.append(record)
    assert process.records.dropped == 0
    assert await empty.run("XLEN", KEY) == 500


async def test_the_log_is_bounded_and_ends_when_nobody_uses_it(empty: RedisServer) -> None:
    async with opened(empty.url, max_records=200) as process:
        await append_all(process.records, process.listener, numbered(1000))
        assert 200 <= await empty.run("XLEN", KEY) <= 300
        assert 0 < await empty.run("TTL", KEY) <= redis_records.KEEP_S
        assert await empty.run("KEYS", "*") == [KEY.encode()]


async def test_more_than_can_wait_is_dropped(one: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_records, "MOST_WAITING", 10)
    for record in numbered(15):
        one.records.append(record)
    await one.has_told(*numbered(10))
    assert one.records.dropped == 5


async def test_what_one_deletes_is_gone_from_redis(one: Process, other: Process, empty: RedisServer) -> None:
    await append_all(one.records, one.listener, numbered(600))
    await until(lambda: len(other.listener.told) == 600)
    other.records.delete([name for name, _ in other.listener.told[:599]])
    await until(lambda: not other.records.deleting)
    left = await empty.run("XRANGE", KEY, "-", "+")
    assert len(left) == 1
    async with opened(empty.url) as late:
        assert late.listener.records == [b"000599"]
    one.records.append(b"new")
    await until(lambda: one.listener.records[-1:] == [b"new"] == other.listener.records[-1:])


async def test_a_redis_that_is_away_at_the_start_is_waited_for_in_the_background(empty: RedisServer) -> None:
    empty.kill()
    async with opened(empty.url) as process:
        assert not process.records.is_live
        assert process.records.last_error
        process.records.append(b"lost")
        assert process.records.dropped == 1
        await empty.start()
        await process.is_live()
        process.records.append(b"a")
        await process.has_told(b"a")
        assert process.listener.resets == 0


async def test_a_restart_that_forgets_is_a_log_that_begins_anew(one: Process, empty: RedisServer) -> None:
    one.records.append(b"a")
    await one.has_told(b"a")
    empty.kill()
    await one.is_away()
    assert one.listener.records == [b"a"]
    one.records.append(b"lost")
    await empty.start()
    await one.is_live()
    await one.has_told()
    assert one.listener.resets == 1
    one.records.append(b"b")
    await one.has_told(b"b")
    assert one.records.dropped == 1


async def test_a_restart_that_remembers_is_nothing_but_a_gap() -> None:
    async with redis_server("--appendonly", "yes", "--appendfsync", "always") as server, opened(server.url) as one:
        await append_all(one.records, one.listener, numbered(100))
        told = list(one.listener.told)
        server.kill()
        await one.is_away()
        await server.start()
        await one.is_live()
        one.records.append(b"b")
        await until(lambda: len(one.listener.told) == 101)
        assert one.listener.told[:100] == told
        assert one.listener.resets == 0


async def test_an_emptied_redis_is_a_log_that_begins_anew(one: Process, other: Process, empty: RedisServer) -> None:
    one.records.append(b"a")
    await one.has_told(b"a")
    await other.has_told(b"a")
    await empty.run("FLUSHALL")
    await until(lambda: one.listener.resets == other.listener.resets == 1)
    other.records.append(b"b")
    await one.has_told(b"b")
    await other.has_told(b"b")
    assert one.records.dropped == other.records.dropped == 0


async def test_a_process_that_was_slower_than_the_trimming_is_told_what_is_left(
    other: Process, empty: RedisServer
) -> None:
    async with opened(empty.url, max_records=100) as one:
        one.records.append(b"a")
        await other.has_told(b"a")
        other.records.pause()
        wanted = numbered(1000)
        await append_all(one.records, one.listener, wanted)
        assert other.listener.records == [b"a"]
        await until(lambda: other.records.lag_s > 0.0)
        other.records.resume()
        await until(lambda: other.listener.records[-1:] == wanted[-1:] and other.listener.resets)
        assert other.records.lag_s == 0.0
        left = await empty.run("XRANGE", KEY, "-", "+")
        assert other.listener.told == [(name.decode(), fields[b"r"]) for name, fields in left]


async def test_a_redis_that_hangs_holds_up_nobody(empty: RedisServer) -> None:
    """F67."""
    async with opened(empty.url, timeout_s=0.05) as one:
        one.records.append(b"a")
        await one.has_told(b"a")
        empty.freeze()
        try:
            loop = asyncio.get_running_loop()
            begun_s = loop.time()
            for record in numbered(100):
                one.records.append(record)
            one.records.delete([one.listener.id_of(b"a")])
            assert loop.time() - begun_s < 0.05
            await one.is_away()
            assert loop.time() - begun_s < 1.5
            assert one.records.dropped == 100
            begun_s = loop.time()
            async with opened(empty.url) as late:
                assert loop.time() - begun_s < 2.5
                assert not late.records.is_live
                begun_s = loop.time()
            assert loop.time() - begun_s < 1.5
        finally:
            empty.thaw()
        await one.is_live()
        await until(lambda: not one.records.deleting)
        one.records.append(b"b")
        await until(lambda: b"b" in one.listener.records)


async def test_an_end_does_not_wait_for_a_redis_that_hangs(empty: RedisServer) -> None:
    async with opened(empty.url) as one:
        empty.freeze()
        one.records.append(b"a")
        try:
            async with asyncio.timeout(4 * redis_records.CLOSE_S):
                await one.records.aclose()
        finally:
            empty.thaw()
        assert one.records.dropped == 1


async def test_a_start_is_over_when_the_store_does_not_answer(
    empty: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_records, "START_S", 0.01)
    empty.freeze()
    try:
        async with opened(empty.url) as process:
            assert not process.records.is_live
            assert process.records.last_error == ""
    finally:
        empty.thaw()


async def test_a_deletion_waits_for_a_redis_that_is_away() -> None:
    async with redis_server("--appendonly", "yes", "--appendfsync", "always") as server, opened(server.url) as one:
        await append_all(one.records, one.listener, numbered(3))
        server.kill()
        await one.is_away()
        one.records.delete([one.listener.id_of(b"000001")])
        assert one.records.deleting == 1
        await server.start()
        await until(lambda: not one.records.deleting)
        left = await server.run("XRANGE", KEY, "-", "+")
        assert [fields[b"r"] for _, fields in left] == [b"000000", b"000002"]


async def test_deletions_that_wait_are_bounded(
    empty: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redis_records, "MOST_DELETES", 3)
    empty.kill()
    async with opened(empty.url) as one:
        one.records.delete(["1-0", "2-0", "3-0", "4-0", "5-0"])
        assert one.records.deleting == 3
        assert "some stays" in caplog.text


async def test_a_lost_answer_makes_nothing_come_twice(empty: RedisServer) -> None:
    """F72: whether it was carried out is not known, so it is not sent again."""
    async with LossyProxy(empty.port) as proxy, opened(proxy.url, timeout_s=0.2) as one, opened(empty.url) as other:
        for number in range(20):
            await one.is_live()
            if number % 4 == 0:
                proxy.drops = 1
            one.records.append(b"%d" % number)
            await asyncio.sleep(0.005)
        proxy.drops = 0
        await one.is_live()
        one.records.append(b"last")
        await until(lambda: other.listener.records[-1:] == [b"last"] == one.listener.records[-1:])
        assert one.listener.told == other.listener.told
        assert len(set(one.listener.records)) == len(one.listener.records)
        assert len(one.listener.records) + one.records.dropped >= 21
        assert one.listener.resets == 0


async def test_a_full_redis_takes_no_record_but_is_there(one: Process, empty: RedisServer) -> None:
    one.records.append(b"a")
    await one.has_told(b"a")
    await empty.run("CONFIG", "SET", "maxmemory", 1)
    try:
        one.records.append(b"b")
        one.records.delete([one.listener.id_of(b"a")])
        await until(lambda: one.records.dropped == 1 and not one.records.deleting)
        assert one.records.is_live
        assert await empty.run("XLEN", KEY) == 0
    finally:
        await empty.run("CONFIG", "SET", "maxmemory", 0)


async def test_a_server_that_may_not_write_is_none(one: Process, empty: RedisServer) -> None:
    """After a failover the former master is a replica: READONLY has to lead to the new one."""
    await empty.run("REPLICAOF", "127.0.0.1", 1)
    try:
        await one.is_live()
        one.records.append(b"a")
        await until(lambda: one.records.dropped == 1)
        await until(lambda: one.records.last_error)
    finally:
        await empty.run("REPLICAOF", "NO", "ONE")
    async with asyncio.timeout(LONG_S):
        while not one.listener.told:
            one.records.append(b"b")
            await asyncio.sleep(0.01)


async def test_a_key_that_is_something_else_is_no_log(empty: RedisServer) -> None:
    await empty.run("SET", KEY, "x")
    async with opened(empty.url) as one:
        assert not one.records.is_live
        assert "WRONGTYPE" in one.records.last_error
        await empty.run("DEL", KEY)
        await one.is_live()


async def test_a_failover_goes_on_with_what_the_replica_had() -> None:
    async with (
        redis_server() as master,
        redis_server("--replicaof", "127.0.0.1", str(master.port)) as replica,
        redis_sentinel(master, "gw") as port,
        opened(f"redis+sentinel://127.0.0.1:{port}/gw") as one,
    ):
        await append_all(one.records, one.listener, numbered(10))
        async with asyncio.timeout(LONG_S):
            while await replica.run("XLEN", KEY) != 10:
                await asyncio.sleep(0.01)
        master.kill()
        await one.is_away()
        async with asyncio.timeout(20):
            while not one.records.is_live:
                await asyncio.sleep(0.01)
        one.records.append(b"b")
        await one.has_told(*numbered(10), b"b")
        assert one.listener.resets == 0
        assert await replica.run("XLEN", KEY) == 11


async def test_it_works_on_a_cluster() -> None:
    async with redis_cluster() as servers, opened(f"redis+cluster://127.0.0.1:{servers[0].port}") as one:
        one.records.append(b"a")
        await one.has_told(b"a")
        one.records.delete([one.listener.id_of(b"a")])
        await until(lambda: not one.records.deleting)


async def test_an_idle_connection_is_kept(empty: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_records, "_HEARTBEAT_S", 0.01)
    async with opened(empty.url) as one:
        await asyncio.sleep(0.1)
        assert one.records.is_live
        one.records.append(b"a")
        await one.has_told(b"a")


async def test_what_is_appended_before_the_start_or_after_the_end_is_dropped(empty: RedisServer) -> None:
    process = Process(empty.url)
    process.records.append(b"a")
    await process.records.aclose()
    await process.start()
    await process.records.aclose()
    process.records.append(b"b")
    assert process.records.dropped == 2
    assert await empty.run("XLEN", KEY) == 0


async def test_one_who_raises_when_told_does_not_leave_a_log_that_seems_alive(
    empty: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    process = Process(empty.url)

    def fail() -> None:
        raise ValueError("a fault of the fold")

    process.listener.at_first = fail
    await process.start()
    process.records.append(b"a")
    await process.is_away()
    assert "a fault of the fold" in caplog.text
    with suppress(ValueError):
        await process.records.aclose()


def test_a_url_that_is_none_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="no known scheme") as caught:
        Process("http://user:secret@host")
    assert "secret" not in str(caught.value)
