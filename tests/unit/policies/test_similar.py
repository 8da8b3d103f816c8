"""Replies for the same question in other words: when they are given, and what is learned when they are not."""

import asyncio
import json
import logging
from typing import Any

import pytest

from gateway.core.errors import CacheMiss
from gateway.core.exchange import Usage
from gateway.policies.cache import Cache
from gateway.policies.cache_look import Shelf
from gateway.policies.receipt import read_receipt
from gateway.policies.similar import MOST_LESSONS, Question, Similar
from gateway.semantic.log import Purged, Seen
from gateway.semantic.verified import Decision
from gateway.store.blobs import entry_scope, key_scope
from gateway.wire.replay import Replay
from tests.fakes import FakeClock
from tests.unit.policies.caching import Away, Fleet, Kitchen, Model, asked, chat_body, settled, turn
from tests.unit.policies.likeness import ALIKE, ASKED, FAR, FOUR, ROUTE, THREE, Parlour, Wavering, reason

pytestmark = pytest.mark.anyio


async def test_a_question_in_other_words_is_given_the_reply_that_is_there() -> None:
    parlour = Parlour()
    parlour.cosines[ALIKE] = 0.95
    first = await parlour.ask()
    parlour.clock.advance(12.0)
    got = await parlour.ask(ALIKE)
    assert (first.cache, reason(first)) == ("miss", "none")
    assert (got.cache, got.body, parlour.calls) == ("semantic", first.body, 1)
    assert got.headers == {
        b"content-type": b"application/json",
        b"age": b"12",
        b"x-gateway-similarity": b"0.9500",
        b"x-gateway-cache-entry": parlour.seen[0].entry.encode(),
        b"x-gateway-cache-reason": b"static",
    }
    assert (got.asking.target, got.asking.cost_nusd, got.asking.usage) == ("gpt", 0, Usage())
    assert "semantic hit (static), similarity 0.9500" in got.asking.decisions[-1].detail
    assert "filled by request req-1 of key checkout" in got.asking.decisions[-1].detail
    assert parlour.counts == {"semantic": 1}
    assert parlour.similarities == [(0.95, None)]
    assert parlour.kitchen.counts == {"miss": 1, "stored": 1}
    assert (parlour.kitchen.tokens, parlour.kitchen.cost_nusd) == (5, 900)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
async def test_it_is_told_in_the_form_that_is_wanted(first: bool, second: bool) -> None:
    parlour = Parlour()
    await parlour.ask(stream=first)
    got = await parlour.ask(ALIKE, stream=second)
    assert got.cache == "semantic"
    if second:
        assert got.body.endswith(b"data: [DONE]\n\n")
    else:
        assert json.loads(got.body)["choices"][0]["message"]["content"] == "Hi there."


async def test_one_that_cannot_be_told_as_a_stream_is_asked_for() -> None:
    class Mute(Replay):
        def stream(self, *_: Any, include_usage: bool) -> None:
            return None

    parlour = Parlour()
    await parlour.ask()
    shelf = parlour.kitchen.cache.shelf
    mute = Shelf(shelf.blobs, shelf.flights, Mute(), shelf.clock, shelf.rng, shelf.sleep)
    parlour.similar.shelf = mute
    got = await parlour.ask(ALIKE, stream=True)
    assert (got.cache, reason(got), parlour.calls) == ("miss", "form", 2)
    assert parlour.counts == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "another"},
        {"body": {"messages": [{"role": "system", "content": "canary"}, {"role": "user", "content": ALIKE}]}},
        {"body": {"temperature": 0.5}},
        {"body": {"response_format": {"type": "json_object"}}},
        {"body": {"an_unknown": 1}},
        {"prompt_name": "p", "prompt_version": "2"},
    ],
)
async def test_nothing_is_told_to_another_key_or_under_other_circumstances(changes: dict[str, Any]) -> None:
    """F116."""
    parlour = Parlour()
    await parlour.ask()
    got = await parlour.ask(ALIKE, **changes)
    assert (got.cache, reason(got), parlour.calls) == ("miss", "none", 2)
    assert (await parlour.ask(ALIKE, key="third")).cache == "miss"


