"""Questions and the stored replies that they lead to: what is kept of them, for how long, and what is near a new one.

A row is one question: its vector in the index of its scope, its text for the guards. An entry is a stored reply, to
which one or more rows lead. Rows end with their entry's time, or when there is no more room, or when they are dropped;
whoever keeps something else under a row's name is told (`on_drop`).
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy
from numpy.typing import NDArray

from gateway.core.clock import Clock
from gateway.semantic.guards import Features, features
from gateway.semantic.index import Indexes
from gateway.semantic.verified import NEIGHBOURS

Vector = NDArray[numpy.float32]

_SEARCHES = 3
"""Times a search is repeated because what it found had ended."""
_SWEPT = 4
"""Rows looked at for their end with each new one, in turn."""


@dataclass(frozen=True, slots=True)
class Room:
    """How much is kept; the oldest goes."""

    per_scope: int = 10_000
    per_tenant: int = 20_000
    scopes: int = 2_000
    records: int = 25_000
    """Of the log, of all tenants: more than it keeps. A row takes 2 to 3 KB; what the log has forgotten has none."""


@dataclass(slots=True, repr=False)
class Row:
    """One question."""

    scope: str
    entry: str
    text: str
    _read: Features | None = None

    def features(self) -> Features:
        """For the guards; read when one first asks, since most rows are never anybody's neighbour."""
        if self._read is None:
            self._read = features(self.text)
        return self._read


@dataclass(slots=True)
class _Entry:
    until_s: float
    scope: str
    rows: dict[str, None] = field(default_factory=dict)


class Rows:
    """See the module."""

    def __init__(self, room: Room, clock: Clock, on_drop: Callable[[Row, str], None]) -> None:
        """`on_drop` is told of each row that goes, with its name."""
        self._room = room
        self._clock = clock
        self._on_drop = on_drop
        self._rows: dict[str, Row] = {}
        self._turn: deque[str] = deque()  # whose end is looked at next; some are gone already
        self._of_scope: dict[str, dict[str, None]] = {}
        self._entries: dict[str, _Entry] = {}
        self._indexes: Indexes | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: str) -> Row:
        return self._rows[row]

    def get(self, row: str) -> Row | None:
        """The row of this name; None when there is none (any more)."""
        return self._rows.get(row)

    @property
    def size_bytes(self) -> int:
        """Bytes of the vectors."""
        return 0 if self._indexes is None else self._indexes.size_bytes

    def scope_of(self, entry: str) -> str | None:
        """The scope of a stored reply; None when no row leads to it."""
        found = self._entries.get(entry)
        return None if found is None else found.scope

    def until_s(self, entry: str) -> float | None:
        """Unix seconds when a stored reply ends; None when no row leads to it."""
        found = self._entries.get(entry)
        return None if found is None else found.until_s

    def is_alive(self, entry: str) -> bool:
        """Whether a row leads to the reply, and its time is not over."""
        found = self._entries.get(entry)
        return found is not None and found.until_s > self._clock.wall()

    def add(self, name: str, row: Row, tenant: str, until_s: float, vector: Vector) -> bool:
        """Keep a row, which is new, until its entry ends at `until_s`. False for a vector unlike the others."""
        if self._indexes is None:
            self._indexes = Indexes(len(vector), self._room.per_scope, self._room.per_tenant)
        try:
            evicted = self._indexes.add(tenant, row.scope, name, vector)
        except ValueError:
            return False
        self._rows[name] = row
        self._turn.append(name)
        self._of_scope.setdefault(row.scope, {})[name] = None
        entry = self._entries.setdefault(row.entry, _Entry(until_s, row.scope))
        entry.until_s = until_s
        entry.rows[name] = None
        for _, each in evicted:
            self.drop(each)
        self._sweep()
        return True

    def near(self, scope: str, vector: Vector) -> list[tuple[str, float]]:
        """The nearest `NEIGHBOURS` rows that lead to a living reply, with their similarity; the dead are dropped."""
        found: list[tuple[str, float]] = []
        for _ in range(_SEARCHES):
            found = [] if self._indexes is None else self._indexes.search(scope, vector, NEIGHBOURS)
            ended = [row for row, _ in found if not self.is_alive(self._rows[row].entry)]
            for row in ended:
                self.drop(row)
            if not ended:
                break
        return [(row, similarity) for row, similarity in found if row in self._rows]

    def with_aliases(self, names: Iterable[str]) -> list[str]:
        """Those of the rows that are there, and all that lead to one of their entries."""
        entries = dict.fromkeys(self._rows[name].entry for name in names if name in self._rows)
        return [row for entry in entries for row in self._entries[entry].rows]

    def of_entry(self, entry: str) -> list[str]:
        """Rows that lead to a stored reply."""
        found = self._entries.get(entry)
        return [] if found is None else list(found.rows)

    def drop(self, name: str) -> None:
        """Forget a row, if it is known."""
        row = self._rows.pop(name, None)
        if row is None:
            return
        entry = self._entries[row.entry]
        del entry.rows[name]
        if not entry.rows:
            del self._entries[row.entry]
        of_scope = self._of_scope[row.scope]
        del of_scope[name]
        if not of_scope:
            del self._of_scope[row.scope]
        assert self._indexes is not None
        self._indexes.remove(row.scope, name)
        self._on_drop(row, name)

    def drop_scope(self, scope: str) -> None:
        """Forget all rows of a scope."""
        for name in list(self._of_scope.get(scope, ())):
            self.drop(name)

    def clear(self) -> None:
        """Forget everything, and tell nobody."""
        self._rows.clear()
        self._turn.clear()
        self._of_scope.clear()
        self._entries.clear()
        self._indexes = None

    def _sweep(self) -> None:
        for _ in range(min(_SWEPT, len(self._turn))):
            name = self._turn.popleft()
            row = self._rows.get(name)
            if row is not None and self.is_alive(row.entry):
                self._turn.append(name)
            else:
                self.drop(name)


def packed_vector(vector: Vector) -> bytes:
    """As the log has it: what half the precision costs is far less than what the model's own int8 weights do."""
    return vector.astype("<f2").tobytes()


def unpacked_vector(packed: bytes) -> Vector | None:
    """What `packed_vector` has made; None for what is no vector."""
    if not packed or len(packed) % 2:
        return None
    return numpy.frombuffer(packed, "<f2").astype(numpy.float32)
