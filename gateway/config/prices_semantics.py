"""Whether the price of every target is known that a budget applies to: what cannot be counted cannot be bounded."""

from collections.abc import Callable, Iterator, Mapping

from gateway.config.document import Value
from gateway.config.faults import warning
from gateway.config.globs import globs_of, has_wildcard, is_about, matches
from gateway.config.merge import Merged
from gateway.config.reach import named_targets

PriceKnown = Callable[[str, str | None, str | None], bool]
"""Whether the price of a model at a provider (kind, model, base URL) is known without being declared."""
_ADVICE = "add price: {input: $2.00, output: $8.00}"


def check_prices(merged: Merged, price_known: PriceKnown | None) -> None:
    """Write into `merged` an error for each unknown price that a budget needs, and a warning for each other one.

    Without `price_known` nothing is known of models, and only targets that take any model are refused.
    """
    refused: set[str] = set()
    cheaper = list(dict.fromkeys(_downgraded(merged)))
    for path, limit in merged.items("limits"):
        if "budget" not in limit:
            continue
        match = merged.section(*path, "match")
        for name, models in _paid(merged, match, cheaper).items():
            target = merged.section("targets", name)
            problem = "" if name in refused else _problem(target, models, price_known)
            if problem:
                refused.add(name)
                message = f"budget `{limit.get('name')}` applies to `{name}`, and {problem}"
                merged.fault_at_key(("targets", name), message, _ADVICE)
    for name in merged.section("targets"):
        target = merged.section("targets", name)
        # The built-in mock costs nothing, and what takes any model has no price of its own.
        if name in refused or "model" not in target or target.get("provider") == "mock":
            continue
        if problem := _problem(target, set(), price_known):
            place = merged.key_place(("targets", name))
            merged.faults.append(warning(place, f"{problem}: what `{name}` costs is not counted", _ADVICE))


def _problem(target: Mapping[str, Value], models: set[str], price_known: PriceKnown | None) -> str:
    """Why the price of a target is not known, asked for `models`; empty when it is."""
    provider, model, base_url = target.get("provider"), target.get("model"), target.get("base_url")
    if "price" in target or not isinstance(provider, str):
        return ""
    for name in [model] if isinstance(model, str) else sorted(models):
        if not isinstance(model, str) and has_wildcard(name):
            return "it takes any model, whose price nobody knows"
        if price_known is not None and not price_known(provider, name, base_url if isinstance(base_url, str) else None):
            return f"the price of `{name[:80]}` is not known"
    return ""


def _paid(merged: Merged, match: Mapping[str, Value], cheaper: list[str]) -> dict[str, set[str]]:
    """The targets whose cost a budget counts, each with the models that it may be asked for.

    `cheaper` are those that full budgets lead to, wherever a request came from.
    """
    only = globs_of(match.get("target"))
    paid: dict[str, set[str]] = {}
    for _, route in merged.items("routes"):
        model = route.get("model")
        if not isinstance(model, str) or not is_about(match, model):
            continue
        for name in [named.target for named in named_targets(route)] + cheaper:
            if not only or any(matches(glob, name) for glob in only):
                paid.setdefault(name, set()).add(model)
    return paid


def _downgraded(merged: Merged) -> Iterator[str]:
    """The targets that full budgets lead to."""
    steps = [step for path, _ in merged.items("limits") for _, step in merged.items(*path, "pressure")]
    names = {name for step in steps if isinstance(name := step.get("downgrade_to"), str)}
    yield from sorted(names & merged.section("targets").keys())
    for _, route in merged.items("routes"):
        # The name of a target comes before that of a route.
        if route.get("model") in names - merged.section("targets").keys():
            yield from (named.target for named in named_targets(route))
