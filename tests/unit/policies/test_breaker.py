"""One target's health."""

import random
from dataclasses import dataclass, field

import pytest

from gateway.policies.breaker import Breaker, BreakerSettings, Change
from gateway.policies.probe import Pass
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio

SETTINGS = BreakerSettings(
    consecutive=5,
    error_rate=0.5,
    min_requests=20,
    window_s=30.0,
    open_for_s=30.0,
    max_open_for_s=300.0,
    slow_start_s=20.0,
)


@dataclass
class Rig:
    """A breaker with its surroundings."""

    settings: BreakerSettings = SETTINGS
    clock: FakeClock = field(default_factory=FakeClock)
    changes: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.breaker = Breaker("gpt", self.settings, self.clock, random.Random(7), None, self.changes.append)

    def fail(self, times: int = 5) -> None:
        """Let as many requests fail, begun before any of them ended."""
        epoch = self.breaker.epoch
        for _ in range(times):
            self.breaker.failed(epoch, None, "status 500")

    def pass_time(self, seconds: float) -> bool:
        """Whether the breaker is clear after that."""
        self.clock.advance(seconds)
        return self.breaker.turn(self.clock.monotonic())

    async def probe(self) -> Pass:
        """The probe, which must be free."""
        assert self.breaker.is_probe_due(self.clock.monotonic())
        taken = await self.breaker.probe(self.clock.monotonic())
        assert taken is not None
        return taken

    @property
    def events(self) -> list[str]:
        """What was told."""
        return [change.event for change in self.changes]


async def test_failures_in_a_row_open_it() -> None:
    """F32."""
    rig = Rig()
    rig.fail(4)
    assert rig.breaker.is_clear
    assert rig.breaker.available
    rig.fail(1)
    assert (rig.breaker.state, rig.breaker.is_clear, rig.breaker.available) == (2, False, False)
    assert rig.changes == [Change("gpt", "opened", "5 failures in a row")]
    assert 30.0 <= rig.breaker.left_s(rig.clock.monotonic()) <= 33.0
    assert rig.breaker.describe() == "open: 5 failures in a row"


async def test_it_is_believed_at_once() -> None:
    """F39: there is no second level that learns of it later."""
    rig = Rig()
    rig.fail()
    assert not rig.breaker.turn(rig.clock.monotonic())


async def test_a_probe_that_succeeds_closes_it_and_requests_come_back_slowly() -> None:
    rig = Rig()
    rig.fail()
    assert not rig.pass_time(29.0)
    assert not rig.breaker.is_probe_due(rig.clock.monotonic())
    assert not rig.pass_time(5.0)
    assert rig.breaker.available
    taken = await rig.probe()
    assert (rig.breaker.state, rig.breaker.available) == (1, False)
    rig.breaker.succeeded(rig.breaker.epoch, taken)
    rig.breaker.give_back(taken)
    assert (rig.breaker.state, rig.breaker.is_clear) == (0, True)
    assert sum(rig.breaker.available for _ in range(1000)) < 200
    rig.clock.advance(20.0)
    assert all(rig.breaker.available for _ in range(100))
    assert rig.events == ["opened", "half_open", "closed"]


async def test_a_probe_that_fails_opens_it_for_longer() -> None:
    rig = Rig()
    rig.fail()
    rig.pass_time(34.0)
    taken = await rig.probe()
    rig.breaker.failed(rig.breaker.epoch, taken, "timeout (first_token)")
    rig.breaker.give_back(taken)
    assert rig.breaker.state == 2
    assert 60.0 <= rig.breaker.left_s(rig.clock.monotonic()) <= 66.0
    assert rig.changes[-1] == Change("gpt", "opened", "the probe failed: timeout (first_token)")


async def test_a_probe_without_a_verdict_leaves_the_next_one_to_probe() -> None:
    """F34."""
    rig = Rig()
    rig.fail()
    rig.pass_time(34.0)
    rig.breaker.give_back(await rig.probe())
    assert rig.breaker.state == 1
    taken = await rig.probe()
    rig.breaker.succeeded(rig.breaker.epoch, taken)
    assert rig.breaker.state == 0


async def test_a_probe_that_streams_well_closes_it_before_its_end() -> None:
    rig = Rig()
    rig.fail()
    rig.pass_time(34.0)
    taken = await rig.probe()
    taken.entered_s = rig.clock.monotonic()
    assert not rig.pass_time(4.9)
    assert rig.pass_time(0.1)
    assert rig.breaker.state == 0


