"""The semantic cache of several gateways on one Redis, over a restart, and without its store (F66, F67, F116)."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.harness import Gateway, gateway
from tests.gateway.processes import Serving, serving
from tests.gateway.semantic_world import (
    ENTRY,
    World,
    ask,
    by,
    complain,
    log_of,
    said,
    settled,
    taught,
    told,
    wordings,
    world,
)
from tests.gateway.spending import redis_store
from tests.gateway.test_cache import keyed
from tests.gateway.waiting import until
from tests.redis_servers import RedisServer, needs_redis, redis_server

pytestmark = pytest.mark.anyio

STATIC = "{mode: static, threshold: 0.9}"
VERIFIED = "{max_wrong: 20%}"
THING = "xylophone"
FIRST, AGAIN = wordings(THING)[:2]
GIVEN = "semantic static"


@dataclass
class Fleet:
    """Two gateways, the Redis that they share, and their models."""

    one: Gateway
    other: Gateway
    redis: RedisServer
    found: World

    async def stream(self) -> bytes:
        """All that stands in the log."""
        return repr(await self.redis.run("XRANGE", "{gw}:cache:log:questions", "-", "+")).encode()


@asynccontextmanager
async def fleet(semantic: str, *, timeout: str = "2s", **settings: str) -> AsyncIterator[Fleet]:
    """Two gateways, which share what a tenant may share."""
    async with redis_server() as redis, world() as found:
        config = keyed(by(found, semantic, share="tenant", **settings) + redis_store(timeout) + "\n")
        environ = {"REDIS_URL": redis.url}
        async with gateway(config, environ) as one, gateway(config, environ) as other:
            yield Fleet(one, other, redis, found)


async def told_at(gw: Gateway, text: str, key: str = "ann", **headers: str) -> str:
    """What the cache says to a question."""
    return told(await ask(gw, text, key=key, **headers))


async def comes(gw: Gateway) -> None:
    """Ask, each time in other words, until a gateway gives a reply."""
    left = iter(wordings(THING)[3:])

    async def is_given() -> bool:
        return await told_at(gw, next(left, FIRST)) == GIVEN

    await until(is_given, 5.0)


async def known(gw: Gateway, rows: int) -> None:
    """Wait until a gateway knows so many questions."""

    async def does() -> bool:
        return await gw.metric("gateway_cache_index_rows") == rows

    await until(does, 5.0)


@needs_redis
async def test_what_one_has_learned_the_other_gives() -> None:
    async with fleet(STATIC) as both:
        assert await told_at(both.one, FIRST) == "miss none"
        await known(both.other, 1)
        assert await told_at(both.other, AGAIN) == GIVEN
        assert await told_at(both.other, AGAIN, key="bob") == GIVEN, "of the same tenant"
        assert await told_at(both.other, AGAIN, key="eve") == "miss none"
        assert await both.one.metric("gateway_cache_log_lag_seconds") < 5
        assert await both.one.metric("gateway_cache_log_dropped_total") == 0


@needs_redis
async def test_labels_of_one_open_the_scope_on_the_other() -> None:
    async with fleet(VERIFIED) as both:
        await taught(both.one, key="ann")
        rows = await both.one.metric("gateway_cache_index_rows")
        await known(both.other, int(rows))
        fresh = [text for text in wordings() if text not in both.found.asked]
        assert {await told_at(both.other, text) for text in fresh[:20]} <= {"semantic open", "miss audit"}


@needs_redis
async def test_labels_of_both_count_together() -> None:
    async with fleet(VERIFIED) as both:
        texts = wordings()
        for at, text in enumerate(texts[:50]):
            gw = (both.one, both.other)[at % 2]
            if await told_at(gw, text) in ("semantic open", "miss audit"):
                break
            await settled(gw)
            await known(both.one, at + 1)
            await known(both.other, at + 1)
        assert 34 <= at <= 45, "alone, each would have needed as many"
        found = [await gw.metric("gateway_cache_scopes", route="demo", state="open") for gw in (both.one, both.other)]
        assert found == [1, 1]


@needs_redis
async def test_a_complaint_at_one_about_a_reply_of_the_other_holds_at_both() -> None:
    async with fleet(STATIC) as both:
        await told_at(both.one, FIRST)
        await known(both.other, 1)
        given = await ask(both.one, AGAIN, key="ann")
        assert told(given) == GIVEN
        log_of(both.one).pause()
        assert (await complain(both.other, given.headers[ENTRY], key="eve")).status_code == 404
        assert (await complain(both.other, given.headers[ENTRY], key="bob")).status_code == 200
        assert await told_at(both.one, AGAIN) == "miss gone", "though it has not heard of it"
        log_of(both.one).resume()
        await until(lambda: _is_without(both, FIRST))
        audits = [(await gw.admin.get("/admin/v1/audit")).json()["audit"] for gw in (both.one, both.other)]
        assert [[line["action"] for line in audit] for audit in audits] == [["feedback"]] * 2


PURGES: dict[str, dict[str, str]] = {
    "key": {"key": "ann"},
    "tag": {"tag": "tenant=x"},
    "route": {"route": "demo"},
    "prompt": {"prompt_version": "p@1"},
    "entry": {},
}


@needs_redis
@pytest.mark.parametrize("purge", PURGES)
async def test_a_purge_holds_at_once_on_a_replica_whose_reader_is_stopped(purge: str) -> None:
    """F116: and the question's text leaves the log, too."""
    async with fleet(STATIC) as both:
        prompt = {"x_gateway_prompt": "p@1"}
        assert await told_at(both.one, FIRST, **prompt) == "miss none"
        await known(both.other, 1)
        given = await ask(both.other, AGAIN, key="bob", **prompt)
        assert told(given) == GIVEN
        assert THING.encode() in await both.stream()
        log_of(both.other).pause()
        params = PURGES[purge] or {"entry": given.headers[ENTRY][:64]}
        receipt = await both.one.admin.delete("/admin/v1/cache", params=params)
        assert receipt.json()["is_complete"]
        assert await told_at(both.other, AGAIN, key="bob", **prompt, cache_control="max-age=60") == "miss gone"
        log_of(both.other).resume()
        await until(lambda: _is_without(both, FIRST))
        await both.one.admin.delete("/admin/v1/cache", params={"route": "demo"})
        await until(lambda: _is_without(both, THING))


