"""Operations on their way to Redis."""

import asyncio
from collections.abc import Iterable
from typing import Any

from gateway.core.errors import StoreUnavailable

Operation = tuple[Any, ...]
"""A number of `packing.Op`, and what the script needs for it."""


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
