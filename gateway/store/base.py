"""What the gateway keeps outside of a request, as small protocols that two stores fulfil: memory and redis.

Theory of operation. A request's admission is one *hold*: a tuple of claims on counters, which are
granted all together or not at all, atomically. A refused hold leaves no trace. When the request is
over the hold is *settled* once with what it really used. A hold is a lease: the store renews it while
its process lives (the process asks for nothing), and one whose process died is given back when the
lease ends. Every operation carries the hold's id, so that doing it twice is doing it once.

Counters
- `window`: at most `limit` units in *any* stretch of `period_s` seconds, counted in sub-windows of a
  hundredth of it, the oldest one in full; so never more, and at most 1 % less than could be.
- `concurrency`: at most `limit` held at once.
- `budget`: spent plus held at most `limit` plus grants, within one calendar period. `period` is part
  of the counter's identity, so a new period starts with a fresh counter.

The time is the store's own (Redis TIME, the process's clock for memory), never the caller's.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct, field

Kind = Literal["window", "concurrency", "budget"]

LEASE_S = 60.0
"""How long a hold lives without being renewed."""


class Claim(Struct, frozen=True):
    """What one hold wants of one counter."""

    rule: str
    """Name of the rule in the configuration."""
    scope: str
    """Whose counter of that rule, as `key=checkout,tag.team=ml`; empty for the one of all."""
    kind: Kind
    unit: Literal["requests", "tokens", "slots", "nusd"]
    amount: int
    """1 for requests and slots; tokens; nano-USD. At least 0: an amount of 0 asks whether anything is left."""
    limit: int
    period_s: float = 0.0
    """Window: its length. Budget and concurrency: not used."""
    period: str = ""
    """Budget: its calendar period (`2026-11-21`), with `ends_at_s`."""
    ends_at_s: float = 0.0
    """Budget: Unix seconds at which the period ends."""
    dry_run: bool = False
    """Counted where it fits, never a reason to refuse."""
    charge_lost: bool = False
    """Budget: a hold whose process died is taken for spent when its lease ends, instead of being given back."""
    alert_at: tuple[int, ...] = ()
    """Budget: spent amounts whose crossing is to be told, rising."""


class Standing(Struct, frozen=True):
    """How a claim's counter stands after the decision."""

    fits: bool
    """Whether this claim alone fitted."""
    used: int
    """Units in the window, slots taken, or nano-USD spent and held; with this claim if the hold was granted."""
    limit: int
    """The claim's limit, with grants."""
    retry_after_s: float = 0.0
    """When it does not fit: seconds until it could; infinite when it never will. 0 when it fits."""
    reset_s: float = 0.0
    """Seconds until the counter is empty again if nothing comes; for a budget, until its period ends."""


class Verdict(Struct, frozen=True):
    """The answer to a hold: granted as a whole, or nothing taken. `standings` are in the order of the claims."""

    granted: bool
    standings: tuple[Standing, ...]
    mode: Literal["shared", "local", "open"] = "shared"
    """Who decided: the store, this process alone (its share), or nobody (the store is gone, and that is allowed)."""


class Hold(Struct, frozen=True):
    """A granted hold, to be settled once."""

    id: str
    claims: tuple[Claim, ...]


class Spend(Struct, frozen=True):
    """What one request adds to the totals of its day (UTC), for reports. Every dimension is a configured name."""

    day: str
    key: str
    route: str
    target: str
    tags: tuple[tuple[str, str], ...]
    """The allow-listed tags, in the order of the configuration."""
    requests: int
    input_tokens: int
    output_tokens: int
    cost_nusd: int


class Crossing(Struct, frozen=True):
    """A budget's settled spend that has just passed one of its marks; told once a period and counter."""

    rule: str
    scope: str
    period: str
    mark_nusd: int
    spent_nusd: int
    limit_nusd: int


class BudgetState(Struct, frozen=True):
    """One budget counter, for people."""

    rule: str
    scope: str
    period: str
    ends_at_s: float
    spent_nusd: int
    held_nusd: int
    granted_nusd: int
    """Sum of the grants in force."""