@needs_redis
async def test_a_purge_at_a_replica_whose_reader_is_stopped_removes_the_text_once_it_reads() -> None:
    async with fleet(STATIC) as both:
        await told_at(both.one, FIRST)
        await known(both.other, 1)
        log_of(both.one).pause()
        assert (await both.one.admin.delete("/admin/v1/cache", params={"key": "ann"})).status_code == 200
        await known(both.other, 0)
        log_of(both.one).resume()
        await until(lambda: _is_without(both, THING))


async def _is_without(both: Fleet, text: str) -> bool:
    return text.encode() not in await both.stream()


@needs_redis
async def test_what_is_purged_at_both_leaves_no_key_with_the_text() -> None:
    """Nor an alias, which leads to the reply of another question."""
    async with fleet(VERIFIED) as both:
        for at, text in enumerate(wordings(THING)[:6]):
            await told_at((both.one, both.other)[at % 2], text)
            await settled(both.one)
            await settled(both.other)
            await known(both.one, at + 1)
            await known(both.other, at + 1)
        await both.other.admin.delete("/admin/v1/cache", params={"tag": "team=red"})
        await known(both.one, 0)
        await known(both.other, 0)
        await until(lambda: _is_without(both, THING))
        for key in await both.redis.run("KEYS", "*"):
            assert THING.encode() not in repr(await _content(both.redis, key)).encode(), key


async def _content(redis: RedisServer, key: bytes) -> Any:
    words = {b"hash": ["HGETALL"], b"string": ["GET"], b"zset": ["ZRANGE"], b"stream": ["XRANGE"], b"list": ["LRANGE"]}
    ends: dict[bytes, list[Any]] = {b"zset": [0, -1], b"stream": ["-", "+"], b"list": [0, -1]}
    kind = await redis.run("TYPE", key)
    return await redis.run(*words[kind], key, *ends.get(kind, []))


@needs_redis
async def test_what_is_flushed_is_a_miss_and_learned_again() -> None:
    """F66: also while the index still knows it."""
    async with fleet(STATIC) as both:
        await told_at(both.one, FIRST)
        await known(both.other, 1)
        log_of(both.other).pause()
        await both.redis.run("FLUSHALL")
        assert await told_at(both.other, AGAIN) == "miss gone"
        log_of(both.other).resume()
        await comes(both.other)
        await comes(both.one)


@needs_redis
async def test_a_log_that_was_trimmed_is_read_anew_and_what_is_gone_is_a_miss() -> None:
    async with fleet(STATIC) as both:
        things = ["password", "bicycle", "kettle", "radio"]
        for thing in things:
            assert await told_at(both.one, wordings(thing)[0]) in ("miss none", "miss far")
        await known(both.other, 4)
        await both.redis.run("XTRIM", "{gw}:cache:log:questions", "MAXLEN", 2)
        # Both notice at their next look, a second after at most, or when something comes.
        await known(both.one, 2)
        await known(both.other, 2)
        answers = [await told_at(both.other, wordings(thing)[1], cache_control="max-age=60") for thing in things]
        assert answers == ["miss far", "miss far", GIVEN, GIVEN]
        assert [await told_at(both.one, wordings(thing)[0]) for thing in things] == ["hit"] * 4


