"""Prices that a budget needs."""

import pytest

from gateway.config.document import parse
from gateway.config.merge import merge
from gateway.config.prices_semantics import check_prices

HOUSE = """\
targets:
  any: {provider: openai, base_url: https://h/v1}
  known: {extends: any, model: gpt-known}
  unknown: {extends: any, model: gpt-strange}
  priced: {extends: any, model: gpt-strange, price: {input: $2.00, output: $8.00}}
  demo: {provider: mock}
"""
ADVICE = "(add price: {input: $2.00, output: $8.00})"


def price_known(provider: str, model: str | None, base_url: str | None) -> bool:
    """Knows one model, at one place."""
    return (provider, model, base_url) == ("openai", "gpt-known", "https://h/v1")


def found(routes: str, limits: str, *, is_asked: bool = True) -> list[str]:
    """What the check says of routes and limits, without its places."""
    merged = merge([parse("f", f"{HOUSE}routes: [{routes}]\nlimits: [{limits}]\n".encode())])
    check_prices(merged, price_known if is_asked else None)
    return [str(fault).split(": ", 1)[1] for fault in merged.faults]


ANY = f"budget `b` applies to `any`, and it takes any model, whose price nobody knows {ADVICE}"
UNKNOWN = f"budget `b` applies to `unknown`, and the price of `gpt-strange` is not known {ADVICE}"
DOUBT = f"warning: the price of `gpt-strange` is not known: what `unknown` costs is not counted {ADVICE}"


@pytest.mark.parametrize(
    ("routes", "limits", "texts"),
    [
        ("{model: '*', target: any}", "{name: b, budget: $1/day}", [ANY, DOUBT]),
        ("{model: gpt-known, target: any}", "{name: b, budget: $1/day}", [DOUBT]),
        ("{model: m, target: known, fallback: [unknown, priced]}", "{name: b, budget: $1/day}", [UNKNOWN]),
        ("{model: m, target: known, shadow: {target: unknown}}", "{name: b, budget: $1/day}", [UNKNOWN]),
        ("{model: m, target: unknown}", "{name: a, requests: 1/s}", [DOUBT]),
        ("{model: m, target: unknown}", "{name: b, match: {route: n}, budget: $1/day}", [DOUBT]),
        ("{model: m, target: unknown}", "{name: b, match: {model: m*, key: k}, budget: $1/day}", [UNKNOWN]),
        ("{model: m, target: unknown}", "{name: b, match: {target: [known]}, budget: $1/day}", [DOUBT]),
        ("{model: m, target: unknown}", "{name: b, budget: $1/day}, {name: c, budget: $1/day}", [UNKNOWN]),
        (
            "{model: m, target: known}",
            "{name: b, budget: $1/day, pressure: [{downgrade_to: unknown}, {downgrade_to: 5}]}",
            [UNKNOWN],
        ),
        (
            "{model: m, target: known}, {model: cheap, target: unknown}",
            "{name: b, match: {route: m}, budget: $1/day, pressure: [{downgrade_to: cheap}]}",
            [UNKNOWN],
        ),
        (
            "{model: m, target: demo}",
            "{name: b, budget: $1/day}",
            [f"budget `b` applies to `demo`, and the price of `m` is not known {ADVICE}", DOUBT],
        ),
    ],
)
def test_a_budget_over_an_unknown_price_is_refused(routes: str, limits: str, texts: list[str]) -> None:
    assert found(routes, limits) == texts


def test_without_a_list_of_prices_only_targets_of_any_model_are_refused() -> None:
    limits = "{name: b, budget: $1/day}"
    assert found("{model: '*', target: any, fallback: [unknown]}", limits, is_asked=False) == [ANY]
    assert found("{model: gpt-strange, target: any, fallback: [unknown]}", limits, is_asked=False) == []


def test_broken_parts_do_not_stop_the_check() -> None:
    assert found("{model: [5], target: any}, {model: m, target: nothing}", "{name: b, budget: $1/day}") == [DOUBT]
