"""Which similarities may be served: the labels of a scope, counted by kind and similarity, and what they allow.

Labels grow old in epochs, since scaling the counts down would break the bound: two tallies of each kind are kept, one
begun an epoch later than the other, and the elder decides. When the younger is an epoch old the elder is dropped. So
one to two epochs of labels decide, and the bound holds with its full confidence for each tally by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gateway.semantic.risk import JEFFREYS, Drift, is_below, lower_bound, needed_labels, prior_near, upper_bound

Verdict = Literal["equal", "different", "unsure"]
"""Of two answers. Unsure: they were looked at and could not be told apart or together; no label."""

DAY_S = 86_400.0

EDGE = 3.0
"""How much worse than the whole zone its lowest bin may look: what is right as a mean may still be bad for one."""


@dataclass(frozen=True, slots=True)
class RiskSettings:
    """What is allowed, and how sure one wants to be."""

    max_wrong: float
    """Share of the served hits that may be wrong, 0 < share < 1."""
    confidence: float = 0.95
    """Chance that the bound holds in all zones and at all times of one tally."""
    floor: float = 0.74
    """Similarity below which nothing is ever served or labelled."""
    step: float = 0.04
    """Width of a bin of similarity. More bins fit closer, but each costs labels: its bound must be surer."""
    max_unsure: float = 0.2
    """Share of pairs that could not be judged above which a zone stays closed: the bound knows nothing of them."""
    edge_labels: int = 30
    """Labels that the lowest bin of a zone must have itself, with not over `EDGE` times the share wrong."""
    epoch_labels: int = 5_000
    epoch_s: float = 30 * DAY_S
    """An epoch of a kind ends after so many of its labels or so many seconds, whichever is first."""


@dataclass(slots=True)
class Tally:
    """What was counted."""

    labels: int = 0
    wrong: int = 0
    unsure: int = 0
    """Pairs that could not be judged; they are no labels."""

    def count(self, verdict: Verdict) -> None:
        """One more of `verdict`."""
        if verdict == "unsure":
            self.unsure += 1
            return
        self.labels += 1
        self.wrong += verdict == "different"

    @property
    def unsure_share(self) -> float:
        """Share of the unsure among all that were looked at, 0..1."""
        return self.unsure / max(self.labels + self.unsure, 1)


@dataclass(frozen=True, slots=True)
class Zone:
    """One kind from one threshold up, as it stands."""

    kind: str
    threshold: float
    is_open: bool
    labels: int
    wrong: int
    unsure: int
    upper: float
    """Upper bound of the wrong share, 0..1."""
    needed: int
    """The fewest further labels, all right, until the bound is low enough; more when some are wrong. 0 in a zone that
    is closed: its lowest bin is not known well enough, or too many pairs were unsure."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What audits found since the start: hits that were due and, as a coin fell, went upstream to be compared.

    The coin knows nothing of the hit, so this measures the wrong share of served hits whatever the zones assume. It is
    slow, since few hits are audited: it checks the zones and does not open them.
    """

    labels: int
    wrong: int
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All counts of a table, of plain values, so that a restart need not learn anew."""

    floors: list[float]
    epochs: dict[str, list[list[Tally]]]
    """By kind: the elder and, when there is one, the younger; a tally for each bin."""
    age_s: dict[str, float]
    """By kind, of the younger."""
    audit: Tally


class _Labels:
    """The labels of one kind."""

    __slots__ = ("bins", "drift", "epochs", "lowest", "started_s")

    def __init__(self, bins: int, share: float, now_s: float) -> None:
        self.bins = bins
        # The elder, which decides, and the younger, which will; one is enough while they are one age.
        self.epochs = [self._epoch()]
        self.started_s = now_s  # of the younger
        self.lowest: int | None = None  # bin from which on pairs are served
        self.drift = Drift(share)

    def _epoch(self) -> list[Tally]:
        return [Tally() for _ in range(self.bins)]

    def age(self, settings: RiskSettings, now_s: float) -> bool:
        """Whether an epoch has ended."""
        younger = self.epochs[-1]
        if now_s - self.started_s < settings.epoch_s and sum(each.labels for each in younger) < settings.epoch_labels:
            return False
        self.epochs = [younger, self._epoch()]
        self.started_s = now_s
        return True

    def count(self, at: int, verdict: Verdict) -> None:
        for epoch in self.epochs:
            epoch[at].count(verdict)

    def pooled(self, lowest: int) -> Tally:
        bins = self.epochs[0][lowest:]
        return Tally(
            sum(each.labels for each in bins), sum(each.wrong for each in bins), sum(each.unsure for each in bins)
        )


