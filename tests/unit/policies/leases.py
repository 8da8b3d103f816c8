"""Leases as the store grants them, kept in a dictionary."""

import asyncio

from gateway.core.errors import StoreUnavailable


class FakeLeases:
    """One holder for each name. Answers when `answer` is set, or with `fault`."""

    def __init__(self, *, fault: StoreUnavailable | None = None) -> None:
        self.held: dict[str, str] = {}
        self.fault = fault
        self.answer: asyncio.Event | None = None
        self.asked = asyncio.Event()
        self.released = asyncio.Event()

    async def acquire(self, name: str, owner: str, ttl_s: float) -> bool:
        """Whether `owner` holds `name`; granted before the answer is on its way."""
        assert ttl_s > 0
        if self.fault is not None:
            raise self.fault
        granted = self.held.setdefault(name, owner) == owner
        self.asked.set()
        if self.answer is not None:
            await self.answer.wait()
        return granted

    async def release(self, name: str, owner: str) -> None:
        """Let go, if `owner` still holds it."""
        self.released.set()
        if self.fault is not None:
            raise self.fault
        if self.held.get(name) == owner:
            del self.held[name]
