"""Keys that no section has: a slip of the pen, a key of another section, or one that a later version brings."""

from collections.abc import Mapping

from pydantic import BaseModel

from gateway.config.document import Path
from gateway.config.faults import Fault, Place, did_you_mean, error
from gateway.config.schema import Config, Key, Route, Server, Target, Telemetry, Timeouts, Traces

SECTIONS: Mapping[tuple[str, ...], type[BaseModel]] = {
    (): Config,
    ("server",): Server,
    ("telemetry",): Telemetry,
    ("telemetry", "traces"): Traces,
    ("keys", "*"): Key,
    ("targets", "*"): Target,
    ("targets", "*", "timeouts"): Timeouts,
    ("routes", "*"): Route,
}
"""Every section by its position; `*` is a name or an item."""

LATER: Mapping[type[BaseModel], frozenset[str]] = {
    Config: frozenset({
        "store", "on_store_failure", "limits", "budgets", "cache", "webhooks", "prices", "pools", "prompts", "guards",
        "semantic", "policies", "rollouts",
    }),
    Server: frozenset({"overload", "console", "tls"}),
    Telemetry: frozenset({"metrics", "audit"}),
    Key: frozenset({"priority", "limits", "budget", "budgets", "tier", "tiers"}),
    Target: frozenset({
        "price", "max_inflight", "breaker", "pool", "pools", "weight", "region", "limits", "retry", "health",
        "priority", "tokens", "quota",
    }),
    Route: frozenset({
        "sticky", "shadow", "retry", "fallback", "rollout", "cache", "priority", "pool", "balance", "tiers", "limits",
        "budget", "budgets", "guards", "translate", "prompt", "timeouts", "max_inflight", "classification", "judge",
    }),
}  # fmt: skip
"""Keys that are planned, so that nobody looks for a spelling mistake in them."""


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
    homes = [".".join(position) for position, other in SECTIONS.items() if position and name in keys_of(other)]
    if homes:
        return error(place, f"unknown key `{name}`", f"it belongs in `{homes[0]}`")
    return error(place, f"unknown key `{name}`", f"known here: {', '.join(sorted(keys_of(section)))}")
