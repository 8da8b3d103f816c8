"""The configuration: every section and setting, with its default, as the rest of the gateway reads it.

All of it is immutable. Durations are seconds, sizes bytes, percentages fractions from 0 to 1.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from gateway.config.endpoints import (
    Address,
    BaseUrl,
    Endpoint,
    HeaderName,
    HeaderValue,
    HostPattern,
    ListenAddress,
    SecretText,
    TargetHeaderName,
)
from gateway.config.fields import (
    Duration,
    Expiry,
    Fraction,
    KeyHash,
    ModelPattern,
    Name,
    Pause,
    Size,
    TagName,
    TagValue,
    refuse,
)
from gateway.config.secret import Secret

API_VERSION = "gateway/v1"
Provider = Literal["openai", "azure", "anthropic", "mock"]
_MIB = 1024 * 1024


class Section(BaseModel):
    """What all sections share: frozen, strict types, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Server(Section):
    """The listeners, their bounds, and how the process ends."""

    listen: ListenAddress = Field(
        default=Address("127.0.0.1", 8080), description="Data plane, where applications send requests."
    )
    admin: ListenAddress = Field(
        default=Address("127.0.0.1", 8081), description="Admin plane: metrics, health, admin API."
    )
    admin_token: SecretText | None = Field(
        default=None, description="Bearer token of the admin API; without it the admin plane is loopback only."
    )
    drain: Pause = Field(default=30.0, description="On SIGTERM, how long open replies may take to end.")
    drain_delay: Pause = Field(
        default=0.0, description="On SIGTERM, how long to accept still, while load balancers notice."
    )
    max_body: Size = Field(default=32 * _MIB, description="Largest request body.")
    max_header: Size = Field(default=64 * 1024, description="Largest request head, all its lines together.")
    max_inflight: int = Field(default=5000, ge=1, description="Requests at once; more get 503 `overloaded`.")
    max_connections: int = Field(default=10000, ge=1, description="Client connections at once.")
    header_timeout: Duration = Field(default=10.0, description="Time for a request's head to arrive.")
    body_timeout: Duration = Field(default=30.0, description="Longest pause while a request's body arrives.")
    keepalive_timeout: Duration = Field(default=75.0, description="How long an idle client connection is kept.")
    write_timeout: Duration = Field(default=60.0, description="How long a client may read nothing of its reply.")
    default_route: ModelPattern | None = Field(
        default=None, description="Route of requests that name no model (files, batches); a route's `model`."
    )
    allowed_hosts: tuple[HostPattern, ...] = Field(
        default=(), description="Host names that requests may be addressed to, `*.` allowed; empty: all."
    )
    state_dir: str = Field(
        default="./state", min_length=1, description="Directory of local state, from the working directory."
    )


class Traces(Section):
    """Where spans go, and how many."""

    otlp: Endpoint = Field(default=None, description="OTLP/HTTP endpoint, a URL or env:NAME; without it no spans.")
    headers: dict[HeaderName, SecretText] = Field(
        default_factory=dict, description="Headers of the export, as env: or file:."
    )
    sample: Fraction = Field(default=0.01, description="Share of requests traced when the caller has not decided.")
    service_name: str = Field(default="llm-gateway", min_length=1, description="`service.name` of the spans.")


class Telemetry(Section):
    """Logs, traces and labels."""

    logs: Literal["json", "off"] = Field(default="json", description="One JSON line per request, or none.")
    traces: Traces = Field(default=Traces(), description="OpenTelemetry export.")
    tag_labels: tuple[TagName, ...] = Field(
        default=(), max_length=5, description="Tags that cost metrics are labelled with, 5 at most."
    )


class Key(Section):
    """Who may call: one client key, by its hash."""

    id: Name = Field(description="Name of the key in logs; not secret.")
    hash: KeyHash = Field(description="`sha256:` and the hex SHA-256 of the key, as `gateway keys new ID` prints it.")
    tags: dict[TagName, TagValue] = Field(
        default_factory=dict, description="Fixed tags of its requests; headers cannot override them."
    )
    models: tuple[ModelPattern, ...] = Field(default=("*",), description="Models it may ask for, globs allowed.")
    may_pin: bool = Field(default=False, description="Whether `x-gateway-target` is obeyed.")
    expires: Expiry | None = Field(
        default=None, description="Refused from then on; a date means the end of that day UTC."
    )


class Timeouts(Section):
    """How long an upstream may take."""

    connect: Duration = Field(default=5.0, description="To connect, or to get a free connection.")
    first_token: Duration = Field(default=60.0, description="From the request sent to the first event or body byte.")
    idle: Duration = Field(default=60.0, description="Between two pieces of a reply.")
    total: Duration = Field(default=600.0, description="For the whole exchange.")


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
Weight = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class Route(Section):
    """What applications put in `model`, and where that goes. The most specific pattern wins."""

    model: ModelPattern = Field(description="A name, or a glob such as `gpt-*` or `*`.")
    target: Name | None = Field(default=None, description="The one target; or `split`.")
    split: dict[Name, Weight] | None = Field(default=None, description="Targets and their weights; or `target`.")

    @property
    def weights(self) -> dict[str, float]:
        """Targets and their weights, for `target` as for `split`; at least one is above 0."""
        return dict(self.split) if self.split is not None else {str(self.target): 1.0}


def _keys(value: Any) -> Any:
    if value == "open":
        return None
    # An empty `keys:` left over from deleting the last one must not open the gateway.
    if not isinstance(value, tuple):
        raise refuse("must be a list of keys, or open", "write `keys: open`, or one `- {id: ..., hash: ...}` a line")
    return value


class _OpenOrListed:
    """Tells editors that `open` stands where the parsed configuration has None."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        listed = [branch for branch in handler(schema)["anyOf"] if branch.get("type") != "null"]
        return {"anyOf": [{"const": "open"}, *listed]}


class Config(Section):
    """The whole file, its includes merged."""

    api_version: Literal["gateway/v1"] = Field(alias="apiVersion", description="Always `gateway/v1`.")
    environment: Name = Field(default="dev", description="Name of this installation in logs, metrics and spans.")
    include: tuple[str, ...] = Field(
        default=(),
        description="Globs of further files with `keys`, `targets` and `routes`, from this file's directory.",
    )
    server: Server = Field(default=Server(), description="Listeners and bounds.")
    telemetry: Telemetry = Field(default=Telemetry(), description="Logs, traces, labels.")
    required_tags: tuple[TagName, ...] = Field(
        default=(), description="Tags that every request must have, from its key or its header."
    )
    keys: Annotated[tuple[Key, ...] | None, BeforeValidator(_keys), _OpenOrListed()] = Field(
        default=None, description="Client keys, or `open` (loopback only): anybody may call. Absent: open."
    )
    targets: dict[Name, Target] = Field(default_factory=dict, description="Targets by name.")
    routes: tuple[Route, ...] = Field(default=(), description="Routes; the order does not matter.")

    @property
    def is_open(self) -> bool:
        """Whether anybody may call (`keys` is None)."""
        return self.keys is None
