"""Sections about targets: what they are, what they cost, and how much trouble is had with them before they rest."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainSerializer

from gateway.config.endpoints import BaseUrl, HeaderValue, SecretText, TargetHeaderName
from gateway.config.fields import Duration, Name, Pause, TagName, TagValue, refuse
from gateway.config.limit_fields import Money, Share
from gateway.config.secret import Secret
from gateway.config.section import OrWord, Section
from gateway.config.units import show_duration

Provider = Literal["openai", "azure", "anthropic", "mock"]

_LONGEST_GATHERING_S = 0.01


class Timeouts(Section):
    """How long an upstream may take."""

    connect: Duration = Field(default=5.0, description="To connect, or to get a free connection.")
    first_token: Duration = Field(default=60.0, description="From the request sent to the first event or body byte.")
    idle: Duration = Field(default=60.0, description="Between two pieces of a reply.")
    total: Duration = Field(default=600.0, description="For the whole exchange.")


class Price(Section):
    """US dollars per million tokens, written `$2.00`. At least one is given."""

    # All are nano-USD, per million tokens too.

    input: Money | None = Field(default=None, description="Tokens of the prompt.")
    output: Money | None = Field(default=None, description="Tokens of the reply.")
    cached_input: Money | None = Field(
        default=None, description="Tokens of the prompt read from the provider's cache; omitted: as `input`."
    )
    cache_write: Money | None = Field(
        default=None, description="Tokens of the prompt written to that cache; omitted: as `input`."
    )
    reasoning: Money | None = Field(default=None, description="Tokens of hidden reasoning; omitted: as `output`.")
    audio_input: Money | None = Field(default=None, description="Tokens of audio heard; omitted: as `input`.")
    audio_output: Money | None = Field(default=None, description="Tokens of audio spoken; omitted: as `output`.")
    request: Money | None = Field(default=None, description="Each request, in dollars, besides its tokens.")


class Queue(Section):
    """Who waits while `max_inflight` requests are under way."""

    size: int = Field(default=100, ge=0, description="Most requests that wait; more go to the fallback, or get 503.")
    wait: Duration = Field(default=1.0, description="Longest wait.")


class Breaker(Section):
    """When a target is left alone, and how it comes back. Only faults of the target count."""

    consecutive: int = Field(default=5, ge=1, description="Failures in a row that open it.")
    error_rate: Share = Field(default=0.5, description="Share of failures in `window` that opens it.")
    min_requests: int = Field(default=20, ge=1, description="Requests in `window` before `error_rate` means anything.")
    window: Duration = Field(default=30.0, description="How far back `error_rate` looks.")
    open_for: Duration = Field(default=30.0, description="First rest before one probe; longer each time it fails.")
    max_open_for: Duration = Field(default=300.0, description="Longest rest, also after an account error.")
    slow_start: Pause = Field(default=10.0, description="After a rest, time over which its full share comes back.")


BreakerSetting = Annotated[
    Breaker | None,
    OrWord("off", None, "write off, or {consecutive: 5}"),
    # A lambda has no return type: editors are still told of the section.
    PlainSerializer(lambda breaker: "off" if breaker is None else breaker.model_dump(mode="json")),
]


def _brief(seconds: float) -> float:
    if seconds > _LONGEST_GATHERING_S:
        raise refuse(f"{show_duration(seconds)} is too long", f"{show_duration(_LONGEST_GATHERING_S)} is the longest")
    return seconds


class Coalesce(Section):
    """Concurrent requests for embeddings as one call upstream, each with its own part of the reply."""

    wait: Annotated[Duration, AfterValidator(_brief)] = Field(
        default=0.005, description="Longest wait for others, `10ms` at most; none where no like request is under way."
    )
    max_inputs: int = Field(default=96, ge=2, le=2048, description="Most inputs of one call; with so many it is sent.")
    max_tokens: int = Field(
        default=50_000, ge=1, description="Most tokens of one call, estimated: of text a quarter of its bytes."
    )


CoalesceSetting = Annotated[
    Coalesce | None,
    OrWord("off", None, "write off, or {wait: 5ms}"),
    PlainSerializer(lambda coalesce: None if coalesce is None else coalesce.model_dump(mode="json")),
]


class Target(Section):
    """A model, at a provider, with credentials."""

    provider: Provider = Field(description="The API it speaks; any OpenAI look-alike is `openai` with its base_url.")
    extends: Name | None = Field(
        default=None, description="Another target whose settings are taken where none stand here."
    )
    base_url: BaseUrl | None = Field(
        default=None, description="`openai` ends in /v1, `azure` and `anthropic` are the host alone; `mock` needs none."
    )
    model: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="The provider's model; omitted: what the client asked for.",
    )
    api_key: SecretText | None = Field(default=None, description="The provider's key, as env:NAME or file:PATH.")
    api_version: str = Field(
        default="2024-10-21", pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?|preview|v1)$",
        description="Azure's `api-version`, when the client sends none.",
    )  # fmt: skip
    anthropic_version: str = Field(
        default="2023-06-01", pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
        description="Anthropic's version header, when the client sends none.",
    )  # fmt: skip
    timeouts: Timeouts = Field(default=Timeouts(), description="How long it may take.")
    price: Price | None = Field(
        default=None, description="What it costs; omitted: looked up by provider and model in genai-prices."
    )
    context_window: int | None = Field(
        default=None, ge=1, description="Most tokens of prompt and reply together, where the model's is not known."
    )
    max_inflight: int | None = Field(default=None, ge=1, description="Most requests at once; omitted: no bound.")
    queue: Queue = Field(default=Queue(), description="Who waits while `max_inflight` is reached.")
    breaker: BreakerSetting = Field(
        default=Breaker(), description="When it is left alone; `off`: never; omitted: as below."
    )
    coalesce: CoalesceSetting = Field(
        default=None, description="Whether embeddings asked for at the same time go up together; omitted: never."
    )
    tags: dict[TagName, TagValue] = Field(default_factory=dict, description="Facts about it: owner, region.")
    headers: dict[TargetHeaderName, HeaderValue] = Field(
        default_factory=dict, description="Fixed headers sent with every request, text or env:/file:."
    )
    transport: Literal["native", "httpx"] = Field(
        default="native", description="`native` is fastest (HTTP/1.1); `httpx` has HTTP/2 and proxies."
    )
    ca_file: str | None = Field(default=None, min_length=1, description="PEM certificates to trust besides the usual.")
    max_connections: int = Field(default=1000, ge=1, description="Connections at once.")
    keepalive: Duration | None = Field(
        default=None, description="How long an idle connection is kept; omitted: the transport's own choice."
    )
    max_connection_age: Duration = Field(default=300.0, description="Renew connections then, to follow DNS.")
    inject_usage: bool = Field(default=True, description="Ask for token counts in streams, for accounting.")

    @property
    def out_of_service(self) -> str | None:
        """Why it cannot be used: `OPENAI_API_KEY is not set`. None when it can."""
        for value in (self.api_key, *self.headers.values()):
            if isinstance(value, Secret) and not value.is_set:
                return value.unset_reason
        return None

    @property
    def dialects(self) -> frozenset[str]:
        """The client dialects that it answers without translation."""
        return _DIALECTS[self.provider]


_DIALECTS = {
    "openai": frozenset({"openai"}),
    "azure": frozenset({"openai"}),
    "anthropic": frozenset({"anthropic"}),
    "mock": frozenset({"openai", "anthropic"}),
}
