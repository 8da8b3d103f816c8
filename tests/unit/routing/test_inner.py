"""Requests that the gateway makes itself."""

import asyncio
import base64
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
import pytest

from gateway.core.errors import (
    DeadlineExceeded,
    GatewayError,
    RateLimited,
    UpstreamError,
    UpstreamReplyError,
)
from gateway.core.exchange import Attempt, Consumer, Dialect, Exchange, Reply, Trace
from gateway.routing.inner import EMBEDDER_CONSUMER, JUDGE_CONSUMER, Inner, Surroundings, Way
from tests.fakes import FakeClock, Sightings, events_of

pytestmark = pytest.mark.anyio

YES = b'{"choices":[{"message":{"role":"assistant","content":"equal"}}]}'
ONE = b'{"data":[{"index":0,"embedding":[0.5,0.25]}]}'


class _World:
    """One way, to a target that answers when it is told to."""

    def __init__(self, body: bytes = YES, *, dialect: Dialect = "openai", route: str = "") -> None:
        self.reply = Reply(200, [], body=body)
        self.fault: BaseException | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[Exchange] = []
        self.inside = 0
        self.left = 0
        self.kept = 0
        self.names: list[str] = []
        self.way = Way(self._answer, dialect, route, "rev-1")
        clock = FakeClock()
        self.sightings = Sightings(clock, routes=["judging"], targets=["m"])
        self.surroundings = Surroundings(
            clock, lambda: Trace("0" * 31 + "1", "0" * 15 + "1", sampled=False), self.sightings.observer.observe
        )

    @asynccontextmanager
    async def _answer(self, exchange: Exchange) -> AsyncIterator[Reply]:
        self.asked.append(exchange)
        exchange.attempts.append(Attempt(1, "m"))
        exchange.target = "m"
        self.inside += 1
        try:
            await self.gate.wait()
            if self.fault is not None:
                raise self.fault
            yield self.reply
        finally:
            self.inside -= 1
            self.left += 1

    @contextmanager
    def _enter(self, name: str, consumer: Consumer) -> Iterator[Way]:
        self.names.append(name)
        self.kept += 1
        try:
            yield self.way
        finally:
            self.kept -= 1

    def inner(self, consumer: Consumer = JUDGE_CONSUMER, max_s: float = 5.0) -> Inner:
        """What asks it."""
        return Inner(self._enter, "m", consumer, self.surroundings, lambda: "judge-1", max_s)

    @property
    def sent(self) -> Any:
        """The body of the one request."""
        [exchange] = self.asked
        return msgspec.json.decode(exchange.request.body)

    def line(self) -> dict[str, Any]:
        """What was written down of the last call."""
        [line] = self.sightings.recent.latest(1)
        return line


async def test_a_question_is_a_request_like_any_other_by_a_consumer_of_its_own() -> None:
    world = _World()
    assert await world.inner().chat("Same?", why="support") == "equal"
    assert world.sent == {"model": "m", "messages": [{"role": "user", "content": "Same?"}], "temperature": 0}
    [exchange] = world.asked
    request = exchange.request
    assert (request.dialect, request.operation, request.suffix) == ("openai", "chat", "chat/completions")
    assert (request.head.model, request.head.body_model, request.head.stream) == ("m", "m", False)
    assert exchange.max_tokens_sent == 16, "the target says it in its own words"
    assert (exchange.consumer, exchange.priority) == (JUDGE_CONSUMER, "low")
    assert (exchange.route, exchange.config_revision) == ("", "rev-1")
    assert exchange.client_deadline_s == 1005.0
    assert (world.names, world.left, world.kept) == (["m"], 1, 0)


async def test_what_it_was_for_and_who_pays_stands_in_the_log_line() -> None:
    world = _World(route="judging")
    await world.inner().chat("Same?", max_tokens=3, why="support")
    line = world.line()
    assert (line["request_id"], line["key"], line["route"], line["target"]) == ("judge-1", "judge", "judging", "m")
    assert (line["status"], line["outcome"], line["tags"]) == (200, "ok", {"why": "support"})
    assert [each["detail"] for each in line["decisions"]] == ["the gateway itself asks m, for support"]
    assert world.sightings.registry.inflight("judging").value == 0
    assert world.asked[0].max_tokens_sent == 3


