"""The semantic cache over a restart, and when what it has kept is away or lost (F66, F67, F74)."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from tests.gateway.harness import Gateway, gateway
from tests.gateway.processes import Serving, serving
from tests.gateway.semantic_fleet import (
    AGAIN,
    FIRST,
    GIVEN,
    STATIC,
    THING,
    Fleet,
    comes,
    fleet,
    known,
    told_at,
)
from tests.gateway.semantic_world import (
    ask,
    by,
    log_of,
    said,
    told,
    wordings,
    world,
)
from tests.gateway.spending import redis_store
from tests.gateway.waiting import until
from tests.redis_servers import needs_redis, redis_server

pytestmark = pytest.mark.anyio


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
    async with fleet(STATIC, patience="100ms") as both:
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
        # What counts limits may have noticed, too.
        errors = [line for line in both.one.lines() if line.get("level") == "error" and line["event"] != "store_down"]
        assert errors == []
        if how == "freeze":
            both.redis.thaw()
        else:
            await both.redis.start()
        await until(lambda: _stored(both.one), 10.0)
        await comes(both.one)


async def _stored(gw: Gateway) -> bool:
    return await told_at(gw, FIRST) == "hit"


@needs_redis
async def test_a_purge_while_the_log_is_away_says_that_it_has_to_be_asked_again() -> None:
    """The replies are gone at once; the questions' texts are not."""
    async with fleet(STATIC) as both:
        await told_at(both.one, FIRST)
        await known(both.one, 1)
        # Its connections have just been lost; those of the replies have not.
        log_of(both.one).is_live = False
        receipt = (await both.one.admin.delete("/admin/v1/cache", params={"route": "demo"})).json()
        assert (receipt["matched"], receipt["is_complete"]) == (1, False)
        log_of(both.one).is_live = True
        receipt = (await both.one.admin.delete("/admin/v1/cache", params={"route": "demo"})).json()
        assert (receipt["matched"], receipt["is_complete"]) == (0, True)
        await until(lambda: _is_emptied(both))


async def _is_emptied(both: Fleet) -> bool:
    return THING.encode() not in await both.stream()


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
        assert not _holds(tmp_path)
        await lives(keeping, ["miss none", GIVEN])
        kept = tmp_path / "gateway-questions.sqlite"
        assert kept.stat().st_mode & 0o077 == 0
        assert _holds(tmp_path)
        await lives(keeping, ["hit", GIVEN], purge=True)
        assert not _holds(tmp_path), "the text is not just unlinked"
        await lives(keeping, ["miss none"])


def _holds(folder: Path) -> bool:
    return any(THING.encode() in path.read_bytes() for path in folder.glob("gateway-questions*"))
