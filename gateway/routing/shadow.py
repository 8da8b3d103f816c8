"""A sampled copy of requests to another target, for comparison; the client is never told, and never waits.

Theory of operation. The copy is sent when the client's own answer has begun, by a task of its own, so
neither can wait for the other. It is an exchange of its own: consumer `shadow` without tags, priority
low, its own id, deadline and admission, so no key's limits and no team's budget pay for it. Its reply
is read and thrown away. When both replies are over, whichever is later, they are compared; where
something measures how far their texts are apart, these are kept so long (see `likeness`), and a task
of its own has it measured, so neither the client nor the next copy waits for that.

The shadow does not follow its client: one that leaves cancels its own exchange, and the copy runs on,
or every impatient client would be one the candidate is never judged by. What bounds it is its own time
and size, and how many may run at once; at the end of a drain they are all cancelled.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from types import TracebackType

from gateway.core.clock import Clock
from gateway.core.clone import branch
from gateway.core.errors import GatewayError
from gateway.core.exchange import Consumer, Exchange, Reply
from gateway.core.pipeline import Handler, spawn
from gateway.routing.compare import Comparison, Result, Side, result_of, side_of
from gateway.routing.likeness import Heard, Likeness

SHADOW_CONSUMER = Consumer("shadow", priority="low")
"""Who pays for shadows: rules of the configuration can name it as any key."""

Record = Callable[[Comparison], None]
Hold = Callable[[], Callable[[], None]]
"""Keeps what the shadow's handler needs (connections of its generation) until the returned function is called."""


@dataclass(frozen=True, slots=True)
class ShadowSettings:
    """One route's shadow."""

    target: str
    sample: float
    """Share of the requests, from 0 to 1."""
    max_s: float
    """A shadow that takes longer is cut."""
    max_bytes: int
    """A shadow whose reply is larger is cut."""


@dataclass(frozen=True, slots=True)
class Report:
    """Where one route's comparisons go, and what is in them."""

    record: Record
    """Must not raise."""
    likeness: Likeness | None = None
    """None: how far apart the texts are is not measured, and nothing of them is kept."""


class Shadows:
    """The shadow requests under way, over all routes, and those being measured: at most `most` set out."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._tasks)

    @property
    def is_full(self) -> bool:
        """Whether no more may be sent now."""
        return len(self._tasks) >= self._most

    def start(self, work: Coroutine[None, None, None], name: str, on_end: Callable[[], None]) -> None:
        """Run `work`; then `on_end`, even if it was cancelled before its first step."""
        task = spawn(work, name)
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            on_end()

        task.add_done_callback(ended)

    async def cancel(self) -> None:
        """End them all, and wait until they have ended."""
        # One that has just ended may begin to be measured.
        while tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


class Shadow:
    """Sends a copy of some exchanges to another target, once their own reply has begun.

    Not of relayed paths (they change what a provider keeps), of uploads, of exchanges that are pinned
    to a target by their client or by what they refer to, nor where the primary refused the request,
    nor where a stored reply answers, which has no side to compare with.
    Above the yield: a sample is drawn. At it: the copy sets out. Below it: the primary's side of the
    comparison is complete.
    """

    def __init__(
        self,
        settings: ShadowSettings,
        handler: Handler,
        shadows: Shadows,
        report: Report,
        clock: Clock,
        rng: random.Random,
        hold: Hold | None = None,
    ) -> None:
        """`handler`: the way to the target, with its own admission."""
        self.settings = settings
        self.handler = handler
        self.shadows = shadows
        self.report = report
        self.clock = clock
        self.hold = hold
        self._rng = rng

    def __call__(self, exchange: Exchange, call_next: Handler) -> AbstractAsyncContextManager[Reply]:
        """The reply of `call_next`."""
        if self._rng.random() >= self.settings.sample:
            return call_next(exchange)
        request = exchange.request
        if request.operation == "relay" or request.body_stream is not None or exchange.pinned_target is not None:
            return call_next(exchange)
        return _Scope(self, exchange, call_next)


class _Scope:
    """The primary's scope. What the copy does can neither delay nor break it."""

    __slots__ = (
        "_begun_s",
        "_call_next",
        "_exchange",
        "_inner",
        "_length",
        "_pair",
        "_shadow",
        "_started_s",
        "_status",
    )

    def __init__(self, shadow: Shadow, exchange: Exchange, call_next: Handler) -> None:
        self._shadow = shadow
        self._exchange = exchange
        self._call_next = call_next
        self._pair: _Pair | None = None
        self._length = 0

    async def __aenter__(self) -> Reply:
        clock = self._shadow.clock
        self._started_s = clock.monotonic()
        self._inner = self._call_next(self._exchange)
        reply = await self._inner.__aenter__()
        self._begun_s = clock.monotonic() - self._started_s
        self._status = reply.status
        if reply.status < 400 and not self._exchange.is_stored:
            self._begin(reply)
        return reply

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._inner.__aexit__(kind, error, traceback)
        except BaseException as raised:
            error = raised
            raise
        finally:
            if self._pair is not None:
                self._pair.primary_over(self._side(error))

    def _begin(self, reply: Reply) -> None:
        shadow, exchange = self._shadow, self._exchange
        target = shadow.settings.target
        if shadow.shadows.is_full:
            shadow.report.record(Comparison(exchange.request_id, exchange.route or "", target, "skipped"))
            exchange.decide("shadow", f"none to {target}: as many as may be are under way")
            return
        reply.watch(self._count)
        self._pair = _Pair(shadow, exchange)
        self._pair.start(reply)
        exchange.decide("shadow", f"{target} gets a copy ({shadow.settings.sample:.4g} of all do)")

    def _count(self, piece: bytes) -> None:
        self._length += len(piece)

    def _side(self, error: BaseException | None) -> Side:
        return side_of(
            self._exchange,
            status=self._status,
            error=error,
            first_event_s=self._begun_s,
            duration_s=self._shadow.clock.monotonic() - self._started_s,
            length_bytes=self._length,
        )


