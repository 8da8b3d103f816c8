"""What the tests of admission share: rules over a real ledger in memory, handlers that cost something, fixed quotes."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.core.exchange import Attempt, Exchange, Reply, Request, RequestHead, Usage
from gateway.core.pipeline import Handler
from gateway.policies.admission import Admission, AdmissionSettings
from gateway.policies.attempt_admission import AttemptAdmission
from gateway.policies.desk import Desk, HoldIds
from gateway.policies.detours import Way
from gateway.policies.matching import RuleSet
from gateway.policies.quoting import AnyTarget, Worst
from gateway.policies.rules import BudgetTerms, Rule
from gateway.store.base import BudgetState, Claim, Crossing, Grant, Hold, Spend, Verdict
from gateway.store.memory import MemoryStore
from gateway.telemetry.metrics import Counter
from gateway.telemetry.table import Metric
from tests.fakes import FakeClock, exchange, request

DECISIONS = Metric("decisions", "counter", "Test.", ("limit", "decision"))
SETTINGS = AdmissionSettings(default_max_tokens=4096, tag_labels=(), reports_all=False, falls_over_budget=False)


class Recording:
    """A ledger that keeps what it is asked, and may be told what to do instead of answering."""

    def __init__(self, clock: FakeClock) -> None:
        self.crossings: list[Crossing] = []
        self._ledger = MemoryStore(None, clock, self.crossings.append).ledger
        self.held: list[tuple[Claim, ...]] = []
        self.settled: list[tuple[str, tuple[int, ...]]] = []
        self.spends: list[Spend] = []
        self.live: dict[str, Hold] = {}
        self.mode: Any = "shared"
        self.fault: BaseException | None = None
        self.refuses_all = False

    async def hold(self, hold_id: str, claims: Sequence[Claim]) -> Verdict:
        """The real one's answer, or the fault."""
        if self.fault is not None:
            raise self.fault
        if self.refuses_all:
            return Verdict(False, (await self._ledger.hold(hold_id, claims)).standings)
        assert hold_id not in self.live
        self.held.append(tuple(claims))
        # As with a store that is asked over a network, others go on meanwhile.
        await asyncio.sleep(0)
        verdict = await self._ledger.hold(hold_id, claims)
        if verdict.granted:
            self.live[hold_id] = Hold(hold_id, tuple(claims))
        return Verdict(verdict.granted, verdict.standings, self.mode)

    def settle(self, hold: Hold, used: Sequence[int], spend: Spend | None = None) -> None:
        """Settle, and never twice."""
        assert len(used) == len(hold.claims)
        assert hold.id not in {name for name, _ in self.settled}, "settled twice"
        self.settled.append((hold.id, tuple(used)))
        self.live.pop(hold.id, None)
        if spend is not None:
            self.spends.append(spend)
        self._ledger.settle(hold, used, spend)

    async def budgets(self) -> list[BudgetState]:
        """As they are."""
        return await self._ledger.budgets()

    async def grant(self, grant: Grant) -> None:
        """More room."""
        await self._ledger.grant(grant)

    async def spend(self, first_day: str, last_day: str) -> list[Spend]:
        """The totals."""
        return await self._ledger.spend(first_day, last_day)


@dataclass
class Quoting:
    """Always the same quote; calibrated it is a tenth. `cost_nusd` None: no price."""

    cost_nusd: int | None = 100
    input_tokens: int = 10
    asked: list[tuple[int, bool]] = field(default_factory=list)

    def worst_case(self, request: Request, max_tokens: int, strict: bool) -> Worst:
        """The quote; output tokens are what is asked for."""
        self.asked.append((max_tokens, strict))
        part = 1 if strict else 10
        return Worst(self.input_tokens // part, max_tokens, None if self.cost_nusd is None else self.cost_nusd // part)


class Costing:
    """A target: each try uses this much and costs this much, and then fails with `fault`, if there is one."""

    def __init__(
        self,
        name: str = "mock",
        cost_nusd: int | None = 30,
        tokens: tuple[int | None, int | None] = (5, 7),
        fault: BaseException | None = None,
    ) -> None:
        self.name = name
        self.cost_nusd = cost_nusd
        self.tokens = tokens
        self.fault = fault
        self.calls = 0
        self.reply = Reply(200, [], body=b"{}")
        self.gate: asyncio.Event | None = None

    def __call__(self, asked: Exchange) -> Any:
        """The reply, as a scope; behind the gate if there is one."""
        return self._answer(asked)

    @asynccontextmanager
    async def _answer(self, asked: Exchange) -> AsyncIterator[Reply]:
        self.calls += 1
        attempt = Attempt(len(asked.attempts) + 1, self.name)
        asked.attempts.append(attempt)
        asked.target = self.name
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.fault is not None:
                raise self.fault
            yield self.reply
        finally:
            attempt.usage = Usage(*self.tokens)
            attempt.cost_nusd = self.cost_nusd
            if self.cost_nusd is not None:
                asked.cost_nusd = (asked.cost_nusd or 0) + self.cost_nusd


class Booth:
    """Rules, a ledger, a clock, and what they decided."""

    def __init__(self, *rules: Rule) -> None:
        self.clock = FakeClock()
        self.ledger = Recording(self.clock)
        self.decisions: dict[tuple[str, str], Counter] = {}
        self.desk = Desk(self.ledger, HoldIds(random.Random(7)), self.clock.wall)
        self.rules = RuleSet(rules, self._count)

    def _count(self, rule: str, decision: str) -> Counter:
        return self.decisions.setdefault((rule, decision), Counter(DECISIONS))

    def decided(self) -> dict[tuple[str, str], float]:
        """The counters that are not 0."""
        return {key: counter.value for key, counter in self.decisions.items() if counter.value}

    def admission(
        self,
        quoters: Mapping[str, Quoting] | None = None,
        *,
        downgrades: Mapping[str, Way] | None = None,
        settings: AdmissionSettings = SETTINGS,
    ) -> Admission:
        """The admission of a route to these targets."""
        quoter = AnyTarget(quoters if quoters is not None else {"mock": Quoting()})
        return Admission(self.rules, self.desk, quoter, downgrades or {}, settings)

    def target(self, handler: Callable[[Exchange], Any], quoter: Quoting, name: str = "mock") -> Handler:
        """`handler` inside the admission of its tries."""
        admission = AttemptAdmission(name, self.rules, self.desk, quoter)
        return lambda asked: admission(asked, handler)

    async def money(self) -> dict[str, tuple[int, int]]:
        """Spent and held of each budget's scope."""
        return {state.scope: (state.spent_nusd, state.held_nusd) for state in await self.ledger.budgets()}


def asking(max_tokens: int | None = 50, **changes: Any) -> Exchange:
    """An exchange of route `demo`."""
    asked = request(head=RequestHead(model=changes.pop("model", "demo"), max_tokens=max_tokens))
    return exchange(asked, **({"route": "demo"} | changes))


def budget(limit_nusd: int, name: str = "money", **changes: Any) -> Rule:
    """A budget for a day, held by the strict bound."""
    return Rule(name, budget=BudgetTerms(limit_nusd, "day", "UTC"), **changes)


async def served(admission: Admission, asked: Exchange, handler: Callable[[Exchange], Any]) -> Reply:
    """The reply, once it is over."""
    async with admission(asked, handler) as reply:
        return reply
