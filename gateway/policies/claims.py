"""What one request claims of its rules' counters, and the account of what it holds.

A request's hold covers the worst case of one try. Tries come after one another (retry, fallback) and
beside one another (hedges); so the account knows, for each counter of tokens or money, how much is
held in all, how much the tries that are over have used, and how much those under way may use. A try
that what is left does not cover holds the difference by itself. At the end the first hold takes all
that was really used, and the others are given back: nothing is counted twice, and nothing is lost.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from gateway.core.exchange import Attempt, Exchange, Priority
from gateway.policies.matching import Matched, Scoped
from gateway.policies.quoting import Quotes
from gateway.store.base import Claim, Hold, Ledger, Spend

Metered = Literal["tokens", "nusd"]

_BYTES_PER_TOKEN = 4


class Entry:
    """One counter of tokens or money, as one request uses it. Amounts are in the counter's unit."""

    __slots__ = ("held", "is_charged", "owner", "unit", "used")

    def __init__(self, owner: Scoped, unit: Metered, held: int) -> None:
        self.owner = owner
        self.unit = unit
        self.held = held
        self.used = 0
        """By tries that are over."""
        self.is_charged = False

    def need(self, quotes: Quotes) -> int | None:
        """What a try may use of it at worst; None when its price is not known."""
        rule = self.owner.rule
        if self.unit == "nusd":
            return quotes(rule.strict_budget).cost_nusd
        quote = quotes(rule.strict_tokens)
        worst = quote.input_tokens + quote.output_tokens
        assert rule.tokens is not None
        limit = rule.tokens[0]
        if worst > limit and not rule.strict_tokens:
            # The bound by bytes is four times what text comes to. A request that will most likely fit into the whole
            # window has to wait for all of it; one that surely does not fit is refused for good.
            likely = quote.input_tokens // _BYTES_PER_TOKEN + quote.output_tokens
            return limit if likely <= limit else worst
        return worst

    def claim(self, amount: int, now_s: float, priority: Priority, *, is_look: bool = False) -> Claim:
        """A claim for so much of it. `is_look`: it is only to tell how the counter stands."""
        owner = self.owner
        rule, terms = owner.rule, owner.terms
        if self.unit == "tokens":
            assert rule.tokens is not None
            limit, period_s = rule.tokens
            return Claim(rule.name, owner.scope, "window", "tokens", amount, limit, period_s, dry_run=rule.dry_run)
        assert terms.periods is not None
        assert terms.ladder is not None
        period = terms.periods.at(now_s)
        return Claim(
            rule.name,
            owner.scope,
            "budget",
            "nusd",
            amount,
            terms.ladder.limit(priority),
            0.0,
            period.name,
            period.ends_at_s,
            rule.dry_run or is_look,
            rule.charge_lost,
            terms.alert_at,
        )


class Draft:
    """The claims of one hold. `owners` and `entries` say of each whose it is and where its use is written down."""

    __slots__ = ("claims", "entries", "metered", "owners", "unpriced")

    def __init__(self, matched: Matched) -> None:
        """With the claims that are the same for every request."""
        self.claims = list(matched.fixed)
        self.owners = list(matched.owners)
        self.entries: list[Entry | None] = [None] * len(self.claims)
        """None for requests and slots, which come to what was claimed, and for a mere look at a budget."""
        self.metered: list[Entry] = []
        """All counters of tokens and money, those that nothing is claimed of too."""
        self.unpriced: list[Scoped] = []
        """Budgets that cannot say whether the request fits, because no price is known."""

    def add(self, entry: Entry, claim: Claim) -> None:
        """One more claim."""
        self.claims.append(claim)
        self.owners.append(entry.owner)
        self.entries.append(entry)
        self.metered.append(entry)


def draft(matched: Matched, quotes: Quotes, now_s: float, priority: Priority, with_budgets: bool = True) -> Draft:
    """The claims of a request on all counters of its rules.

    A request that costs nothing claims nothing of a budget, so that free targets serve when it is spent
    (F59). Without `with_budgets` nothing is claimed of any: every try will have to.
    """
    made = Draft(matched)
    for owner in matched.metered:
        if owner.rule.tokens is not None:
            entry = Entry(owner, "tokens", 0)
            entry.held = entry.need(quotes) or 0
            made.add(entry, entry.claim(entry.held, now_s, priority))
        if owner.rule.budget is not None:
            _add_budget(made, Entry(owner, "nusd", 0), quotes if with_budgets else None, now_s, priority)
    return made


def _add_budget(made: Draft, entry: Entry, quotes: Quotes | None, now_s: float, priority: Priority) -> None:
    owner = entry.owner
    amount = entry.need(quotes) if quotes is not None else 0
    if amount is None and not owner.is_dry:
        made.unpriced.append(owner)
    if amount:
        entry.held = amount
        made.add(entry, entry.claim(amount, now_s, priority))
        return
    made.metered.append(entry)
    assert owner.terms.ladder is not None
    if owner.terms.ladder.downgrades:
        # Without it nobody would notice that there is money again.
        made.claims.append(entry.claim(0, now_s, priority, is_look=True))
        made.owners.append(owner)
        made.entries.append(None)


