"""Distances of long texts: apart from the look-ups, in bounded time and number, and nothing remembered."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gateway.semantic.distance import MOST_CHARACTERS, Distances
from gateway.semantic.model import Vector, load

pytestmark = pytest.mark.anyio


class Gate:
    """An encoder that computes once it is let: a direction for each first letter, `A` opposite to `a`."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.opened.set()
        self.texts: list[str] = []

    def encode(self, text: str) -> Vector:
        """The direction."""
        self.texts.append(text)
        assert self.opened.wait(20)
        if text == "bad":
            raise ValueError("a secret reply")
        return np.array({"a": [1, 0], "b": [0, 1], "A": [-1, 0]}[text[0]], np.float32)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Open, also at the end, so that no thread stays behind."""
    made = Gate()
    yield made
    made.opened.set()


async def _begun(gate: Gate) -> None:
    while not gate.texts:
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("one", "other", "distance"), [("a one", "a two", 0.0), ("a", "b", 1.0), ("a", "A", 2.0), ("b", "a", 1.0)]
)
async def test_a_distance_is_what_lacks_to_the_same_direction(
    gate: Gate, one: str, other: str, distance: float
) -> None:
    distances = Distances(gate, deadline_s=10)
    assert await distances.between(one, other) == pytest.approx(distance)
    distances.close()


async def test_the_same_text_is_not_computed(gate: Gate) -> None:
    distances = Distances(gate, deadline_s=10)
    assert await distances.between("a  “b” ", 'a "b"') == 0.0
    assert gate.texts == []
    distances.close()


async def test_nothing_is_remembered(gate: Gate) -> None:
    distances = Distances(gate, deadline_s=10)
    for _ in range(2):
        await distances.between("a", "b")
    assert gate.texts == ["a", "b", "a", "b"]
    distances.close()


async def test_only_the_beginning_of_a_long_text_is_looked_at(gate: Gate) -> None:
    distances = Distances(gate, deadline_s=10)
    assert await distances.between("a" * 50_000, "b" * 50_000) == 1.0
    assert [len(text) for text in gate.texts] == [MOST_CHARACTERS] * 2
    distances.close()


async def test_what_is_late_is_none_and_leaves_the_queue(gate: Gate) -> None:
    gate.opened.clear()
    distances = Distances(gate, deadline_s=0.02)
    asked = [distances.between("a1", "b1"), distances.between("a2", "b2")]
    assert await asyncio.gather(*asked) == [None, None]
    gate.opened.set()
    again = Distances(gate, deadline_s=10)
    assert await again.between("a3", "b3") == 1.0
    distances.close()
    again.close()
    assert "a2" not in gate.texts


async def test_no_more_than_may_be_are_under_way(gate: Gate) -> None:
    gate.opened.clear()
    distances = Distances(gate, deadline_s=10, waiting=2)
    asked = [asyncio.ensure_future(distances.between("a", "b")) for _ in range(3)]
    await _begun(gate)
    assert [each.done() for each in asked] == [False, False, True]
    gate.opened.set()
    assert await asyncio.gather(*asked) == [1.0, 1.0, None]
    assert await distances.between("a", "b") == 1.0
    distances.close()


async def test_what_cannot_be_computed_is_none_and_its_text_is_not_logged(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    distances = Distances(gate, deadline_s=10)
    with caplog.at_level(logging.DEBUG):
        assert await distances.between("a", "bad") is None
    assert "a distance could not be computed: ValueError" in caplog.text
    assert "secret" not in caplog.text
    assert await distances.between("a", "b") == 1.0
    distances.close()


async def test_who_leaves_takes_the_texts_out_of_the_queue(gate: Gate) -> None:
    gate.opened.clear()
    distances = Distances(gate, deadline_s=10)
    first, second = (asyncio.ensure_future(distances.between(text, "b")) for text in ("a1", "a2"))
    await _begun(gate)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.opened.set()
    assert await first == 1.0
    assert await distances.between("a3", "b") == 1.0
    assert "a2" not in gate.texts
    distances.close()


async def test_once_closed_it_drops_what_waits_and_takes_nothing(gate: Gate) -> None:
    gate.opened.clear()
    distances = Distances(gate, deadline_s=10)
    running, waiting = (asyncio.ensure_future(distances.between(text, "b")) for text in ("a1", "a2"))
    await _begun(gate)
    distances.close()
    assert await waiting is None
    assert await distances.between("a", "b") is None
    gate.opened.set()
    assert await running == 1.0
    assert "a2" not in gate.texts


async def test_the_real_model_puts_like_answers_near_and_others_far(model_folder: Path) -> None:
    distances = Distances(load(model_folder), deadline_s=20)
    answer = "To reset your password, open the settings and choose Security. A link is sent to you by mail. " * 20
    alike = "Open the settings, choose Security and reset your password. You will get a link by mail. " * 20
    other = "The capital of France is Paris, which lies on the Seine and has some two million people. " * 20
    near, far = await distances.between(answer, alike), await distances.between(answer, other)
    assert near is not None and far is not None
    assert near < 0.2
    assert far > 0.6
    distances.close()
