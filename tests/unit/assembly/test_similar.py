"""Look-ups by similarity, made from a configuration."""

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.assembly.similar import LOG, MAX_RECORDS, Semantics, SimilarMeter, made_by, open_records, open_semantics
from gateway.config.caches import RouteCache
from gateway.config.schema import Config
from gateway.core.errors import UpstreamError
from gateway.policies.cache_key import Keys
from gateway.policies.cache_look import CacheSettings, Shelf
from gateway.policies.similar import EmbedderUnavailable, Similar
from gateway.policies.single_flight import Flights
from gateway.semantic.judge import Case
from gateway.semantic.log import Compared, Seen
from gateway.semantic.rows import Room
from gateway.semantic.verified import KINDS
from gateway.store.memory_blobs import MemoryBlobs
from gateway.store.memory_records import MemoryRecords
from gateway.store.records import Records
from gateway.store.redis_records import RedisRecords
from gateway.store.sqlite_records import SqliteRecords
from gateway.telemetry.metrics import Registry
from gateway.wire.replay import Replay
from tests.fakes import FakeClock, loaded

pytestmark = pytest.mark.anyio

TEXT = """\
apiVersion: gateway/v1
targets:
  emb: {provider: mock, model: one}
routes:
  - {model: demo, target: emb, cache: {exact: 1h, semantic: SEMANTIC}}
"""
GONE = {"REDIS_URL": "redis://user:secret@127.0.0.1:1/0"}
ENTRY = "a" * 64


def config(semantic: str = "{mode: static}", more: str = "") -> Config:
    """A configuration whose one route has this section."""
    return loaded(TEXT.replace("SEMANTIC", semantic) + more, GONE).config


def cache_of(semantic: str) -> RouteCache:
    """The cache of that route."""
    [route] = config(semantic).routes
    assert route.cache is not None
    return route.cache


class Works:
    """What look-ups are made of, with vectors that a fake gives."""

    def __init__(self, semantic: str = "{mode: static}", more: str = "cache: {embedder: 'target:emb'}\n") -> None:
        self.clock = FakeClock()
        self.registry = Registry()
        self.registry.configure(["demo"], ["emb"])
        self.asked: list[str] = []
        self.fault: UpstreamError | None = None
        self.vectors: dict[str, Sequence[float]] = {}
        rng = random.Random(7)
        self.config = config(semantic, more)
        self.semantics = open_semantics(self.config, None, self.clock, rng, self.registry, self._embed)
        blobs = MemoryBlobs(1 << 20, self.clock)
        self.shelf = Shelf(blobs, Flights(), Replay(), self.clock, rng, asyncio.sleep)

    async def _embed(self, text: str) -> Sequence[float]:
        self.asked.append(text)
        if self.fault is not None:
            raise self.fault
        return self.vectors.get(text, [3.0, 4.0])

    def make(self, semantic: str, ask: Any = None, route: str = "demo") -> Similar | None:
        """The look-ups of one route."""
        keys = Keys("key", route, "emb", "r1")
        return self.semantics.make(route, cache_of(semantic), keys, CacheSettings(3600.0), self.shelf, ask)

    def told(self, **changes: Any) -> None:
        """A question was answered."""
        about = Seen(
            *(b"s" * 32, "key=a", "demo", self.semantics.scopes.by, ENTRY, self.clock.wall() + 60.0, "Who are you?"),
            *(b"\x00\x3c\x00\x00", ("key:a",), 0.05),
        )
        self.semantics.scopes.tell(replace(about, **changes))

    def value(self, name: str, *labels: str) -> float:
        """A metric, as it is scraped."""
        self.semantics.measure()
        return {each.labels: each.value for each in self.registry.snapshot().metrics[name]}[labels]


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ("", MemoryRecords),
        ("cache: {persist: true}\n", SqliteRecords),
        ("store: {redis: env:REDIS_URL}\n", RedisRecords),
        ("store: {redis: env:REDIS_URL}\ncache: {persist: true}\n", RedisRecords),
    ],
)
def test_what_is_learned_is_kept_where_the_replies_are(more: str, kind: type[Records], tmp_path: Path) -> None:
    records = open_records(config(more=more), random.Random(7), tmp_path / "q.sqlite")
    assert type(records) is kind
    assert list(tmp_path.iterdir()) == [], "nothing is opened yet"
    assert "secret" not in repr(records)


def test_without_a_place_for_a_file_it_is_forgotten_with_the_process() -> None:
    records = open_records(config(more="cache: {persist: true}\n"), random.Random(7), None)
    assert type(records) is MemoryRecords


