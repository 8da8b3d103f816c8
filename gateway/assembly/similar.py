"""Look-ups by similarity, made: the embedder, the log, what the process knows, a judge for each route.

Imported by name, and only when a route wants it: numpy and onnxruntime come with an extra.
"""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from gateway.assembly.targets import revision_of
from gateway.config.caches import RouteCache
from gateway.config.schema import Config
from gateway.config.similarity import Mode
from gateway.core.clock import Clock
from gateway.policies.cache_key import Keys
from gateway.policies.cache_look import CacheSettings, Shelf
from gateway.policies.similar import EmbedderUnavailable, Engine, Outcome, Similar, SimilarSettings
from gateway.semantic.distance import Distances
from gateway.semantic.embedder import DEADLINE_S, Embedder
from gateway.semantic.guards import compare, features
from gateway.semantic.index import cosine
from gateway.semantic.judge import Judge, JudgeSettings
from gateway.semantic.model import ModelError, load
from gateway.semantic.normalise import normalise
from gateway.semantic.remote import RemoteEmbedder
from gateway.semantic.rows import Room, Vector, packed_vector
from gateway.semantic.scopes import Rules, Scopes
from gateway.semantic.verified import FACTS
from gateway.store.memory_records import MemoryRecords
from gateway.store.records import Records
from gateway.store.redis import RedisSettings
from gateway.store.redis_records import RedisRecords
from gateway.store.sqlite_records import SqliteRecords
from gateway.telemetry.metrics import Registry

LOG = "questions"
MAX_RECORDS = 20_000
"""Questions that a fleet, or a file, remembers; what was learned from older ones is forgotten with a restart."""
TARGET_DEADLINE_S = 0.25
SWITCH_S = 0.0005
"""How long one thread of several keeps the interpreter. With 5 ms, Python's own, the loop was late by up to 19 ms
beside the embedder of a busy machine, with this up to 6."""
DEFAULT_WRONG = 0.01
_CANCELLED_WITHIN_S = 1.0

Ask = Callable[[str], Awaitable[str]]
"""A prompt -> the answer of a model."""
Distance = Callable[[str, str], Awaitable[float | None]]
"""Two texts -> how far they are apart, from 0; None when that cannot be had in time."""
Embed = Callable[[str], Awaitable[Sequence[float]]]
"""A text -> its vector, of whatever length. Raises GatewayError."""


def open_records(config: Config, rng: random.Random, path: Path | None) -> Records:
    """The log of a configuration: in its Redis, else in `path` if that is to survive a restart, else in memory."""
    if config.store.redis is not None:
        settings = RedisSettings(
            url=config.store.redis.reveal(), timeout_s=config.store.timeout, prefix=config.store.prefix
        )
        return RedisRecords(settings, LOG, MAX_RECORDS, rng)
    if config.cache.persist and path is not None:
        return SqliteRecords(path, MAX_RECORDS)
    return MemoryRecords()


