"""The innermost handler: one attempt at one target, from the request's bytes to the reply's events.

Life of an attempt: rewrite the few bytes that must change, open the upstream, then
- an error status becomes an exception (or, when the caller is at fault, a reply), with the
  provider's own body kept where the client may see it;
- an event stream is held back until its first event, so that an error that comes instead of an
  answer still has an HTTP status of its own, and another target can still be tried (F26);
- any other body is read whole, or passed on piece by piece when it is a relayed file.
Whatever ends the reply, the connection is given back or cut, and usage is settled, in one `finally`.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType

from gateway.core.clock import Clock
from gateway.core.errors import (
    DeadlineExceeded,
    GatewayError,
    Headers,
    InvalidRequest,
    UpstreamError,
    UpstreamReplyError,
    UpstreamTimeout,
)
from gateway.core.exchange import Attempt, Exchange, Operation, Reply, Request
from gateway.providers.decoding import decoder_for, whole_body
from gateway.providers.failures import failed, first_event_failed
from gateway.providers.headers import FORWARDED_UP, Layout, Layouts, Sieve, down, first
from gateway.providers.kinds import Addressing, ProviderKind, relayed_query
from gateway.providers.streams import EventStream, Pieces
from gateway.transport.base import Timeouts, Upstream, UpstreamRequest, UpstreamResponse
from gateway.wire.replies import estimate, read_reply
from gateway.wire.stream_reader import StreamReader, reader_for
from gateway.wire.strict_json import BoundName, rewrite

MAX_REPLY_BYTES = 64 * 1024 * 1024
_MAX_BUFFERED_RELAY_BYTES = 4 * 1024 * 1024
# uvloop's clock counts milliseconds: a timer may fire that much early.
_TIMER_SLACK_S = 0.005
_REMEMBERED_PATHS = 1024
# Embeddings have no output to be bounded.
_BOUNDS: dict[Operation, BoundName] = {
    "text_completion": "max_tokens",
    "responses": "max_output_tokens",
    "messages": "max_tokens",
}
_STREAM_USAGE_OPERATIONS = frozenset({"chat", "text_completion"})


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """One target as the configuration describes it."""

    name: str
    kind: ProviderKind
    addressing: Addressing
    connect_s: float
    first_token_s: float
    idle_s: float
    total_s: float
    model: str | None = None
    """Replaces the client's model name; None passes it through."""
    headers: Headers = field(default_factory=list, repr=False)
    """Credential and fixed headers."""
    default_headers: Headers = field(default_factory=list)
    """Sent with requests in the Anthropic dialect when the client sent none of that name."""
    inject_usage: bool = True
    chat_bound: BoundName = "max_tokens"
    """Where a chat completion is bounded when the gateway has to; see `kinds.chat_bound`."""