def test_more_names_are_known_than_the_log_keeps_records() -> None:
    assert Room().records >= 1.2 * MAX_RECORDS
    assert LOG == "questions"


def test_an_embedder_that_is_not_installed_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EmbedderUnavailable, match="gateway cache model install"):
        open_semantics(
            config(more=f"cache: {{model_dir: '{tmp_path}'}}\n"),
            *(None, FakeClock(), random.Random(7), Registry(), None),
        )


def test_vectors_of_another_model_of_a_target_are_others() -> None:
    by_target = "cache: {embedder: 'target:emb'}\n"
    plain, other = (
        made_by(loaded(TEXT.replace("SEMANTIC", "{mode: static}").replace("one", model) + by_target).config)
        for model in ("one", "two")
    )
    assert plain.startswith("target:emb@")
    assert plain != other
    assert plain == made_by(config(more=by_target))
    assert made_by(config()) == "minilm"


async def test_a_text_is_embedded_in_its_one_spelling_and_to_length_one() -> None:
    works = Works()
    vector = await works.semantics.embed("  Who \u201care\u201d   you? ")
    assert vector is not None
    assert vector.tolist() == pytest.approx([0.6, 0.8])
    assert works.asked == ['Who "are" you?']
    assert works.value("gateway_cache_embeddings_total", "computed") == 1


async def test_after_a_reload_with_another_model_there_are_no_vectors_until_a_restart() -> None:
    works = Works()
    works.semantics.follow(works.config)
    assert await works.semantics.embed("Who are you?") is not None
    other = loaded(TEXT.replace("SEMANTIC", "{mode: static}").replace("model: one", "model: two"), GONE).config
    changed = other.model_copy(update={"cache": works.config.cache})
    with pytest.raises(EmbedderUnavailable, match=r"is another one now .target:emb.: restart"):
        works.semantics.follow(changed)
    assert await works.semantics.embed("Who are you?") is None
    works.semantics.follow(works.config)
    assert await works.semantics.embed("Who are you?") is not None


async def test_without_a_vector_there_is_none() -> None:
    works = Works()
    works.fault = UpstreamError("no", upstream_status=500)
    assert await works.semantics.embed("Who are you?") is None
    assert works.value("gateway_cache_embeddings_total", "failed") == 1


@pytest.mark.parametrize("semantic", ["{mode: off}", "{}"])
async def test_a_route_that_is_off_has_none(semantic: str) -> None:
    assert Works().make(semantic) is None


async def test_the_settings_of_a_route_are_those_of_its_look_ups() -> None:
    works = Works()
    static = works.make("{mode: static, threshold: 0.8}")
    assert static is not None
    assert (static.settings.mode, static.settings.rules.threshold, static.settings.ttl_s) == ("static", 0.8, 3600)
    assert static.judge is None
    verified = works.make("{max_wrong: 2%, ttl: 10m, judge: {model: demo}}")
    assert verified is not None
    assert (verified.settings.mode, verified.settings.max_wrong, verified.settings.ttl_s) == ("verified", 0.02, 600)
    assert verified.settings.rules.max_wrong == 0.02
    shadow = works.make("{mode: shadow}")
    assert shadow is not None
    assert shadow.settings.max_wrong == shadow.settings.rules.max_wrong == 0.01
    assert shadow.judge is not None
    assert not shadow.judge.has_model
    assert shadow.engine is verified.engine is static.engine


async def test_a_reload_gives_a_judge_no_new_budget() -> None:
    works = Works()
    asked: list[str] = []

    async def ask(prompt: str) -> str:
        asked.append(prompt)
        return "equal"

    judges = [works.make("{max_wrong: 1%, judge: {model: demo, calls_per_hour: 1}}", ask) for _ in range(2)]
    one, two = (each.judge for each in judges if each is not None)
    assert one is two
    assert one is not None
    case = Case("Who are you?", "long " * 50, "Who are you, then?", "other " * 50)
    assert (await one.judge(case)).verdict == "equal"
    assert not one.is_ready
    more = works.make("{max_wrong: 1%, judge: {model: demo, calls_per_hour: 2}}", ask)
    assert more is not None
    assert more.judge is not one
    other = works.make("{max_wrong: 1%, judge: {model: demo, calls_per_hour: 1}}", ask, "other")
    assert other is not None
    assert other.judge is not one
    assert len(asked) == 1


