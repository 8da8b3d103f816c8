"""Audit, overrides and names, of one process."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from msgspec import json

from gateway.core.clock import Clock
from gateway.store.base import AuditEntry, Override
from gateway.store.saving import Saver
from gateway.store.tables import AUDIT_ENTRIES, Saved


class MemoryJournal:
    """See Journal. What is written is in the state file when the call returns, where there is one that works."""

    def __init__(self, saved: Saved | None, saver: Saver, clock: Clock) -> None:
        self._saver = saver
        self._wall = clock.wall
        self._entries: deque[AuditEntry] = deque(maxlen=AUDIT_ENTRIES)
        self._overrides: dict[str, Override] = {}
        self._last_seq = 0
        if saved is not None:
            for seq, at_s, actor, action, subject, reason, detail in saved.audit:
                self._last_seq = seq
                self._entries.append(AuditEntry(at_s, actor, action, subject, reason, _members(detail)))
            for name, value, actor, reason, since_s, until_s in saved.overrides:
                self._overrides[name] = Override(name, _members(value), actor, reason, since_s, until_s)

    async def record(self, entry: AuditEntry) -> None:
        """See Journal."""
        self._last_seq += 1
        self._entries.append(entry)
        values = (entry.at_s, entry.actor, entry.action, entry.subject, entry.reason, _text(entry.detail))
        await self._saver.save([(("audit", (self._last_seq,)), values)])

    async def audit(self, limit: int) -> list[AuditEntry]:
        """See Journal."""
        newest = reversed(self._entries)
        return [entry for entry, _ in zip(newest, range(limit), strict=False)]

    async def put(self, override: Override) -> None:
        """See Journal."""
        self._overrides[override.name] = override
        values = (_text(override.value), override.actor, override.reason, override.since_s, override.until_s)
        await self._saver.save([(("override", (override.name,)), values)])

    async def drop(self, name: str) -> Override | None:
        """See Journal."""
        override = self._overrides.pop(name, None)
        if override is None:
            return None
        await self._saver.save([(("override", (name,)), None)])
        return override if self._is_in_force(override) else None

    async def overrides(self) -> Mapping[str, Override]:
        """See Journal."""
        # The state file forgets those that are over by itself.
        self._overrides = {name: each for name, each in self._overrides.items() if self._is_in_force(each)}
        return dict(self._overrides)

    def _is_in_force(self, override: Override) -> bool:
        return override.until_s is None or override.until_s > self._wall()


class MemoryLeases:
    """See Leases. Not kept: with the process, every owner that it knew is gone."""

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self._held: dict[str, tuple[str, float]] = {}

    async def acquire(self, name: str, owner: str, ttl_s: float) -> bool:
        """See Leases."""
        now_s = self._monotonic()
        self._held = {held: terms for held, terms in self._held.items() if terms[1] > now_s}
        if self._held.get(name, (owner, 0.0))[0] != owner:
            return False
        self._held[name] = (owner, now_s + ttl_s)
        return True

    async def release(self, name: str, owner: str) -> None:
        """See Leases."""
        if self._held.get(name, ("", 0.0))[0] == owner:
            del self._held[name]


def _text(value: dict[str, Any]) -> str:
    return json.encode(value).decode()


def _members(text: str) -> dict[str, Any]:
    return json.decode(text, type=dict[str, Any])
