"""The data plane: one exchange in, one reply out, whatever happens in between.

The order is fixed (CONTRACT: who wins): head, key, tags, body, model, route, reply. Everything runs
in one task, inside one scope that observes it; a client that leaves, a body that trickles or the end
of a drain cancel that task, so all that is open is closed by the scopes on the way out.
"""

import asyncio
import logging
import random
from collections.abc import MutableMapping
from typing import Any

from gateway.assembly.generation import Route
from gateway.core.clock import Clock
from gateway.core.errors import (
    Forbidden,
    GatewayError,
    InternalError,
    InvalidRequest,
    NotFound,
    Overloaded,
    UnsupportedMediaType,
)
from gateway.core.exchange import Consumer, Exchange, Reply, Request, RequestHead
from gateway.edge import inbound
from gateway.edge.body import body_pieces, declared_length, read_body, too_large
from gateway.edge.endpoints import Endpoint, find
from gateway.edge.feedback import MAX_BYTES as MAX_FEEDBACK_BYTES
from gateway.edge.feedback import PATH as FEEDBACK_PATH
from gateway.edge.feedback import feedback
from gateway.edge.inbound import Found
from gateway.edge.local import local_reply
from gateway.edge.protocol import EdgeProtocol
from gateway.edge.respond import Responder
from gateway.edge.running import Running
from gateway.edge.serving import Serving
from gateway.telemetry.observe import Observation
from gateway.wire.strict_json import parse_head

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]

_UNKNOWN = Endpoint("openai", "relay", "", "none")
_MODELS = b"/v1/models"
_OVERLOADED_RETRY_S = 1.0
# A body above this is parsed for milliseconds; nothing else would run meanwhile.
_PARSED_AT_ONCE_BYTES = 256 * 1024
_PARSE_OFF_LOOP_BYTES = 1024 * 1024


class Interruption:
    """Ends an exchange from outside, once, with a reason."""

    __slots__ = ("_task", "error")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self.error: GatewayError | None = None

    def __call__(self, error: GatewayError) -> None:
        if self.error is None:
            self.error = error
            self._task.cancel()


