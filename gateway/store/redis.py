"""The store that a fleet shares, in Redis 6 or later.

Theory of operation. Every decision is made by one Lua script (`lua/`), on the server and by its clock, so it is
atomic, and no process needs to be right about the time. `batch` carries operations there, many at once;
`link` is the one connection; `connect` finds the node; `packing` is the language; `redis_ledger` knows which holds
live here, what has been seen of budgets, and what is still owed.

All keys begin with `{prefix}` in braces, which is their hash tag: all are in one slot, so a cluster takes them.
A cluster therefore spreads several gateways with different prefixes, not one. Every key has a time to live.
What Redis evicts or forgets cannot be counted: it should run with `maxmemory-policy noeviction`, and with an
append-only file or a replica. If it does lose its memory, the clients notice and tell it what they know.

    {gw}:w:UNIT:WIDTH:RULE|SCOPE     window        hash of sub-windows
    {gw}:c:RULE|SCOPE                slots         sorted set of holds by the end of their lease
    {gw}:b:RULE|PERIOD|SCOPE         budget        hash: spent, held, highest mark told, end
    {gw}:hold:ID, {gw}:leases        holds that are not settled, and when their leases end
    {gw}:client:ID, {gw}:pulse       each process's last batch and its answer; when anybody was last heard
    {gw}:grants, {gw}:budgets, {gw}:spend:DAY, {gw}:audit, {gw}:overrides, {gw}:lock:NAME
"""

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Any

from gateway.core.clock import Clock
from gateway.core.pipeline import spawn
from gateway.store.base import LEASE_S, Figures, Journal, Leases, OnCrossing
from gateway.store.batch import CONNECT_S, Batcher
from gateway.store.connect import Opener, parse
from gateway.store.link import Link, load_script
from gateway.store.redis_journal import RedisJournal, RedisLeases
from gateway.store.redis_ledger import RedisLedger


@dataclass(frozen=True, slots=True, repr=False)
class RedisSettings:
    """Where the Redis is. `url` may hold a password and is never shown; see `connect` for its forms."""

    url: str
    timeout_s: float = 0.05
    """Longest wait for an answer; then the store counts as gone."""
    prefix: str = "gw"
    """What its keys begin with, in braces; without braces of its own."""
    lease_s: float = LEASE_S

    def __repr__(self) -> str:
        return f"RedisSettings(url=***, timeout_s={self.timeout_s}, prefix={self.prefix!r}, lease_s={self.lease_s})"


class RedisStore:
    """See Store. Raises StoreUnavailable at once while Redis is gone, and finds back by itself.

    The constructor opens no connection; it raises ValueError for a URL that is none, without showing it.
    `on_crossing` must not raise.
    """

    def __init__(self, settings: RedisSettings, clock: Clock, rng: Random, on_crossing: OnCrossing) -> None:
        key = "{" + settings.prefix + "}"
        self._clock = clock
        self._lease_s = settings.lease_s
        self._link = Link(Opener(parse(settings.url), key, CONNECT_S), load_script(), key, settings.timeout_s)
        self.ledger = RedisLedger(self.now_s, on_crossing)
        self._batcher = Batcher(self._link, settings.lease_s, clock, rng, self.ledger)
        self.ledger.batcher = self._batcher
        self.journal: Journal = RedisJournal(self._batcher)
        self.leases: Leases = RedisLeases(self._batcher)
        self._renewing: asyncio.Task[None] | None = None

    @property
    def is_shared(self) -> bool:
        """See Store. Always."""
        return True

    @property
    def is_up(self) -> bool:
        """See Store."""
        return self._batcher.is_up

    @property
    def since_s(self) -> float:
        """Unix seconds of the last change of `is_up`."""
        return self._batcher.since_s

    @property
    def figures(self) -> Figures:
        """See Store. Many operations ride on one round trip."""
        return Figures(self._batcher.degraded_s, self._link.round_trips, self._batcher.operations)

    @property
    def undelivered(self) -> int:
        """Settlements and sums that Redis has not taken yet."""
        return self._batcher.waiting + self.ledger.owed

    @property
    def last_error(self) -> str:
        """Why Redis was last gone; empty when it never was."""
        return self._batcher.last_error

    @property
    def detail(self) -> dict[str, Any]:
        """See Store. `state`: `up`, `down`."""
        about: dict[str, Any] = {
            "kind": "redis",
            "state": "up" if self.is_up else "down",
            "since": self._batcher.since_s,
            "degraded_s": round(self._batcher.degraded_s, 3),
            "undelivered": self.undelivered,
        }
        if self.last_error:
            about["error"] = self.last_error
        return about

    def now_s(self) -> float:
        """See Store. By Redis TIME, as of its last answer; by the own clock before the first one."""
        return self._clock.wall() + (self._batcher.offset_s or 0.0)

    async def start(self) -> None:
        """See Store. Waits for the first attempt to connect, at most about a second."""
        await self._batcher.start()
        self._renewing = spawn(self._renew(), "redis-leases")

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            await self.ledger.renew()

    async def stop_renewing(self) -> None:
        """Let leases run out from now on."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait((self._renewing,))
            self._renewing = None

    async def aclose(self) -> None:
        """See Store. What is not delivered within 1.5 s is lost, and logged."""
        await self.stop_renewing()
        await self._batcher.aclose()
