"""Stored replies in Redis, against a real one: as every store of them, and what only a fleet has."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.core.clock import SystemClock
from gateway.core.errors import StoreUnavailable
from gateway.store import redis_blobs
from gateway.store.blobs import Entry, Found, entry_scope, key_scope
from gateway.store.redis import RedisSettings
from gateway.store.redis_blobs import RedisBlobs
from tests.redis_servers import LossyProxy, RedisServer, needs_redis, redis_cluster
from tests.unit.store.blob_behaviour import KEY, OTHER_KEY, SCOPES, BlobBehaviour, entry, has, stored
from tests.unit.store.redis_bench import LONG_S, until

pytestmark = [needs_redis, pytest.mark.anyio]

_seeds = itertools.count(1)


@dataclass
class RedisShelf:
    """One process's view of a Redis. Time passes by itself there."""

    url: str
    timeout_s: float = LONG_S
    max_bytes: int = 1 << 24
    blobs: RedisBlobs = field(init=False)

    def __post_init__(self) -> None:
        settings = RedisSettings(self.url, timeout_s=self.timeout_s)
        self.blobs = RedisBlobs(settings, self.max_bytes, SystemClock(), random.Random(next(_seeds)))

    def wall(self) -> float:
        return SystemClock.wall()

    async def expire(self, ttl_s: float) -> None:
        await asyncio.sleep(ttl_s + 0.01)


@asynccontextmanager
async def opened(server: RedisServer | LossyProxy, **changes: Any) -> AsyncIterator[RedisShelf]:
    """A started one."""
    shelf = RedisShelf(server.url, **changes)
    await shelf.blobs.start()
    try:
        yield shelf
    finally:
        await shelf.blobs.aclose()


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
async def shelf(empty: RedisServer) -> AsyncIterator[RedisShelf]:
    """One process."""
    async with opened(empty) as made:
        yield made


@pytest.fixture
async def other(empty: RedisServer) -> AsyncIterator[RedisShelf]:
    """Another process."""
    async with opened(empty) as made:
        yield made


class TestRedis(BlobBehaviour):
    """As every store of replies."""


async def test_every_process_finds_what_one_has_stored(shelf: RedisShelf, other: RedisShelf) -> None:
    made = await stored(shelf)
    assert (await other.blobs.find(KEY, ())).entry == made
    assert shelf.blobs.is_shared


async def test_a_purge_is_seen_by_another_process_at_once(shelf: RedisShelf, other: RedisShelf) -> None:
    """Nothing is tailed or told: every hit reads the epochs with the body."""
    await stored(shelf)
    assert await has(other)
    await shelf.blobs.purge(SCOPES[1])
    assert not await has(other)


async def test_a_body_that_is_still_there_after_a_purge_is_a_miss(shelf: RedisShelf, empty: RedisServer) -> None:
    await stored(shelf)
    await shelf.blobs._ask((redis_blobs._BUMP, SCOPES[1]))
    assert await empty.run("EXISTS", "{gw}:cache:e:" + KEY.hex()) == 1
    assert not await has(shelf)
    assert await empty.run("EXISTS", "{gw}:cache:e:" + KEY.hex()) == 0


async def test_one_process_of_the_fleet_leads(shelf: RedisShelf, other: RedisShelf) -> None:
    assert (await shelf.blobs.find(KEY, SCOPES, 60.0)).leads
    assert (await shelf.blobs.find(KEY, SCOPES, 60.0)).leads
    assert not (await other.blobs.find(KEY, SCOPES, 60.0)).leads
    assert (await other.blobs.find(KEY, SCOPES)).leads
    assert (await other.blobs.find(OTHER_KEY, SCOPES, 60.0)).leads


