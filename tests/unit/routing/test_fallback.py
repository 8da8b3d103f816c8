"""Another target, when the first one cannot answer."""

from collections.abc import Callable

import pytest

from gateway.core.conditions import CONDITIONS, Condition
from gateway.core.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    GatewayError,
    InvalidRequest,
    ShuttingDown,
    TargetBusy,
    TargetEjected,
    UpstreamAccountError,
    UpstreamConnectError,
    UpstreamError,
    UpstreamTimeout,
    UpstreamTruncated,
)
from gateway.core.exchange import Exchange
from gateway.core.pipeline import Handler
from gateway.routing.fallback import Fallback, Step, always
from tests.fakes import FakeClock, events_of, exchange, request
from tests.unit.policies.scripted import Outcome, Scripted, ok, refusal

pytestmark = pytest.mark.anyio

EVERYTHING = frozenset(CONDITIONS)


class Rig:
    """A fallback from `a` to what a test adds."""

    def __init__(self, *outcomes: Outcome, available: Callable[[], bool] = always, attempted: bool = True) -> None:
        self.primary = Scripted(*outcomes, target="a", attempted=attempted)
        self.steps: list[Step] = []
        self.clock = FakeClock()
        self.told: list[tuple[str, str, str]] = []
        self._available = available

    def then(
        self,
        target: str,
        *outcomes: Outcome,
        when: frozenset[Condition] = EVERYTHING,
        available: Callable[[], bool] = always,
        attempted: bool = True,
    ) -> Scripted:
        """One step more."""
        scripted = Scripted(*outcomes, target=target, attempted=attempted)
        self.steps.append(Step(target, scripted, when, available))
        return scripted

    @property
    def handler(self) -> Handler:
        """The fallback itself."""
        primary = Step("a", self.primary, frozenset(), self._available)
        return Fallback(primary, self.steps, 60.0, self.clock, lambda *told: self.told.append(told))

    async def answers(self, asked: Exchange | None = None) -> str | None:
        """The target whose reply it is."""
        asked = asked or exchange()
        async with self.handler(asked) as reply:
            assert reply.status == 200
            return asked.target

    async def fails(self, asked: Exchange | None = None) -> GatewayError:
        """What it fails with."""
        with pytest.raises(GatewayError) as raised:
            async with self.handler(asked or exchange()):
                pass
        return raised.value


def _status(status: int, retry_after_s: float | None = None) -> UpstreamError:
    return UpstreamError("x", upstream_status=status, status=status, retry_after_s=retry_after_s)


async def test_a_primary_that_answers_is_the_only_one_asked() -> None:
    rig = Rig()
    b = rig.then("b")
    asked = exchange()
    assert await rig.answers(asked) == "a"
    assert (b.tries, rig.told, asked.decisions, rig.primary.left) == (0, [], [], [None])


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (UpstreamConnectError("x"), "connect"),
        (_status(429), "429"),
        (_status(529), "5xx"),
        (UpstreamError("HTML", upstream_status=502), "5xx"),
        (UpstreamTimeout("x", phase="first_token"), "first_token"),
        (UpstreamTimeout("x", phase="idle"), "idle_before_commit"),
        (UpstreamAccountError("x"), "account"),
        (TargetEjected("x"), "ejected"),
        (TargetBusy("x"), "busy"),
        (BudgetExceeded("x", limit="l", retry_after_s=1.0), "over_budget"),
        (refusal(400, "context_length_exceeded"), "context_overflow"),
        (refusal(400, "content_filter"), "content_filter"),
    ],
)
async def test_a_primary_that_cannot_answer_is_replaced(outcome: Outcome, reason: str) -> None:
    """F14, F26, F37, F42, F43: an error that came as the first event fails before the reply begins, too."""
    rig = Rig(outcome)
    b = rig.then("b")
    asked = exchange()
    assert await rig.answers(asked) == "b"
    assert (b.tries, rig.told) == (1, [("a", "b", reason)])
    assert [(each.step, each.detail) for each in asked.decisions] == [("fallback", f"b instead of a: {reason}")]
    assert rig.primary.open == b.open == 0
    assert len(rig.primary.left) == len(b.left) == 1


