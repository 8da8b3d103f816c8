"""Limits of targets, and the money of the tries after the first."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from gateway.core.clone import branch
from gateway.core.errors import (
    BudgetExceeded,
    ConcurrencyLimited,
    GatewayError,
    RateLimited,
    StoreUnavailable,
    UpstreamConnectError,
)
from gateway.core.exchange import Consumer, Exchange, Reply
from gateway.core.pipeline import Handler, Policy
from gateway.policies.attempt_admission import AttemptAdmission
from gateway.policies.rules import Match, Rule
from tests.unit.policies.admitting import SETTINGS, Booth, Costing, Quoting, asking, budget, served

pytestmark = pytest.mark.anyio

FAULT = UpstreamConnectError("refused")


def one_after_another(*handlers: Handler) -> Handler:
    """Each in turn until one answers, as fallback and retry do."""

    @asynccontextmanager
    async def answer(asked: Exchange) -> AsyncIterator[Reply]:
        for place, handler in enumerate(handlers):
            scope = handler(asked)
            try:
                reply = await scope.__aenter__()
            except GatewayError:
                if place == len(handlers) - 1:
                    raise
                continue
            try:
                yield reply
            finally:
                await scope.__aexit__(None, None, None)
            return

    return answer


def side_by_side(*handlers: Handler) -> Handler:
    """All at once, as a hedge: the first one's reply, and what all have come to."""

    @asynccontextmanager
    async def answer(asked: Exchange) -> AsyncIterator[Reply]:
        branches = [branch(asked) for _ in handlers]

        async def one(handler: Handler, own: Exchange) -> Reply:
            async with handler(own) as reply:
                return reply

        ends = await asyncio.gather(*map(one, handlers, branches), return_exceptions=True)
        for own in branches:
            asked.attempts += own.attempts
        asked.target = asked.attempts[0].target if asked.attempts else None
        replies: Sequence[Reply] = [end for end in ends if isinstance(end, Reply)]
        if not replies:
            assert isinstance(ends[0], BaseException)
            raise ends[0]
        yield replies[0]

    return answer


async def test_without_rules_about_targets_nothing_is_done() -> None:
    booth = Booth(Rule("rate", requests=(9, 1.0)), Rule("other", ("target",), requests=(0, 1.0)))
    booth_without = Booth()
    handler = Costing()
    policy: Policy = AttemptAdmission("mock", booth_without.rules, booth_without.desk, Quoting())
    assert type(policy(asking(), handler)) is type(handler(asking()))
    await served(booth_without.admission(), asking(), booth_without.target(handler, Quoting()))
    assert booth_without.ledger.held == []
    with pytest.raises(RateLimited):
        await served(booth.admission(), asking(), booth.target(handler, Quoting()))


async def test_a_rule_about_another_target_is_not_asked() -> None:
    booth = Booth(Rule("some", ("target",), Match(targets=("a*",)), requests=(1, 60.0)))
    handler = booth.target(Costing("a"), Quoting(), "a")
    await served(booth.admission(), asking(), handler)
    with pytest.raises(RateLimited):
        await served(booth.admission(), asking(), handler)
    await served(booth.admission(), asking(), booth.target(Costing("b"), Quoting(), "b"))


async def test_a_rule_about_another_key_is_not_asked() -> None:
    booth = Booth(Rule("theirs", ("target",), Match(keys=("other",)), requests=(0, 1.0)))
    handler = Costing()
    policy = AttemptAdmission("mock", booth.rules, booth.desk, Quoting())
    assert type(policy(asking(), handler)) is type(handler(asking()))


async def test_a_target_is_used_as_much_as_its_rule_allows() -> None:
    booth = Booth(Rule("target", ("target",), requests=(100, 60.0), tokens=(10_000, 60.0), concurrency=1))
    costing = Costing()
    handler = booth.target(costing, Quoting())
    async with booth.admission()(asking(), handler):
        with pytest.raises(ConcurrencyLimited):
            await served(booth.admission(), asking(), handler)
    assert [used for _, used in booth.ledger.settled] == [(1, 1, 12)]
    assert booth.decided() == {("target", "allowed"): 1, ("target", "refused"): 1}
    assert (costing.calls, booth.ledger.live) == (1, {})


async def test_a_target_has_a_budget_of_its_own() -> None:
    """F57: and what has no price does not enter it."""
    booth = Booth(budget(100, per=("target",)))
    handler = booth.target(Costing(cost_nusd=60), Quoting(100))
    await served(booth.admission(), asking(), handler)
    with pytest.raises(BudgetExceeded):
        await served(booth.admission(), asking(), handler)
    assert await booth.money() == {"target=mock": (60, 0)}
    with pytest.raises(BudgetExceeded, match="price of this model is not known"):
        await served(booth.admission(), asking(), booth.target(Costing(), Quoting(None)))
    free = Costing("free", 0)
    await served(booth.admission(), asking(), booth.target(free, Quoting(0), "free"))
    assert free.calls == 1


