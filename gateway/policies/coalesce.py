"""Requests for embeddings that come at the same time go to the provider as one.

Outermost at its target: around the queue, the try and its bill. Above the yield a request whose like is under
way waits for others, for milliseconds at most; one that has no company does not wait at all. Those who go
together have each their own try, with its span, count and bill, and meet below it; the queue's place, the
connection and the call are one for all. Whatever cannot go together (another operation, other members,
other headers that go up, a large body) passes untouched.
"""

import asyncio
from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

from gateway.core.errors import Headers
from gateway.core.exchange import Exchange, Reply, Request
from gateway.core.pipeline import Handler, Policy
from gateway.policies.billing import Billing
from gateway.policies.coalesce_batch import Batch
from gateway.policies.coalesce_inputs import Inputs, read_inputs
from gateway.policies.coalesce_member import Dispatch, Member

PERSONAL = frozenset({b"idempotency-key", b"x-ms-client-request-id"})
"""Headers that name one request: it cannot be part of another one."""


@dataclass(frozen=True, slots=True)
class CoalesceSettings:
    """How long requests wait for each other, and how much one call may carry."""

    wait_s: float
    max_inputs: int
    max_tokens: int
    """Estimated: token ids counted, of text a quarter of its bytes."""


class Asked(NamedTuple):
    """One request that may go together with others of the same key."""

    key: Hashable
    inputs: Inputs


class Coalesce:
    """See the module. Raises what the target raises, for each request its own."""

    def __init__(
        self,
        settings: CoalesceSettings,
        dispatch: Dispatch,
        attempted: Policy,
        bill: Callable[[int, int], Billing],
        forwarded: Callable[[Headers], Headers],
    ) -> None:
        """`attempted` makes a try of what it stands around, and no bill. `bill`: of one's place among so many.

        `forwarded`: those of the client's headers that go up.
        """
        self.settings = settings
        self.dispatch = dispatch
        self.attempted = attempted
        self.bill = bill
        self._forwarded = forwarded
        self._gathering: dict[Hashable, tuple[Batch, asyncio.TimerHandle]] = {}
        self._under_way: dict[Hashable, int] = {}

    def __call__(self, exchange: Exchange, call_next: Handler) -> AbstractAsyncContextManager[Reply]:
        """The reply of `call_next`, or a part of what it gave to several."""
        asked = self._read(exchange.request)
        return call_next(exchange) if asked is None else _Scope(self, exchange, call_next, asked)

    def enter(self, exchange: Exchange, asked: Asked) -> Member | None:
        """Note that it is under way; its place in a batch, or None when there is nobody to wait for."""
        others = self._under_way.get(asked.key, 0)
        self._under_way[asked.key] = others + 1
        if not others:
            return None
        settings, inputs = self.settings, asked.inputs
        batch, timer = self._gathering.get(asked.key, (None, None))
        if batch is not None and (
            batch.inputs + len(inputs.items) > settings.max_inputs or batch.tokens + inputs.tokens > settings.max_tokens
        ):
            self._go(asked.key)
            batch = None
        if batch is None:
            batch = Batch(self.dispatch)
            timer = asyncio.get_running_loop().call_later(settings.wait_s, self._go, asked.key)
            self._gathering[asked.key] = (batch, timer)
        member = batch.add(exchange, inputs)
        if batch.inputs >= settings.max_inputs or batch.tokens >= settings.max_tokens:
            self._go(asked.key)
        return member

    def leave(self, asked: Asked) -> None:
        """Note that it is over."""
        left = self._under_way[asked.key] - 1
        if left:
            self._under_way[asked.key] = left
        else:
            del self._under_way[asked.key]

    def _go(self, key: Hashable) -> None:
        batch, timer = self._gathering.pop(key)
        timer.cancel()
        batch.go()

    def _read(self, request: Request) -> Asked | None:
        if request.operation != "embeddings" or request.head.stream or request.body_stream is not None:
            return None
        headers = self._forwarded(request.headers)
        if any(name in PERSONAL for name, _ in headers):
            return None
        inputs = read_inputs(request.body)
        if inputs is None or len(inputs.items) >= self.settings.max_inputs or inputs.tokens >= self.settings.max_tokens:
            return None
        same = (request.dialect, request.suffix, request.query, request.hops, request.head.model)
        return Asked((*same, inputs.kind, inputs.others, tuple(headers)), inputs)


class _Scope:
    __slots__ = ("_asked", "_call_next", "_coalesce", "_exchange", "_inner")

    def __init__(self, coalesce: Coalesce, exchange: Exchange, call_next: Handler, asked: Asked) -> None:
        self._coalesce = coalesce
        self._exchange = exchange
        self._call_next = call_next
        self._asked = asked

    async def __aenter__(self) -> Reply:
        coalesce, exchange = self._coalesce, self._exchange
        member = coalesce.enter(exchange, self._asked)
        try:
            if member is None or await member.turn() == "alone":
                coalesce.dispatch.meter.call("alone", 1)
                return await self._alone()
            together = self._inner = coalesce.attempted(exchange, _Together(coalesce, member))
            reply = await together.__aenter__()
            if not member.is_refused:
                return reply
            await together.__aexit__(None, None, None)
            exchange.decide(
                "coalesce", f"{coalesce.dispatch.name}: the call for several was refused; asked again alone"
            )
            coalesce.dispatch.meter.call("again", 1)
            return await self._alone()
        except BaseException:
            if member is not None:
                member.batch.leave(member)
            coalesce.leave(self._asked)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._inner.__aexit__(kind, error, traceback)
        finally:
            self._coalesce.leave(self._asked)

    async def _alone(self) -> Reply:
        inner = self._inner = self._call_next(self._exchange)
        return await inner.__aenter__()


class _Together:
    """The handler of one who goes with others, and the scope of its bill."""

    __slots__ = ("_attempt", "_coalesce", "_member", "_status")

    def __init__(self, coalesce: Coalesce, member: Member) -> None:
        self._coalesce = coalesce
        self._member = member
        self._status: int | None = None

    def __call__(self, exchange: Exchange) -> AbstractAsyncContextManager[Reply]:
        """This one's part."""
        self._attempt = exchange.attempts[-1]
        return self

    async def __aenter__(self) -> Reply:
        try:
            reply = await self._member.reply()
        except BaseException as error:
            self._settle(error)
            raise
        self._status = reply.status
        return reply

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._settle(error)

    def _settle(self, error: BaseException | None) -> None:
        member = self._member
        sent = len(member.batch.sent)
        if sent:
            self._coalesce.bill(member.place, sent).settle(member.exchange, self._attempt, self._status, error)
