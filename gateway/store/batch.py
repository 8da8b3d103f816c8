"""All that concurrent requests ask of Redis, as one question at a time.

Theory of operation. What is asked in one turn of the loop becomes one batch: one call of the script,
which does its operations in their order. While it is under way the next one gathers. Operations that
nobody waits for (settlements) ride along with the next batch, or go by themselves after 2 ms.

Batches are numbered. The script remembers the number of each client's last batch, and its answer; so a
batch can be sent again until it is answered, and is carried out once (F68). A batch whose answer does not
come in time ends the state `up` at once: those who wait for it, and for the next, are told
StoreUnavailable. What has to be delivered is kept; what was asked is forgotten, and what it may have
taken is released later.

Recovery: connect, with full jitter; send the unanswered batch again, under its number and without what
nobody waits for any more, so that a copy that is still on its way cannot be carried out later; release
what was taken for nobody; let the owner tell what it holds; deliver what has waited. Then up.

A script that finds another number than it expects has lost some of its memory: a restart without its
file, a replica that was behind. It refuses the batch; this client takes a new name and tells what it
knows, while the script gathers that from all clients before it decides or counts anything: whatever is
told is known from before the loss, so it can be told again when the memory is lost again.

A batch that was unanswered when the memory was lost may have been carried out, and be in what others tell
of the budgets. So it comes again with its doubts, and all tell whose batches they have heard of; see
lua/3_heard.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any

from msgspec import msgpack

from gateway.core.clock import Clock
from gateway.core.pipeline import spawn
from gateway.store.link import Unreachable
from gateway.store.packing import US_PER_S, Op
from gateway.store.waiting import (
    Asking,
    Doubtful,
    Doubts,
    Heard,
    Operation,
    Owner,
    Waiting,
    dismiss,
    in_doubt,
    lasting,
    still_held,
    unavailable,
)

logger = logging.getLogger(__name__)

MOST_IN_A_BATCH = 256
"""More would hold up the server, and everybody else on it, for too long."""
RIDE_S = 0.002
"""How long an operation that nobody waits for looks for a batch to ride with."""
HEARTBEAT_S = 1.0
"""An idle client asks nothing this often, so that an outage is noticed before a request meets it."""
CONNECT_S = 1.0
CLOSE_S = 1.5
FIRST_BACKOFF_S, MOST_BACKOFF_S = 0.1, 1.0
_LEAST_BACKOFF_S = 0.01
_MOST_DOUBLINGS = 10
_RELEASED_AT_ONCE = 200
# Where holds come fast, a batch waits until it is worth its round trip: a dozen of them, at most 2 ms.
_FAST_HOLDS_PER_S, _WORTH_HOLDS, _MOST_GAP_S = 3000.0, 12, 0.002
_APPLIED, _LOST, _GATHERS = 0, 1, 2
# An answer that took longer says too little about the server's clock.
_GOOD_TRIP_S = 0.02

_encode = msgpack.Encoder().encode
_decode = msgpack.Decoder().decode


class _Forgotten(Unreachable):
    """The script has lost its memory of this client."""


class Batcher:
    """Carries operations to the script, and knows whether it answers."""

    def __init__(self, link: Asking, lease_s: float, clock: Clock, rng: Random, owner: Owner) -> None:
        self._link = link
        self._lease_s = lease_s
        self._clock = clock
        self._rng = rng
        self._owner = owner
        self.is_up = False
        self.operations = 0
        """Operations that were carried out."""
        self.last_error = ""
        self.offset_s: float | None = None
        """The server's clock minus this process's; None until it has been heard."""
        self.since_s = clock.wall()
        """Unix seconds of the last change of `is_up`."""
        self._down_s = clock.monotonic()
        self._degraded_s = 0.0
        self._client = self._new_name()
        self._number = 0
        self._has_lost = False
        self._heard = Heard()
        self._queue: list[Waiting] = []
        self._under_way = 0
        self._unanswered: Doubtful | None = None
        self._doubtful: list[Doubtful] = []
        self._orphans: list[str] = []
        self._is_urgent = False
        self._bell: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._sent_s = 0.0
        self._holds_per_s = 0.0
        self._closing = asyncio.Event()
        self._tried = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop

    @property
    def degraded_s(self) -> float:
        """Seconds without the store, since the beginning."""
        return self._degraded_s + (0.0 if self.is_up else self._clock.monotonic() - self._down_s)

    @property
    def waiting(self) -> int:
        """Operations that are not yet answered."""
        doubtful = self._doubtful if self._unanswered is None else [self._unanswered, *self._doubtful]
        return len(self._queue) + self._under_way + sum(len(each.batch) for each in doubtful)

    def ask(self, operation: Operation, hold_id: str = "") -> asyncio.Future[Any]:
        """The answer. Raises StoreUnavailable at once when the store is gone, or by the future when it goes."""
        if not self.is_up:
            raise unavailable()
        future = self._loop.create_future()
        self._queue.append(Waiting(operation, future, hold_id, False))
        self._is_urgent = True
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)
        return future

    def tell(self, operation: Operation) -> None:
        """Deliver it, now or when the store is back; before whatever is asked later."""
        self._queue.append(Waiting(operation, None, "", True))
        self.nudge()

    def nudge(self) -> None:
        """Send a batch soon: there is something to collect."""
        if self._bell is not None and self._timer is None and not self._bell.done():
            self._timer = self._loop.call_later(RIDE_S, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    async def start(self) -> None:
        """Begin. Returns after the first attempt to reach the store, whatever came of it."""
        self._loop = asyncio.get_running_loop()
        self._down_s = self._clock.monotonic()
        self._work = spawn(self._run(), "redis-batches")
        await self._tried.wait()

    async def aclose(self) -> None:
        """Deliver what is left, within 1.5 s, and close."""
        self._closing.set()
        self._ring()
        if self._work is not None:
            done, _ = await asyncio.wait((self._work,), timeout=CLOSE_S)
            if not done:
                self._work.cancel()
                await asyncio.wait((self._work,))
        if self.waiting:
            logger.error("the store was away to the end: %d settlements could not be delivered", self.waiting)
        await self._link.aclose()

    async def _run(self) -> None:
        try:
            while True:
                if not self.is_up:
                    await self._recover()
                if not self.is_up or (self._closing.is_set() and not self._queue and not self._owner.owed):
                    return
                try:
                    await self._gather()
                    await self._trade(self._take())
                except Unreachable as fault:
                    self._go_down(str(fault))
        finally:
            # Also when this ends by a fault of its own: nobody must wait for ever.
            self._go_down(self.last_error or "closed")
            self._tried.set()

    async def _gather(self) -> None:
        if not self._is_urgent and not self._closing.is_set():
            self._bell = self._loop.create_future()
            delay_s = RIDE_S if self._queue or self._owner.owed else min(HEARTBEAT_S, self._lease_s / 6)
            heartbeat = self._loop.call_later(delay_s, self._ring)
            try:
                await self._bell
            finally:
                heartbeat.cancel()
                if self._timer is not None:
                    self._timer.cancel()
                self._bell = self._timer = None
        if self._holds_per_s > _FAST_HOLDS_PER_S and len(self._queue) < _WORTH_HOLDS:
            gap_s = min(_WORTH_HOLDS / self._holds_per_s, _MOST_GAP_S)
            wait_s = self._sent_s + gap_s - self._loop.time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)

    def _take(self) -> list[Waiting]:
        batch = [Waiting(operation, None, "", True) for operation in self._owner.collect()]
        batch += self._queue[:MOST_IN_A_BATCH]
        del self._queue[:MOST_IN_A_BATCH]
        self._is_urgent = bool(self._queue)
        return batch

    async def _trade(
        self, batch: list[Waiting], doubts: Doubts = (), *, recovers: bool = False, is_again: bool = False
    ) -> float:
        """Carry out a batch; seconds for which the script still gathers. Raises Unreachable."""
        if not is_again:
            self._number += 1
        question = _encode(
            (
                *(self._client, self._number, round(self._lease_s * US_PER_S), recovers),
                *(self._has_lost and self._number == 1, self._heard.tick, doubts),
                [waiting.operation for waiting in batch],
            )
        )
        self._measure(batch)
        self._under_way = 0 if is_again else len(batch)
        wall_s = self._clock.wall()
        try:
            answer = await self._link.ask(question)
        except BaseException:
            self._keep(batch, doubts, recovers)
            raise
        finally:
            self._under_way = 0
        trip_s = self._clock.wall() - wall_s
        status, now_us, gathers_us, answers, crossings, budgets, tick, since, news = _decode(answer)
        if self.offset_s is None or 0 <= trip_s <= _GOOD_TRIP_S:
            self.offset_s = now_us / US_PER_S - wall_s - trip_s / 2
        if status == _LOST:
            self._forgotten(batch, doubts, recovers)
            raise _Forgotten("the store has lost its memory")
        if status != _APPLIED:
            self._put_off(batch, doubts, is_again)
            raise Unreachable("the store is gathering what it has lost")
        self._unanswered = None
        self.operations += len(batch)
        self._heard.learn(tick, news)
        # What comes again is what nobody waits for; the answer may be the one to the batch as it first was.
        if not is_again:
            self._hand_out(batch, answers)
        # While the store gathers, what is known from before is nearer to the truth.
        self._owner.learn(crossings, () if gathers_us else budgets, (tick, since))
        return float(gathers_us) / US_PER_S

    def _measure(self, batch: Sequence[Waiting]) -> None:
        now_s = self._loop.time()
        holds = sum(1 for waiting in batch if waiting.hold_id)
        self._holds_per_s += (holds / max(now_s - self._sent_s, 1e-4) - self._holds_per_s) / 4
        self._sent_s = now_s

    def _hand_out(self, batch: Sequence[Waiting], answers: Sequence[Any]) -> None:
        # An answer that was too long to be remembered comes without its parts when it comes again.
        missing: list[Any] = [{"err": "the answer was lost"}] * (len(batch) - len(answers))
        for waiting, answer in zip(batch, [*answers, *missing], strict=True):
            future = waiting.future
            is_fault = isinstance(answer, dict)
            if is_fault and not missing:
                logger.error("the store could not do an operation: %s", answer["err"])
            if future is None:
                continue
            if future.done():
                # Whoever asked is gone, and what was granted is nobody's.
                if waiting.hold_id:
                    self.tell((Op.RELEASE, [waiting.hold_id]))
            elif is_fault:
                if waiting.hold_id:
                    self.tell((Op.RELEASE, [waiting.hold_id]))
                future.set_exception(unavailable())
            else:
                future.set_result(answer)

    def _keep(self, batch: Sequence[Waiting], doubts: Doubts, recovers: bool) -> None:
        """The batch is unanswered: keep what must be delivered, and remember what it may have taken."""
        self._unanswered = in_doubt(batch, doubts, (self._client, self._heard.tick), recovers)
        self._orphans += [waiting.hold_id for waiting in batch if waiting.hold_id]
        dismiss(batch)

    def _forgotten(self, batch: Sequence[Waiting], doubts: Doubts, recovers: bool) -> None:
        """The memory is lost: the batch is not in what is left of it, but may have been in what is gone."""
        self._doubtful.insert(0, in_doubt(batch, doubts, (self._client, self._heard.tick), recovers))
        dismiss(batch)
        self._unanswered = None
        self._client, self._number, self._has_lost = self._new_name(), 0, True

    def _put_off(self, batch: list[Waiting], doubts: Doubts, is_again: bool) -> None:
        """The store gathers, and has not carried out the batch."""
        if is_again:
            return
        self._number -= 1
        if doubts:
            self._doubtful.insert(0, Doubtful(batch, doubts, recovers=False))
            return
        self._queue[:0] = lasting(batch)
        dismiss(batch)

    def _go_down(self, reason: str) -> None:
        self.last_error = reason
        dismiss(self._queue)
        self._queue = lasting(self._queue)
        if self.is_up:
            self.is_up = False
            self.since_s = self._clock.wall()
            self._down_s = self._clock.monotonic()
            if not self._closing.is_set():
                logger.warning("the shared store is gone: %s", reason)

    async def _recover(self) -> None:
        attempt = 0
        while not self.is_up:
            try:
                await self._link.connect(CONNECT_S)
                await self._catch_up()
            except Unreachable as fault:
                self.last_error = str(fault)
                # What the owner has told will be told anew.
                self._queue = lasting(self._queue)
                self._tried.set()
                if self._closing.is_set():
                    return
                most_s = min(MOST_BACKOFF_S, FIRST_BACKOFF_S * 2**attempt)
                attempt = min(attempt + 1, _MOST_DOUBLINGS)
                await self._pause(max(_LEAST_BACKOFF_S, self._rng.uniform(0.0, most_s)))
        self._tried.set()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    async def _catch_up(self) -> None:
        again = self._unanswered
        if again is not None:
            try:
                await self._trade(again.batch, again.doubts, recovers=again.recovers, is_again=True)
            except _Forgotten as fault:
                # Not after a pause: the others may be telling already.
                self.last_error = str(fault)
        await self._tell_all()
        while self._doubtful:
            doubtful = self._doubtful.pop(0)
            if doubtful.batch:
                await self._trade(doubtful.batch, doubtful.doubts)
        while True:
            await self._trade(self._take())
            if len(self._queue) + self._owner.owed < MOST_IN_A_BATCH:
                break
        # From here to the end nothing else runs: what is granted from now on comes after what was granted meanwhile.
        self._queue[:0] = [Waiting(operation, None, "", False) for operation in self._owner.rejoin(False, False)]
        self._has_lost = False
        self.is_up = True
        self._is_urgent = bool(self._queue)
        self._degraded_s += self._clock.monotonic() - self._down_s
        self.since_s = self._clock.wall()
        logger.info("the shared store answers")

    async def _tell_all(self) -> None:
        """Tell what is held and known, and wait until the store has gathered that from all."""
        told: list[Operation] = []
        while self._orphans:
            told.append((Op.RELEASE, self._orphans[-_RELEASED_AT_ONCE:]))
            del self._orphans[-_RELEASED_AT_ONCE:]
        if self._has_lost:
            told.append((Op.HEAR, self._heard.told()))
        told += self._owner.rejoin(True, self._has_lost)
        if self._has_lost:
            told += still_held(waiting for doubtful in self._doubtful for waiting in doubtful.batch)
            told += still_held(self._queue)
        while True:
            some = [Waiting(operation, None, "", operation[0] == Op.RELEASE) for operation in told[:MOST_IN_A_BATCH]]
            del told[:MOST_IN_A_BATCH]
            gathers_s = await self._trade(some, recovers=True)
            if not (told or gathers_s):
                return
            if not told:
                self._tried.set()
                await self._pause(gathers_s)
                if self._closing.is_set():
                    raise Unreachable("closed while the store gathers")

    def _new_name(self) -> str:
        return f"{self._rng.getrandbits(64):016x}"
