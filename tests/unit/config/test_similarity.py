"""The settings of look-ups by similarity."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.document import parse
from gateway.config.schema import Cache, RouteCache
from gateway.config.similarity import Judge, Semantic
from tests.fakes import loaded

ROUTE = """\
apiVersion: gateway/v1
targets:
  mock: {provider: mock}
routes:
  - {model: demo, target: mock, cache: {exact: 1h, semantic: %s}}
"""


def semantic(**settings: Any) -> Semantic:
    """A section with these settings."""
    return Semantic.model_validate(settings)


def test_nothing_is_given_for_other_words_unless_somebody_wrote_so() -> None:
    """F116."""
    assert RouteCache.model_validate({"exact": "1h"}).semantic is None
    assert semantic().in_force == "off"


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        ({"max_wrong": "1%"}, "verified"),
        ({"mode": "shadow", "max_wrong": "1%"}, "shadow"),
        ({"mode": "off", "max_wrong": "1%"}, "off"),
        ({"mode": "static"}, "static"),
        ({"mode": "verified"}, "verified"),
        ({"ttl": "1h"}, "off"),
        ({"threshold": 0.95}, "off"),
    ],
)
def test_the_mode_is_what_is_written_or_what_a_bound_implies(settings: dict[str, Any], mode: str) -> None:
    assert semantic(**settings).in_force == mode


def test_what_is_usual() -> None:
    plain = semantic(mode="static")
    assert (plain.threshold, plain.max_wrong, plain.ttl, plain.judge) == (0.92, None, None, None)
    assert Judge.model_validate({"model": "m"}).calls_per_hour == 60
    assert (Cache().embedder, Cache().embed_timeout) == ("minilm", None)


def test_all_settings_of_a_file_are_read() -> None:
    text = ROUTE % "{mode: off, ttl: 2h, max_wrong: 0.5%, threshold: 0.8, judge: {model: mock, calls_per_hour: 7}}"
    [route] = loaded(text + "cache: {embedder: 'target:mock', embed_timeout: 30ms}\n").config.routes
    assert route.cache is not None
    found = route.cache.semantic
    assert found is not None
    assert found.judge is not None
    assert (found.mode, found.in_force, found.ttl, found.max_wrong, found.threshold) == ("off", "off", 7200, 0.005, 0.8)
    assert (found.judge.model, found.judge.calls_per_hour) == ("mock", 7)


def test_off_is_a_word_in_a_file() -> None:
    """In YAML 1.1 it is the same as false."""
    assert parse("f", b"semantic: {mode: off}") is not None
    [route] = loaded(ROUTE % "{mode: off}").config.routes
    assert route.cache is not None
    assert route.cache.semantic is not None
    assert route.cache.semantic.mode == "off"


@pytest.mark.parametrize("share", ["0.1%", "20%"])
def test_a_bound_has_a_range(share: object) -> None:
    assert semantic(max_wrong=share).max_wrong is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_wrong": "0.09%"}, "out of range"),
        ({"max_wrong": "0%"}, "must be more than 0%"),
        ({"max_wrong": "20.1%"}, "20.1% is out of range"),
        ({"max_wrong": "100%"}, "out of range"),
        ({"threshold": 0.69}, "0.69 is out of range"),
        ({"threshold": 1.01}, "out of range"),
        ({"threshold": float("nan")}, "finite|out of range"),
        ({"max_wrong": 0.05}, "has no unit"),
        ({"mode": "on"}, "'off', 'shadow', 'static' or 'verified'"),
        ({"judge": {}}, "model"),
        ({"judge": {"model": "m", "calls_per_hour": 0}}, "greater than or equal to 1"),
        ({"judge": {"model": "m", "calls_per_hour": 100_001}}, "less than or equal to 100000"),
        ({"tll": "1h"}, "tll"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        semantic(**settings)


@pytest.mark.parametrize("embedder", ["minilm", "target:emb", "target:a.b-c_1"])
def test_an_embedder_is_the_built_in_one_or_a_target(embedder: str) -> None:
    assert Cache.model_validate({"embedder": embedder}).embedder == embedder


@pytest.mark.parametrize(
    "embedder", ["", "target:", "target:-a", "target:a b", "route:a", "MiniLM", "target:" + "a" * 65]
)
def test_no_other_embedder_is_known(embedder: str) -> None:
    with pytest.raises(ValidationError, match="is not an embedder"):
        Cache.model_validate({"embedder": embedder})
