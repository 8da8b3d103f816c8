"""Nearest neighbours inside one scope: vectors that can really be deleted, and caps that hold.

A scope's vectors are one float32 matrix that doubles when it is full. Up to `EXACT_ROWS` entries every row is compared.
Above, the signs of the numbers, packed into 64-bit words, choose the `RESCORED` rows that agree in most signs, and only
those are compared; on MiniLM vectors of short questions that finds the true nearest neighbour in 99.9 % of the cases.

All products are `numpy.vecdot`, never `@`: a matrix product of this size wakes one BLAS thread per core, and these wait
for each other busily. On a machine with other work that took 16 ms where the single thread takes 0.3 ms.
"""

from collections.abc import Iterable

import numpy
from numpy.typing import NDArray

Vector = NDArray[numpy.float32]

EXACT_ROWS = 10_000
"""Entries up to which a search compares all of them."""
RESCORED = 200
"""Entries whose exact similarity is computed when the signs choose."""

_SMALLEST_CAPACITY = 8
_WORD_BITS = 64


class Index:
    """The vectors of one scope, by entry; similarity is the cosine.

    `exact_rows`: entries up to which all are compared. `rescored`: candidates that the signs choose above that.
    """

    __slots__ = ("_dimensions", "_entries", "_exact_rows", "_matrix", "_rescored", "_rows", "_signs")

    def __init__(self, dimensions: int, exact_rows: int = EXACT_ROWS, rescored: int = RESCORED) -> None:
        self._dimensions = dimensions
        self._exact_rows = exact_rows
        self._rescored = rescored
        self._rows: dict[str, int] = {}  # in the order they came: the first is the oldest
        self._entries: list[str] = []  # by row
        self._matrix, self._signs = self._empty(_SMALLEST_CAPACITY)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, entry: str) -> bool:
        return entry in self._rows

    def __repr__(self) -> str:
        return f"Index({len(self)} entries x {self._dimensions})"

    @property
    def size_bytes(self) -> int:
        """Bytes of the arrays, with the rows that are still free; not the entries' names."""
        return self._matrix.nbytes + self._signs.nbytes

    @property
    def entries(self) -> list[str]:
        """All entries, the oldest first."""
        return list(self._rows)

    @property
    def oldest(self) -> str | None:
        """The entry that came first; None when there is none."""
        return next(iter(self._rows), None)

    def add(self, entry: str, vector: Vector) -> None:
        """Keep `vector`, of any length but zero, under `entry`; one that is known is replaced and becomes the newest.

        Raises ValueError for a vector of other dimensions, of zeros or with a number that is not finite.
        """
        unit = self._unit(vector)
        self.remove(entry)
        row = len(self._entries)
        if row == len(self._matrix):
            self._resize(2 * row)
        self._matrix[row] = unit
        self._signs[:, row] = _packed_signs(unit)
        self._entries.append(entry)
        self._rows[entry] = row

    def remove(self, entry: str) -> bool:
        """Whether `entry` was there; its vector is overwritten or zeroed, not marked."""
        row = self._rows.pop(entry, None)
        if row is None:
            return False
        last = len(self._entries) - 1
        moved = self._entries.pop()
        if row != last:
            self._entries[row] = moved
            self._rows[moved] = row
            self._matrix[row] = self._matrix[last]
            self._signs[:, row] = self._signs[:, last]
        # What is deleted is gone: neither a bug nor a dump of the memory finds it in a free row.
        self._matrix[last] = 0
        self._signs[:, last] = 0
        if len(self._matrix) > _SMALLEST_CAPACITY and last <= len(self._matrix) // 4:
            self._resize(len(self._matrix) // 2)
        return True

    def search(self, vector: Vector, k: int) -> list[tuple[str, float]]:
        """At most `k` entries with their similarity (-1..1), the nearest first; empty when there is none.

        Raises ValueError as `add` does.
        """
        unit = self._unit(vector)
        count = len(self._entries)
        taken = max(self._rescored, k)
        if count <= max(self._exact_rows, taken):
            return self._best(numpy.vecdot(self._matrix[:count], unit), range(count), k)
        distances = numpy.zeros(count, numpy.uint16)
        for word, own in zip(self._signs, _packed_signs(unit), strict=True):
            distances += numpy.bitwise_count(word[:count] ^ own)
        chosen = numpy.argpartition(distances, taken)[:taken]
        return self._best(numpy.vecdot(self._matrix[chosen], unit), chosen.tolist(), k)

    def _best(self, similarities: Vector, rows: list[int] | range, k: int) -> list[tuple[str, float]]:
        found = []
        # For a handful of neighbours, some passes of argmax are ten times faster than a partition.
        for _ in range(min(k, len(similarities))):
            at = int(similarities.argmax())
            found.append((self._entries[rows[at]], float(similarities[at])))
            similarities[at] = -numpy.inf
        return found

    def _unit(self, vector: Vector) -> Vector:
        if vector.shape != (self._dimensions,):
            raise ValueError(f"vector has shape {vector.shape}; this index holds {self._dimensions} dimensions")
        length = float(numpy.sqrt(numpy.vecdot(vector, vector, dtype=numpy.float64)))
        if not 0 < length < numpy.inf:
            raise ValueError(f"vector has length {length}; it needs a finite one above 0")
        return (vector / length).astype(numpy.float32, copy=False)

    def _resize(self, capacity: int) -> None:
        matrix, signs = self._empty(capacity)
        count = len(self._entries)
        matrix[:count] = self._matrix[:count]
        signs[:, :count] = self._signs[:, :count]
        self._matrix, self._signs = matrix, signs

    def _empty(self, capacity: int) -> tuple[Vector, NDArray[numpy.uint64]]:
        words = -(-self._dimensions // _WORD_BITS)
        # Word by word, not row by row: the search walks each word of all rows in one piece, twice as fast.
        return (
            numpy.zeros((capacity, self._dimensions), numpy.float32),
            numpy.zeros((words, capacity), numpy.uint64),
        )


def _packed_signs(vector: Vector) -> NDArray[numpy.uint64]:
    packed = numpy.packbits(vector > 0)
    return numpy.pad(packed, (0, -len(packed) % (_WORD_BITS // 8))).view(numpy.uint64)


class Indexes:
    """The indexes of all scopes, with a cap for each scope and for each tenant: the oldest entry goes first.

    A search sees one scope and nothing else (F116). A scope belongs to the tenant that filled it first, since the
    tenant is part of what a scope is.
    """

    def __init__(self, dimensions: int, per_scope: int, per_tenant: int, exact_rows: int = EXACT_ROWS) -> None:
        self._dimensions = dimensions
        self._per_scope = per_scope
        self._per_tenant = per_tenant
        self._exact_rows = exact_rows
        self._scopes: dict[str, Index] = {}
        self._tenant_of: dict[str, str] = {}
        self._by_tenant: dict[str, dict[tuple[str, str], None]] = {}  # (scope, entry), the oldest first

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._by_tenant.values())

    @property
    def size_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(index.size_bytes for index in self._scopes.values())

    def count(self, scope: str) -> int:
        """Entries of `scope`."""
        index = self._scopes.get(scope)
        return 0 if index is None else len(index)

    def add(self, tenant: str, scope: str, entry: str, vector: Vector) -> list[tuple[str, str]]:
        """Keep `vector` and give back the (scope, entry) pairs that had to go for it.

        Raises ValueError as `Index.add` does, and for a scope of another tenant.
        """
        owner = self._tenant_of.get(scope, tenant)
        if owner != tenant:
            raise ValueError("the scope belongs to another tenant")
        index = self._scopes.get(scope)
        if index is None:
            index = Index(self._dimensions, self._exact_rows)
        index.add(entry, vector)
        self._scopes[scope] = index
        self._tenant_of[scope] = tenant
        entries = self._by_tenant.setdefault(tenant, {})
        entries.pop((scope, entry), None)
        entries[scope, entry] = None
        gone: list[tuple[str, str]] = []
        if len(index) > self._per_scope and index.oldest is not None:
            gone.append((scope, index.oldest))
        elif len(entries) > self._per_tenant:
            gone.append(next(iter(entries)))
        for each in gone:
            self.remove(*each)
        return gone

    def remove(self, scope: str, entry: str) -> bool:
        """Whether the entry was there."""
        index = self._scopes.get(scope)
        if index is None or not index.remove(entry):
            return False
        tenant = self._tenant_of[scope]
        del self._by_tenant[tenant][scope, entry]
        if not index:
            del self._scopes[scope], self._tenant_of[scope]
        if not self._by_tenant[tenant]:
            del self._by_tenant[tenant]
        return True

    def drop(self, scope: str, entries: Iterable[str] | None = None) -> int:
        """How many entries went: those of `entries`, or all of the scope."""
        index = self._scopes.get(scope)
        if index is None:
            return 0
        return sum(self.remove(scope, entry) for entry in (index.entries if entries is None else entries))

    def search(self, scope: str, vector: Vector, k: int) -> list[tuple[str, float]]:
        """At most `k` neighbours in `scope`, the nearest first; none in an unknown scope. Raises as `Index.search`."""
        index = self._scopes.get(scope)
        return [] if index is None else index.search(vector, k)
