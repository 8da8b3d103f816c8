"""Merged values against the schema: each complaint of pydantic as a fault in our words, at its line."""

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.config.document import Path
from gateway.config.faults import Fault, error
from gateway.config.merge import Merged
from gateway.config.schema import Config
from gateway.config.sources import SECRET_POSITIONS
from gateway.config.unknown import unknown_key

_LONGEST_SHOWN = 60


def validate(merged: Merged) -> Config | None:
    """The configuration that the values are; None when there are faults, which are then in `merged`."""
    try:
        return Config.model_validate(merged.values)
    except ValidationError as reason:
        details = [detail for detail in reason.errors(include_url=False) if not _follows(merged, detail)]
        merged.faults += [_fault(merged, detail) for detail in details]
        return None


def _follows(merged: Merged, detail: ErrorDetails) -> bool:
    """Whether a complaint only repeats another fault: a key without a value, or a target that extends nothing."""
    path = detail["loc"]
    if detail["type"] == "missing":
        return len(path) == 3 and path[0] == "targets" and merged.is_orphan(str(path[1]))
    return detail["input"] is None and detail["type"] != "extra_forbidden"


def _fault(merged: Merged, detail: ErrorDetails) -> Fault:
    path: Path = detail["loc"]
    if path and path[-1] == "[key]":
        return _refused(merged, path[:-1], detail, at_key=True)
    if detail["type"] == "extra_forbidden":
        return unknown_key(merged.key_place(path), path)
    if detail["type"] == "missing":
        return error(merged.key_place(path[:-1]), f"`{path[-1]}` is missing", _missing_advice(path))
    return _refused(merged, path, detail, at_key=False)


def _refused(merged: Merged, path: Path, detail: ErrorDetails, *, at_key: bool) -> Fault:
    place = merged.key_place(path) if at_key else merged.place(path)
    context = detail.get("ctx", {})
    if detail["type"] == "setting":
        prefix = "" if at_key else f"`{_label(path)}`: "
        return error(place, f"{prefix}{context['message']}", context["advice"])
    expected, advice = _expectation(detail["type"], context)
    instead = f", not {context['actual_length']}" if "actual_length" in context else _instead(path, detail["input"])
    return error(place, f"`{_label(path)}` must be {expected}{instead}", advice)


_EXPECTED: dict[str, Callable[[dict[str, Any]], tuple[str, str]]] = {
    "string_type": lambda _: ("text", "put it in quotes"),
    "int_type": lambda _: ("a whole number", ""),
    "float_type": lambda _: ("a number", ""),
    "finite_number": lambda _: ("a finite number", ""),
    "bool_type": lambda _: ("true or false", ""),
    "tuple_type": lambda _: ("a list", "write [a, b], or one item a line after a dash"),
    "dict_type": lambda _: ("a mapping", "write {key: value}, or one `key: value` a line"),
    "model_type": lambda _: ("a mapping", "write {key: value}, or one `key: value` a line"),
    "literal_error": lambda context: (str(context["expected"]).replace("'", ""), ""),
    "greater_than_equal": lambda context: (f"at least {context['ge']:g}", ""),
    "less_than_equal": lambda context: (f"at most {context['le']:g}", ""),
    "string_too_short": lambda _: ("something", "give it a value, or remove the line"),
    "string_too_long": lambda context: (f"shorter than {context['max_length'] + 1} characters", ""),
    "too_short": lambda context: (f"a list of at least {context['min_length']} item", ""),
    "too_long": lambda context: (f"at most {context['max_length']} items", ""),
    "string_pattern_mismatch": lambda _: ("a version such as 2024-10-21", ""),
}


def _expectation(kind: str, context: dict[str, Any]) -> tuple[str, str]:
    assert kind in _EXPECTED, kind
    return _EXPECTED[kind](context)


def _label(path: Path) -> str:
    """The last key of `path`, with the number of a list's item behind it."""
    names = [part for part in path if isinstance(part, str)]
    item = f"[{path[-1]}]" if path and isinstance(path[-1], int) else ""
    return f"{names[-1] if names else 'the file'}{item}"


def _instead(path: Path, value: object) -> str:
    """What was written, where it may be repeated."""
    if isinstance(value, bool):
        return f", not {str(value).lower()}"
    if isinstance(value, dict):
        return ", not a mapping"
    if isinstance(value, tuple):
        return ", not a list"
    if isinstance(value, int | float):
        return f", not {value}"
    if isinstance(value, str) and not _is_secret(path):
        return f', not "{value[:_LONGEST_SHOWN]}"'
    return ""


def _is_secret(path: Path) -> bool:
    return any(
        len(position) == len(path) and all(part in ("*", name) for part, name in zip(position, path, strict=True))
        for position in SECRET_POSITIONS
    )


def _missing_advice(path: Path) -> str:
    return {
        "apiVersion": "begin with apiVersion: gateway/v1",
        "provider": "write openai, azure, anthropic or mock",
        "hash": "`gateway keys new ID` prints one",
        "exact": "write how long replies are kept, such as exact: 1h",
        "id": "give the key a name",
        "model": "write the name that applications ask for, or a glob",
        "name": "give the limit a name, for errors and metrics",
        "at": "write from which share of the budget on, such as at: 80%",
        "to": "name a target",
        "target": "name a target",
        "when": "write when: {max_prompt_bytes: 2KiB, tools: false}",
        "url": "write https://host/path, or env:NAME",
    }.get(str(path[-1]), "")
