"""A second request to another target when the first one takes unusually long; the first answer wins.

Theory of operation. The two run side by side, each in a task of its own, in which its scope is opened
and closed: a scope must not be closed by a task that did not open it. They share no exchange: the
first works on the given one, the second on a branch of it (`core.clone`). The loser is cancelled, so
its scope ends as if its client had left, and it is billed as such; then both branches are merged into
the given exchange: attempts, decisions and cost of both, everything else of the winner. The reply's
events are read by the caller; what ends them is carried into the winner's task, so that the policies
inside see the same exception as they would without a hedge.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType

from gateway.core.clock import Clock
from gateway.core.clone import branch
from gateway.core.errors import GatewayError
from gateway.core.exchange import Exchange, Reply
from gateway.core.pipeline import Handler, finish, spawn
from gateway.routing.latency import LatencyQuantile

_QUANTILE = 0.95
_MOST_SAVED_UP = 10.0
# A cancelled request ends within two turns of the loop; the winner does not wait for one that does not.
_LOSER_ENDS_WITHIN_S = 0.05


@dataclass(frozen=True, slots=True)
class HedgeSettings:
    """When a second request is sent."""

    after_s: float | None
    """None: after the 95th percentile of the primary's own times until its first event."""
    max_share: float
    """Second requests are at most this share of all requests, and ten more."""


class Hedge:
    """Asks `primary`, and one of `others` too when that takes long. Only requests whose body is here as a whole.

    Until enough has been learned, while the share is used up, and for pinned requests, `primary` alone is
    asked, without a task. A failure of the primary before its time is over goes up as it is: what to do
    then is the fallback's matter.
    """

    def __init__(
        self,
        primary: Handler,
        others: Mapping[str, Handler],
        settings: HedgeSettings,
        clock: Clock,
        on_hedge: Callable[[bool], None],
    ) -> None:
        """`others`: the targets that may be asked too, by name, the one to ask first foremost.

        `on_hedge` is called once for each second request, with whether it won.
        """
        self.primary = primary
        self.others = others
        self.settings = settings
        self.clock = clock
        self.on_hedge = on_hedge
        self._learned = {True: LatencyQuantile(_QUANTILE), False: LatencyQuantile(_QUANTILE)}
        self._saved_up = _MOST_SAVED_UP

    def __call__(self, exchange: Exchange) -> AbstractAsyncContextManager[Reply]:
        """The reply of whoever is first. Raises the primary's error when nobody answers."""
        if exchange.pinned_target is not None or exchange.request.body_stream is not None:
            return self.primary(exchange)
        self._saved_up = min(self._saved_up + self.settings.max_share, _MOST_SAVED_UP)
        delay_s = self.settings.after_s
        if delay_s is None:
            delay_s = self._learned[exchange.request.head.stream].value_s
        if delay_s is None or self._saved_up < 1:
            return _Timed(self, exchange)
        return _Race(self, exchange, delay_s)

    def launch(self, exchange: Exchange) -> Handler | None:
        """Who is asked too, if the share allows a second request now; it is taken then.

        Not the target that the exchange waits for already.
        """
        other = next((handler for name, handler in self.others.items() if name != exchange.target), None)
        if other is None or self._saved_up < 1:
            return None
        self._saved_up -= 1
        return other

    def learn(self, exchange: Exchange, took_s: float) -> None:
        """Note how long the primary took; replies with and without stream apart, since the latter come whole.

        A stored reply, and one that an equal request was waited for, say nothing of a target.
        """
        if exchange.is_stored or exchange.coalesced_s:
            return
        self._learned[exchange.request.head.stream].observe(took_s)


class _Timed:
    """The primary alone, for its time."""

    __slots__ = ("_exchange", "_hedge", "_inner")

    def __init__(self, hedge: Hedge, exchange: Exchange) -> None:
        self._hedge = hedge
        self._exchange = exchange

    async def __aenter__(self) -> Reply:
        hedge = self._hedge
        began_s = hedge.clock.monotonic()
        self._inner = hedge.primary(self._exchange)
        reply = await self._inner.__aenter__()
        hedge.learn(self._exchange, hedge.clock.monotonic() - began_s)
        return reply

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._inner.__aexit__(kind, error, traceback)


class _Runner:
    """One of the two: a task that opens a handler's scope, and closes it when told to."""

    def __init__(self, handler: Handler, exchange: Exchange, name: str) -> None:
        loop = asyncio.get_running_loop()
        self.exchange = exchange
        self.reply: Reply | None = None
        self.fault: GatewayError | None = None
        self.begun: asyncio.Future[None] = loop.create_future()
        """Done when there is a reply, or will be none."""
        self._over: asyncio.Future[GatewayError | None] = loop.create_future()
        self.task = spawn(self._run(handler), name)

    async def _run(self, handler: Handler) -> None:
        try:
            async with handler(self.exchange) as reply:
                self.reply = reply
                # The caller only ever waits for `begun` with `asyncio.wait`, which does not cancel it.
                self.begun.set_result(None)
                await self._until_over()
        except GatewayError as error:
            self.fault = error
        finally:
            if not self.begun.done():
                self.begun.set_result(None)

    async def _until_over(self) -> None:
        error = await self._over
        if error is not None:
            raise error

    async def stop(self) -> None:
        """Cancel it, and wait for its end."""
        self.task.cancel()
        await asyncio.wait((self.task,))

    async def end(self, error: BaseException | None) -> None:
        """Close its scope with what ended the reply, and wait for that. A foreign error is a cancellation there."""
        if error is None or isinstance(error, GatewayError):
            self._over.set_result(error)
        else:
            self.task.cancel()
        await asyncio.wait((self.task,))


