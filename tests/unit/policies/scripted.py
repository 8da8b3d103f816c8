"""A target that does what a test says, one line for each try; and a sleep that only moves the clock."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from gateway.core.exchange import Attempt, Exchange, Reply
from tests.fakes import FakeClock

Outcome = Reply | BaseException | asyncio.Event
"""What a try comes to: a reply, a failure, or a wait until the event (or the cancellation)."""


def ok() -> Reply:
    """A small reply."""
    return Reply(200, [], body=b"{}")


def refusal(status: int, code: str) -> Reply:
    """A provider's refusal, as it is passed on."""
    return Reply(status, [], body=b'{"error":{"message":"x","code":"%b"}}' % code.encode())


class Scripted:
    """A handler with one outcome for each try, the last one for all that follow. Notes attempts as `Attempted` does."""

    def __init__(self, *outcomes: Outcome, target: str = "a", attempted: bool = True) -> None:
        self._outcomes: Sequence[Outcome] = outcomes or (ok(),)
        self.target = target
        self._attempted = attempted
        self.tries = 0
        self.left: list[BaseException | None] = []
        self.exchanges: list[Exchange] = []
        self.open = 0
        self.on_leave: Callable[[Exchange], None] | None = None

    def __call__(self, exchange: Exchange) -> AbstractAsyncContextManager[Reply]:
        """One try."""
        return _Try(self, exchange)

    def next_outcome(self) -> Outcome:
        """What this try comes to."""
        outcome = self._outcomes[min(self.tries, len(self._outcomes) - 1)]
        self.tries += 1
        return outcome

    def begin(self, exchange: Exchange) -> None:
        """Note the try."""
        self.exchanges.append(exchange)
        if self._attempted:
            exchange.attempts.append(Attempt(len(exchange.attempts) + 1, self.target))
            exchange.target = self.target

    def end(self, exchange: Exchange, error: BaseException | None) -> None:
        """Note how the try ended."""
        self.left.append(error)
        if self.on_leave is not None:
            self.on_leave(exchange)


class _Try:
    def __init__(self, scripted: Scripted, exchange: Exchange) -> None:
        self._scripted = scripted
        self._exchange = exchange

    async def __aenter__(self) -> Reply:
        scripted = self._scripted
        scripted.begin(self._exchange)
        outcome = scripted.next_outcome()
        try:
            if isinstance(outcome, asyncio.Event):
                await outcome.wait()
                outcome = ok()
            if isinstance(outcome, BaseException):
                raise outcome
        except BaseException as error:
            scripted.end(self._exchange, error)
            raise
        scripted.open += 1
        return outcome

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._scripted.open -= 1
        self._scripted.end(self._exchange, error)


class Naps:
    """A sleep that takes no time but the fake clock's."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        """Let the clock go on."""
        self.taken.append(seconds)
        self._clock.advance(seconds)
