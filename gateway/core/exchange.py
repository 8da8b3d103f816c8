"""One request and its reply, as they pass through the house.

The nouns are msgspec structs: made in C, in a fifth of the time that dataclasses take, and there
are six of them to a request. Nothing is validated here.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal, Protocol

from msgspec import Struct, field

from gateway.core.errors import GatewayError
from gateway.core.errors import Headers as Headers

Dialect = Literal["openai", "anthropic"]
Operation = Literal["chat", "text_completion", "embeddings", "responses", "messages", "count_tokens", "relay"]
Priority = Literal["low", "normal", "high"]
Tap = Callable[[bytes], None]
ErrorEvent = Callable[[GatewayError, str], bytes]
"""The complete frames that tell a client, in its dialect, of an error inside a stream it is reading."""
Pour = Callable[["Sink"], Awaitable[None]]
"""Writes all of a stream's blocks into a sink; ends with the stream and raises as iterating would."""


class Usage(Struct, omit_defaults=True):
    """Tokens of one reply. `None` when not reported, 0 when reported as zero.

    Cached, cache-write and audio input tokens are part of `input_tokens`, reasoning and audio output
    tokens of `output_tokens`, whatever the provider's own way of counting is.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    source: Literal["provider", "estimated"] | None = None
    cache_write_1h_tokens: int | None = None
    """Those of `cache_write_tokens` that are kept for an hour, which costs more."""
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    service_tier: str | None = None
    """The service that the reply says it had, where that may change its price: `priority`, `flex`, `fast`."""


class RequestHead(Struct, frozen=True):
    """What policies and providers need of a JSON body; the rest of it stays raw bytes."""

    model: str | None = None
    """The model asked for: the path's (Azure's deployments), else the body's."""
    body_model: str | None = None
    """What the body itself says, if it says anything."""
    stream: bool = False
    include_usage: bool = False
    """Whether the client itself asked for usage in the stream."""
    max_tokens: int | None = None
    n: int = 1
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None


