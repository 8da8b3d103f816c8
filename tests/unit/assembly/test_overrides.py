"""What overrides change in a configuration."""

from typing import Any

from gateway.assembly.overrides import counterparts, effect_of
from gateway.store.base import Override
from tests.fakes import loaded

CONFIG = loaded("""\
apiVersion: gateway/v1
targets:
  eu: {provider: mock, model: m, tags: {region: eu}}
  us: {provider: mock, model: m, tags: {region: us}}
  us-too: {provider: mock, model: m, tags: {region: us}}
  us-other: {provider: mock, model: another, tags: {region: us}}
  lone: {provider: mock, model: lone, tags: {region: eu}}
routes:
  - {model: chat, split: {eu: 90, lone: 10}}
  - {model: plain, target: us}
""").config


def _overrides(*named: tuple[str, dict[str, Any]]) -> dict[str, Override]:
    return {name: Override(name, value, "ann", "because", 0.0, None) for name, value in named}


def test_without_overrides_nothing_changes() -> None:
    effect = effect_of(CONFIG, {})
    assert (effect.weights, effect.ejected, bool(effect.isolation)) == ({}, {}, False)


def test_a_switch_takes_the_place_of_the_files_weights() -> None:
    effect = effect_of(CONFIG, _overrides(("route/chat", {"split": {"us": 1.0}})))
    assert effect.weights == {"chat": {"us": 1.0}}


def test_a_switch_to_targets_that_have_gone_has_no_effect() -> None:
    assert effect_of(CONFIG, _overrides(("route/chat", {"split": {"gone": 1.0}}))).weights == {}
    partly = effect_of(CONFIG, _overrides(("route/chat", {"split": {"gone": 1.0, "us": 2.0}})))
    assert partly.weights == {"chat": {"us": 2.0}}


def test_a_failover_moves_the_share_of_a_region_to_its_counterparts() -> None:
    effect = effect_of(CONFIG, _overrides(("failover/region=eu", {"from": {"region": "eu"}, "to": {"region": "us"}})))
    assert effect.weights == {"chat": {"us": 45.0, "us-too": 45.0, "lone": 10.0}}


def test_a_switch_of_a_route_goes_over_a_failover() -> None:
    effect = effect_of(
        CONFIG,
        _overrides(
            ("failover/region=eu", {"from": {"region": "eu"}, "to": {"region": "us"}}),
            ("route/chat", {"split": {"eu": 1.0}}),
        ),
    )
    assert effect.weights == {"chat": {"eu": 1.0}}


def test_a_counterpart_has_the_same_model_and_is_in_service() -> None:
    assert counterparts(CONFIG, "eu", {"region": "us"}) == ["us", "us-too"]
    assert counterparts(CONFIG, "lone", {"region": "us"}) == []


def test_ejections_and_isolations_are_told_apart() -> None:
    effect = effect_of(
        CONFIG,
        _overrides(
            ("target/eu", {"ejected": True}),
            ("isolate/target/us", {}),
            ("isolate/key/checkout", {}),
            ("isolate/tag/team=a/b", {}),
        ),
    )
    assert effect.ejected == {"eu": "by ann: because", "us": "isolated by ann: because"}
    assert effect.isolation.keys == {"checkout"}
    assert effect.isolation.tags == {("team", "a/b")}
    assert effect.isolation