@needs_redis
@pytest.mark.parametrize("how", ["freeze", "kill"])
async def test_without_its_redis_every_question_is_answered_by_the_model_in_bounded_time(how: str) -> None:
    """F66, F67: and it comes back with it."""
    async with fleet(STATIC, timeout="100ms") as both:
        await told_at(both.one, FIRST)
        await known(both.one, 1)
        assert await told_at(both.one, AGAIN) == GIVEN
        getattr(both.redis, how)()
        taken = []
        for text in wordings()[:10]:
            began_s = time.monotonic()
            assert await told_at(both.one, text) in ("bypass", "miss none", "miss store_away")
            taken.append(time.monotonic() - began_s)
        # At most a look-up and its repetition for the neighbour wait for the timeout; then it is known to be away.
        assert sorted(taken)[5] < 0.3
        assert max(taken) < 2.0
        answers = await asyncio.gather(*[ask(both.one, text, key="bob") for text in wordings("radio")])
        assert len(answers) == 80
        assert not [line for line in both.one.lines() if line.get("level") == "error"]
        if how == "freeze":
            both.redis.thaw()
        else:
            await both.redis.start()
        await until(lambda: _stored(both.one), 10.0)
        await comes(both.one)


async def _stored(gw: Gateway) -> bool:
    return await told_at(gw, FIRST) == "hit"


@needs_redis
async def test_a_gateway_that_starts_without_its_redis_serves() -> None:
    """F74."""
    async with redis_server() as redis, world() as found:
        redis.kill()
        async with gateway(by(found, STATIC) + redis_store("100ms") + "\n", {"REDIS_URL": redis.url}) as gw:
            assert [told(await ask(gw, text)) for text in (FIRST, AGAIN)] == ["bypass"] * 2
            assert await gw.metric("gateway_cache_embedder_up") == 1


@needs_redis
async def test_what_strangers_write_into_the_log_harms_nobody() -> None:
    async with fleet(STATIC) as both:
        for record in (b"", b"x", b"\x93\xa4seen\x00\x00", b"\xff" * 3000):
            await both.redis.run("XADD", "{gw}:cache:log:questions", "*", "r", record)
        await both.redis.run("XADD", "{gw}:cache:log:questions", "*", "other", "x")
        assert await told_at(both.one, FIRST) == "miss none"
        await known(both.other, 1)
        assert await told_at(both.other, AGAIN) == GIVEN


async def lives(config: str, expected: list[str], *, purge: bool = False) -> None:
    """Start a gateway, ask it, and stop it."""
    async with serving(config) as gw:
        for text, word in zip((AGAIN, FIRST), expected, strict=False):
            answer = await gw.client.post("/v1/chat/completions", json=said(text))
            assert told(answer) == word
        await until(lambda: _is_quiet(gw))
        if purge:
            assert (await gw.admin.delete("/admin/v1/cache", params={"route": "demo"})).status_code == 200
        gw.run.signal(signal.SIGTERM)
        assert await gw.run.ended() == 0
        assert gw.run.complaints() == ""


async def _is_quiet(gw: Serving) -> bool:
    return await gw.metric("gateway_inflight_requests") == 0


async def test_a_restart_keeps_what_is_to_persist_and_nothing_that_was_purged(tmp_path: Path) -> None:
    async with world() as found:
        forgetting = by(found, STATIC).replace("drain: 5s", f"drain: 5s, state_dir: {tmp_path}")
        keeping = by(found, STATIC, cached="persist: true").replace("drain: 5s", f"drain: 5s, state_dir: {tmp_path}")
        await lives(forgetting, ["miss none", GIVEN])
        await lives(keeping, ["miss none", GIVEN])
        kept = tmp_path / "gateway-questions.sqlite"
        assert kept.stat().st_mode & 0o077 == 0
        assert _holds(tmp_path)
        await lives(keeping, ["hit", GIVEN])
        await lives(forgetting, ["miss none"])
        await lives(keeping, ["hit", GIVEN], purge=True)
        assert not _holds(tmp_path), "the text is not just unlinked"
        await lives(keeping, ["miss none"])


def _holds(folder: Path) -> bool:
    return any(THING.encode() in path.read_bytes() for path in folder.glob("gateway-questions*"))
