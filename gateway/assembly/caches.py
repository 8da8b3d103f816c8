"""The caches of all routes, and what they share for as long as the process lives: one store of replies, one meter.

The store is opened when the first configuration with a cache comes, or the first purge: a gateway
without caches has no second connection to its Redis, and reads no file.
"""

import asyncio
import random
from pathlib import Path

from gateway.config.caches import RouteCache
from gateway.config.schema import Config
from gateway.core.clock import Clock
from gateway.core.money import usd
from gateway.policies.cache import Cache, CacheResult, Place
from gateway.policies.cache_checks import Terms
from gateway.policies.cache_look import CacheSettings, Shelf
from gateway.policies.single_flight import Flights
from gateway.store.blobs import Receipt
from gateway.store.memory_blobs import MemoryBlobs
from gateway.store.redis import RedisSettings
from gateway.store.redis_blobs import RedisBlobs
from gateway.store.sqlite_blobs import SqliteBlobs
from gateway.telemetry.metrics import Registry
from gateway.wire.replay import Replay

AnyBlobs = MemoryBlobs | RedisBlobs


def open_blobs(config: Config, clock: Clock, rng: random.Random, path: Path | None) -> AnyBlobs:
    """Where a configuration has replies kept: the store's Redis, else this process's memory.

    `path`: the file beside that memory, if it is to survive a restart. Opens nothing.
    """
    room = config.cache
    if config.store.redis is not None:
        settings = RedisSettings(
            url=config.store.redis.reveal(), timeout_s=config.store.timeout, prefix=config.store.prefix
        )
        return RedisBlobs(settings, room.max_bytes, clock, rng)
    if room.persist and path is not None:
        return SqliteBlobs(path, room.max_bytes, clock)
    return MemoryBlobs(room.max_bytes, clock)


class Caches:
    """Makes the caches of every generation, around one store. Implements `Purging`."""

    def __init__(self, blobs: AnyBlobs, registry: Registry, clock: Clock, rng: random.Random) -> None:
        self._blobs = blobs
        self._registry = registry
        self._shelf = Shelf(blobs, Flights(), Replay(), clock, rng, asyncio.sleep)
        self._starting = asyncio.Lock()
        self._is_started = False
        registry.on_snapshot(self._measure)

    def make(self, route: str, settings: RouteCache, target: str, revision: str) -> Cache:
        """The cache of one route before one target, of which `revision` is a digest."""
        terms = Terms(settings.tool_calls, settings.max_temperature, settings.max_entry)
        wanted = CacheSettings(settings.exact, settings.share, terms, settings.wait)
        return Cache(wanted, Place(route, target, revision), self._shelf, RouteMeter(self._registry, route))

    async def prepare(self, config: Config) -> None:
        """Open the store if `config` needs it. Does not fail: a store that is away is a cache without hits."""
        if any(route.cache is not None for route in config.routes):
            await self._start()

    async def purge(self, scope: str) -> Receipt:
        """See Purging."""
        # A file that is not read yet would bring everything back.
        await self._start()
        return await self._blobs.purge(scope)

    async def aclose(self) -> None:
        """Write what is to be kept, and give everything back."""
        async with self._starting:
            if self._is_started and isinstance(self._blobs, SqliteBlobs | RedisBlobs):
                await self._blobs.aclose()

    async def _start(self) -> None:
        async with self._starting:
            if not self._is_started and isinstance(self._blobs, SqliteBlobs | RedisBlobs):
                await self._blobs.start()
            self._is_started = True

    def _measure(self) -> None:
        self._registry.gauge("gateway_cache_bytes").value = float(self._blobs.size_bytes)


class RouteMeter:
    """The metrics of one route's caches. Implements `Meter`.

    Resolved anew each time: a generation is built before the registry knows the names of its routes.
    """

    __slots__ = ("_registry", "_route")

    def __init__(self, registry: Registry, route: str) -> None:
        self._registry = registry
        self._route = route

    def count(self, result: CacheResult) -> None:
        """See Meter."""
        self._registry.counter("gateway_cache_requests_total", self._route, result).value += 1

    def saved(self, tokens: int, cost_nusd: int) -> None:
        """See Meter."""
        self._registry.counter("gateway_cache_saved_tokens_total", self._route).value += tokens
        self._registry.counter("gateway_cache_saved_usd_total", self._route).value += usd(cost_nusd)
