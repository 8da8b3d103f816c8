"""The caches of all routes, and the store that they share."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.assembly.build import Builder
from gateway.assembly.caches import AnyBlobs, Caches, RouteMeter, open_blobs
from gateway.assembly.generation import Generation
from gateway.assembly.pools import PoolKey, SharedPools
from gateway.core.errors import StoreUnavailable
from gateway.core.exchange import Consumer, Exchange, RequestHead
from gateway.semantic.judge import Case
from gateway.store.base import AuditEntry
from gateway.store.blobs import Receipt
from gateway.store.memory_blobs import MemoryBlobs
from gateway.store.redis_blobs import RedisBlobs
from gateway.store.sqlite_blobs import SqliteBlobs
from gateway.telemetry.events import Events
from gateway.telemetry.metrics import Registry
from gateway.transport.base import Timeouts, Upstream, UpstreamRequest
from tests.fakes import FakeClock, FakeResponse, FakeUpstream, Sightings, exchange, loaded, memory_store, request

pytestmark = pytest.mark.anyio

TARGETS = """\
apiVersion: gateway/v1
targets:
  a: {provider: mock, price: {request: $1.00}, breaker: off}
  b: {provider: mock, price: {request: $1.00}, breaker: off}
routes:
"""
CACHED = TARGETS + "  - {model: demo, target: a, cache: {exact: 1h}}\n"
PLAIN = TARGETS + "  - {model: demo, target: a}\n"
GONE = {"REDIS_URL": "redis://user:secret@127.0.0.1:1/0"}
SIMILAR = TARGETS + "  - {model: demo, target: a, cache: {exact: 1h, semantic: {mode: static, ttl: 2h}}}\n"
BY_TARGET = "cache: {embedder: 'target:b'}\n"
ASKED, ALIKE = "How do I reset my password?", "how can I reset my password?"
REDIS = "store: {redis: env:REDIS_URL}\n"
ANSWER = (
    b'{"id":"c-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Hi."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)


class Provider(FakeUpstream):
    """An upstream with one answer, however often it is asked."""

    async def open(self, request: UpstreamRequest, timeouts: Timeouts) -> FakeResponse:
        """The answer."""
        self.requests.append(request)
        return FakeResponse(200, [(b"content-type", b"application/json")], [ANSWER])


class Works:
    """A builder with caches, whose pools are fake."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.audited: list[AuditEntry] = []
        self.inner: list[tuple[str, str]] = []
        self.asked: list[str] = []
        self.upstreams: dict[str, FakeUpstream] = {}
        sightings = Sightings(self.clock, routes=["demo", "other"], targets=["a", "b"])
        self.registry = sightings.registry
        rng = random.Random(7)
        self.caches = Caches(MemoryBlobs(1 << 20, self.clock), self.registry, self.clock, rng, self.audit)
        self.caches.inner = self._inner
        self.builder = Builder(
            SharedPools(self._make),
            sightings.observer,
            self.clock,
            rng,
            memory_store(self.clock),
            Events(None, self.clock),
            self.registry,
            self.caches,
        )

    def _make(self, key: PoolKey) -> Upstream:
        return self.upstreams.setdefault(key.target, Provider())

    async def audit(self, entry: AuditEntry) -> None:
        """Write down what was done."""
        self.audited.append(entry)

    def _inner(self, name: str, consumer: str) -> "Works":
        self.inner.append((name, consumer))
        return self

    async def chat(self, prompt: str, *, max_tokens: int = 16, why: str) -> str:
        """A judge's word."""
        self.asked.append(why)
        return "equal"

    async def embed(self, texts: Sequence[str], *, why: str) -> list[list[float]]:
        """The same vector for everything."""
        self.asked.append(why)
        return [[3.0, 4.0] for _ in texts]

    def build(self, text: str) -> Generation:
        """The generation of this configuration."""
        return self.builder.build(loaded(text), "http://127.0.0.1:9", {})

    @property
    def calls(self) -> dict[str, int]:
        """How often each target was asked."""
        return {name: len(each.requests) for name, each in self.upstreams.items() if each.requests}


async def unaudited(entry: AuditEntry) -> None:
    """Write nothing down."""


