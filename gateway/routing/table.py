"""Which route serves a model: an exact name first, then the most specific glob."""

import re
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from gateway.core.globs import glob_pattern

T = TypeVar("T")

_CACHED_LOOKUPS = 4096


def is_glob(name: str) -> bool:
    """Whether `name` stands for more than one model."""
    return "*" in name or "?" in name


def specificity(glob: str) -> tuple[int, int]:
    """Sort key, larger is more specific: literal characters before the first wildcard, then in all."""
    prefix = re.split(r"[*?]", glob, maxsplit=1)[0]
    return len(prefix), sum(char not in "*?" for char in glob)


class ModelTable(Generic[T]):
    """Values by model name or glob. Look-ups are remembered, boundedly: clients invent names."""

    def __init__(self, entries: Mapping[str, T]) -> None:
        self._exact = {name: value for name, value in entries.items() if not is_glob(name)}
        globs = sorted((name for name in entries if is_glob(name)), key=specificity, reverse=True)
        self._globs = [(glob_pattern(glob), entries[glob]) for glob in globs]
        self._cache: dict[str, T | None] = {}

    def find(self, model: str) -> T | None:
        """The most specific entry that matches `model`."""
        found = self._exact.get(model)
        if found is not None:
            return found
        if model in self._cache:
            return self._cache[model]
        found = next((value for pattern, value in self._globs if pattern.fullmatch(model)), None)
        if len(self._cache) >= _CACHED_LOOKUPS:
            self._cache.clear()
        self._cache[model] = found
        return found


class ModelFilter:
    """Whether a model's name is among some names and globs."""

    def __init__(self, globs: Iterable[str]) -> None:
        globs = tuple(globs)
        self._all = "*" in globs
        self._patterns = [glob_pattern(glob) for glob in globs]

    def allows(self, model: str) -> bool:
        """True when any of the globs matches `model`."""
        return self._all or any(pattern.fullmatch(model) for pattern in self._patterns)
