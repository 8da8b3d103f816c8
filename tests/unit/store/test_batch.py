"""Batches: one under way at a time, carried out once, and what becomes of them when nobody answers."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec import msgpack

from gateway.core.errors import StoreUnavailable
from gateway.store.batch import MOST_IN_A_BATCH, Batcher
from gateway.store.link import Unreachable
from gateway.store.packing import Op
from gateway.store.waiting import Mark, Operation
from tests.fakes import FakeClock
from tests.unit.store.redis_bench import until

pytestmark = pytest.mark.anyio

APPLIED, LOST, GATHERS = 0, 1, 2


@dataclass(slots=True)
class FakeScript:
    """A link to a script that numbers batches as the real one does, and fails when it is told to."""

    is_away: bool = False
    """No answer to anything; nothing is carried out."""
    misses: int = 0
    """Questions that are lost on their way."""
    loses: int = 0
    """Answers that are lost after the batch was carried out."""
    loses_with: Any = None
    """The operation whose batch is carried out and not answered; the next one finds that the memory is lost."""
    puts_off: Any = None
    """The operation of a batch with doubts that is told once to wait, for others are telling."""
    statuses: list[int] = field(default_factory=list)
    """What the next batches are answered instead of being carried out."""
    news: list[str] = field(default_factory=list)
    """Who else has been here, and when."""
    gathers_us: list[int] = field(default_factory=list)
    remembers: bool = True
    """Whether the answers of a batch that comes again are still known."""
    open: asyncio.Event = field(default_factory=asyncio.Event)
    batches: list[tuple[str, int, bool, bool, list[Any]]] = field(default_factory=list)
    """Client, number, whether it recovers, whether it has lost, operations: of what was carried out."""
    ticks: list[int] = field(default_factory=list)
    """The ticks that these batches had heard of."""
    doubts: list[list[Any]] = field(default_factory=list)
    """Their doubts."""
    asked: int = 0
    most_at_once: int = 0
    connects: int = 0
    fault: str = ""
    _at_once: int = 0
    _answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.open.set()

    @property
    def operations(self) -> list[Any]:
        """All that were carried out, in their order."""
        return [operation for batch in self.batches for operation in batch[4]]

    async def connect(self, within_s: float) -> None:
        self.connects += 1
        await asyncio.sleep(0)
        if self.is_away:
            raise Unreachable("away")

    async def ask(self, question: bytes) -> bytes:
        self.asked += 1
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(0)
            await self.open.wait()
        finally:
            self._at_once -= 1
        if self.is_away or self.misses:
            self.misses -= not self.is_away
            raise Unreachable("away")
        answer = self._apply(*msgpack.decode(question))
        if self.loses:
            self.loses -= 1
            raise Unreachable("cut")
        if self.loses_with is not None and [self.loses_with] == self.batches[-1][4]:
            self.loses_with = None
            self._answers.clear()
            self.statuses = [LOST]
            raise Unreachable("cut")
        return answer

    def _apply(
        self, client: str, number: int, _: int, recovers: bool, has_lost: bool, tick: int, doubts: Any, operations: Any
    ) -> bytes:
        last, known = self._answers.get(client, (0, b""))
        if number == last:
            return known
        if self.statuses:
            return msgpack.encode((self.statuses.pop(0), 5_000_000, 10_000, [], [], [], 0, 0, []))
        if doubts and operations == [self.puts_off]:
            self.puts_off = None
            return msgpack.encode((GATHERS, 5_000_000, 10_000, [], [], [], 0, 0, []))
        assert number == last + 1
        self.batches.append((client, number, recovers, has_lost, operations))
        self.ticks.append(tick)
        self.doubts.append(doubts)
        answers = [{"err": self.fault} if self.fault else operation[0] for operation in operations]
        gathers_us = self.gathers_us.pop(0) if self.gathers_us else 0
        rest = ([["b", 1]], [["b", 2]], len(self.batches), 0, self.news)
        answer = msgpack.encode((APPLIED, 5_000_000, gathers_us, answers, *rest))
        kept = answer if self.remembers else msgpack.encode((APPLIED, 5_000_000, gathers_us, [], [], [], *rest[2:]))
        self._answers[client] = (number, kept)
        return answer

    async def aclose(self) -> None:
        self.is_away = True


@dataclass(slots=True)
class FakeOwner:
    """Owes what a test puts here."""

    debts: list[Operation] = field(default_factory=list)
    all_held: list[Operation] = field(default_factory=list)
    new_held: list[Operation] = field(default_factory=list)
    lost: list[bool] = field(default_factory=list)
    learned: list[tuple[Sequence[Any], Sequence[Any], Mark]] = field(default_factory=list)

    @property
    def owed(self) -> int:
        return len(self.debts)

    def collect(self) -> list[Operation]:
        some, self.debts = self.debts[:10], self.debts[10:]
        return some

    def rejoin(self, is_first: bool, has_lost: bool) -> list[Operation]:
        if is_first:
            self.lost.append(has_lost)
        return list(self.all_held if is_first else self.new_held)

    def learn(self, crossings: Sequence[Any], budgets: Sequence[Any], mark: Mark) -> None:
        self.learned.append((crossings, budgets, mark))


@dataclass(slots=True)
class Desk:
    """A batcher with everything around it."""

    script: FakeScript = field(default_factory=FakeScript)
    owner: FakeOwner = field(default_factory=FakeOwner)
    clock: FakeClock = field(default_factory=FakeClock)
    batcher: Batcher = field(init=False)

    def __post_init__(self) -> None:
        self.batcher = Batcher(self.script, 60.0, self.clock, random.Random(5), self.owner)

    async def is_up(self) -> None:
        await until(lambda: self.batcher.is_up)

    async def is_down(self) -> None:
        await until(lambda: not self.batcher.is_up)

    async def delivered(self) -> None:
        await until(lambda: not self.batcher.waiting and not self.owner.owed)


@asynccontextmanager
async def started(desk: Desk) -> AsyncIterator[Desk]:
    """Running, and closed afterwards."""
    await desk.batcher.start()
    try:
        yield desk
    finally:
        await desk.batcher.aclose()


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with started(Desk()) as desk:
        yield desk


async def test_what_is_asked_in_one_turn_is_one_question(desk: Desk) -> None:
    before = desk.script.asked
    answers = await asyncio.gather(*[desk.batcher.ask((number,)) for number in range(100)])
    assert answers == list(range(100))
    assert desk.script.asked == before + 1


async def test_one_batch_is_under_way_while_the_next_gathers(desk: Desk) -> None:
    desk.script.open.clear()
    before = len(desk.script.batches)
    futures = []
    for number in range(30):
        futures.append(desk.batcher.ask((number,)))
        await asyncio.sleep(0)
    desk.script.open.set()
    assert await asyncio.gather(*futures) == list(range(30))
    assert desk.script.most_at_once == 1
    assert len(desk.script.batches) - before == 2


async def test_a_batch_is_bounded(desk: Desk) -> None:
    await asyncio.gather(*[desk.batcher.ask((1,)) for _ in range(MOST_IN_A_BATCH * 2 + 1)])
    assert max(len(batch[4]) for batch in desk.script.batches) == MOST_IN_A_BATCH


async def test_what_nobody_waits_for_goes_soon_and_before_what_comes_later(desk: Desk) -> None:
    desk.batcher.tell((7,))
    await desk.delivered()
    assert desk.script.operations == [[7]]
    desk.batcher.tell((8,))
    assert await desk.batcher.ask((9,)) == 9
    assert desk.script.operations == [[7], [8], [9]]
    assert desk.script.batches[-1][4] == [[8], [9]]


async def test_what_is_summed_up_goes_first(desk: Desk) -> None:
    desk.owner.debts = [(n,) for n in range(25)]
    desk.batcher.nudge()
    await desk.delivered()
    assert desk.script.operations == [[n] for n in range(25)]
    assert desk.owner.learned[-1] == ([["b", 1]], [["b", 2]], (len(desk.script.batches), 0))
    assert desk.batcher.operations >= 25


async def test_the_servers_clock_is_learned(desk: Desk) -> None:
    assert desk.batcher.offset_s == 5.0 - desk.clock.wall()


async def test_an_unanswered_batch_ends_it_for_all_who_wait(desk: Desk) -> None:
    """F66."""
    desk.script.open.clear()
    first = [desk.batcher.ask((1,)) for _ in range(3)]
    await asyncio.sleep(0.01)
    second = [desk.batcher.ask((2,)) for _ in range(3)]
    desk.script.is_away = True
    desk.script.open.set()
    for future in (*first, *second):
        with pytest.raises(StoreUnavailable):
            await future
    with pytest.raises(StoreUnavailable) as caught:
        desk.batcher.ask((3,))
    assert caught.value.retry_after_s == 1.0
    assert desk.batcher.last_error == "away"
    desk.clock.advance(3.0)
    assert desk.batcher.degraded_s == 3.0
    desk.script.is_away = False
    await desk.is_up()
    desk.clock.advance(3.0)
    assert desk.batcher.degraded_s == 3.0


async def test_what_must_be_delivered_is_delivered_once_though_its_answer_was_lost(desk: Desk) -> None:
    """F68: the batch comes again under its number, without those who no longer wait."""
    desk.script.loses = 1
    desk.batcher.tell((7,))
    hold = desk.batcher.ask((1,), "hold-1")
    with pytest.raises(StoreUnavailable):
        await hold
    desk.batcher.tell((8,))
    await desk.is_up()
    await desk.delivered()
    told = [operation for operation in desk.script.operations if operation[0] != 1]
    assert told == [[7], [Op.RELEASE, ["hold-1"]], [8]]


async def test_what_was_never_carried_out_is_carried_out_later_without_its_holds(desk: Desk) -> None:
    desk.script.open.clear()
    desk.batcher.tell((7,))
    hold = desk.batcher.ask((1,), "hold-1")
    await asyncio.sleep(0.01)
    desk.script.is_away = True
    desk.script.open.set()
    with pytest.raises(StoreUnavailable):
        await hold
    desk.script.is_away = False
    await desk.is_up()
    await desk.delivered()
    assert desk.script.operations == [[7], [Op.RELEASE, ["hold-1"]]]
    assert [batch[2] for batch in desk.script.batches] == [True, False, False, True, False]
    numbers = [batch[1] for batch in desk.script.batches]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_on_return_the_owner_speaks_before_anybody_is_heard(desk: Desk) -> None:
    desk.script.is_away = True
    with pytest.raises(StoreUnavailable):
        await desk.batcher.ask((1,))
    desk.owner.all_held = [(21,), (22,)]
    desk.owner.new_held = [(23,)]
    desk.batcher.tell((9,))
    before = len(desk.script.operations)
    desk.script.is_away = False
    await desk.is_up()
    assert await desk.batcher.ask((2,)) == 2
    assert desk.script.operations[before:] == [[21], [22], [9], [23], [2]]


async def test_what_the_owner_said_in_vain_is_not_piled_up(desk: Desk) -> None:
    desk.owner.all_held = [(21,)] * (2 * MOST_IN_A_BATCH)
    desk.script.is_away = True
    await desk.is_down()
    desk.script.is_away = False
    desk.script.statuses = [GATHERS] * 3
    await desk.is_up()
    assert len(desk.script.operations) <= 2 * MOST_IN_A_BATCH
    assert desk.batcher.waiting == 0


async def test_many_settlements_are_delivered_before_it_is_up(desk: Desk) -> None:
    desk.script.is_away = True
    await desk.is_down()
    for number in range(3 * MOST_IN_A_BATCH):
        desk.batcher.tell((number,))
    desk.script.is_away = False
    await desk.is_up()
    assert desk.batcher.waiting < MOST_IN_A_BATCH
    await desk.delivered()
    assert [operation[0] for operation in desk.script.operations] == list(range(3 * MOST_IN_A_BATCH))


async def test_a_script_without_memory_meets_a_client_with_a_new_name(desk: Desk) -> None:
    """F67."""
    name = desk.script.batches[0][0]
    desk.script.statuses = [LOST]
    desk.batcher.tell((7,))
    hold = desk.batcher.ask((1,), "hold-1")
    with pytest.raises(StoreUnavailable):
        await hold
    await desk.is_up()
    await desk.delivered()
    client, number, recovers, has_lost, operations = next(batch for batch in desk.script.batches if batch[0] != name)
    assert (number, recovers, has_lost) == (1, True, True)
    assert operations == [[Op.HEAR, []]]
    assert [batch[3] for batch in desk.script.batches if batch[0] == client] == [True, False, False]
    assert [7] in desk.script.operations
    assert desk.owner.lost == [False, True]
    assert "memory" in desk.batcher.last_error


async def test_what_comes_again_to_a_script_without_memory_comes_with_its_doubts(desk: Desk) -> None:
    """F67, F68: after all is told; and what it has held is held until then."""
    settlement = [Op.SETTLE, "hold-1", "claims", [7], 12]
    name, heard = desk.script.batches[-1][0], len(desk.script.batches)
    desk.script.news = ["other", "77"]
    await desk.batcher.ask((1,))
    desk.script.news = []
    desk.script.is_away = True
    desk.batcher.tell(tuple(settlement))
    await desk.is_down()
    desk.batcher.tell((8,))
    desk.script.statuses = [LOST]
    before = len(desk.script.batches)
    desk.script.gathers_us = [30_000, 0]
    desk.script.is_away = False
    await desk.is_up()
    assert [batch[2:] for batch in desk.script.batches[before:]] == [
        (True, True, [[Op.HEAR, ["other", "77"]], [Op.REGISTER, "hold-1", "claims", 12]]),
        (True, False, []),
        (False, False, [settlement]),
        (False, False, [[8]]),
    ]
    assert desk.script.doubts[before:] == [[], [], [[name, heard + 1]], []]
    assert desk.script.ticks[before:] == [before, *range(before + 1, before + 4)]


async def test_doubts_are_kept_until_there_is_an_answer(desk: Desk) -> None:
    """F67, F68: the memory is lost twice, each time before the answer."""
    name, heard = desk.script.batches[0][0], len(desk.script.batches)
    desk.script.statuses = [LOST]
    desk.script.loses_with = [7]
    desk.batcher.tell((7,))
    await until(lambda: desk.script.operations.count([7]) == 2)
    first, second = (at for at, batch in enumerate(desk.script.batches) if batch[4] == [[7]])
    assert desk.script.doubts[first] == [[name, heard]]
    assert desk.script.doubts[second] == [[name, heard], [desk.script.batches[first][0], first]]
    await desk.is_up()
    await desk.delivered()
    assert len({batch[0] for batch in desk.script.batches}) == 3


async def test_a_batch_with_doubts_keeps_them_while_the_script_gathers(desk: Desk) -> None:
    name, heard = desk.script.batches[0][0], len(desk.script.batches)
    desk.script.statuses = [LOST]
    desk.script.puts_off = [7]
    desk.batcher.tell((7,))
    await until(lambda: desk.script.puts_off is None)
    await desk.is_up()
    await desk.delivered()
    assert desk.script.operations.count([7]) == 1
    at = next(at for at, batch in enumerate(desk.script.batches) if [7] in batch[4])
    assert desk.script.doubts[at] == [[name, heard]]


async def test_an_unanswered_batch_waits_while_the_script_gathers(desk: Desk) -> None:
    """Others have lost something, and this client has not: its number stays."""
    desk.script.is_away = True
    desk.batcher.tell((7,))
    await desk.is_down()
    heard = len(desk.script.batches)
    desk.script.statuses = [GATHERS, GATHERS]
    desk.script.is_away = False
    await desk.is_up()
    assert desk.script.operations.count([7]) == 1
    assert desk.script.doubts[heard] == [[desk.script.batches[0][0], heard]]
    numbers = [batch[1] for batch in desk.script.batches]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_telling_goes_on_where_it_was_cut_short() -> None:
    """Else a script that gathers, and has not heard who lost what, would put everybody off for ever."""
    desk = Desk()
    desk.script.misses = 2
    async with started(desk):
        await desk.is_up()
        assert [batch[1:3] for batch in desk.script.batches] == [(1, True), (2, True), (3, False)]


async def test_what_is_known_from_before_is_not_forgotten_while_the_script_gathers(desk: Desk) -> None:
    desk.script.statuses = [LOST]
    desk.script.gathers_us = [10_000, 0]
    before = len(desk.owner.learned)
    desk.batcher.tell((7,))
    await until(lambda: len(desk.owner.learned) >= before + 2)
    assert [len(budgets) for _, budgets, _ in desk.owner.learned[before : before + 2]] == [0, 1]


async def test_while_the_script_gathers_nothing_is_decided(desk: Desk) -> None:
    desk.script.statuses = [GATHERS]
    desk.script.gathers_us = [30_000, 0]
    desk.batcher.tell((7,))
    with pytest.raises(StoreUnavailable):
        await desk.batcher.ask((1,), "hold-1")
    assert not desk.batcher.is_up
    await desk.is_up()
    await desk.delivered()
    # It was refused as a whole: there is nothing to release, and the number is used again.
    assert desk.script.operations == [[7]]


async def test_a_caller_who_left_is_released(desk: Desk) -> None:
    """F72."""
    desk.script.open.clear()
    gone, stays = desk.batcher.ask((1,), "hold-1"), desk.batcher.ask((2,), "hold-2")
    await asyncio.sleep(0)
    gone.cancel()
    desk.script.open.set()
    assert await stays == 2
    await desk.delivered()
    assert desk.script.operations == [[1], [2], [Op.RELEASE, ["hold-1"]]]


async def test_one_operation_that_fails_fails_alone(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.script.fault = "WRONGTYPE"
    desk.batcher.tell((7,))
    with pytest.raises(StoreUnavailable):
        await desk.batcher.ask((1,), "hold-1")
    assert desk.batcher.is_up
    assert "WRONGTYPE" in caplog.text


async def test_an_idle_client_is_heard_of(desk: Desk) -> None:
    async with started(Desk()) as other:
        other.batcher._lease_s = 0.06
        await other.batcher.ask((1,))
        before = other.script.asked
        await until(lambda: other.script.asked >= before + 3)
        other.script.is_away = True
        await other.is_down()
        assert not other.batcher.is_up


async def test_starting_without_a_store_ends_after_one_attempt() -> None:
    """F74."""
    desk = Desk()
    desk.script.is_away = True
    async with started(desk):
        assert not desk.batcher.is_up
        desk.batcher.tell((7,))
        desk.script.is_away = False
        await desk.is_up()
        await desk.delivered()
        assert desk.script.operations == [[7]]
        assert desk.script.connects >= 2


async def test_attempts_to_return_come_further_and_further_apart() -> None:
    """F71, F73: at most two seconds, and never in a tight loop."""
    desk = Desk()
    desk.script.is_away = True
    async with started(desk):
        await asyncio.sleep(0.5)
        assert 2 <= desk.script.connects <= 15


async def test_closing_delivers_what_is_left() -> None:
    desk = Desk()
    async with started(desk):
        for number in range(600):
            desk.batcher.tell((number,))
        desk.owner.debts = [(1000 + number,) for number in range(30)]
    assert len(desk.script.operations) == 630


async def test_closing_without_a_store_says_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.script.is_away = True
    async with started(desk):
        desk.batcher.tell((7,))
    assert "1 settlements could not be delivered" in caplog.text


async def test_closing_is_bounded_even_if_the_store_is_mute() -> None:
    desk = Desk()
    async with started(desk):
        desk.script.open.clear()
        asked = desk.batcher.ask((1,))
    with pytest.raises(StoreUnavailable):
        await asked
