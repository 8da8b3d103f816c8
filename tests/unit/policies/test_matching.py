"""Which limits a request meets, and whose counters it is counted on."""

from typing import Any

import pytest

from gateway.core.exchange import Consumer, Exchange
from gateway.policies.matching import RuleSet, Scoped
from gateway.policies.rules import Match, Rule
from gateway.store.base import Claim, Standing
from gateway.telemetry.metrics import Counter
from tests.unit.policies.admitting import DECISIONS, asking, budget


def rule_set(*rules: Rule) -> RuleSet:
    """The rules, with counters that nobody looks at."""
    return RuleSet(rules, lambda rule, decision: Counter(DECISIONS))


def scopes(rule: Rule, asked: Exchange) -> list[str]:
    """The scope in which `rule` counts it, if it does."""
    return [scoped.scope for scoped in rule_set(rule).for_exchange(asked).scoped]


def by(*key: str, **changes: Any) -> Exchange:
    """An exchange of this key."""
    return asking(consumer=Consumer(key[0]), **changes)


@pytest.mark.parametrize(
    ("per", "scope"),
    [
        ((), ""),
        (("key",), "key=checkout"),
        (("route", "key"), "route=demo,key=checkout"),
        (("tag.costCenter",), "tag.costCenter=42"),
        (("tag.absent", "model"), "tag.absent=,model=demo"),
    ],
)
def test_a_scope_is_the_values_of_what_a_rule_is_per(per: tuple[str, ...], scope: str) -> None:
    assert scopes(Rule("r", per, requests=(1, 1.0)), by("checkout", tags={"costCenter": "42"})) == [scope]


def test_no_value_reads_as_another_scope() -> None:
    """F60: what a client sends cannot make its counter look like somebody else's."""
    rule = Rule("r", ("tag.a", "tag.b"), requests=(1, 1.0))
    forged = [
        {"a": "1,tag.b=2", "b": ""},
        {"a": "1%2Ctag.b%3D2"},
        {"a": "1", "b": "2,tag.b="},
        {"a": "1", "b": "2"},
        {"a": "1|", "b": "2"},
        {"a": "1%7C", "b": "2"},
    ]
    found = [scopes(rule, by("k", tags=tags))[0] for tags in forged]
    assert len(set(found)) == len(found)
    assert found[0] == "tag.a=1%2Ctag.b%3D2,tag.b="


def test_the_body_does_not_say_who_pays() -> None:
    """F60."""
    asked = by("mine")
    asked.request.body = b'{"model":"demo","user":"theirs","metadata":{"key":"theirs"}}'
    asked.request.headers = [(b"x-user", b"theirs"), (b"x-gateway-key", b"theirs")]
    assert scopes(Rule("r", ("key",), requests=(1, 1.0)), asked) == ["key=mine"]


@pytest.mark.parametrize(
    ("match", "is_matched"),
    [
        (Match(), True),
        (Match(keys=("check*",)), True),
        (Match(keys=("a", "b")), False),
        (Match(routes=("de?o",)), True),
        (Match(routes=("de",)), False),
        (Match(models=("DEMO",)), False),
        (Match(tags=(("team", "m*"),)), True),
        (Match(tags=(("team", "m*"), ("other", "*"))), False),
        (Match(tags=(("team", "x*"),)), False),
    ],
)
def test_a_rule_is_about_the_requests_that_it_matches(match: Match, is_matched: bool) -> None:
    asked = by("checkout", tags={"team": "ml"})
    assert bool(scopes(Rule("r", (), match, requests=(1, 1.0)), asked)) is is_matched


def test_an_invented_model_counts_under_its_route() -> None:
    """F125: a fresh name does not buy a fresh counter."""
    rule = Rule("r", ("model",), requests=(1, 1.0))
    assert scopes(rule, asking(model="gpt-made-up", route="gpt-*")) == ["model=gpt-*"]
    assert scopes(rule, asking(model="demo", route="demo")) == ["model=demo"]
    named = Rule("r", ("model",), Match(models=("gpt-4", "gpt-5*")), requests=(1, 1.0))
    assert scopes(named, asking(model="gpt-4", route="*")) == ["model=gpt-4"]
    assert scopes(named, asking(model="gpt-5-made-up", route="*")) == ["model=*"]


