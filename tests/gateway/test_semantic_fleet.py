"""The semantic cache of several gateways on one Redis: what they learn, and what a purge leaves (F116)."""

from typing import Any

import pytest

from tests.gateway.semantic_fleet import AGAIN, FIRST, GIVEN, STATIC, THING, VERIFIED, Fleet, fleet, known, told_at
from tests.gateway.semantic_world import (
    ENTRY,
    ask,
    complain,
    log_of,
    settled,
    taught,
    told,
    wordings,
)
from tests.gateway.waiting import until
from tests.redis_servers import RedisServer, needs_redis

pytestmark = pytest.mark.anyio


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
        prompt: dict[str, Any] = {"x_gateway_prompt": "p@1"}
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
