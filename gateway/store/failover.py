"""What holds while the shared store is gone, and how it finds back: declared for each class of limits.

Theory of operation. The shared store knows whether it is up (see `batch`): one question without an answer in time
ends that, and nobody waits for it again until it has come back by itself. Until then each claim is decided by the
rule of its class, rate limits (requests, tokens, slots) or budgets:

- `closed`: StoreUnavailable.
- `open`: granted.
- `local`: this process decides alone, in memory, within its declared share of the limit; for a budget also within
  what was left when the store was last heard.

Whatever is granted so is told to the shared store when it is back: what is over by then as sums, what still runs as
holds. So the stricter of both counts, and nothing is lost or counted twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from msgspec.structs import replace

from gateway.core.errors import StoreUnavailable
from gateway.store.base import BudgetState, Claim, Figures, Grant, Hold, Ledger, Spend, Standing, Store, Verdict
from gateway.store.redis import RedisStore

OnFailure = Literal["local", "open", "closed"]
RETRY_AFTER_S = 1.0
"""What a request is told that met a `closed` limit."""


@dataclass(frozen=True, slots=True)
class FailureRules:
    """What is done for each class of limits while the shared store is gone."""

    rate_limits: OnFailure
    budgets: OnFailure
    share: float
    """This process's part of each limit that it decides alone: above 0, at most 1."""


class FailoverStore:
    """See Store: the shared one while it is up, else as the rules say. Audit, overrides and names are only there."""

    def __init__(self, shared: RedisStore, local: Store, rules: FailureRules) -> None:
        self._shared = shared
        self._local = local
        self._rules = rules
        self._ledger = FailoverLedger(shared, local.ledger, rules)
        self.ledger: Ledger = self._ledger
        self.journal = shared.journal
        self.leases = shared.leases

    def declare(self, rules: FailureRules) -> None:
        """Decide by these from now on, while the shared store is gone."""
        self._rules = self._ledger.rules = rules

    @property
    def is_shared(self) -> bool:
        """See Store. Always."""
        return True

    @property
    def is_up(self) -> bool:
        """See Store."""
        return self._shared.is_up

    @property
    def figures(self) -> Figures:
        """See Store."""
        return self._shared.figures

    @property
    def last_error(self) -> str:
        """Why the shared store was last gone; empty when it never was."""
        return self._shared.last_error

    @property
    def detail(self) -> dict[str, Any]:
        """See Store. While it is down, with what holds meanwhile."""
        about = self._shared.detail
        if not self.is_up:
            about |= {"rate_limits": self._rules.rate_limits, "budgets": self._rules.budgets}
        return about

    def now_s(self) -> float:
        """See Store."""
        return self._shared.now_s()

    async def start(self) -> None:
        """See Store."""
        await self._local.start()
        await self._shared.start()

    async def aclose(self) -> None:
        """See Store."""
        await self._shared.aclose()
        await self._local.aclose()


class FailoverLedger:
    """See Ledger, and this file's head."""

    def __init__(self, shared: RedisStore, local: Ledger, rules: FailureRules) -> None:
        self._store = shared
        self._shared = shared.ledger
        self._local = local
        self.rules = rules
        # Hold -> what the local ledger holds for it, and which of the claims that is.
        self._alone: dict[str, tuple[Hold, list[int]]] = {}

    async def hold(self, hold_id: str, claims: Sequence[Claim]) -> Verdict:
        """See Ledger. Raises StoreUnavailable only for what is `closed`."""
        if self._store.is_up:
            try:
                return await self._shared.hold(hold_id, claims)
            except StoreUnavailable:
                # It has just gone: this request has waited its part, and is decided like all that follow.
                pass
        return self._shared.known(hold_id) or await self._decide(hold_id, claims)

    async def _decide(self, hold_id: str, claims: Sequence[Claim]) -> Verdict:
        modes = [self._mode(claim) for claim in claims]
        if "closed" in modes:
            raise StoreUnavailable(
                "The store that counts limits and budgets does not answer, and they are declared `closed` for that"
                " case. Try again in a moment.",
                retry_after_s=RETRY_AFTER_S,
            )
        places = [place for place, mode in enumerate(modes) if mode == "local"]
        alone = Hold(hold_id, tuple(self._share(claims[place]) for place in places))
        decided = await self._local.hold(hold_id, alone.claims)
        standings = [Standing(True, 0, claim.limit) for claim in claims]
        for place, standing in zip(places, decided.standings, strict=True):
            standings[place] = standing
        verdict = Verdict(decided.granted, tuple(standings), "local" if places else "open")
        if verdict.granted and claims:
            self._shared.adopt(hold_id, claims, verdict)
            self._alone[hold_id] = (alone, places)
        return verdict

    def _mode(self, claim: Claim) -> OnFailure:
        mode = self.rules.budgets if claim.kind == "budget" else self.rules.rate_limits
        # A dry run refuses nothing, whatever fails.
        return "open" if claim.dry_run and mode == "closed" else mode

    def _share(self, claim: Claim) -> Claim:
        part = int(claim.limit * self.rules.share)
        if claim.kind != "budget":
            # A share of less than one is one: a limit that was declared is not meant to forbid.
            return replace(claim, limit=max(part, min(1, claim.limit)))
        left = max(0, claim.limit - self._shared.last_used(claim))
        # Each outage begins anew: what was used in the one before is in the shared counter by now. Its marks are
        # told there, too.
        period = f"{claim.period} without since {self._store.since_s}"
        return replace(claim, limit=min(part, left), period=period, alert_at=(), charge_lost=False)

    def settle(self, hold: Hold, used: Sequence[int], spend: Spend | None = None) -> None:
        """See Ledger."""
        known = self._alone.pop(hold.id, None)
        if known is not None:
            alone, places = known
            self._local.settle(alone, [used[place] for place in places])
        self._shared.settle(hold, used, spend)

    async def budgets(self) -> list[BudgetState]:
        """See Ledger. Only from the shared store: one process alone does not know."""
        return await self._shared.budgets()

    async def grant(self, grant: Grant) -> None:
        """See Ledger. Only in the shared store."""
        await self._shared.grant(grant)

    async def spend(self, first_day: str, last_day: str) -> list[Spend]:
        """See Ledger. Only from the shared store."""
        return await self._shared.spend(first_day, last_day)