async def test_an_anthropic_model_is_asked_in_its_own_dialect() -> None:
    world = _World(b'{"content":[{"type":"text","text":"dif"},{"type":"text","text":"ferent"}]}', dialect="anthropic")
    assert await world.inner().chat("Same?", why="support") == "different"
    [exchange] = world.asked
    assert (exchange.request.dialect, exchange.request.operation) == ("anthropic", "messages")
    assert (exchange.request.path, exchange.max_tokens_sent) == ("/v1/messages", 16)
    assert world.sent["messages"] == [{"role": "user", "content": "Same?"}]


async def test_an_answer_in_parts_is_put_together() -> None:
    parts = b'{"choices":[{"message":{"content":[{"type":"text","text":"a"},{"type":"x"},7,{"text":"b"}]}}]}'
    assert await _World(parts).inner().chat("?", why="w") == "ab"


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"no JSON",
        b'"\xff"',
        b'{"choices":[]}',
        b'{"choices":[{"message":{}}]}',
        b'{"choices":[{"message":{"content":null}}]}',
        b'{"choices":[{"message":{"content":[{"type":"image"}]}}]}',
    ],
)
async def test_an_answer_without_text_is_an_error_of_the_provider(body: bytes) -> None:
    world = _World(body)
    with pytest.raises(UpstreamReplyError):
        await world.inner().chat("?", why="w")
    assert world.line()["outcome"] == "upstream_error"
    assert (world.left, world.kept) == (1, 0)


async def test_a_refusal_that_would_be_passed_on_is_an_error_here() -> None:
    world = _World()
    world.reply = Reply(400, [], body=b'{"error":{"message":"the prompt again"}}')
    with pytest.raises(UpstreamError, match="m answered a request of the gateway's own with 400") as raised:
        await world.inner().chat("?", why="w")
    assert raised.value.upstream_status == 400
    assert (world.line()["status"], world.line()["outcome"]) == (400, "upstream_error")


async def test_a_stream_that_nobody_asked_for_is_an_error() -> None:
    world = _World()
    world.reply = Reply(200, [], events=events_of(b"data: {}\n\n"))
    with pytest.raises(UpstreamReplyError, match="a stream"):
        await world.inner().chat("?", why="w")
    assert world.left == 1


async def test_what_refuses_it_is_raised_as_it_is() -> None:
    world = _World()
    world.fault = RateLimited("enough", limit="judges", retry_after_s=1.0)
    with pytest.raises(RateLimited):
        await world.inner().chat("?", why="w")
    assert (world.line()["outcome"], world.line()["status"]) == ("rate_limited", 429)
    assert world.kept == 0


async def test_a_call_that_takes_too_long_is_ended_and_leaves_nothing_behind() -> None:
    """F7: the slot and the connection are given back on a timeout too."""
    world = _World()
    world.gate.clear()
    with pytest.raises(DeadlineExceeded):
        await world.inner(max_s=0.001).chat("?", why="w")
    assert (world.inside, world.left, world.kept) == (0, 1, 0)
    assert (world.line()["outcome"], world.line()["status"]) == ("client_error", 408)


