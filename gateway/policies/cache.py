"""The cache: the same question again gets the reply that is there, and ten at once make one call.

Stands below the checks (limits, budgets, classification), all of which a hit passes, and directly
around the way to one target, which its key names. Above the yield: rules, key, look-up; a hit is
answered without that way, pays nothing, and is a hit for telemetry. At it: a stream is put together
while it passes, for the store keeps whole replies and tells them either way. Below it: what is complete
and may be kept is kept, and whoever waited for it is let go.

Where the exact look-up finds nothing, one by similarity may follow (`similar`).

A store that is away is a miss, or rather no cache at all (`bypass`); equal requests of one process still
make one call.
"""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol

from gateway.core.errors import CacheMiss
from gateway.core.exchange import Exchange, Reply
from gateway.core.pipeline import Handler, spawn
from gateway.policies.cache_checks import Answered
from gateway.policies.cache_control import CacheControl, read_cache_control
from gateway.policies.cache_key import Keys, Members, share_of
from gateway.policies.cache_look import JITTER, CacheSettings, Look, Shelf
from gateway.policies.cache_reply import Collector, stored_reply
from gateway.policies.cache_rules import Rule, refuse_reply, refuse_request
from gateway.policies.similar import Question, Similar
from gateway.policies.single_flight import Flight
from gateway.store.blobs import Entry, entry_scope, key_scope, prompt_scope, route_scope, tag_scope