class DataPlane:
    """The ASGI application of the data listener."""

    is_direct = True
    """Every error is answered here: nothing need stand around it (see `edge/protocol.py`)."""

    def __init__(self, running: Running, clock: Clock, rng: random.Random) -> None:
        self._running = running
        self._clock = clock
        self._rng = rng

    async def __call__(self, scope: Scope, receive: object, send: object) -> None:
        """Serve one request, on the connection that the protocol put into the scope (see `edge/writing.py`)."""
        connection: EdgeProtocol = scope["gateway.connection"]
        raw_path = scope["raw_path"]
        if raw_path in _HEALTH:
            self._health(raw_path, connection)
            return
        running, task = self._running, connection.task
        assert task is not None
        generation = running.generations.enter()
        interrupt = connection.on_gone = Interruption(task)
        running.inflight.add(interrupt)
        try:
            found = inbound.pick(scope["headers"])
            endpoint = find(scope["method"], raw_path)
            exchange = self._begin(generation, scope, found, endpoint)
            responder = Responder(exchange, connection, self._clock, running.is_draining)
            with running.observer.observe(exchange) as observation:
                try:
                    await self._answer(generation, exchange, found, endpoint, connection, responder, observation)
                except GatewayError as error:
                    self._fail(exchange, responder, connection, error)
                except asyncio.CancelledError:
                    if interrupt.error is None:
                        raise
                    task.uncancel()
                    self._fail(exchange, responder, connection, interrupt.error)
                except Exception:
                    logger.exception("request %s failed", exchange.request_id)
                    self._fail(exchange, responder, connection, InternalError())
        finally:
            # A scope that settles late must not take the next request's away.
            if connection.on_gone is interrupt:
                connection.on_gone = None
            running.inflight.discard(interrupt)
            running.generations.leave(generation)

    def _health(self, raw_path: bytes, connection: EdgeProtocol) -> None:
        ready = raw_path == b"/livez" or self._running.is_ready
        body = b"ok\n" if ready else b"draining\n"
        connection.respond(200 if ready else 503, b"content-type: text/plain; charset=utf-8\r\n", body)

    def _fail(self, exchange: Exchange, responder: Responder, connection: EdgeProtocol, error: GatewayError) -> None:
        exchange.error = error
        if connection.has_unread_body:
            responder.close_after()
        responder.fail(error)

    def _begin(
        self, generation: Serving, scope: Scope, found: Found, endpoint: Endpoint | frozenset[str] | None
    ) -> Exchange:
        known = endpoint if isinstance(endpoint, Endpoint) else _UNKNOWN
        request = Request(
            scope["method"],
            scope["path"],
            scope["query_string"],
            scope["headers"],
            "anthropic" if known is _UNKNOWN and b"anthropic-version" in found else known.dialect,
            known.operation,
            known.suffix,
            content_type=found.get(b"content-type", b""),
        )
        now_s = self._clock.monotonic()
        # By position: names cost a tenth of a microsecond here.
        return Exchange(
            request,
            inbound.request_id(found, self._rng),
            self._running.tracer.begin(found.get(b"traceparent"), found.get(b"tracestate")),
            now_s,
            now_s,
            self._clock.wall(),
            generation.revision,
        )

    async def _answer(
        self,
        generation: Serving,
        exchange: Exchange,
        found: Found,
        endpoint: Endpoint | frozenset[str] | None,
        connection: EdgeProtocol,
        responder: Responder,
        observation: Observation,
    ) -> None:
        request = exchange.request
        running = self._running
        if len(running.inflight) > generation.max_inflight:
            raise Overloaded(
                "The gateway has as many requests in flight as it allows (server.max_inflight).",
                retry_after_s=_OVERLOADED_RETRY_S,
            )
        inbound.require_sound(found)
        if found[b"host"] not in generation.hosts.known:
            generation.hosts.require(found[b"host"])
        consumer = exchange.consumer = generation.keyring.identify(found)
        if not isinstance(endpoint, Endpoint):
            await responder.reply(await self._own(generation, exchange, found, endpoint, connection))
            return
        _read_options(generation, exchange, consumer, found)
        arrived: bytes | None = None
        if endpoint.body == "json" and found.get(b"content-type") == b"application/json":
            arrived = connection.whole_body()
        if arrived and len(arrived) <= _PARSED_AT_ONCE_BYTES and b"content-encoding" not in found:
            # As nearly every request comes: JSON, small, and all of it here.
            if len(arrived) > generation.max_body:
                raise too_large(generation.max_body)
            request.body = arrived
            request.head = parse_head(arrived, endpoint.operation, path_model=endpoint.model)
        else:
            await self._receive(generation, request, found, endpoint, connection, arrived)
        exchange.received_s = self._clock.monotonic()
        route = self._route(generation, exchange, found)
        observation.routed()
        exchange.priority = consumer.priority or route.priority
        inflight = len(running.inflight) - 1
        shed = generation.shedder.admit(exchange.priority, inflight, running.lag_s, running.rss_bytes)
        if shed is not None:
            raise shed
        if b"x-gateway-target" in found:
            self._pin(exchange, found[b"x-gateway-target"])
        async with route.handler(exchange) as reply:
            if reply.body is not None:
                responder.whole(reply, reply.body)
            else:
                await responder.reply(reply)

    async def _own(
        self,
        generation: Serving,
        exchange: Exchange,
        found: Found,
        allowed: frozenset[str] | None,
        connection: EdgeProtocol,
    ) -> Reply:
        """What the gateway answers itself."""
        request = exchange.request
        if request.path != FEEDBACK_PATH or request.method != "POST":
            return local_reply(generation, exchange, allowed)
        assert exchange.consumer is not None
        exchange.tags = inbound.read_tags(found, exchange.consumer.tags)
        if generation.isolation:
            _require_not_isolated(generation, exchange)
        if not inbound.is_json(found.get(b"content-type")):
            raise UnsupportedMediaType("This endpoint takes Content-Type: application/json only.")
        body = await _read_rest(connection, MAX_FEEDBACK_BYTES, None)
        return await feedback(exchange, body, self._running.caches)

    async def _receive(
        self,
        generation: Serving,
        request: Request,
        found: Found,
        endpoint: Endpoint,
        connection: EdgeProtocol,
        arrived: bytes | None,
    ) -> None:
        """Read the body as the endpoint wants it, and what of it decides the way. `arrived` was taken already."""
        if endpoint.model is not None:
            request.head = RequestHead(model=endpoint.model)
        limit = generation.max_body
        length = declared_length(found.get(b"content-length"), limit)
        json = inbound.is_json(found.get(b"content-type"))
        if endpoint.body == "json" and not json:
            raise UnsupportedMediaType("This endpoint takes Content-Type: application/json only.")
        if endpoint.body == "none" or (endpoint.body == "any" and length == 0):
            return
        if found.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UnsupportedMediaType("A compressed request body is not supported; send it without Content-Encoding.")
        if endpoint.body == "any" and not json:
            request.content_length = length
            request.body_stream = body_pieces(connection.active.receive, limit)
            return
        body = await _read_rest(connection, limit, arrived)
        if not body and endpoint.body == "any":
            return
        request.body = body
        if len(body) > _PARSE_OFF_LOOP_BYTES:
            request.head = await asyncio.to_thread(parse_head, body, endpoint.operation, path_model=endpoint.model)
        else:
            request.head = parse_head(body, endpoint.operation, path_model=endpoint.model)

    def _route(self, generation: Serving, exchange: Exchange, found: Found) -> Route:
        model = exchange.request.head.model
        if model is None:
            named = found.get(b"x-gateway-route", b"").decode("latin-1") or generation.default_route
            if not named:
                raise InvalidRequest(
                    "The request names no model, so it needs a route: send x-gateway-route: ROUTE, "
                    "or set server.default_route.",
                    param="model",
                )
            route = generation.routes_by_name.get(named) or generation.routes.find(named)
            model = named
        else:
            route = generation.routes.find(model)
        assert exchange.consumer is not None
        if not generation.allows(exchange.consumer, model):
            raise Forbidden(f"This key may not use the model {model!r}.", param="model")
        if route is None:
            raise NotFound(f"The model {model!r} does not exist: no route of this gateway matches it.", param="model")
        exchange.route = route.name
        exchange.decisions.append(route.decision)
        return route

    def _pin(self, exchange: Exchange, pinned: bytes) -> None:
        assert exchange.consumer is not None
        if not exchange.consumer.may_pin:
            raise Forbidden("This key may not choose a target (x-gateway-target).", code="pin_not_allowed")
        exchange.pinned_target = pinned.decode("latin-1")


