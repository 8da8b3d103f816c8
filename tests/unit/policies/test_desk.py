"""Where holds are asked for."""

import asyncio
import random

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.policies.desk import Desk, HoldIds
from gateway.store.base import Claim
from tests.fakes import FakeClock
from tests.unit.policies.admitting import Recording

pytestmark = pytest.mark.anyio

SLOT = Claim("r", "", "concurrency", "slots", 1, 1)


def desk() -> tuple[Desk, Recording]:
    """One with its ledger."""
    clock = FakeClock()
    ledger = Recording(clock)
    return Desk(ledger, HoldIds(random.Random(7)), clock.wall), ledger


async def test_every_hold_has_an_id_of_its_own_in_the_whole_fleet() -> None:
    here, there = HoldIds(random.Random(7)), HoldIds(random.Random(8))
    assert len({ids() for _ in range(100) for ids in (here, there)}) == 200


async def test_a_hold_is_taken_with_its_verdict() -> None:
    asked, ledger = desk()
    hold, verdict = await asked.take([SLOT])
    assert (hold.claims, verdict.granted) == ((SLOT,), True)
    assert list(ledger.live) == [hold.id]
    assert not (await asked.take([SLOT]))[1].granted


async def test_a_hold_that_nobody_waits_for_is_given_back() -> None:
    """F51, F72: the store may have granted it."""
    asked, ledger = desk()
    task = asyncio.ensure_future(asked.take([SLOT]))
    await asyncio.sleep(0)
    assert ledger.held
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [used for _, used in ledger.settled] == [(0,)]
    assert (await asked.take([SLOT]))[1].granted


async def test_a_store_that_is_away_is_owed_nothing() -> None:
    asked, ledger = desk()
    ledger.fault = StoreUnavailable("away", retry_after_s=1.0)
    with pytest.raises(StoreUnavailable):
        await asked.take([SLOT])
    assert ledger.settled == []
