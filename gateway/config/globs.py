"""Globs of `*` (anything) and `?` (one character), compared with names and with each other."""

from collections.abc import Mapping

from gateway.config.document import Value
from gateway.core.globs import glob_pattern


def globs_of(value: Value) -> tuple[str, ...]:
    """The globs of a setting that is one or a list of them; what is no text is left out."""
    if isinstance(value, str):
        return (value,)
    return tuple(glob for glob in value if isinstance(glob, str)) if isinstance(value, tuple) else ()


def has_wildcard(glob: str) -> bool:
    """Whether it can match several names."""
    return "*" in glob or "?" in glob


def matches(glob: str, name: str) -> bool:
    """Whether `name`, taken as it stands, is one of those that `glob` means."""
    if not has_wildcard(glob):
        return glob == name
    return glob_pattern(glob).fullmatch(name) is not None


def may_meet(one: str, other: str) -> bool:
    """Whether some name matches both globs."""
    reached, todo = {(0, 0)}, [(0, 0)]
    while todo:
        here, there = todo.pop()
        first, second = one[here : here + 1], other[there : there + 1]
        if not first and not second:
            return True
        steps = []
        if first == "*" or second == "*":
            # A star ends, or takes what the other glob has next.
            steps = [step for step, letter in (((here + 1, there), first), ((here, there + 1), second)) if letter]
        elif first and second and (first == second or "?" in {first, second}):
            steps = [(here + 1, there + 1)]
        todo += [step for step in steps if step not in reached]
        reached.update(steps)
    return False


def is_about(match: Mapping[str, Value], model: str) -> bool:
    """Whether a limit's `match` can meet a request by the route of this `model`."""
    by_route, by_model = globs_of(match.get("route")), globs_of(match.get("model"))
    return (not by_route or any(matches(glob, model) for glob in by_route)) and (
        not by_model or any(may_meet(glob, model) for glob in by_model)
    )
