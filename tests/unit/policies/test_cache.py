"""The exact cache as a policy: what is stored, what is served, and in which form."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.core.errors import CacheMiss, UpstreamError, UpstreamTruncated
from gateway.core.exchange import Exchange, Reply, Usage
from gateway.policies.cache import Cache
from gateway.policies.cache_checks import Terms
from gateway.policies.cache_key import Share
from gateway.policies.cache_look import CacheSettings, Shelf
from gateway.policies.receipt import read_receipt
from gateway.store.blobs import key_scope, prompt_scope, route_scope, tag_scope
from gateway.store.memory_blobs import MemoryBlobs
from gateway.wire.replay import Replay
from tests.fakes import FakeClock
from tests.unit.policies.caching import (
    TTL_S,
    Away,
    Fleet,
    Kitchen,
    Model,
    asked,
    chat_body,
    chat_stream,
    settled,
    turn,
)

pytestmark = pytest.mark.anyio


async def test_the_second_time_the_same_question_is_answered_from_the_cache() -> None:
    kitchen = Kitchen()
    first = await kitchen.ask()
    kitchen.clock.advance(12.0)
    second = await kitchen.ask()
    assert (first.cache, second.cache) == ("miss", "hit")
    assert len(kitchen.model.calls) == 1
    assert second.body == first.body
    assert {name: second.headers[name] for name in (b"content-type", b"age")} == {
        b"content-type": b"application/json",
        b"age": b"12",
    }
    assert (second.asking.target, second.asking.cost_nusd, second.asking.usage) == ("gpt", 0, Usage())
    assert kitchen.counts == {"miss": 1, "stored": 1, "hit": 1}
    assert (kitchen.tokens, kitchen.cost_nusd) == (5, 900)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
async def test_one_entry_answers_whole_and_as_a_stream(first: bool, second: bool) -> None:
    kitchen = Kitchen()
    await kitchen.ask(stream=first)
    got = await kitchen.ask(stream=second)
    assert got.cache == "hit"
    if second:
        assert got.body.endswith(b"data: [DONE]\n\n")
        assert b"Hi there." in got.body
    else:
        assert json.loads(got.body)["choices"][0]["message"]["content"] == "Hi there."
        assert json.loads(got.body)["usage"]["total_tokens"] == 5


async def test_a_replayed_stream_has_usage_when_it_is_asked_for() -> None:
    kitchen = Kitchen()
    await kitchen.ask()
    got = await kitchen.ask(stream=True, head={"include_usage": True})
    assert b'"total_tokens":5' in got.body


async def test_another_key_is_another_cache() -> None:
    """F116: a canary stored by one tenant is never told to another."""
    kitchen = Kitchen()
    kitchen.model.body = chat_body("the canary of A")
    await kitchen.ask(key="a")
    kitchen.model.body = chat_body("B's own")
    got = await kitchen.ask(key="b")
    assert got.cache == "miss"
    assert b"canary" not in got.body


async def test_a_team_shares_where_that_is_configured() -> None:
    kitchen = Kitchen(settings=CacheSettings(TTL_S, share="team"))
    await kitchen.ask(key="a")
    got = await kitchen.ask(key="b")
    assert got.cache == "hit"
    assert "filled by request req-1 of key a" in got.asking.decisions[-1].detail


@pytest.mark.parametrize(
    "model",
    [
        Model(faults=[UpstreamError("no", upstream_status=500)]),
        Model(status=400),
        Model(finish="length"),
        Model(finish="content_filter"),
        Model(body=chat_body("")),
        Model(body=chat_body(refusal="No.")),
        Model(body=chat_body(tool_calls=[{"id": "c"}])),
        Model(body=b'{"a":1}'),
        Model(body=b"x" * (Terms().max_entry_bytes + 1)),
        Model(target="another"),
    ],
)
async def test_what_is_no_good_answer_is_not_stored(model: Model) -> None:
    """F117."""
    kitchen = Kitchen(model=model)
    for _ in range(2):
        try:
            assert (await kitchen.ask()).cache == "miss"
        except UpstreamError:
            continue
    assert len(model.calls) == 2
    assert kitchen.counts["hit"] == 0


@pytest.mark.parametrize(
    "model",
    [
        Model(frames=chat_stream(is_whole=False), amid=UpstreamTruncated("cut")),
        Model(frames=chat_stream(is_whole=False)),
        Model(frames=[b"data: nonsense\n\n", *chat_stream()]),
    ],
)
async def test_a_stream_that_is_not_whole_is_not_stored(model: Model) -> None:
    """F117: error_after and eof_after, then asked again."""
    kitchen = Kitchen(model=model)
    for _ in range(2):
        try:
            await kitchen.ask(stream=True)
        except UpstreamTruncated:
            continue
    assert len(model.calls) == 2
    assert len(kitchen.flights) == 0


async def test_a_stream_whose_client_left_is_not_stored() -> None:
    kitchen = Kitchen()
    with pytest.raises(asyncio.CancelledError):
        async with kitchen.cache(asked(stream=True), kitchen.model.handler) as reply:
            assert reply.events is not None
            async for block in reply.events:
                for tap in reply.taps:
                    tap(block)
            raise asyncio.CancelledError
    assert (await kitchen.ask(stream=True)).cache == "miss"
    assert kitchen.model.left == 2


async def test_tool_calls_are_stored_where_that_is_configured() -> None:
    body = chat_body("", "tool_calls", tool_calls=[{"id": "c", "function": {"name": "f", "arguments": "{}"}}])
    kitchen = Kitchen(
        Model(body=body, finish="tool_calls"), settings=CacheSettings(TTL_S, terms=Terms(tool_calls=True))
    )
    await kitchen.ask()
    assert (await kitchen.ask()).cache == "hit"


@pytest.mark.parametrize(
    "changes",
    [{"head": {"n": 2}}, {"head": {"temperature": 1.5}}, {"body": {"store": True}}, {"control": b"no-store"}],
)
async def test_some_requests_pass_by(changes: dict[str, Any]) -> None:
    kitchen = Kitchen()
    for _ in range(2):
        got = await kitchen.ask(**changes)
        assert got.cache == "bypass"
        assert got.asking.decisions[0].step == "cache"
    assert len(kitchen.model.calls) == 2
    assert kitchen.counts == {"bypass": 2}


async def test_no_cache_is_not_looked_up_but_stored() -> None:
    kitchen = Kitchen()
    await kitchen.ask()
    kitchen.model.body = chat_body("fresh")
    assert (await kitchen.ask(control=b"no-cache")).cache == "bypass"
    got = await kitchen.ask()
    assert got.cache == "hit"
    assert b"fresh" in got.body


async def test_no_store_does_not_even_read_what_is_there() -> None:
    kitchen = Kitchen()
    await kitchen.ask()
    assert (await kitchen.ask(control=b"no-store")).cache == "bypass"
    assert len(kitchen.model.calls) == 2


async def test_max_age_wants_a_younger_one() -> None:
    kitchen = Kitchen()
    await kitchen.ask()
    kitchen.clock.advance(10.0)
    assert (await kitchen.ask(control=b"max-age=10")).cache == "hit"
    kitchen.clock.advance(1.0)
    assert (await kitchen.ask(control=b"max-age=10")).cache == "miss"
    assert (await kitchen.ask(control=b"max-age=10")).headers[b"age"] == b"0"


async def test_only_if_cached_wants_nothing_else() -> None:
    kitchen = Kitchen()
    with pytest.raises(CacheMiss):
        await kitchen.ask(control=b"only-if-cached")
    assert kitchen.model.calls == []
    assert len(kitchen.flights) == 0
    await kitchen.ask()
    assert (await kitchen.ask(control=b"only-if-cached")).cache == "hit"
    with pytest.raises(CacheMiss):
        await kitchen.ask(control=b"only-if-cached", head={"n": 2})


async def test_entries_end_with_a_jitter_of_a_tenth() -> None:
    kitchen = Kitchen()
    assert isinstance(kitchen.blobs, MemoryBlobs)
    for number in range(200):
        await kitchen.ask(text=str(number))
    lives = [entry.ttl_s for entry in kitchen.blobs._entries.values()]
    assert 0.9 * TTL_S <= min(lives) < 0.92 * TTL_S
    assert 1.08 * TTL_S < max(lives) <= 1.1 * TTL_S
    kitchen.clock.advance(1.1 * TTL_S)
    assert (await kitchen.ask(text="0")).cache == "miss"


async def test_a_shorter_time_to_live_holds_for_what_is_there_already() -> None:
    kitchen = Kitchen()
    await kitchen.ask()
    kitchen.clock.advance(20.0)
    later = Kitchen(kitchen.model, kitchen.clock, CacheSettings(10.0), blobs=kitchen.blobs)
    assert (await later.ask()).cache == "miss"


async def test_an_entry_says_who_filled_it_and_carries_its_scopes() -> None:
    kitchen = Kitchen()
    assert isinstance(kitchen.blobs, MemoryBlobs)
    await kitchen.ask(asked(prompt_name="greeting", prompt_version="3", tags={"team": "a"}, request_id="req-9"))
    (entry,) = kitchen.blobs._entries.values()
    assert (entry.filled_by, entry.request_id, entry.stored_s) == ("checkout", "req-9", kitchen.clock.wall())
    assert entry.scopes[1:] == (
        key_scope("checkout"),
        route_scope("support-*"),
        prompt_scope("greeting", "3"),
        tag_scope("team", "a"),
    )
    for scope in entry.scopes:
        await kitchen.ask(asked(prompt_name="greeting", prompt_version="3", tags={"team": "a"}))
        assert (await kitchen.blobs.purge(scope)).matched == 1


async def test_a_purge_is_seen_by_the_next_request() -> None:
    kitchen = Kitchen()
    assert kitchen.blobs is not None
    await kitchen.ask()
    await kitchen.blobs.purge(key_scope("checkout"))
    assert (await kitchen.ask()).cache == "miss"


async def test_what_a_cheaper_way_has_answered_is_not_stored_under_this_target() -> None:
    kitchen = Kitchen(Model(target="small"))
    got = await kitchen.ask()
    assert got.asking.decisions[-1].detail.startswith("not stored, other_origin")
    assert kitchen.counts["rejected"] == 1


async def test_a_semantic_hit_below_is_not_stored_as_the_exact_answer() -> None:
    kitchen = Kitchen()

    @asynccontextmanager
    async def similar(asking: Exchange) -> AsyncIterator[Reply]:
        async with kitchen.model.handler(asking) as reply:
            asking.cache = "semantic"
            yield reply

    async with kitchen.cache(asked(), similar):
        pass
    assert kitchen.counts == {"miss": 1, "rejected": 1}


async def test_a_reply_whose_end_fails_is_not_stored() -> None:
    kitchen = Kitchen()

    @asynccontextmanager
    async def failing(asking: Exchange) -> AsyncIterator[Reply]:
        async with kitchen.model.handler(asking) as reply:
            yield reply
        raise UpstreamTruncated("cut")

    with pytest.raises(UpstreamTruncated):
        async with kitchen.cache(asked(), failing):
            pass
    assert len(kitchen.flights) == 0
    assert (await kitchen.ask()).cache == "miss"


async def test_a_client_that_wants_a_fresh_reply_gets_it_without_the_store_too() -> None:
    kitchen = Kitchen(blobs=Away())
    assert (await kitchen.ask(control=b"no-cache")).cache == "bypass"


async def test_a_fault_of_our_own_leaves_no_follower_behind() -> None:
    class Broken(Replay):
        def traits(self, *_: Any) -> frozenset[str]:
            raise ZeroDivisionError

    kitchen = Kitchen()
    shelf = kitchen.cache.shelf
    broken = Shelf(shelf.blobs, shelf.flights, Broken(), shelf.clock, shelf.rng, shelf.sleep)
    kitchen.cache = Cache(kitchen.settings, kitchen.cache.place, broken, kitchen)
    with pytest.raises(ZeroDivisionError):
        await kitchen.ask()
    assert len(kitchen.flights) == 0


async def test_an_entry_that_cannot_be_told_as_a_stream_is_asked_for_again() -> None:
    class Mute(Replay):
        def stream(self, *_: Any, include_usage: bool) -> None:
            return None

    kitchen = Kitchen()
    await kitchen.ask()
    shelf = kitchen.cache.shelf
    mute = Shelf(shelf.blobs, shelf.flights, Mute(), shelf.clock, shelf.rng, shelf.sleep)
    kitchen.cache = Cache(kitchen.settings, kitchen.cache.place, mute, kitchen)
    assert (await kitchen.ask(stream=True)).cache == "miss"
    assert len(kitchen.model.calls) == 2


async def test_without_the_store_every_reply_is_the_models_own() -> None:
    kitchen = Kitchen(blobs=Away())
    for _ in range(2):
        got = await kitchen.ask()
        assert got.cache == "bypass"
        assert got.asking.decisions[0].detail == "bypass, the store does not answer"
    assert kitchen.counts == {"bypass": 2}


async def test_a_reply_of_a_fleet_is_stored_without_holding_up_its_client() -> None:
    clock = FakeClock()
    fleet = Fleet(clock)
    kitchen = Kitchen(clock=clock, blobs=fleet.of("here"))
    got = await kitchen.ask()
    assert got.cache == "miss"
    assert len(fleet.memory) == 0
    await settled()
    assert len(fleet.memory) == 1
    assert (await kitchen.ask()).cache == "hit"


async def test_a_hit_names_its_entry_so_that_somebody_can_complain() -> None:
    kitchen = Kitchen()
    assert isinstance(kitchen.blobs, MemoryBlobs)
    miss, hit = await kitchen.ask(), await kitchen.ask()
    [key] = kitchen.blobs._entries
    assert hit.headers[b"x-gateway-cache-entry"] == key.hex().encode()
    assert read_receipt(key.hex()) == (key.hex(), "", 0.0)
    assert b"x-gateway-cache-entry" not in miss.headers


@pytest.mark.parametrize(("share", "who"), [("key", "key=checkout"), ("team", "team=a"), ("tenant", "key=checkout")])
async def test_an_entry_says_who_may_be_given_it(share: Share, who: str) -> None:
    """F116."""
    kitchen = Kitchen(settings=CacheSettings(TTL_S, share=share))
    assert isinstance(kitchen.blobs, MemoryBlobs)
    await kitchen.ask()
    assert [entry.share for entry in kitchen.blobs._entries.values()] == [who]


async def test_an_entry_that_is_of_use_for_other_questions_is_kept_longer_than_it_is_given_for_its_own() -> None:
    kitchen = Kitchen(settings=CacheSettings(10.0, similar_ttl_s=TTL_S))
    assert isinstance(kitchen.blobs, MemoryBlobs)
    await kitchen.ask()
    assert [entry.ttl_s for entry in kitchen.blobs._entries.values()] == [pytest.approx(TTL_S, rel=0.1)]
    kitchen.clock.advance(11.1)
    assert (await kitchen.ask()).cache == "miss"


async def test_a_purge_while_the_model_is_asked_keeps_its_reply_out() -> None:
    kitchen = Kitchen(Model(gate=asyncio.Event()))
    assert kitchen.blobs is not None
    assert kitchen.model.gate is not None
    asking = asyncio.create_task(kitchen.ask())
    await turn(lambda: bool(kitchen.model.calls))
    await kitchen.blobs.purge(key_scope("checkout"))
    kitchen.model.gate.set()
    assert (await asking).cache == "miss"
    assert (kitchen.counts["stored"], len(kitchen.flights)) == (0, 0)
    assert (await kitchen.ask()).cache == "miss"
