"""The same question in other words: a stored reply is given for it, or it is learned why not.

Stands in the cache, behind its exact look-up. Above the yield: the last message is embedded, its neighbours in the
same scope are looked at, and, where that is allowed, the reply that one of them got is read again from the store and
given. Below it, once the model's own reply is stored: the two answers are compared where a label is wanted, apart
from the request, and what came of it goes into the log that all replicas fold.

Anything that is late, away or broken is a miss, and says so in `x-gateway-cache-reason`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from gateway.core.exchange import Exchange, Reply
from gateway.core.pipeline import spawn
from gateway.policies.cache_control import CacheControl
from gateway.policies.cache_key import Keys, Last, Members, Share, last_message, share_of
from gateway.policies.cache_look import CacheSettings, Shelf
from gateway.policies.cache_reply import stored_reply
from gateway.policies.cache_rules import refuse_similar
from gateway.policies.receipt import receipt
from gateway.semantic.judge import Case, Judge, Judgement
from gateway.semantic.log import Compared, Seen
from gateway.semantic.verified import Decision
from gateway.store.blobs import Entry

Vector = Any
"""A unit vector as the embedder makes it; nobody looks inside here."""
Outcome = Literal["semantic", "would_hit", "audit"]
MOST_LESSONS = 64
"""Comparisons under way in one process; what comes above goes unlabelled, whatever it would have said."""


class EmbedderUnavailable(Exception):
    """There is nothing to make vectors with; the message says what to do."""


class Neighbours(Protocol):
    """What a process knows of questions; `gateway.semantic.scopes.Scopes`."""

    @property
    def by(self) -> str:
        """What makes the vectors."""
        ...

    def look(self, scope: bytes, text: str, vector: Vector, rules: Any) -> Decision:
        """What to do with a question. Raises ValueError for a vector of other dimensions."""
        ...

    def question_of(self, row: str) -> str | None:
        """The text of a row."""
        ...

    def tell(self, seen: Seen) -> None:
        """Remember a question, here and everywhere."""
        ...

    def forget(self, entry: str) -> None:
        """A reply turned out to be gone."""
        ...


class Meter(Protocol):
    """Counts what look-ups by similarity of one route come to."""

    def looked(self, similarity: float, guard: str | None) -> None:
        """The nearest neighbour's similarity, and the guard that kept its reply from being given."""
        ...

    def count(self, outcome: Outcome) -> None:
        """A look-up came to this."""
        ...

    def judged(self, verdict: str, step: str) -> None:
        """Two answers were compared."""
        ...


@dataclass(frozen=True, slots=True)
class SimilarSettings:
    """One route's look-ups by similarity."""

    mode: Literal["shadow", "static", "verified"]
    rules: Any
    """As `Neighbours.look` takes them."""
    max_wrong: float
    ttl_s: float
    """How long a reply may be given for another question than its own."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What all look-ups of a process share."""

    neighbours: Neighbours
    embed: Callable[[str], Awaitable[Vector | None]]
    """None when there is no vector in time. Never fails."""
    packed: Callable[[Vector], bytes]
    lessons: set[asyncio.Task[None]]
    """Comparisons under way."""


class Similar:
    """The look-ups of one route before one target. `keys` are the cache's own."""

    def __init__(
        self,
        settings: SimilarSettings,
        engine: Engine,
        judge: Judge | None,
        keys: Keys,
        cached: CacheSettings,
        shelf: Shelf,
        meter: Meter,
    ) -> None:
        """`judge`: None in `static`, where nothing is learned."""
        self.settings = settings
        self.engine = engine
        self.judge = judge
        self.cached = cached
        self.shelf = shelf
        self.meter = meter
        self._keys = keys

    async def look(
        self, exchange: Exchange, members: Members, scopes: tuple[str, ...], control: CacheControl
    ) -> "Question":
        """What is known of the exchange's last message; with a reply where one may be given."""
        last = last_message(exchange.request.operation, members.values)
        rule = refuse_similar(last)
        if rule is not None or last is None:
            return Question(self, None, None, b"", Decision("pass", str(rule)))
        scope = self._keys.context(exchange, last)
        vector = await self.engine.embed(last.text)
        if vector is None:
            return Question(self, None, None, b"", Decision("pass", "embedding_late"))
        try:
            decision = self.engine.neighbours.look(scope, last.text, vector, self.settings.rules)
        except ValueError:
            return Question(self, None, None, b"", Decision("pass", "embedding_unfit"))
        decision = self._permitted(decision, control)
        if decision.similarity > 0:
            self.meter.looked(decision.similarity, decision.guard)
        question = Question(self, last, vector, scope, decision)
        if decision.action == "serve":
            await question.read(scopes, control)
        return question

    def _permitted(self, decision: Decision, control: CacheControl) -> Decision:
        """What the mode leaves of a decision."""
        if self.settings.mode == "shadow" and decision.action in ("serve", "audit"):
            self.meter.count("would_hit")
            # All would-be hits go upstream anyway, so all of them are audits. One of the very same words tells nothing.
            return replace(decision, action="audit" if decision.kind else "pass", reason="shadow")
        # There has to be a fresh answer, and somebody to compare it.
        is_auditable = not control.only_if_cached and self.judge is not None and self.judge.is_ready
        if decision.action == "audit" and not is_auditable:
            return replace(decision, action="serve", reason="open")
        if decision.action == "audit":
            self.meter.count("audit")
        return decision

    def share_of(self, exchange: Exchange) -> str:
        """Who shares the scope of an exchange."""
        assert exchange.consumer is not None
        share: Share = self.cached.share
        return share_of(exchange.consumer, share)


