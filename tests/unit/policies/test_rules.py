"""Rules as the configuration describes them."""

import pytest

from gateway.policies.rules import BudgetTerms, Match, Rule


@pytest.mark.parametrize(
    ("rule", "is_metered", "is_about_attempts"),
    [
        (Rule("r", requests=(1, 1.0)), False, False),
        (Rule("r", concurrency=1, per=("key", "model")), False, False),
        (Rule("r", tokens=(1, 1.0), per=("target",)), True, True),
        (Rule("r", budget=BudgetTerms(1, "day", "UTC"), match=Match(targets=("a*",))), True, True),
    ],
)
def test_a_rule_knows_what_it_needs(rule: Rule, is_metered: bool, is_about_attempts: bool) -> None:
    assert (rule.is_metered, rule.is_about_attempts) == (is_metered, is_about_attempts)


def test_a_rule_matches_everything_unless_told_otherwise() -> None:
    assert Rule("r").match == Match()
