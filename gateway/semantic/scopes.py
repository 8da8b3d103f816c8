"""All questions that a process knows, by scope: what is near a new one, and what is to be done about it.

A *scope* is a digest of everything of a request but its last message: who may share the reply, the target, the
prompt's version, the system prompt, earlier turns, every parameter. Nothing of one scope is ever seen from
another (F116).

What a scope learns comes out of a log (`log`) and from nowhere else, so the replicas of a fleet come to the same.
A row is named by its record's id. What only ages (time to live, room) each process forgets by itself.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal

import msgspec

from gateway.core.clock import Clock
from gateway.semantic.guards import Features, compare, features
from gateway.semantic.log import Compared, Complained, Names, Purged, Seen, pack, unpack
from gateway.semantic.normalise import equal_text, normalise
from gateway.semantic.risk import JEFFREYS, lower_bound, upper_bound
from gateway.semantic.rows import Room, Row, Rows, Vector, unpacked_vector
from gateway.semantic.verified import KINDS, Decision, Served, Verified, VerifiedSettings, risk_table
from gateway.semantic.zones import RiskSettings, Tally

Mode = Literal["shadow", "static", "verified"]

_MISS = 0.05
_SETTINGS = VerifiedSettings()


@dataclass(frozen=True, slots=True)
class Rules:
    """How one route uses its scopes."""

    mode: Mode
    threshold: float = 0.92
    """Of `static`: similarity from which a question that no guard objects to is the same."""
    max_wrong: float = 0.01
    """Of `verified` and `shadow`: share of the served hits that may be wrong."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a route's hits have come to, over all its scopes."""

    scopes: int
    open: int
    """Scopes in which something may be served."""
    labels: int
    """Hits that were due and were compared instead."""
    wrong: int
    lower: float
    """Of the wrong share of hits: the interval that holds with 95 %, at every look."""
    upper: float


@dataclass(slots=True)
class _Place:
    """What one scope has learned."""

    route: str
    verified: Verified
    audits: Tally = field(default_factory=Tally)
    """Kept apart from the table, which counts them too: it would compute their bounds for each scope."""