def _read_options(generation: Serving, exchange: Exchange, consumer: Consumer, found: Found) -> None:
    """Read the gateway's own headers, and require what must be among them."""
    # Most requests have none: a call that finds nothing to do costs as much as three of these lines.
    if b"x-gateway-prompt" in found or b"x-gateway-timeout" in found or b"x-gateway-hops" in found:
        inbound.read_optional(exchange, found)
    exchange.tags = inbound.read_tags(found, consumer.tags) if b"x-gateway-tags" in found else consumer.tags
    if generation.is_isolating:
        _require_not_isolated(generation, exchange)
    if generation.required_tags:
        inbound.require_tags(exchange.tags, generation.required_tags)


def _require_not_isolated(generation: Serving, exchange: Exchange) -> None:
    """Raise Forbidden for whoever an operator has shut out (`gateway isolate`)."""
    isolation = generation.isolation
    assert exchange.consumer is not None
    if exchange.consumer.id in isolation.keys or not isolation.tags.isdisjoint(exchange.tags.items()):
        raise Forbidden("This key, or one of its tags, is isolated by an operator.", code="isolated")


async def _read_rest(connection: EdgeProtocol, limit: int, arrived: bytes | None) -> bytes:
    """The whole body, of which `arrived` may be all. Raises RequestTooLarge and ClientGone."""
    body = connection.whole_body() if arrived is None else arrived
    if body is None:
        return await read_body(connection.active.receive, limit)
    if len(body) > limit:
        raise too_large(limit)
    return body


_HEALTH = frozenset({b"/livez", b"/readyz", b"/healthz"})
