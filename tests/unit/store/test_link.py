"""One connection, one script, one deadline."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.store.connect import Opener, parse
from gateway.store.link import Link, Script, Unreachable, load_script
from tests.redis_servers import LossyProxy, RedisServer, free_port, needs_redis, redis_server

pytestmark = [needs_redis, pytest.mark.anyio]

_TEXT = b"redis.call('INCR', KEYS[1] .. ':n') return ARGV[1]"
ECHO = Script(_TEXT, hashlib.sha1(_TEXT).hexdigest())


@asynccontextmanager
async def link_to(url: str, timeout_s: float = 2.0, script: Script = ECHO) -> AsyncIterator[Link]:
    """A connected link."""
    link = Link(Opener(parse(url), "{gw}", 1.0), script, "{gw}", timeout_s)
    await link.connect(1.0)
    try:
        yield link
    finally:
        await link.aclose()


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


async def test_a_question_is_answered(server: RedisServer) -> None:
    async with link_to(server.url) as link:
        assert [await link.ask(text) for text in (b"a", b"\x00\xff\r\n", b"x" * 100_000)] == [
            b"a",
            b"\x00\xff\r\n",
            b"x" * 100_000,
        ]
        await link.connect(1.0)


async def test_a_script_that_is_not_known_is_sent_once(server: RedisServer) -> None:
    """F69."""
    script = load_script()
    await server.run("SCRIPT", "LOAD", script.text)
    assert await server.run("SCRIPT", "EXISTS", script.sha1) == [1]
    async with link_to(server.url, script=Script(b"return ARGV[1]", "0" * 40)) as link:
        await link.ask(b"a")
        assert link.round_trips == 2


async def test_a_server_that_was_restarted_while_nobody_asked_was_not_away(server: RedisServer) -> None:
    async with link_to(server.url) as link:
        await link.ask(b"a")
        server.kill()
        await server.start()
        assert await link.ask(b"b") == b"b"


async def test_an_answer_that_is_late_is_nobodys(server: RedisServer) -> None:
    """F66, F72: the next question gets its own answer."""
    async with LossyProxy(server.port) as proxy, link_to(proxy.url, timeout_s=0.1) as link:
        proxy.is_mute = True
        begun = time.monotonic()
        with pytest.raises(Unreachable, match="no answer in time"):
            await link.ask(b"late")
        assert 0.1 <= time.monotonic() - begun <= 1.0
        proxy.is_mute = False
        await link.connect(1.0)
        assert await link.ask(b"mine") == b"mine"


async def test_nobody_there_is_said_at_once() -> None:
    link = Link(Opener(parse(f"redis://127.0.0.1:{free_port()}"), "{gw}", 1.0), ECHO, "{gw}", 1.0)
    with pytest.raises(Unreachable, match="ConnectionError"):
        await link.connect(1.0)
    with pytest.raises(Unreachable, match="ConnectionError"):
        await link.ask(b"a")


async def test_a_question_that_is_cancelled_closes_its_connection(server: RedisServer) -> None:
    """F72."""
    async with link_to(server.url) as link:
        for n in range(50):
            asking = asyncio.ensure_future(link.ask(b"cancelled"))
            for _ in range(n % 5):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await link.connect(1.0)
            assert await link.ask(b"%d" % n) == b"%d" % n


async def test_a_cut_line_is_tried_again_once(server: RedisServer) -> None:
    """F68: so the question may be carried out twice, and has to be known when it comes again."""
    async with LossyProxy(server.port) as proxy, link_to(proxy.url) as link:
        await link.ask(b"a")
        before = int(await server.run("GET", "{gw}:n"))
        proxy.drops = 1
        assert await link.ask(b"b") == b"b"
        assert int(await server.run("GET", "{gw}:n")) == before + 2
        proxy.drops = 2
        with pytest.raises(Unreachable):
            await link.ask(b"c")


async def test_a_loop_that_was_busy_still_looks_for_the_answer(server: RedisServer) -> None:
    async with link_to(server.url, timeout_s=0.05) as link:
        await link.ask(b"warm")
        asking = asyncio.ensure_future(link.ask(b"a"))
        for _ in range(3):
            await asyncio.sleep(0)
        begun = time.perf_counter()
        while time.perf_counter() - begun < 0.1:
            pass
        assert await asking == b"a"


async def test_an_error_of_the_script_ends_the_connection(server: RedisServer) -> None:
    async with link_to(server.url, script=Script(b"return redis.call('NOPE')", "0" * 40)) as link:
        with pytest.raises(Unreachable, match="Unknown Redis command"):
            await link.ask(b"a")
        with pytest.raises(Unreachable):
            await link.ask(b"a")


async def test_a_connection_is_waited_for_within_bounds(server: RedisServer) -> None:
    server.freeze()
    link = Link(Opener(parse(server.url.replace("//", "//:secret@")), "{gw}", 1.0), ECHO, "{gw}", 1.0)
    with pytest.raises(Unreachable) as caught:
        await link.connect(0.1)
    assert "secret" not in str(caught.value)
    await link.aclose()
    server.thaw()


def test_the_script_is_one_of_all_parts() -> None:
    script = load_script()
    assert script == load_script()
    assert script.text.index(b"local root = KEYS[1]") < script.text.index(b"local HANDLERS")
    assert len(script.sha1) == 40
