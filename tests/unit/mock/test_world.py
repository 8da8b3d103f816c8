"""Turns of `seq`, `fail_rate` and `quality`."""

from gateway.mock.directives import Directives
from tests.unit.mock.raw import new_world


def test_each_call_of_a_model_takes_the_next_status_and_the_last_repeats() -> None:
    """F32, F35."""
    world, directives = new_world(), Directives(seq=(500, 503, 200))
    assert [world.failing_status(directives, "a") for _ in range(5)] == [500, 503, 200, 200, 200]
    assert world.failing_status(directives, "b") == 500


def test_a_reset_begins_the_sequence_again() -> None:
    world, directives = new_world(), Directives(seq=(500, 200))
    assert [world.failing_status(directives, "a") for _ in range(2)] == [500, 200]
    world.reset()
    assert world.failing_status(directives, "a") == 500


def test_the_fail_rate_is_kept_and_repeats_for_a_seed() -> None:
    directives = Directives(fail_rate=0.1, seed=7)
    first = [new_world_status(directives) for _ in range(2)]
    assert first[0] == first[1]
    assert 70 <= sum(status == 500 for status in first[0]) <= 130
    assert new_world_status(Directives(fail_rate=0.1, seed=8)) != first[0]


def new_world_status(directives: Directives) -> list[int | None]:
    world = new_world()
    return [world.failing_status(directives, "a") for _ in range(1000)]


def test_the_fail_rate_fails_with_the_wanted_status() -> None:
    assert new_world().failing_status(Directives(fail_rate=1.0, status=429), "a") == 429


def test_without_directives_nothing_fails_and_no_luck_is_needed() -> None:
    world = new_world()
    assert world.failing_status(Directives(), "a") is None
    assert world.failing_status(Directives(status=503), "a") == 503
    assert world.draw(Directives(), "a") == 0.0


def test_quality_draws_anew_for_each_call() -> None:
    world, directives = new_world(), Directives(quality=0.5)
    assert len({world.draw(directives, "a") for _ in range(10)}) == 10


def test_invented_models_do_not_fill_the_memory() -> None:
    """F125: names from requests are no place to grow."""
    world, directives = new_world(), Directives(seq=(500, 200))
    for number in range(100_002):
        world.failing_status(directives, f"m{number}")
    assert world.failing_status(directives, "m1") == 500


def test_calls_and_connections_are_numbered_from_one() -> None:
    world = new_world()
    assert (world.next_call(), world.next_call(), world.next_connection()) == (1, 2, 1)
