"""The right to try a target that is out."""

import asyncio
import random

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.policies.probe import Pass, ProbeRight
from tests.unit.policies.leases import FakeLeases

pytestmark = pytest.mark.anyio


def _right(leases: FakeLeases | None, seed: int = 7) -> ProbeRight:
    return ProbeRight("gpt", leases, random.Random(seed))


async def test_one_request_at_a_time_has_it() -> None:
    """F33."""
    right = _right(None)
    assert right.is_free(1000.0)
    taken = await right.take(1000.0)
    assert taken is not None
    assert (taken.kind, right.is_free(1000.0)) == ("probe", False)
    right.give_back(taken)
    assert right.is_free(1000.0)


async def test_one_process_of_the_fleet_has_it() -> None:
    """F33."""
    leases = FakeLeases()
    one, other = _right(leases), _right(leases, seed=8)
    taken = await one.take(1000.0)
    assert taken is not None
    assert list(leases.held) == ["probe/gpt"]
    assert await other.take(1000.0) is None
    assert not other.is_free(1000.5)
    assert other.is_free(1001.0)
    one.give_back(taken)
    await leases.released.wait()
    assert leases.held == {}
    assert await other.take(1001.0) is not None


async def test_without_its_store_each_process_probes_for_itself() -> None:
    leases = FakeLeases(fault=StoreUnavailable("down"))
    right = _right(leases)
    taken = await right.take(1000.0)
    assert taken is not None
    assert taken.owner == ""
    right.give_back(taken)
    assert right.is_free(1000.0)


async def test_a_store_that_is_gone_when_it_is_given_back_holds_nobody_up() -> None:
    leases = FakeLeases()
    right = _right(leases)
    taken = await right.take(1000.0)
    assert taken is not None
    leases.fault = StoreUnavailable("down")
    right.give_back(taken)
    await leases.released.wait()
    assert right.is_free(1000.0)


async def test_one_who_leaves_while_asking_leaves_nothing_behind() -> None:
    """F34: whether the store granted it is not known, so it is given back."""
    leases = FakeLeases()
    leases.answer = asyncio.Event()
    right = _right(leases)
    task = asyncio.ensure_future(right.take(1000.0))
    await leases.asked.wait()
    assert not right.is_free(1000.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await leases.released.wait()
    assert right.is_free(1000.0)
    assert leases.held == {}


async def test_a_probe_that_streams_well_needs_no_end() -> None:
    right = _right(None)
    assert not right.is_proven(1000.0)
    taken = await right.take(1000.0)
    assert taken is not None
    assert not right.is_proven(1010.0)
    taken.entered_s = 1010.0
    assert not right.is_proven(1014.9)
    assert right.is_proven(1015.0)


async def test_other_passes_do_not_end_the_probe() -> None:
    right = _right(None)
    await right.take(1000.0)
    right.give_back(Pass("trickle"))
    assert not right.is_free(1000.0)