class Grant(Struct, frozen=True):
    """More room in a budget, until a moment."""

    id: str
    rule: str
    scope: str
    """The counter's scope; `*` for every scope of the rule."""
    amount_nusd: int
    until_s: float
    """Unix seconds."""


OnCrossing = Callable[[Crossing], None]


class Ledger(Protocol):
    """Holds on counters. Methods raise StoreUnavailable when the store does not answer in its time."""

    async def hold(self, hold_id: str, claims: Sequence[Claim]) -> Verdict:
        """Take all claims, or none. The same id again gives the same answer and takes nothing more."""
        ...

    def settle(self, hold: Hold, used: Sequence[int], spend: Spend | None = None) -> None:
        """End a hold: `used` is what each claim really came to (slots are given back whatever it says).

        Never waits and never fails: what the store cannot take now is kept and delivered when it can,
        before any later hold of this process. A hold that has lapsed meanwhile is charged all the same.
        """
        ...

    async def budgets(self) -> list[BudgetState]:
        """Every budget counter whose period has not ended."""
        ...

    async def grant(self, grant: Grant) -> None:
        """Enlarge a budget. The same id again changes nothing."""
        ...

    async def spend(self, first_day: str, last_day: str) -> list[Spend]:
        """The totals of these days, one line for each combination of dimensions, summed over requests."""
        ...


class AuditEntry(Struct, frozen=True):
    """One change that somebody made."""

    at_s: float
    actor: str
    action: str
    """`switch`, `undo`, `eject`, `restore`, `grant`, `reload`, `isolate`, ..."""
    subject: str
    reason: str
    detail: dict[str, Any] = field(default_factory=dict)


class Override(Struct, frozen=True):
    """A deviation from the file that an operator has ordered: a declared drift, gone at its time."""

    name: str
    """Unique; what it is about: `route/support-chat`, `target/gpt-stable`, `isolate/key/checkout`."""
    value: dict[str, Any]
    actor: str
    reason: str
    since_s: float
    until_s: float | None
    """Unix seconds; None: until it is undone."""


class Journal(Protocol):
    """Who changed what, and the overrides in force. Raises StoreUnavailable."""

    async def record(self, entry: AuditEntry) -> None:
        """Append to the audit log."""
        ...

    async def audit(self, limit: int) -> list[AuditEntry]:
        """The last entries, newest first."""
        ...

    async def put(self, override: Override) -> None:
        """Put an override in force, in place of one of the same name."""
        ...

    async def drop(self, name: str) -> Override | None:
        """End an override; what it was."""
        ...

    async def overrides(self) -> Mapping[str, Override]:
        """Those in force, by name; what has run out is not among them."""
        ...


class Leases(Protocol):
    """Names that one process of the fleet holds at a time. Raises StoreUnavailable."""

    async def acquire(self, name: str, owner: str, ttl_s: float) -> bool:
        """Whether `owner` holds `name` now; it lapses after `ttl_s` unless released."""
        ...

    async def release(self, name: str, owner: str) -> None:
        """Let go of `name`, if `owner` still holds it."""
        ...


class Figures(Struct):
    """What a store has to tell to metrics, since the process began."""

    degraded_s: float = 0.0
    """Time without the shared store."""
    round_trips: int = 0
    operations: int = 0


class Store(Protocol):
    """All of a store, and its life."""

    ledger: Ledger
    journal: Journal
    leases: Leases

    @property
    def is_shared(self) -> bool:
        """Whether every process sees the same; False for memory."""
        ...

    @property
    def is_up(self) -> bool:
        """Whether the shared state can be reached; always True for memory."""
        ...

    @property
    def figures(self) -> Figures:
        """For metrics."""
        ...

    @property
    def detail(self) -> dict[str, Any]:
        """For `/readyz?verbose`: kind, state, since when, last error (no credentials)."""
        ...

    def now_s(self) -> float:
        """Unix seconds by the store's clock, as far as this process knows it."""
        ...

    async def start(self) -> None:
        """Begin renewing holds and delivering settlements. Does not fail when the store is away."""
        ...

    async def aclose(self) -> None:
        """Deliver what is left, within bounds, and close."""
        ...


Watch = Callable[[Mapping[str, Override]], Awaitable[None]]
"""Called with the overrides in force whenever they change."""