class _Pair:
    """A primary and its copy: runs the copy, and compares when both are over."""

    __slots__ = (
        *("_comparison", "_copy", "_ended", "_exchange", "_heard", "_length", "_primary"),
        *("_release", "_result", "_shadow", "_side"),
    )

    def __init__(self, shadow: Shadow, exchange: Exchange) -> None:
        self._shadow = shadow
        self._exchange = exchange
        self._copy = _copy(exchange, shadow.clock)
        self._release = shadow.hold() if shadow.hold is not None else None
        self._primary: Side | None = None
        self._side: Side | None = None
        self._result: Result = "cancelled"
        self._length = 0
        self._ended = False
        self._heard: Heard | None = None

    def start(self, reply: Reply) -> None:
        """Send the copy, from the loop's next turn on: the answer that has just begun, `reply`, goes first."""
        likeness = self._shadow.report.likeness
        if likeness is not None:
            self._heard = likeness.listen(self._exchange.request, reply)
        self._shadow.shadows.start(self._send(), f"shadow of {self._exchange.request_id}", self._shadow_over)

    def primary_over(self, side: Side) -> None:
        """Take the primary's side."""
        self._primary = side
        if not side.is_complete:
            self._forget()
        self._compare()

    def _shadow_over(self) -> None:
        self._ended = True
        if self._release is not None:
            self._release()
        if self._result != "ok":
            # The primary may go on for a long time.
            self._forget()
        self._compare()

    def _forget(self) -> None:
        if self._heard is not None:
            self._heard.forget()
            self._heard = None

    def _compare(self) -> None:
        if self._primary is None or not self._ended:
            return
        exchange, shadow = self._exchange, self._shadow
        self._comparison = Comparison(
            request_id=exchange.request_id,
            route=exchange.route or "",
            target=shadow.settings.target,
            result=self._result,
            primary=self._primary,
            shadow=self._side,
        )
        heard, self._heard = self._heard, None
        if heard is None:
            self._record()
            return
        shadow.shadows.start(self._measure(heard), f"distance of {exchange.request_id}", self._record)

    async def _measure(self, heard: Heard) -> None:
        self._comparison = replace(self._comparison, distance=await heard.distance())

    def _record(self) -> None:
        """Whatever has ended the measuring: without a distance all the rest is still worth knowing."""
        self._shadow.report.record(self._comparison)

    async def _send(self) -> None:
        shadow, copy = self._shadow, self._copy
        clock = shadow.clock
        status: int | None = None
        first_event_s: float | None = None
        failure: GatewayError | None = None
        self._result = "error"
        is_whole = False
        try:
            async with asyncio.timeout(shadow.settings.max_s), shadow.handler(copy) as reply:
                status, first_event_s = reply.status, clock.monotonic() - copy.started_s
                is_whole = await self._read(reply)
        except GatewayError as error:
            failure = error
        except TimeoutError:
            is_whole = False
        except asyncio.CancelledError:
            self._result = "cancelled"
            raise
        side = side_of(
            copy,
            status=status,
            error=failure,
            first_event_s=first_event_s,
            duration_s=clock.monotonic() - copy.started_s,
            length_bytes=self._length,
        )
        is_cut = failure is None and not is_whole
        self._side = replace(side, outcome="cut") if is_cut else side
        self._result = "cut" if is_cut else result_of(side, failure)

    async def _read(self, reply: Reply) -> bool:
        """Read the reply and throw it away; whether it came to its end."""
        heard = self._heard
        if heard is not None:
            heard.copy.open(reply)
        if reply.body is not None:
            self._length = len(reply.body)
            return True
        assert reply.events is not None
        async for piece in reply.events:
            self._length += len(piece)
            if self._length > self._shadow.settings.max_bytes:
                return False
            if heard is not None:
                heard.copy.feed(piece)
        return True


def _copy(exchange: Exchange, clock: Clock) -> Exchange:
    """What the shadow's target is asked: the same, by nobody's key, with no deadline but the target's own."""
    copy = branch(exchange)
    copy.request_id = f"{exchange.request_id}-shadow"
    copy.consumer = SHADOW_CONSUMER
    copy.tags = {}
    copy.priority = "low"
    copy.started_s = copy.received_s = clock.monotonic()
    copy.started_wall_s = clock.wall()
    copy.client_deadline_s = None
    copy.max_tokens_sent = None
    copy.limits = ()
    copy.admission = None
    copy.cache = "bypass"
    return copy