class Semantics:
    """What the look-ups of all routes and generations share. The constructor blocks for about 0.2 s to read the model.

    Raises EmbedderUnavailable, which says what to do.
    """

    def __init__(
        self,
        config: Config,
        records: Records,
        clock: Clock,
        rng: random.Random,
        registry: Registry,
        embed: Embed | None,
    ) -> None:
        """`embed`: of the target that the configuration names, if it names one."""
        self._records = records
        self._clock = clock
        self._registry = registry
        self._judges: dict[tuple[str, str, int], Judge] = {}
        room = config.cache
        self._embedder: Embedder | RemoteEmbedder
        self._distances: Distances | None = None
        if embed is not None:
            self._embedder = RemoteEmbedder(embed, clock, room.embed_timeout or TARGET_DEADLINE_S)
        else:
            try:
                encoder = load(Path(room.model_dir))
            except ModelError as error:
                raise EmbedderUnavailable(str(error)) from error
            # The thread that reads texts would keep the loop waiting for the interpreter up to 5 ms at a time.
            sys.setswitchinterval(SWITCH_S)
            self._embedder = Embedder(encoder, deadline_s=room.embed_timeout or DEADLINE_S)
            self._distances = Distances(encoder)
        # The coin must not be foreseen: whoever could, would know which hits nobody checks.
        self.scopes = Scopes(made_by(config), Room(), random.SystemRandom(), clock, records.append)
        self._is_fit = True
        self._engine = Engine(self.scopes, self.embed, packed_vector, set())

    async def start(self) -> None:
        """Read what is remembered."""
        await self._records.start(self._fold, self.scopes.reset)

    def _fold(self, batch: Sequence[tuple[str, bytes]]) -> None:
        gone = self.scopes.fold(batch)
        if gone:
            self._records.delete(gone)

    def follow(self, config: Config) -> None:
        """Go on with another configuration. Raises EmbedderUnavailable where its vectors are not those known here."""
        self._is_fit = made_by(config) == self.scopes.by
        if not self._is_fit:
            raise EmbedderUnavailable(f"the embedder is another one now ({config.cache.embedder}): restart the gateway")

    async def embed(self, text: str) -> Vector | None:
        """The vector of a text; None when there is none in time."""
        if not self._is_fit:
            return None
        return await self._embedder.embed(normalise(text))

    @property
    def distance(self) -> Distance | None:
        """What compares long texts, apart from the look-ups; None where every vector is a call to a target."""
        return None if self._distances is None or not self._is_fit else self._distances.between

    def make(
        self,
        route: str,
        settings: RouteCache,
        keys: Keys,
        cached: CacheSettings,
        shelf: Shelf,
        ask: Ask | None,
    ) -> Similar | None:
        """The look-ups of one route before one target; None where there are none. `ask`: the route's judge."""
        semantic = settings.semantic
        mode: Mode = "off" if semantic is None else semantic.in_force
        if semantic is None or mode == "off":
            return None
        max_wrong = DEFAULT_WRONG if semantic.max_wrong is None else semantic.max_wrong
        rules = Rules(mode, semantic.threshold, max_wrong)
        wanted = SimilarSettings(mode, rules, max_wrong, settings.exact if semantic.ttl is None else semantic.ttl)
        judge = None
        if mode != "static":
            calls = 0 if semantic.judge is None else semantic.judge.calls_per_hour
            judge = self._judge(route, "" if semantic.judge is None else semantic.judge.model, calls, ask)
        meter = SimilarMeter(self._registry, route)
        return Similar(wanted, self._engine, judge, keys, cached, shelf, meter)

    def _judge(self, route: str, model: str, calls: int, ask: Ask | None) -> Judge:
        """One for as long as its settings stay, so that a reload gives no new budget."""
        key = (route, model, calls)
        if key not in self._judges:
            settings = JudgeSettings(facts=FACTS, model_calls_per_hour=calls)
            self._judges[key] = Judge(settings, normalise, _objection, self._similarity, ask, self._clock)
        return self._judges[key]

    async def _similarity(self, one: str, other: str) -> float | None:
        vectors = [await self.embed(one), await self.embed(other)]
        if vectors[0] is None or vectors[1] is None:
            return None
        return cosine(vectors[0], vectors[1])

    def purge(self, scope: str) -> bool:
        """Remove what a purge names, everywhere. False when the log is away: then its questions stay there."""
        self.scopes.purge(scope)
        return self._records.is_live

    def complain(self, entry: str, kind: str, similarity: float) -> None:
        """Learn that a reply was wrong, and how it was found."""
        self.scopes.complain(entry, kind, similarity)

    def measure(self) -> None:
        """Bring the gauges up to date."""
        registry = self._registry
        registry.gauge("gateway_cache_index_bytes").value = float(self.scopes.size_bytes)
        registry.gauge("gateway_cache_index_rows").value = float(len(self.scopes))
        registry.gauge("gateway_cache_log_lag_seconds").value = self._records.lag_s
        registry.counter("gateway_cache_log_dropped_total").value = float(self._records.dropped)
        counts = self._embedder.counts
        for result in ("computed", "remembered", "late", "refused", "failed"):
            registry.counter("gateway_cache_embeddings_total", result).value = float(getattr(counts, result))
        for name in ("gateway_cache_wrong_share", "gateway_cache_audited_hits", "gateway_cache_scopes"):
            registry.clear(name)
        for route, standing in self.scopes.standing().items():
            registry.gauge("gateway_cache_audited_hits", route).value = float(standing.labels)
            registry.gauge("gateway_cache_scopes", route, "open").value = float(standing.open)
            registry.gauge("gateway_cache_scopes", route, "closed").value = float(standing.scopes - standing.open)
            estimate = standing.wrong / standing.labels if standing.labels else 0.0
            for bound, share in (("estimate", estimate), ("lower", standing.lower), ("upper", standing.upper)):
                registry.gauge("gateway_cache_wrong_share", route, bound).value = share

    async def aclose(self) -> None:
        """Write what is to be kept, and give everything back."""
        lessons = list(self._engine.lessons)
        for lesson in lessons:
            lesson.cancel()
        if lessons:
            await asyncio.wait(lessons, timeout=_CANCELLED_WITHIN_S)
        await self._records.aclose()
        self._embedder.close()
        if self._distances is not None:
            self._distances.close()


def made_by(config: Config) -> str:
    """What makes the vectors of a configuration: those of a target are others when its model is another one."""
    embedder = config.cache.embedder
    kind, _, name = embedder.partition(":")
    return f"{embedder}@{revision_of(config.targets[name])[:16]}" if kind == "target" else embedder


def open_semantics(
    config: Config,
    path: Path | None,
    clock: Clock,
    rng: random.Random,
    registry: Registry,
    embed: Embed | None,
) -> Semantics:
    """See Semantics; `path` is for what survives a restart."""
    return Semantics(config, open_records(config, rng, path), clock, rng, registry, embed)


def _objection(one: str, other: str) -> str | None:
    return compare(features(one), features(other))


class SimilarMeter:
    """The metrics of one route. Implements the `Meter` of `policies.similar`."""

    __slots__ = ("_registry", "_route")

    def __init__(self, registry: Registry, route: str) -> None:
        self._registry = registry
        self._route = route

    def looked(self, similarity: float, guard: str | None) -> None:
        """See Meter."""
        self._registry.histogram("gateway_cache_similarity", self._route).observe(similarity)
        if guard is not None:
            self._registry.counter("gateway_cache_guard_rejections_total", self._route, guard).value += 1

    def count(self, outcome: Outcome) -> None:
        """See Meter."""
        self._registry.counter("gateway_cache_requests_total", self._route, outcome).value += 1

    def judged(self, verdict: str, step: str) -> None:
        """See Meter."""
        self._registry.counter("gateway_cache_comparisons_total", self._route, verdict, step).value += 1
