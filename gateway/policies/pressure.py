"""What a budget does before it is spent: serve more cheaply, or keep the rest for what matters most.

Each step of the ladder begins at a share of the budget. `only_priority` and `refuse` are exact: for
the requests they are about, the budget's limit is simply that lower, and the store decides
atomically. `downgrade_to` looks at how the counter stood at the last decision of this process, so it
may begin some requests late; what it protects is the price, never the limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from gateway.core.exchange import Priority

_RANKS: dict[Priority, int] = {"low": 0, "normal": 1, "high": 2}


@dataclass(frozen=True, slots=True)
class Step:
    """From the share `at` (0 to 1) of a budget on, one of: a cheaper target, only some requests, none."""

    at: float
    downgrade_to: str | None = None
    """A target or route, by its configured name. It need not be among the models that a key may ask for: what
    stands in for them is the operator's choice."""
    only_priority: Priority | None = None
    """Requests of this priority and above go on."""
    refuse: bool = False


class Ladder:
    """The steps of one budget, worked out for its limit in nano-USD."""

    __slots__ = ("_limits", "downgrades", "limit_nusd")

    def __init__(self, limit_nusd: int, steps: Sequence[Step]) -> None:
        self.limit_nusd = limit_nusd
        self.downgrades: tuple[tuple[float, str], ...] = tuple(
            sorted((step.at, step.downgrade_to) for step in steps if step.downgrade_to is not None)
        )
        """Share and name, rising by share."""
        self._limits = {priority: self._limit(rank, steps) for priority, rank in _RANKS.items()}

    def _limit(self, rank: int, steps: Sequence[Step]) -> int:
        shares = [step.at for step in steps if _stops(step, rank)]
        return min(self.limit_nusd, floor(self.limit_nusd * min(shares, default=1.0)))

    def limit(self, priority: Priority) -> int:
        """How far requests of this priority may spend the budget, in nano-USD."""
        return self._limits[priority]

    def downgrade(self, used_share: float) -> int:
        """How many of `downgrades` have been reached; 0 for none."""
        return sum(used_share >= at for at, _ in self.downgrades)


def _stops(step: Step, rank: int) -> bool:
    return step.refuse or (step.only_priority is not None and rank < _RANKS[step.only_priority])
