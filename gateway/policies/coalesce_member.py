"""One request in a batch: when its turn comes, what lands with it, and that it may leave at any time."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from gateway.core.clock import Clock
from gateway.core.errors import DeadlineExceeded, GatewayError, Headers, UpstreamTimeout
from gateway.core.exchange import Exchange, Reply, Usage
from gateway.core.pipeline import Handler, Policy
from gateway.policies.coalesce_inputs import Inputs

Turn = Literal["alone", "together", "late"]
Way = Literal["alone", "together", "again"]
Result = Literal["ok", "refused", "error", "cancelled"]
T = TypeVar("T")


class Meter(Protocol):
    """Counts what coalescing does at one target."""

    def call(self, way: Way, calls: int) -> None:
        """So many requests went this way; `again` is said of those whose batch was refused, besides `together`."""
        ...

    def batch(self, result: Result) -> None:
        """One batch was sent, and came to this."""
        ...


@dataclass(frozen=True, slots=True)
class Dispatch:
    """How the batches of one target are sent."""

    name: str
    target: Handler
    queue: Sequence[Policy]
    """What one call upstream has to wait for, however many it serves."""
    total_s: float
    """The longest that a try may take, from its exchange's beginning."""
    clock: Clock
    meter: Meter


@dataclass(frozen=True, slots=True)
class Landed:
    """What a batch has come to for one of its members."""

    status: int
    headers: Headers
    body: bytes


class Company(Protocol):
    """What a member knows of its batch."""

    @property
    def dispatch(self) -> Dispatch:
        """How it is sent."""
        ...

    @property
    def sent(self) -> Sequence["Member"]:
        """Those whom the call was made for, in the order of their inputs; empty until then."""
        ...

    @property
    def members(self) -> Sequence["Member"]:
        """Those who have not left."""
        ...

    def leave(self, member: "Member") -> None:
        """Go on without this one; without any, stop. More than once is as good as once."""
        ...

    def arrived(self, member: "Member") -> None:
        """Note that its try has begun."""
        ...

    def tell(self, member: "Member") -> None:
        """Write into its exchange what the call has come to so far."""
        ...


class Member:
    """One request in a batch."""

    __slots__ = ("_landed", "_turn", "batch", "exchange", "inputs", "is_refused", "is_there", "place", "usage")

    def __init__(self, batch: Company, exchange: Exchange, inputs: Inputs) -> None:
        self.batch = batch
        self.exchange = exchange
        self.inputs = inputs
        self.is_there = False
        self.is_refused = False
        """Whether the provider refused the batch: what was asked goes up again, alone."""
        self.place = 0
        self.usage: Usage | None = None
        """Its share, once it is known."""
        loop = asyncio.get_running_loop()
        self._turn: asyncio.Future[Turn | GatewayError] = loop.create_future()
        self._landed: asyncio.Future[Landed | GatewayError | Literal["late"]] = loop.create_future()

    async def turn(self) -> Turn:
        """How it goes on. Raises what keeps the batch from being sent, and DeadlineExceeded."""
        deadline_s = self.exchange.client_deadline_s
        outcome = await self._within(self._turn, self.begin, deadline_s)
        if outcome == "late":
            self.batch.leave(self)
            raise _too_late()
        if isinstance(outcome, GatewayError):
            try:
                raise outcome
            finally:
                # A local that is an error, in a frame of its own traceback, is a cycle of all that the frames hold.
                del outcome
        return outcome

    async def reply(self) -> Reply:
        """Its part of the reply, once its try has begun; its usage is the exchange's.

        Raises a copy of the batch's fault, DeadlineExceeded, or UpstreamTimeout when its own time is over.
        """
        exchange, batch = self.exchange, self.batch
        total_s, theirs_s = exchange.started_s + batch.dispatch.total_s, exchange.client_deadline_s
        deadline_s = total_s if theirs_s is None else min(total_s, theirs_s)
        batch.arrived(self)
        try:
            outcome = await self._within(self._landed, self.land, deadline_s)
        finally:
            batch.tell(self)
        if isinstance(outcome, Landed):
            return Reply(outcome.status, outcome.headers, body=outcome.body, usage=exchange.usage)
        try:
            if isinstance(outcome, GatewayError):
                raise outcome
        finally:
            del outcome
        # Of those whose time is over the last one tells the breaker.
        exchange.attempts[-1].is_echo = len(batch.members) > 1
        batch.leave(self)
        if deadline_s == theirs_s:
            raise _too_late()
        raise UpstreamTimeout("The reply to several requests at once took too long for this one.", phase="total")

    def begin(self, turn: Turn | GatewayError) -> None:
        """Tell it how it goes on, unless it was told."""
        if not self._turn.done():
            self._turn.set_result(turn)

    def land(self, outcome: Landed | GatewayError | Literal["late"]) -> None:
        """Tell it what came of the batch, unless it was told."""
        if not self._landed.done():
            self._landed.set_result(outcome)

    async def _within(
        self, future: "asyncio.Future[T]", tell: Callable[[Literal["late"]], None], deadline_s: float | None
    ) -> T:
        """What `future` brings, or `tell` when it is late. Who is cancelled leaves the batch."""
        timer = None
        if deadline_s is not None:
            loop = asyncio.get_running_loop()
            left_s = max(deadline_s - self.batch.dispatch.clock.monotonic(), 0.0)
            timer = loop.call_later(left_s, tell, "late")
        try:
            return await future
        except asyncio.CancelledError:
            self.batch.leave(self)
            raise
        finally:
            if timer is not None:
                timer.cancel()


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("The time allowed by x-gateway-timeout is over.")
