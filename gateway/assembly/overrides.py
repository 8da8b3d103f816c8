"""What overrides change: the weights of routes, and who and what is shut out.

Names of overrides say what they are about: `route/MODEL`, `failover/TAG=VALUE`, `target/NAME`,
`isolate/key/ID`, `isolate/target/NAME`, `isolate/tag/NAME=VALUE`. What no longer fits the
configuration (its route or target has gone) has no effect.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.config.schema import Config, Route, Target
from gateway.store.base import Override


@dataclass(frozen=True, slots=True)
class Isolation:
    """Whose requests are refused: keys, and values of tags."""

    keys: frozenset[str] = frozenset()
    tags: frozenset[tuple[str, str]] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.keys or self.tags)


@dataclass(frozen=True, slots=True)
class Effect:
    """The overrides as the builder needs them."""

    weights: dict[str, dict[str, float]] = field(default_factory=dict)
    """Of routes that lead elsewhere than the file says, by model."""
    ejected: dict[str, str] = field(default_factory=dict)
    """Targets that take no requests, with the reason."""
    isolation: Isolation = Isolation()


def effect_of(config: Config, overrides: Mapping[str, Override]) -> Effect:
    """What these overrides change in `config`. A route's own switch goes over a failover."""
    ejected: dict[str, str] = {}
    keys: set[str] = set()
    tags: set[tuple[str, str]] = set()
    for name, override in overrides.items():
        match name.split("/", 2):
            case ["target", target]:
                ejected[target] = f"by {override.actor}: {override.reason}"
            case ["isolate", "target", target]:
                ejected[target] = f"isolated by {override.actor}: {override.reason}"
            case ["isolate", "key", key]:
                keys.add(key)
            case ["isolate", "tag", tag]:
                tag_name, _, value = tag.partition("=")
                tags.add((tag_name, value))
    weights = {}
    for route in config.routes:
        changed = _weights(config, route, overrides)
        if changed != route.weights:
            weights[route.model] = changed
    return Effect(weights, ejected, Isolation(frozenset(keys), frozenset(tags)))


def _weights(config: Config, route: Route, overrides: Mapping[str, Override]) -> dict[str, float]:
    switched = overrides.get(f"route/{route.model}")
    if switched is not None:
        named: dict[str, float] = switched.value["split"]
        known = {target: weight for target, weight in named.items() if target in config.targets}
        if any(known.values()):
            return known
    weights = route.weights
    for name, override in overrides.items():
        if name.startswith("failover/"):
            weights = _failed_over(config, weights, override.value["from"], override.value["to"])
    return weights


def _failed_over(
    config: Config, weights: Mapping[str, float], left: Mapping[str, str], taken: Mapping[str, str]
) -> dict[str, float]:
    moved: dict[str, float] = {}
    for name, weight in weights.items():
        target = config.targets[name]
        places = [name]
        if _has_tags(target, left):
            places = counterparts(config, name, taken) or [name]
        for place in places:
            moved[place] = moved.get(place, 0.0) + weight / len(places)
    return moved


def counterparts(config: Config, name: str, tags: Mapping[str, str]) -> list[str]:
    """Targets with these tags that can stand in for the target `name`: of the same dialects, and the same model.

    Those in service alone; where none has the same model, none.
    """
    wanted = config.targets[name]
    return [
        other
        for other, target in config.targets.items()
        if other != name
        and _has_tags(target, tags)
        and target.dialects == wanted.dialects
        and target.model == wanted.model
        and target.out_of_service is None
    ]


def _has_tags(target: Target, tags: Mapping[str, str]) -> bool:
    return all(target.tags.get(name) == value for name, value in tags.items())
