"""What the tests of look-ups by similarity share: a cache with one, whose vectors and judge are told what to say."""

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

import msgspec
import numpy

from gateway.policies.cache import Cache, Place
from gateway.policies.cache_key import Keys
from gateway.policies.cache_look import CacheSettings
from gateway.policies.similar import Engine, Outcome, Similar, SimilarSettings
from gateway.semantic.guards import compare, features
from gateway.semantic.judge import Judge, JudgeSettings
from gateway.semantic.log import Compared, Record, Seen, pack, unpack
from gateway.semantic.normalise import normalise
from gateway.semantic.rows import Room, Vector, packed_vector
from gateway.semantic.scopes import Rules, Scopes
from gateway.semantic.verified import FACTS
from gateway.semantic.zones import Verdict
from gateway.store.blobs import Found, Receipt
from gateway.store.memory_blobs import MemoryBlobs
from tests.fakes import FakeClock
from tests.unit.policies.caching import Got, Kitchen, asked

Mode = Literal["shadow", "static", "verified"]

ASKED, ALIKE, FAR = "How do I reset my password?", "how can I reset my password?", "Who wrote the book about whales?"
THREE, FOUR = "How do I reset my 3 passwords?", "How do I reset my 4 passwords?"
ROUTE = "support-*"


class Coin(Random):
    """Falls as it is told."""

    falls = 0.5

    def random(self) -> float:
        return self.falls


class Wavering(MemoryBlobs):
    """A store that can go away between two questions."""

    is_away_for: bytes | None = None

    async def find(self, key: bytes, scopes: tuple[str, ...], lease_s: float = 0.0) -> Found:
        """See Blobs."""
        return Found(None, None) if key == self.is_away_for else await super().find(key, scopes, lease_s)


@dataclass
class Parlour:
    """A cache with look-ups by similarity, and all that it needs."""

    mode: Mode = "static"
    ttl_s: float = 100.0
    similar_ttl_s: float = 100.0
    has_model: bool = True
    calls_per_hour: int = 1000
    kitchen: Kitchen = field(default_factory=Kitchen)
    cosines: dict[str, float] = field(default_factory=lambda: {FAR: 0.1})
    late: set[str] = field(default_factory=set)
    embedded: list[str] = field(default_factory=list)
    embedding: asyncio.Event | None = None
    dimensions: int = 3
    verdict: Verdict = "equal"
    judging: asyncio.Event | None = None
    prompts: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    similarities: list[tuple[float, str | None]] = field(default_factory=list)
    told: list[Record] = field(default_factory=list)
    coin: Coin = field(default_factory=lambda: Coin(7))
    lessons: set["asyncio.Task[None]"] = field(default_factory=set)
    scopes: Scopes = field(init=False)
    similar: Similar = field(init=False)
    judge: Judge | None = None

    def __post_init__(self) -> None:
        self.scopes = Scopes("minilm", Room(), self.coin, self.clock, self._append)
        engine = Engine(self.scopes, self._embed, packed_vector, self.lessons)
        if self.mode != "static":
            settings = JudgeSettings(facts=FACTS, model_calls_per_hour=self.calls_per_hour)
            ask = self._ask if self.has_model else None
            self.judge = Judge(settings, normalise, self._objection, self._similarity, ask, self.clock)
        settings_ = SimilarSettings(self.mode, Rules(self.mode, 0.9, 0.05), 0.05, self.similar_ttl_s)
        cached = CacheSettings(self.ttl_s, similar_ttl_s=self.similar_ttl_s)
        shelf = self.kitchen.cache.shelf
        place = Place(ROUTE, self.kitchen.target, "r1")
        keys = Keys(cached.share, place.route, place.target, place.revision)
        self.similar = Similar(settings_, engine, self.judge, keys, cached, shelf, self)
        self.kitchen.settings = cached
        self.kitchen.cache = Cache(cached, place, shelf, self.kitchen, self.similar)

    @property
    def clock(self) -> FakeClock:
        """That of all parts."""
        return self.kitchen.clock

    def _append(self, packed: bytes) -> None:
        self.told.append(unpack(packed))
        self.scopes.fold([(f"{len(self.told)}-0", packed)])

    async def _embed(self, text: str) -> Vector | None:
        self.embedded.append(text)
        if self.embedding is not None:
            await self.embedding.wait()
        if text in self.late:
            return None
        cosine = self.cosines.get(text, 1.0)
        vector = numpy.zeros(self.dimensions, numpy.float32)
        vector[:2] = cosine, math.sqrt(1 - cosine**2)
        return vector

    def _objection(self, one: str, other: str) -> str | None:
        return compare(features(one), features(other))

    async def _similarity(self, one: str, other: str) -> float | None:
        return None

    async def _ask(self, prompt: str) -> str:
        self.prompts.append(prompt)
        if self.judging is not None:
            await self.judging.wait()
        return self.verdict

    def looked(self, similarity: float, guard: str | None) -> None:
        """See Meter."""
        self.similarities.append((round(similarity, 3), guard))

    def count(self, outcome: Outcome) -> None:
        """See Meter."""
        self.counts[outcome] += 1

    def judged(self, verdict: str, step: str) -> None:
        """See Meter."""
        self.counts[f"{verdict} {step}"] += 1

    async def ask(self, text: str = ASKED, **changes: Any) -> Got:
        """What a client gets."""
        return await self.kitchen.ask(asked(text, **changes))

    @property
    def calls(self) -> int:
        """How often the model was asked."""
        return len(self.kitchen.model.calls)

    @property
    def seen(self) -> list[Seen]:
        """The questions in the log."""
        return [each for each in self.told if isinstance(each, Seen)]

    @property
    def labels(self) -> list[Verdict | None]:
        """What was learned with each question."""
        return [None if each.compared is None else each.compared.verdict for each in self.seen]

    def learn(self, number: int, verdict: Verdict = "equal", *, kind: str = "lone-clean") -> None:
        """Have so many pairs of the first question's scope judged, apart from all that is asked."""
        aside = packed_vector(numpy.eye(self.dimensions, dtype=numpy.float32)[2])
        for _ in range(number):
            compared = Compared("f" * 64, "none", kind, 0.97, False, verdict)
            label = msgspec.structs.replace(
                self.seen[0], text=f"Label {len(self.told)}", entry="e" * 64, vector=aside, compared=compared
            )
            self._append(pack(label))

    async def purge(self, scope: str) -> Receipt:
        """As `Caches` does."""
        assert self.kitchen.blobs is not None
        receipt = await self.kitchen.blobs.purge(scope)
        self.scopes.purge(scope)
        return receipt

    async def learned(self) -> None:
        """Wait for the comparisons under way."""
        while self.lessons:
            await asyncio.wait(list(self.lessons))


def reason(got: Got) -> str:
    """Why the reply is what it is."""
    return got.headers[b"x-gateway-cache-reason"].decode()
