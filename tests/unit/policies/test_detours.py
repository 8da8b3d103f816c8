"""Cheaper ways under pressure."""

from gateway.policies.detours import Detours, Way
from gateway.policies.matching import Matched
from gateway.policies.pressure import Step
from gateway.policies.quoting import AnyTarget
from gateway.policies.rules import Rule
from gateway.store.base import Claim, Standing
from tests.unit.policies.admitting import Booth, Costing, Quoting, asking, budget

NOW_S = 1_700_000_000.0
WAYS = {name: Way(Costing(name), AnyTarget({name: Quoting()})) for name in ("medium", "small", "free")}
LADDER = (Step(0.5, "medium"), Step(0.8, "small"), Step(0.9, only_priority="high"))


def matched(*shares: float, rules: tuple[Rule, ...] = (budget(1000, pressure=LADDER),)) -> Matched:
    """The rules, with so much used of the budget of each."""
    found = Booth(*rules).rules.for_exchange(asking())
    claim = Claim("money", "", "budget", "nusd", 1, 1000, 0.0, "2023-11-14", 0.0)
    for scoped, share in zip(found.metered, shares, strict=True):
        scoped.note(claim, Standing(True, int(share * 1000), 1000))
    return found


def test_below_the_first_step_the_way_is_the_clients_own() -> None:
    asked = asking()
    assert Detours(WAYS, matched(0.49), asked).by_level(NOW_S) is None
    assert asked.decisions == []


def test_the_highest_step_that_is_reached_leads_the_way() -> None:
    asked = asking()
    assert Detours(WAYS, matched(0.6), asked).by_level(NOW_S) is WAYS["medium"]
    assert Detours(WAYS, matched(0.85), asked).by_level(NOW_S) is WAYS["small"]
    assert [decision.detail for decision in asked.decisions] == [
        "money is used to 60%: served by medium",
        "money is used to 85%: served by small",
    ]


def test_of_several_budgets_the_highest_step_leads() -> None:
    rules = (budget(1000, "a", pressure=(Step(0.9, "free"),)), budget(1000, "b", pressure=LADDER))
    assert Detours(WAYS, matched(0.95, 0.6, rules=rules), asking()).by_level(NOW_S) is WAYS["free"]
    assert Detours(WAYS, matched(0.5, 0.6, rules=rules), asking()).by_level(NOW_S) is WAYS["medium"]


def test_yesterdays_level_and_a_dry_run_lead_nowhere() -> None:
    assert Detours(WAYS, matched(1.0), asking()).by_level(NOW_S + 86400) is None
    dry = (budget(1000, pressure=LADDER, dry_run=True), Rule("tokens", tokens=(1, 1.0)))
    found = Booth(*dry).rules.for_exchange(asking())
    assert Detours(WAYS, found, asking()).by_level(NOW_S) is None


def test_a_way_that_is_out_of_service_is_passed_over() -> None:
    assert Detours({"medium": WAYS["medium"]}, matched(0.85), asking()).by_level(NOW_S) is WAYS["medium"]
    assert Detours({"free": WAYS["free"]}, matched(0.85), asking()).by_level(NOW_S) is None


def test_a_pinned_request_takes_no_other_way() -> None:
    found = matched(0.85)
    detours = Detours(WAYS, found, asking(pinned_target="gpt"))
    assert detours.by_level(NOW_S) is None
    assert detours.after(found.metered) is None


def test_after_a_refusal_each_step_is_taken_once() -> None:
    found, asked = matched(0.0), asking()
    detours = Detours(WAYS, found, asked)
    assert [detours.after(found.metered) for _ in range(3)] == [WAYS["medium"], WAYS["small"], None]
    assert asked.decisions[0].detail == "money has no room for the worst: served by medium"


def test_after_a_refusal_on_the_way_only_the_later_steps_are_left() -> None:
    found = matched(0.85)
    detours = Detours(WAYS, found, asking())
    assert detours.by_level(NOW_S) is WAYS["small"]
    assert detours.after(found.metered) is None