async def test_a_guard_that_objects_is_named_and_counted() -> None:
    parlour = Parlour()
    await parlour.ask(THREE)
    got = await parlour.ask(FOUR)
    assert (got.cache, reason(got)) == ("miss", "number")
    assert got.asking.decisions[-1].detail == "nothing similar is given: number"
    assert parlour.similarities == [(1.0, "number")]


async def test_one_that_is_too_far_away_is_not_given() -> None:
    parlour = Parlour()
    await parlour.ask()
    assert reason(await parlour.ask(FAR)) == "far"


@pytest.mark.parametrize(
    ("text", "rule"), [("What is this?", "deictic"), ("hello there", "short"), ("What is the news of today?", "timed")]
)
async def test_what_may_have_no_likeness_is_neither_looked_up_nor_remembered(text: str, rule: str) -> None:
    parlour = Parlour()
    got = await parlour.ask(text)
    assert (got.cache, reason(got)) == ("miss", rule)
    assert (parlour.embedded, parlour.told) == ([], [])
    assert (await parlour.ask(text)).cache == "hit"


async def test_what_has_no_last_message_is_not_looked_up() -> None:
    parlour = Parlour()
    got = await parlour.ask(body={"messages": [{"role": "assistant", "content": ASKED}]})
    assert (got.cache, reason(got), parlour.told) == ("miss", "no_last_message", [])


async def test_an_embedding_that_is_late_is_a_miss_and_not_remembered() -> None:
    parlour = Parlour()
    await parlour.ask()
    parlour.late.add(ALIKE)
    got = await parlour.ask(ALIKE)
    assert (got.cache, reason(got), len(parlour.told)) == ("miss", "embedding_late", 1)
    assert (await parlour.ask(ALIKE)).cache == "hit"


async def test_a_vector_of_another_model_is_a_miss() -> None:
    parlour = Parlour()
    await parlour.ask()
    parlour.dimensions = 5
    got = await parlour.ask(ALIKE)
    assert (got.cache, reason(got), len(parlour.told)) == ("miss", "embedding_unfit", 1)


async def test_a_store_that_goes_away_in_between_is_a_miss() -> None:
    clock = FakeClock()
    blobs = Wavering(1 << 20, clock)
    parlour = Parlour(kitchen=Kitchen(clock=clock, blobs=blobs))
    await parlour.ask()
    blobs.is_away_for = bytes.fromhex(parlour.seen[0].entry)
    got = await parlour.ask(ALIKE)
    assert (got.cache, reason(got)) == ("miss", "store_away")
    assert parlour.scopes.question_of("1-0") == ASKED, "it may come back"


async def test_without_a_store_nothing_is_embedded() -> None:
    parlour = Parlour(kitchen=Kitchen(blobs=Away()))
    got = await parlour.ask()
    assert (got.cache, parlour.embedded) == ("bypass", [])
    assert b"x-gateway-cache-reason" not in got.headers


async def test_a_reply_that_was_purged_is_a_miss_at_once_though_its_row_is_still_known() -> None:
    """As on a replica that lags behind its log."""
    parlour = Parlour()
    await parlour.ask()
    assert parlour.kitchen.blobs is not None
    await parlour.kitchen.blobs.purge(key_scope("checkout"))
    got = await parlour.ask(ALIKE)
    assert (got.cache, reason(got)) == ("miss", "gone")
    assert parlour.scopes.question_of("1-0") is None


async def test_a_reply_that_is_too_old_for_another_question_is_a_miss() -> None:
    parlour = Parlour(ttl_s=1000.0, similar_ttl_s=100.0)
    await parlour.ask()
    parlour.clock.advance(90.0)
    assert (await parlour.ask(ALIKE)).cache == "semantic"
    parlour.clock.advance(10.0)
    assert (await parlour.ask()).cache == "hit"
    got = await parlour.ask(ALIKE)
    assert (got.cache, reason(got)) == ("miss", "none")


