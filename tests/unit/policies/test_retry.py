"""Another try at the same target."""

import gc
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.core.conditions import Condition
from gateway.core.errors import (
    DeadlineExceeded,
    GatewayError,
    TargetEjected,
    UpstreamAccountError,
    UpstreamConnectError,
    UpstreamError,
    UpstreamFault,
    UpstreamTimeout,
    UpstreamTruncated,
)
from gateway.core.exchange import Exchange, Reply
from gateway.policies.retry import FullJitter, Retry, RetrySettings
from gateway.policies.retry_budget import RetryBudget
from tests.fakes import FakeClock, events_of, exchange, request
from tests.unit.policies.scripted import Naps, Scripted, ok

pytestmark = pytest.mark.anyio

WHEN: frozenset[Condition] = frozenset({"connect", "429", "5xx"})


@dataclass
class Rig:
    """A retry policy with its surroundings."""

    attempts: int = 3
    when: frozenset[Condition] = WHEN
    max_wait_s: float = 5.0
    budget: RetryBudget = field(default_factory=lambda: RetryBudget(0.2, 100))
    clock: FakeClock = field(default_factory=FakeClock)
    told: list[Condition] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.naps = Naps(self.clock)
        settings = RetrySettings(self.attempts, self.when, self.max_wait_s, total_s=60.0)
        self.policy = Retry(settings, self.budget, self.clock, random.Random(7), self.naps, self.told.append)

    async def fails(self, scripted: Scripted, asked: Exchange | None = None) -> GatewayError:
        """What the last try failed with."""
        with pytest.raises(GatewayError) as raised:
            async with self.policy(asked or exchange(), scripted):
                pass
        return raised.value


def _status(status: int, retry_after_s: float | None = None) -> UpstreamError:
    return UpstreamError("x", upstream_status=status, status=status, retry_after_s=retry_after_s)


async def test_a_first_try_that_succeeds_is_the_only_one() -> None:
    rig, scripted = Rig(), Scripted()
    asked = exchange()
    async with rig.policy(asked, scripted) as reply:
        assert reply.status == 200
    assert (scripted.tries, scripted.left, rig.naps.taken, asked.decisions) == (1, [None], [], [])


@pytest.mark.parametrize(
    ("error", "condition"), [(UpstreamConnectError("x"), "connect"), (_status(429), "429"), (_status(529), "5xx")]
)
async def test_a_failure_before_the_reply_is_tried_again(error: UpstreamFault, condition: Condition) -> None:
    rig, scripted = Rig(), Scripted(error, ok())
    asked = exchange()
    async with rig.policy(asked, scripted) as reply:
        assert reply.status == 200
    assert [attempt.retry_of for attempt in asked.attempts] == [None, condition]
    assert rig.told == [condition]
    [decision] = asked.decisions
    assert decision.step == "retry"
    assert decision.detail.startswith("a: try 2 after 0.")
    assert decision.detail.endswith(f"because of {condition}")
    assert scripted.left == [error, None]


async def test_it_gives_up_after_its_attempts_and_says_so() -> None:
    """F30: the client's own retries must not multiply these."""
    rig, scripted = Rig(), Scripted(_status(500), _status(502), _status(503))
    error = await rig.fails(scripted)
    assert (scripted.tries, error.retried) == (3, True)
    assert isinstance(error, UpstreamError)
    assert error.upstream_status == 503


async def test_what_was_not_tried_again_leaves_the_client_its_own_retries() -> None:
    rig = Rig(attempts=1)
    assert not (await rig.fails(Scripted(_status(500)))).retried


@pytest.mark.parametrize(
    "error",
    [
        UpstreamTimeout("x", phase="first_token"),
        UpstreamTimeout("x", phase="total"),
        UpstreamTruncated("x"),
        UpstreamAccountError("x"),
        DeadlineExceeded("x"),
        TargetEjected("x"),
    ],
)
async def test_what_is_not_asked_for_is_not_tried_again(error: GatewayError) -> None:
    """F31: a request that may have been worked on is paid for twice. F37: an account does not mend itself."""
    rig, scripted = Rig(), Scripted(error)
    assert await rig.fails(scripted) is error
    assert scripted.tries == 1


async def test_a_late_first_token_is_tried_again_where_that_is_asked_for() -> None:
    """F31."""
    rig = Rig(when=frozenset({"first_token"}))
    scripted = Scripted(UpstreamTimeout("x", phase="first_token"), ok())
    async with rig.policy(exchange(), scripted):
        assert scripted.tries == 2


async def test_a_failure_amid_the_reply_is_not_tried_again() -> None:
    """F25."""
    rig, scripted = Rig(), Scripted()
    error = UpstreamTruncated("cut")
    with pytest.raises(UpstreamTruncated):
        async with rig.policy(exchange(), scripted):
            raise error
    assert (scripted.tries, scripted.left) == (1, [error])