async def test_a_lease_ends_with_the_reply_by_its_owner_alone_or_by_its_time(
    shelf: RedisShelf, other: RedisShelf
) -> None:
    await shelf.blobs.find(KEY, SCOPES, 60.0)
    await other.blobs.release(KEY)
    assert not (await other.blobs.find(KEY, SCOPES, 60.0)).leads
    await shelf.blobs.release(KEY)
    assert (await other.blobs.find(KEY, SCOPES, 0.05)).leads
    await asyncio.sleep(0.06)
    assert (await shelf.blobs.find(KEY, SCOPES, 60.0)).leads
    await stored(shelf)
    await shelf.blobs.purge(entry_scope(KEY))
    assert (await other.blobs.find(KEY, SCOPES, 60.0)).leads


async def test_everything_in_redis_has_a_time_to_live(shelf: RedisShelf, empty: RedisServer) -> None:
    await stored(shelf)
    await shelf.blobs.find(OTHER_KEY, SCOPES, 60.0)
    await shelf.blobs.purge(key_scope("nobody"))
    await shelf.blobs.purge(entry_scope(OTHER_KEY))
    keys = await empty.run("KEYS", "*")
    assert len(keys) == 7
    for key in keys:
        assert key.startswith(b"{gw}:cache:")
        assert await empty.run("PTTL", key) > 0, key


async def test_the_one_longest_unused_makes_room(empty: RedisServer) -> None:
    async with opened(empty) as measure:
        size_bytes = (await entry(measure)).size_bytes
    async with opened(empty, max_bytes=3 * size_bytes) as shelf:
        keys = [bytes([number]) * 32 for number in range(5)]
        for key in keys:
            await stored(shelf, key)
        assert [await has(shelf, key) for key in keys] == [False, False, True, True, True]
        assert int(await empty.run("GET", "{gw}:cache:bytes")) == 3 * size_bytes
        assert not await shelf.blobs.put(KEY, await entry(shelf, body=bytes(3 * size_bytes)))
        await shelf.blobs.purge(SCOPES[1])
        assert int(await empty.run("GET", "{gw}:cache:bytes")) == 0
        assert await empty.run("EXISTS", "{gw}:cache:used", "{gw}:cache:sizes") == 0


async def test_an_entry_in_use_is_not_the_one_to_go(empty: RedisServer) -> None:
    async with opened(empty) as shelf:
        size_bytes = (await stored(shelf, KEY)).size_bytes
        await stored(shelf, OTHER_KEY)
        # As if both had been stored an hour ago.
        await empty.run("ZADD", "{gw}:cache:used", 1, KEY.hex(), 2, OTHER_KEY.hex())
        assert await has(shelf, KEY)
    async with opened(empty, max_bytes=2 * size_bytes) as shelf:
        await stored(shelf, bytes([7]) * 32)
        assert [await has(shelf, key) for key in (KEY, OTHER_KEY)] == [True, False]


async def test_what_has_ended_by_its_time_is_swept_with_a_purge(shelf: RedisShelf, empty: RedisServer) -> None:
    await stored(shelf, ttl_s=0.01)
    await asyncio.sleep(0.02)
    receipt = await shelf.blobs.purge(SCOPES[1])
    assert receipt.matched == 0
    assert int(await empty.run("GET", "{gw}:cache:bytes")) == 0


async def test_a_server_that_has_lost_its_epochs_finds_nothing_older(shelf: RedisShelf, empty: RedisServer) -> None:
    await stored(shelf)
    await shelf.blobs.purge(key_scope("other"))
    await empty.run("DEL", "{gw}:cache:epochs")
    assert not await has(shelf)
    await stored(shelf)
    assert await has(shelf)


async def test_an_entry_of_another_version_is_none(shelf: RedisShelf, empty: RedisServer) -> None:
    await stored(shelf)
    await empty.run("HSET", "{gw}:cache:e:" + KEY.hex(), "b", b"\x93\x01\x02\x03")
    assert await shelf.blobs.find(KEY, SCOPES) == Found(None, None)


