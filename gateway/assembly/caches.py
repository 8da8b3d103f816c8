"""The caches of all routes, and what they share for as long as the process lives: one store of replies, one meter.

The store is opened when the first configuration with a cache comes, or the first purge: a gateway
without caches has no second connection to its Redis, and reads no file.
"""

import asyncio
import importlib
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from gateway.config.caches import RouteCache
from gateway.config.schema import Config
from gateway.core.clock import Clock
from gateway.core.exchange import Consumer
from gateway.core.money import usd
from gateway.policies.cache import Cache, CacheResult, Place
from gateway.policies.cache_checks import Terms
from gateway.policies.cache_key import Keys, Share, share_of
from gateway.policies.cache_look import CacheSettings, Shelf
from gateway.policies.receipt import read_receipt
from gateway.policies.similar import EmbedderUnavailable
from gateway.policies.single_flight import Flights
from gateway.routing.likeness import Distance, Likeness
from gateway.store.base import AuditEntry
from gateway.store.blobs import Receipt, entry_scope
from gateway.store.memory_blobs import MemoryBlobs
from gateway.store.redis import RedisSettings
from gateway.store.redis_blobs import RedisBlobs
from gateway.store.sqlite_blobs import SqliteBlobs
from gateway.telemetry.metrics import Registry
from gateway.wire.replay import Replay

logger = logging.getLogger(__name__)

AnyBlobs = MemoryBlobs | RedisBlobs
_SIMILAR = "gateway.assembly.similar"
_NO_EXTRA = "numpy and onnxruntime are not installed: install the gateway with its extra `semantic`"


class InnerCall(Protocol):
    """A model that the gateway itself asks; `gateway.routing.inner.Inner`. Its methods raise GatewayError."""

    async def chat(self, prompt: str, *, max_tokens: int = 16, why: str) -> str:
        """The answer to one message."""
        ...

    async def embed(self, texts: Sequence[str], *, why: str) -> list[list[float]]:
        """The vectors of texts."""
        ...


