"""Where budgets lead requests when they fill up: to something that exists, and in no circle."""

from collections.abc import Iterator, Mapping

from gateway.config.document import Path, Value
from gateway.config.faults import did_you_mean
from gateway.config.globs import globs_of
from gateway.config.merge import Merged

_Node = tuple[str, str]
_Edges = dict[_Node, dict[_Node, Path]]


def check_downgrades(merged: Merged) -> None:
    """Write into `merged` each `downgrade_to` that names nothing, its own source, or goes in a circle."""
    edges: _Edges = {}
    models = route_models(merged)
    for path, _ in merged.items("limits"):
        sources = _sources(merged, merged.section(*path, "match"), models)
        for place, step in merged.items(*path, "pressure"):
            name, place = step.get("downgrade_to"), (*place, "downgrade_to")
            if not isinstance(name, str) or not name:
                continue
            there = _resolve(merged, name, models)
            if there is None:
                advice = did_you_mean(name, [*merged.section("targets"), *models])
                merged.fault(place, f"there is no target or route `{name}`", advice or "define it in `targets`")
            elif sources == [there]:
                merged.fault(place, f"`{name}` would be downgraded to itself", "name a cheaper one")
            else:
                for source in sources:
                    if source != there:
                        edges.setdefault(source, {}).setdefault(there, place)
    _check_circles(merged, edges)


def route_models(merged: Merged) -> list[str]:
    """What the routes are called: their `model`, as it stands there."""
    return [model for _, route in merged.items("routes") if isinstance(model := route.get("model"), str)]


def _resolve(merged: Merged, name: str, models: list[str]) -> _Node | None:
    """The target of that name, else the route."""
    if name in merged.section("targets"):
        return "target", name
    return ("route", name) if name in models else None


def _sources(merged: Merged, match: Mapping[str, Value], models: list[str]) -> list[_Node]:
    """The routes or targets that a limit names, without a wildcard, as what it is about.

    A limit about many is also about what it leads to, and stops there: that is no circle.
    """
    named = {*globs_of(match.get("route")), *globs_of(match.get("model"))}
    if named:
        return [("route", model) for model in models if model in named]
    return [("target", name) for name in merged.section("targets") if name in globs_of(match.get("target"))]


def _check_circles(merged: Merged, edges: _Edges) -> None:
    done: set[_Node] = set()
    for start in edges:
        # The way from `start` to the node that is looked at; of each node, the edges that are left.
        chain: dict[_Node, Iterator[tuple[_Node, Path]]] = {} if start in done else {start: iter(edges[start].items())}
        while chain:
            node = next(reversed(chain))
            there, place = next(chain[node], (None, ()))
            if there is None:
                done.add(node)
                del chain[node]
            elif there in chain:
                way = [name for _, name in chain]
                circle = " -> ".join((*way[list(chain).index(there) :], there[1]))
                merged.fault(place, f"`downgrade_to` goes in a circle: {circle}", "remove one of them")
            elif there not in done:
                chain[there] = iter(edges.get(there, {}).items())