class Scopes:
    """See the module. Not for several threads; nothing here waits. A look takes about 0.5 ms among 10,000 rows."""

    def __init__(self, by: str, room: Room, coin: Random, clock: Clock, append: Callable[[bytes], None]) -> None:
        """`by`: what makes the vectors. `append` writes a record into the log, which gives it to `fold`."""
        self.by = by
        self._room = room
        self._coin = coin
        self._clock = clock
        self._append = append
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._rows = Rows(room, clock, self._dropped)
        self._names = Names(room.records)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"Scopes({len(self._places)} scopes, {len(self._rows)} rows)"

    @property
    def size_bytes(self) -> int:
        """Bytes of the vectors."""
        return self._rows.size_bytes

    def question_of(self, row: str) -> str | None:
        """The text of a row; None when it is not known (any more)."""
        found = self._rows.get(row)
        return None if found is None else found.text

    def look(self, scope: bytes, text: str, vector: Vector, rules: Rules) -> Decision:
        """What to do with a question. `shadow` decides as `verified` does; not to serve is the caller's part.

        Raises ValueError for a vector of other dimensions than this process knows.
        """
        name = scope.hex()
        place = self._places.get(name)
        if place is None:
            return Decision("pass", "none")
        self._places.move_to_end(name)
        same = place.verified.exact(_digest(text))
        if same is not None and self._rows.is_alive(same):
            return Decision("serve", "same", entry=same, similarity=1.0)
        found = self._rows.near(name, vector)
        guard_of = self._guard(text)
        if rules.mode == "static":
            return self._by_threshold(found, guard_of, rules.threshold)
        if found and found[0][1] < _SETTINGS.learn_from:
            # Nothing can come of it, so no guard need read it: most of the time of a miss.
            return Decision("pass", "far", similarity=found[0][1])
        self._adjust(place, rules.max_wrong)
        return place.verified.decide(found, guard_of)

    def _guard(self, text: str) -> Callable[[str], str | None]:
        read: list[Features] = []

        def guard_of(row: str) -> str | None:
            other = self._rows[row]
            if equal_text(text, other.text):
                return None
            if not read:
                read.append(features(text))
            return compare(read[0], other.features())

        return guard_of

    def _by_threshold(
        self, found: Sequence[tuple[str, float]], guard_of: Callable[[str], str | None], threshold: float
    ) -> Decision:
        refused: Decision | None = None
        for row, similarity in found:
            if similarity < threshold:
                return refused or Decision("pass", "far", similarity=similarity)
            guard = guard_of(row)
            if guard is None:
                return Decision("serve", "static", self._rows[row].entry, row, "", similarity)
            refused = refused or Decision("pass", guard, similarity=similarity, guard=guard)
        return refused or Decision("pass", "none")

    def tell(self, seen: Seen) -> None:
        """Write a question into the log."""
        self._append(pack(seen))

    def complain(self, entry: str, kind: str, similarity: float) -> None:
        """Write into the log that `entry` was wrong, for a question that was such a pair with its own."""
        self._append(pack(Complained(entry, kind, similarity)))

    def purge(self, name: str) -> None:
        """Write into the log that everything with this name is gone."""
        self._append(pack(Purged(name)))

    def forget(self, entry: str) -> None:
        """Drop a reply that turned out to be gone, in this process."""
        for row in self._rows.of_entry(entry):
            self._rows.drop(row)

    def fold(self, batch: Sequence[tuple[str, bytes]]) -> list[str]:
        """Take what the log says, in its order: (id, record). Gives the ids that are to be deleted there.

        What cannot be read is skipped: a newer version may have written it.
        """
        done: list[str] = []
        for number, packed in batch:
            try:
                record = unpack(packed)
            except msgspec.MsgspecError:
                continue
            if isinstance(record, Seen):
                forgotten = self._names.add(number, record.names)
                if forgotten is not None:
                    self._rows.drop(forgotten)
                self._seen(number, record)
            elif isinstance(record, Complained):
                self._complained(record)
            else:
                done += self._purged(record.name)
        return done

    def reset(self) -> None:
        """Forget everything: the log begins anew."""
        self._places.clear()
        self._rows.clear()
        self._names.clear()

    def standing(self) -> dict[str, Standing]:
        """By route."""
        sums: dict[str, list[int]] = {}
        for place in self._places.values():
            of_route = sums.setdefault(place.route, [0, 0, 0, 0])
            for at, value in enumerate((1, place.verified.table.is_open, place.audits.labels, place.audits.wrong)):
                of_route[at] += value
        return {
            route: Standing(
                scopes,
                is_open,
                labels,
                wrong,
                lower_bound(labels, wrong, _MISS, JEFFREYS),
                upper_bound(labels, wrong, _MISS, JEFFREYS),
            )
            for route, (scopes, is_open, labels, wrong) in sums.items()
        }

    def _seen(self, number: str, seen: Seen) -> None:
        vector = unpacked_vector(seen.vector)
        if seen.by != self.by or vector is None:
            return
        place = self._place(seen)
        verified = place.verified
        entry, until_s = seen.entry, seen.until_s
        if seen.compared is not None and seen.compared.kind in KINDS:
            known = self._learn(place, seen.compared)
            # When a row that has ended is dropped depends on who looked: it must not matter here.
            if known is not None and self._rows.is_alive(known):
                entry, until_s = known, self._rows.until_s(known) or until_s
        if until_s <= self._clock.wall():
            return
        digest = _digest(seen.text)
        before = verified.row_of(digest)
        if before is not None:
            # Twice the same question would pass for two witnesses.
            self._rows.drop(before)
        row = Row(seen.scope.hex(), entry, seen.text)
        if self._rows.add(number, row, seen.tenant, until_s, vector):
            for crowded in verified.attach(entry, number, digest):
                self._rows.drop(crowded)

    def _learn(self, place: _Place, compared: Compared) -> str | None:
        """The entry that the new question has become an alias of."""
        if compared.is_audit:
            place.audits.count(compared.verdict)
        action: Literal["audit", "learn"] = "audit" if compared.is_audit else "learn"
        decision = Decision(action, "", compared.entry, compared.row, compared.kind, compared.similarity)
        lesson = place.verified.learn(decision, compared.verdict)
        for row in lesson.gone:
            self._rows.drop(row)
        return lesson.entry

    def _complained(self, complained: Complained) -> None:
        scope = self._rows.scope_of(complained.entry)
        if scope is None:
            return
        if complained.kind in KINDS:
            served = Served(complained.entry, complained.kind, complained.similarity)
            self._places[scope].verified.complain(served)
        self.forget(complained.entry)

    def _purged(self, name: str) -> list[str]:
        """The records of which something has gone."""
        records = self._names.take(name)
        rows = self._rows.with_aliases(records)
        for row in rows:
            self._rows.drop(row)
        return list(dict.fromkeys([*records, *rows]))

    def _place(self, seen: Seen) -> _Place:
        name = seen.scope.hex()
        place = self._places.get(name)
        if place is None:
            table = risk_table(RiskSettings(max_wrong=seen.max_wrong), self._clock)
            verified = Verified(_SETTINGS, table, self._coin, self._clock)
            place = self._places[name] = _Place(seen.route, verified)
            if len(self._places) > self._room.scopes:
                oldest = next(iter(self._places))
                self._rows.drop_scope(oldest)
                del self._places[oldest]
        return place

    def _adjust(self, place: _Place, max_wrong: float) -> None:
        """Judge what was learned by what is allowed now."""
        table = place.verified.table
        if table.settings.max_wrong != max_wrong:
            now_s = self._clock.monotonic()
            place.verified.table = risk_table(replace(table.settings, max_wrong=max_wrong), self._clock)
            place.verified.table.restore(table.snapshot(now_s), now_s)

    def _dropped(self, row: Row, name: str) -> None:
        self._places[row.scope].verified.forget_row(name)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(normalise(text).encode(), digest_size=16).digest()
