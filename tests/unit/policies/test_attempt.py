"""Each try at a target is written down."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.core.errors import UpstreamConnectError, UpstreamTimeout
from gateway.core.exchange import Exchange, Reply
from gateway.core.pipeline import Policy, compose
from gateway.policies.attempt import Attempted
from gateway.policies.billing import Billing
from gateway.telemetry.tracing import Destination
from tests.fakes import TRACE_ID, Answering, FakeClock, Sightings, exchange

pytestmark = pytest.mark.anyio


def _policy(sightings: Sightings, clock: FakeClock, target: str = "mock") -> Attempted:
    return Attempted(
        target, Destination("mock", None, "127.0.0.1", 9000), sightings.observer, clock, Billing(None, None)
    )


async def test_an_attempt_is_open_while_its_reply_streams_and_counted_when_it_is_over() -> None:
    clock = FakeClock(1000.0)
    sightings = Sightings(clock, targets=["mock"])
    policy: Policy = _policy(sightings, clock)
    asked = exchange()
    answering = Answering()
    async with compose([policy], answering.handler)(asked) as reply:
        assert reply is answering.reply
        assert asked.target == "mock"
        [attempt] = asked.attempts
        assert (attempt.number, attempt.target, attempt.started_s) == (1, "mock", 1000.0)
        assert sightings.registry.attempts("mock", "ok").value == 0
    assert sightings.registry.attempts("mock", "ok").value == 1


async def test_each_attempt_has_a_span_id_of_its_own_in_the_callers_trace() -> None:
    clock = FakeClock()
    policy = _policy(Sightings(clock), clock)
    asked = exchange()
    for _ in range(2):
        async with policy(asked, Answering().handler):
            pass
    first, second = (attempt.traceparent.decode() for attempt in asked.attempts)
    assert first.startswith(f"00-{TRACE_ID}-")
    assert second.startswith(f"00-{TRACE_ID}-")
    assert first != second
    assert [attempt.number for attempt in asked.attempts] == [1, 2]


async def test_a_failed_attempt_counts_by_what_became_of_it_and_goes_on_up() -> None:
    clock = FakeClock()
    sightings = Sightings(clock, targets=["mock"])
    policy = _policy(sightings, clock)
    for fault in (UpstreamConnectError("refused"), UpstreamTimeout("late", phase="idle")):
        with pytest.raises(type(fault)):
            async with policy(exchange(), Answering(fault=fault).handler):
                pass
    assert sightings.registry.attempts("mock", "upstream_error").value == 1
    assert sightings.registry.attempts("mock", "upstream_timeout").value == 1


async def test_an_attempt_whose_client_left_counts_as_client_gone() -> None:
    """F34, F36: what the caller did is not the target's failure."""
    clock = FakeClock()
    sightings = Sightings(clock, targets=["mock"])
    policy = _policy(sightings, clock)
    streaming = asyncio.Event()

    async def serve() -> None:
        async with policy(exchange(), Answering().handler):
            streaming.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(serve())
    await streaming.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sightings.registry.attempts("mock", "client_gone").value == 1


async def test_the_last_attempts_target_is_the_one_the_client_is_told() -> None:
    clock = FakeClock()
    sightings = Sightings(clock)
    asked = exchange()
    with pytest.raises(UpstreamConnectError):
        async with _policy(sightings, clock, "a")(asked, Answering(fault=UpstreamConnectError("x")).handler):
            pass
    async with _policy(sightings, clock, "b")(asked, Answering().handler):
        pass
    assert asked.target == "b"


async def test_an_attempt_that_fails_while_it_is_left_counts_as_what_it_failed_with() -> None:
    clock = FakeClock()
    sightings = Sightings(clock, targets=["mock"])

    @asynccontextmanager
    async def late(asked: Exchange) -> AsyncIterator[Reply]:
        yield Reply(200, [], body=b"")
        raise UpstreamTimeout("late", phase="idle")

    with pytest.raises(UpstreamTimeout):
        async with _policy(sightings, clock)(exchange(), late):
            pass
    assert sightings.registry.attempts("mock", "upstream_timeout").value == 1
    assert sightings.registry.attempts("mock", "ok").value == 0