async def test_each_step_has_its_own_reasons() -> None:
    when: frozenset[Condition] = frozenset({"context_overflow", "content_filter"})
    rig = Rig(refusal(400, "context_length_exceeded"))
    b, small = rig.then("b", when=frozenset({"5xx"})), rig.then("small", when=when)
    assert await rig.answers() == "small"
    assert (b.tries, small.tries) == (0, 1)


async def test_the_failure_of_a_step_is_the_reason_for_the_next() -> None:
    rig = Rig(_status(500))
    rig.then("b", refusal(400, "context_length_exceeded"), when=frozenset({"5xx"}))
    rig.then("c", when=frozenset({"5xx"}))
    large = rig.then("large", when=frozenset({"context_overflow"}))
    assert await rig.answers() == "large"
    assert large.tries == 1
    assert rig.told == [("a", "b", "5xx"), ("b", "large", "context_overflow")]


async def test_a_refusal_that_nobody_replaces_is_the_answer() -> None:
    """F36: a caller's own mistake is told as it is; its scope stays open while it is read."""
    for outcome in (refusal(400, "unsupported_parameter"), refusal(400, "content_filter")):
        rig = Rig(outcome)
        rig.then("b", when=frozenset({"5xx"}))
        async with rig.handler(exchange()) as reply:
            assert reply is outcome
            assert rig.primary.open == 1
        assert rig.primary.open == 0


async def test_when_nobody_answers_the_client_gets_the_primarys_failure() -> None:
    first = _status(500)
    rig = Rig(first)
    rig.then("b", _status(429))
    rig.then("c", UpstreamConnectError("x"))
    asked = exchange()
    assert await rig.fails(asked) is first
    assert asked.target == "a"
    assert [attempt.target for attempt in asked.attempts] == ["a", "b", "c"]
    assert rig.told == [("a", "b", "5xx"), ("b", "c", "429")]


async def test_a_client_is_not_to_multiply_tries_that_were_all_in_vain() -> None:
    """F30; but a wait that the provider asked for is passed on, for the client to come back (F27)."""
    rig = Rig(_status(500))
    rig.then("b", _status(500))
    assert (await rig.fails()).retried
    rig = Rig(_status(429, 2.0))
    rig.then("b", _status(429, 2.0))
    error = await rig.fails()
    assert (error.retried, error.retry_after_s) == (False, 2.0)


async def test_when_nobody_answers_the_primarys_refusal_is_given_out_of_its_scope() -> None:
    outcome = refusal(400, "content_filter")
    rig = Rig(outcome)
    rig.then("b", refusal(400, "content_filter"))
    rig.then("c", _status(500))
    asked = exchange()
    async with rig.handler(asked) as reply:
        assert reply is outcome
        assert rig.primary.open == 0
        assert asked.target == "a"
    assert rig.primary.left == [None]


async def test_a_target_that_was_tried_is_not_tried_again() -> None:
    """F44: a to b to a."""
    rig = Rig(_status(500))
    b = rig.then("b", _status(500))
    again = rig.then("a")
    twice = rig.then("b")
    await rig.fails()
    assert (b.tries, again.tries, twice.tries) == (1, 0, 0)


async def test_no_step_begins_after_the_deadline_for_all() -> None:
    """F44."""
    rig = Rig(_status(500))
    b = rig.then("b")
    rig.clock.advance(60.0)
    await rig.fails()
    assert b.tries == 0


async def test_no_step_begins_after_the_clients_deadline() -> None:
    rig = Rig(_status(500))
    b = rig.then("b")
    rig.clock.advance(2.0)
    await rig.fails(exchange(client_deadline_s=1001.0))
    assert b.tries == 0


