"""The change from one configuration to the next."""

import pytest

from gateway.assembly.generation import Generations, LiveTarget, Route
from tests.fakes import Answering, loaded


class Thing:
    """Something that is leased."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        """Count the calls."""
        self.closed += 1


def test_before_the_first_configuration_there_is_nothing_to_lease() -> None:
    generations: Generations[Thing] = Generations()
    assert generations.current is None
    assert len(generations) == 0
    with pytest.raises(AssertionError, match="no configuration"):
        generations.enter()


def test_an_old_generation_without_leases_is_closed_at_the_swap() -> None:
    generations: Generations[Thing] = Generations()
    old, new = Thing(), Thing()
    generations.swap(old)
    generations.leave(generations.enter())
    assert old.closed == 0, "the current one is kept"
    generations.swap(new)
    assert (old.closed, new.closed, len(generations)) == (1, 0, 1)
    assert generations.current is new


def test_an_old_generation_is_closed_once_with_its_last_lease() -> None:
    """F78: who began with a configuration ends with it."""
    generations: Generations[Thing] = Generations()
    old, new = Thing(), Thing()
    generations.swap(old)
    leases = [generations.enter(), generations.enter()]
    generations.swap(new)
    assert generations.enter() is new
    assert (old.closed, len(generations)) == (0, 2)
    generations.leave(leases[0])
    assert old.closed == 0
    generations.leave(leases[1])
    assert (old.closed, len(generations)) == (1, 1)


def test_several_old_generations_live_side_by_side() -> None:
    generations: Generations[Thing] = Generations()
    things = [Thing() for _ in range(5)]
    leases = []
    for thing in things:
        generations.swap(thing)
        leases.append(generations.enter())
    assert len(generations) == 5
    for lease in reversed(leases):
        generations.leave(lease)
    assert [thing.closed for thing in things] == [1, 1, 1, 1, 0]
    assert len(generations) == 1


def test_routes_and_targets_show_no_handler_and_no_secret() -> None:
    assert "handler" not in repr(Route("demo", {"mock": 1.0}, Answering().handler))
    text = "apiVersion: gateway/v1\ntargets:\n  o: {provider: openai, base_url: 'http://h/v1', api_key: env:K}\n"
    config = loaded(text + "routes: [{model: demo, target: o}]\n", {"K": "sk-up"}).config.targets["o"]
    assert "sk-up" not in repr(LiveTarget("o", config, None, None))