class Question:
    """One request's last message on its way."""

    __slots__ = ("_last", "_scope", "_similar", "_vector", "decision", "entry")

    def __init__(self, similar: Similar, last: Last | None, vector: Vector, scope: bytes, decision: Decision) -> None:
        self._similar = similar
        self._last = last
        self._vector = vector
        self._scope = scope
        self.decision = decision
        self.entry: Entry | None = None
        """What may be given."""

    async def read(self, scopes: tuple[str, ...], control: CacheControl) -> None:
        """Read the neighbour's reply from the store, which alone knows whether it was purged; it may be too old."""
        similar, decision = self._similar, self.decision
        assert decision.entry is not None
        shelf = similar.shelf
        found = await shelf.blobs.find(bytes.fromhex(decision.entry), scopes)
        if found.entry is None:
            reason = "store_away"
            if found.epochs is not None:
                similar.engine.neighbours.forget(decision.entry)
                reason = "gone"
            self.decision = replace(decision, action="pass", reason=reason)
            return
        age_s = found.entry.age_s(shelf.clock.wall())
        if age_s > similar.settings.ttl_s or (control.max_age_s is not None and age_s > control.max_age_s):
            self.decision = replace(decision, action="pass", reason="old")
            return
        self.entry = found.entry

    def reply(self, exchange: Exchange) -> Reply | None:
        """The stored reply for the client; None when there is none, or it cannot be told in the form it wants."""
        similar, entry, decision = self._similar, self.entry, self.decision
        if entry is None:
            return None
        reply = stored_reply(exchange, entry, similar.shelf.forms, similar.shelf.clock.wall(), "semantic")
        if reply is None:
            self.decision = replace(decision, action="pass", reason="form")
            return None
        reply.headers += [
            (b"x-gateway-similarity", b"%.4f" % decision.similarity),
            (b"x-gateway-cache-entry", receipt(decision).encode()),
            self.header,
        ]
        exchange.decide(
            "cache",
            f"semantic hit ({decision.reason}), similarity {decision.similarity:.4f}, entry {decision.entry}, "
            f"filled by request {entry.request_id} of key {entry.filled_by}",
        )
        similar.meter.count("semantic")
        return reply

    @property
    def header(self) -> tuple[bytes, bytes]:
        """Why the reply is what it is: in one word."""
        return b"x-gateway-cache-reason", self.decision.reason.encode()

    def stored(self, exchange: Exchange, key: bytes, entry: Entry) -> None:
        """The model's own reply has been stored under `key`: remember the question, and learn from the answer."""
        if self._last is None:
            return
        lessons = self._similar.engine.lessons
        if not self._wants_label or len(lessons) >= MOST_LESSONS:
            self._tell(exchange, key, entry, None)
            return
        task = spawn(self._learn(exchange, key, entry), "cache-lesson")
        lessons.add(task)
        task.add_done_callback(lessons.discard)

    @property
    def _wants_label(self) -> bool:
        judge = self._similar.judge
        return self.decision.wants_label and judge is not None and judge.is_ready

    async def _learn(self, exchange: Exchange, key: bytes, entry: Entry) -> None:
        compared = await self._compared(exchange, entry)
        # A purge that came meanwhile has already seen to everything that was there: nothing must follow it.
        if (await self._similar.shelf.blobs.find(key, ())).entry is not None:
            self._tell(exchange, key, entry, compared)

    async def _compared(self, exchange: Exchange, fresh: Entry) -> Compared | None:
        similar, decision = self._similar, self.decision
        assert similar.judge is not None and self._last is not None
        assert decision.entry is not None and decision.row is not None
        known = (await similar.shelf.blobs.find(bytes.fromhex(decision.entry), ())).entry
        question = similar.engine.neighbours.question_of(decision.row)
        if known is None or question is None:
            return None
        request, forms = exchange.request, similar.shelf.forms
        texts = [forms.text(request.dialect, request.operation, each.body) for each in (known, fresh)]
        judgement = Judgement("unsure", "open")
        if texts[0] is not None and texts[1] is not None:
            judgement = await similar.judge.judge(Case(question, texts[0], self._last.text, texts[1]))
        similar.meter.judged(judgement.verdict, judgement.step)
        is_audit = decision.action == "audit"
        return Compared(decision.entry, decision.row, decision.kind, decision.similarity, is_audit, judgement.verdict)

    def _tell(self, exchange: Exchange, key: bytes, entry: Entry, compared: Compared | None) -> None:
        similar, engine = self._similar, self._similar.engine
        assert self._last is not None
        engine.neighbours.tell(
            Seen(
                scope=self._scope,
                tenant=similar.share_of(exchange),
                route=exchange.route or "",
                by=engine.neighbours.by,
                entry=key.hex(),
                until_s=entry.stored_s + min(entry.ttl_s, similar.settings.ttl_s),
                text=self._last.text,
                vector=engine.packed(self._vector),
                names=entry.scopes,
                max_wrong=similar.settings.max_wrong,
                compared=compared,
            )
        )
