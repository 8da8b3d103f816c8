"""Which targets a route may send to, and where it names them; read from merged values, sound or not."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from gateway.config.document import Path, Value


class Named(NamedTuple):
    """A target's name in a route: `path` below the route, `role` as in the file."""

    role: str
    path: Path
    target: str


def named_targets(route: Mapping[str, Value]) -> Iterator[Named]:
    """Every place where a route names a target, whether there is one of that name or not."""
    yield from _own(route)
    for role in ("fallback", "tiers"):
        items = route.get(role)
        for index, item in enumerate(items if isinstance(items, tuple) else ()):
            if isinstance(item, str) and role == "fallback":
                yield Named(role, (role, index), item)
            elif isinstance(item, dict) and isinstance(to := item.get("to"), str):
                yield Named(role, (role, index, "to"), to)
    shadow = route.get("shadow")
    if isinstance(shadow, dict) and isinstance(target := shadow.get("target"), str):
        yield Named("shadow", ("shadow", "target"), target)


def own_targets(route: Mapping[str, Value]) -> list[str]:
    """The targets among which a route chooses, in order; those of weight 0 are none."""
    split = route.get("split")
    weights = split if isinstance(split, dict) else {}
    return list(dict.fromkeys(named.target for named in _own(route) if weights.get(named.target, 1) != 0))


def _own(route: Mapping[str, Value]) -> Iterator[Named]:
    target, split, pool = route.get("target"), route.get("split"), route.get("pool")
    if isinstance(target, str):
        yield Named("target", ("target",), target)
    for name in split if isinstance(split, dict) else ():
        yield Named("split", ("split", name), name)
    for index, member in enumerate(pool if isinstance(pool, tuple) else ()):
        if isinstance(member, str):
            yield Named("pool", ("pool", index), member)
