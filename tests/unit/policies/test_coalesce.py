"""Requests for embeddings that go together, and those that do not."""

import asyncio

import pytest

from gateway.core.errors import ClientGone, UpstreamError
from gateway.core.exchange import Exchange, Reply, Request, RequestHead
from gateway.policies.coalesce import CoalesceSettings
from tests.fakes import Answering, exchange, request
from tests.unit.policies.coalescing import House, embedding, turns, vectors

pytestmark = pytest.mark.anyio

BUSY = Reply(200, [], body=b'{"data":[]}')
"""For the one that is under way already."""
STREAM = RequestHead(model="m", stream=True)


async def test_who_has_no_company_does_not_wait_and_goes_up_untouched() -> None:
    house = House(CoalesceSettings(wait_s=3600.0, max_inputs=100, max_tokens=1000))
    body = b'{ "input" : "hi",  "model":"m" }'
    for _ in range(2):
        asked = embedding(body=body)
        assert vectors(await house.ask(asked)) == ["of hi"]
        assert house.provider.exchanges[-1] is asked
        assert asked.request.body == body
    assert house.counts.ways == [("alone", 1)] * 2
    assert house.counts.batches == []


async def test_those_who_come_meanwhile_make_one_call_and_each_has_its_own_part() -> None:
    house = House()
    asked = [embedding("x"), embedding("y", "z"), embedding("w")]
    replies = await house.together(*asked)
    assert [vectors(reply) for reply in replies] == [["of x"], ["of y", "of z"], ["of w"]]
    assert [body["input"] for body in house.provider.bodies] == ["busy", ["x", "y", "z", "w"]]
    assert [reply["usage"]["prompt_tokens"] for reply in replies] == [10, 20, 10]
    assert house.counts.ways == [("alone", 1), ("together", 3)]
    assert house.counts.batches == ["ok"]


async def test_each_has_its_own_try_and_pays_its_share() -> None:
    house = House()
    asked = [embedding("x"), embedding("y", "z"), embedding("w")]
    await house.together(*asked)
    assert [each.usage.input_tokens for each in asked] == [10, 20, 10]
    assert {each.usage.source for each in asked} == {"provider"}
    assert [each.cost_nusd for each in asked] == [13, 23, 14], "the ten for the request are split"
    for each in asked:
        (attempt,) = each.attempts
        assert (attempt.target, attempt.status, attempt.upstream_request_id) == ("a", 200, "up-1")
        assert (each.target, each.model_served) == ("a", "served")
        assert attempt.traceparent
        assert "one call for 3 requests" in each.decisions[-1].detail
    assert house.registry.attempts("a", "ok").value == 4


async def test_a_share_is_of_the_try_alone_that_it_is_for() -> None:
    """F55: an earlier try, elsewhere, has a bill of its own."""
    house = House()
    asked = embedding("x", attempts=1)
    asked.usage.cached_input_tokens = 7
    await house.together(asked, embedding("y"))
    assert asked.usage.input_tokens == 10
    assert asked.usage.cached_input_tokens is None


@pytest.mark.parametrize(
    "other",
    [
        embedding("x", dimensions=3),
        embedding("x", user="eve"),
        embedding("x", headers=[(b"user-agent", b"other")]),
        embedding([1, 2]),
        embedding(body=b'{"model":"n","input":"x"}'),
    ],
    ids=["dimensions", "user", "header", "tokens", "model"],
)
async def test_what_differs_in_anything_but_its_inputs_has_a_call_of_its_own(other: Exchange) -> None:
    house = House()
    await house.together(embedding("x"), embedding("y"), other)
    assert len(house.provider.bodies) == 3
    assert house.provider.bodies[-1]["input"] == ["x", "y"] or house.provider.bodies[1]["input"] == ["x", "y"]


@pytest.mark.parametrize(
    "other",
    [
        embedding("x", headers=[(b"idempotency-key", b"1")]),
        embedding(body=b'{"model":"m","input":"x","input":"y"}'),
        embedding(body=b'{"model":"m","input":[]}'),
        embedding(body=b'{"model":"m","input":""}'),
        embedding(*["x"] * 100),
        embedding("x" * 4000),
    ],
    ids=["personal", "twice", "nothing", "empty", "many", "long"],
)
async def test_what_cannot_go_together_passes_at_once(other: Exchange) -> None:
    house = House(CoalesceSettings(wait_s=3600.0, max_inputs=100, max_tokens=1000))
    await house.busy()
    await house.start(embedding("y"))
    await house.start(other)
    assert house.provider.exchanges[-1] is other
    await house.end()


@pytest.mark.parametrize(
    "other", [request(operation="chat"), request(operation="relay"), request(operation="embeddings", head=STREAM)]
)
async def test_other_requests_are_none_of_its_business(other: Request) -> None:
    house = House()
    asked = exchange(other)
    passed = Answering()
    for _ in range(2):
        await house.coalesce(asked, passed.handler).__aenter__()
    assert passed.exchanges == [asked] * 2
    assert house.counts.ways == []


async def test_a_call_goes_as_soon_as_it_is_full() -> None:
    house = House(CoalesceSettings(wait_s=3600.0, max_inputs=4, max_tokens=1000))
    await house.busy()
    for inputs in (["a", "b"], ["c", "d"], ["e"], ["f", "g", "h"], ["i"]):
        await house.start(embedding(*inputs))
    await turns()
    assert [body["input"] for body in house.provider.bodies] == ["busy", ["a", "b", "c", "d"], ["e", "f", "g", "h"]]
    await house.end()