class Target:
    """Answers an exchange with a provider's reply. One attempt; never retries."""

    def __init__(self, settings: TargetSettings, upstream: Upstream, clock: Clock) -> None:
        self._settings = settings
        self.upstream = upstream
        self.clock = clock
        self.model = settings.model
        self._fixed_headers: Headers = [*settings.headers, (b"accept-encoding", b"identity")]
        fixed_names = frozenset(name for name, _ in self._fixed_headers)
        self._paths: dict[tuple[str, bytes, str], bytes] = {}
        self.layout = Layouts()
        self._forwarded = Sieve(((FORWARDED_UP | settings.kind.forwards) - fixed_names).__contains__)

    def __call__(self, exchange: Exchange) -> "TargetReply":
        """The provider's reply, as a scope. Raises what `Upstream.open` raises, and what `failures` maps."""
        return TargetReply(self, exchange)

    async def read(self, exchange: Exchange, response: UpstreamResponse, layout: Layout) -> Reply:
        """The reply to a response that is no event stream, and not the usual JSON either."""
        if not 200 <= response.status < 300:
            return await failed(exchange, response)
        response.begin()
        if exchange.request.operation == "relay" and _is_relayed_in_pieces(response, layout):
            return _pieces(response)
        body = await whole_body(response, MAX_REPLY_BYTES)
        return self.whole_reply(exchange, response.status, layout.down(response.headers), body)

    def whole_reply(self, exchange: Exchange, status: int, headers: Headers, body: bytes) -> Reply:
        """The reply with this body."""
        request = exchange.request
        if request.operation != "relay":
            facts = read_reply(request.dialect, request.operation, body)
            if not facts.is_json:
                raise UpstreamError(
                    f"The provider answered {status} with something that is not a JSON object.",
                    upstream_status=status,
                )
            if facts.error is not None:
                raise first_event_failed(facts.error, body=body, headers=headers)
            if not facts.is_settled:
                estimate(facts, request.operation, prompt_bytes=len(request.body))
            exchange.usage = facts.usage
            exchange.response_id = facts.response_id
            exchange.finish_reasons = facts.finish_reasons
            if facts.model is not None:
                exchange.model_served = facts.model
        return Reply(status, headers, body, exchange.usage)

    def outgoing(self, exchange: Exchange, attempt: Attempt) -> tuple[UpstreamRequest, bool]:
        """The request as it goes up, and whether usage was asked for on the gateway's own account."""
        request, settings = exchange.request, self._settings
        if request.operation not in settings.kind.operations:
            raise self._not_served(request)
        head = request.head
        body: bytes | AsyncIterator[bytes] = request.body
        injected = False
        if request.body_stream is not None:
            body = request.body_stream
        elif request.body:
            served = settings.model or head.model
            renamed = served if head.model is not None and served != head.body_model else None
            injected = (
                head.stream
                and settings.inject_usage
                and not head.include_usage
                and request.operation in _STREAM_USAGE_OPERATIONS
            )
            bound = None if exchange.max_tokens_sent is None else self._bound(exchange.max_tokens_sent, request)
            if renamed is not None or injected or bound is not None:
                body = rewrite(request.body, model=renamed, request_usage=injected, bound=bound)
        headers = self._forwarded(request.headers)
        if request.dialect == "anthropic":
            headers += [item for item in settings.default_headers if first(headers, item[0]) is None]
        hops = b"%d" % (request.hops + 1) if request.hops else b"1"
        headers += (*self._fixed_headers, (b"traceparent", attempt.traceparent), (b"x-gateway-hops", hops))
        method = b"POST" if request.method == "POST" else request.method.encode("ascii")
        return UpstreamRequest(method, self._path(request), headers, body, request.content_length), injected

    def _bound(self, max_tokens: int, request: Request) -> tuple[BoundName, int] | None:
        """What is held must be the most that can be used, so the provider is told (F52)."""
        if request.head.max_tokens is not None:
            return None
        name = self._settings.chat_bound if request.operation == "chat" else _BOUNDS.get(request.operation)
        return None if name is None else (name, max_tokens)

    def _path(self, request: Request) -> bytes:
        """Path and query; the same for most requests, so it is remembered."""
        model = self._settings.model or request.head.model or ""
        known = self._paths.get((request.suffix, request.query, model))
        if known is not None:
            return known
        kind = self._settings.kind
        path = kind.path(self._settings.addressing, request, model)
        if request.query and request.operation == "relay":
            path += relayed_query(request.query, "&" if "?" in path else "?")
        if len(self._paths) >= _REMEMBERED_PATHS:
            self._paths.clear()
        encoded = self._paths[request.suffix, request.query, model] = path.encode("ascii")
        return encoded

    def timeouts(self, exchange: Exchange) -> Timeouts:
        """The limits of an attempt; the total one is the client's own where that is shorter."""
        settings = self._settings
        deadline_s = exchange.started_s + settings.total_s
        if exchange.client_deadline_s is not None and exchange.client_deadline_s < deadline_s:
            deadline_s = exchange.client_deadline_s
        first_event_s = settings.first_token_s if exchange.request.head.stream else None
        return Timeouts(settings.connect_s, first_event_s, settings.idle_s, deadline_s)

    def whose_deadline(self, exchange: Exchange, error: UpstreamTimeout) -> GatewayError:
        """`error`, or DeadlineExceeded when the time that ran out is the client's own."""
        mine_s = exchange.started_s + self._settings.total_s
        theirs_s = exchange.client_deadline_s
        is_theirs = theirs_s is not None and theirs_s < mine_s and self.clock.monotonic() >= theirs_s - _TIMER_SLACK_S
        if is_theirs and error.phase in ("total", "connect"):
            return DeadlineExceeded("The time allowed by x-gateway-timeout is over.")
        return error

    def _not_served(self, request: Request) -> InvalidRequest:
        kind = self._settings.kind
        if request.dialect not in kind.dialects:
            spoken = " and ".join(sorted(kind.dialects))
            return InvalidRequest(
                f"Target {self._settings.name} (provider {kind.name}) speaks the {spoken} dialect, and this request "
                f"came in the {request.dialect} dialect. Use the matching endpoint, or another model.",
                code="dialect_not_supported",
            )
        return InvalidRequest(
            f"Target {self._settings.name} (provider {kind.name}) has no {request.suffix} endpoint.",
            code="operation_not_supported",
        )


