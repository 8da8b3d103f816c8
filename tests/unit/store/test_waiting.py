"""Operations on their way."""

import asyncio

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.store.packing import Op
from gateway.store.waiting import Heard, Waiting, dismiss, lasting, still_held, unavailable

pytestmark = pytest.mark.anyio


def test_who_is_refused_is_told_when_to_come_back() -> None:
    assert unavailable().retry_after_s == 1.0


async def test_everybody_who_still_waits_is_dismissed() -> None:
    loop = asyncio.get_running_loop()
    waits, gone, answered = loop.create_future(), loop.create_future(), loop.create_future()
    gone.cancel()
    answered.set_result(1)
    dismiss([Waiting((1,), future, "", False) for future in (waits, gone, answered, None)])
    with pytest.raises(StoreUnavailable):
        await waits
    assert answered.result() == 1


def test_what_has_to_be_delivered_is_kept() -> None:
    kept, other = Waiting((1,), None, "", True), Waiting((2,), None, "", False)
    assert lasting([other, kept, other]) == [kept]


def test_the_hold_of_a_settlement_on_its_way_is_still_held() -> None:
    settlement, other = (Op.SETTLE, "hold-1", "claims", (7,), 12), (Op.RELEASE, ["hold-2"])
    batch = [Waiting(operation, None, "", True) for operation in (other, settlement)]
    assert still_held(batch) == [(Op.REGISTER, "hold-1", "claims", 12)]


def test_what_was_heard_of_others_is_told_as_it_was_heard_last() -> None:
    heard = Heard()
    assert (heard.tick, heard.told()) == (0, [])
    heard.learn(5, ["a", "3", "b", "4"])
    heard.learn(8, ["a", "7"])
    assert (heard.tick, heard.told()) == (8, ["a", "7", "b", "4"])


def test_of_many_others_the_last_are_remembered() -> None:
    heard = Heard()
    heard.learn(1, [text for n in range(2001) for text in (f"client-{n}", str(n))])
    told = heard.told()
    assert told[:2] == ["client-1000", "1000"]
    assert told[-2:] == ["client-2000", "2000"]