async def test_a_shorter_time_holds_for_what_is_there_already() -> None:
    """A reload has made it shorter; the row still has its former time."""
    parlour = Parlour()
    await parlour.ask()
    shorter = Parlour(similar_ttl_s=10.0, kitchen=parlour.kitchen)
    shorter.similar.engine = parlour.similar.engine
    parlour.clock.advance(11.0)
    got = await shorter.ask(ALIKE)
    assert (got.cache, reason(got)) == ("miss", "old")


async def test_a_reply_may_be_given_longer_for_another_question_than_for_its_own() -> None:
    parlour = Parlour(ttl_s=10.0, similar_ttl_s=100.0)
    await parlour.ask()
    parlour.clock.advance(50.0)
    assert (await parlour.ask(ALIKE)).cache == "semantic"


async def test_max_age_holds_for_likenesses_too() -> None:
    parlour = Parlour()
    await parlour.ask()
    parlour.clock.advance(10.0)
    assert (await parlour.ask(ALIKE, control=b"max-age=10")).cache == "semantic"
    parlour.clock.advance(1.0)
    got = await parlour.ask(ALIKE, control=b"max-age=10")
    assert (got.cache, reason(got)) == ("miss", "old")


async def test_only_if_cached_is_content_with_a_likeness_and_wants_no_more() -> None:
    parlour = Parlour()
    await parlour.ask()
    assert (await parlour.ask(ALIKE, control=b"only-if-cached")).cache == "semantic"
    with pytest.raises(CacheMiss):
        await parlour.ask(FAR, control=b"only-if-cached")
    assert (parlour.calls, len(parlour.kitchen.flights), len(parlour.told)) == (1, 0, 1)


async def test_no_cache_looks_for_no_likeness_but_is_stored() -> None:
    parlour = Parlour()
    await parlour.ask()
    parlour.kitchen.model.body = chat_body("fresh")
    got = await parlour.ask(ALIKE, control=b"no-cache")
    assert (got.cache, len(parlour.embedded), len(parlour.told)) == ("bypass", 1, 1)
    assert b"x-gateway-cache-reason" not in got.headers
    again = await parlour.ask(ALIKE)
    assert (again.cache, b"fresh" in again.body) == ("hit", True)


async def test_no_store_leaves_nothing_behind() -> None:
    parlour = Parlour()
    assert (await parlour.ask(control=b"no-store")).cache == "bypass"
    assert (parlour.embedded, parlour.told) == ([], [])


@pytest.mark.parametrize(
    "model", [Model(status=400), Model(finish="length"), Model(target="another"), Model(body=chat_body(""))]
)
async def test_a_question_whose_reply_is_not_stored_is_not_remembered(model: Model) -> None:
    """F117."""
    parlour = Parlour(kitchen=Kitchen(model))
    await parlour.ask()
    assert parlour.told == []


async def test_what_is_remembered_of_a_question() -> None:
    parlour = Parlour()
    got = await parlour.ask(prompt_name="p", prompt_version="2", tags={"x": "1"}, route="demo")
    [seen] = parlour.seen
    assert (seen.tenant, seen.route, seen.by, seen.text, seen.max_wrong) == (
        "key=checkout",
        "demo",
        "minilm",
        ASKED,
        0.05,
    )
    assert seen.names == (
        entry_scope(bytes.fromhex(seen.entry)),
        "key:checkout",
        f"route:{ROUTE}",
        "prompt:p@2",
        "tag:x=1",
    )
    assert parlour.clock.wall() + 90.0 <= seen.until_s <= parlour.clock.wall() + 100.0
    assert (len(seen.scope), len(seen.vector), seen.compared) == (32, 6, None)
    assert got.cache == "miss"


async def test_shadow_never_gives_anything_and_compares_whatever_it_would_have_given() -> None:
    parlour = Parlour("shadow")
    await parlour.ask()
    parlour.learn(300)
    parlour.learn(300, kind="backed-clean")
    told = len(parlour.told)
    for number in range(5):
        got = await parlour.ask(ALIKE + "?" * number)
        await parlour.learned()
        assert (got.cache, reason(got)) == ("miss", "shadow")
    assert parlour.calls == 6
    assert parlour.counts["would_hit"] == 5
    assert parlour.counts["semantic"] == parlour.counts["audit"] == 0
    assert parlour.labels[told:] == ["equal"] * 5
    assert all(each.compared is not None and each.compared.is_audit for each in parlour.seen[told:])
    assert [each.labels for each in parlour.scopes.standing().values()] == [5]