async def test_a_call_does_not_grow_beyond_its_bounds() -> None:
    house = House(CoalesceSettings(wait_s=3600.0, max_inputs=4, max_tokens=100))
    await house.busy()
    for inputs in (["a"], ["b", "c"], ["d", "e"], ["x" * 380], ["y" * 80], ["z" * 320]):
        await house.start(embedding(*inputs))
    await turns()
    sent = [body["input"] for body in house.provider.bodies[1:]]
    assert sent[0] == ["a", "b", "c"]
    assert sent[1] == ["d", "e", "x" * 380], "97 tokens"
    assert sent[2] == ["y" * 80, "z" * 320]
    await house.end()


async def test_who_has_waited_in_vain_goes_alone_with_the_bytes_it_came_with() -> None:
    house = House()
    first = await house.busy()
    asked = embedding(body=b'{ "input" : "hi",  "model":"m" }')
    found = await house.start(asked)
    await turns()
    assert house.provider.exchanges[-1] is asked
    assert house.provider.gate is not None
    house.provider.gate.set()
    assert vectors(await found) == ["of hi"]
    assert len(asked.attempts) == 1
    await first


async def test_what_was_refused_for_all_is_asked_again_by_each_alone() -> None:
    """Nobody suffers from another's input, and nobody reads what was said of it."""
    house = House()
    refusal = Reply(400, [], body=b'{"error":{"message":"bad input: eve\'s","code":null}}')
    house.provider.outcomes = [BUSY, refusal]
    asked = [embedding("x"), embedding("y")]
    replies = await house.together(*asked)
    assert [vectors(reply) for reply in replies] == [["of x"], ["of y"]]
    assert [body["input"] for body in house.provider.bodies] == ["busy", ["x", "y"], "x", "y"]
    for each in asked:
        assert [attempt.status for attempt in each.attempts] == [400, 200]
        assert [attempt.cost_nusd for attempt in each.attempts] == [0, 20]
        assert each.cost_nusd == 20
    assert house.counts.batches == ["refused"]
    assert house.counts.ways[-2:] == [("again", 1)] * 2


async def test_a_failure_of_the_call_is_everybodys_own() -> None:
    house = House()
    house.provider.outcomes = [
        BUSY,
        UpstreamError("The provider answered 500.", upstream_status=500),
    ]
    asked = [embedding("x"), embedding("y")]
    faults = await house.together(*asked)
    assert [type(fault) for fault in faults] == [UpstreamError] * 2
    assert faults[0] is not faults[1]
    assert [each.cost_nusd for each in asked] == [None, None], "the provider has refused it"
    assert house.counts.batches == ["error"]


async def test_who_leaves_disturbs_nobody_and_pays_for_what_was_sent() -> None:
    """F1, F31."""
    house = House()
    first = await house.busy()
    leaving = embedding("x" * 400)
    found = await house.start_all(leaving, embedding("y"), embedding("z"))
    await turns()
    found[0].cancel()
    await turns()
    assert house.provider.cancelled == 0
    assert house.provider.gate is not None
    house.provider.gate.set()
    assert [vectors(await task) for task in found[1:]] == [["of y"], ["of z"]]
    assert leaving.usage.source == "estimated"
    assert leaving.cost_nusd == -(-len(leaving.request.body) // 4) + 3
    await first


async def test_who_leaves_before_the_call_is_sent_pays_nothing() -> None:
    house = House(CoalesceSettings(wait_s=3600.0, max_inputs=3, max_tokens=1000))
    await house.busy()
    leaving = embedding("x")
    found = await house.start(leaving)
    found.cancel()
    await turns()
    assert (leaving.attempts, leaving.cost_nusd) == ([], None)
    for text in "yzw":
        await house.start(embedding(text))
    await turns()
    assert house.provider.bodies[-1]["input"] == ["y", "z", "w"]
    await house.end()


async def test_the_call_ends_when_the_last_one_has_left() -> None:
    """F1."""
    house = House()
    await house.busy()
    found = await house.start_all(*map(embedding, "xyz"))
    await turns()
    for task in found:
        task.cancel()
    await turns()
    assert house.provider.cancelled == 1
    assert house.counts.batches == ["cancelled"]
    await house.end()


async def test_nothing_is_remembered_of_requests_that_are_over() -> None:
    house = House()
    await house.together(embedding("x"), embedding("y"))
    with pytest.raises(ClientGone):
        async with house.coalesce(embedding("x"), house.alone):
            raise ClientGone("left")
    house.provider.outcomes = [UpstreamError("no")]
    with pytest.raises(UpstreamError):
        await house.ask(embedding("x"))
    assert house.coalesce._under_way == {}
    assert house.coalesce._gathering == {}


async def test_a_hundred_who_come_and_go_as_they_like_have_their_own_or_nothing() -> None:
    """Whoever stays has its own vectors; whoever leaves leaves nothing behind."""
    house = House(CoalesceSettings(wait_s=0.0, max_inputs=7, max_tokens=1000))
    house.provider.reverses = True
    await house.busy()
    found = {}
    for number in range(100):
        found[number] = await house.start(embedding(f"a{number}", f"b{number}"))
        if number % 3 == 0:
            found[number - number % 5].cancel()
    assert house.provider.gate is not None
    house.provider.gate.set()
    await asyncio.gather(*found.values(), return_exceptions=True)
    for number, task in found.items():
        if not task.cancelled():
            rows = {row["index"]: row["embedding"] for row in task.result()["data"]}
            assert rows == {0: f"of a{number}", 1: f"of b{number}"}
    await house.end()
    await turns()
    assert house.coalesce._under_way == {}
