"""A request is let in when all of its rules have room for the worst that it may come to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.errors import (
    BudgetExceeded,
    ConcurrencyLimited,
    RateLimited,
    StoreUnavailable,
    TargetEjected,
    UpstreamTimeout,
)
from gateway.core.exchange import Attempt, Consumer, Exchange, LimitState, Reply
from gateway.core.pipeline import Handler, Policy
from gateway.policies.admission import Admission
from gateway.policies.detours import Way
from gateway.policies.pressure import Step
from gateway.policies.quoting import AnyTarget
from gateway.policies.rules import Match, Rule
from gateway.store.base import Grant, Spend
from tests.unit.policies.admitting import SETTINGS, Booth, Costing, Quoting, asking, budget, served

pytestmark = pytest.mark.anyio

PER_KEY = Rule("per-key", ("key",), requests=(10, 60.0))


async def outcomes(admission: Admission, handler: Any, count: int) -> list[BaseException | None]:
    """What became of so many requests at once."""

    async def one() -> BaseException | None:
        try:
            await served(admission, asking(), handler)
        except (RateLimited, BudgetExceeded) as error:
            return error
        return None

    return await asyncio.gather(*(one() for _ in range(count)))


async def refused_by(kind: type[BaseException], admission: Admission, asked: Exchange, handler: Any) -> Any:
    """The error that refuses it."""
    with pytest.raises(kind) as caught:
        await served(admission, asked, handler)
    return caught.value


async def test_without_rules_nothing_is_done() -> None:
    booth = Booth()
    policy: Policy = booth.admission()
    handler, asked = Costing(), asking()
    assert await served(booth.admission(), asked, handler) is handler.reply
    assert type(policy(asked, handler)) is type(handler(asked)), "the bare scope of the handler"
    assert (booth.ledger.held, booth.ledger.settled, asked.limits) == ([], [], ())


async def test_a_request_that_no_rule_is_about_costs_the_store_nothing() -> None:
    booth = Booth(Rule("other", match=Match(keys=("other",)), tokens=(1, 1.0)))
    asked = asking(None)
    await served(booth.admission(), asked, Costing())
    assert (booth.ledger.held, asked.max_tokens_sent) == ([], None)


async def test_only_as_many_are_let_in_as_the_rule_allows_and_the_client_is_told() -> None:
    """F58, F64."""
    booth = Booth(PER_KEY)
    admission, handler = booth.admission(), Costing()
    for left in range(9, -1, -1):
        asked = asking()
        await served(admission, asked, handler)
        assert asked.limits == (LimitState("requests", 10, left, asked.limits[0].reset_s),)
    asked = asking()
    error = await refused_by(RateLimited, admission, asked, handler)
    assert (error.limit, asked.limits[0].remaining, handler.calls) == ("per-key", 0, 10)
    assert [decision.step for decision in asked.decisions] == ["limits"]
    await served(admission, asking(consumer=Consumer("somebody-else")), handler)
    assert booth.decided() == {("per-key", "allowed"): 11, ("per-key", "refused"): 1}


async def test_refused_requests_use_nothing() -> None:
    """F65: a client that hammers gets in again as soon as one that waits."""
    booth = Booth(Rule("rate", requests=(2, 60.0), concurrency=1), budget(1000))
    admission, handler = booth.admission(), Costing()
    for _ in range(2):
        await served(admission, asking(), handler)
    for _ in range(100):
        await refused_by(RateLimited, admission, asking(), handler)
    assert (await booth.money(), booth.ledger.live) == ({"": (60, 0)}, {})
    booth.clock.advance(61)
    await served(admission, asking(), handler)


async def test_no_twofold_at_a_windows_edge() -> None:
    """F63."""
    booth = Booth(Rule("rate", requests=(10, 1.0)))
    admission = booth.admission()
    booth.clock.advance(0.95)
    assert (await outcomes(admission, Costing(), 10)).count(None) == 10
    booth.clock.advance(0.10)
    assert (await outcomes(admission, Costing(), 10)).count(None) <= 2


async def test_a_thousand_at_once_against_a_budget_for_ten() -> None:
    """F50: exactly ten are served, the others get a clean 429, and the spend is the budget to the nano-dollar."""
    booth = Booth(budget(1000))
    handler = Costing(cost_nusd=100)
    handler.gate = asyncio.Event()
    all_of_them = asyncio.ensure_future(outcomes(booth.admission({"mock": Quoting(100)}), handler, 1000))
    while len(booth.ledger.held) < 1000:
        await asyncio.sleep(0)
    handler.gate.set()
    [ends] = await asyncio.gather(all_of_them)
    assert (ends.count(None), handler.calls) == (10, 10)
    assert {type(end) for end in ends} == {type(None), BudgetExceeded}
    assert (await booth.money(), booth.ledger.live) == ({"": (1000, 0)}, {})


async def test_of_parallel_requests_only_those_pass_whose_tokens_fit() -> None:
    """F52."""
    booth = Booth(Rule("tpm", tokens=(1000, 60.0)))
    handler = Costing(tokens=(5, 900))
    admission = booth.admission({"mock": Quoting(100)})
    ends = await asyncio.gather(*(served(admission, asking(900), handler) for _ in range(20)), return_exceptions=True)
    assert (handler.calls, sum(isinstance(end, RateLimited) for end in ends)) == (1, 19)


async def test_tokens_are_settled_to_the_truth() -> None:
    booth = Booth(Rule("tpm", tokens=(1000, 60.0), strict_tokens=True))
    admission = booth.admission()
    asked = asking(900)
    await served(admission, asked, Costing(tokens=(5, 7)))
    assert booth.ledger.settled[-1][1] == (12,)
    assert asked.limits[0].remaining == 90
    await served(admission, asking(900), Costing(tokens=(5, None)))
    assert booth.ledger.settled[-1][1] == (5,)


async def test_a_request_without_a_bound_is_held_for_the_routes_and_it_is_sent() -> None:
    """F52, F104."""
    booth = Booth(Rule("tpm", tokens=(10_000, 60.0)))
    settings = replace(SETTINGS, default_max_tokens=2000)
    asked = asking(None)
    await served(booth.admission(settings=settings), asked, Costing())
    assert (asked.max_tokens_sent, booth.ledger.held[0][0].amount) == (2000, 2001)
    only_targets = Booth(Rule("tpm", ("target",), tokens=(10_000, 60.0)))
    asked = asking(None)
    await served(only_targets.admission(settings=settings), asked, Costing())
    assert asked.max_tokens_sent == 2000


@pytest.mark.parametrize("fault", [UpstreamTimeout("late", phase="idle"), GeneratorExit(), asyncio.CancelledError()])
async def test_everything_is_given_back_whatever_ends_the_request(fault: BaseException) -> None:
    """F51, F55: what was used is paid, and nothing else stays held."""
    booth = Booth(Rule("all", requests=(9, 1.0), tokens=(9000, 1.0), concurrency=1), budget(1000))
    admission = booth.admission()
    with pytest.raises(type(fault)):
        await served(admission, asking(), Costing(cost_nusd=3, fault=fault))
    with pytest.raises(type(fault)):
        async with admission(asking(), Costing(cost_nusd=3)):
            raise fault
    assert [used for _, used in booth.ledger.settled] == [(1, 1, 12, 3)] * 2
    assert (await booth.money(), booth.ledger.live) == ({"": (6, 0)}, {})


async def test_a_hundred_clients_that_leave_leave_nothing_behind() -> None:
    """F51: before, while and after the hold is decided."""
    booth = Booth(Rule("all", concurrency=200), budget(100_000))
    admission, handler = booth.admission(), Costing()
    handler.gate = asyncio.Event()
    for turns in range(100):
        task = asyncio.ensure_future(served(admission, asking(), handler))
        for _ in range(turns % 5):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert booth.ledger.live == {}
    assert await booth.money() == {"": (30 * handler.calls, 0)}
    assert 0 < handler.calls < 100


def untried(fault: BaseException | None = None) -> Handler:
    """Answers, or fails, without any try at a target."""

    @asynccontextmanager
    async def answer(asked: Exchange) -> AsyncIterator[Reply]:
        if fault is not None:
            raise fault
        yield Reply(200, [], body=b"{}")

    return answer


@pytest.mark.parametrize("fault", [None, TargetEjected("out")])
async def test_a_request_that_nobody_tried_to_serve_costs_nothing(fault: TargetEjected | None) -> None:
    """F58: a cached reply passes the limits and pays nothing; so does one that found no target."""
    booth = Booth(Rule("all", requests=(9, 1.0), tokens=(9000, 1.0), concurrency=1), budget(1000))
    with suppress(TargetEjected):
        await served(booth.admission(), asking(), untried(fault))
    assert [used for _, used in booth.ledger.settled] == [(1, 1, 0, 0)]
    assert [(spend.requests, spend.cost_nusd, spend.target) for spend in booth.ledger.spends] == [(1, 0, "")]


async def test_a_refusal_further_in_gives_everything_back() -> None:
    """F65: a target's rule refuses, and the request counts nowhere."""
    booth = Booth(Rule("all", requests=(9, 60.0)), budget(1000))
    refused = RateLimited("no", limit="target", retry_after_s=1.0)
    await refused_by(RateLimited, booth.admission(), asking(), untried(refused))
    assert booth.ledger.settled[0][1] == (0, 0)
    assert booth.ledger.spends == []