async def test_in_shadow_the_same_words_tell_nothing() -> None:
    parlour = Parlour("shadow")
    await parlour.ask()
    got = await parlour.ask(f"{ASKED} ")
    await parlour.learned()
    assert (got.cache, reason(got), parlour.labels) == ("miss", "shadow", [None, None])
    assert parlour.counts == {"would_hit": 1}


async def test_a_closed_scope_learns_from_what_is_asked_anyway() -> None:
    parlour = Parlour("verified")
    await parlour.ask()
    got = await parlour.ask(ALIKE)
    await parlour.learned()
    assert (got.cache, reason(got)) == ("miss", "closed")
    assert parlour.labels == [None, "equal"]
    [_, label] = [each.compared for each in parlour.seen]
    assert label is not None
    assert (label.entry, label.row, label.kind, label.is_audit) == (parlour.seen[0].entry, "1-0", "lone-clean", False)
    assert parlour.counts == {"equal same": 1}


async def test_a_scope_opens_after_enough_labels_and_its_receipt_says_how_it_was_found() -> None:
    parlour = Parlour("verified")
    parlour.cosines[ALIKE] = 0.96
    await parlour.ask()
    parlour.learn(300)
    got = await parlour.ask(ALIKE)
    assert (got.cache, reason(got), parlour.calls) == ("semantic", "open", 1)
    entry = parlour.seen[0].entry
    assert got.headers[b"x-gateway-cache-entry"].decode() == f"{entry}-0-9600"
    assert read_receipt(f"{entry}-0-9600") == (entry, "lone-clean", 0.96)
    exact = await parlour.ask()
    assert exact.headers[b"x-gateway-cache-entry"].decode() == entry


async def test_wrong_audits_close_a_scope_again() -> None:
    parlour = Parlour("verified", verdict="different")
    await parlour.ask()
    parlour.learn(300)
    parlour.coin.falls = 0.01
    for number in range(20):
        await parlour.ask(f"How do I get a new password, number {number}?")
        parlour.kitchen.model.body = chat_body(f"Another {number}. " * 50)
        got = await parlour.ask(ALIKE + "?" * number)
        await parlour.learned()
        if reason(got) == "closed":
            break
    assert reason(got) == "closed"
    assert parlour.counts["audit"] >= 2
    parlour.coin.falls = 0.5
    assert (await parlour.ask("HOW can I reset my password?")).cache == "miss"


async def test_an_audit_goes_upstream_and_says_so() -> None:
    parlour = Parlour("verified")
    await parlour.ask()
    parlour.learn(300)
    parlour.coin.falls = 0.01
    told = len(parlour.told)
    got = await parlour.ask(ALIKE)
    await parlour.learned()
    assert (got.cache, reason(got), parlour.calls) == ("miss", "audit", 2)
    assert parlour.counts["audit"] == 1
    [label] = [each.compared for each in parlour.seen[told:]]
    assert label is not None
    assert label.is_audit


async def test_an_audit_that_nobody_could_judge_is_given_instead() -> None:
    """Else it would be paid for and teach nothing."""
    parlour = Parlour("verified", calls_per_hour=1)
    await parlour.ask()
    parlour.learn(300)
    parlour.coin.falls = 0.01
    parlour.kitchen.model.body = chat_body("Something long and different. " * 20)
    assert reason(await parlour.ask(ALIKE)) == "audit"
    await parlour.learned()
    got = await parlour.ask(f"{ALIKE}??")
    assert (got.cache, reason(got)) == ("semantic", "open")
    assert len(parlour.prompts) == 1


