"""One of several equal requests asks; the others wait."""

import asyncio

import pytest

from gateway.policies.single_flight import Flight, Flights
from gateway.store.blobs import Entry

KEY = bytes(32)
ENTRY = Entry(b"{}", b"application/json", 0.0, 1.0, "t", None, None, (), None, None, None, "a", "req-1", (), ())

pytestmark = pytest.mark.anyio


async def followers(flight: Flight, count: int) -> list["asyncio.Task[object]"]:
    """So many tasks that wait by now."""
    tasks: list[asyncio.Task[object]] = [asyncio.create_task(flight.wait(10.0)) for _ in range(count)]
    while flight.followers < count:
        await asyncio.sleep(0)
    return tasks


async def test_all_followers_get_what_the_leader_brings() -> None:
    flights = Flights()
    flight = flights.lead(KEY, (0,))
    assert flights.find(KEY, (0,)) is flight
    tasks = await followers(flight, 3)
    flight.land(ENTRY)
    assert await asyncio.gather(*tasks) == [ENTRY] * 3
    assert len(flights) == 0
    assert KEY not in flights


async def test_a_failure_is_told_and_not_shared() -> None:
    flights = Flights()
    flight = flights.lead(KEY, None)
    tasks = await followers(flight, 2)
    flight.fail()
    assert await asyncio.gather(*tasks) == ["failed"] * 2
    assert flights.find(KEY, None) is None


async def test_what_must_not_be_shared_is_declined() -> None:
    flight = Flights().lead(KEY, None)
    tasks = await followers(flight, 1)
    flight.decline()
    assert await tasks[0] == "declined"


async def test_a_follower_does_not_wait_for_ever() -> None:
    flight = Flights().lead(KEY, None)
    assert await flight.wait(0.001) == "late"
    assert flight.followers == 0


async def test_a_follower_that_is_cancelled_disturbs_nobody() -> None:
    flight = Flights().lead(KEY, None)
    gone, stays = await followers(flight, 2)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert flight.followers == 1
    flight.land(ENTRY)
    assert await stays == ENTRY


async def test_who_asks_under_other_epochs_does_not_follow() -> None:
    flights = Flights()
    early = flights.lead(KEY, (0,))
    assert flights.find(KEY, (1,)) is None
    late = flights.lead(KEY, (1,))
    early.land(ENTRY)
    assert flights.find(KEY, (1,)) is late


async def test_a_flight_ends_once() -> None:
    flight = Flights().lead(KEY, None)
    tasks = await followers(flight, 1)
    flight.land(ENTRY)
    flight.fail()
    assert await tasks[0] == ENTRY


async def test_a_flight_that_nobody_followed_ends_too() -> None:
    flights = Flights()
    flights.lead(KEY, None).land(ENTRY)
    assert len(flights) == 0