async def test_money_for_something_else_than_tries_is_paid_too() -> None:
    booth = Booth(budget(1000))
    asked = asking()
    async with booth.admission()(asked, Costing(cost_nusd=30)):
        asked.cost_nusd = 5
    assert await booth.money() == {"": (35, 0)}


async def test_an_unknown_cost_is_charged_at_its_worst_and_marked() -> None:
    """F57."""
    booth = Booth(budget(1000))
    asked = asking()
    await served(booth.admission({"mock": Quoting(70)}), asked, Costing(cost_nusd=None))
    assert await booth.money() == {"": (70, 0)}
    assert "charged the worst case" in asked.decisions[-1].detail


async def test_a_budget_whose_price_is_not_known_lets_nobody_in() -> None:
    """F57: it fails closed, unless it is a dry run."""
    booth = Booth(Rule("rate", requests=(9, 1.0)), budget(1000))
    handler = Costing()
    error = await refused_by(BudgetExceeded, booth.admission({"mock": Quoting(None)}), asking(), handler)
    assert "price of this model is not known" in error.message
    assert (handler.calls, booth.ledger.held) == (0, [])
    assert booth.decided() == {("money", "refused"): 1}
    dry = Booth(budget(1000, dry_run=True))
    await served(dry.admission({"mock": Quoting(None)}), asking(), handler)
    assert (handler.calls, dry.decided()) == (1, {("money", "allowed"): 1})


