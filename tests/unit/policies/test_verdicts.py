"""What a verdict means."""

import math
from typing import Any

import pytest

from gateway.core.errors import BudgetExceeded, ConcurrencyLimited, RateLimited, StoreUnavailable
from gateway.core.exchange import LimitState
from gateway.policies.matching import Scoped
from gateway.policies.pressure import Step
from gateway.policies.rules import Rule
from gateway.policies.verdicts import misfits, refusal, states, tell, tell_refused, unpriced
from gateway.store.base import Claim, Standing, Verdict
from tests.unit.policies.admitting import Booth, asking, budget

NOW_S = 1_700_000_000.0
ENDS_S = 1_700_006_400.0
FITS = Standing(True, 1, 10)


def window(limit: int, used: int, unit: Any = "requests", **more: Any) -> tuple[Claim, Standing]:
    """A claim of one, and how it stands."""
    return Claim("r", "", "window", unit, 1, limit, 60.0, **more), Standing(True, used, limit, 0.0, 3.0)


def test_the_rule_with_the_smallest_part_left_is_told() -> None:
    """F64."""
    pairs = [
        window(100, 40),
        window(10, 5),
        window(1000, 400),
        window(50, 10, "tokens"),
        window(9, 9, "tokens"),
        window(8, 1, "tokens"),
    ]
    claims, standings = [claim for claim, _ in pairs], [standing for _, standing in pairs]
    assert states(claims, standings) == (LimitState("requests", 10, 5, 3.0), LimitState("tokens", 9, 0, 3.0))


def test_nothing_is_left_of_a_limit_that_was_lowered_below_what_is_used() -> None:
    """F64: never negative."""
    claim, standing = window(10, 25, "tokens")
    assert states([claim], [standing]) == (LimitState("tokens", 10, 0, 3.0),)


def test_dry_runs_slots_and_budgets_are_not_told() -> None:
    dry, standing = window(1, 1, dry_run=True)
    slot = Claim("r", "", "concurrency", "slots", 1, 3)
    assert states([dry, slot], [standing, FITS]) == ()
    assert states([dry, *[window(5, 1)[0]]], [standing, window(5, 1)[1]]) == (LimitState("requests", 5, 4, 3.0),)


class Case:
    """Some rules with one fixed claim each, and a verdict on them."""

    def __init__(self, *rules: Rule) -> None:
        self.booth = Booth(*rules)
        self.asked = asking()
        self.matched = self.booth.rules.for_exchange(self.asked)

    def tell(self, granted: bool, *fits: bool, mode: Any = "shared") -> None:
        """Tell of a verdict in which these fitted."""
        standings = tuple(Standing(fit, 1, 10) for fit in fits)
        verdict = Verdict(granted, standings, mode)
        tell(self.asked, self.matched, self.matched.fixed, self.matched.owners, verdict)

    @property
    def said(self) -> list[str]:
        """The decisions written down."""
        return [decision.detail for decision in self.asked.decisions]


RULES = (Rule("a", requests=(10, 60.0), concurrency=10), Rule("b", requests=(10, 60.0)))
DRY = Rule("dry", requests=(10, 60.0), dry_run=True)


def test_a_request_that_is_let_in_counts_once_for_each_rule_and_says_nothing() -> None:
    case = Case(*RULES)
    case.tell(True, True, True, True)
    assert case.booth.decided() == {("a", "allowed"): 1, ("b", "allowed"): 1}
    assert case.said == []


def test_a_refusal_counts_for_the_rules_that_refuse() -> None:
    case = Case(*RULES)
    case.tell(False, True, False, True)
    assert case.booth.decided() == {("a", "refused"): 1}
    assert case.said == ["a refuses: 1 of 10 slots and 1 asked for"]


def test_a_dry_run_counts_what_it_would_have_refused() -> None:
    case = Case(DRY, *RULES)
    case.tell(True, False, True, True, True)
    assert case.booth.decided() == {("dry", "dry_run"): 1, ("a", "allowed"): 1, ("b", "allowed"): 1}
    assert case.said == ["dry would have refused (dry run): 1 of 10 requests and 1 asked for"]
    case.tell(True, True, True, True, True)
    assert case.booth.decided()["dry", "allowed"] == 1


@pytest.mark.parametrize(("mode", "whose"), [("local", "this process alone"), ("open", "nobody: the store is gone")])
def test_who_decided_without_the_store_is_written_down(mode: str, whose: str) -> None:
    """F66, F70: it is never silent."""
    case = Case(*RULES)
    case.tell(True, True, True, True, mode=mode)
    assert case.booth.decided() == {("a", mode): 1, ("b", mode): 1}
    assert case.said == [f"decided by {whose}"]


def test_a_mere_look_at_a_budget_is_no_refusal() -> None:
    booth = Booth(budget(1000, pressure=(Step(0.5, "small"),)))
    asked = asking()
    matched = booth.rules.for_exchange(asked)
    look = Claim("money", "", "budget", "nusd", 0, 1000, 0.0, "p", ENDS_S, True)
    verdict = Verdict(True, (Standing(False, 1000, 1000),), "local")
    tell(asked, matched, [look], matched.scoped, verdict)
    assert booth.decided() == {("money", "local"): 1}
    assert misfits([look], matched.scoped, verdict) == []


def test_a_try_that_is_refused_counts_too() -> None:
    booth = Booth(budget(1_000_000_000))
    asked = asking()
    [owner] = booth.rules.for_exchange(asked).scoped
    claim = Claim("money", "", "budget", "nusd", 500_000_000, 1_000_000_000, 0.0, "p", ENDS_S)
    tell_refused(asked, [(owner, claim, Standing(False, 900_000_000, 1_000_000_000))])
    assert booth.decided() == {("money", "refused"): 1}
    assert asked.decisions[0].detail == "money refuses this try: $0.90 of $1.00 and $0.50 asked for"