class TargetReply:
    """The scope of one attempt: a reply inside it, and everything given back at its end.

    Written by hand, not as a generator: every request passes here, and this costs a third.
    """

    __slots__ = ("_exchange", "_reader", "_response", "_target")

    def __init__(self, target: Target, exchange: Exchange) -> None:
        self._target = target
        self._exchange = exchange
        self._response: UpstreamResponse | None = None
        self._reader: StreamReader | None = None

    async def __aenter__(self) -> Reply:
        target, exchange = self._target, self._exchange
        attempt = exchange.attempts[-1]
        try:
            outgoing, injected = target.outgoing(exchange, attempt)
            response = self._response = await target.upstream.open(outgoing, target.timeouts(exchange))
            headers = response.headers
            status = attempt.status = response.status
            layout = target.layout(headers)
            if layout.has_request_id:
                attempt.upstream_request_id = layout.request_id(headers)
            exchange.model_served = target.model or exchange.request.head.model
            if status == 200:
                if layout.content_type(headers).startswith(b"text/event-stream"):
                    return await self._stream(response, layout, injected)
                if not layout.is_encoded and exchange.request.operation != "relay":
                    response.begin()
                    body = response.whole(MAX_REPLY_BYTES)
                    if body is None:
                        body = await response.read_all(MAX_REPLY_BYTES)
                    return target.whole_reply(exchange, 200, layout.down(headers), body)
            return await target.read(exchange, response, layout)
        except UpstreamTimeout as error:
            self._close()
            late = target.whose_deadline(exchange, error)
            try:
                if late is error:
                    raise
                raise late from error
            finally:
                # A local that is an error, in a frame of its own traceback, is a cycle of all that the frames hold.
                del late
        except BaseException:
            self._close()
            raise
        finally:
            attempt.waited_s = target.clock.monotonic() - attempt.started_s

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()
        if isinstance(error, UpstreamTimeout):
            late = self._target.whose_deadline(self._exchange, error)
            try:
                if late is not error:
                    raise late from error
            finally:
                del late

    async def _stream(self, response: UpstreamResponse, layout: Layout, injected: bool) -> Reply:
        exchange, request = self._exchange, self._exchange.request
        reader = self._reader = reader_for(
            request.dialect, request.operation, prompt_bytes=len(request.body), strip_usage=injected
        )
        exchange.usage = reader.usage
        stream = EventStream(response, reader, decoder_for(response.headers, MAX_REPLY_BYTES))
        try:
            await stream.peek()
        except UpstreamReplyError as error:
            raise first_event_failed(error) from error
        headers = layout.down(response.headers)
        reply = Reply(200, headers, events=stream, error_event=reader.error_event, usage=reader.usage)
        if response.listen(None):
            reply.pour = stream.pour
        return reply

    def _close(self) -> None:
        if self._response is not None:
            self._response.close()
        reader, exchange = self._reader, self._exchange
        if reader is not None:
            reader.settle()
            if reader.model is not None:
                exchange.model_served = reader.model
            exchange.response_id = reader.response_id
            exchange.finish_reasons = reader.finish_reasons


def _is_relayed_in_pieces(response: UpstreamResponse, layout: Layout) -> bool:
    length = first(response.headers, b"content-length")
    is_small = length is not None and int(length) <= _MAX_BUFFERED_RELAY_BYTES
    return not (is_small and layout.content_type(response.headers).startswith(b"application/json"))


def _pieces(response: UpstreamResponse) -> Reply:
    decoder = decoder_for(response.headers, MAX_REPLY_BYTES)
    declared = first(response.headers, b"content-length")
    reply = Reply(response.status, down(response.headers), events=Pieces(response, decoder))
    if declared is not None and decoder is None:
        reply.length = int(declared)
    return reply
