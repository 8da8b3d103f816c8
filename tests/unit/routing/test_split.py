"""Traffic by weight."""

import random
from collections import Counter
from functools import partial

import pytest

from gateway.core.errors import Forbidden, NoHealthyTarget
from gateway.core.exchange import Exchange
from gateway.routing.split import Arm, Split
from gateway.routing.sticky import Sticky
from tests.fakes import Answering, exchange, request

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


class _Fleet:
    """Arms whose breakers a test opens and closes."""

    def __init__(self, weights: dict[str, float], *, sticky: Sticky | None = None) -> None:
        self.out: set[str] = set()
        self.answering = {name: Answering() for name in weights}
        arms = [
            Arm(name, weight, self.answering[name].handler, available=partial(self._is_in, name))
            for name, weight in weights.items()
        ]
        self.split = Split(arms, random.Random(7), sticky)

    def _is_in(self, name: str) -> bool:
        return name not in self.out

    async def serve(self, conversation: str | None = None, *, pinned: str | None = None) -> tuple[str, str]:
        """Which target served, and the decision."""
        headers = [] if conversation is None else [(b"x-conversation", conversation.encode())]
        asked = exchange(request(headers=headers), pinned_target=pinned)
        name = await _served_by(self.split, self.answering, asked)
        [decision] = asked.decisions
        return name, f"{decision.step}: {decision.detail}"


async def test_a_conversation_stays_with_its_target() -> None:
    """F46: the same key gets the same arm, and so do its retries, which happen inside the arm."""
    fleet = _Fleet({"stable": 90, "canary": 10}, sticky=Sticky(["header:x-conversation"]))
    first = [await fleet.serve(f"c-{number}") for number in range(50)]
    assert first == [await fleet.serve(f"c-{number}") for number in range(50)]
    assert {name for name, _ in first} == {"stable", "canary"}
    assert first[0][1] == f"split: {first[0][0]} by header:x-conversation"


async def test_who_has_no_key_goes_by_chance() -> None:
    fleet = _Fleet({"a": 1, "b": 1}, sticky=Sticky(["header:x-conversation"]))
    served = [await fleet.serve() for _ in range(100)]
    assert {name for name, _ in served} == {"a", "b"}
    assert "by weight 1 of 2" in served[0][1]


async def test_ten_thousand_conversations_follow_the_weights() -> None:
    """F46: 10,000 calls 90/10 are 10 % within one point, sticky too."""
    fleet = _Fleet({"stable": 90, "canary": 10}, sticky=Sticky(["header:x-conversation"]))
    served = Counter([(await fleet.serve(f"c-{number}"))[0] for number in range(10_000)])
    assert 900 <= served["canary"] <= 1100


async def test_an_ejected_target_is_passed_over_and_the_others_share_its_traffic() -> None:
    fleet = _Fleet({"a": 50, "b": 30, "c": 20})
    fleet.out = {"a"}
    served = [await fleet.serve() for _ in range(2000)]
    counted = Counter(name for name, _ in served)
    assert counted["a"] == 0
    assert abs(counted["b"] / 2000 - 0.6) < 0.04
    assert {"split: b instead of a (ejected)", "split: c instead of a (ejected)"} <= {how for _, how in served}


async def test_of_sticky_conversations_only_those_of_an_ejected_target_move_and_they_come_back() -> None:
    fleet = _Fleet({"a": 1, "b": 1, "c": 1}, sticky=Sticky(["header:x-conversation"]))
    names = [f"c-{number}" for number in range(200)]
    before = {name: (await fleet.serve(name))[0] for name in names}
    fleet.out = {"a"}
    during = {name: await fleet.serve(name) for name in names}
    again = {name: await fleet.serve(name) for name in names}
    assert during == again, "who stands in is fixed too"
    for name in names:
        target, how = during[name]
        assert target == before[name] if before[name] != "a" else how == f"split: {target} instead of a (ejected)"
    fleet.out = set()
    assert before == {name: (await fleet.serve(name))[0] for name in names}


async def test_when_all_are_ejected_the_one_that_was_chosen_answers_for_itself() -> None:
    """F40: the route is not shut by the gateway alone; its breaker says what it says."""
    fleet = _Fleet({"a": 1, "b": 0.000001})
    fleet.out = {"a", "b"}
    assert await fleet.serve() == ("a", "split: a though it is ejected: so are all others")


async def test_a_pin_is_not_led_away_from_an_ejected_target() -> None:
    fleet = _Fleet({"a": 1, "b": 1})
    fleet.out = {"a"}
    assert await fleet.serve(pinned="a") == ("a", "pin: a")


async def test_the_only_target_is_not_asked_whether_it_is_ejected() -> None:
    fleet = _Fleet({"a": 1})
    fleet.out = {"a"}
    asked = exchange()
    assert await _served_by(fleet.split, fleet.answering, asked) == "a"
    assert asked.decisions == []