def owner_of(rule: Rule) -> Scoped:
    """The rule for the only scope that it has."""
    return Booth(rule).rules.for_exchange(asking()).scoped[0]


REQUESTS = owner_of(Rule("per-key", requests=(600, 60.0)))
MONEY = owner_of(budget(200_000_000_000, "team-day", pressure=(Step(0.9, only_priority="high"),)))


def test_a_rate_limit_says_what_is_used_and_when_to_come_back() -> None:
    """F29."""
    claim = Claim("per-key", "", "window", "requests", 1, 600, 60.0)
    error = refusal([(REQUESTS, claim, Standing(False, 600, 600, 1.5, 60.0))], "normal", NOW_S)
    assert isinstance(error, RateLimited)
    assert error.message == ("Limit per-key allows 600 requests per minute, and 600 have come. Try again in 2 s.")
    assert (error.limit, error.retry_after_s) == ("per-key", 1.5)
    odd = Claim("per-key", "", "window", "requests", 1, 600, 90.0)
    error = refusal([(REQUESTS, odd, Standing(False, 600, 600, 0.0421, 60.0))], "normal", NOW_S)
    assert "requests per 90 s" in error.message
    assert "in 43 ms." in error.message
    nothing = Claim("per-key", "", "window", "requests", 1, 0, 1.0)
    error = refusal([(REQUESTS, nothing, Standing(False, 0, 0, math.inf))], "normal", NOW_S)
    assert error.message == "Limit per-key allows 0 requests per second, and 0 have come."


def test_a_token_limit_says_what_the_request_may_need() -> None:
    claim = Claim("per-key", "", "window", "tokens", 5096, 200_000, 60.0)
    error = refusal([(REQUESTS, claim, Standing(False, 199_000, 200_000, 3.2, 60.0))], "normal", NOW_S)
    assert isinstance(error, RateLimited)
    assert error.message == (
        "Limit per-key allows 200,000 tokens per minute: 199,000 are used or held, and this request may need 5,096 "
        "(its prompt and max_tokens). Try again in 4 s, or lower max_tokens."
    )
    error = refusal([(REQUESTS, claim, Standing(False, 0, 4_000, math.inf, 60.0))], "normal", NOW_S)
    assert error.message == (
        "This request may need 5,096 tokens (its prompt and max_tokens), and limit per-key never allows more than "
        "4,000 per minute. Shorten the prompt or lower max_tokens."
    )
    assert error.retry_after_s == math.inf


def test_a_limit_on_concurrency_says_so() -> None:
    claim = Claim("per-key", "", "concurrency", "slots", 1, 20)
    for wait_s, told_s in ((0.0, 1.0), (0.5, 0.5), (math.inf, 1.0)):
        error = refusal([(REQUESTS, claim, Standing(False, 20, 20, wait_s))], "normal", NOW_S)
        assert isinstance(error, ConcurrencyLimited)
        assert error.retry_after_s == told_s
    assert error.message == (
        "Limit per-key allows 20 requests at once, and 20 are running. Try again when one of them is over."
    )


def test_a_budget_says_what_is_left_and_when_it_starts_anew() -> None:
    claim = Claim("team-day", "", "budget", "nusd", 50_000_000, 200_000_000_000, 0.0, "2023-11-14", ENDS_S)
    standing = Standing(False, 209_990_000_000, 210_000_000_000, math.inf, 6400.0)
    error = refusal([(MONEY, claim, standing)], "normal", NOW_S)
    assert isinstance(error, BudgetExceeded)
    assert error.message == (
        "Budget team-day allows $210.00 per day: $209.99 is spent or held, and this request may cost $0.05. "
        "It starts anew at 2023-11-15T00:00:00Z; a smaller max_tokens, a shorter prompt or a cheaper model may still "
        "fit."
    )
    assert error.retry_after_s == 6400.0
    soon = refusal([(MONEY, claim, Standing(False, 1, 2, 1.0, 6400.0))], "normal", NOW_S)
    assert soon.retry_after_s == 1.0


def test_a_budget_says_when_its_rest_is_kept_for_others() -> None:
    claim = Claim("team-day", "", "budget", "nusd", 50_000_000, 180_000_000_000, 0.0, "2023-11-14", ENDS_S)
    error = refusal([(MONEY, claim, Standing(False, 180_000_000_000, 180_000_000_000, 6400.0))], "low", NOW_S)
    assert "allows $200.00 per day" in error.message
    assert "may cost $0.05; requests of low priority may use $180.00 of it." in error.message


def test_the_longest_wait_is_told() -> None:
    requests = Claim("per-key", "", "window", "requests", 1, 600, 60.0)
    slots = Claim("other", "", "concurrency", "slots", 1, 1)
    refusing = [
        (REQUESTS, slots, Standing(False, 1, 1, 1.0)),
        (REQUESTS, requests, Standing(False, 600, 600, 9.0)),
    ]
    assert isinstance(refusal(refusing, "normal", NOW_S), RateLimited)


def test_a_refusal_without_a_reason_is_the_stores() -> None:
    """F68: a hold that was given up may be refused by its id alone when it comes late."""
    assert isinstance(refusal([], "normal", NOW_S), StoreUnavailable)


def test_a_missing_price_names_the_budget() -> None:
    error = unpriced(MONEY)
    assert error.limit == "team-day"
    assert "price of this model is not known" in error.message