async def test_a_try_that_is_refused_further_in_uses_nothing() -> None:
    """F65."""
    booth = Booth(Rule("target", ("target",), requests=(9, 60.0)))

    @asynccontextmanager
    async def ejected(asked: Exchange) -> AsyncIterator[Reply]:
        raise FAULT
        yield

    with pytest.raises(UpstreamConnectError):
        await served(booth.admission(), asking(), booth.target(ejected, Quoting()))
    assert [used for _, used in booth.ledger.settled] == [(0,)]


async def test_one_try_needs_nothing_but_the_requests_own_hold() -> None:
    booth = Booth(budget(100))
    quoting = Quoting(100)
    await served(booth.admission({"mock": quoting}), asking(), booth.target(Costing(cost_nusd=60), quoting))
    assert (len(booth.ledger.held), len(quoting.asked)) == (1, 1)
    assert await booth.money() == {"": (60, 0)}


async def test_a_try_after_a_free_failure_needs_nothing_either() -> None:
    booth = Booth(budget(100))
    failing = booth.target(Costing(cost_nusd=0, tokens=(0, 0), fault=FAULT), Quoting(100))
    good = booth.target(Costing(cost_nusd=60), Quoting(100))
    await served(booth.admission({"mock": Quoting(100)}), asking(), one_after_another(failing, good))
    assert len(booth.ledger.held) == 1
    assert await booth.money() == {"": (60, 0)}


async def test_a_try_after_one_that_cost_something_holds_the_difference() -> None:
    """F31, F50: spend never passes the budget, and is the sum of all tries."""
    booth = Booth(budget(140))
    failing = booth.target(Costing(cost_nusd=40, fault=FAULT), Quoting(100))
    good = booth.target(Costing(cost_nusd=100), Quoting(100))
    admission = booth.admission({"mock": Quoting(100)})
    async with admission(asking(), one_after_another(failing, good)):
        assert [[claim.amount for claim in claims] for claims in booth.ledger.held] == [[100], [40]]
        assert await booth.money() == {"": (0, 140)}
    assert await booth.money() == {"": (140, 0)}
    assert [used for _, used in booth.ledger.settled] == [(140,), (0,)]
    assert booth.ledger.live == {}


async def test_a_try_that_no_longer_fits_is_refused_and_what_was_spent_is_paid() -> None:
    """F50."""
    booth = Booth(budget(139))
    second = Costing(cost_nusd=100)
    failing = booth.target(Costing(cost_nusd=40, fault=FAULT), Quoting(100))
    asked = asking()
    with pytest.raises(BudgetExceeded):
        await served(
            booth.admission({"mock": Quoting(100)}),
            asked,
            one_after_another(failing, booth.target(second, Quoting(100))),
        )
    assert (second.calls, await booth.money(), booth.ledger.live) == (0, {"": (40, 0)}, {})
    assert "money refuses this try" in asked.decisions[-1].detail
    assert booth.decided() == {("money", "allowed"): 1, ("money", "refused"): 1}


async def test_a_dearer_fallback_holds_what_it_costs_more() -> None:
    booth = Booth(budget(1000), Rule("tpm", tokens=(1000, 60.0), strict_tokens=True))
    failing = booth.target(Costing("cheap", 0, (0, 0), fault=FAULT), Quoting(10), "cheap")
    dear = booth.target(Costing("dear", 300, (30, 50)), Quoting(400, 40), "dear")
    await served(booth.admission({"cheap": Quoting(10)}), asking(), one_after_another(failing, dear))
    assert [[claim.amount for claim in claims] for claims in booth.ledger.held] == [[10, 60], [390, 30]]
    assert [used for _, used in booth.ledger.settled if used] == [(300, 80), (0, 0)]


async def test_a_fallback_without_a_price_is_refused_where_a_budget_applies() -> None:
    """F57."""
    booth = Booth(budget(1000))
    failing = booth.target(Costing("a", 0, (0, 0), fault=FAULT), Quoting(10), "a")
    unknown = Costing("b")
    with pytest.raises(BudgetExceeded, match="price of this model is not known"):
        await served(
            booth.admission({"a": Quoting(10)}),
            asking(),
            one_after_another(failing, booth.target(unknown, Quoting(None), "b")),
        )
    assert unknown.calls == 0


async def test_tries_side_by_side_are_each_covered() -> None:
    """F50: a hedge's loser is paid for."""
    booth = Booth(budget(1000))
    first, second = Costing("a", 90), Costing("b", 50)
    hedge = side_by_side(booth.target(first, Quoting(100), "a"), booth.target(second, Quoting(60), "b"))
    await served(booth.admission({"a": Quoting(100)}), asking(), hedge)
    # The second begins when the first has ended, at 90 of the 100.
    assert [[claim.amount for claim in claims] for claims in booth.ledger.held] == [[100], [50]]
    assert (await booth.money(), booth.ledger.live) == ({"": (140, 0)}, {})