async def test_without_a_judges_budget_questions_are_remembered_without_a_label() -> None:
    parlour = Parlour("verified", calls_per_hour=0)
    await parlour.ask()
    assert reason(await parlour.ask(ALIKE)) == "closed"
    assert (parlour.labels, len(parlour.lessons)) == ([None, None], 0)


async def test_static_learns_nothing() -> None:
    parlour = Parlour()
    for text in (ASKED, ALIKE, THREE, FOUR):
        await parlour.ask(text)
    assert set(parlour.labels) == {None}
    assert len(parlour.lessons) == 0


async def test_no_client_waits_for_a_judge() -> None:
    parlour = Parlour("verified", judging=asyncio.Event())
    await parlour.ask()
    parlour.kitchen.model.body = chat_body("Something long and different. " * 20)
    got = await parlour.ask(ALIKE)
    assert got.cache == "miss"
    assert len(parlour.kitchen.flights) == 0
    await turn(lambda: bool(parlour.prompts))
    assert (len(parlour.lessons), len(parlour.told)) == (1, 1)
    assert parlour.judging is not None
    parlour.judging.set()
    await parlour.learned()
    assert parlour.labels == [None, "equal"]


async def test_lessons_are_bounded_and_what_comes_above_goes_without_a_label() -> None:
    parlour = Parlour("verified", judging=asyncio.Event())
    await parlour.ask()
    for number in range(MOST_LESSONS + 3):
        parlour.kitchen.model.body = chat_body(f"Something long and different {number}. " * 20)
        await parlour.ask(f"{ALIKE}{'?' * number}")
    assert len(parlour.lessons) == MOST_LESSONS
    assert parlour.labels == [None] * 4
    assert parlour.judging is not None
    parlour.judging.set()
    await parlour.learned()
    assert len(parlour.told) == MOST_LESSONS + 4


async def test_a_purge_while_the_judge_thinks_is_not_followed_by_the_question() -> None:
    """Else its prompt would stand in the log for good."""
    parlour = Parlour("verified", judging=asyncio.Event())
    await parlour.ask()
    parlour.kitchen.model.body = chat_body("Something long and different. " * 20)
    await parlour.ask(ALIKE)
    await turn(lambda: bool(parlour.prompts))
    await parlour.purge(key_scope("checkout"))
    assert parlour.judging is not None
    parlour.judging.set()
    await parlour.learned()
    assert [type(each) for each in parlour.told] == [Seen, Purged]
    assert len(parlour.scopes) == 0


async def test_a_pair_is_not_compared_when_one_of_it_is_gone() -> None:
    for is_row in (True, False):
        parlour = Parlour("verified")
        await parlour.ask()
        entry = parlour.seen[0].entry
        model = parlour.kitchen.model
        model.gate = asyncio.Event()
        asking = asyncio.create_task(parlour.ask(ALIKE))
        await turn(lambda calls=model.calls: len(calls) == 2)  # type: ignore[misc]
        if is_row:
            parlour.scopes.forget(entry)
        else:
            assert parlour.kitchen.blobs is not None
            await parlour.kitchen.blobs.purge(f"entry:{entry}")
        model.gate.set()
        assert reason(await asking) == "closed"
        await parlour.learned()
        assert parlour.labels == [None, None]


async def test_answers_without_a_text_could_not_be_judged() -> None:
    """They are no labels, but too many of them keep a zone closed."""

    class Silent(Replay):
        def text(self, *_: Any) -> None:
            return None

    parlour = Parlour("verified")
    shelf = parlour.kitchen.cache.shelf
    parlour.similar.shelf = Shelf(shelf.blobs, shelf.flights, Silent(), shelf.clock, shelf.rng, shelf.sleep)
    await parlour.ask()
    await parlour.ask(ALIKE)
    await parlour.learned()
    assert parlour.labels == [None, "unsure"]
    assert parlour.counts == {"unsure open": 1}
    assert parlour.prompts == []


async def test_without_a_model_long_answers_teach_nothing() -> None:
    parlour = Parlour("verified", has_model=False)
    await parlour.ask()
    parlour.kitchen.model.body = chat_body("Something long and different. " * 20)
    await parlour.ask(ALIKE)
    await parlour.learned()
    assert parlour.counts == {"unsure long": 1}


