"""A sampled copy to another target."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.core.errors import RateLimited, UpstreamConnectError, UpstreamTruncated
from gateway.core.exchange import Attempt, Dialect, Exchange, Operation, Reply, RequestHead, Usage
from gateway.routing.compare import Comparison
from gateway.routing.likeness import Likeness
from gateway.routing.shadow import SHADOW_CONSUMER, Hold, Report, Shadow, Shadows, ShadowSettings
from gateway.wire.replay import Collector, Replay
from tests.fakes import FakeClock, event_frame, events_of, exchange, request

pytestmark = pytest.mark.anyio


class _Target:
    """A target that answers when it is told to."""

    def __init__(self, name: str, clock: FakeClock, *, is_open: bool = True) -> None:
        self.name = name
        self.clock = clock
        self.takes_s = 0.1
        self.make: Callable[[], Reply] = lambda: Reply(200, [], body=b'{"a":1}')
        self.fault: BaseException | None = None
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()
        self.exchanges: list[Exchange] = []
        self.left = 0

    @asynccontextmanager
    async def __call__(self, asked: Exchange) -> AsyncIterator[Reply]:
        self.exchanges.append(asked)
        asked.attempts.append(Attempt(1, self.name))
        asked.target = self.name
        try:
            await self.gate.wait()
            self.clock.advance(self.takes_s)
            if self.fault is not None:
                raise self.fault
            yield self.make()
            asked.usage = Usage(output_tokens=10 if self.name == "primary" else 5)
            asked.cost_nusd = 100 if self.name == "primary" else 20
            asked.finish_reasons = ["stop"]
        finally:
            self.left += 1


class _World:
    def __init__(
        self,
        *,
        sample: float = 1.0,
        most: int = 50,
        max_bytes: int = 1000,
        max_s: float = 60.0,
        hold: Hold | None = None,
        likeness: Likeness | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.primary = _Target("primary", self.clock)
        self.copy = _Target("copy", self.clock)
        self.recorded: list[Comparison] = []
        self.shadows = Shadows(most)
        settings = ShadowSettings("copy", sample, max_s, max_bytes)
        report = Report(self.recorded.append, likeness)
        self.policy = Shadow(settings, self.copy, self.shadows, report, self.clock, random.Random(7), hold)

    async def serve(self, asked: Exchange | None = None) -> Exchange:
        """An exchange, served and read as the edge reads."""
        asked = asked if asked is not None else exchange(route="chat", tags={"team": "ml"})
        async with self.policy(asked, self.primary) as reply:
            pieces = [reply.body] if reply.body is not None else [p async for p in reply.events or events_of()]
            for piece in pieces:
                for tap in reply.taps:
                    tap(piece or b"")
        return asked

    async def settle(self) -> Comparison:
        """The one comparison, once the shadows are over."""
        await _until(lambda: len(self.shadows) == 0)
        [comparison] = self.recorded
        return comparison


def _stream(*frames: bytes, fault: BaseException | None = None) -> Reply:
    return Reply(200, [], events=events_of(*frames, fault=fault), error_event=event_frame)


async def _until(claim: Callable[[], bool]) -> None:
    for _ in range(1000):
        if claim():
            return
        await asyncio.sleep(0)
    pytest.fail("it never came true")


async def test_both_replies_are_compared_when_both_are_over() -> None:
    world = _World()
    world.copy.takes_s = 0.2
    world.copy.make = lambda: Reply(200, [], body=b'{"a":12345678}')
    asked = await world.serve()
    assert world.recorded == [], "the primary alone is over"
    comparison = await world.settle()
    assert (comparison.request_id, comparison.route, comparison.target) == ("req-1", "chat", "copy")
    assert comparison.result == "ok"
    assert comparison.ratios() == pytest.approx(
        {"latency": 2.0, "first_event": 2.0, "output_tokens": 0.5, "cost": 0.2, "length": 2.0}
    )
    assert comparison.differences() == ()
    assert [(d.step, d.detail) for d in asked.decisions] == [("shadow", "copy gets a copy (1 of all do)")]


async def test_a_stream_is_compared_too_and_its_copy_read_to_the_end() -> None:
    world = _World()
    world.primary.make = lambda: _stream(b"data: 1\n\n", b"data: 2\n\n")
    world.copy.make = lambda: _stream(b"data: 1\n\n")
    await world.serve(exchange(request(head=RequestHead(stream=True)), route="chat"))
    comparison = await world.settle()
    assert comparison.ratios()["length"] == 0.5
    assert world.copy.left == 1


async def test_the_copy_sets_out_when_the_answer_has_begun_and_never_before() -> None:
    world = _World()
    world.primary.gate.clear()
    task = asyncio.ensure_future(world.serve())
    for _ in range(10):
        await asyncio.sleep(0)
    assert world.copy.exchanges == []
    assert len(world.shadows) == 0
    world.primary.gate.set()
    await task
    assert (await world.settle()).result == "ok"


async def test_the_client_never_waits_for_the_copy() -> None:
    world = _World()
    world.copy.gate.clear()
    async with world.policy(exchange(), world.primary) as reply:
        assert reply.body == b'{"a":1}'
        assert world.copy.exchanges == [], "not before the answer was handed on"
    assert world.primary.left == 1
    assert len(world.shadows) == 1
    world.copy.gate.set()
    await world.settle()


async def test_the_copy_is_nobodys_request() -> None:
    """Its own id, consumer, deadline and admission: no key's limit and no team's budget pays for it."""
    world = _World()
    asked = exchange(
        route="chat", tags={"team": "ml"}, client_deadline_s=1001.0, admission=object(), priority="high", attempts=1
    )
    world.clock.advance(5.0)
    await world.serve(asked)
    await world.settle()
    [copy] = world.copy.exchanges
    assert (copy.request_id, copy.consumer, copy.tags, copy.priority) == ("req-1-shadow", SHADOW_CONSUMER, {}, "low")
    assert (copy.client_deadline_s, copy.admission, copy.route) == (None, None, "chat")
    assert copy.started_s == pytest.approx(1005.1)
    assert [attempt.target for attempt in copy.attempts] == ["copy"]
    assert [attempt.target for attempt in asked.attempts] == ["mock", "primary"]
    assert (asked.target, asked.usage.output_tokens, asked.cost_nusd) == ("primary", 10, 100)


async def test_a_sample_is_drawn() -> None:
    world = _World(sample=0.02)
    for _ in range(10_000):
        await world.serve()
        await _until(lambda: len(world.shadows) == 0)
    assert 150 <= len(world.copy.exchanges) <= 250
    assert len(world.recorded) == len(world.copy.exchanges)


async def test_no_sample_no_shadow() -> None:
    world = _World(sample=0.0)
    asked = await world.serve()
    assert (asked.decisions, world.copy.exchanges, world.recorded) == ([], [], [])


@pytest.mark.parametrize(
    "asked",
    [
        exchange(request(operation="relay", suffix="files")),
        exchange(request(body_stream=events_of(b"piece"))),
        exchange(pinned_target="primary"),
    ],
    ids=["relay", "upload", "pinned"],
)
async def test_what_must_not_be_repeated_is_not(asked: Exchange) -> None:
    world = _World()
    await world.serve(asked)
    assert (world.copy.exchanges, world.recorded, asked.decisions) == ([], [], [])


async def test_what_the_primary_refused_or_failed_is_not_repeated() -> None:
    world = _World()
    world.primary.make = lambda: Reply(400, [], body=b"{}")
    await world.serve()
    world.primary.fault = UpstreamConnectError("refused")
    with pytest.raises(UpstreamConnectError):
        await world.serve()
    assert (world.copy.exchanges, world.recorded) == ([], [])


async def test_no_more_than_may_be_are_under_way_and_the_rest_is_counted() -> None:
    world = _World(most=2)
    world.copy.gate.clear()
    served = [await world.serve() for _ in range(5)]
    assert len(world.shadows) == 2
    assert [comparison.result for comparison in world.recorded] == ["skipped"] * 3
    assert served[-1].decisions[0].detail == "none to copy: as many as may be are under way"
    world.copy.gate.set()
    await _until(lambda: len(world.shadows) == 0)
    assert [comparison.result for comparison in world.recorded[3:]] == ["ok", "ok"]


async def test_a_copy_that_fails_is_the_targets_error_and_nobody_elses() -> None:
    world = _World()
    world.copy.fault = UpstreamConnectError("refused")
    asked = await world.serve()
    comparison = await world.settle()
    assert comparison.result == "error"
    assert comparison.shadow is not None
    assert (comparison.shadow.outcome, comparison.shadow.status) == ("upstream_error", 502)
    assert comparison.differences() == ("status",)
    assert asked.error is None


async def test_a_copy_that_breaks_in_the_middle_is_an_error() -> None:
    world = _World()
    world.copy.make = lambda: Reply(200, [], events=events_of(b"1", fault=UpstreamTruncated("cut")))
    await world.serve()
    comparison = await world.settle()
    assert comparison.result == "error"
    assert comparison.shadow is not None
    assert (comparison.shadow.outcome, comparison.shadow.status, comparison.shadow.length_bytes) == (
        "truncated",
        200,
        1,
    )


async def test_a_copy_that_its_own_limit_refuses_is_no_error() -> None:
    world = _World()
    world.copy.fault = RateLimited("too many", limit="shadow", retry_after_s=1.0)
    await world.serve()
    assert (await world.settle()).result == "refused"


async def test_a_copy_that_is_too_large_is_cut() -> None:
    world = _World(max_bytes=10)
    world.copy.make = lambda: Reply(200, [], events=events_of(b"x" * 6, b"x" * 6, b"x" * 6))
    await world.serve()
    comparison = await world.settle()
    assert comparison.result == "cut"
    assert comparison.shadow is not None
    assert (comparison.shadow.outcome, comparison.shadow.length_bytes) == ("cut", 12)
    assert comparison.ratios() == {}
    assert world.copy.left == 1


async def test_a_copy_that_takes_too_long_is_cut() -> None:
    world = _World(max_s=0.0)
    world.copy.gate.clear()
    await world.serve()
    await asyncio.wait_for(_gone(world), 5)
    comparison = await world.settle()
    assert comparison.result == "cut"
    assert world.copy.left == 1


async def _gone(world: _World) -> None:
    while len(world.shadows):
        await asyncio.sleep(0)


async def test_the_copy_outlives_a_client_that_leaves() -> None:
    world = _World()
    world.copy.gate.clear()

    async def serve() -> None:
        async with world.policy(exchange(), world.primary):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(serve())
    await _until(lambda: len(world.copy.exchanges) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.primary.left == 1
    assert len(world.shadows) == 1
    world.copy.gate.set()
    comparison = await world.settle()
    assert comparison.primary is not None
    assert comparison.primary.outcome == "client_gone"
    assert (comparison.result, comparison.ratios(), comparison.differences()) == ("ok", {}, ())


async def test_a_primary_that_breaks_in_the_middle_breaks_as_it_would_without() -> None:
    world = _World()
    world.primary.make = lambda: Reply(200, [], events=events_of(b"1", fault=UpstreamTruncated("cut")))
    with pytest.raises(UpstreamTruncated):
        await world.serve()
    comparison = await world.settle()
    assert comparison.primary is not None
    assert (comparison.primary.outcome, comparison.primary.status) == ("truncated", 200)


async def test_a_primary_that_fails_while_it_is_left_is_compared_by_what_it_failed_with() -> None:
    world = _World()

    @asynccontextmanager
    async def late(asked: Exchange) -> AsyncIterator[Reply]:
        yield Reply(200, [], body=b"{}")
        raise UpstreamTruncated("late")

    with pytest.raises(UpstreamTruncated, match="late"):
        async with world.policy(exchange(), late):
            pass
    comparison = await world.settle()
    assert comparison.primary is not None
    assert comparison.primary.outcome == "truncated"


async def test_a_primary_that_outlasts_its_copy_is_waited_for() -> None:
    world = _World()
    async with world.policy(exchange(), world.primary):
        await _until(lambda: len(world.copy.exchanges) == 1 and len(world.shadows) == 0)
        assert world.recorded == []
        world.clock.advance(1.0)
    comparison = await world.settle()
    assert comparison.primary is not None
    assert comparison.primary.duration_s == pytest.approx(1.2)


async def test_the_end_of_a_drain_cancels_all() -> None:
    world = _World()
    world.copy.gate.clear()
    for _ in range(3):
        await world.serve()
    await _until(lambda: len(world.copy.exchanges) == 3)
    await world.shadows.cancel()
    assert len(world.shadows) == 0
    assert world.copy.left == 3
    assert [comparison.result for comparison in world.recorded] == ["cancelled"] * 3
    await world.shadows.cancel()


async def test_what_the_copy_needs_is_held_while_it_runs_and_given_back_whatever_ends_it() -> None:
    held = 0

    def hold() -> Callable[[], None]:
        nonlocal held
        held += 1

        def release() -> None:
            nonlocal held
            held -= 1

        return release

    world = _World(hold=hold)
    world.copy.gate.clear()
    await world.serve()
    assert held == 1
    world.copy.gate.set()
    await _until(lambda: len(world.shadows) == 0)
    assert held == 0
    await world.serve()
    # Cancelled before its first step: no line of it ever runs.
    await world.shadows.cancel()
    assert held == 0
    assert [comparison.result for comparison in world.recorded] == ["ok", "cancelled"]


async def test_a_bug_in_the_copys_way_is_logged_and_counts_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    world = _World()
    world.copy.fault = RuntimeError("bug")
    await world.serve()
    assert (await world.settle()).result == "error"
    assert "background task shadow of req-1 failed" in caplog.text


async def test_a_stored_reply_has_no_side_to_compare_with() -> None:
    world = _World()
    await world.serve(exchange(route="chat", cache="hit"))
    assert (world.copy.exchanges, world.recorded) == ([], [])


class _Texts(Replay):
    """Reads replies as the gateway does, and shows what it has put together."""

    def __init__(self) -> None:
        self.collectors: list[Collector] = []

    def collector(self, dialect: Dialect, operation: Operation) -> Collector:
        """For a stream."""
        self.collectors.append(super().collector(dialect, operation))
        return self.collectors[-1]


class _Meter:
    """Measures texts, when it is let."""

    def __init__(self) -> None:
        self.measured: list[tuple[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.found: float | None = 0.25
        self.texts = _Texts()
        self.likeness = Likeness(self.texts, self.distance)

    async def distance(self, one: str, other: str) -> float | None:
        """A quarter."""
        self.measured.append((one, other))
        await self.gate.wait()
        return self.found


def _body(text: str) -> Reply:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return Reply(200, [], body=json.dumps({"id": "c", "choices": [choice]}).encode())


def _frames(*texts: str) -> list[bytes]:
    """The frames of a chat's stream that says this."""
    choices: list[Any] = [{"index": 0, "delta": {"content": text}, "finish_reason": None} for text in texts]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    data = [json.dumps({"id": "c", "choices": [choice]}).encode() for choice in choices]
    return [b"data: %b\n\n" % each for each in [*data, b"[DONE]"]]