async def test_of_tries_side_by_side_only_those_go_on_that_fit() -> None:
    """F50."""
    booth = Booth(budget(200))
    handlers = [Costing(str(number), 100) for number in range(5)]
    hedge = side_by_side(*(booth.target(handler, Quoting(100), handler.name) for handler in handlers))
    await served(booth.admission({"0": Quoting(100)}), asking(), hedge)
    assert sum(handler.calls for handler in handlers) == 2
    assert (await booth.money(), booth.ledger.live) == ({"": (200, 0)}, {})


async def test_a_try_given_up_while_its_money_is_asked_for_leaves_nothing_held() -> None:
    """F51."""
    booth = Booth(budget(1000))
    failing = booth.target(Costing(cost_nusd=40, fault=FAULT), Quoting(100))
    second = Costing(cost_nusd=100)
    chain = one_after_another(failing, booth.target(second, Quoting(100)))
    task = asyncio.ensure_future(served(booth.admission({"mock": Quoting(100)}), asking(), chain))
    while len(booth.ledger.held) < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (second.calls, await booth.money(), booth.ledger.live) == (0, {"": (40, 0)}, {})


async def test_a_store_that_goes_away_between_tries_leaves_the_first_ones_paid() -> None:
    """F66."""
    booth = Booth(budget(1000))
    second = Costing(cost_nusd=100)

    class Failing(Costing):
        def __call__(self, asked: Exchange) -> object:
            booth.ledger.fault = StoreUnavailable("away", retry_after_s=1.0)
            return super().__call__(asked)

    failing = booth.target(Failing(cost_nusd=40, fault=FAULT), Quoting(100))
    with pytest.raises(StoreUnavailable):
        await served(
            booth.admission({"mock": Quoting(100)}),
            asking(),
            one_after_another(failing, booth.target(second, Quoting(100))),
        )
    assert (second.calls, await booth.money(), booth.ledger.live) == (0, {"": (40, 0)}, {})


async def test_a_free_request_may_fall_over_to_what_costs_something() -> None:
    """F59: the whole cost is paid though the request itself claimed nothing."""
    booth = Booth(budget(100))
    failing = booth.target(Costing("local", 0, (0, 0), fault=FAULT), Quoting(0), "local")
    dear = booth.target(Costing("dear", 70), Quoting(80), "dear")
    admission = booth.admission({"local": Quoting(0)})
    await served(admission, asking(), one_after_another(failing, dear))
    assert (await booth.money(), booth.ledger.live) == ({"": (70, 0)}, {})
    with pytest.raises(BudgetExceeded):
        await served(admission, asking(), one_after_another(failing, dear))
    assert await booth.money() == {"": (70, 0)}


async def test_over_budget_the_next_target_may_still_fit() -> None:
    """F59: fallback for `over_budget`."""
    booth = Booth(budget(50))
    dear, free = Costing("dear", 100), Costing("local", 0)
    chain = one_after_another(booth.target(dear, Quoting(100), "dear"), booth.target(free, Quoting(0), "local"))
    admission = booth.admission({"dear": Quoting(100)}, settings=replace(SETTINGS, falls_over_budget=True))
    asked = asking()
    await served(admission, asked, chain)
    assert (dear.calls, free.calls, asked.target) == (0, 1, "local")
    assert await booth.money() == {"": (0, 0)}


async def test_a_try_without_a_bound_gets_one_where_a_targets_rule_needs_it() -> None:
    """F52."""
    booth = Booth(Rule("tpm", ("target",), tokens=(10_000, 60.0)), Rule("rate", ("target",), requests=(9, 1.0)))
    asked = asking(None)
    async with AttemptAdmission("mock", booth.rules, booth.desk, Quoting())(asked, Costing()):
        pass
    assert asked.max_tokens_sent == 4096
    only_requests = Booth(Rule("rate", ("target",), requests=(9, 1.0)))
    asked = asking(None)
    async with AttemptAdmission("mock", only_requests.rules, only_requests.desk, Quoting())(asked, Costing()):
        pass
    assert asked.max_tokens_sent is None


async def test_a_branch_with_an_admission_of_its_own_is_not_on_the_others_account() -> None:
    """F50: a shadow may outlive the request that it copies."""
    booth = Booth(budget(1000, match=Match(keys=("tester",))))
    asked, quoter = asking(), Quoting(100)
    admission, handler = booth.admission({"mock": quoter}), booth.target(Costing(cost_nusd=40), quoter)
    async with admission(asked, handler):
        shadow = branch(asked)
        shadow.consumer = Consumer("shadow")
        await served(admission, shadow, handler)
        assert len(booth.ledger.held) == 1, "no rule is about the shadow"
        second = branch(asked)
        await served(admission, second, handler)
        assert len(booth.ledger.held) == 2
    assert (await booth.money(), booth.ledger.live) == ({"": (80, 0)}, {})


async def test_what_comes_after_the_end_of_an_exchange_is_not_on_its_account() -> None:
    booth = Booth(budget(1000))
    asked = asking()
    await served(booth.admission({"mock": Quoting(100)}), asked, booth.target(Costing(), Quoting(100)))
    async with booth.target(Costing(), Quoting(100))(branch(asked)):
        pass
    assert (len(booth.ledger.held), booth.ledger.live) == (1, {})