def test_a_request_without_a_model_counts_under_its_route() -> None:
    assert scopes(Rule("r", ("model",), requests=(1, 1.0)), asking(model=None)) == ["model=demo"]


def test_rules_about_targets_are_asked_for_each_target_alone() -> None:
    about = rule_set(
        Rule("each", ("target", "key"), requests=(1, 1.0)),
        Rule("some", (), Match(targets=("gpt-*",)), concurrency=1),
        Rule("all", (), requests=(1, 1.0)),
    )
    asked = by("k")
    assert [scoped.rule.name for scoped in about.for_exchange(asked).scoped] == ["all"]
    assert [(s.rule.name, s.scope) for s in about.for_target("gpt-4")(asked).scoped] == [
        ("each", "target=gpt-4,key=k"),
        ("some", ""),
    ]
    assert [scoped.rule.name for scoped in about.for_target("small")(asked).scoped] == ["each"]
    assert not about.meters_attempts
    assert rule_set(budget(1, per=("target",))).meters_attempts
    assert rule_set(Rule("r", match=Match(targets=("b",)), requests=(1, 1.0))).for_target("a").is_empty


def test_what_was_found_is_found_again_and_with_it_its_counter() -> None:
    rules = rule_set(Rule("r", ("tag.team",), Match(models=("demo", "d*")), requests=(1, 1.0)))
    first = rules.for_exchange(by("a", tags={"team": "ml"}))
    assert rules.for_exchange(by("a", tags={"team": "ml", "other": "x"})) is first
    other = rules.for_exchange(by("b", tags={"team": "ml"}, model="dx", route="*"))
    assert other is not first
    assert other.scoped == first.scoped


def test_what_is_remembered_is_bounded() -> None:
    """F125: clients invent values of tags, and names of models, of any length."""
    rules = rule_set(Rule("r", ("tag.team", "model"), requests=(1, 1.0)))
    for number in range(9000):
        rules.for_exchange(by("a", tags={"team": str(number)}))
    rules.for_exchange(by("a", model="m" * 100_000, route="*"))
    assert len(rules.for_exchange._found) <= 4096
    assert len(rules.for_exchange._scoped) <= 4096
    assert "m" * 100_000 not in repr(rules.for_exchange._found.keys())


def test_what_does_not_depend_on_the_request_is_ready() -> None:
    rules = rule_set(
        Rule("a", requests=(5, 60.0), tokens=(9, 60.0), concurrency=3),
        Rule("b", requests=(7, 1.0), dry_run=True),
        budget(1),
    )
    matched = rules.for_exchange(asking())
    assert matched.fixed == (
        Claim("a", "", "window", "requests", 1, 5, 60.0),
        Claim("a", "", "concurrency", "slots", 1, 3),
        Claim("b", "", "window", "requests", 1, 7, 1.0, dry_run=True),
    )
    assert [owner.rule.name for owner in matched.owners] == ["a", "a", "b"]
    assert [scoped.rule.name for scoped in matched.metered] == ["a", "money"]
    assert (matched.ones, matched.is_plain, matched.has_downgrades) == ((1, 1, 1), False, False)


def test_a_budget_remembers_how_it_stood_for_its_period_alone() -> None:
    [scoped] = rule_set(budget(1000)).for_exchange(asking()).scoped
    assert isinstance(scoped, Scoped)
    claim = Claim("money", "", "budget", "nusd", 1, 900, 0.0, "2026-11-21", 0.0)
    scoped.note(claim, Standing(True, 800, 900))
    assert (scoped.used_share("2026-11-21"), scoped.used_share("2026-11-22")) == (0.8, 0.0)
    scoped.note(claim, Standing(True, 800, 1500))
    assert scoped.used_share("2026-11-21") == 0.5, "600 were granted above the 1,000"


def test_a_budget_of_nothing_is_used_up() -> None:
    [scoped] = rule_set(budget(0)).for_exchange(asking()).scoped
    scoped.note(Claim("money", "", "budget", "nusd", 0, 0, 0.0, "p", 0.0), Standing(False, 0, 0))
    assert scoped.used_share("p") == 1.0
