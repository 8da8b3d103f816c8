"""Where full budgets lead."""

import itertools

import pytest

from gateway.config.document import parse
from gateway.config.downgrades import check_downgrades
from gateway.config.merge import merge

HOUSE = """\
targets: {t: {provider: mock}, u: {provider: mock}}
routes: [{model: a, target: t}, {model: b, target: t}, {model: c, target: u}]
"""


def found(*limits: tuple[str, str]) -> list[str]:
    """What the check says of limits, each with what it matches and what it is downgraded to."""
    listed = [f"{{match: {{{match}}}, pressure: [{{downgrade_to: {to}}}]}}" for match, to in limits]
    merged = merge([parse("f", f"{HOUSE}limits: [{', '.join(listed)}]\n".encode())])
    check_downgrades(merged)
    return [str(fault).split(": ", 1)[1] for fault in merged.faults]


@pytest.mark.parametrize(
    "limits",
    [
        [("", "t")],
        [("", "a"), ("", "b")],
        [("route: a", "b"), ("route: b", "c")],
        [("route: a", "b"), ("route: '*'", "a")],
        [("route: [a, b]", "b")],
        [("model: a", "b"), ("model: c", "b")],
        [("target: t", "u")],
    ],
)
def test_a_ladder_may_lead_down(limits: list[tuple[str, str]]) -> None:
    assert found(*limits) == []


def test_what_is_downgraded_to_exists() -> None:
    assert found(("", "tt"), ("", "xyz")) == [
        "there is no target or route `tt` (did you mean `t`?)",
        "there is no target or route `xyz` (define it in `targets`)",
    ]


def test_nothing_is_downgraded_to_itself() -> None:
    message = "would be downgraded to itself (name a cheaper one)"
    assert found(("route: a", "a"), ("target: [t]", "t")) == [f"`a` {message}", f"`t` {message}"]


def test_a_circle_is_reported_once() -> None:
    assert found(("route: a", "b"), ("route: b", "c"), ("model: c", "a"), ("route: [a]", "b")) == [
        "`downgrade_to` goes in a circle: a -> b -> c -> a (remove one of them)"
    ]
    assert found(("target: t", "u"), ("target: u", "t")) == [
        "`downgrade_to` goes in a circle: t -> u -> t (remove one of them)"
    ]


def test_a_chain_beyond_any_use_is_no_trouble() -> None:
    names = [f"r{number}" for number in range(3000)]
    routes = ", ".join(f"{{model: {name}, target: t}}" for name in names)
    limits = ", ".join(
        f"{{match: {{route: {one}}}, pressure: [{{downgrade_to: {other}}}]}}"
        for one, other in itertools.pairwise(names)
    )
    merged = merge([parse("f", f"targets: {{t: {{}}}}\nroutes: [{routes}]\nlimits: [{limits}]\n".encode())])
    check_downgrades(merged)
    assert merged.faults == []