CacheResult = Literal["hit", "miss", "bypass", "stored", "rejected"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cache stands: what its keys name besides the request."""

    route: str
    target: str
    revision: str
    """A digest of what makes the target what it is: another model, another place, another revision."""


class Meter(Protocol):
    """Counts what a route's cache does."""

    def count(self, result: CacheResult) -> None:
        """One request was this. `stored` and `rejected` are said of what a miss brought, besides `miss`."""
        ...

    def saved(self, tokens: int, cost_nusd: int) -> None:
        """A hit has saved so much."""
        ...


class Cache:
    """See the module. Raises CacheMiss where the client wants nothing but a stored reply."""

    def __init__(
        self, settings: CacheSettings, place: Place, shelf: Shelf, meter: Meter, similar: Similar | None = None
    ) -> None:
        """Without `similar`, only what is asked in the very same words is the same."""
        self.settings = settings
        self.similar = similar
        self.place = place
        self.shelf = shelf
        self.meter = meter
        self.route_scope = route_scope(place.route)
        self._keys = Keys(settings.share, place.route, place.target, place.revision)

    def __call__(self, exchange: Exchange, call_next: Handler) -> AbstractAsyncContextManager[Reply]:
        """The stored reply, or that of `call_next`."""
        request = exchange.request
        control = read_cache_control(request.headers)
        if not control.stores:
            return self._pass_by(exchange, call_next, control, "the client's cache-control says no-store")
        found = refuse_request(request, self.settings.terms)
        if isinstance(found, Rule):
            return self._pass_by(exchange, call_next, control, f"{found.name}: {found.reason}")
        return _Scope(self, exchange, call_next, self._keys.exact(exchange, found), control, found)

    def _pass_by(
        self, exchange: Exchange, call_next: Handler, control: CacheControl, reason: str
    ) -> AbstractAsyncContextManager[Reply]:
        exchange.cache = "bypass"
        exchange.decide("cache", f"bypass, {reason}")
        self.meter.count("bypass")
        if control.only_if_cached:
            raise nothing_stored()
        return call_next(exchange)


def nothing_stored() -> CacheMiss:
    """What a client is told that wants a stored reply or none."""
    return CacheMiss("There is no stored reply for this request, and its cache-control says only-if-cached.")


class _Scope:
    __slots__ = (
        *("_cache", "_call_next", "_collector", "_control", "_exchange"),
        *("_inner", "_key", "_look", "_members", "_question", "_reply"),
    )

    def __init__(
        self,
        cache: Cache,
        exchange: Exchange,
        call_next: Handler,
        key: bytes,
        control: CacheControl,
        members: Members,
    ) -> None:
        self._cache = cache
        self._exchange = exchange
        self._call_next = call_next
        self._key = key
        self._control = control
        scopes = _scopes(exchange, key, cache.route_scope)
        self._look = Look(cache.settings, cache.shelf, exchange, control, key, scopes)
        self._inner: AbstractAsyncContextManager[Reply] | None = None
        self._reply: Reply | None = None
        self._collector: Collector | None = None
        self._members = members
        self._question: Question | None = None

    async def __aenter__(self) -> Reply:
        try:
            reply = await self._stored()
            if reply is not None:
                return reply
            self._inner = self._call_next(self._exchange)
            reply = self._reply = await self._inner.__aenter__()
        except BaseException:
            self._look.abandon()
            raise
        if self._question is not None:
            reply.headers = [*reply.headers, self._question.header]
        if reply.status == 200 and reply.body is None and reply.is_event_stream:
            request = self._exchange.request
            self._collector = self._cache.shelf.forms.collector(request.dialect, request.operation)
            reply.watch(self._collector.feed)
        return reply

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._inner is None:
            return
        try:
            await self._inner.__aexit__(kind, error, traceback)
        except BaseException:
            self._look.abandon()
            raise
        if error is not None:
            # The client has left, or the reply broke: there is no whole one.
            self._look.abandon()
            return
        try:
            await self._keep()
        except BaseException:
            self._look.abandon()
            raise

    async def _stored(self) -> Reply | None:
        """The reply to a hit; None when the model has to be asked."""
        cache, exchange, shelf = self._cache, self._exchange, self._cache.shelf
        found = await self._look.find()
        if found is not None:
            reply = stored_reply(exchange, found, shelf.forms, shelf.clock.wall())
            if reply is not None:
                reply.headers.append((b"x-gateway-cache-entry", self._key.hex().encode()))
                exchange.decide(
                    "cache",
                    f"hit, entry {self._key.hex()}, {found.age_s(shelf.clock.wall()):.0f} s old, "
                    f"filled by request {found.request_id} of key {found.filled_by}",
                )
                cache.meter.count("hit")
                self._saved(found)
                return reply
        elif cache.similar is not None and self._control.looks_up and self._look.epochs is not None:
            self._question = await cache.similar.look(exchange, self._members, self._look.scopes, self._control)
            reply = self._question.reply(exchange)
            if reply is not None:
                assert self._question.entry is not None
                self._saved(self._question.entry)
                # Those who wait for the same words find the same neighbour, each for itself.
                self._look.abandon(is_failure=False)
                return reply
            exchange.decide("cache", f"nothing similar is given: {self._question.decision.reason}")
        if self._control.only_if_cached:
            exchange.cache = "miss"
            cache.meter.count("miss")
            raise nothing_stored()
        exchange.cache = "miss" if self._control.looks_up and self._look.epochs is not None else "bypass"
        if self._look.epochs is None:
            exchange.decide("cache", "bypass, the store does not answer")
        elif not self._control.looks_up:
            exchange.decide("cache", "bypass, the client's cache-control wants a fresh reply")
        cache.meter.count(exchange.cache)
        return None

    def _saved(self, entry: Entry) -> None:
        self._cache.meter.saved((entry.input_tokens or 0) + (entry.output_tokens or 0), entry.cost_nusd or 0)

    async def _keep(self) -> None:
        """Store the reply, or say why not; let go of whoever waits."""
        cache, exchange = self._cache, self._exchange
        blobs = cache.shelf.blobs
        answered = self._answered()
        rule = refuse_reply(answered)
        if rule is not None:
            exchange.decide("cache", f"not stored, {rule.name}: {rule.reason}")
            cache.meter.count("rejected")
            # Theirs would most likely be refused too: not one after the other, then.
            self._look.abandon(is_failure=False)
            return
        assert answered.body is not None
        entry = self._entry(answered.body)
        flight = self._look.landed()
        if self._look.epochs is None:
            if flight is not None:
                flight.land(entry)
        elif blobs.is_shared:
            # The client's next request must not wait for the store.
            spawn(self._publish(entry, flight), "cache-put")
        else:
            await self._publish(entry, flight)

    async def _publish(self, entry: Entry, flight: Flight | None) -> None:
        """Store, and only then end the flight: who comes between would find neither."""
        try:
            if await self._cache.shelf.blobs.put(self._key, entry):
                self._cache.meter.count("stored")
                if self._question is not None:
                    self._question.stored(self._exchange, self._key, entry)
        finally:
            if flight is not None:
                flight.land(entry)

    def _answered(self) -> Answered:
        exchange, reply, terms = self._exchange, self._reply, self._cache.settings.terms
        assert reply is not None
        body = self._collector.body(exchange.usage) if self._collector is not None else reply.body
        traits: frozenset[str] = frozenset()
        if body is not None and reply.status == 200 and len(body) <= terms.max_entry_bytes:
            request = exchange.request
            traits = self._cache.shelf.forms.traits(request.dialect, request.operation, body)
        return Answered(
            status=reply.status,
            body=body,
            traits=traits,
            finish_reasons=tuple(exchange.finish_reasons),
            operation=exchange.request.operation,
            is_own=exchange.target == self._cache.place.target and exchange.cache in ("miss", "bypass"),
            terms=terms,
        )

    def _entry(self, body: bytes) -> Entry:
        cache, exchange, shelf = self._cache, self._exchange, self._cache.shelf
        assert exchange.consumer is not None
        attempts = exchange.attempts
        return Entry(
            body=body,
            content_type=b"application/json",
            stored_s=shelf.clock.wall(),
            ttl_s=cache.settings.keep_s * shelf.rng.uniform(1 - JITTER, 1 + JITTER),
            target=cache.place.target,
            model_served=exchange.model_served,
            response_id=exchange.response_id,
            finish_reasons=tuple(exchange.finish_reasons),
            input_tokens=exchange.usage.input_tokens,
            output_tokens=exchange.usage.output_tokens,
            # A try that failed before it would not have been needed for a hit either.
            cost_nusd=attempts[-1].cost_nusd if attempts else exchange.cost_nusd,
            filled_by=exchange.consumer.id,
            request_id=exchange.request_id,
            scopes=self._look.scopes,
            epochs=self._look.epochs or (),
            share=share_of(exchange.consumer, cache.settings.share),
        )


def _scopes(exchange: Exchange, key: bytes, route: str) -> tuple[str, ...]:
    """What a purge may name of the entry that this exchange fills."""
    assert exchange.consumer is not None
    found = [entry_scope(key), key_scope(exchange.consumer.id), route]
    if exchange.prompt_name is not None and exchange.prompt_version is not None:
        found.append(prompt_scope(exchange.prompt_name, exchange.prompt_version))
    found += [tag_scope(name, value) for name, value in exchange.tags.items()]
    return tuple(found)
