"""How many retries a target is worth."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.policies.retry_budget import RetryBudget


def test_a_target_that_always_fails_gets_at_most_a_fifth_more() -> None:
    """F30: 100 requests a second that fail, each wanting two retries, for a minute."""
    budget = RetryBudget(0.2, 3)
    retries = 0
    for number in range(6000):
        now_s = 1000 + number / 100
        budget.requested(now_s)
        retries += sum(budget.allows(now_s) for _ in range(2))
    assert 1180 <= retries <= 1200 + 3 * 7
    assert budget.exhausted == 12_000 - retries


def test_a_quiet_target_still_gets_its_retries() -> None:
    budget = RetryBudget(0.2, 3)
    budget.requested(1000.0)
    assert [budget.allows(1000.0) for _ in range(4)] == [True, True, True, False]
    assert budget.allows(1011.0)


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 5), st.integers(0, 5)), max_size=60))
def test_in_no_window_are_retries_more_than_their_share_and_three(steps: list[tuple[float, int, int]]) -> None:
    """F30."""
    budget = RetryBudget(0.2, 3)
    now_s = 1000.0
    requests: list[float] = []
    retries: list[float] = []
    for later_s, asked, again in steps:
        now_s += later_s
        for _ in range(asked):
            budget.requested(now_s)
            requests.append(now_s)
        for _ in range(again):
            if budget.allows(now_s):
                retries.append(now_s)
                surely = sum(at_s > now_s - 8.999 for at_s in retries)
                assert surely <= 0.2 * sum(at_s >= now_s - 10.001 for at_s in requests) + 3
