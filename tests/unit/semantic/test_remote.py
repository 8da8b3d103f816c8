"""Vectors from a target: within a deadline, remembered, not asked for while they fail."""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import numpy
import pytest

from gateway.core.errors import GatewayError, NoHealthyTarget, UpstreamError
from gateway.semantic.embedder import REMEMBERED, WAITING
from gateway.semantic.remote import FIRST_PAUSE_S, LONGEST_PAUSE_S, RemoteEmbedder
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio

DEADLINE_S = 10.0
AT_ONCE_S = 0.0


class Target:
    """Answers as told, once it is let."""

    def __init__(self, answer: Any = (3.0, 4.0)) -> None:
        self.answer: Any = answer
        self.fault: GatewayError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.texts: list[str] = []

    async def __call__(self, text: str) -> Sequence[float]:
        self.texts.append(text)
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        found: Sequence[float] = self.answer
        return found


def embedder(target: Target, clock: FakeClock | None = None, deadline_s: float = DEADLINE_S) -> RemoteEmbedder:
    """One that asks this target."""
    return RemoteEmbedder(target, clock or FakeClock(), deadline_s)


async def settled(made: RemoteEmbedder, number: int) -> None:
    """Return once so many calls have ended."""
    while made.counts.computed + made.counts.failed < number:
        await asyncio.sleep(0)


async def test_a_vector_of_any_length_becomes_one_of_length_one_and_is_remembered() -> None:
    target = Target()
    made = embedder(target)
    one = await made.embed("a")
    assert one is not None and one.dtype == numpy.float32
    assert one.tolist() == pytest.approx([0.6, 0.8])
    assert await made.embed("a") is one
    assert target.texts == ["a"]
    assert (made.counts.computed, made.counts.remembered) == (1, 1)
    with pytest.raises(ValueError, match="read-only"):
        one[0] = 1


@pytest.mark.parametrize("numbers", [(1e300, 1e300), (1e-300, 1e-300), (5e-324,) * 2, (1e38, 1e38), [7, 7]])
async def test_numbers_however_large_or_small_have_a_direction(numbers: Sequence[float]) -> None:
    found = await embedder(Target(numbers)).embed("a")
    assert found is not None
    assert found.tolist() == pytest.approx([math.sqrt(0.5)] * 2)


@pytest.mark.parametrize("numbers", [(), (0.0, 0.0), [[1.0]], (math.inf, 1.0), (math.nan, 1.0), [[1.0], [1.0, 2.0]]])
async def test_what_has_no_direction_is_a_failure(numbers: Any) -> None:
    made = embedder(Target(numbers))
    assert await made.embed("a") is None
    assert made.counts.failed == 1


async def test_callers_with_one_text_wait_for_one_call() -> None:
    target = Target()
    made = embedder(target)
    found = await asyncio.gather(*[made.embed("a") for _ in range(20)])
    assert len({id(each) for each in found}) == 1
    assert target.texts == ["a"]


async def test_what_is_late_is_none_and_there_for_the_next_one() -> None:
    target = Target()
    target.gate.clear()
    made = embedder(target, deadline_s=AT_ONCE_S)
    assert await made.embed("a") is None
    assert made.counts.late == 1
    target.gate.set()
    await settled(made, 1)
    assert await made.embed("a") is not None
    assert target.texts == ["a"]


async def test_more_texts_than_can_wait_are_refused() -> None:
    target = Target()
    target.gate.clear()
    made = embedder(target, deadline_s=AT_ONCE_S)
    for number in range(WAITING + 3):
        assert await made.embed(str(number)) is None
    assert (made.counts.late, made.counts.refused) == (WAITING, 3)
    assert len(target.texts) == WAITING
    made.close()


async def test_after_a_failure_nothing_is_asked_for_a_while_that_grows_up_to_a_bound() -> None:
    clock, target = FakeClock(), Target()
    target.fault = UpstreamError("down", upstream_status=500)
    made = embedder(target, clock)
    pause_s = FIRST_PAUSE_S
    for number in range(8):
        assert await made.embed("a") is None
        assert len(target.texts) == number + 1
        clock.advance(pause_s * 0.99)
        assert await made.embed("a") is None
        assert len(target.texts) == number + 1, "it rests"
        clock.advance(pause_s * 0.02)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    assert (made.counts.failed, made.counts.refused) == (8, 8)
    target.fault = None
    assert await made.embed("a") is not None
    target.fault = NoHealthyTarget("away", retry_after_s=1)
    assert await made.embed("b") is None
    clock.advance(FIRST_PAUSE_S * 1.01)
    target.fault = None
    assert await made.embed("b") is not None, "a success begins anew"


async def test_calls_that_fail_together_are_one_failure() -> None:
    """Ten that were under way when a target went away must not rest it for half a minute."""
    clock, target = FakeClock(), Target()
    target.fault = UpstreamError("down", upstream_status=500)
    target.gate.clear()
    made = embedder(target, clock)
    asking = [asyncio.ensure_future(made.embed(str(number))) for number in range(10)]
    await asyncio.sleep(0)
    target.gate.set()
    assert await asyncio.gather(*asking) == [None] * 10
    assert made.counts.failed == 10
    target.fault = None
    clock.advance(FIRST_PAUSE_S * 1.01)
    assert await made.embed("a") is not None


async def test_what_is_known_is_given_while_it_rests() -> None:
    target = Target()
    made = embedder(target)
    known = await made.embed("a")
    target.fault = UpstreamError("down", upstream_status=500)
    assert await made.embed("b") is None
    assert await made.embed("a") is known


async def test_a_caller_that_leaves_takes_the_call_from_nobody() -> None:
    target = Target()
    target.gate.clear()
    made = embedder(target)
    first = asyncio.ensure_future(made.embed("a"))
    second = asyncio.ensure_future(made.embed("a"))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    target.gate.set()
    assert await second is not None


async def test_only_so_many_are_remembered_and_the_longest_unused_goes() -> None:
    target = Target()
    made = embedder(target)
    for number in range(REMEMBERED):
        await made.embed(str(number))
    await made.embed("0")
    await made.embed("one more")
    assert len(target.texts) == REMEMBERED + 1
    await made.embed("0")
    assert len(target.texts) == REMEMBERED + 1
    await made.embed("1")
    assert len(target.texts) == REMEMBERED + 2


async def test_closing_ends_the_calls_under_way() -> None:
    target = Target()
    target.gate.clear()
    made = embedder(target)
    asking = asyncio.ensure_future(made.embed("a"))
    await asyncio.sleep(0)
    made.close()
    assert await asking is None
