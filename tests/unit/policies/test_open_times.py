"""How long a circuit stays open."""

import random

from gateway.policies.open_times import OpenTimes


def _times() -> OpenTimes:
    return OpenTimes(30.0, 100.0, 60.0, random.Random(7))


def _opened(times: OpenTimes, now_s: float, *, was_closed: bool = True, is_longest: bool = False) -> float:
    return times.opened(now_s, was_closed=was_closed, is_longest=is_longest)


def test_each_time_in_succession_is_longer_up_to_the_cap() -> None:
    times = _times()
    for number, least_s in enumerate((30, 60, 90, 100, 100), 1):
        assert least_s <= _opened(times, 1000.0, was_closed=number == 1) <= least_s * 1.1
        assert times.in_succession == number


def test_no_two_stay_open_for_exactly_as_long() -> None:
    times = _times()
    assert len({_opened(times, 0.0, was_closed=False) for _ in range(20)}) == 20


def test_health_for_long_enough_makes_the_past_forgotten() -> None:
    times = _times()
    _opened(times, 1000.0)
    times.closed(1030.0)
    _opened(times, 1050.0)
    assert times.in_succession == 2
    times.closed(1120.0)
    _opened(times, 1190.0)
    assert times.in_succession == 1


def test_time_spent_open_is_no_health() -> None:
    times = _times()
    _opened(times, 1000.0)
    _opened(times, 2000.0, was_closed=False)
    assert times.in_succession == 2


def test_the_longest_time_can_be_asked_for() -> None:
    times = _times()
    assert 100 <= _opened(times, 0.0, is_longest=True) <= 110
    times.forget()
    assert times.in_succession == 0