@pytest.mark.parametrize(
    "error", [DeadlineExceeded("x"), UpstreamTimeout("x", phase="total"), ShuttingDown("x", retry_after_s=1.0)]
)
async def test_the_end_of_the_time_is_told_as_it_is(error: GatewayError) -> None:
    rig = Rig(error)
    b = rig.then("b")
    assert await rig.fails() is error
    rig = Rig(_status(500))
    b = rig.then("b", error)
    c = rig.then("c")
    assert await rig.fails() is error
    assert (b.tries, c.tries) == (1, 0)


async def test_a_step_that_cannot_serve_such_a_request_is_passed_over() -> None:
    rig = Rig(_status(500))
    rig.then("b", InvalidRequest("dialect"))
    c = rig.then("c")
    assert await rig.answers() == "c"
    assert c.tries == 1


async def test_nothing_is_replaced_once_the_reply_has_begun() -> None:
    """F25."""
    rig = Rig()
    b = rig.then("b")
    cut = UpstreamTruncated("x")
    with pytest.raises(UpstreamTruncated):
        async with rig.handler(exchange()):
            raise cut
    assert (b.tries, rig.primary.left) == (0, [cut])


async def test_what_ends_the_reply_of_a_step_reaches_its_scope() -> None:
    rig = Rig(_status(500))
    b = rig.then("b", ok())
    cut = UpstreamTruncated("x")
    with pytest.raises(UpstreamTruncated):
        async with rig.handler(exchange()):
            raise cut
    assert b.left == [cut]


async def test_a_pinned_request_stays_where_it_is() -> None:
    rig = Rig(_status(500))
    b = rig.then("b")
    await rig.fails(exchange(pinned_target="a"))
    assert b.tries == 0


async def test_a_body_that_came_as_a_stream_stays_with_who_may_have_read_of_it() -> None:
    """F31."""
    rig = Rig(UpstreamConnectError("x"))
    b = rig.then("b")
    await rig.fails(exchange(request(body_stream=events_of(b"x"))))
    assert b.tries == 0


async def test_a_body_that_nobody_has_read_of_may_go_elsewhere() -> None:
    rig = Rig(TargetEjected("x"), attempted=False)
    rig.then("b", TargetBusy("x"), attempted=False)
    c = rig.then("c", _status(500))
    d = rig.then("d")
    asked = exchange(request(body_stream=events_of(b"x")))
    assert isinstance(await rig.fails(asked), TargetEjected)
    assert (c.tries, d.tries) == (1, 0)
    assert rig.told[0] == ("a", "b", "ejected")


async def test_a_primary_that_is_out_is_not_asked_while_others_answer() -> None:
    rig = Rig(available=lambda: False)
    rig.then("b")
    assert await rig.answers() == "b"
    assert (rig.primary.tries, rig.told) == (0, [("a", "b", "ejected")])


async def test_a_primary_that_is_out_is_asked_last() -> None:
    """It may be starting slowly; and if not, its own error says what is wrong."""
    rig = Rig(available=lambda: False)
    rig.then("b", _status(500))
    assert await rig.answers() == "a"
    assert rig.told == [("a", "b", "ejected"), ("b", "a", "5xx")]
    ejected = TargetEjected("x")
    rig = Rig(ejected, available=lambda: False)
    rig.then("b", _status(500))
    assert await rig.fails() is ejected


async def test_a_primary_that_is_out_is_asked_where_no_step_is_for_that() -> None:
    rig = Rig(available=lambda: False)
    b = rig.then("b", when=frozenset({"5xx"}))
    assert await rig.answers() == "a"
    assert b.tries == 0


async def test_a_step_that_is_out_is_passed_over_unless_all_are() -> None:
    rig = Rig(_status(500))
    b = rig.then("b", available=lambda: False)
    rig.then("c")
    assert await rig.answers() == "c"
    assert b.tries == 0
    rig = Rig(_status(500))
    rig.then("b", available=lambda: False)
    assert await rig.answers() == "b"