async def test_free_targets_serve_when_the_budget_is_spent() -> None:
    """F59."""
    booth = Booth(budget(100))
    await served(booth.admission({"mock": Quoting(100)}), asking(), Costing(cost_nusd=100))
    await refused_by(BudgetExceeded, booth.admission({"mock": Quoting(1)}), asking(), Costing())
    free = Costing("local", cost_nusd=0)
    await served(booth.admission({"local": Quoting(0)}), asking(), free)
    assert (free.calls, await booth.money()) == (1, {"": (100, 0)})


async def test_a_dry_run_refuses_nobody_and_counts() -> None:
    booth = Booth(Rule("trial", requests=(1, 60.0), dry_run=True))
    admission, handler = booth.admission(), Costing()
    for _ in range(3):
        asked = asking()
        await served(admission, asked, handler)
    assert booth.decided() == {("trial", "allowed"): 1, ("trial", "dry_run"): 2}
    assert (handler.calls, asked.limits) == (3, ())
    assert asked.decisions[-1].detail.startswith("trial would have refused (dry run)")


async def test_the_rule_that_refuses_longest_is_the_one_that_is_told() -> None:
    booth = Booth(Rule("slots", concurrency=1), Rule("rate", requests=(1, 30.0)))
    admission, handler = booth.admission(), Costing()
    async with admission(asking(), handler):
        error = await refused_by(RateLimited, admission, asking(), handler)
        assert error.limit == "rate"
        booth.clock.advance(31)
        error = await refused_by(ConcurrencyLimited, admission, asking(), handler)
        assert error.limit == "slots"
    await served(admission, asking(), handler)


async def test_the_clock_of_the_store_says_which_day_it_is() -> None:
    """F62."""
    booth = Booth(budget(100, alert_at=(0.5,)))
    admission, handler = booth.admission({"mock": Quoting(100)}), Costing(cost_nusd=100)
    await served(admission, asking(), handler)
    await refused_by(BudgetExceeded, admission, asking(), handler)
    assert [crossing.mark_nusd for crossing in booth.ledger.crossings] == [50]
    booth.clock.advance(86400)
    await served(admission, asking(), handler)
    assert [claim.period for claims in booth.ledger.held for claim in claims] == [
        "2023-11-14",
        "2023-11-14",
        "2023-11-15",
    ]