async def test_how_far_the_texts_are_apart_is_measured_when_both_are_over() -> None:
    meter = _Meter()
    world = _World(likeness=meter.likeness)
    world.primary.make = lambda: _body("yes")
    world.copy.make = lambda: _body("no")
    await world.serve()
    assert meter.measured == [], "the primary alone is over"
    assert (await world.settle()).distance == 0.25
    assert meter.measured == [("yes", "no")]


async def test_streams_are_put_together_for_it() -> None:
    meter = _Meter()
    world = _World(likeness=meter.likeness)
    world.primary.make = lambda: _stream(*_frames("ye", "s"))
    world.copy.make = lambda: _stream(*_frames("n", "o"))
    await world.serve(exchange(request(head=RequestHead(stream=True)), route="chat"))
    assert (await world.settle()).distance == 0.25
    assert meter.measured == [("yes", "no")]


async def test_who_measures_nothing_watches_nothing_but_the_length() -> None:
    world = _World()
    world.primary.make = lambda: _stream(*_frames("yes"))
    async with world.policy(exchange(), world.primary) as reply:
        assert len(reply.taps) == 1
    assert (await world.settle()).distance is None


async def test_a_client_does_not_wait_until_it_is_measured() -> None:
    meter = _Meter()
    meter.gate.clear()
    world = _World(likeness=meter.likeness)
    world.primary.make = world.copy.make = lambda: _body("yes")
    async with world.policy(exchange(), world.primary):
        await _until(lambda: len(world.shadows) == 0)
    assert (world.primary.left, world.recorded) == (1, [])
    await _until(lambda: len(meter.measured) == 1)
    meter.gate.set()
    assert (await world.settle()).distance == 0.25


