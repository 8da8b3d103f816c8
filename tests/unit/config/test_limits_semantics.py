"""Faults of limits that take more than one setting to see."""

import pytest

from gateway.config.document import parse
from gateway.config.limits_semantics import check_limits
from gateway.config.merge import merge

HOUSE = """\
required_tags: [service]
keys: [{id: checkout, tags: {costCenter: a}}]
targets: {t: {provider: mock, price: {request: $1}}}
routes: [{model: demo, target: t}, {model: "gpt-*", target: t}]
store: {redis: env:X}
"""


def found(limits: str, house: str = HOUSE) -> list[str]:
    """What the check says of limits, without its places."""
    merged = merge([parse("f", f"{house}limits: [{limits}]\n".encode())])
    check_limits(merged, None)
    return [str(fault).split(": ", 1)[1] for fault in merged.faults]


@pytest.mark.parametrize(
    "limit",
    [
        "name: a, requests: 1/s",
        "name: a, per: [key, tag.costCenter, tag.service], tokens: 1k/min, mode: strict",
        "name: a, match: {key: [check*], route: demo, target: t, model: gpt-4.1}, concurrency: 5",
        "name: a, budget: $1/day, timezone: Europe/Berlin, on_crash: charge, alert_at: [50%, 80%]",
        "name: a, budget: $1/day, pressure: [{at: 80%, downgrade_to: t}, {at: 90%, only_priority: high},"
        " {at: 100%, refuse: true}]",
    ],
)
def test_an_ordinary_limit_has_no_fault(limit: str) -> None:
    assert found(f"{{{limit}}}") == []


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (
            "name: a, per: [key]",
            "the limit has none of `requests`, `tokens`, `concurrency`, `budget`"
            " (add requests: 600/min, or budget: $200/day)",
        ),
        ("name: a, requests: 1/s, alert_at: [50%]", "`alert_at` is about a `budget` (add budget: $200/day)"),
        ("name: a, requests: 1/s, pressure: []", "`pressure` is about a `budget` (add budget: $200/day)"),
        (
            "name: a, budget: $1/day, alert_at: [50%, 50%]",
            "50% is not more than what stands before it (write them rising)",
        ),
        (
            "name: a, budget: $1/day, pressure: [{at: 9%, refuse: true}, {at: 8%, refuse: true}]",
            "8% is not more than that of the step before it (write the steps rising)",
        ),
        (
            "name: a, budget: $1/day, pressure: [{at: 9%, refuse: false}]",
            "a step has one of `downgrade_to`, `only_priority`, `refuse`, not 0"
            " (add refuse: true, or downgrade_to: TARGET)",
        ),
        (
            "name: a, budget: $1/day, pressure: [{at: 9%, refuse: true, downgrade_to: t}]",
            "a step has one of `downgrade_to`, `only_priority`, `refuse`, not 2 (keep one)",
        ),
        ("name: a, requests: 1/s, timezone: UTC", "warning: `timezone` means nothing without `budget` (remove it)"),
        (
            "name: a, per: [tag.costCentre], requests: 1/s",
            "warning: no key has the tag `costCentre` and it is not required: requests without it share one counter"
            " (did you mean `costCenter`?)",
        ),
        (
            "name: a, per: [tag.xyz], requests: 1/s",
            "warning: no key has the tag `xyz` and it is not required: requests without it share one counter"
            " (add xyz to `required_tags`)",
        ),
        (
            "name: a, match: {key: chekout}, requests: 1/s",
            "warning: no key has the id `chekout`: this matches nothing (did you mean `checkout`?)",
        ),
        (
            "name: a, match: {target: [t, x]}, requests: 1/s",
            "warning: there is no target `x`: this matches nothing (remove it)",
        ),
        (
            "name: a, match: {model: claude-*}, requests: 1/s",
            "warning: no route is asked for the model `claude-*`: this matches nothing (remove it)",
        ),
    ],
)
def test_a_limit_that_cannot_be_meant_is_pointed_out(limit: str, text: str) -> None:
    assert found(f"{{{limit}}}") == [text]


def test_limits_have_names_of_their_own() -> None:
    assert found("{name: a, requests: 1/s}, {name: a, tokens: 1/s}") == [
        "limit `a` is given twice (first at f:6; keep one)"
    ]


def test_callers_without_a_key_are_called_open() -> None:
    house = HOUSE.replace("keys: [{id: checkout, tags: {costCenter: a}}]", "keys: open")
    assert found("{name: a, match: {key: open}, requests: 1/s}", house) == []


@pytest.mark.parametrize("store", ["store: memory\n", ""])
def test_limits_in_memory_are_said_to_count_alone(store: str) -> None:
    house = HOUSE.replace("store: {redis: env:X}\n", store)
    message = "warning: `store: memory` counts in each worker and each replica alone: N of them let N times as much"
    told = found("{name: a, requests: 1/s}, {name: b, requests: 1/s}", house)
    assert [text.startswith(message) for text in told] == [True]
    assert found("", house) == []


def test_broken_parts_do_not_stop_the_check() -> None:
    assert found("5, {name: 5, per: 5, match: 5, requests: 5, budget: 5, alert_at: [5], pressure: [5, {at: 5}]}") == [
        "a step has one of `downgrade_to`, `only_priority`, `refuse`, not 0 (add refuse: true, or downgrade_to: TARGET)"
    ]
    assert found("{match: {key: [5]}, per: [5, tag.], requests: 1/s}", "keys: 5\ntargets: 5\nroutes: 5\n") != []
