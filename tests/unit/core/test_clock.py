"""Clocks."""

import time

from gateway.core.clock import Clock, SystemClock
from tests.fakes import FakeClock


def test_the_system_clock_never_goes_back() -> None:
    clock: Clock = SystemClock()
    before = clock.monotonic()
    assert clock.monotonic() >= before


def test_the_system_clock_reads_the_machines_own_time() -> None:
    assert SystemClock.wall is time.time
    assert SystemClock.monotonic is time.monotonic


def test_a_held_clock_moves_only_when_told() -> None:
    clock: Clock = FakeClock(10.0, 20.0)
    assert (clock.monotonic(), clock.wall()) == (10.0, 20.0)
    assert isinstance(clock, FakeClock)
    clock.advance(1.5)
    assert (clock.monotonic(), clock.wall()) == (11.5, 21.5)