async def test_what_has_no_distance_in_time_is_compared_without() -> None:
    meter = _Meter()
    meter.found = None
    world = _World(likeness=meter.likeness)
    world.primary.make = world.copy.make = lambda: _body("yes")
    await world.serve()
    comparison = await world.settle()
    assert (comparison.distance, comparison.result, comparison.ratios()["length"]) == (None, "ok", 1.0)


async def test_a_copy_that_fails_has_no_distance_and_nothing_more_is_kept_of_its_primary() -> None:
    meter = _Meter()
    world = _World(likeness=meter.likeness)
    world.primary.make = lambda: _stream(*_frames("yes"))
    world.copy.fault = UpstreamConnectError("refused")
    async with world.policy(exchange(), world.primary) as reply:
        await _until(lambda: len(world.copy.exchanges) == 1 and len(world.shadows) == 0)
        for tap in reply.taps:
            tap(b"".join(_frames("yes")))
    [collector] = meter.texts.collectors
    assert collector.body(Usage()) is None, "it was given nothing"
    assert (await world.settle()).result == "error"
    assert meter.measured == []


async def test_a_copy_that_answers_with_an_error_or_is_cut_has_no_distance() -> None:
    meter = _Meter()
    world = _World(likeness=meter.likeness, max_bytes=10)
    world.primary.make = lambda: _body("yes")
    for make in (lambda: Reply(500, [], body=b"{}"), lambda: _stream(*_frames("yes"))):
        world.copy.make = make
        await world.serve()
        await _until(lambda: len(world.shadows) == 0)
    assert [comparison.result for comparison in world.recorded] == ["error", "cut"]
    assert meter.measured == []


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_client_that_leaves_has_no_whole_answer_to_compare_with(is_first: bool) -> None:
    meter = _Meter()
    world = _World(likeness=meter.likeness)
    world.primary.make = world.copy.make = lambda: _stream(*_frames("yes"))
    if is_first:
        world.copy.gate.clear()
    with pytest.raises(asyncio.CancelledError):
        async with world.policy(exchange(), world.primary):
            if not is_first:
                await _until(lambda: len(world.copy.exchanges) == 1 and len(world.shadows) == 0)
            raise asyncio.CancelledError
    world.copy.gate.set()
    comparison = await world.settle()
    assert (comparison.result, comparison.distance, meter.measured) == ("ok", None, [])


async def test_a_drain_ends_what_is_being_measured_and_all_the_rest_is_told() -> None:
    meter = _Meter()
    meter.gate.clear()
    world = _World(likeness=meter.likeness)
    world.primary.make = world.copy.make = lambda: _body("yes")
    await world.serve()
    await _until(lambda: len(meter.measured) == 1)
    await world.shadows.cancel()
    assert len(world.shadows) == 0
    [comparison] = world.recorded
    assert (comparison.result, comparison.distance) == ("ok", None)


async def test_a_drain_ends_what_begins_to_be_measured_meanwhile() -> None:
    """A copy that is over already, and whose end nobody has been told yet when the drain ends all."""
    meter = _Meter()
    meter.gate.clear()
    world = _World(likeness=meter.likeness)
    world.primary.make = world.copy.make = lambda: _body("yes")
    await world.serve()
    [task] = world.shadows._tasks
    await _until(task.done)
    await world.shadows.cancel()
    assert len(world.shadows) == 0
    assert [(each.result, each.distance) for each in world.recorded] == [("ok", None)]