@pytest.mark.parametrize("words", [("HSET", "s", b"\xc1"), ("HSET", "s", b"\x01"), ("SET",)])
async def test_a_damaged_entry_harms_nobody_else_and_goes(
    shelf: RedisShelf, empty: RedisServer, words: tuple[str | bytes, ...]
) -> None:
    made = await stored(shelf)
    await stored(shelf, OTHER_KEY, scopes=())
    name = "{gw}:cache:e:" + KEY.hex()
    await empty.run("DEL", name)
    await empty.run(words[0], name, *(words[1:] or (b"x",)))
    found = await asyncio.gather(shelf.blobs.find(KEY, SCOPES), shelf.blobs.find(OTHER_KEY, ()))
    assert found[0] == Found(None, None)
    assert found[1].entry is not None
    assert shelf.blobs.is_up
    assert await shelf.blobs.put(KEY, made)


async def test_a_server_that_may_not_write_is_none(shelf: RedisShelf, empty: RedisServer) -> None:
    """After a failover the former master is a replica: READONLY has to lead to the new one."""
    await shelf.blobs.find(KEY, SCOPES)
    await empty.run("REPLICAOF", "127.0.0.1", 1)
    try:
        assert await shelf.blobs.find(KEY, SCOPES, 1.0) == Found(None, None)
        assert "READONLY" in shelf.blobs.last_error
    finally:
        await empty.run("REPLICAOF", "NO", "ONE")
    await until(lambda: shelf.blobs.is_up)


async def test_many_at_once_share_round_trips(shelf: RedisShelf) -> None:
    await stored(shelf)
    before = shelf.blobs.round_trips
    found = await asyncio.gather(*[shelf.blobs.find(KEY, SCOPES) for _ in range(160)])
    assert all(each.entry is not None for each in found)
    assert shelf.blobs.round_trips - before <= 160 / redis_blobs.MOST_FINDS + 2


async def test_large_bodies_go_one_by_one_and_not_all_at_once(shelf: RedisShelf) -> None:
    body = bytes(1024 * 1024)
    made = [await entry(shelf, bytes([number]) * 32, body=body, scopes=()) for number in range(20)]
    taken = await asyncio.gather(*[shelf.blobs.put(bytes([n]) * 32, each) for n, each in enumerate(made)])
    most = redis_blobs.MOST_WAITING_BYTES // made[0].size_bytes
    assert taken == [True] * most + [False] * (20 - most)
    assert shelf.blobs.size_bytes == 0


async def test_a_script_that_redis_has_forgotten_is_sent_again(shelf: RedisShelf, empty: RedisServer) -> None:
    """F69."""
    await stored(shelf)
    await empty.run("SCRIPT", "FLUSH")
    assert await has(shelf)


async def test_without_redis_everything_is_a_miss_and_nothing_waits(empty: RedisServer) -> None:
    async with opened(empty, timeout_s=0.2) as shelf:
        made = await stored(shelf)
        empty.kill()
        assert await shelf.blobs.find(KEY, SCOPES) == Found(None, None)
        await until(lambda: not shelf.blobs.is_up)
        assert await shelf.blobs.find(KEY, SCOPES, 60.0) == Found(None, None)
        assert not await shelf.blobs.put(KEY, made)
        await shelf.blobs.release(KEY)
        with pytest.raises(StoreUnavailable):
            await shelf.blobs.purge(SCOPES[1])
        assert shelf.blobs.last_error
        await empty.start()
        await until(lambda: shelf.blobs.is_up)
        assert not await has(shelf)
        await stored(shelf)
        assert await has(shelf)


async def test_a_redis_that_hangs_costs_no_more_than_the_timeout(empty: RedisServer) -> None:
    """F67."""
    async with opened(empty, timeout_s=0.05) as shelf:
        empty.freeze()
        try:
            loop = asyncio.get_running_loop()
            begun_s = loop.time()
            found = await asyncio.gather(*[shelf.blobs.find(KEY, SCOPES) for _ in range(100)])
            assert loop.time() - begun_s < 0.5
            assert found == [Found(None, None)] * 100
            await until(lambda: not shelf.blobs.is_up)
        finally:
            empty.thaw()
        await until(lambda: shelf.blobs.is_up)