async def test_requests_of_before_have_no_say() -> None:
    rig = Rig()
    before = rig.breaker.epoch
    rig.fail()
    rig.breaker.failed(before, None, "status 500")
    rig.breaker.succeeded(before, None)
    rig.breaker.refused_account(before, "account")
    rig.pass_time(34.0)
    taken = await rig.probe()
    rig.breaker.failed(before, None, "status 500")
    assert rig.breaker.state == 1
    rig.breaker.succeeded(rig.breaker.epoch, taken)
    for _ in range(9):
        rig.breaker.failed(before, None, "late")
    assert rig.breaker.state == 0
    assert rig.breaker.detail["failures"] == 0


async def test_a_refused_account_is_out_at_once_for_the_longest_time_and_somebody_is_told() -> None:
    """F37."""
    rig = Rig()
    rig.breaker.refused_account(0, "status 401")
    assert rig.breaker.is_forced_out
    assert 300 <= rig.breaker.left_s(rig.clock.monotonic()) <= 330
    assert rig.events == ["opened", "account"]
    rig.pass_time(331.0)
    taken = await rig.probe()
    rig.breaker.succeeded(rig.breaker.epoch, taken)
    assert not rig.breaker.is_forced_out


async def test_a_longer_pause_replaces_a_shorter_one_and_never_the_other_way_round() -> None:
    """F38."""
    rig = Rig()
    rig.breaker.throttled(0, None, 1.0)
    rig.breaker.throttled(0, None, 10.0)
    rig.breaker.throttled(0, None, 2.0)
    assert (rig.breaker.state, rig.breaker.available, rig.breaker.is_clear) == (0, False, False)
    assert rig.breaker.describe() == "its provider asked for a pause"
    assert rig.breaker.left_s(rig.clock.monotonic()) == 10.0
    assert not rig.pass_time(9.9)
    assert rig.breaker.detail["cooling_until"] == pytest.approx(1_700_000_010.0)
    assert rig.pass_time(0.1)
    assert rig.changes == []


async def test_a_429_without_a_pause_changes_nothing() -> None:
    rig = Rig()
    rig.breaker.throttled(0, None, None)
    rig.breaker.throttled(0, None, 0.0)
    assert rig.breaker.is_clear


async def test_a_probe_that_is_answered_429_has_found_a_living_target() -> None:
    rig = Rig()
    rig.fail()
    rig.pass_time(34.0)
    taken = await rig.probe()
    rig.breaker.throttled(rig.breaker.epoch, taken, 2.0)
    rig.breaker.give_back(taken)
    assert rig.breaker.state == 0
    assert not rig.pass_time(1.0)
    assert rig.pass_time(1.0)


async def test_no_probe_is_sent_into_a_pause() -> None:
    rig = Rig()
    rig.fail()
    rig.breaker.throttled(rig.breaker.epoch, None, 50.0)
    rig.pass_time(34.0)
    assert not rig.breaker.is_probe_due(rig.clock.monotonic())
    rig.pass_time(16.0)
    assert rig.breaker.is_probe_due(rig.clock.monotonic())


async def test_a_trickle_that_succeeds_brings_the_target_back_and_one_that_fails_changes_nothing() -> None:
    """F40."""
    rig = Rig()
    rig.fail()
    now_s = rig.clock.monotonic()
    assert not rig.breaker.is_trickle_due(now_s + 0.9)
    assert rig.breaker.is_trickle_due(now_s + 1.0)
    rig.clock.advance(1.0)
    taken = rig.breaker.trickle(rig.clock.monotonic())
    assert not rig.breaker.is_trickle_due(rig.clock.monotonic())
    left_s = rig.breaker.left_s(rig.clock.monotonic())
    rig.breaker.failed(rig.breaker.epoch, taken, "status 500")
    rig.breaker.give_back(taken)
    assert rig.breaker.left_s(rig.clock.monotonic()) == left_s
    rig.breaker.succeeded(rig.breaker.epoch, taken)
    assert rig.breaker.state == 0


async def test_one_success_of_a_spared_target_proves_nothing() -> None:
    rig = Rig()
    rig.fail()
    rig.breaker.succeeded(rig.breaker.epoch, Pass("spared"))
    assert rig.breaker.state == 2


async def test_a_failure_rate_opens_it_too() -> None:
    rig = Rig()
    for _ in range(10):
        rig.breaker.succeeded(0, None)
        rig.breaker.failed(0, None, "status 500")
    assert rig.changes == [Change("gpt", "opened", "10 of 20 requests failed")]


