"""How many of a route's targets may be out at once."""

import random

import pytest

from gateway.policies.breaker import Breaker, BreakerSettings
from gateway.policies.ejection import EjectionPanel
from tests.fakes import FakeClock

SETTINGS = BreakerSettings(5, 0.5, 20, 30.0, 30.0, 300.0, 0.0)


def _breakers(count: int, clock: FakeClock) -> list[Breaker]:
    return [Breaker(f"t{n}", SETTINGS, clock, random.Random(n), None, lambda _: None) for n in range(count)]


def _open(breaker: Breaker) -> None:
    for _ in range(5):
        breaker.failed(0, None, "status 500")
    assert breaker.state == 2


def _ways(panel: EjectionPanel, breakers: list[Breaker], clock: FakeClock) -> list[str | None]:
    return [panel.lets(breaker, clock.monotonic()) for breaker in breakers]


def test_those_that_open_after_the_share_is_out_are_spared() -> None:
    """F40: three upstreams fail at once; half of them, rounded down, may be out."""
    clock = FakeClock()
    breakers = _breakers(3, clock)
    panel = EjectionPanel(breakers, 0.5)
    for breaker in breakers:
        _open(breaker)
    assert _ways(panel, breakers, clock) == [None, "spared", "spared"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_first_to_open_is_the_one_that_is_out(order: tuple[int, int, int]) -> None:
    clock = FakeClock()
    breakers = _breakers(3, clock)
    panel = EjectionPanel(breakers, 0.1)
    for place in order:
        _open(breakers[place])
        clock.advance(1.0)
    assert [place for place, way in enumerate(_ways(panel, breakers, clock)) if way is None] == [order[0]]


def test_one_may_always_be_out_and_a_routes_only_target_has_no_trickle_while_open() -> None:
    """F32: upstream calls stop at the threshold."""
    clock = FakeClock()
    breakers = _breakers(1, clock)
    panel = EjectionPanel(breakers, 0.1)
    _open(breakers[0])
    clock.advance(10.0)
    assert _ways(panel, breakers, clock) == [None]


def test_when_all_are_out_each_gets_one_request_a_second() -> None:
    """F40."""
    clock = FakeClock()
    breakers = _breakers(2, clock)
    panel = EjectionPanel(breakers, 1.0)
    for breaker in breakers:
        _open(breaker)
    assert _ways(panel, breakers, clock) == [None, None]
    clock.advance(1.0)
    assert _ways(panel, breakers, clock) == ["trickle", "trickle"]
    breakers[0].trickle(clock.monotonic())
    assert _ways(panel, breakers, clock) == [None, "trickle"]


def test_there_is_no_trickle_while_another_target_is_well() -> None:
    clock = FakeClock()
    breakers = _breakers(2, clock)
    panel = EjectionPanel(breakers, 1.0)
    _open(breakers[0])
    clock.advance(5.0)
    assert panel.lets(breakers[0], clock.monotonic()) is None


def test_an_ejection_by_hand_and_a_refused_account_spare_nobody_but_count() -> None:
    clock = FakeClock()
    breakers = _breakers(4, clock)
    panel = EjectionPanel(breakers, 0.5)
    breakers[0].eject("maintenance", None)
    breakers[1].refused_account(0, "status 401")
    _open(breakers[2])
    clock.advance(5.0)
    assert _ways(panel, breakers[:3], clock) == [None, None, "spared"]


def test_those_out_by_hand_have_no_trickle() -> None:
    clock = FakeClock()
    breakers = _breakers(2, clock)
    panel = EjectionPanel(breakers, 1.0)
    breakers[0].eject("maintenance", None)
    _open(breakers[1])
    clock.advance(5.0)
    assert _ways(panel, breakers, clock) == [None, "trickle"]


def test_a_pause_that_the_only_target_asked_for_is_tried_once_a_second() -> None:
    """F27: one large request may have caused it; the others need not wait for the whole of it."""
    clock = FakeClock()
    breakers = _breakers(1, clock)
    panel = EjectionPanel(breakers, 0.5)
    breakers[0].throttled(0, None, 60.0)
    assert _ways(panel, breakers, clock) == [None]
    clock.advance(1.0)
    assert _ways(panel, breakers, clock) == ["trickle"]


def test_a_pause_is_kept_while_another_target_is_within_reach() -> None:
    """F38, F39."""
    clock = FakeClock()
    breakers = _breakers(3, clock)
    panel = EjectionPanel(breakers, 0.5)
    breakers[0].throttled(0, None, 60.0)
    clock.advance(5.0)
    assert panel.lets(breakers[0], clock.monotonic()) is None
    for breaker in breakers[1:]:
        _open(breaker)
    clock.advance(5.0)
    # The second to open is spared, so there still is one.
    assert _ways(panel, breakers, clock) == [None, None, "spared"]