class _Race:
    def __init__(self, hedge: Hedge, exchange: Exchange, delay_s: float) -> None:
        self._hedge = hedge
        self._exchange = exchange
        self._delay_s = delay_s
        self._began_s = hedge.clock.monotonic()
        self._runners: list[_Runner] = []
        self._winner: _Runner | None = None
        self._merged_attempts = 0
        self._merged_decisions = 0

    async def __aenter__(self) -> Reply:
        try:
            winner = await self._first_answer()
        except BaseException:
            await finish(self._stop_all())
            self._merge(None)
            self._add_cost()
            raise
        assert winner.reply is not None
        return winner.reply

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        winner = self._winner
        assert winner is not None
        try:
            await finish(self._end(winner, error))
        finally:
            self._merge(winner)
            self._add_cost()
        if winner.fault is not None and winner.fault is not error:
            raise winner.fault
        if error is None and not winner.task.cancelled():
            winner.task.result()

    async def _first_answer(self) -> _Runner:
        hedge, exchange = self._hedge, self._exchange
        first = self._run(hedge.primary, exchange)
        await asyncio.wait((first.begun,), timeout=self._delay_s)
        other = None if first.begun.done() else hedge.launch(exchange)
        if other is None:
            await asyncio.wait((first.begun,))
            return await self._won(first, first)
        exchange.decide("hedge", f"no answer after {self._delay_s:.3f} s: a second request is sent")
        second = self._run(other, branch(exchange))
        await asyncio.wait((first.begun, second.begun), return_when=asyncio.FIRST_COMPLETED)
        if not first.begun.done() and _is_answer(second):
            return await self._won(second, first)
        # The second one failed, or both are there: the first one counts, unless it has failed.
        await asyncio.wait((first.begun,))
        if first.reply is None:
            await asyncio.wait((second.begun,))
            if _is_answer(second):
                return await self._won(second, first)
        return await self._won(first, first)

    def _run(self, handler: Handler, exchange: Exchange) -> _Runner:
        runner = _Runner(handler, exchange, f"hedged request {len(self._runners) + 1}")
        self._runners.append(runner)
        return runner

    async def _won(self, winner: _Runner, first: _Runner) -> _Runner:
        """Let the other one end. Raises what the winner failed with, if even that did."""
        hedge = self._hedge
        took_s = hedge.clock.monotonic() - self._began_s
        if first.fault is None:
            # The primary's true time is not known when it lost; it is at least this.
            hedge.learn(self._exchange, took_s)
        if len(self._runners) > 1:
            hedge.on_hedge(winner is not first)
        for runner in self._runners:
            if runner is not winner:
                runner.task.cancel()
                await asyncio.wait((runner.task,), timeout=_LOSER_ENDS_WITHIN_S)
        if winner.fault is not None:
            raise winner.fault
        if winner.reply is None:
            await winner.task
        self._winner = winner
        self._merge(winner)
        if len(self._runners) > 1:
            self._exchange.decide("hedge", f"{winner.exchange.target} answered first")
            self._share_wait(took_s)
        return winner

    async def _end(self, winner: _Runner, error: BaseException | None) -> None:
        await winner.end(error)
        await self._stop_all()

    async def _stop_all(self) -> None:
        for runner in self._runners:
            if not runner.task.done():
                await runner.stop()

    def _merge(self, winner: _Runner | None) -> None:
        """Write into the given exchange what the branch has come to since the last time."""
        exchange = self._exchange
        for runner in self._runners[1:]:
            other = runner.exchange
            fresh = other.attempts[self._merged_attempts :]
            self._merged_attempts += len(fresh)
            # The winner's come last, whenever they began: the last attempt is the one whose reply this is.
            place = 0 if winner is self._runners[0] else len(exchange.attempts)
            exchange.attempts[place:place] = fresh
            exchange.decisions += other.decisions[self._merged_decisions :]
            self._merged_decisions = len(other.decisions)
            if runner is winner:
                exchange.target = other.target
                exchange.model_served = other.model_served
                exchange.response_id = other.response_id
                exchange.finish_reasons = other.finish_reasons
                exchange.usage = other.usage
                exchange.cache = other.cache
        for number, attempt in enumerate(exchange.attempts, 1):
            attempt.number = number

    def _add_cost(self) -> None:
        """What both have cost; None when it is not known of one of them. Once, when both are over."""
        exchange = self._exchange
        for runner in self._runners[1:]:
            cost_nusd = runner.exchange.cost_nusd
            if cost_nusd is not None:
                exchange.cost_nusd = (exchange.cost_nusd or 0) + cost_nusd
        if any(attempt.cost_nusd is None for attempt in exchange.attempts):
            exchange.cost_nusd = None

    def _share_wait(self, took_s: float) -> None:
        """Make the waits of both, which ran side by side, sum up to the time that passed."""
        exchange = self._exchange
        has_followed = any(runner.exchange.coalesced_s for runner in self._runners)
        exchange.coalesced_s = 0.0
        for attempt in exchange.attempts:
            attempt.waited_s = 0.0
        if exchange.attempts:
            exchange.attempts[-1].waited_s = took_s
        elif has_followed:
            exchange.coalesced_s = took_s


def _is_answer(runner: _Runner) -> bool:
    """Whether there is a reply that is no refusal: the primary may still do better than that."""
    return runner.reply is not None and runner.reply.status < 400