Inner = Callable[[str, str], InnerCall]
"""Name of a target or a route, and the consumer who pays -> what asks it, within a bounded time."""
_VERDICT_TOKENS = 256
"""One word would do; a model that thinks first needs room for that."""


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

    def __init__(
        self,
        blobs: AnyBlobs,
        registry: Registry,
        clock: Clock,
        rng: random.Random,
        record: Callable[[AuditEntry], Awaitable[None]],
        questions: Path | None = None,
    ) -> None:
        """`record` writes the audit. `questions`: the file for what look-ups by similarity learn, if it is to last."""
        self._blobs = blobs
        self._registry = registry
        self._clock = clock
        self._rng = rng
        self._record = record
        self._shelf = Shelf(blobs, Flights(), Replay(), clock, rng, asyncio.sleep)
        self._questions = questions
        self._starting = asyncio.Lock()
        self._is_started = False
        # `gateway.assembly.similar.Semantics`, whose libraries not everybody has.
        self._semantics: Any = None
        self.inner: Inner | None = None
        """What the gateway asks models with, for judges and embeddings; set once there is a configuration."""
        registry.on_snapshot(self._measure)

    def make(self, route: str, settings: RouteCache, target: str, revision: str) -> Cache:
        """The cache of one route before one target, of which `revision` is a digest."""
        terms = Terms(settings.tool_calls, settings.max_temperature, settings.max_entry)
        semantic = settings.semantic
        is_similar = semantic is not None and semantic.in_force != "off" and self._semantics is not None
        similar_ttl_s = 0.0
        if is_similar and semantic is not None:
            similar_ttl_s = settings.exact if semantic.ttl is None else semantic.ttl
        wanted = CacheSettings(settings.exact, settings.share, terms, settings.wait, similar_ttl_s)
        similar = None
        if is_similar:
            keys = Keys(settings.share, route, target, revision)
            similar = self._semantics.make(route, settings, keys, wanted, self._shelf, self._judge(settings))
        return Cache(wanted, Place(route, target, revision), self._shelf, RouteMeter(self._registry, route), similar)

    def _judge(self, settings: RouteCache) -> Callable[[str], Awaitable[str]] | None:
        semantic = settings.semantic
        if semantic is None or semantic.judge is None:
            return None
        model = semantic.judge.model

        async def ask(prompt: str) -> str:
            assert self.inner is not None
            return await self.inner(model, "judge").chat(prompt, max_tokens=_VERDICT_TOKENS, why="cache")

        return ask

    async def prepare(self, config: Config) -> None:
        """Open what `config` needs. Does not fail: a store that is away is a cache without hits.

        Without an embedder, too: then replies are given to equal requests alone, and metrics and a log line tell.
        """
        caches = [route.cache for route in config.routes if route.cache is not None]
        if caches:
            await self._start()
        if _wants_similar(config):
            await self._start_similar(config)

    def likeness(self, config: Config) -> Likeness | None:
        """What tells how far two replies are apart; None unless look-ups of `config` have this machine's embedder."""
        if self._semantics is None or not _wants_similar(config):
            return None
        distance: Distance | None = self._semantics.distance
        return None if distance is None else Likeness(self._shelf.forms, distance)

    async def _start_similar(self, config: Config) -> None:
        async with self._starting:
            is_new = self._semantics is None
            try:
                if is_new:
                    # In a thread already the import, which takes longer than anybody's request may wait.
                    self._semantics = await asyncio.to_thread(
                        _open, config, self._questions, self._clock, self._rng, self._registry, self._embed(config)
                    )
                else:
                    self._semantics.follow(config)
            except (ImportError, EmbedderUnavailable) as error:
                reason = f"{_NO_EXTRA} ({error})" if isinstance(error, ImportError) else str(error)
                logger.error("no look-ups by similarity: %s", reason)
                self._registry.gauge("gateway_cache_embedder_up").value = 0.0
                return
            self._registry.gauge("gateway_cache_embedder_up").value = 1.0
            if is_new:
                await self._semantics.start()

    def _embed(self, config: Config) -> Callable[[str], Awaitable[Sequence[float]]] | None:
        kind, _, name = config.cache.embedder.partition(":")
        if kind != "target":
            return None

        async def embed(text: str) -> Sequence[float]:
            assert self.inner is not None
            return (await self.inner(name, "embedder").embed([text], why="cache"))[0]

        return embed

    async def purge(self, scope: str) -> Receipt:
        """See Purging."""
        # A file that is not read yet would bring everything back.
        await self._start()
        receipt = await self._blobs.purge(scope)
        # Nothing of it can be given any more; this is about what it leaves behind.
        if self._semantics is not None and not self._semantics.purge(scope):
            return Receipt(scope, receipt.epoch, receipt.matched, is_complete=False)
        return receipt

    async def complain(self, receipt: str, consumer: Consumer, request_id: str) -> bool:
        """A client has found a stored reply wrong: remove it, and learn from that. `receipt` is what came with it.

        False when there is none, or none that the consumer may have been given. Raises ValueError for what is no
        receipt, StoreUnavailable when it could not be written down or removed.
        """
        entry, kind, similarity = read_receipt(receipt)
        found = (await self._blobs.find(bytes.fromhex(entry), ())).entry
        shares: tuple[Share, ...] = ("key", "team", "tenant")
        if found is None or found.share not in {share_of(consumer, share) for share in shares}:
            return False
        detail = {"request_id": request_id, "filled_by": found.filled_by, "filled_by_request": found.request_id}
        subject = f"cache/entry:{entry}"
        audited = AuditEntry(self._clock.wall(), f"key:{consumer.id}", "feedback", subject, "wrong", detail)
        await self._record(audited)
        if self._semantics is not None:
            self._semantics.complain(entry, kind, similarity)
        await self.purge(entry_scope(bytes.fromhex(entry)))
        return True

    async def aclose(self) -> None:
        """Write what is to be kept, and give everything back."""
        async with self._starting:
            if self._semantics is not None:
                await self._semantics.aclose()
            if self._is_started and isinstance(self._blobs, SqliteBlobs | RedisBlobs):
                await self._blobs.aclose()

    async def _start(self) -> None:
        async with self._starting:
            if not self._is_started and isinstance(self._blobs, SqliteBlobs | RedisBlobs):
                await self._blobs.start()
            self._is_started = True

    def _measure(self) -> None:
        self._registry.gauge("gateway_cache_bytes").value = float(self._blobs.size_bytes)
        if self._semantics is not None:
            self._semantics.measure()


def _wants_similar(config: Config) -> bool:
    caches = [route.cache for route in config.routes if route.cache is not None]
    return any(cache.semantic is not None and cache.semantic.in_force != "off" for cache in caches)


def _open(*wanted: Any) -> Any:
    """`gateway.assembly.similar.open_semantics`. Raises ImportError without the libraries, EmbedderUnavailable."""
    return importlib.import_module(_SIMILAR).open_semantics(*wanted)


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
