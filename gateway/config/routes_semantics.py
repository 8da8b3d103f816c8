"""What is wrong or doubtful about routes as a whole: where they lead, and what is tried when a target fails."""

import re
from collections.abc import Mapping
from itertools import combinations

from gateway.config.document import Path, Value
from gateway.config.faults import did_you_mean
from gateway.config.merge import Merged
from gateway.config.reach import named_targets, own_targets
from gateway.config.routes import Retry
from gateway.config.targets import Timeouts
from gateway.config.units import UnitError, parse_duration, show_duration

_WAYS = ("target", "split", "pool")


def check_routes(merged: Merged) -> None:
    """Write into `merged` what is wrong with the routes."""
    if merged.values.get("routes", ()) == ():
        merged.doubt(("routes",), "there are no routes: every request is answered 404", "add `routes`")
    seen: dict[str, Path] = {}
    for path, route in merged.items("routes"):
        model = route.get("model")
        if isinstance(model, str):
            merged.once(seen, canonical(model), (*path, "model"), f"route `{model}` is given twice")
        _check_ways(merged, path, route)
        _check_references(merged, path, route)
        _check_dialects(merged, path, route)
        _check_split(merged, (*path, "split"))
        _check_pool(merged, path, route)
        _check_chain(merged, path, route)
        _check_tiers(merged, path)
        _check_retry(merged, path, route)


def canonical(pattern: str) -> str:
    """One text for all globs that match the same names: `*?` and `?**` are both `?*`."""
    return re.sub(r"[*?]+", lambda run: "?" * run[0].count("?") + "*" * ("*" in run[0]), pattern)


def closest(name: str, known: Mapping[str, Value]) -> str:
    """What to do about the name of a target that is none of `known`."""
    return did_you_mean(name, known) or "define it in `targets`"


def _check_ways(merged: Merged, path: Path, route: Mapping[str, Value]) -> None:
    for one, other in combinations([way for way in _WAYS if way in route], 2):
        merged.fault_at_key((*path, other), f"`{one}` and `{other}` exclude each other", "keep one")
    if not any(way in route for way in _WAYS):
        merged.fault(path, "the route has none of `target`, `split` and `pool`", "add target: NAME")


def _check_references(merged: Merged, path: Path, route: Mapping[str, Value]) -> None:
    targets = merged.section("targets")
    for named in named_targets(route):
        if named.target not in targets:
            # The name is a key in `split`, a value elsewhere.
            report = merged.fault_at_key if named.role == "split" else merged.fault
            report((*path, *named.path), f"there is no target `{named.target}`", closest(named.target, targets))


def _check_dialects(merged: Merged, path: Path, route: Mapping[str, Value]) -> None:
    """One warning for the first setting that brings in a target of another dialect."""
    providers: set[Value] = set()
    for named in named_targets(route):
        before = "anthropic" in providers, bool(providers & {"openai", "azure"})
        providers.add(merged.section("targets", named.target).get("provider"))
        after = "anthropic" in providers, bool(providers & {"openai", "azure"})
        if all(after) and not all(before):
            advice = "split between targets of one dialect" if named.role == "split" else "use targets of one dialect"
            message = f"`{named.role}` mixes dialects: a request in one is answered 400 by a target of the other"
            merged.doubt((*path, named.role), message, advice)


def _check_split(merged: Merged, path: Path) -> None:
    split = merged.section(*path)
    if isinstance(merged.section(*path[:-1]).get("split"), dict) and not any(split.values()):
        merged.fault(path, "the weights of `split` add up to 0", "give one target more than 0")


def _check_pool(merged: Merged, path: Path, route: Mapping[str, Value]) -> None:
    if "balance" in route and "pool" not in route:
        merged.fault_at_key((*path, "balance"), "`balance` chooses among the targets of a `pool`", "add pool: [a, b]")
    seen: dict[str, Path] = {}
    for named in named_targets(route):
        if named.role == "pool":
            place = (*path, *named.path)
            merged.once(seen, named.target, place, f"`{named.target}` is twice in the pool")


def _check_chain(merged: Merged, path: Path, route: Mapping[str, Value]) -> None:
    own = own_targets(route)
    seen: dict[str, Path] = {}
    for named in named_targets(route):
        place = (*path, *named.path)
        if named.role == "fallback":
            merged.once(seen, named.target, place, f"`{named.target}` is twice in the fallback chain")
        if own == [named.target] and named.role == "fallback":
            advice = "name another; to try the same one again there is `retry`"
            merged.fault(place, f"`{named.target}` cannot be its own fallback", advice)
        elif own == [named.target] and named.role == "shadow":
            merged.fault(place, f"`{named.target}` cannot be its own shadow", "name another target")
    others = {named.target for named in named_targets(route) if named.role == "fallback"} | set(own)
    if "hedge" in route and len(others) == 1:
        message = "`hedge` has no other target to ask"
        merged.fault_at_key((*path, "hedge"), message, "add a `fallback`, or use `split` or `pool`")


def _check_tiers(merged: Merged, path: Path) -> None:
    for tier, _ in merged.items(*path, "tiers"):
        if merged.section(*tier).get("when") == {}:
            message = "the tier has no condition: every request would go there"
            merged.fault((*tier, "when"), message, "write when: {max_prompt_bytes: 2KiB, tools: false}")


def _check_retry(merged: Merged, path: Path, route: Mapping[str, Value]) -> None:
    """A warning when the attempts cannot all wait for their first token within the target's time."""
    if not isinstance(retry := route.get("retry"), dict):
        return
    attempts, when = retry.get("attempts", Retry().attempts), retry.get("when", Retry().when)
    if not isinstance(attempts, int) or not isinstance(when, tuple) or "first_token" not in when:
        return
    for name in own_targets(route):
        timeouts = merged.section("targets", name, "timeouts")
        try:
            first_token_s = parse_duration(timeouts.get("first_token", show_duration(Timeouts().first_token)))
            total_s = parse_duration(timeouts.get("total", show_duration(Timeouts().total)))
        except UnitError:
            continue
        if attempts * first_token_s > total_s:
            message = (
                f"{attempts} attempts of {show_duration(first_token_s)} to the first token are longer than"
                f" `total` of `{name}`, {show_duration(total_s)}"
            )
            merged.doubt((*path, "retry"), message, "shorten `first_token`, lengthen `total`, or retry less often")
            return