async def test_who_waited_for_the_same_words_is_given_the_same_likeness() -> None:
    parlour = Parlour(embedding=asyncio.Event())
    assert parlour.embedding is not None
    parlour.embedding.set()
    await parlour.ask()
    parlour.embedding.clear()
    asking = [asyncio.create_task(parlour.ask(ALIKE)) for _ in range(20)]
    await turn(lambda: len(parlour.embedded) == 2)
    await settled()
    assert len(parlour.embedded) == 2, "the others wait for the first"
    parlour.embedding.set()
    got = await asyncio.gather(*asking)
    assert [each.cache for each in got] == ["semantic"] * 20
    assert (parlour.calls, len(parlour.kitchen.flights)) == (1, 0)


async def test_who_waited_for_what_has_no_likeness_gets_the_models_one_answer() -> None:
    parlour = Parlour()
    await parlour.ask()
    got = await asyncio.gather(*(parlour.ask(FAR) for _ in range(20)))
    assert sorted(each.cache for each in got) == ["hit"] * 19 + ["miss"]
    assert (parlour.calls, len(parlour.told)) == (2, 2)


async def test_a_client_that_leaves_during_the_embedding_leaves_no_flight_and_no_lease() -> None:
    clock = FakeClock()
    fleet = Fleet(clock)
    parlour = Parlour(kitchen=Kitchen(clock=clock, blobs=fleet.of("here")), embedding=asyncio.Event())
    leader, follower = (asyncio.create_task(parlour.ask()) for _ in range(2))
    await turn(lambda: len(parlour.embedded) == 1)
    await settled()
    assert (len(parlour.kitchen.flights), len(fleet.leases)) == (1, 1)
    leader.cancel()
    await turn(lambda: len(parlour.embedded) == 2)
    assert leader.cancelled()
    assert len(parlour.kitchen.flights) == 1, "the follower leads"
    follower.cancel()
    await settled()
    assert follower.cancelled()
    assert (len(parlour.kitchen.flights), len(fleet.leases), parlour.calls) == (0, 0, 0)


async def test_a_likeness_gives_the_lease_of_its_own_words_back() -> None:
    clock = FakeClock()
    fleet = Fleet(clock)
    parlour = Parlour(kitchen=Kitchen(clock=clock, blobs=fleet.of("here")))
    await parlour.ask()
    await settled()
    assert (await parlour.ask(ALIKE)).cache == "semantic"
    await settled()
    assert fleet.leases == {}


async def test_no_prompt_and_no_answer_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    parlour = Parlour("verified")
    got = [await parlour.ask(), await parlour.ask(ALIKE)]
    await parlour.learned()
    shown = [caplog.text, repr(parlour.scopes), repr(parlour.told)]
    for each in got:
        shown += [repr(each.asking.decisions), repr(each.headers)]
    question = Question(parlour.similar, None, None, b"", Decision("pass", "none"))
    assert not any("password" in each or "Hi there" in each for each in [*shown, repr(question), repr(parlour.similar)])


async def test_a_cache_without_likenesses_says_nothing_of_them() -> None:
    got = await Kitchen().ask(asked(ASKED))
    assert b"x-gateway-cache-reason" not in got.headers


def test_a_cache_has_likenesses_only_where_it_was_given_them() -> None:
    kitchen = Kitchen()
    assert kitchen.cache.similar is None
    assert isinstance(Parlour().kitchen.cache.similar, Similar)
    assert isinstance(Parlour().kitchen.cache, Cache)


async def test_a_purge_while_the_model_is_asked_keeps_the_question_out() -> None:
    parlour = Parlour(kitchen=Kitchen(Model(gate=asyncio.Event())))
    assert parlour.kitchen.model.gate is not None
    asking = asyncio.create_task(parlour.ask())
    await turn(lambda: parlour.calls == 1)
    await parlour.purge(key_scope("checkout"))
    parlour.kitchen.model.gate.set()
    assert (await asking).cache == "miss"
    assert parlour.seen == []
