"""The counters of one process: windows, slots and budgets, each behind the same few verbs.

A counter decides for itself (`take`), and the ledger makes all or none of several. What was taken is
ended once: settled to the truth, or given back when its lease is over (`lapse`), after which a late
truth can still be told (`settle_late`). `taken_us` is the moment of the taking, on the ledger's clock.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from gateway.store.base import Claim, Crossing, Grant, OnCrossing, Standing
from gateway.store.saving import Savable
from gateway.store.tables import Key, Row
from gateway.store.windows import Window

SOON_S = 1.0
"""Said to who waits for others to finish: nobody can know when."""
KEPT_AFTER_END_S = 3600.0
"""How long a budget outlives its period: a wall clock that is set back must find it again."""


class Counter(Protocol):
    """What the ledger asks of each kind."""

    def take(self, claim: Claim, now_us: int) -> Standing | None:
        """How it stands with the claim, which is taken; None when it does not fit, and nothing is taken."""
        ...

    def standing(self, claim: Claim, now_us: int) -> Standing:
        """How it stands without the claim, and when that would fit."""
        ...

    def settle(self, claim: Claim, used: int, taken_us: int) -> None:
        """What was taken has come to `used`."""
        ...

    def lapse(self, claim: Claim, taken_us: int) -> None:
        """Nobody will say what it came to."""
        ...

    def settle_late(self, claim: Claim, used: int, taken_us: int) -> None:
        """It came to `used`, after `lapse`."""
        ...

    def charge(self, claim: Claim, used: int, now_us: int) -> None:
        """`used` that was never taken here."""
        ...

    def is_idle(self, now_us: int) -> bool:
        """Whether a fresh counter would do as well."""
        ...


class WindowCounter:
    """Requests or tokens in a sliding window."""

    __slots__ = ("_window",)

    def __init__(self, period_s: float) -> None:
        self._window = Window(period_s)

    def take(self, claim: Claim, now_us: int) -> Standing | None:
        """See Counter."""
        limit = claim.limit
        reset_s = self._window.take(now_us, claim.amount, limit)
        if reset_s is None:
            return None
        return Standing(True, self._window.used, limit, 0.0, reset_s)

    def standing(self, claim: Claim, now_us: int) -> Standing:
        """See Counter."""
        retry_after_s = self._window.retry_after_s(now_us, claim.amount, claim.limit)
        reset_s = self._window.reset_s(now_us)
        return Standing(not retry_after_s, self._window.used, claim.limit, retry_after_s, reset_s)

    def settle(self, claim: Claim, used: int, taken_us: int) -> None:
        """See Counter. Corrects the moment in which it was taken, while that counts."""
        by = used - claim.amount
        if by:
            self._window.correct(taken_us, by)

    def lapse(self, claim: Claim, taken_us: int) -> None:
        """See Counter. Given back."""
        self._window.correct(taken_us, -claim.amount)

    def settle_late(self, claim: Claim, used: int, taken_us: int) -> None:
        """See Counter."""
        self._window.correct(taken_us, used)

    def charge(self, claim: Claim, used: int, now_us: int) -> None:
        """See Counter. Counts from now on."""
        self._window.add(now_us, used)

    def is_idle(self, now_us: int) -> bool:
        """See Counter."""
        return self._window.is_idle(now_us)


class SlotCounter:
    """What is held at once. A slot is given back whatever was used."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken = 0

    def take(self, claim: Claim, now_us: int) -> Standing | None:
        """See Counter."""
        amount, limit = claim.amount, claim.limit
        taken = self._taken + amount
        if taken > limit or (not amount and taken == limit):
            return None
        self._taken = taken
        return Standing(True, taken, limit)

    def standing(self, claim: Claim, now_us: int) -> Standing:
        """See Counter."""
        amount = claim.amount or 1
        if self._taken + amount <= claim.limit:
            return Standing(True, self._taken, claim.limit)
        return Standing(False, self._taken, claim.limit, inf if amount > claim.limit else SOON_S)

    def settle(self, claim: Claim, used: int, taken_us: int) -> None:
        """See Counter."""
        self._taken -= claim.amount

    def lapse(self, claim: Claim, taken_us: int) -> None:
        """See Counter. Given back."""
        self._taken -= claim.amount

    def settle_late(self, claim: Claim, used: int, taken_us: int) -> None:
        """See Counter. It was given back then."""

    def charge(self, claim: Claim, used: int, now_us: int) -> None:
        """See Counter. What is over takes no slot."""

    def is_idle(self, now_us: int) -> bool:
        """See Counter."""
        return not self._taken


