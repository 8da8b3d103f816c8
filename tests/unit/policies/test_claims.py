"""What a request claims, and its account."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Attempt, Usage
from gateway.policies.claims import Account, Cover, Entry, Totals, draft, spends, totals, used_of
from gateway.policies.matching import Matched
from gateway.policies.pressure import Step
from gateway.policies.quoting import Quotes
from gateway.policies.rules import Rule
from gateway.store.base import Claim, Hold, Spend
from tests.fakes import FakeClock, request
from tests.unit.policies.admitting import Booth, Quoting, Recording, asking, budget

NOW_S = 1_700_000_000.0
ENDS_S = 1_700_006_400.0


def matched(*rules: Rule) -> Matched:
    """The rules, as a request meets them."""
    return Booth(*rules).rules.for_exchange(asking())


def quotes(cost_nusd: int | None = 100, input_tokens: int = 10, output_tokens: int = 50) -> Quotes:
    """A quote of these; calibrated a tenth of the first two."""
    quoting = Quoting(cost_nusd, input_tokens)
    return Quotes(lambda strict: quoting.worst_case(request(), output_tokens, strict))


def test_every_counter_of_every_rule_is_claimed() -> None:
    """F52: prompt and bound of the reply are held; F58: of all rules."""
    rules = (
        Rule("a", requests=(5, 60.0), tokens=(900, 60.0), concurrency=3, strict_tokens=True),
        budget(1000, charge_lost=True, alert_at=(0.8, 0.5), pressure=(Step(0.9, only_priority="high"),)),
    )
    made = draft(matched(*rules), quotes(), NOW_S, "normal")
    assert made.claims == [
        Claim("a", "", "window", "requests", 1, 5, 60.0),
        Claim("a", "", "concurrency", "slots", 1, 3),
        Claim("a", "", "window", "tokens", 60, 900, 60.0),
        Claim("money", "", "budget", "nusd", 100, 900, 0.0, "2023-11-14", ENDS_S, False, True, (500, 800)),
    ]
    assert [owner.rule.name for owner in made.owners] == ["a", "a", "a", "money"]
    assert made.entries == [None, None, *made.metered]
    assert [(entry.unit, entry.held) for entry in made.metered] == [("tokens", 60), ("nusd", 100)]
    assert draft(matched(*rules), quotes(), NOW_S, "high").claims[-1].limit == 1000


def test_a_rule_holds_by_the_bound_that_it_asks_for() -> None:
    loose = (Rule("a", tokens=(900, 60.0)), budget(1000, strict_budget=False))
    assert [claim.amount for claim in draft(matched(*loose), quotes(), NOW_S, "low").claims] == [51, 10]


def test_what_costs_nothing_claims_nothing_of_a_budget() -> None:
    """F59."""
    made = draft(matched(budget(1000)), quotes(0), NOW_S, "normal")
    assert (made.claims, made.unpriced) == ([], [])
    assert [entry.held for entry in made.metered] == [0]


def test_a_free_request_looks_at_a_budget_that_leads_to_free_targets() -> None:
    made = draft(matched(budget(1000, pressure=(Step(0.8, "small"),))), quotes(0), NOW_S, "normal")
    [look] = made.claims
    assert (look.amount, look.dry_run, made.entries) == (0, True, [None])


def test_a_budget_without_a_price_is_told_apart() -> None:
    """F57: it fails closed."""
    made = draft(matched(budget(1000), budget(5, "dry", dry_run=True)), quotes(None), NOW_S, "normal")
    assert [owner.rule.name for owner in made.unpriced] == ["money"]
    assert made.claims == []


def test_budgets_may_be_left_to_the_tries() -> None:
    made = draft(matched(budget(1000), Rule("a", tokens=(9, 1.0))), quotes(), NOW_S, "normal", with_budgets=False)
    assert [claim.unit for claim in made.claims] == ["tokens"]
    assert [(entry.unit, entry.held) for entry in made.metered] == [("nusd", 0), ("tokens", 51)]


def test_tries_add_up() -> None:
    tries = [
        Attempt(1, "a"),
        Attempt(2, "a", usage=Usage(10, None), cost_nusd=5),
        Attempt(3, "b", usage=Usage(1, 2), cost_nusd=None),
    ]
    spent = totals(tries)
    assert (spent.input_tokens, spent.output_tokens, spent.cost_nusd, spent.has_unknown_cost) == (11, 2, 5, True)
    assert totals([]).cost_nusd == 0


def account(held: int, *, covers: bool = True) -> tuple[Account, Entry]:
    """One with a budget of which so much is held."""
    [owner] = matched(budget(1000)).metered
    entry = Entry(owner, "nusd", held)
    return Account([entry], lambda target: covers), entry


def cover(of: Account, cost_nusd: int | None) -> Cover:
    """A try that may cost so much."""
    return Cover(of.entries, quotes(cost_nusd))


def spent_nusd(amount: int | None) -> Totals:
    """Of one try."""
    return totals([Attempt(1, "a", cost_nusd=amount)])


def test_the_first_try_is_covered_and_one_after_a_free_failure_too() -> None:
    held, _ = account(100)
    assert held.is_enough("mock")
    first = cover(held, 100)
    held.live.append(first)
    assert not held.is_enough("mock")
    held.end(first, spent_nusd(0))
    assert held.is_enough("mock")
    assert not account(100, covers=False)[0].is_enough("mock")


def test_a_try_after_one_that_cost_something_lacks_just_that() -> None:
    held, entry = account(100)
    first = cover(held, 100)
    held.live.append(first)
    held.end(first, spent_nusd(30))
    assert not held.is_enough("mock")
    second = cover(held, 100)
    assert second.work_out() == []
    assert held.missing(second) == [30]
    cheap = cover(held, 70)
    cheap.work_out()
    assert held.missing(cheap) == [0]
    assert entry.used == 30


def test_tries_side_by_side_each_need_their_own() -> None:
    held, _ = account(100)
    held.live.append(cover(held, 100))
    second = cover(held, 40)
    second.work_out()
    assert held.missing(second) == [40]


def test_a_try_whose_price_is_not_known_is_taken_for_its_worst() -> None:
    held, entry = account(100)
    first = cover(held, 100)
    held.live.append(first)
    held.end(first, spent_nusd(None))
    assert entry.used == 100


def test_a_try_without_a_price_cannot_be_covered() -> None:
    held, _ = account(100)
    assert [owner.rule.name for owner in cover(held, None).work_out()] == ["money"]


def test_the_first_hold_takes_everything_and_the_others_nothing() -> None:
    held, entry = account(100)
    ledger = Recording(FakeClock())
    claim = entry.claim(100, NOW_S, "normal")
    first, extra = Hold("first", (claim,)), Hold("extra", (entry.claim(30, NOW_S, "normal"),))
    held.add(extra, [entry])
    held.close(ledger, first, [entry], spent_nusd(120), None)
    assert ledger.settled == [("first", (120,)), ("extra", (0,))]
    assert held.is_closed


def test_what_the_first_hold_did_not_claim_the_second_takes() -> None:
    """F59: a free route's fallback that costs something."""
    held, entry = account(0)
    ledger = Recording(FakeClock())
    held.add(Hold("extra", (entry.claim(30, NOW_S, "normal"),)), [entry])
    held.close(ledger, Hold("first", ()), [], spent_nusd(20), None)
    assert ledger.settled == [("first", ()), ("extra", (20,))]