async def test_a_lost_answer_is_a_miss_and_no_other_questions_answer(empty: RedisServer) -> None:
    """F72."""
    async with LossyProxy(empty.port) as proxy, opened(proxy) as shelf:
        made = await stored(shelf)
        await stored(shelf, OTHER_KEY, body=b"other", scopes=())
        proxy.drops = 1
        found = await asyncio.gather(shelf.blobs.find(KEY, SCOPES), shelf.blobs.find(OTHER_KEY, SCOPES))
        assert found[0].entry in (made, None)
        assert found[1].entry is None or found[1].entry.body == b"other"
        await until(lambda: shelf.blobs.is_up)
        assert (await shelf.blobs.find(KEY, SCOPES)).entry == made


async def test_a_purge_that_is_cut_off_says_that_it_is_not_complete(shelf: RedisShelf) -> None:
    await stored(shelf)
    asked = shelf.blobs._ask

    class Cut(RedisBlobs):
        async def _ask(self, operation: tuple[Any, ...], blob: bytes = b"") -> Any:
            return None if operation[0] == redis_blobs._SWEEP else await asked(operation, blob)

    settings = RedisSettings(shelf.url)
    cut = Cut(settings, 1, SystemClock(), random.Random(1))
    receipt = await cut.purge(SCOPES[1])
    assert not receipt.is_complete
    assert not await has(shelf)


async def test_a_purge_ends_after_its_time(shelf: RedisShelf) -> None:
    class Leaping:
        def __init__(self) -> None:
            self.now_s = 0.0

        def monotonic(self) -> float:
            self.now_s += redis_blobs.SWEEP_S
            return self.now_s

        def wall(self) -> float:
            return 0.0

    for number in range(1000):
        key = number.to_bytes(32, "big")
        await stored(shelf, key, scopes=(key_scope("a"),))
    shelf.blobs._clock = Leaping()
    receipt = await shelf.blobs.purge(key_scope("a"))
    assert not receipt.is_complete
    assert 0 < receipt.matched < 1000


async def test_an_idle_connection_is_looked_at_now_and_then(empty: RedisServer) -> None:
    async with opened(empty, timeout_s=0.2) as shelf:
        empty.kill()
        await until(lambda: not shelf.blobs.is_up)
        assert shelf.blobs.last_error


async def test_it_works_on_a_cluster() -> None:
    async with redis_cluster() as servers, opened(servers[0]) as single:
        url = f"redis+cluster://127.0.0.1:{servers[0].port}"
        shelf = RedisShelf(url)
        await shelf.blobs.start()
        try:
            made = await stored(shelf)
            assert (await shelf.blobs.find(KEY, SCOPES)).entry == made
            assert (await shelf.blobs.purge(SCOPES[1])).matched == 1
        finally:
            await shelf.blobs.aclose()
        assert single.url.startswith("redis://")


async def test_a_client_that_leaves_disturbs_nobody(shelf: RedisShelf) -> None:
    made = await stored(shelf)
    gone = asyncio.create_task(shelf.blobs.find(KEY, SCOPES))
    stays = asyncio.create_task(shelf.blobs.find(KEY, SCOPES))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await stays).entry == made
    assert gone.cancelled() or (await gone).entry == made


def test_a_url_that_is_none_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="no known scheme") as caught:
        RedisShelf("http://user:secret@host")
    assert "secret" not in str(caught.value)


def test_an_entry_is_packed_as_bytes() -> None:
    made = Entry(b"\xff", b"a/b", 1.0, 1.0, "t", None, None, (), None, None, None, "a", "r", ("s",), (2**52,))
    assert redis_blobs._unpack_entry(redis_blobs._pack(made)) == made
