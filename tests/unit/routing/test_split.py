"""Traffic by weight."""

import random
from collections import Counter

import pytest

from gateway.core.errors import Forbidden, NoHealthyTarget
from gateway.core.exchange import Exchange
from gateway.routing.split import Arm, Split
from tests.fakes import Answering, exchange

pytestmark = pytest.mark.anyio


async def _served_by(split: Split, arms: dict[str, Answering], asked: Exchange) -> str:
    async with split(asked) as reply:
        return next(name for name, answering in arms.items() if answering.reply is reply)


def _split(weights: dict[str, float], *, seed: int = 7) -> tuple[Split, dict[str, Answering]]:
    answering = {name: Answering() for name in weights}
    arms = [Arm(name, weight, answering[name].handler) for name, weight in weights.items()]
    return Split(arms, random.Random(seed)), answering


async def test_the_only_target_gets_everything_and_nothing_was_decided() -> None:
    split, arms = _split({"a": 1})
    asked = exchange()
    assert await _served_by(split, arms, asked) == "a"
    assert asked.decisions == []


async def test_traffic_follows_the_weights() -> None:
    """F46: 10,000 calls 90/10 are 10 % within one point."""
    split, arms = _split({"stable": 90, "canary": 10})
    served: Counter[str] = Counter()
    for _ in range(10_000):
        served[await _served_by(split, arms, exchange())] += 1
    assert 900 <= served["canary"] <= 1100
    assert served.total() == 10_000


async def test_the_choice_and_its_weight_are_written_down() -> None:
    split, arms = _split({"a": 1, "b": 3})
    asked = exchange()
    name = await _served_by(split, arms, asked)
    weight = {"a": "1", "b": "3"}[name]
    assert [(d.step, d.detail) for d in asked.decisions] == [("split", f"{name} by weight {weight} of 4")]


async def test_a_target_without_weight_gets_nothing() -> None:
    split, arms = _split({"a": 1, "b": 0, "c": 1})
    served = {await _served_by(split, arms, exchange()) for _ in range(100)}
    assert served == {"a", "c"}


async def test_a_target_out_of_service_leaves_its_share_to_the_others() -> None:
    answering = Answering()
    arms = [Arm("a", 1, answering.handler), Arm("b", 99, None, "B_KEY is not set")]
    split = Split(arms, random.Random(7))
    for _ in range(20):
        assert await _served_by(split, {"a": answering}, exchange()) == "a"


async def test_a_route_without_a_target_in_service_says_why() -> None:
    split = Split([Arm("a", 1, None, "A_KEY is not set"), Arm("b", 0, Answering().handler)], random.Random(7))
    with pytest.raises(NoHealthyTarget) as caught:
        split(exchange())
    assert "a: A_KEY is not set; b: weight 0" in caught.value.message
    assert caught.value.retry_after_s == 5.0, "F29: every 503 has a Retry-After"


async def test_a_pinned_exchange_goes_to_the_target_it_names() -> None:
    split, arms = _split({"a": 1, "b": 0})
    asked = exchange(pinned_target="b")
    assert await _served_by(split, arms, asked) == "b"
    assert [(d.step, d.detail) for d in asked.decisions] == [("pin", "b")]


async def test_a_pin_to_another_routes_target_is_refused_with_the_names_there_are() -> None:
    split, _ = _split({"a": 1, "b": 1})
    with pytest.raises(Forbidden, match=r"'c' is not a target of this route. It has: a, b") as caught:
        split(exchange(pinned_target="c"))
    assert caught.value.code == "pin_not_allowed"


async def test_a_pin_to_a_target_out_of_service_goes_nowhere_else() -> None:
    arms = [Arm("a", 1, Answering().handler), Arm("b", 1, None, "B_KEY is not set")]
    with pytest.raises(NoHealthyTarget, match="Target b is out of service: B_KEY is not set"):
        Split(arms, random.Random(7))(exchange(pinned_target="b"))