def test_a_hold_is_charged_in_full_for_a_price_that_is_not_known() -> None:
    _, entry = account(100)
    assert used_of(Hold("h", (entry.claim(100, NOW_S, "normal"),)), [entry], spent_nusd(None)) == [100]


@given(costs=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.booleans()), max_size=12))
def test_tries_never_use_more_than_is_held(costs: list[tuple[int, int, bool]]) -> None:
    """Each try may come to `need` and comes to less or as much; some end at once, some at the very end."""
    held, entry = account(20)
    open_tries: list[tuple[Cover, int]] = []
    for need, used, ends_now in costs:
        used = min(need, used)
        next_try = cover(held, need)
        next_try.work_out()
        entry.held += held.missing(next_try)[0]
        held.live.append(next_try)
        open_tries.append((next_try, used))
        if ends_now:
            ended, cost = open_tries.pop(0)
            held.end(ended, spent_nusd(cost))
        worst = entry.used + sum(each.needs[0] for each in held.live)
        assert worst <= entry.held
    for ended, cost in open_tries:
        held.end(ended, spent_nusd(cost))
    assert entry.used == sum(min(need, used) for need, used, _ in costs) <= entry.held


def test_a_request_enters_the_totals_of_its_day_with_its_last_target() -> None:
    asked = asking(tags={"team": "ml", "secret": "x"}, target="b")
    asked.attempts = [
        Attempt(1, "a", usage=Usage(10, 0), cost_nusd=7),
        Attempt(2, "b", usage=Usage(10, 5), cost_nusd=20),
    ]
    spent = totals(asked.attempts)
    spent.cost_nusd += 3
    tags = (("team", "ml"),)
    assert spends(asked, spent, "2026-11-21", ("team", "absent")) == [
        Spend("2026-11-21", "tester", "demo", "b", tags, 1, 10, 5, 23),
        Spend("2026-11-21", "tester", "demo", "a", tags, 0, 10, 0, 7),
    ]


def test_a_request_without_a_try_is_one_request() -> None:
    assert spends(asking(), totals([]), "2026-11-21", ()) == [Spend("2026-11-21", "tester", "demo", "", (), 1, 0, 0, 0)]
