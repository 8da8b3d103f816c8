"""Operations on their way to Redis, who they come from, and what is known of their fate."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from gateway.core.errors import StoreUnavailable
from gateway.store.packing import Op

Operation = tuple[Any, ...]
"""A number of `packing.Op`, and what the script needs for it."""
Mark = tuple[int, int]
"""Of an answer: the tick of its batch, and the tick at which the memory had begun that it was done in."""
Doubts = tuple[tuple[str, int], ...]
"""Names under which a batch was sent without an answer, each with the tick of the last answer before that."""
_MOST_HEARD = 2000


class Asking(Protocol):
    """The way to the script; see link.Link."""

    async def connect(self, within_s: float) -> None:
        """Be connected. Raises Unreachable."""
        ...

    async def ask(self, question: bytes) -> bytes:
        """The answer. Raises Unreachable."""
        ...

    async def aclose(self) -> None:
        """Close the connection."""
        ...


class Owner(Protocol):
    """Who knows what has to be told besides what is asked."""

    @property
    def owed(self) -> int:
        """How much there is to collect."""
        ...

    def collect(self) -> list[Operation]:
        """Some of what has been summed up, for the next batch; it is delivered, and not given again."""
        ...

    def rejoin(self, is_first: bool, has_lost: bool) -> list[Operation]:
        """What the store must be told on its return. `is_first`: all, else what has come since."""
        ...

    def learn(self, crossings: Sequence[Any], budgets: Sequence[Any], mark: Mark) -> None:
        """What a batch has brought to light: marks that were passed, and how the budgets stand that it changed."""
        ...


class Waiting:
    """One operation on its way. `is_lasting`: it is sent until it is answered, for nobody waits for it."""

    __slots__ = ("future", "hold_id", "is_lasting", "operation")

    def __init__(
        self, operation: Operation, future: asyncio.Future[Any] | None, hold_id: str, is_lasting: bool
    ) -> None:
        self.operation = operation
        self.future = future
        self.hold_id = hold_id
        self.is_lasting = is_lasting


class Doubtful:
    """What has to be delivered of a batch that may have been carried out. `recovers`: it was to tell what is known."""

    __slots__ = ("batch", "doubts", "recovers")

    def __init__(self, batch: list[Waiting], doubts: Doubts, recovers: bool) -> None:
        self.batch = batch
        self.doubts = doubts
        self.recovers = recovers


class Heard:
    """Who else has been to the script, and when: by ticks, as its answers tell it."""

    __slots__ = ("_others", "tick")

    def __init__(self) -> None:
        self.tick = 0
        """Of the last batch that was answered."""
        # Client -> the tick of its last batch, in figures: they are seldom read.
        self._others: dict[str, str] = {}

    def learn(self, tick: int, news: Sequence[str]) -> None:
        """Take in an answer. `news`: one client after the other, each with the tick of its last batch."""
        self.tick = tick
        self._others.update(zip(news[::2], news[1::2], strict=True))
        if len(self._others) > _MOST_HEARD:
            by_tick = sorted(self._others.items(), key=lambda item: float(item[1]))
            self._others = dict(by_tick[_MOST_HEARD // 2 :])

    def told(self) -> list[str]:
        """What has been taken in, in the same form."""
        return [text for item in self._others.items() for text in item]


def unavailable() -> StoreUnavailable:
    """What is raised for everything that is asked while the store is gone."""
    return StoreUnavailable("The shared store does not answer. Try again in a moment.", retry_after_s=1.0)


def dismiss(batch: Iterable[Waiting]) -> None:
    """Tell everybody who waits for one of these that there will be no answer."""
    for waiting in batch:
        if waiting.future is not None and not waiting.future.done():
            waiting.future.set_exception(unavailable())


def lasting(batch: Iterable[Waiting]) -> list[Waiting]:
    """Those that have to be delivered."""
    return [waiting for waiting in batch if waiting.is_lasting]


def in_doubt(batch: Iterable[Waiting], doubts: Doubts, doubt: tuple[str, int], recovers: bool) -> Doubtful:
    """What has to be delivered of a batch that was sent without an answer, under one more name perhaps."""
    return Doubtful(lasting(batch), doubts if doubt in doubts else (*doubts, doubt), recovers)


def still_held(batch: Iterable[Waiting]) -> list[Operation]:
    """The holds of settlements that are not delivered yet, to be held until they are."""
    settlements = [waiting.operation for waiting in batch if waiting.operation[0] == Op.SETTLE]
    return [(Op.REGISTER, hold_id, packed, taken_us) for _, hold_id, packed, _, taken_us in settlements]
