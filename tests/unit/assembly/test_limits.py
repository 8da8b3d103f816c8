"""From the limits of the configuration to rules."""

from gateway.assembly.limits import rule, rule_set
from gateway.policies.pressure import Step
from gateway.policies.rules import BudgetTerms, Match
from gateway.telemetry.metrics import Registry
from tests.fakes import loaded

TEXT = """\
apiVersion: gateway/v1
targets:
  a: {provider: mock, price: {input: $1.00, output: $1.00}}
  small: {provider: mock, price: {input: $0.10, output: $0.10}}
routes:
  - {model: demo, target: a}
limits:
  - {name: rate, per: [key], requests: 600/min, tokens: 200k/min, concurrency: 20, mode: strict}
  - {name: team, per: [tag.team], match: {route: demo, tags: {team: "r*"}}, budget: $200/day, alert_at: [50%, 80%],
     timezone: Europe/Berlin, on_crash: charge, dry_run: true,
     pressure: [{at: 80%, downgrade_to: small}, {at: 95%, only_priority: high}]}
"""


def test_a_limit_of_the_file_is_a_rule() -> None:
    rate, team = map(rule, loaded(TEXT).config.limits)
    assert (rate.requests, rate.tokens, rate.concurrency) == ((600, 60.0), (200_000, 60.0), 20)
    assert (rate.per, rate.strict_tokens, rate.budget) == (("key",), True, None)
    assert team.budget == BudgetTerms(200_000_000_000, "day", "Europe/Berlin")
    assert team.match == Match(routes=("demo",), tags=(("team", "r*"),))
    assert (team.strict_budget, team.strict_tokens, team.charge_lost, team.dry_run) == (True, False, True, True)
    assert team.alert_at == (0.5, 0.8)
    assert team.pressure == (Step(0.8, downgrade_to="small"), Step(0.95, only_priority="high"))


def test_what_a_rule_decides_is_counted_under_its_name() -> None:
    registry = Registry()
    rule_set(loaded(TEXT).config, registry)
    labels = {sample.labels for sample in registry.snapshot().metrics["gateway_limit_decisions_total"]}
    assert {limit for limit, _ in labels} == {"rate", "team"}
    assert {decision for _, decision in labels} == {"allowed", "refused", "dry_run", "local", "open"}
