"""The steps before a budget is spent."""

from gateway.policies.pressure import Ladder, Step


def test_without_steps_everybody_may_spend_it_all() -> None:
    ladder = Ladder(1000, ())
    assert [ladder.limit(priority) for priority in ("low", "normal", "high")] == [1000, 1000, 1000]
    assert ladder.downgrades == ()
    assert ladder.downgrade(2.0) == 0


def test_the_rest_is_kept_for_those_who_matter_more() -> None:
    ladder = Ladder(1000, (Step(0.5, only_priority="normal"), Step(0.9, only_priority="high"), Step(0.95, refuse=True)))
    assert [ladder.limit(priority) for priority in ("low", "normal", "high")] == [500, 900, 950]


def test_the_order_of_steps_does_not_matter_and_no_step_enlarges_the_budget() -> None:
    ladder = Ladder(1000, (Step(1.5, refuse=True), Step(0.8, "small"), Step(0.5, "medium")))
    assert ladder.limit("low") == 1000
    assert ladder.downgrades == ((0.5, "medium"), (0.8, "small"))
    assert [ladder.downgrade(share) for share in (0.49, 0.5, 0.79, 0.8, 1.2)] == [0, 1, 1, 2, 2]
