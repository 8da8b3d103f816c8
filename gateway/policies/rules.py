"""The limits of the configuration, as policies know them."""

from dataclasses import dataclass, field

from gateway.policies.calendar import Calendar
from gateway.policies.pressure import Step


@dataclass(frozen=True, slots=True)
class Match:
    """Which requests a rule is about: globs, any of them; empty for all. Tags must match one by one."""

    keys: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    """Of the model that the client asked for."""
    tags: tuple[tuple[str, str], ...] = ()
    """Name and glob; a request without the tag does not match."""


@dataclass(frozen=True, slots=True)
class BudgetTerms:
    """So much money in each period of the calendar."""

    limit_nusd: int
    calendar: Calendar
    zone: str
    """IANA name."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit as the configuration describes it. At least one of the four amounts is set."""

    name: str
    per: tuple[str, ...] = ()
    """`key`, `route`, `target`, `model`, `tag.NAME`; empty: one counter for all."""
    match: Match = field(default_factory=Match)
    requests: tuple[int, float] | None = None
    """How many in how many seconds."""
    tokens: tuple[int, float] | None = None
    concurrency: int | None = None
    budget: BudgetTerms | None = None
    dry_run: bool = False
    strict_tokens: bool = False
    """Hold the bound by bytes, not the learned one, for tokens; `strict_budget` the same for money."""
    strict_budget: bool = True
    charge_lost: bool = False
    """What a process that died held is taken for spent."""
    alert_at: tuple[float, ...] = ()
    """Shares of the budget."""
    pressure: tuple[Step, ...] = ()

    @property
    def is_metered(self) -> bool:
        """Whether it needs to know what a request may come to."""
        return self.tokens is not None or self.budget is not None

    @property
    def is_about_attempts(self) -> bool:
        """Whether it is asked for each attempt, instead of once for a request."""
        return "target" in self.per or bool(self.match.targets)
