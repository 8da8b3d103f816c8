"""Audit, overrides and names in Redis."""

from collections.abc import Mapping
from typing import Any

from msgspec import json

from gateway.store.base import AuditEntry, Override
from gateway.store.batch import Batcher
from gateway.store.packing import US_PER_S, Op


class RedisJournal:
    """See Journal. The last 10,000 entries or somewhat more, for 400 days."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    async def record(self, entry: AuditEntry) -> None:
        """See Journal."""
        await self._batcher.ask((Op.RECORD, _text(entry)))

    async def audit(self, limit: int) -> list[AuditEntry]:
        """See Journal."""
        if limit < 1:
            return []
        return [json.decode(text, type=AuditEntry) for text in await self._batcher.ask((Op.READ_AUDIT, limit))]

    async def put(self, override: Override) -> None:
        """See Journal."""
        until_us = 0 if override.until_s is None else max(1, int(override.until_s * US_PER_S))
        await self._batcher.ask((Op.PUT, override.name, until_us, _text(override)))

    async def drop(self, name: str) -> Override | None:
        """See Journal."""
        text = await self._batcher.ask((Op.DROP, name))
        return json.decode(text, type=Override) if text else None

    async def overrides(self) -> Mapping[str, Override]:
        """See Journal."""
        found = [json.decode(text, type=Override) for text in await self._batcher.ask((Op.READ_OVERRIDES,))]
        return {override.name: override for override in found}


class RedisLeases:
    """See Leases."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    async def acquire(self, name: str, owner: str, ttl_s: float) -> bool:
        """See Leases."""
        return bool(await self._batcher.ask((Op.ACQUIRE, name, owner, int(ttl_s * US_PER_S))))

    async def release(self, name: str, owner: str) -> None:
        """See Leases."""
        await self._batcher.ask((Op.LET_GO, name, owner))


def _text(value: Any) -> str:
    return json.encode(value).decode()
