"""Faults of routes that take more than one setting to see."""

import pytest

from gateway.config.document import parse
from gateway.config.merge import merge
from gateway.config.routes_semantics import canonical, check_routes

TARGETS = "targets: {a: {provider: mock}, b: {provider: mock}, c: {provider: mock}}\n"


def found(text: str) -> list[str]:
    """What the check says of a text, without its places."""
    merged = merge([parse("f", text.encode())])
    check_routes(merged)
    return [str(fault).split(": ", 1)[1] for fault in merged.faults]


def route(settings: str) -> list[str]:
    """What the check says of one route with these settings."""
    return found(f"{TARGETS}routes: [{{model: m, {settings}}}]\n")


@pytest.mark.parametrize(
    "settings",
    [
        "target: a",
        "split: {a: 95, b: 5}, sticky: [key], shadow: {target: b}, fallback: [c, a]",
        "pool: [a, b], balance: cheapest, hedge: {after: 1s}",
        "target: a, fallback: [b], hedge: {}",
        "target: a, tiers: [{to: b, when: {tools: false}}], fallback: [b]",
        "target: a, retry: {attempts: 5}",
        "target: a, fallback: [{to: b, when: [429]}, {to: c, when: [5xx]}]",
    ],
)
def test_an_ordinary_route_has_no_fault(settings: str) -> None:
    assert route(settings) == []


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ("fallback: [a]", "the route has none of `target`, `split` and `pool` (add target: NAME)"),
        ("pool: [a, b], split: {a: 1}", "`split` and `pool` exclude each other (keep one)"),
        ("target: a, fallback: [bb]", "there is no target `bb` (did you mean `b`?)"),
        ("target: a, shadow: {target: xyz}", "there is no target `xyz` (define it in `targets`)"),
        ("target: a, tiers: [{to: xyz, when: {tools: true}}]", "there is no target `xyz` (define it in `targets`)"),
        ("pool: [a, xyz]", "there is no target `xyz` (define it in `targets`)"),
        ("pool: [a, b, a]", "`a` is twice in the pool (first at f:2; keep one)"),
        (
            "target: a, fallback: [a]",
            "`a` cannot be its own fallback (name another; to try the same one again there is `retry`)",
        ),
        ("split: {a: 1, b: 0}, shadow: {target: a}", "`a` cannot be its own shadow (name another target)"),
        ("target: a, fallback: [b, {to: b}]", "`b` is twice in the fallback chain (first at f:2; keep one)"),
        ("target: a, hedge: {}", "`hedge` has no other target to ask (add a `fallback`, or use `split` or `pool`)"),
        ("split: {a: 1}, balance: cheapest", "`balance` chooses among the targets of a `pool` (add pool: [a, b])"),
        (
            "target: a, tiers: [{to: b, when: {}}]",
            "the tier has no condition: every request would go there"
            " (write when: {max_prompt_bytes: 2KiB, tools: false})",
        ),
    ],
)
def test_a_route_that_cannot_work_is_refused(settings: str, text: str) -> None:
    """F44: no chain visits a target twice."""
    assert route(settings) == [text]


def test_attempts_that_cannot_all_wait_for_their_first_token_are_doubtful() -> None:
    text = "targets: {a: {provider: mock, timeouts: {first_token: 2m, total: 5m}}}\nroutes: [{model: m, target: a, "
    advice = "(shorten `first_token`, lengthen `total`, or retry less often)"
    assert found(text + "retry: {attempts: 3}}]\n") == [
        f"warning: 3 attempts of 2m to the first token are longer than `total` of `a`, 5m {advice}"
    ]
    assert found(text + "retry: {attempts: 2}}]\n") == []
    assert found(text + "retry: {attempts: 3, when: [connect, 429]}}]\n") == []
    assert found(text.replace("2m", "soon") + "retry: {attempts: 3}}]\n") == []


@pytest.mark.parametrize(
    ("settings", "role"),
    [
        ("target: o, fallback: [a]", "fallback"),
        ("pool: [a, o]", "pool"),
        ("target: a, tiers: [{to: o, when: {tools: false}}]", "tiers"),
        ("target: a, shadow: {target: o}", "shadow"),
    ],
)
def test_a_chain_over_dialects_is_doubtful(settings: str, role: str) -> None:
    targets = (
        "targets: {o: {provider: openai, base_url: https://h/v1}, a: {provider: anthropic, base_url: https://h}}\n"
    )
    assert found(f"{targets}routes: [{{model: m, {settings}}}]\n") == [
        f"warning: `{role}` mixes dialects: a request in one is answered 400 by a target of the other"
        " (use targets of one dialect)"
    ]


def test_no_routes_are_doubtful() -> None:
    assert found("targets: {a: {provider: mock}}\n") == [
        "warning: there are no routes: every request is answered 404 (add `routes`)"
    ]


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [("a", "a", True), ("a*", "a**", True), ("?*", "*?", True), ("a*", "a?", False), ("a*b*", "a*b", False)],
)
def test_patterns_that_match_the_same_names_are_the_same_route(first: str, second: str, is_same: bool) -> None:
    assert (canonical(first) == canonical(second)) is is_same


def test_a_split_between_dialects_is_doubtful() -> None:
    text = """\
targets:
  a: {provider: azure, base_url: https://h}
  b: {provider: anthropic, base_url: https://h}
  c: {provider: mock}
routes:
  - {model: x, split: {a: 1, b: 1}}
  - {model: y, split: {a: 1, c: 1}}
"""
    assert found(text) == [
        "warning: `split` mixes dialects: a request in one is answered 400 by a target of the other"
        " (split between targets of one dialect)"
    ]


def test_broken_parts_do_not_stop_the_check() -> None:
    assert found("targets: 5\nroutes: [5, {model: [a], target: a, fallback: 5, tiers: [5, {to: 5}], retry: 5}]\n") == [
        "there is no target `a` (define it in `targets`)"
    ]
