"""From the limits of the configuration to rules."""

from gateway.config.limits import Limit
from gateway.config.schema import Config
from gateway.policies.matching import DecisionLabel, RuleSet
from gateway.policies.pressure import Step
from gateway.policies.rules import BudgetTerms, Match, Rule
from gateway.telemetry.metrics import Counter, Registry


def rule_set(config: Config, registry: Registry) -> RuleSet:
    """All limits of the configuration."""

    def count(limit: str, decision: DecisionLabel) -> Counter:
        return registry.counter("gateway_limit_decisions_total", limit, decision)

    return RuleSet([rule(limit) for limit in config.limits], count)


def rule(limit: Limit) -> Rule:
    """One limit. Without a `mode`, money is bound by bytes and tokens by what was learned."""
    match, budget = limit.match, limit.budget
    return Rule(
        name=limit.name,
        per=tuple(limit.per),
        match=Match(match.key, match.route, match.target, match.model, tuple(match.tags.items())),
        requests=None if limit.requests is None else (limit.requests.count, limit.requests.period_s),
        tokens=None if limit.tokens is None else (limit.tokens.count, limit.tokens.period_s),
        concurrency=limit.concurrency,
        budget=None if budget is None else BudgetTerms(budget.limit_nusd, budget.calendar, limit.timezone),
        dry_run=limit.dry_run,
        strict_tokens=limit.mode == "strict",
        strict_budget=limit.mode != "calibrated",
        charge_lost=limit.on_crash == "charge",
        alert_at=tuple(limit.alert_at),
        pressure=tuple(Step(step.at, step.downgrade_to, step.only_priority, step.refuse) for step in limit.pressure),
    )