async def test_an_operator_may_eject_it_until_a_moment() -> None:
    rig = Rig()
    rig.breaker.eject("maintenance", until_s=rig.clock.wall() + 60)
    assert (rig.breaker.state, rig.breaker.available, rig.breaker.is_forced_out) == (2, False, True)
    assert rig.breaker.describe() == "ejected: maintenance"
    assert rig.breaker.left_s(rig.clock.monotonic()) == 60.0
    assert not rig.breaker.is_probe_due(rig.clock.monotonic())
    assert not rig.pass_time(59.0)
    assert rig.pass_time(1.0)
    assert rig.breaker.state == 0
    assert rig.events == ["ejected", "restored"]


async def test_an_operator_may_eject_it_until_further_notice() -> None:
    rig = Rig()
    rig.breaker.eject("leak", until_s=None)
    rig.breaker.eject("leak, still", until_s=None)
    assert not rig.pass_time(1e6)
    assert rig.breaker.detail["ejected_until"] is None
    assert rig.breaker.detail["ejected"] is True
    rig.breaker.restore("fixed")
    assert rig.breaker.is_clear
    assert [change.reason for change in rig.changes] == ["leak", "fixed"]


async def test_an_ejection_that_is_over_already_is_none() -> None:
    rig = Rig()
    rig.breaker.eject("old", until_s=rig.clock.wall() - 1)
    assert rig.breaker.is_clear
    assert rig.changes == []


async def test_restoring_ends_every_reason_and_forgets_the_past() -> None:
    rig = Rig()
    rig.breaker.refused_account(0, "status 402")
    rig.breaker.throttled(rig.breaker.epoch, None, 50.0)
    rig.breaker.eject("x", None)
    rig.breaker.restore("paid")
    assert (rig.breaker.state, rig.breaker.is_clear) == (0, True)
    assert rig.events[-2:] == ["closed", "restored"]
    assert rig.breaker.detail["openings"] == 0


async def test_an_ejection_that_ends_leaves_an_open_circuit_open() -> None:
    rig = Rig()
    rig.fail()
    rig.breaker.eject("x", until_s=rig.clock.wall() + 10)
    assert not rig.pass_time(10.0)
    assert rig.breaker.state == 2
    rig.pass_time(24.0)
    assert rig.breaker.is_probe_due(rig.clock.monotonic())


async def test_a_recovery_does_not_undo_an_operators_ejection() -> None:
    rig = Rig()
    rig.fail()
    rig.pass_time(34.0)
    taken = await rig.probe()
    epoch = rig.breaker.epoch
    rig.breaker.eject("x", None)
    rig.breaker.succeeded(epoch, taken)
    rig.breaker.succeeded(rig.breaker.epoch, taken)
    assert rig.breaker.state == 2
    assert not rig.breaker.is_clear


async def test_details_tell_what_an_operator_asks() -> None:
    rig = Rig()
    assert rig.breaker.detail == {
        "state": "closed",
        "since": 1_700_000_000.0,
        "reason": "",
        "requests": 0,
        "failures": 0,
        "failures_in_a_row": 0,
        "openings": 0,
        "ejected": False,
        "account": False,
        "last_error": "",
        "until": None,
        "cooling_until": None,
        "ejected_until": None,
        "slow_start_until": None,
    }
    rig.fail()
    detail = rig.breaker.detail
    assert (detail["state"], detail["reason"], detail["openings"]) == ("open", "open: 5 failures in a row", 1)
    assert detail["last_error"] == "status 500"
    assert detail["until"] > 1_700_000_029


async def test_without_slow_start_everything_comes_back_at_once() -> None:
    rig = Rig(BreakerSettings(1, 1.0, 5, 10.0, 1.0, 1.0, 0.0))
    rig.fail(1)
    rig.pass_time(1.2)
    taken = await rig.probe()
    rig.breaker.succeeded(rig.breaker.epoch, taken)
    assert all(rig.breaker.available for _ in range(100))


async def test_a_lease_that_another_process_has_leaves_it_open() -> None:
    """F33."""

    class Taken:
        async def acquire(self, name: str, owner: str, ttl_s: float) -> bool:
            return False

        async def release(self, name: str, owner: str) -> None:
            raise AssertionError("nothing was taken")

    rig = Rig()
    rig.breaker = Breaker("gpt", SETTINGS, rig.clock, random.Random(7), Taken(), rig.changes.append)
    rig.fail()
    rig.clock.advance(34.0)
    assert await rig.breaker.probe(rig.clock.monotonic()) is None
    assert rig.breaker.state == 2
