"""What happens to the questions of a semantic cache, as records of a log that every process folds.

A question was answered, and perhaps its answer was compared with a neighbour's; somebody complained; something was
purged. All processes see the records in one order, so what they make of them is the same, after a restart too.
"""

from collections import OrderedDict
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from gateway.semantic.zones import Verdict

# Whoever can write into the store can write anything into the log. What is read must not make a look-up fail.
EntryId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
"""Hexadecimal key of a stored reply."""
Similarity = Annotated[float, Meta(ge=-10, le=10)]
"""A cosine, a little above 1 when it was rounded; never NaN."""
Allowed = Annotated[float, Meta(gt=0, lt=1)]
"""A share of wrong hits."""


class Compared(Struct, frozen=True, array_like=True):
    """Two answers were compared: that to a new question, and that of the entry its nearest row leads to."""

    entry: EntryId
    row: str
    kind: str
    similarity: Similarity
    is_audit: bool
    """It was due to be served."""
    verdict: Verdict


class Seen(Struct, frozen=True, array_like=True, tag="seen"):
    """A question that was answered by its model, and the reply was stored."""

    scope: bytes
    """Digest of everything of the request but its last message."""
    tenant: str
    """Who shares the scope."""
    route: str
    by: str
    """What made the vector; those of two models are not to be compared."""
    entry: EntryId
    until_s: float
    """Unix seconds, when that reply ends."""
    text: str
    vector: bytes
    """Little-endian float16."""
    names: tuple[str, ...]
    """Whatever a purge may name it by."""
    max_wrong: Allowed
    compared: Compared | None = None

    def __repr__(self) -> str:
        return f"Seen(***, route={self.route!r}, entry={self.entry!r})"


class Complained(Struct, frozen=True, array_like=True, tag="complained"):
    """Somebody found a served entry wrong."""

    entry: EntryId
    kind: str
    """Of the pair by which it was served; empty when it was served for its own question."""
    similarity: Similarity


class Purged(Struct, frozen=True, array_like=True, tag="purged"):
    """Whatever has this name is gone. Every process deletes the records: the one that purged may have ended."""

    name: str


Record = Seen | Complained | Purged

pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(Record).decode
"""Bytes to a record. Raises msgspec.MsgspecError for what is none."""


class Names:
    """By which names a purge finds the records of the log, those too of which nothing else is kept here.

    A question whose reply has ended, or for which there was no room, still stands in the log.
    """

    def __init__(self, most: int) -> None:
        """`most`: records to know, the latest; not fewer than the log keeps."""
        self._most = most
        self._names: OrderedDict[str, tuple[str, ...]] = OrderedDict()  # by record, the oldest first
        self._records: dict[str, dict[str, None]] = {}  # by name

    def __len__(self) -> int:
        return len(self._names)

    def add(self, record: str, names: tuple[str, ...]) -> str | None:
        """Remember what a new record is called. Gives the one that is forgotten for it, the oldest."""
        self._names[record] = names
        for name in names:
            self._records.setdefault(name, {})[record] = None
        if len(self._names) <= self._most:
            return None
        oldest = next(iter(self._names))
        self._remove(oldest)
        return oldest

    def take(self, name: str) -> list[str]:
        """Forget the records of this name, and give their ids."""
        found = list(self._records.get(name, ()))
        for record in found:
            self._remove(record)
        return found

    def clear(self) -> None:
        """Forget them all."""
        self._names.clear()
        self._records.clear()

    def _remove(self, record: str) -> None:
        for name in set(self._names.pop(record)):
            records = self._records[name]
            del records[record]
            if not records:
                del self._records[name]