class Consumer(Struct, frozen=True):
    """Who calls and pays: a configured key, or `open` when the gateway asks for none."""

    id: str
    tags: dict[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ("*",)
    may_pin: bool = False
    priority: Priority | None = None
    """The key's own; None leaves it to the route."""
    expires_at: float | None = None
    """Unix seconds; the key is refused from then on."""


class Request(Struct):
    """What the client sent. Never logged: `repr` shows no header and no body."""

    method: str
    path: str
    query: bytes
    headers: Headers
    dialect: Dialect
    operation: Operation
    suffix: str
    """The path below the API's version, without a leading slash: `chat/completions`."""
    head: RequestHead = field(default_factory=RequestHead)
    body: bytes = b""
    body_stream: AsyncIterator[bytes] | None = None
    """The body as it arrives, for relayed uploads; once. `body` is empty then."""
    content_type: bytes = b""
    content_length: int | None = None
    """As declared, for `body_stream`; None when the client sends it in chunks."""
    hops: int = 0
    """Gateways that this request has already passed through (F45)."""

    def __repr__(self) -> str:
        return f"Request({self.method} {self.path}, ***)"


class Attempt(Struct, omit_defaults=True):
    """One try at one target."""

    number: int
    target: str
    traceparent: bytes = b""
    started_s: float = 0.0
    waited_s: float = 0.0
    """Time spent waiting for the target until its first event (or its whole body)."""
    status: int | None = None
    upstream_request_id: str | None = None
    usage: Usage | None = None
    """Tokens of this try, once it is over; None when it cost nothing (refused before it was worked on)."""
    cost_nusd: int | None = 0
    """What this try cost, in nano-USD; None when its price is not known."""
    retry_of: str | None = None
    """Why there was a try before this one at the same target; None for a first one."""
    is_echo: bool = False
    """Whether another request's try was the same call upstream, and is its verdict too."""


class Trace(Struct):
    """W3C trace context of one exchange: hexadecimal ids, and the span while it is recorded."""

    trace_id: str
    span_id: str
    sampled: bool
    span: object | None = None
    """The SDK's server span when sampled; telemetry alone looks inside."""


class Decision(Struct):
    """One thing that was decided about an exchange, for `gateway why`."""

    step: str
    detail: str


class LimitState(Struct, frozen=True):
    """How the strictest rule of one unit stands, as the client is told."""

    unit: Literal["requests", "tokens"]
    limit: int
    remaining: int
    reset_s: float
    """Seconds until it is whole again if nothing comes."""


class Exchange(Struct):
    """One request on its way through the gateway. Mutable: each room writes down what it decided."""

    request: Request
    request_id: str
    trace: Trace
    started_s: float
    """Monotonic, when the request's header was complete."""
    received_s: float
    """Monotonic, when its body was complete; what the client took to send it is not our overhead."""
    started_wall_s: float
    config_revision: str = ""
    consumer: Consumer | None = None
    tags: dict[str, str] = field(default_factory=dict)
    prompt_name: str | None = None
    prompt_version: str | None = None
    pinned_target: str | None = None
    client_deadline_s: float | None = None
    """Monotonic; from `x-gateway-timeout`."""
    route: str | None = None
    """The configured name of the route, which may be a glob. None until one is found."""
    target: str | None = None
    """The configured name of the target whose reply the client gets."""
    model_served: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    cache: Literal["hit", "semantic", "miss", "bypass"] = "bypass"
    cost_nusd: int | None = None
    """Of all attempts together, in nano-USD; None when nothing was spent or a price is not known."""
    priority: Priority = "normal"
    max_tokens_sent: int | None = None
    """The bound on output tokens that the gateway adds, because the client sent none and a limit needs one."""
    limits: tuple[LimitState, ...] = ()
    """The strictest rule's state for each unit, for the dialect's rate-limit headers."""
    admission: object | None = None
    """What the admission policy holds for this exchange; policies alone look inside."""
    error: GatewayError | None = None
    """What ended it, if it did not end well."""
    status: int | None = None
    """HTTP status that the client was sent (499 when it left)."""
    first_event_s: float | None = None
    """Monotonic, when the first event with content was passed on."""
    overhead_s: float | None = None
    """What the gateway itself added until the reply began."""
    response_id: str | None = None
    finish_reasons: list[str] = field(default_factory=list)
    coalesced_s: float = 0.0
    """Time spent waiting for an equal request to bring the reply of both."""

    @property
    def waited_s(self) -> float:
        """Time spent waiting for upstream until the reply began: over all attempts, and another request's with it."""
        attempts = self.attempts
        own_s = attempts[0].waited_s if len(attempts) == 1 else sum(attempt.waited_s for attempt in attempts)
        return own_s + self.coalesced_s

    @property
    def is_stored(self) -> bool:
        """Whether the reply is a stored one, for which no target was asked."""
        return self.cache == "hit" or self.cache == "semantic"

    def decide(self, step: str, detail: str) -> None:
        """Write down a decision and its reason."""
        self.decisions.append(Decision(step, detail))


class Sink(Protocol):
    """Where the blocks of a stream go."""

    @property
    def is_congested(self) -> bool:
        """Whether the reader is so slow that the writer should wait for `drained`."""
        ...

    async def drained(self) -> None:
        """Wait until the reader has taken enough, or is gone."""
        ...

    def write(self, block: bytes) -> bool:
        """Take one block that is not empty; whether it `is_congested` now."""
        ...


class Reply:
    """What goes back to the client: a status, headers, and either one body or a stream of events.

    `body` is the whole reply when it is not a stream. Otherwise `events` gives raw bytes, once, in
    order: for a `text/event-stream` (`error_event` is given) every item is one or more *complete*
    frames, for any other content a piece of it, of `length` bytes in all if that is known. `usage`
    fills while they pass and is final when they are over. `pour` gives the same as `events`, pushed
    instead of pulled, for half the price; a policy that changes events takes it away.
    """

    __slots__ = ("body", "error_event", "events", "headers", "length", "pour", "status", "taps", "usage")

    def __init__(
        self,
        status: int,
        headers: Headers,
        body: bytes | None = None,
        usage: Usage | None = None,
        *,
        events: AsyncIterator[bytes] | None = None,
        error_event: ErrorEvent | None = None,
    ) -> None:
        assert (body is None) != (events is None)
        self.status = status
        self.headers = headers
        self.body = body
        self.events = events
        self.error_event = error_event
        self.length: int | None = None
        self.pour: Pour | None = None
        self.usage = usage if usage is not None else Usage()
        self.taps: list[Tap] = []

    @property
    def is_event_stream(self) -> bool:
        """Whether `events` are complete frames of a `text/event-stream`."""
        return self.error_event is not None

    def watch(self, tap: Tap) -> None:
        """Show `tap` every piece before it goes to the client. It may count or raise, not change."""
        self.taps.append(tap)
