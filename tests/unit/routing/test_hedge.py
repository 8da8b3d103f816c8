"""A second request when the first one takes unusually long."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.core.errors import UpstreamConnectError, UpstreamError, UpstreamTruncated
from gateway.core.exchange import Exchange, Reply, RequestHead
from gateway.routing.hedge import Hedge, HedgeSettings
from tests.fakes import FakeClock, events_of, exchange, request
from tests.unit.policies.scripted import Outcome, Scripted, ok, refusal

pytestmark = pytest.mark.anyio


class Rig:
    """A hedge between `a` and `b`, after no time at all."""

    def __init__(self, a: Outcome, b: Outcome, *, after_s: float | None = 0.0, max_share: float = 1.0) -> None:
        self.a = Scripted(a, target="a")
        self.b = Scripted(b, target="b")
        self.clock = FakeClock()
        self.won: list[bool] = []
        self.hedge = Hedge(self.a, {"b": self.b}, HedgeSettings(after_s, max_share), self.clock, self.won.append)

    async def ask(self, asked: Exchange | None = None) -> str | None:
        """The target that answers."""
        asked = asked or exchange()
        async with self.hedge(asked) as reply:
            assert reply.status == 200
            assert self.a.open + self.b.open == 1
            assert asked.target is not None
        assert self.a.open + self.b.open == 0
        return asked.target


def _soon(call: Callable[[], None], turns: int = 20) -> None:
    """Call it some turns of the loop later: the time of a request, without its seconds."""
    loop = asyncio.get_running_loop()
    if turns:
        loop.call_soon(_soon, call, turns - 1)
    else:
        call()


def _never() -> asyncio.Event:
    return asyncio.Event()


async def test_the_second_one_wins_when_the_first_is_slow() -> None:
    rig = Rig(_never(), ok())
    asked = exchange()
    assert await rig.ask(asked) == "b"
    assert rig.won == [True]
    assert isinstance(rig.a.left[0], asyncio.CancelledError)
    assert [(each.number, each.target) for each in asked.attempts] == [(1, "a"), (2, "b")]
    assert [each.detail for each in asked.decisions] == [
        "no answer after 0.000 s: a second request is sent",
        "b answered first",
    ]


async def test_the_first_one_wins_when_it_comes_before_the_second() -> None:
    answer = asyncio.Event()
    rig = Rig(answer, _never())
    asked = exchange()
    _soon(answer.set)
    assert await rig.ask(asked) == "a"
    assert rig.won == [False]
    assert isinstance(rig.b.left[0], asyncio.CancelledError)
    # The last attempt is the one whose reply it is.
    assert [(each.number, each.target) for each in asked.attempts] == [(1, "b"), (2, "a")]


async def test_an_answer_in_time_needs_no_second_request() -> None:
    rig = Rig(ok(), ok(), after_s=60.0)
    asked = exchange()
    assert await rig.ask(asked) == "a"
    assert (rig.b.tries, rig.won, asked.decisions) == (0, [], [])


async def test_a_failure_in_time_is_for_the_fallback() -> None:
    fault = UpstreamConnectError("x")
    rig = Rig(fault, ok(), after_s=60.0)
    with pytest.raises(UpstreamConnectError):
        await rig.ask()
    assert (rig.b.tries, rig.a.left) == (0, [fault])


async def test_they_share_no_exchange_and_what_the_winner_wrote_is_kept() -> None:
    rig = Rig(_never(), ok())
    asked = exchange()

    def write(other: Exchange) -> None:
        other.model_served = "served by b"
        other.response_id = "resp-b"
        other.finish_reasons = ["stop"]
        other.usage.output_tokens = 7
        other.decide("late", "written while the scope was left")

    rig.b.on_leave = write
    await rig.ask(asked)
    assert rig.a.exchanges[0] is asked
    assert rig.b.exchanges[0] is not asked
    assert (asked.model_served, asked.response_id, asked.finish_reasons) == ("served by b", "resp-b", ["stop"])
    assert asked.usage.output_tokens == 7
    assert asked.decisions[-1].step == "late"


async def test_the_loser_is_billed() -> None:
    rig = Rig(_never(), ok())
    asked = exchange()

    def bill(nusd: int | None) -> Callable[[Exchange], None]:
        def write(other: Exchange) -> None:
            other.cost_nusd = nusd
            other.attempts[-1].cost_nusd = nusd

        return write

    rig.a.on_leave = bill(300)
    rig.b.on_leave = bill(1000)
    await rig.ask(asked)
    assert asked.cost_nusd == 1300
    rig.a.on_leave = bill(None)
    asked = exchange()
    await rig.ask(asked)
    assert asked.cost_nusd is None


async def test_waits_side_by_side_sum_up_to_the_time_that_passed() -> None:
    rig = Rig(_never(), _never())
    asked = exchange()
    answer = rig.b.next_outcome()
    assert isinstance(answer, asyncio.Event)
    rig.b.tries = 0

    def begin() -> None:
        rig.clock.advance(2.0)
        rig.a.exchanges[0].attempts[0].waited_s = 2.0
        answer.set()

    _soon(begin)
    await rig.ask(asked)
    assert asked.waited_s == 2.0


async def test_a_second_one_that_fails_leaves_the_first_its_time() -> None:
    for outcome in (UpstreamConnectError("x"), refusal(400, "x")):
        answer = asyncio.Event()
        rig = Rig(answer, outcome)
        _soon(answer.set)
        assert await rig.ask() == "a"
        assert (rig.b.tries, rig.won) == (1, [False])


async def test_a_first_one_that_fails_leaves_the_second_its_time() -> None:
    failing, answer = asyncio.Event(), asyncio.Event()
    rig = Rig(ok(), answer)
    rig.hedge.primary = _Failing(failing)
    _soon(failing.set)
    _soon(answer.set, turns=40)
    assert await rig.ask() == "b"
    assert rig.won == [True]


class _Failing(Scripted):
    """Waits, and fails."""

    def __init__(self, until: asyncio.Event) -> None:
        super().__init__()
        self._until = until

    async def __aenter__(self) -> Reply:
        await self._until.wait()
        raise UpstreamError("first", upstream_status=500)

    async def __aexit__(self, *_: object) -> None:
        raise AssertionError("never entered")

    def __call__(self, exchange: Exchange) -> "_Failing":
        return self


async def test_when_both_fail_it_is_the_firsts_failure() -> None:
    failing = asyncio.Event()
    rig = Rig(ok(), UpstreamConnectError("second"))
    rig.hedge.primary = _Failing(failing)
    _soon(failing.set)
    with pytest.raises(UpstreamError, match="first"):
        await rig.ask()
    assert rig.won == [False]


async def test_a_client_that_leaves_ends_both() -> None:
    rig = Rig(_never(), _never())
    task = asyncio.ensure_future(rig.ask())
    while not rig.b.tries:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(rig.a.left[0], asyncio.CancelledError)
    assert isinstance(rig.b.left[0], asyncio.CancelledError)


async def test_a_client_that_leaves_amid_the_reply_ends_the_winner() -> None:
    rig = Rig(_never(), ok())
    streaming = asyncio.Event()

    async def serve() -> None:
        async with rig.hedge(exchange()):
            streaming.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(serve())
    await streaming.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(rig.b.left[0], asyncio.CancelledError)


async def test_a_fault_amid_the_reply_reaches_the_winners_scope() -> None:
    """F32: its breaker must hear of it."""
    rig = Rig(_never(), ok())
    cut = UpstreamTruncated("x")
    with pytest.raises(UpstreamTruncated) as raised:
        async with rig.hedge(exchange()):
            raise cut
    assert raised.value is cut
    assert rig.b.left == [cut]


async def test_what_the_winners_scope_makes_of_a_fault_is_what_is_told() -> None:
    class Mapping(Scripted):
        def end(self, exchange: Exchange, error: BaseException | None) -> None:
            if isinstance(error, UpstreamTruncated):
                raise UpstreamConnectError("mapped") from error

    rig = Rig(_never(), ok())
    rig.hedge.others = {"b": Mapping(target="b")}
    with pytest.raises(UpstreamConnectError, match="mapped"):
        async with rig.hedge(exchange()):
            raise UpstreamTruncated("x")


async def test_the_events_are_read_by_the_caller() -> None:
    rig = Rig(_never(), Reply(200, [], events=events_of(b"one", b"two")))
    async with rig.hedge(exchange()) as reply:
        assert isinstance(reply.events, AsyncIterator)
        assert [piece async for piece in reply.events] == [b"one", b"two"]


async def test_handlers_that_note_no_attempts_have_no_waits_to_share() -> None:
    rig = Rig(_never(), ok())
    rig.hedge.primary = Scripted(_never(), attempted=False)
    rig.hedge.others = {"b": Scripted(attempted=False)}
    asked = exchange()
    async with rig.hedge(asked):
        assert (asked.attempts, asked.waited_s) == ([], 0)


async def test_bugs_come_through() -> None:
    with pytest.raises(ValueError, match="bug"):
        await Rig(ValueError("bug"), ok(), after_s=60.0).ask()

    class Bug(Scripted):
        def end(self, exchange: Exchange, error: BaseException | None) -> None:
            raise ValueError("a bug while leaving")

    rig = Rig(ok(), ok(), after_s=60.0)
    rig.hedge.primary = Bug(target="a")
    with pytest.raises(ValueError, match="a bug while leaving"):
        async with rig.hedge(exchange()):
            pass


@pytest.mark.parametrize(
    "asked", [exchange(pinned_target="a"), exchange(request(body_stream=events_of(b"x")))], ids=["pinned", "upload"]
)
async def test_some_requests_are_sent_once(asked: Exchange) -> None:
    rig = Rig(ok(), ok())
    assert await rig.ask(asked) == "a"
    assert rig.b.tries == 0


async def test_second_requests_are_a_small_share() -> None:
    """A tenth, and ten more."""
    rig = Rig(ok(), ok(), max_share=0.1)
    rig.hedge.primary = _Slow()
    for _ in range(200):
        async with rig.hedge(exchange()):
            pass
    assert 20 <= len(rig.won) <= 31


class _Slow(Scripted):
    """Answers a few turns of the loop later."""

    async def __aenter__(self) -> Reply:
        for _ in range(20):
            await asyncio.sleep(0)
        return ok()

    async def __aexit__(self, *_: object) -> None:
        pass

    def __call__(self, exchange: Exchange) -> "_Slow":
        return self


async def test_a_share_that_is_used_up_meanwhile_leaves_the_first_alone() -> None:
    answer = asyncio.Event()
    rig = Rig(answer, ok())
    asked = rig.hedge(exchange())
    while rig.hedge.launch(exchange()) is not None:
        pass
    _soon(answer.set)
    async with asked:
        assert rig.b.tries == 0


async def test_the_time_to_wait_is_learned_apart_for_streams() -> None:
    rig = Rig(ok(), ok(), after_s=None)
    for _ in range(60):
        assert await rig.ask() == "a"
    assert rig.b.tries == 0
    answer = asyncio.Event()
    rig.a._outcomes = (answer,)
    assert await rig.ask() == "b"
    _soon(answer.set)
    assert await rig.ask(exchange(request(head=RequestHead(stream=True)))) == "a"


async def test_the_target_that_is_waited_for_is_not_asked_twice() -> None:
    rig = Rig(_never(), ok())
    rig.hedge.others = {"a": rig.a, "b": rig.b}
    asked = exchange(target="a")
    assert rig.hedge.launch(asked) is rig.b
    rig.hedge.others = {"a": rig.a}
    assert rig.hedge.launch(asked) is None


async def test_whether_the_winners_reply_is_a_stored_one_is_kept() -> None:
    rig = Rig(_never(), ok())
    asked = exchange(cache="miss")

    def write(other: Exchange) -> None:
        other.cache = "hit"
        other.coalesced_s = 9.0

    rig.b.on_leave = write
    await rig.ask(asked)
    assert asked.cache == "hit"


async def test_what_was_not_asked_of_the_primary_says_nothing_of_its_time() -> None:
    """A learned moment of 0 s would hedge every request."""
    rig = Rig(ok(), ok(), after_s=None)
    for changes in ({"cache": "hit"}, {"cache": "semantic"}, {"coalesced_s": 1.0}) * 100:
        await rig.ask(exchange(**changes))
    assert rig.hedge._learned[False].value_s is None
    assert rig.b.tries == 0


async def test_waits_for_equal_requests_side_by_side_are_one_wait() -> None:
    rig = Rig(_never(), ok())
    rig.hedge.primary = Scripted(_never(), attempted=False)
    rig.hedge.others = {"b": Scripted(attempted=False)}
    asked = exchange(coalesced_s=5.0)
    async with rig.hedge(asked):
        assert asked.coalesced_s == 0.0, "no time has passed on this clock"