async def test_a_store_that_is_away_is_the_stores_error() -> None:
    """F66."""
    booth = Booth(PER_KEY)
    booth.ledger.fault = StoreUnavailable("away", retry_after_s=1.0)
    await refused_by(StoreUnavailable, booth.admission(), asking(), Costing())
    assert booth.ledger.settled == []


async def test_without_the_store_the_client_is_not_told_what_nobody_knows() -> None:
    """F64, F66."""
    for mode, told in (("open", 0), ("local", 1)):
        booth = Booth(PER_KEY)
        booth.ledger.mode = mode
        asked = asking()
        await served(booth.admission(), asked, Costing())
        assert (len(asked.limits), booth.decided()) == (told, {("per-key", mode): 1})


async def test_a_hold_that_the_store_refuses_by_its_id_alone_is_no_limits_fault() -> None:
    """F68."""
    for rule in (PER_KEY, budget(1000)):
        booth = Booth(rule)
        booth.ledger.refuses_all = True
        await refused_by(StoreUnavailable, booth.admission(), asking(), Costing())
        assert booth.ledger.live == {}


async def test_what_a_request_came_to_is_reported() -> None:
    booth = Booth(PER_KEY)
    settings = replace(SETTINGS, tag_labels=("team",))
    await served(booth.admission(settings=settings), asking(tags={"team": "ml"}), Costing())
    assert booth.ledger.spends == [Spend("2023-11-14", "tester", "demo", "mock", (("team", "ml"),), 1, 5, 7, 30)]


async def test_requests_without_rules_are_reported_where_all_are() -> None:
    for booth in (Booth(), Booth(Rule("other", match=Match(keys=("other",)), requests=(1, 1.0)))):
        admission = booth.admission(settings=replace(SETTINGS, reports_all=True))
        await served(admission, asking(), Costing())
        assert (booth.ledger.held, len(booth.ledger.spends)) == ([], 1)


async def test_tries_at_several_targets_are_reported_for_each() -> None:
    booth = Booth(PER_KEY)
    asked = asking()
    asked.attempts.append(Attempt(1, "first", cost_nusd=4))
    await served(booth.admission(), asked, Costing(cost_nusd=6))
    assert [(spend.target, spend.requests, spend.cost_nusd) for spend in booth.ledger.spends] == [
        ("first", 0, 4),
        ("mock", 1, 6),
    ]


def _ladder(*steps: Step, limit_nusd: int = 1000) -> tuple[Booth, Admission, dict[str, Costing]]:
    """A budget with these steps, a dear target and a small one."""
    booth = Booth(budget(limit_nusd, pressure=steps), Rule("rate", requests=(100, 60.0)))
    targets = {"dear": Costing("dear", 100), "small": Costing("small", 10), "free": Costing("free", 0)}
    ways = {
        "small": Way(targets["small"], AnyTarget({"small": Quoting(10)})),
        "free": Way(targets["free"], AnyTarget({"free": Quoting(0)})),
    }
    return booth, booth.admission({"dear": Quoting(100)}, downgrades=ways), targets


async def test_the_rest_of_a_budget_is_kept_for_priority() -> None:
    booth, admission, targets = _ladder(Step(0.5, only_priority="high"))
    for _ in range(5):
        await served(admission, asking(), targets["dear"])
    error = await refused_by(BudgetExceeded, admission, asking(), targets["dear"])
    assert "requests of normal priority may use $0.0000005 of it" in error.message
    for _ in range(5):
        await served(admission, asking(priority="high"), targets["dear"])
    await refused_by(BudgetExceeded, admission, asking(priority="high"), targets["dear"])
    assert await booth.money() == {"": (1000, 0)}


async def test_under_pressure_a_cheaper_target_serves() -> None:
    booth, admission, targets = _ladder(Step(0.3, "small"))
    for _ in range(3):
        await served(admission, asking(), targets["dear"])
    asked = asking()
    await served(admission, asked, targets["dear"])
    assert (targets["dear"].calls, targets["small"].calls, asked.target) == (3, 1, "small")
    assert asked.decisions[0].detail == "money is used to 30%: served by small"
    assert await booth.money() == {"": (310, 0)}