class RiskTable:
    """The labels of one scope, or of one route whose scopes are configured to share them, and the thresholds they give.

    Scopes that share a table share the bound too: it then speaks of their hits together, not of each scope's.
    `kinds`: all kinds there are. Times are seconds of one clock that does not step.
    """

    def __init__(self, settings: RiskSettings, kinds: Sequence[str], now_s: float) -> None:
        self.settings = settings
        bins = max(1, round((1 - settings.floor) / settings.step))
        self._floors = [round(settings.floor + at * settings.step, 6) for at in range(bins)]
        self._miss = (1 - settings.confidence) / (bins * len(kinds))
        self._prior = prior_near(settings.max_wrong)
        self._kinds = {kind: _Labels(bins, settings.max_wrong, now_s) for kind in kinds}
        self._audit = Tally()

    @property
    def is_open(self) -> bool:
        """Whether anything may be served."""
        return any(each.lowest is not None for each in self._kinds.values())

    def serves(self, kind: str, similarity: float) -> bool:
        """Whether a pair of that kind and similarity may be served."""
        lowest = self._kinds[kind].lowest
        return lowest is not None and similarity >= self._floors[lowest]

    def record(self, kind: str, similarity: float, verdict: Verdict, *, audited: bool, now_s: float) -> None:
        """Count what the judge said of a pair at or above the floor. `audited`: it was about to be served.

        What is judged must be chosen before the answers are known: all pairs, or by a coin. `serves` may change.
        """
        if similarity < self.settings.floor:
            return
        labels = self._kinds[kind]
        labels.age(self.settings, now_s)
        labels.count(self._bin(similarity), verdict)
        if audited:
            self._audit.count(verdict)
        self._note(kind, verdict if audited else "unsure")

    def complain(self, kind: str, similarity: float, now_s: float) -> None:
        """Count a served hit that somebody found wrong. Nobody tells of right ones, so this errs to the safe side."""
        if similarity < self.settings.floor:
            return
        labels = self._kinds[kind]
        labels.age(self.settings, now_s)
        labels.count(self._bin(similarity), "different")
        self._note(kind, "different")

    def refresh(self, now_s: float) -> None:
        """Let old labels go even when no new ones come."""
        for kind, labels in self._kinds.items():
            if labels.age(self.settings, now_s):
                self._decide(kind)

    def zones(self) -> list[Zone]:
        """For each kind the zone that is served, or else the one that needs the fewest labels."""
        return [self._zone(kind, labels) for kind, labels in self._kinds.items()]

    def needed(self) -> int:
        """The fewest further labels, all right, until anything may be served; 0 when something is."""
        return 0 if self.is_open else min(zone.needed for zone in self.zones())

    def audit(self) -> Audit:
        """The wrong share of the hits that were due, with an interval of the settings' confidence."""
        labels, wrong = self._audit.labels, self._audit.wrong
        miss = 1 - self.settings.confidence
        return Audit(
            labels, wrong, lower_bound(labels, wrong, miss, JEFFREYS), upper_bound(labels, wrong, miss, JEFFREYS)
        )

    def snapshot(self, now_s: float) -> Snapshot:
        """A copy of all counts."""
        return Snapshot(
            list(self._floors),
            {
                kind: [[replace(tally) for tally in epoch] for epoch in labels.epochs]
                for kind, labels in self._kinds.items()
            },
            {kind: now_s - labels.started_s for kind, labels in self._kinds.items()},
            replace(self._audit),
        )

    def restore(self, kept: Snapshot, now_s: float) -> bool:
        """Go on from `kept`. False, and nothing changed, when it was counted in other bins or kinds than these.

        What `max_wrong` was then does not matter: the counts are judged by what it is now.
        """
        if kept.floors != self._floors or kept.epochs.keys() != self._kinds.keys():
            return False
        self._audit = replace(kept.audit)
        for kind, epochs in kept.epochs.items():
            labels = _Labels(len(self._floors), self.settings.max_wrong, now_s - kept.age_s[kind])
            labels.epochs = [[replace(tally) for tally in epoch] for epoch in epochs]
            self._kinds[kind] = labels
            self._decide(kind)
        return True

    def _bin(self, similarity: float) -> int:
        return sum(similarity >= floor for floor in self._floors[1:])

    def _note(self, kind: str, of_served: Verdict) -> None:
        labels = self._kinds[kind]
        if of_served != "unsure" and labels.drift.note(of_served == "different"):
            # What was learned no longer tells what comes.
            self._kinds[kind] = _Labels(len(self._floors), self.settings.max_wrong, labels.started_s)
        self._decide(kind)

    def _decide(self, kind: str) -> None:
        labels = self._kinds[kind]
        allowed = self._allowed(labels)
        labels.lowest = min(allowed, default=None)

    def _allowed(self, labels: _Labels) -> list[int]:
        """The bins from which on a kind may be served; the bound, and what makes it hold for the hits to come too."""
        share = self.settings.max_wrong
        allowed = []
        for at in reversed(range(labels.bins)):
            pooled = labels.pooled(at)
            if pooled.wrong > 1 + share * pooled.labels:
                # Inside an open zone few are labelled and below it all. So a zone that looks bad must not be opened
                # as part of a wider one, whose many labels at its edge would hide it.
                break
            if self._is_bounded(pooled) and self._is_edge_known(labels.epochs[0][at]):
                allowed.append(at)
        return allowed

    def _is_bounded(self, tally: Tally) -> bool:
        return tally.unsure_share <= self.settings.max_unsure and is_below(
            tally.labels, tally.wrong, self.settings.max_wrong, self._miss, self._prior
        )

    def _is_edge_known(self, edge: Tally) -> bool:
        # With one more wrong than there were: a few labels say little.
        return (
            edge.labels >= self.settings.edge_labels and edge.wrong <= 1 + EDGE * self.settings.max_wrong * edge.labels
        )

    def _zone(self, kind: str, labels: _Labels) -> Zone:
        tallies = [labels.pooled(at) for at in range(labels.bins)]
        needs = [
            needed_labels(each.labels, each.wrong, self.settings.max_wrong, self._miss, self._prior) for each in tallies
        ]
        lowest = needs.index(min(needs)) if labels.lowest is None else labels.lowest
        tally = tallies[lowest]
        return Zone(
            kind=kind,
            threshold=self._floors[lowest],
            is_open=labels.lowest is not None,
            labels=tally.labels,
            wrong=tally.wrong,
            unsure=tally.unsure,
            upper=upper_bound(tally.labels, tally.wrong, self._miss, self._prior),
            needed=needs[lowest],
        )
