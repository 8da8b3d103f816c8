"""What was spent, summed by day and configured names, for reports."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count

from msgspec import json

from gateway.core.errors import StoreUnavailable
from gateway.store.base import Spend
from gateway.store.saving import Savable
from gateway.store.sqlite import StateFile
from gateway.store.tables import SPEND_DAYS, Key, Row, StateUnusable

DAYS_BESIDE_A_FILE = 2
"""Days that are kept in memory where there is a file with the others."""

_Tags = tuple[tuple[str, str], ...]
_Names = tuple[str, str, str, _Tags]


class _Total:
    __slots__ = ("_key", "_names", "cost_nusd", "day", "input_tokens", "is_touched", "output_tokens", "requests")

    def __init__(self, day: str, names: _Names, part: int) -> None:
        self.day = day
        self.requests = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost_nusd = 0
        self.is_touched = False
        self._names = names
        *others, tags = names
        self._key: Key = ("spend", (day, *others, json.encode(tags).decode(), part))

    def add(self, spend: Spend) -> None:
        self.requests += spend.requests
        self.input_tokens += spend.input_tokens
        self.output_tokens += spend.output_tokens
        self.cost_nusd += spend.cost_nusd

    def spend(self) -> Spend:
        return Spend(self.day, *self._names, self.requests, self.input_tokens, self.output_tokens, self.cost_nusd)

    def row(self) -> Row:
        return self._key, (self.requests, self.input_tokens, self.output_tokens, self.cost_nusd)


class SpendTotals:
    """Totals of each day. With a file they are in memory for two days only, and read from it for older ones.

    `touch` is called with a total when its row has changed.
    """

    def __init__(self, file: StateFile | None, touch: Callable[[Savable], None]) -> None:
        self._file = file
        self._touch = touch
        self._days: dict[str, dict[_Names, _Total]] = {}
        # Rows hold absolute values: a day that is begun again must not replace what it was before.
        self._parts = count(1)
        self._part_of: dict[str, int] = {}

    def add(self, spend: Spend) -> None:
        """Count one request's."""
        totals = self._days.get(spend.day)
        if totals is None:
            totals = self._days[spend.day] = {}
            self._part_of[spend.day] = next(self._parts)
        names = (spend.key, spend.route, spend.target, spend.tags)
        total = totals.get(names)
        if total is None:
            total = totals[names] = _Total(spend.day, names, self._part_of[spend.day])
        total.add(spend)
        if not total.is_touched:
            self._touch(total)

    async def between(self, first_day: str, last_day: str) -> list[Spend]:
        """Those of these days, oldest first. Raises StoreUnavailable when the file cannot be read."""
        found: dict[tuple[str, _Names], _Total] = {}

        def add(spend: Spend) -> None:
            names = (spend.key, spend.route, spend.target, spend.tags)
            total = found.get((spend.day, names))
            if total is None:
                total = found[spend.day, names] = _Total(spend.day, names, 0)
            total.add(spend)

        in_memory = [
            total.spend()
            for day, totals in self._days.items()
            if first_day <= day <= last_day
            for total in totals.values()
        ]
        for spend in await self._saved(first_day, last_day):
            add(spend)
        for spend in in_memory:
            add(spend)
        return [found[key].spend() for key in sorted(found)]

    async def _saved(self, first_day: str, last_day: str) -> list[Spend]:
        if self._file is None:
            return []
        try:
            rows = await asyncio.to_thread(self._file.spend, first_day, last_day, frozenset(self._part_of.values()))
        except StateUnusable as fault:
            raise StoreUnavailable(str(fault), retry_after_s=1.0) from fault
        return [
            Spend(day, key, route, target, json.decode(tags, type=_Tags), *sums)
            for day, key, route, target, tags, *sums in rows
        ]

    def drop_old(self, wall_s: float) -> None:
        """Forget the days that are too old at `wall_s`, and those that the file has."""
        days = SPEND_DAYS if self._file is None else DAYS_BESIDE_A_FILE
        first = (datetime.fromtimestamp(wall_s, UTC) - timedelta(days=days - 1)).date().isoformat()
        for day in [day for day in self._days if day < first]:
            if self._file is None or not any(total.is_touched for total in self._days[day].values()):
                del self._days[day], self._part_of[day]