async def test_a_request_that_no_longer_fits_is_served_by_the_cheaper_target() -> None:
    booth, admission, targets = _ladder(Step(1.0, "small"), limit_nusd=150)
    for _ in range(6):
        await served(admission, asking(), targets["dear"])
    assert (targets["dear"].calls, targets["small"].calls) == (1, 5)
    await refused_by(BudgetExceeded, admission, asking(), targets["dear"])
    assert await booth.money() == {"": (150, 0)}
    assert booth.decided() == {("money", "allowed"): 6, ("rate", "allowed"): 6, ("money", "refused"): 1}


async def test_a_request_that_another_rule_refuses_takes_no_cheaper_way() -> None:
    booth = Booth(budget(50, pressure=(Step(1.0, "small"),)), Rule("rate", requests=(1, 60.0)))
    small = Costing("small", 10)
    ways = {"small": Way(small, AnyTarget({"small": Quoting(10)}))}
    admission = booth.admission({"dear": Quoting(100)}, downgrades=ways)
    await served(admission, asking(), Costing())
    with pytest.raises((RateLimited, BudgetExceeded)):
        await served(admission, asking(), Costing())
    assert (small.calls, len(booth.ledger.held)) == (1, 3)


async def test_money_that_was_granted_is_noticed_though_a_free_target_serves() -> None:
    """F59: the look that a free request takes at the budget."""
    booth, admission, targets = _ladder(Step(0.5, "free"), limit_nusd=100)
    await served(admission, asking(), targets["dear"])
    for _ in range(2):
        await served(admission, asking(), targets["dear"])
    assert (targets["dear"].calls, targets["free"].calls) == (1, 2)
    await booth.ledger.grant(Grant("g", "money", "*", 900, booth.clock.wall() + 3600))
    await served(admission, asking(), targets["dear"])
    await served(admission, asking(), targets["dear"])
    assert targets["dear"].calls == 2
    assert await booth.money() == {"": (200, 0)}


async def test_a_pinned_request_is_refused_rather_than_served_by_another() -> None:
    _, admission, targets = _ladder(Step(0.0, "small"), limit_nusd=50)
    await refused_by(BudgetExceeded, admission, asking(pinned_target="dear"), targets["dear"])
    assert targets["small"].calls == 0


async def test_with_a_fallback_for_it_a_spent_budget_is_left_to_the_tries() -> None:
    """F59: each try asks for itself, so that a cheaper one may still fit."""
    booth = Booth(budget(50), Rule("rate", requests=(100, 60.0)))
    admission = booth.admission({"dear": Quoting(100)}, settings=replace(SETTINGS, falls_over_budget=True))
    dear = booth.target(Costing("dear", 100), Quoting(100), "dear")
    cheap = booth.target(Costing("cheap", 10), Quoting(10), "cheap")
    asked = asking()
    with pytest.raises(BudgetExceeded):
        await served(admission, asked, dear)
    assert asked.decisions[0].detail == "money has no room for the worst: each try asks for itself"
    assert (await booth.money(), booth.ledger.settled[-1][1]) == ({"": (0, 0)}, (0,))
    await served(admission, asking(), cheap)
    assert (await booth.money(), booth.ledger.live) == ({"": (10, 0)}, {})


async def test_a_request_whose_bound_is_larger_than_the_window_but_which_will_likely_fit_takes_all_of_it() -> None:
    """F52: the bound by bytes is several times the truth, and alone no reason to refuse for good."""
    booth = Booth(Rule("tpm", tokens=(1000, 60.0)))
    admission = booth.admission({"mock": Quoting(100, input_tokens=3000)})
    await served(admission, asking(900), Costing(tokens=(70, 30)))
    assert (booth.ledger.held[0][0].amount, booth.ledger.settled[-1][1]) == (1000, (100,))
    with pytest.raises(RateLimited):
        await served(admission, asking(990), Costing())


async def test_a_strict_rule_refuses_what_might_not_fit() -> None:
    booth = Booth(Rule("tpm", tokens=(1000, 60.0), strict_tokens=True))
    with pytest.raises(RateLimited):
        await served(booth.admission({"mock": Quoting(100, input_tokens=300)}), asking(900), Costing())
