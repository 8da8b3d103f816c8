"""The configuration: every section and setting, with its default, as the rest of the gateway reads it.

All of it is immutable. Durations are seconds, sizes bytes, percentages fractions from 0 to 1, money nano-USD. What
concerns targets, routes and limits is in the modules of these names; all sections can be had here.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from gateway.config.caches import Cache, RouteCache
from gateway.config.endpoints import Address, Endpoint, HeaderName, HostPattern, ListenAddress, SecretText
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
from gateway.config.limits import Limit, Match, OnStoreFailure, Pressure, Priority, Store, StoreSetting, Webhook
from gateway.config.routes import Fallback, Hedge, Retry, Route, Shadow, Tier, TierConditions
from gateway.config.section import Section
from gateway.config.similarity import Judge, Semantic
from gateway.config.targets import Breaker, Coalesce, Price, Provider, Queue, Target, Timeouts

__all__ = [
    "API_VERSION",
    "Breaker",
    "Cache",
    "Coalesce",
    "Config",
    "Fallback",
    "Hedge",
    "Judge",
    "Key",
    "Limit",
    "Match",
    "OnStoreFailure",
    "Overload",
    "Pressure",
    "Price",
    "Priority",
    "Provider",
    "Queue",
    "Retry",
    "Route",
    "RouteCache",
    "Section",
    "Semantic",
    "Server",
    "Shadow",
    "Store",
    "Target",
    "Telemetry",
    "Tier",
    "TierConditions",
    "Timeouts",
    "Traces",
    "Webhook",
]

API_VERSION = "gateway/v1"
_MIB = 1024 * 1024


class Overload(Section):
    """When requests are turned away for the process's own sake, those of low priority first."""

    loop_lag: Duration = Field(default=0.25, description="How late the event loop may run.")
    max_rss: Size | None = Field(default=None, description="Resident memory; omitted: no bound.")
    reserve_high: Fraction = Field(default=0.2, description="Part of `max_inflight` kept for priority `high`.")


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
    overload: Overload = Field(default=Overload(), description="When requests are turned away before that.")
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
    priority: Priority | None = Field(
        default=None, description="Who goes first under load, before the route's own; omitted: the route's."
    )
    may_pin: bool = Field(default=False, description="Whether `x-gateway-target` is obeyed.")
    expires: Expiry | None = Field(
        default=None, description="Refused from then on; a date means the end of that day UTC."
    )


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
    store: StoreSetting = Field(
        default=Store(), description="Where limits and budgets are counted: `memory`, or a Redis that all share."
    )
    on_store_failure: OnStoreFailure = Field(
        default=OnStoreFailure(), description="What holds while the Redis does not answer."
    )
    cache: Cache = Field(default=Cache(), description="The room for stored replies.")
    telemetry: Telemetry = Field(default=Telemetry(), description="Logs, traces, labels.")
    webhooks: tuple[Webhook, ...] = Field(default=(), description="Whom to tell what happens.")
    required_tags: tuple[TagName, ...] = Field(
        default=(), description="Tags that every request must have, from its key or its header."
    )
    keys: Annotated[tuple[Key, ...] | None, BeforeValidator(_keys), _OpenOrListed()] = Field(
        default=None, description="Client keys, or `open` (loopback only): anybody may call. Absent: open."
    )
    targets: dict[Name, Target] = Field(default_factory=dict, description="Targets by name.")
    routes: tuple[Route, ...] = Field(default=(), description="Routes; the order does not matter.")
    limits: tuple[Limit, ...] = Field(
        default=(), description="Limits and budgets; all that match apply, the strictest decides."
    )

    @property
    def is_open(self) -> bool:
        """Whether anybody may call (`keys` is None)."""
        return self.keys is None