class Grants:
    """More room in budgets. `wall` reads Unix seconds."""

    __slots__ = ("_wall", "by_id")

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self.by_id: dict[str, Grant] = {}
        """All that were not dropped, in force or not."""

    def add(self, grant: Grant) -> bool:
        """Whether it is new; one of a known id changes nothing."""
        if grant.id in self.by_id:
            return False
        self.by_id[grant.id] = grant
        return True

    def amount(self, rule: str, scope: str, at_s: float) -> int:
        """Nano-USD that are in force at `at_s` for this counter."""
        return sum(
            grant.amount_nusd
            for grant in self.by_id.values()
            if grant.rule == rule and grant.scope in (scope, "*") and grant.until_s > at_s
        )

    def drop_ended(self) -> None:
        """Forget those that are over."""
        now_s = self._wall()
        self.by_id = {grant.id: grant for grant in self.by_id.values() if grant.until_s > now_s}


@dataclass(slots=True)
class Books:
    """What all budgets of a ledger share."""

    wall: Callable[[], float]
    """Unix seconds."""
    on_crossing: OnCrossing
    touch: Callable[[Savable], None]
    """Called when a counter's row has changed, and `is_touched` was False."""
    grants: Grants = field(init=False)

    def __post_init__(self) -> None:
        self.grants = Grants(self.wall)


class BudgetCounter:
    """Money of one calendar period: spent, and held."""

    __slots__ = (
        "_books",
        "_key",
        "at_risk",
        "ends_at_s",
        "held",
        "is_touched",
        "period",
        "rule",
        "scope",
        "spent",
        "told",
    )

    def __init__(self, rule: str, scope: str, period: str, ends_at_s: float, books: Books) -> None:
        self.rule = rule
        self.scope = scope
        self.period = period
        self.ends_at_s = ends_at_s
        self.spent = 0
        self.held = 0
        self.at_risk = 0
        """The part of `held` that is spent if its hold is lost."""
        self.told = 0
        """The highest mark that was told."""
        self.is_touched = False
        self._books = books
        self._key: Key = ("budget", (rule, scope, period))

    def take(self, claim: Claim, now_us: int) -> Standing | None:
        """See Counter."""
        books = self._books
        amount, limit = claim.amount, claim.limit
        now_s = books.wall()
        if books.grants.by_id:
            limit += books.grants.amount(self.rule, self.scope, now_s)
        used = self.spent + self.held + amount
        if used > limit or (not amount and used == limit):
            return None
        self.held += amount
        if claim.charge_lost and amount:
            self.at_risk += amount
            self._touch()
        return Standing(True, used, limit, 0.0, max(0.0, claim.ends_at_s - now_s))

    def standing(self, claim: Claim, now_us: int) -> Standing:
        """See Counter. What fits once held money comes back is told to try again soon."""
        grants, now_s = self._books.grants, self._books.wall()
        limit = claim.limit + grants.amount(self.rule, self.scope, now_s)
        need, used = claim.amount or 1, self.spent + self.held
        left_s = max(0.0, claim.ends_at_s - now_s)
        if used + need <= limit:
            return Standing(True, used, limit, 0.0, left_s)
        if self.spent + need <= limit:
            retry_after_s = min(SOON_S, left_s) or SOON_S
        elif need <= claim.limit + grants.amount(self.rule, self.scope, claim.ends_at_s):
            retry_after_s = left_s or SOON_S
        else:
            retry_after_s = inf
        return Standing(False, used, limit, retry_after_s, left_s)

    def settle(self, claim: Claim, used: int, taken_us: int) -> None:
        """See Counter."""
        self.held -= claim.amount
        if claim.charge_lost and claim.amount:
            self.at_risk -= claim.amount
            self._touch()
        if used:
            self._spend(claim, used)

    def lapse(self, claim: Claim, taken_us: int) -> None:
        """See Counter. Given back, or spent where the claim says so."""
        self.settle(claim, claim.amount if claim.charge_lost else 0, taken_us)

    def settle_late(self, claim: Claim, used: int, taken_us: int) -> None:
        """See Counter. What `lapse` took for spent is corrected."""
        self._spend(claim, used - claim.amount if claim.charge_lost else used)

    def charge(self, claim: Claim, used: int, now_us: int) -> None:
        """See Counter."""
        self._spend(claim, used)

    def is_idle(self, now_us: int) -> bool:
        """See Counter. Only when its period is long over."""
        return not self.held and self._books.wall() >= self.ends_at_s + KEPT_AFTER_END_S

    def row(self) -> Row:
        """Its row in the state file."""
        return self._key, (self.ends_at_s, self.spent, self.at_risk, self.told)

    def _spend(self, claim: Claim, amount: int) -> None:
        self.spent = spent = self.spent + amount
        for mark in claim.alert_at:
            if self.told < mark <= spent:
                self.told = mark
                self._books.on_crossing(Crossing(self.rule, self.scope, self.period, mark, spent, claim.limit))
        self._touch()

    def _touch(self) -> None:
        if not self.is_touched:
            self._books.touch(self)