async def test_a_cancelled_call_leaves_nothing_behind() -> None:
    """F6."""
    world = _World(route="judging")
    world.gate.clear()
    task = asyncio.ensure_future(world.inner().chat("?", why="w"))
    await asyncio.sleep(0)
    assert (world.inside, world.kept, world.sightings.registry.inflight("judging").value) == (1, 1, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (world.inside, world.left, world.kept) == (0, 1, 0)
    assert world.sightings.registry.inflight("judging").value == 0
    assert world.line()["status"] == 499


async def test_vectors_come_in_the_order_of_the_texts() -> None:
    world = _World(b'{"data":[{"index":1,"embedding":[0,1]},{"index":0,"embedding":[1,0.5]}]}')
    found = await world.inner(EMBEDDER_CONSUMER).embed(["a", "b"], why="w")
    assert found == [[1.0, 0.5], [0.0, 1.0]]
    assert world.sent == {"model": "m", "input": ["a", "b"], "encoding_format": "float"}
    [exchange] = world.asked
    assert (exchange.request.operation, exchange.request.suffix) == ("embeddings", "embeddings")
    assert (exchange.max_tokens_sent, exchange.priority) == (None, "normal")


async def test_vectors_are_asked_for_as_openais_are_wherever_they_come_from() -> None:
    world = _World(ONE, dialect="anthropic")
    await world.inner().embed(["a"], why="w")
    assert world.asked[0].request.dialect == "openai"


async def test_vectors_without_numbers_are_in_order_already() -> None:
    found = await _World(b'{"data":[{"embedding":[1]},{"embedding":[2]}]}').inner().embed(["a", "b"], why="w")
    assert found == [[1.0], [2.0]]


async def test_vectors_in_base64_are_read_although_numbers_were_asked_for() -> None:
    packed = base64.b64encode(struct.pack("<3f", 0.5, -2.0, 0.25))
    body = b'{"data":[{"index":0,"embedding":"%b"}]}' % packed
    assert await _World(body).inner().embed(["a"], why="w") == [[0.5, -2.0, 0.25]]


@pytest.mark.parametrize(
    "rows",
    [
        b"",
        b'{"index":0,"embedding":[1]}',
        b'{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}',
        b'{"index":0,"embedding":[1]},{"index":2,"embedding":[1]}',
        b'{"index":0,"embedding":[1]},{"embedding":[1]}',
        b'{"index":0,"embedding":[1]},{"index":1,"embedding":[1,2]}',
        b'{"index":0,"embedding":[]},{"index":1,"embedding":[]}',
        b'{"index":0,"embedding":[1]},{"index":1,"embedding":[null]}',
        b'{"index":0,"embedding":[1]},{"index":1,"embedding":[1e999]}',
        b'{"index":0,"embedding":"AACAPw=="},{"index":1,"embedding":"AADAfw=="}',  # NaN
        b'{"index":0,"embedding":"AACAPw=="},{"index":1,"embedding":"AACA"}',  # three bytes
        b'{"index":0,"embedding":"AACAPw=="},{"index":1,"embedding":"!"}',
        b'{"index":0,"embedding":"AACAPw=="},{"index":1,"embedding":"\\u00e9"}',
    ],
)
async def test_vectors_that_are_not_one_for_each_text_are_none(rows: bytes) -> None:
    """Never somebody else's vector: the wrong answer would be given for it."""
    world = _World(b'{"data":[%b]}' % rows)
    with pytest.raises(UpstreamReplyError):
        await world.inner().embed(["a", "b"], why="w")
    assert world.kept == 0


async def test_for_no_text_nobody_is_asked() -> None:
    world = _World(ONE)
    assert await world.inner().embed([], why="w") == []
    assert world.asked == []


async def test_a_large_body_of_vectors_is_read_beside_the_loop() -> None:
    vector = [0.125] * 50_000
    world = _World(msgspec.json.encode({"data": [{"index": 0, "embedding": vector}]}))
    assert await world.inner().embed(["a"], why="w") == [vector]


async def test_half_a_surrogate_pair_does_not_stop_a_question() -> None:
    """JSON can name it, and UTF-8 cannot write it."""
    world = _World()
    await world.inner().chat("é \ud800", why="w")
    assert world.sent["messages"][0]["content"] == "é ?"


async def test_an_error_is_one_of_the_tree_and_tells_nothing_of_the_answer() -> None:
    world = _World(b'{"choices":"my secret"}')
    with pytest.raises(GatewayError) as raised:
        await world.inner().chat("?", why="w")
    assert "secret" not in raised.value.message
    assert world.line()["reason"] == "upstream_error"