async def ask(generation: Generation, route: str = "demo", text: str = "hi", **changes: Any) -> Exchange:
    """One chat request to a route."""
    body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": text}]}).encode()
    asking = exchange(request(body=body, head=RequestHead(model="demo"), headers=[]), route=route, **changes)
    async with generation.routes_by_name[route].handler(asking) as reply:
        assert reply.status == 200
    return asking


def _counted(registry: Registry, name: str) -> dict[tuple[str, ...], float]:
    return {sample.labels: sample.value for sample in registry.snapshot().metrics.get(name, [])}


async def test_a_route_with_a_cache_asks_once_and_over_a_reload() -> None:
    works = Works()
    first, second = works.build(CACHED), works.build(CACHED + "# changed\n")
    assert [(await ask(each)).cache for each in (first, first, second)] == ["miss", "hit", "hit"]
    assert works.calls == {"a": 1}


async def test_a_route_without_one_asks_each_time() -> None:
    works = Works()
    generation = works.build(PLAIN)
    assert [(await ask(generation)).cache for _ in range(2)] == ["bypass", "bypass"]
    assert works.calls == {"a": 2}
    assert _counted(works.registry, "gateway_cache_requests_total") == {}


async def test_routes_and_targets_share_nothing() -> None:
    """F116: nor do a split's arms, so a canary is asked itself."""
    works = Works()
    generation = works.build(
        TARGETS
        + "  - {model: demo, split: {a: 1, b: 1}, cache: {exact: 1h}}\n"
        + "  - {model: other, target: a, cache: {exact: 1h}}\n"
    )
    for _ in range(20):
        await ask(generation)
    assert works.calls == {"a": 1, "b": 1}
    assert (await ask(generation, "other")).cache == "miss"


async def test_another_revision_of_a_target_answers_itself() -> None:
    """F116: another model, another place, another fixed header."""
    works = Works()
    await ask(works.build(CACHED))
    for change in ("model: m2", "base_url: 'http://127.0.0.1:10'", "headers: {x-team: blue}"):
        text = CACHED.replace("a: {provider: mock", f"a: {{provider: mock, {change}")
        assert (await ask(works.build(text))).cache == "miss", change
    same = CACHED.replace("a: {provider: mock", "a: {provider: mock, tags: {owner: x}, timeouts: {idle: 9s}")
    assert (await ask(works.build(same))).cache == "hit"


async def test_the_settings_of_the_route_are_those_of_its_cache() -> None:
    works = Works()
    text = CACHED.replace(
        "exact: 1h", "exact: 2h, share: team, tool_calls: true, max_temperature: 0.5, max_entry: 2KiB, wait: 9s"
    )
    [route] = loaded(text).config.routes
    assert route.cache is not None
    cache = works.caches.make("demo", route.cache, "a", "r1")
    assert (cache.settings.ttl_s, cache.settings.share, cache.settings.wait_s) == (7200.0, "team", 9.0)
    terms = cache.settings.terms
    assert (terms.tool_calls, terms.max_temperature, terms.max_entry_bytes) == (True, 0.5, 2048)
    assert (cache.place.route, cache.place.target, cache.place.revision) == ("demo", "a", "r1")


async def test_a_shadow_is_never_answered_by_a_cache() -> None:
    """Its target would not be tried at all."""
    works = Works()
    shadowed = CACHED.replace("target: a,", "target: a, shadow: {target: b, sample: 100%},")
    generation = works.build(shadowed)
    for key in ("one", "two"):
        await ask(generation, consumer=Consumer(key))
        while len(works.builder.shadows):
            await works.builder.shadows.cancel()
    assert _counted(works.registry, "gateway_cache_requests_total") == {
        ("demo", "miss"): 2.0,
        ("demo", "stored"): 2.0,
    }


async def test_hits_are_counted_with_what_they_saved() -> None:
    works = Works()
    generation = works.build(CACHED)
    for _ in range(3):
        await ask(generation)
    assert _counted(works.registry, "gateway_cache_requests_total") == {
        ("demo", "miss"): 1.0,
        ("demo", "stored"): 1.0,
        ("demo", "hit"): 2.0,
    }
    assert _counted(works.registry, "gateway_cache_saved_usd_total") == {("demo",): 2.0}
    assert _counted(works.registry, "gateway_cache_saved_tokens_total") == {("demo",): 4.0}
    assert _counted(works.registry, "gateway_cache_bytes")[()] > len(ANSWER)


