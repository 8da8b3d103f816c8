"""Keys that no section has: a slip of the pen, a key of another section, or one that a later version brings."""

from collections.abc import Mapping
from itertools import takewhile

from pydantic import BaseModel

from gateway.config.document import Path
from gateway.config.faults import Fault, Place, did_you_mean, error
from gateway.config.schema import (
    Breaker,
    Cache,
    Coalesce,
    Config,
    Fallback,
    Hedge,
    Judge,
    Key,
    Limit,
    Match,
    OnStoreFailure,
    Overload,
    Pressure,
    Price,
    Queue,
    Retry,
    Route,
    RouteCache,
    Semantic,
    Server,
    Shadow,
    Store,
    Target,
    Telemetry,
    Tier,
    TierConditions,
    Timeouts,
    Traces,
    Webhook,
)

SECTIONS: Mapping[tuple[str, ...], type[BaseModel]] = {
    (): Config,
    ("server",): Server,
    ("server", "overload"): Overload,
    ("store",): Store,
    ("on_store_failure",): OnStoreFailure,
    ("cache",): Cache,
    ("telemetry",): Telemetry,
    ("telemetry", "traces"): Traces,
    ("keys", "*"): Key,
    ("targets", "*"): Target,
    ("targets", "*", "timeouts"): Timeouts,
    ("targets", "*", "price"): Price,
    ("targets", "*", "queue"): Queue,
    ("targets", "*", "breaker"): Breaker,
    ("targets", "*", "coalesce"): Coalesce,
    ("limits", "*"): Limit,
    ("limits", "*", "match"): Match,
    ("limits", "*", "pressure", "*"): Pressure,
    ("routes", "*"): Route,
    ("routes", "*", "retry"): Retry,
    ("routes", "*", "fallback", "*"): Fallback,
    ("routes", "*", "hedge"): Hedge,
    ("routes", "*", "shadow"): Shadow,
    ("routes", "*", "cache"): RouteCache,
    ("routes", "*", "cache", "semantic"): Semantic,
    ("routes", "*", "cache", "semantic", "judge"): Judge,
    ("routes", "*", "tiers", "*"): Tier,
    ("routes", "*", "tiers", "*", "when"): TierConditions,
    ("webhooks", "*"): Webhook,
}
"""Every section by its position; `*` is a name or an item."""

LATER: Mapping[type[BaseModel], frozenset[str]] = {
    Config: frozenset({
        "prices", "pools", "prompts", "guards", "semantic", "policies", "rollouts",
    }),
    Server: frozenset({"console", "tls"}),
    Telemetry: frozenset({"metrics", "audit"}),
    Target: frozenset({"region", "health"}),
    Route: frozenset({
        "rollout", "guards", "translate", "prompt", "timeouts", "classification", "judge",
    }),
}  # fmt: skip
"""Keys that are planned, so that nobody looks for a spelling mistake in them."""


_IN_LIMITS = "write it in an entry of `limits`, with `match` or `per`"
_ELSEWHERE = {
    "limits": "`limits` stands at the top of the file; an entry has `match` or `per`",
    "budget": _IN_LIMITS,
    "budgets": _IN_LIMITS,
    "quota": _IN_LIMITS,
    "tokens": _IN_LIMITS,
    "requests": _IN_LIMITS,
    "weight": "weights stand in `split` of a route",
}
"""What people write where it is needed, while it stands in another section."""


def section_at(path: Path) -> type[BaseModel] | None:
    """The section whose keys stand directly below `path`."""
    for position, section in SECTIONS.items():
        if len(position) == len(path) and all(part in ("*", name) for part, name in zip(position, path, strict=True)):
            return section
    return None


def keys_of(section: type[BaseModel]) -> list[str]:
    """The keys of a section, as written in the file."""
    return [field.alias or name for name, field in section.model_fields.items()]


def unknown_key(place: Place, path: Path) -> Fault:
    """What to say of the key at the end of `path`, which its section does not have."""
    name = str(path[-1])
    section = section_at(path[:-1])
    assert section is not None, path
    if name in LATER.get(section, ()):
        return error(place, f"`{name}` is not yet known to this version", "remove it for now")
    if advice := did_you_mean(name, keys_of(section)):
        return error(place, f"unknown key `{name}`", advice)
    if place_of := _ELSEWHERE.get(name):
        return error(place, f"unknown key `{name}`", place_of)
    if homes := _homes(path, name):
        return error(place, f"unknown key `{name}`", f"it belongs in {' or '.join(homes)}")
    return error(place, f"unknown key `{name}`", f"known here: {', '.join(sorted(keys_of(section)))}")


def _homes(path: Path, name: str) -> list[str]:
    """The sections that have the key `name`, those nearest to `path`."""
    near: dict[int, list[str]] = {}
    for position, section in SECTIONS.items():
        if position and name in keys_of(section):
            shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(position, path, strict=False)))
            near.setdefault(shared, []).append(f"`{'.'.join(position)}`")
    return near[max(near)][:3] if near else []
