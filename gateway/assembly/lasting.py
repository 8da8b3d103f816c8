"""State that outlives a reload: breakers, learned figures, queues, found again by what they are about (F79, F41)."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Lasting:
    """Objects by key, each as long as some generation uses it."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[Any, int]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def lease(self) -> "Lease":
        """What one generation uses; to be released when it is closed."""
        return Lease(self)

    def acquire(self, key: Hashable, make: Callable[[], T]) -> T:
        """The object for `key`, made if there is none; one more use of it."""
        known = self._kept.get(key)
        kept: T = make() if known is None else known[0]
        self._kept[key] = (kept, 1 if known is None else known[1] + 1)
        return kept

    def release(self, key: Hashable) -> None:
        """One use less; the last one forgets the object."""
        kept, users = self._kept[key]
        if users > 1:
            self._kept[key] = (kept, users - 1)
        else:
            del self._kept[key]


class Lease:
    """The uses of one generation."""

    def __init__(self, lasting: Lasting) -> None:
        self._lasting = lasting
        self._keys: list[Hashable] = []

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The object for `key`. The key holds everything that makes two objects differ, and the kind of object."""
        self._keys.append(key)
        return self._lasting.acquire(key, make)

    def release(self) -> None:
        """Give every use back. Once."""
        for key in self._keys:
            self._lasting.release(key)
        self._keys.clear()