async def test_short_answers_are_judged_by_their_facts_and_their_vectors() -> None:
    works = Works()
    similar = works.make("{mode: verified}")
    assert similar is not None
    assert similar.judge is not None
    judge = similar.judge.judge

    def case(one: str, other: str) -> Case:
        return Case("What does it cost?", one, "What is its price?", other)

    assert (await judge(case("It costs 5 dollars.", "It costs 6 dollars."))).step == "facts"
    assert (await judge(case("The sky is blue.", "The  sky is blue."))).step == "same"
    assert (await judge(case("It is blue and wide.", "It is blue and wide!"))).step == "close"
    works.vectors = {"The sea is deep.": [1.0, 0.0], "The sea is deep!": [0.0, 1.0]}
    assert (await judge(case("The sea is deep.", "The sea is deep!"))).step == "far"
    works.fault = UpstreamError("no", upstream_status=500)
    assert (await judge(case("The moon is white.", "the moon is white"))).step == "open"


async def test_what_is_told_comes_back_and_what_is_purged_goes() -> None:
    works = Works()
    await works.semantics.start()
    works.told()
    assert works.value("gateway_cache_index_rows") == 1
    assert works.value("gateway_cache_index_bytes") > 0
    works.semantics.purge("key:a")
    assert works.value("gateway_cache_index_rows") == 0


async def test_the_records_of_what_is_purged_are_deleted() -> None:
    works = Works()
    records = Deleting()
    semantics = Semantics(works.config, records, works.clock, random.Random(7), works.registry, works._embed)
    works.semantics = semantics
    await semantics.start()
    works.told()
    semantics.purge("key:b")
    assert records.deleted == []
    semantics.purge("key:a")
    assert records.deleted == [["1-0"]]


class Deleting(MemoryRecords):
    """A log that notes what is to be deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.deleted: list[list[str]] = []

    def delete(self, ids: Sequence[str]) -> None:
        """See Records."""
        self.deleted.append(list(ids))


async def test_a_complaint_is_learned_from() -> None:
    works = Works()
    await works.semantics.start()
    works.told()
    works.semantics.complain(ENTRY, KINDS[0], 0.97)
    assert works.value("gateway_cache_index_rows") == 0


async def test_what_a_route_has_come_to_is_measured() -> None:
    works = Works()
    await works.semantics.start()
    for number in range(4):
        verdict = "different" if number == 0 else "equal"
        compared = Compared("b" * 64, "none", KINDS[0], 0.97, True, verdict)  # type: ignore[arg-type]
        works.told(text=f"Number {number}", compared=compared)
    assert works.value("gateway_cache_audited_hits", "demo") == 4
    assert works.value("gateway_cache_wrong_share", "demo", "estimate") == 0.25
    assert 0 < works.value("gateway_cache_wrong_share", "demo", "lower") < 0.25
    assert 0.25 < works.value("gateway_cache_wrong_share", "demo", "upper") < 1
    assert works.value("gateway_cache_scopes", "demo", "open") == 0
    assert works.value("gateway_cache_scopes", "demo", "closed") == 1
    assert works.value("gateway_cache_log_lag_seconds") == 0
    await works.semantics.aclose()
    works.told()
    assert works.value("gateway_cache_log_dropped_total") == 1


async def test_a_route_that_is_forgotten_is_not_measured_any_more() -> None:
    works = Works()
    await works.semantics.start()
    works.told()
    assert works.value("gateway_cache_scopes", "demo", "closed") == 1
    works.semantics.scopes.reset()
    works.semantics.measure()
    assert works.registry.snapshot().metrics.get("gateway_cache_scopes", []) == []


async def test_the_end_leaves_no_comparison_under_way() -> None:
    works = Works()
    similar = works.make("{mode: verified}")
    assert similar is not None
    endless = asyncio.create_task(_for_ever())
    similar.engine.lessons.add(endless)
    await works.semantics.aclose()
    assert endless.cancelled()


async def _for_ever() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("say", "name", "labels"),
    [
        (lambda meter: meter.count("semantic"), "gateway_cache_requests_total", ("demo", "semantic")),
        (lambda meter: meter.looked(0.9, "number"), "gateway_cache_guard_rejections_total", ("demo", "number")),
        (lambda meter: meter.judged("equal", "same"), "gateway_cache_comparisons_total", ("demo", "equal", "same")),
    ],
)
def test_look_ups_are_counted(say: Callable[[SimilarMeter], None], name: str, labels: tuple[str, ...]) -> None:
    registry = Registry()
    meter = SimilarMeter(registry, "demo")
    registry.configure(["demo"], [])
    meter.looked(0.9, None)
    say(meter)
    [sample] = registry.snapshot().metrics[name]
    assert (sample.labels, sample.value) == (labels, 1.0)