async def test_what_is_purged_is_asked_again() -> None:
    works = Works()
    generation = works.build(CACHED)
    await ask(generation)
    assert await works.caches.purge("route:demo") == Receipt("route:demo", 1, 1)
    assert (await ask(generation)).cache == "miss"


def test_a_route_of_a_later_configuration_is_counted_under_its_name() -> None:
    """A generation is built before the registry knows its routes."""
    registry = Registry()
    meter = RouteMeter(registry, "late")
    registry.configure(["late"], [])
    meter.count("hit")
    assert _counted(registry, "gateway_cache_requests_total") == {("late", "hit"): 1.0}


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ("", MemoryBlobs),
        ("cache: {persist: true}\n", SqliteBlobs),
        (REDIS, RedisBlobs),
        (REDIS + "cache: {persist: true}\n", RedisBlobs),
    ],
)
def test_replies_are_kept_where_the_configuration_says(more: str, kind: type[AnyBlobs], tmp_path: Path) -> None:
    config = loaded(CACHED + more, GONE).config
    blobs = open_blobs(config, FakeClock(), random.Random(7), tmp_path / "cache.sqlite")
    assert type(blobs) is kind
    assert list(tmp_path.iterdir()) == [], "nothing is opened yet"


def test_without_a_place_for_a_file_replies_are_forgotten_with_the_process() -> None:
    config = loaded(CACHED + "cache: {persist: true}\n").config
    assert type(open_blobs(config, FakeClock(), random.Random(7), None)) is MemoryBlobs


