"""Vectors within a deadline, one computation for a text, and a loop that is never held up."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gateway.semantic.embedder import Embedder
from gateway.semantic.model import Vector, load

pytestmark = pytest.mark.anyio


class Gate:
    """An encoder that computes once it is let."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.texts: list[str] = []

    def encode(self, text: str) -> Vector:
        """A vector that shows the text's length."""
        self.texts.append(text)
        assert self.opened.wait(20)
        if text == "bad":
            raise ValueError("a secret prompt")
        return np.array([len(text), 0], np.float32)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Closed, and opened at the end so that no thread stays behind."""
    made = Gate()
    yield made
    made.opened.set()


async def settled(embedder: Embedder, number: int) -> None:
    """Return once so many texts have been computed or have failed."""
    while embedder.counts.computed + embedder.counts.failed < number:
        await asyncio.sleep(0)


async def test_a_vector_is_computed_once_and_then_remembered(gate: Gate) -> None:
    gate.opened.set()
    embedder = Embedder(gate, deadline_s=10)
    one = await embedder.embed("abc")
    assert one is not None and one.tolist() == [3, 0]
    assert await embedder.embed("abc") is one
    assert gate.texts == ["abc"]
    assert (embedder.counts.computed, embedder.counts.remembered) == (1, 1)
    with pytest.raises(ValueError, match="read-only"):
        one[0] = 1
    embedder.close()


async def test_after_the_deadline_there_is_none_and_the_next_time_there_is(gate: Gate) -> None:
    embedder = Embedder(gate, deadline_s=0.001)
    assert await embedder.embed("late") is None
    assert embedder.counts.late == 1
    gate.opened.set()
    await settled(embedder, 1)
    assert await embedder.embed("late") is not None
    assert gate.texts == ["late"]
    embedder.close()


async def test_callers_with_the_same_text_share_one_computation(gate: Gate) -> None:
    embedder = Embedder(gate, deadline_s=10)
    asked = [asyncio.ensure_future(embedder.embed("same")) for _ in range(5)]
    await asyncio.sleep(0)
    gate.opened.set()
    found = await asyncio.gather(*asked)
    assert all(each is found[0] and each is not None for each in found)
    assert gate.texts == ["same"]
    embedder.close()


async def test_a_caller_that_leaves_does_not_take_the_vector_from_the_others(gate: Gate) -> None:
    embedder = Embedder(gate, deadline_s=10)
    leaving, staying = (asyncio.ensure_future(embedder.embed("same")) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    gate.opened.set()
    assert await staying is not None
    assert leaving.cancelled()
    embedder.close()


async def test_more_texts_than_may_wait_are_refused_at_once(gate: Gate) -> None:
    embedder = Embedder(gate, deadline_s=10, waiting=2)
    asked = [asyncio.ensure_future(embedder.embed(text)) for text in ("one", "two")]
    await asyncio.sleep(0)
    assert await embedder.embed("three") is None
    assert embedder.counts.refused == 1
    gate.opened.set()
    assert [each.tolist() for each in await asyncio.gather(*asked) if each is not None] == [[3, 0], [3, 0]]
    embedder.close()


async def test_a_failure_is_a_miss_and_its_words_are_not_logged(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    gate.opened.set()
    embedder = Embedder(gate, deadline_s=10)
    with caplog.at_level(logging.ERROR):
        assert await embedder.embed("bad") is None
    assert embedder.counts.failed == 1
    assert "ValueError" in caplog.text and "secret" not in caplog.text
    # The thread goes on.
    assert await embedder.embed("good") is not None
    embedder.close()


async def test_the_longest_unused_vector_is_forgotten_first(gate: Gate) -> None:
    gate.opened.set()
    embedder = Embedder(gate, deadline_s=10, remembered=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        await embedder.embed(text)
    assert gate.texts == ["a", "b", "c", "b"]
    embedder.close()


async def test_closing_drops_what_waits_and_does_not_block(gate: Gate) -> None:
    embedder = Embedder(gate, deadline_s=10)
    running, waiting = (asyncio.ensure_future(embedder.embed(text)) for text in ("running", "waiting"))
    await asyncio.sleep(0)
    embedder.close()
    assert await waiting is None
    gate.opened.set()
    assert await running is not None
    assert gate.texts == ["running"]


async def test_the_loop_turns_while_the_real_model_computes(model_folder: Path) -> None:
    embedder = Embedder(load(model_folder), deadline_s=10)
    turns = 0
    asked = [asyncio.ensure_future(embedder.embed(f"how do I pay bill number {number}?")) for number in range(20)]
    while not all(each.done() for each in asked):
        turns += 1
        await asyncio.sleep(0)
    assert all(each.result() is not None for each in asked)
    # Some hundreds of turns for every text: it is computed beside the loop, not in it. How long the longest took is
    # for a measurement on a quiet machine; here other tests run.
    assert turns > 20 * 20
    embedder.close()