async def test_a_body_that_came_as_a_stream_is_sent_once() -> None:
    """F31."""
    rig, scripted = Rig(), Scripted(UpstreamConnectError("x"))
    await rig.fails(scripted, exchange(request(body_stream=events_of(b"x"))))
    assert scripted.tries == 1


async def test_a_retry_after_is_waited_for() -> None:
    """F27, F28."""
    rig, scripted = Rig(), Scripted(_status(429, 2.0), ok())
    async with rig.policy(exchange(), scripted):
        pass
    [nap] = rig.naps.taken
    assert 2.0 <= nap <= 2.1


async def test_a_retry_after_that_is_too_long_goes_to_the_client_at_once() -> None:
    """F27: the wait is passed on, and the client may come back after it."""
    rig, scripted = Rig(), Scripted(_status(429, 30.0))
    error = await rig.fails(scripted)
    assert (scripted.tries, rig.naps.taken, error.retry_after_s, error.retried) == (1, [], 30.0, False)


async def test_waits_have_full_jitter_and_grow_to_their_cap() -> None:
    """F49."""
    rig, scripted = Rig(attempts=9, max_wait_s=1.0), Scripted(_status(500))
    await rig.fails(scripted)
    bounds = [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0]
    assert all(0 <= nap <= bound for nap, bound in zip(rig.naps.taken, bounds, strict=True))
    assert len(set(rig.naps.taken)) == 8


async def test_no_retry_begins_after_the_deadline() -> None:
    """F44: one deadline over all attempts."""
    rig, scripted = Rig(), Scripted(_status(429, 4.0))
    rig.clock.advance(57.0)
    error = await rig.fails(scripted)
    assert (scripted.tries, error.retried) == (1, False)


async def test_no_retry_begins_after_the_clients_own_deadline() -> None:
    rig, scripted = Rig(), Scripted(_status(500), _status(429, 3.0))
    error = await rig.fails(scripted, exchange(client_deadline_s=1002.0))
    assert (scripted.tries, error.retried) == (2, True)


async def test_a_spent_budget_ends_the_retries_and_the_clients_too() -> None:
    """F30."""
    rig = Rig(budget=RetryBudget(0.2, 3))
    asked = [exchange() for _ in range(100)]
    scripted = Scripted(_status(500))
    for each in asked:
        assert (await rig.fails(scripted, each)).retried
    assert scripted.tries <= 100 * 1.2 + 3
    assert asked[-1].decisions[-1].detail == "not tried again: the target's retry budget is spent"


async def test_a_target_that_was_ejected_meanwhile_leaves_the_providers_own_failure() -> None:
    rig = Rig()
    first = _status(500)
    error = await rig.fails(Scripted(first, TargetEjected("x")))
    assert error is first
    assert error.retried


async def test_the_clients_deadline_is_told_when_it_passes_in_a_later_try() -> None:
    rig = Rig()
    late = DeadlineExceeded("x")
    assert await rig.fails(Scripted(_status(500), late)) is late


async def test_a_later_failure_of_another_kind_is_the_one_that_is_told() -> None:
    rig = Rig()
    account = UpstreamAccountError("x")
    error = await rig.fails(Scripted(_status(500), account, ok()))
    assert error is account
    assert error.retried


class _Told(list[int]):
    """Tells of its end."""

    def __init__(self, gone: list[int]) -> None:
        super().__init__()
        self._gone = gone

    def __del__(self) -> None:
        self._gone.append(1)


class _Failing(Scripted):
    """Fails twice with an error that nobody but its traceback holds."""

    gone: list[int]

    async def __aenter__(self) -> Reply:
        self.tries += 1
        if self.tries < 3:
            raise UpstreamError(_Told(self.gone), upstream_status=500)  # type: ignore[arg-type]
        return ok()

    async def __aexit__(self, *_: object) -> None:
        pass

    def __call__(self, exchange: Exchange) -> Any:
        return self


async def test_failures_leave_no_reference_cycle() -> None:
    rig, failing = Rig(), _Failing()
    failing.gone = []
    gc.disable()
    try:
        async with rig.policy(exchange(), failing):
            assert failing.gone == [1, 1]
    finally:
        gc.enable()


def test_jitter_comes_from_the_generator_it_was_given() -> None:
    state: Any = type("State", (), {"attempt_number": 3})()
    drawn = [FullJitter(0.1, 5.0, random.Random(1))(state) for _ in range(2)]
    assert drawn[0] == drawn[1] == pytest.approx(random.Random(1).uniform(0, 0.4))


async def test_the_reply_of_a_later_try_is_left_like_any_other() -> None:
    rig, scripted = Rig(), Scripted(_status(500), Reply(201, [], body=b""))
    cut = UpstreamTruncated("x")
    with pytest.raises(UpstreamTruncated):
        async with rig.policy(exchange(), scripted) as reply:
            assert reply.status == 201
            raise cut
    assert scripted.left[-1] is cut