async def test_a_file_is_opened_by_the_first_configuration_with_a_cache(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    config = loaded(CACHED + "cache: {persist: true}\n").config
    clock = FakeClock()
    caches = Caches(open_blobs(config, clock, random.Random(7), path), Registry(), clock, random.Random(7), unaudited)
    await caches.prepare(loaded(PLAIN).config)
    assert not path.exists()
    await caches.prepare(config)
    await caches.prepare(config)
    assert path.exists()
    await caches.aclose()


async def test_a_purge_opens_the_file_first(tmp_path: Path) -> None:
    """Else what was to be removed would come back with the first configuration that has a cache."""
    path = tmp_path / "cache.sqlite"
    clock = FakeClock()
    caches = Caches(SqliteBlobs(path, 1 << 20, clock), Registry(), clock, random.Random(7), unaudited)
    assert (await caches.purge("key:a")).matched == 0
    assert path.exists()
    await caches.aclose()


async def test_a_redis_that_is_away_holds_up_no_start_and_purges_nothing() -> None:
    """F67."""
    config = loaded(CACHED + REDIS, GONE).config
    clock = FakeClock()
    caches = Caches(open_blobs(config, clock, random.Random(7), None), Registry(), clock, random.Random(7), unaudited)
    await caches.prepare(config)
    with pytest.raises(StoreUnavailable) as refused:
        await caches.purge("key:a")
    assert "secret" not in refused.value.message
    await caches.aclose()


async def test_what_was_never_opened_is_closed_all_the_same() -> None:
    clock = FakeClock()
    registry = Registry()
    await Caches(MemoryBlobs(1 << 20, clock), registry, clock, random.Random(7), unaudited).aclose()
    assert _counted(registry, "gateway_cache_bytes") == {(): 0.0}


async def test_a_question_in_other_words_is_answered_where_that_is_configured() -> None:
    works = Works()
    text = SIMILAR + BY_TARGET
    await works.caches.prepare(loaded(text).config)
    await works.caches.prepare(loaded(text).config)
    first, second = works.build(text), works.build(text + "# changed\n")
    found = [await ask(first, text=ASKED), await ask(first, text=ALIKE), await ask(second, text=ALIKE)]
    assert [each.cache for each in found] == ["miss", "semantic", "semantic"]
    assert works.calls == {"a": 1}
    assert set(works.inner) == {("b", "embedder")}
    assert set(works.asked) == {"cache"}
    assert _counted(works.registry, "gateway_cache_embedder_up") == {(): 1.0}
    assert _counted(works.registry, "gateway_cache_index_rows") == {(): 1.0}
    await works.caches.aclose()


async def test_what_has_a_longer_time_for_other_words_is_kept_for_so_long() -> None:
    works = Works()
    text = SIMILAR + BY_TARGET
    await works.caches.prepare(loaded(text).config)
    [route] = loaded(text).config.routes
    assert route.cache is not None
    cache = works.caches.make("demo", route.cache, "a", "r1")
    assert (cache.settings.ttl_s, cache.settings.similar_ttl_s, cache.settings.keep_s) == (3600.0, 7200.0, 7200.0)
    usual = loaded(text.replace(", ttl: 2h", "")).config.routes[0].cache
    assert usual is not None
    assert works.caches.make("demo", usual, "a", "r1").settings.similar_ttl_s == 3600.0
    await works.caches.aclose()


@pytest.mark.parametrize("semantic", ["{mode: off}", "{ttl: 1h}"])
async def test_what_is_off_opens_no_embedder(semantic: str) -> None:
    works = Works()
    text = SIMILAR.replace("{mode: static, ttl: 2h}", semantic) + BY_TARGET
    await works.caches.prepare(loaded(text).config)
    assert (await ask(works.build(text), text=ASKED)).cache == "miss"
    assert (await ask(works.build(text), text=ALIKE)).cache == "miss"
    assert works.inner == []


async def test_without_an_embedder_replies_are_given_to_equal_requests_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    works = Works()
    text = SIMILAR + f"cache: {{model_dir: '{tmp_path}'}}\n"
    await works.caches.prepare(loaded(text).config)
    assert "no look-ups by similarity: " in caplog.text
    assert "gateway cache model install" in caplog.text
    assert _counted(works.registry, "gateway_cache_embedder_up") == {(): 0.0}
    generation = works.build(text)
    assert [(await ask(generation, text=each)).cache for each in (ASKED, ASKED, ALIKE)] == ["miss", "hit", "miss"]
    await works.caches.purge("route:demo")
    await works.caches.aclose()


async def test_a_judge_is_asked_through_the_gateway() -> None:
    works = Works()
    text = SIMILAR.replace("mode: static, ttl: 2h", "max_wrong: 1%, judge: {model: demo}") + BY_TARGET
    await works.caches.prepare(loaded(text).config)
    [route] = loaded(text).config.routes
    assert route.cache is not None
    cache = works.caches.make("demo", route.cache, "a", "r1")
    assert cache.similar is not None
    assert cache.similar.judge is not None
    case = Case("Who are you?", "long " * 50, "Who are you, then?", "other " * 50)
    assert (await cache.similar.judge.judge(case)).step == "model"
    assert works.inner == [("demo", "judge")]
    await works.caches.aclose()


async def test_a_purge_forgets_the_questions_too() -> None:
    works = Works()
    text = SIMILAR + BY_TARGET
    await works.caches.prepare(loaded(text).config)
    generation = works.build(text)
    await ask(generation, text=ASKED)
    await works.caches.purge("route:demo")
    assert _counted(works.registry, "gateway_cache_index_rows") == {(): 0.0}
    assert (await ask(generation, text=ALIKE)).cache == "miss"
    await works.caches.aclose()


@pytest.mark.parametrize("text", [CACHED, SIMILAR + BY_TARGET])
async def test_a_complaint_removes_a_reply_and_is_written_down(text: str) -> None:
    works = Works()
    await works.caches.prepare(loaded(text).config)
    generation = works.build(text)
    filled = await ask(generation, text=ASKED)
    assert isinstance(works.caches._blobs, MemoryBlobs)
    [key] = works.caches._blobs._entries
    assert filled.consumer is not None
    assert not await works.caches.complain(key.hex(), Consumer("somebody-else"), "req-8")
    assert not await works.caches.complain("0" * 64, filled.consumer, "req-8")
    assert works.audited == []
    assert await works.caches.complain(f"{key.hex()}-0-9700", filled.consumer, "req-9")
    [audited] = works.audited
    assert (audited.actor, audited.action, audited.subject) == (
        f"key:{filled.consumer.id}",
        "feedback",
        f"cache/entry:{key.hex()}",
    )
    assert (await ask(generation, text=ASKED)).cache == "miss"
    assert not await works.caches.complain("0" * 64, filled.consumer, "req-9")
    await works.caches.aclose()


async def test_what_is_no_receipt_is_said_so() -> None:
    works = Works()
    with pytest.raises(ValueError, match="no receipt"):
        await works.caches.complain("x", Consumer("a"), "req-9")
