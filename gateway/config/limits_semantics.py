"""What is wrong or doubtful about limits as a whole: what they count by, match and lead to, and what they cost."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from gateway.config.document import Path, Value
from gateway.config.downgrades import check_downgrades
from gateway.config.faults import did_you_mean
from gateway.config.globs import globs_of, matches, may_meet
from gateway.config.merge import Merged
from gateway.config.prices_semantics import PriceKnown, check_prices
from gateway.config.units import UnitError, parse_percent

__all__ = ["PriceKnown", "check_limits"]

_KINDS = ("requests", "tokens", "concurrency", "budget")
_STEPS = ("downgrade_to", "only_priority", "refuse")
_NEEDS: Mapping[str, tuple[str, ...]] = {"timezone": ("budget",), "on_crash": ("budget",), "mode": ("tokens", "budget")}


class _Known(NamedTuple):
    """What a matcher can meet, the advice where it meets nothing, and how names are compared."""

    names: list[str]
    what: str
    compare: Callable[[str, str], bool]


def check_limits(merged: Merged, price_known: PriceKnown | None) -> None:
    """Write into `merged` what is wrong with the limits, and with targets whose price a budget needs."""
    seen: dict[str, Path] = {}
    known = _known(merged)
    for path, limit in merged.items("limits"):
        name = limit.get("name")
        if isinstance(name, str):
            merged.once(seen, name, (*path, "name"), f"limit `{name}` is given twice")
        _check_kinds(merged, path, limit)
        _check_rising(merged, (*path, "alert_at"), limit.get("alert_at"))
        _check_pressure(merged, path)
        _check_tags(merged, path, limit)
        _check_match(merged, path, known)
    check_downgrades(merged)
    check_prices(merged, price_known)
    if merged.values.get("limits") and merged.values.get("store", "memory") == "memory":
        message = "`store: memory` counts in each worker and each replica alone: N of them let N times as much through"
        place: Path = ("store",) if "store" in merged.values else ("limits",)
        merged.doubt(place, message, "run one, or share a Redis: store: {redis: env:REDIS_URL}")


def _check_kinds(merged: Merged, path: Path, limit: Mapping[str, Value]) -> None:
    if not any(kind in limit for kind in _KINDS):
        message = f"the limit has none of {', '.join(f'`{kind}`' for kind in _KINDS)}"
        merged.fault(path, message, "add requests: 600/min, or budget: $200/day")
    for setting in ("alert_at", "pressure"):
        if setting in limit and "budget" not in limit:
            merged.fault_at_key((*path, setting), f"`{setting}` is about a `budget`", "add budget: $200/day")
    for setting, needed in _NEEDS.items():
        if setting in limit and not any(kind in limit for kind in needed):
            message = f"`{setting}` means nothing without {' or '.join(f'`{kind}`' for kind in needed)}"
            merged.doubt((*path, setting), message, "remove it")


def _check_rising(merged: Merged, path: Path, listed: Value) -> None:
    before = 0.0
    for index, value in enumerate(listed if isinstance(listed, tuple) else ()):
        try:
            share = parse_percent(value)
        except UnitError:
            return
        if index and share <= before:
            merged.fault((*path, index), f"{value} is not more than what stands before it", "write them rising")
            return
        before = share


def _check_pressure(merged: Merged, path: Path) -> None:
    before = 0.0
    for place, step in merged.items(*path, "pressure"):
        given = [name for name in _STEPS if step.get(name, False) is not False]
        if len(given) != 1:
            message = f"a step has one of {', '.join(f'`{name}`' for name in _STEPS)}, not {len(given)}"
            merged.fault(place, message, "keep one" if given else "add refuse: true, or downgrade_to: TARGET")
        try:
            share = parse_percent(step.get("at"))
        except UnitError:
            continue
        if share <= before and share > 0:
            message = f"{step['at']} is not more than that of the step before it"
            merged.fault((*place, "at"), message, "write the steps rising")
        before = share


def _check_tags(merged: Merged, path: Path, limit: Mapping[str, Value]) -> None:
    required = merged.values.get("required_tags")
    tags = [tag for tag in (required if isinstance(required, tuple) else ()) if isinstance(tag, str)]
    for key, _ in merged.items("keys"):
        tags += merged.section(*key, "tags")
    per = limit.get("per")
    for index, dimension in enumerate(per if isinstance(per, tuple) else ()):
        if not isinstance(dimension, str) or not dimension.startswith("tag."):
            continue
        tag = dimension.removeprefix("tag.")
        if tag and tag not in tags:
            message = f"no key has the tag `{tag}` and it is not required: requests without it share one counter"
            advice = did_you_mean(tag, tags) or f"add {tag} to `required_tags`"
            merged.doubt((*path, "per", index), message, advice)


def _known(merged: Merged) -> Mapping[str, _Known]:
    models = [str(route["model"]) for _, route in merged.items("routes") if "model" in route]
    keys = merged.values.get("keys", "open")
    ids = [str(key["id"]) for _, key in merged.items("keys") if "id" in key]
    return {
        "key": _Known(
            [*(["open"] if keys == "open" else ids), "shadow", "judge", "embedder"], "no key has the id", matches
        ),
        "route": _Known(models, "there is no route", matches),
        "target": _Known(list(merged.section("targets")), "there is no target", matches),
        "model": _Known(models, "no route is asked for the model", may_meet),
    }


def _check_match(merged: Merged, path: Path, known: Mapping[str, _Known]) -> None:
    match = merged.section(*path, "match")
    for matcher, there in known.items():
        for index, glob in enumerate(globs_of(match.get(matcher))):
            if not any(there.compare(glob, name) for name in there.names):
                place = (*path, "match", matcher)
                merged.doubt(
                    (*place, index) if isinstance(match[matcher], tuple) else place,
                    f"{there.what} `{glob}`: this matches nothing",
                    did_you_mean(glob, there.names) or "remove it",
                )
