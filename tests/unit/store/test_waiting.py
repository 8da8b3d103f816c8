"""Operations on their way."""

import asyncio

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.store.waiting import Waiting, dismiss, lasting, unavailable

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