class Totals:
    """What some tries have come to."""

    __slots__ = ("cost_nusd", "has_unknown_cost", "input_tokens", "output_tokens")

    def __init__(self, input_tokens: int, output_tokens: int, cost_nusd: int, has_unknown_cost: bool) -> None:
        """`has_unknown_cost`: a try is not in `cost_nusd`, because its price is not known."""
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.cost_nusd = cost_nusd
        self.has_unknown_cost = has_unknown_cost

    def of(self, entry: Entry, worst: int) -> int:
        """What this is in an entry's unit; `worst` stands for a price that is not known."""
        if entry.unit == "tokens":
            return self.input_tokens + self.output_tokens
        return self.cost_nusd + (worst if self.has_unknown_cost else 0)


def totals(attempts: Sequence[Attempt]) -> Totals:
    """The sum of these tries. One whose usage was never found out has used nothing."""
    spent = Totals(0, 0, 0, False)
    for attempt in attempts:
        usage = attempt.usage
        if usage is not None:
            spent.input_tokens += usage.input_tokens or 0
            spent.output_tokens += usage.output_tokens or 0
        cost_nusd = attempt.cost_nusd
        if cost_nusd is None:
            spent.has_unknown_cost = True
        else:
            spent.cost_nusd += cost_nusd
    return spent


class Cover:
    """A try under way, and what it may use of each entry; worked out only when somebody needs it."""

    __slots__ = ("_entries", "_quotes", "needs")

    def __init__(self, entries: Sequence[Entry], quotes: Quotes) -> None:
        self._entries = entries
        self._quotes = quotes
        self.needs: list[int] = []

    def work_out(self) -> list[Scoped]:
        """Fill `needs`; the budgets for which no price is known."""
        if self.needs:
            return []
        found = [entry.need(self._quotes) for entry in self._entries]
        self.needs = [need or 0 for need in found]
        return [
            entry.owner
            for entry, need in zip(self._entries, found, strict=True)
            if need is None and not entry.owner.is_dry
        ]


class Account:
    """What one exchange holds of counters of tokens and money, and what became of it."""

    __slots__ = ("_covers", "_extras", "_is_touched", "entries", "is_closed", "live")

    def __init__(self, entries: Sequence[Entry], covers: Callable[[str], bool]) -> None:
        """`covers`: for which targets the hold is large enough for one try."""
        self.entries = entries
        self._covers = covers
        self._extras: list[tuple[Hold, Sequence[Entry]]] = []
        self._is_touched = False
        self.live: list[Cover] = []
        self.is_closed = False

    def is_enough(self, target: str) -> bool:
        """Whether what is held is surely enough for a try at this target, without looking at the figures."""
        return not self._is_touched and not self.live and self._covers(target)

    def missing(self, cover: Cover) -> list[int]:
        """How much more must be held of each entry, if `cover` is to go on beside what is under way."""
        for other in self.live:
            other.work_out()
        return [
            max(0, entry.used + cover.needs[place] + sum(other.needs[place] for other in self.live) - entry.held)
            for place, entry in enumerate(self.entries)
        ]

    def add(self, hold: Hold, entries: Sequence[Entry]) -> None:
        """A hold that is to be given back at the end."""
        self._extras.append((hold, entries))

    def end(self, cover: Cover, spent: Totals) -> None:
        """The try of `cover` is over, and has come to `spent`."""
        self.live.remove(cover)
        if spent.has_unknown_cost:
            cover.work_out()
        worst = cover.needs or [0] * len(self.entries)
        for entry, need in zip(self.entries, worst, strict=True):
            used = spent.of(entry, need)
            entry.used += used
            self._is_touched = self._is_touched or used > 0

    def close(
        self, ledger: Ledger, hold: Hold, own: Sequence[Entry | None], spent: Totals, spend: Spend | None
    ) -> None:
        """Settle everything: the first hold that has an entry takes all of its use, the others none."""
        self.is_closed = True
        ledger.settle(hold, used_of(hold, own, spent), spend)
        for extra, entries in self._extras:
            ledger.settle(extra, used_of(extra, entries, spent))


def used_of(hold: Hold, entries: Sequence[Entry | None], spent: Totals) -> list[int]:
    """What each claim of `hold` has come to."""
    used = []
    for claim, entry in zip(hold.claims, entries, strict=True):
        if entry is None:
            used.append(claim.amount)
        elif entry.is_charged:
            used.append(0)
        else:
            entry.is_charged = True
            used.append(spent.of(entry, entry.held))
    return used


def spends(exchange: Exchange, spent: Totals, day: str, labels: Sequence[str]) -> list[Spend]:
    """What an exchange adds to its day's totals: the request with its last target, and each other one's tries."""
    attempts, last = exchange.attempts, exchange.target
    if len(attempts) < 2 or all(attempt.target == last for attempt in attempts):
        return [_spend(exchange, last, spent, day, labels)]
    by_target: dict[str | None, list[Attempt]] = {last: []}
    for attempt in attempts:
        by_target.setdefault(attempt.target, []).append(attempt)
    parts = {target: totals(tries) for target, tries in by_target.items()}
    parts[last].cost_nusd += spent.cost_nusd - sum(part.cost_nusd for part in parts.values())
    return [_spend(exchange, target, part, day, labels) for target, part in parts.items()]


def _spend(exchange: Exchange, target: str | None, spent: Totals, day: str, labels: Sequence[str]) -> Spend:
    assert exchange.consumer is not None
    tags = exchange.tags
    return Spend(
        day,
        exchange.consumer.id,
        exchange.route or "",
        target or "",
        tuple([(name, tags[name]) for name in labels if name in tags]) if labels else (),
        1 if target == exchange.target else 0,
        spent.input_tokens,
        spent.output_tokens,
        spent.cost_nusd,
    )
