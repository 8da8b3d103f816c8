"""What the breaker keeps away, and what it learns."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from gateway.core.errors import (
    BudgetExceeded,
    ClientGone,
    DeadlineExceeded,
    InvalidRequest,
    TargetEjected,
    UpstreamAccountError,
    UpstreamConnectError,
    UpstreamError,
    UpstreamReplyError,
    UpstreamTimeout,
    UpstreamTruncated,
)
from gateway.core.exchange import Exchange, Reply
from gateway.policies.breaker import Breaker, BreakerSettings, Change
from gateway.policies.ejection import EjectionPanel
from gateway.policies.guarded import Guarded
from tests.fakes import FakeClock, exchange
from tests.unit.policies.leases import FakeLeases
from tests.unit.policies.scripted import Outcome, Scripted, ok, refusal

pytestmark = pytest.mark.anyio

SETTINGS = BreakerSettings(5, 0.5, 20, 30.0, 30.0, 300.0, 20.0)


@dataclass
class Rig:
    """A guarded target, and another one of the same route where `alone` is False."""

    alone: bool = True
    leases: FakeLeases | None = None
    clock: FakeClock = field(default_factory=FakeClock)
    changes: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.breaker = self._breaker("a")
        others = [] if self.alone else [self._breaker("b")]
        self.others = others
        self.guarded = Guarded(self.breaker, "a", EjectionPanel([self.breaker, *others], 1.0))

    def _breaker(self, name: str) -> Breaker:
        return Breaker(name, SETTINGS, self.clock, random.Random(7), self.leases, self.changes.append)

    async def ask(self, *outcomes: Outcome, amid: BaseException | None = None, asked: Exchange | None = None) -> None:
        """One request for each outcome; `amid` strikes while the reply streams. Failures are expected."""
        for outcome in outcomes or (ok(),):
            try:
                async with self.guarded(asked or exchange(), Scripted(outcome)):
                    if amid is not None:
                        raise amid
            except BaseException as error:
                if error is not outcome and error is not amid:
                    raise

    async def open(self) -> None:
        """Let it open."""
        await self.ask(*[_status(500)] * 5)
        assert self.breaker.state == 2

    async def is_kept_away(self) -> bool:
        """Whether a request does not come through."""
        scripted = Scripted()
        try:
            async with self.guarded(exchange(), scripted):
                return False
        except TargetEjected:
            return scripted.tries == 0


def _status(status: int, retry_after_s: float | None = None) -> UpstreamError:
    return UpstreamError("x", upstream_status=status, status=status, retry_after_s=retry_after_s)


@pytest.mark.parametrize(
    "fault",
    [
        UpstreamConnectError("x"),
        _status(500),
        _status(503),
        _status(529),
        UpstreamError("HTML", upstream_status=502),
        UpstreamTimeout("x", phase="first_token"),
        UpstreamTimeout("x", phase="idle"),
        UpstreamTimeout("x", phase="total"),
        UpstreamTruncated("x"),
    ],
)
async def test_the_providers_faults_count(fault: BaseException) -> None:
    """F32, F42, F43."""
    rig = Rig()
    await rig.ask(*[fault] * 5)
    assert await rig.is_kept_away()


@pytest.mark.parametrize(
    "fault",
    [
        UpstreamTruncated("x"),
        UpstreamTimeout("x", phase="idle"),
        UpstreamReplyError("x", status=500),
    ],
)
async def test_faults_amid_a_stream_count(fault: BaseException) -> None:
    """F32."""
    rig = Rig()
    for _ in range(5):
        await rig.ask(amid=fault)
    assert rig.breaker.state == 2


async def test_a_fault_that_shows_when_the_reply_is_left_counts() -> None:
    """F32."""
    rig = Rig()

    class Late(Scripted):
        def end(self, exchange: Exchange, error: BaseException | None) -> None:
            raise UpstreamTruncated("x")

    for _ in range(5):
        with pytest.raises(UpstreamTruncated):
            async with rig.guarded(exchange(), Late()):
                pass
    assert rig.breaker.state == 2


@pytest.mark.parametrize(
    "outcome",
    [
        DeadlineExceeded("x"),
        ClientGone("x"),
        InvalidRequest("x"),
        BudgetExceeded("x", limit="l", retry_after_s=1.0),
        asyncio.CancelledError(),
        ValueError("a bug"),
        refusal(400, "invalid_request_error"),
        refusal(404, "model_not_found"),
        refusal(413, "request_too_large"),
        refusal(422, "x"),
        UpstreamError("x", upstream_status=200, status=400),
    ],
)
async def test_what_the_client_does_never_counts(outcome: Outcome) -> None:
    """F36, F34."""
    rig = Rig()
    for _ in range(50):
        await rig.ask(outcome)
    for _ in range(50):
        if isinstance(outcome, BaseException):
            await rig.ask(amid=outcome)
    assert rig.breaker.is_clear
    assert rig.breaker.detail["failures"] == 0


async def test_time_that_an_earlier_try_has_taken_is_not_this_targets_fault() -> None:
    rig = Rig()
    for _ in range(9):
        await rig.ask(UpstreamTimeout("x", phase="total"), asked=exchange(attempts=1))
    assert rig.breaker.is_clear


async def test_an_open_breaker_answers_at_once_and_says_when_to_come_back() -> None:
    """F32, F29: no call, and a Retry-After of at least a second."""
    rig = Rig()
    await rig.open()
    scripted, asked = Scripted(), exchange()
    with pytest.raises(TargetEjected) as raised:
        async with rig.guarded(asked, scripted):
            pass
    assert scripted.tries == 0
    assert 30 <= (raised.value.retry_after_s or 0) <= 33
    assert asked.target == "a"
    assert asked.decisions[-1].detail == "a is open: 5 failures in a row"
    rig.clock.advance(40.0)
    async with rig.guarded(exchange(), Scripted()):
        with pytest.raises(TargetEjected) as raised:
            async with rig.guarded(asked, scripted):
                pass
    assert raised.value.retry_after_s == 1.0


async def test_the_longest_wait_that_is_told_is_a_minute() -> None:
    rig = Rig()
    rig.breaker.eject("for good", None)
    with pytest.raises(TargetEjected) as raised:
        async with rig.guarded(exchange(), Scripted()):
            pass
    assert raised.value.retry_after_s == 60.0


async def test_half_open_lets_exactly_one_of_a_hundred_through() -> None:
    """F33."""
    rig = Rig(leases=FakeLeases())
    await rig.open()
    rig.clock.advance(40.0)
    answer = asyncio.Event()
    scripted = Scripted(answer)
    refused = 0

    async def ask() -> None:
        nonlocal refused
        try:
            async with rig.guarded(exchange(), scripted):
                pass
        except TargetEjected:
            refused += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(ask())
        while refused < 99:
            await asyncio.sleep(0)
        assert scripted.tries == 1
        answer.set()
    assert rig.breaker.state == 0


async def test_a_probe_whose_client_leaves_is_no_verdict_and_gives_the_lease_back() -> None:
    """F34."""
    leases = FakeLeases()
    rig = Rig(leases=leases)
    await rig.open()
    rig.clock.advance(40.0)
    scripted = Scripted(asyncio.Event())
    asked = exchange()

    async def ask() -> None:
        async with rig.guarded(asked, scripted):
            pass

    task = asyncio.ensure_future(ask())
    while not scripted.tries:
        await asyncio.sleep(0)
    assert asked.decisions[0].detail == "a: this request is the probe"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await leases.released.wait()
    assert leases.held == {}
    await rig.ask()
    assert rig.breaker.state == 0


async def test_a_probe_that_fails_amid_its_stream_opens_it_again() -> None:
    rig = Rig()
    await rig.open()
    rig.clock.advance(40.0)
    await rig.ask(amid=UpstreamTruncated("x"))
    assert rig.breaker.state == 2
    assert await rig.is_kept_away()


async def test_a_probe_that_another_process_sends_leaves_this_one_waiting() -> None:
    """F33."""
    leases = FakeLeases()
    leases.held["probe/a"] = "another"
    rig = Rig(leases=leases)
    await rig.open()
    rig.clock.advance(40.0)
    assert await rig.is_kept_away()
    leases.held.clear()
    rig.clock.advance(1.0)
    assert not await rig.is_kept_away()


@pytest.mark.parametrize(
    "outcome",
    [
        UpstreamAccountError("x", upstream_status=401),
        Reply(400, [], body=b'{"error":{"message":"Your credit balance is too low"}}'),
        UpstreamReplyError("x", is_account=True),
    ],
)
async def test_a_refused_account_is_out_after_one_request(outcome: Outcome) -> None:
    """F37."""
    rig = Rig()
    await rig.ask(outcome)
    assert await rig.is_kept_away()
    assert [change.event for change in rig.changes] == ["opened", "account"]


async def test_a_429_is_no_failure_but_a_pause() -> None:
    """F38, F39."""
    rig = Rig(alone=False)
    await rig.ask(*[_status(429)] * 50)
    assert rig.breaker.is_clear
    await rig.ask(_status(429, 1.0))
    await asyncio.gather(rig.is_kept_away(), rig.is_kept_away())
    rig.breaker.throttled(rig.breaker.epoch, None, 10.0)
    rig.clock.advance(9.0)
    assert await rig.is_kept_away()
    assert not rig.guarded.available()
    rig.clock.advance(1.0)
    assert not await rig.is_kept_away()


async def test_a_target_that_is_let_through_says_so() -> None:
    """F40."""
    rig = Rig(alone=False)
    await rig.open()
    rig.others[0].eject("x", None)
    rig.clock.advance(1.0)
    assert rig.guarded.available()
    asked = exchange()
    async with rig.guarded(asked, Scripted()):
        assert asked.decisions[0].detail == "a is open: 5 failures in a row; let through (trickle)"
        assert await rig.is_kept_away()
    assert rig.breaker.state == 0


async def test_a_spared_target_gets_its_requests_and_its_probe() -> None:
    """F40."""
    rig = Rig(alone=False)
    rig.guarded = Guarded(rig.breaker, "a", EjectionPanel([rig.breaker, *rig.others], 0.5))
    rig.others[0].eject("x", None)
    await rig.open()
    for _ in range(3):
        assert not await rig.is_kept_away()
    assert rig.breaker.state == 2
    rig.clock.advance(40.0)
    await rig.ask()
    assert rig.breaker.state == 0


async def test_availability_follows_the_breaker() -> None:
    rig = Rig()
    assert rig.guarded.available()
    await rig.open()
    assert not rig.guarded.available()
    rig.clock.advance(40.0)
    assert rig.guarded.available()


async def test_bugs_and_refusals_leave_the_targets_scope_in_order() -> None:
    rig, scripted = Rig(), Scripted()
    error = ValueError("a bug above")
    with pytest.raises(ValueError, match="a bug above"):
        async with rig.guarded(exchange(), scripted):
            raise error
    assert scripted.left == [error]


class Echoing(Scripted):
    """A target whose calls others speak for."""

    def begin(self, exchange: Exchange) -> None:
        """Note the try as an echo."""
        super().begin(exchange)
        exchange.attempts[-1].is_echo = True


async def test_a_call_that_was_made_for_several_counts_once() -> None:
    """F32: who echoes another one's call neither opens a breaker nor ends a row of failures."""
    rig = Rig()
    fault = UpstreamError("no", upstream_status=500)
    for outcome in (fault, fault, ok()):
        with suppress(UpstreamError):
            async with rig.guarded(exchange(), Echoing(outcome)):
                pass
    assert (rig.breaker.window.in_a_row, rig.breaker.detail["requests"]) == (0, 0)
    await rig.ask(fault)
    assert rig.breaker.window.in_a_row == 1
