"""What was used while the shared store was gone, summed up by counter until it can be delivered."""

from collections.abc import Sequence
from typing import Any

from gateway.store.base import Claim, Spend
from gateway.store.packing import OTHER_DIMENSIONS, Op, SpendKey, pack_dimensions, terms

MOST_WINDOWS = 100_000
"""Sub-windows that are kept; then the oldest are forgotten. Money is never forgotten."""
MOST_AT_ONCE = 100
"""Sums in one batch, of each sort."""

_Sum = tuple[tuple[Any, ...], int]


class Debts:
    """Sums of use, and of spend for reports. As many as there are counters, however long it lasts."""

    def __init__(self) -> None:
        self._budgets: dict[str, _Sum] = {}
        self._windows: dict[tuple[str, int], _Sum] = {}
        self._spends: dict[SpendKey, list[int]] = {}

    @property
    def owed(self) -> int:
        """Sums that are to be delivered."""
        return len(self._budgets) + len(self._windows) + len(self._spends)

    def charge(self, claims: Sequence[Claim], used: Sequence[int], taken_us: int) -> None:
        """Add what a hold of `taken_us` (by the store's clock) came to. Slots are not owed: they were given back."""
        for claim, amount in zip(claims, used, strict=True):
            if claim.kind == "concurrency" or not amount:
                continue
            wanted = terms(claim)
            if claim.kind == "budget":
                self._budgets[wanted[1]] = (wanted, amount + self._budgets.get(wanted[1], (wanted, 0))[1])
            else:
                width_us = wanted[5]
                moment = (wanted[1], taken_us // width_us * width_us)
                self._windows[moment] = (wanted, amount + self._windows.get(moment, (wanted, 0))[1])
                if len(self._windows) > MOST_WINDOWS:
                    del self._windows[next(iter(self._windows))]

    def add(self, spend: Spend) -> None:
        """Add one request to the totals of its day."""
        key = (spend.day, spend.key, spend.route, spend.target, spend.tags)
        sums = self._spends.get(key)
        if sums is None:
            sums = self._spends[key] = [0, 0, 0, 0]
        sums[0] += spend.requests
        sums[1] += spend.input_tokens
        sums[2] += spend.output_tokens
        sums[3] += spend.cost_nusd

    def collect(self) -> list[tuple[Any, ...]]:
        """Some of them as operations, and no longer here."""
        operations: list[tuple[Any, ...]] = []
        sums = [(*self._budgets.pop(name), 0) for name in list(self._budgets)[:MOST_AT_ONCE]]
        sums += [(*self._windows.pop(moment), moment[1]) for moment in list(self._windows)[:MOST_AT_ONCE]]
        if sums:
            wanted, used, taken = zip(*sums, strict=True)
            operations.append((Op.CHARGE, wanted, used, taken))
        for key in list(self._spends)[:MOST_AT_ONCE]:
            operations.append((Op.ADD_SPEND, key[0], pack_dimensions(key), OTHER_DIMENSIONS, *self._spends.pop(key)))
        return operations
