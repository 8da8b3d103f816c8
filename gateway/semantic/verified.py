"""The decisions of one scope in verified mode: what is served, what is labelled, what the labels change.

An *entry* is a stored reply. It has *rows*, the questions that lead to it: the one it was stored for, and those whose
own answers were judged equal to it (aliases). A row is a vector in the index and a text, so that an alias asked again
hits exactly.

A pair of a new question and a row is of a *kind*: whether a guard objected, and how many of the nearest rows lead to
one entry before the first that leads elsewhere. A question among the aliases of one entry is far less often wrong than
one between two entries at the same similarity. Each kind is bounded by itself (`zones`), so none is trusted that the
labels of this scope do not bear out.

Idea of bounding the error from labels that arrive with the traffic: vCache (arXiv 2502.03771), which fits a logistic
curve per entry; of judging apart from the request: Krites (arXiv 2602.13165). The method here is another: see `risk`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Literal

from gateway.core.clock import Clock
from gateway.semantic.zones import RiskSettings, RiskTable, Verdict

Action = Literal["serve", "audit", "learn", "pass"]
"""serve: hand out the entry. audit: it would be served, but goes upstream to be compared. learn: goes upstream as any
miss and is compared. pass: goes upstream; there is nothing to compare."""

GuardOf = Callable[[str], str | None]
"""Row -> the guard that objects to its question, None when none does."""

SUPPORTS = {1: "lone", 3: "backed"}
"""Nearest rows that lead to one entry, at least -> what that is called."""
NEIGHBOURS = 12
"""Rows to search for: more than the supports need, since some are refused."""
FACTS = frozenset({"number", "unit", "entity", "identifier", "quote", "negation", "antonym"})
"""Guards that found something else asked for, not the same in other words."""
KINDS = tuple(f"{support}-{guarded}" for support in SUPPORTS.values() for guarded in ("clean", "flagged"))
"""All kinds of pairs."""


@dataclass(frozen=True, slots=True)
class VerifiedSettings:
    """How one scope learns."""

    learn_from: float = 0.6
    """Similarity from which a miss is compared with its neighbour. Below the floor of the table too: an alias found
    there lends support later, though such a pair is never served."""
    audit_share: float = 0.05
    """Share of the hits that go upstream all the same, to be compared."""
    strikes: int = 2
    """Wrong judgements after which a row goes, and complaints after which an entry goes."""
    rows_per_entry: int = 64
    """Questions that lead to one entry; the oldest alias makes room."""
    never: frozenset[str] = FACTS
    """Guards whose pairs are neither served nor labelled, though the bound would allow some of them: a wrong amount is
    worse than a wrong turn of phrase. Pairs with other guards open when their own labels suffice."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with one question, and what was known when it was decided."""

    action: Action
    reason: str
    """For people: closed, open, audit, none, far, or the guard's name."""
    entry: str | None = None
    row: str | None = None
    kind: str = ""
    similarity: float = 0.0
    guard: str | None = None

    @property
    def wants_label(self) -> bool:
        """Whether the fresh answer should be compared with the entry's."""
        return self.action in ("audit", "learn")


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a judgement changes."""

    entry: str | None = None
    """The entry whose alias the question has become; the fresh reply needs no entry of its own."""
    gone: tuple[str, ...] = ()
    """Rows that must leave the index."""


@dataclass(frozen=True, slots=True)
class Served:
    """What to remember of a served hit until a complaint can no longer come."""

    entry: str
    kind: str
    similarity: float


class Verified:
    """Decides for one scope; keeps no vector, no text and no reply, only names.

    `table`: this scope's own, or one shared with other scopes of the route. `coin` chooses the audits; whoever can
    foresee it can hide from them. Not for several threads.
    """

    def __init__(self, settings: VerifiedSettings, table: RiskTable, coin: Random, clock: Clock) -> None:
        self._settings = settings
        self._coin = coin
        self._clock = clock
        self._rows: dict[str, list[str]] = {}  # entry -> rows, the oldest first
        self._entry_of: dict[str, str] = {}
        self._texts: dict[bytes, str] = {}  # digest of a normalised question -> row
        self._text_of: dict[str, bytes] = {}
        self._strikes: dict[str, int] = {}  # by row or entry
        self.table = table

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"Verified({len(self._rows)} entries, {len(self._entry_of)} rows)"

    def exact(self, text_digest: bytes) -> str | None:
        """The entry that this very question leads to. No similarity is involved, and none of the bound is spent."""
        row = self._texts.get(text_digest)
        return None if row is None else self._entry_of[row]

    def row_of(self, text_digest: bytes) -> str | None:
        """The row of this very question; None when there is none."""
        return self._texts.get(text_digest)

    def entry_of(self, row: str) -> str | None:
        """The entry that `row` leads to; None when it is not known (any more)."""
        return self._entry_of.get(row)

    def attach(self, entry: str, row: str, text_digest: bytes) -> list[str]:
        """Let `row`, which is new, lead to `entry`, old or new; gives the rows that must leave the index for it."""
        rows = self._rows.setdefault(entry, [])
        rows.append(row)
        self._entry_of[row] = entry
        before = self._texts.get(text_digest)
        if before is not None:
            self._text_of.pop(before, None)
        self._texts[text_digest] = row
        self._text_of[row] = text_digest
        if len(rows) <= self._settings.rows_per_entry:
            return []
        oldest = rows[0]
        self.forget_row(oldest)
        return [oldest]

    def forget(self, entry: str) -> list[str]:
        """Drop an entry; gives its rows, which must leave the index. Empty when it is not known."""
        rows = list(self._rows.get(entry, ()))
        for row in rows:
            self.forget_row(row)
        return rows

    def forget_row(self, row: str) -> None:
        """Drop one row, and its entry when it was the last that led there."""
        entry = self._entry_of.pop(row, None)
        if entry is None:
            return
        self._strikes.pop(row, None)
        digest = self._text_of.pop(row, None)
        if digest is not None:
            del self._texts[digest]
        self._rows[entry].remove(row)
        if not self._rows[entry]:
            del self._rows[entry]
            self._strikes.pop(entry, None)

    def decide(self, found: Iterable[tuple[str, float]], guard_of: GuardOf) -> Decision:
        """What to do with a question whose nearest `NEIGHBOURS` rows are `found`, the nearest first.

        `guard_of` is asked of one row after the other, as far as they matter.
        """
        near = self._near(found, guard_of)
        if near is None:
            return Decision("pass", "none")
        row, similarity, guard, support = near
        if similarity < self._settings.learn_from:
            return Decision("pass", "far", similarity=similarity)
        if guard in self._settings.never:
            return Decision("pass", str(guard), similarity=similarity, guard=guard)
        kind = f"{_name(support)}-{'clean' if guard is None else 'flagged'}"
        action, reason = self._act(kind, similarity)
        return Decision(action, reason, self._entry_of[row], row, kind, similarity, guard)

    def _act(self, kind: str, similarity: float) -> tuple[Action, str]:
        self.table.refresh(self._clock.monotonic())
        if not self.table.serves(kind, similarity):
            return "learn", "closed"
        if self._coin.random() < self._settings.audit_share:
            return "audit", "audit"
        return "serve", "open"

    def _near(self, found: Iterable[tuple[str, float]], guard_of: GuardOf) -> tuple[str, float, str | None, int] | None:
        nearest: tuple[str, float, str | None] | None = None
        refused: tuple[str, float, str | None] | None = None
        support = 0
        for row, similarity in found:
            entry = self._entry_of.get(row)
            if entry is None:
                continue
            guard = guard_of(row)
            if guard in self._settings.never:
                # The same words with another number: not a candidate, so no witness for or against one either.
                refused = refused or (row, similarity, guard)
                continue
            if nearest is None:
                nearest = (row, similarity, guard)
            if entry != self._entry_of[nearest[0]]:
                break
            support += 1
        chosen = nearest or refused
        return None if chosen is None else (*chosen, support)

    def learn(self, decision: Decision, verdict: Verdict) -> Lesson:
        """Count the judgement of a decision that wanted a label, and say what it changes.

        Call it for every such decision whose answers were judged, whatever came out, or the labels lean.
        """
        assert decision.wants_label
        self.table.record(
            decision.kind,
            decision.similarity,
            verdict,
            audited=decision.action == "audit",
            now_s=self._clock.monotonic(),
        )
        if decision.row is None or self._entry_of.get(decision.row) != decision.entry:
            return Lesson()  # gone meanwhile
        if verdict == "equal":
            return Lesson(entry=decision.entry)
        if verdict == "different" and decision.action == "audit" and self._strike(decision.row):
            self.forget_row(decision.row)
            return Lesson(gone=(decision.row,))
        return Lesson()

    def complain(self, served: Served) -> Lesson:
        """Count a hit that a person found wrong; the entry goes after so many complaints as there are strikes."""
        self.table.complain(served.kind, served.similarity, self._clock.monotonic())
        if served.entry in self._rows and self._strike(served.entry):
            return Lesson(gone=tuple(self.forget(served.entry)))
        return Lesson()

    def _strike(self, name: str) -> bool:
        self._strikes[name] = self._strikes.get(name, 0) + 1
        return self._strikes[name] >= self._settings.strikes


def _name(support: int) -> str:
    return SUPPORTS[max(least for least in SUPPORTS if least <= support)]


def risk_table(settings: RiskSettings, clock: Clock) -> RiskTable:
    """An empty table for the kinds of pairs there are here."""
    return RiskTable(settings, KINDS, clock.monotonic())
