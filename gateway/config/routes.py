"""Sections about routes: which targets a request may go to, in what order, and what is tried when one fails."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from gateway.config.caches import RouteCache
from gateway.config.fields import Fraction, ModelPattern, Name, Pause, TagName, TagValue, refuse
from gateway.config.limit_fields import Share
from gateway.config.limits import Priority
from gateway.config.route_fields import (
    FALLBACK_CONDITIONS,
    RETRY_CONDITIONS,
    ByteCount,
    FallbackConditions,
    HeaderGlob,
    HedgeAfter,
    Regex,
    RequestHeader,
    RetryConditions,
    Sticky,
)
from gateway.config.section import Section

Weight = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Balance = Literal["weighted", "least_inflight", "ewma_ttft", "cheapest"]


class Shadow(Section):
    """A copy of some requests to another target; the client sees nothing of it."""

    target: Name = Field(description="Where the copies go.")
    sample: Share = Field(default=0.01, description="Share of the requests that are copied.")
    compare: bool = Field(default=True, description="Whether both replies are compared, in metrics and one log line.")


class Retry(Section):
    """Trying the same target again, before its first event only."""

    attempts: int = Field(default=2, ge=1, le=5, description="Attempts in all, the first included.")
    when: RetryConditions = Field(
        default=RETRY_CONDITIONS,
        min_length=1,
        description="After which failures: `connect`, `429`, `5xx`, `first_token`.",
    )
    budget: Fraction = Field(default=0.2, description="Retries of a target, at most this share of its requests.")
    max_wait: Pause = Field(default=5.0, description="Longest wait before another attempt, also by Retry-After.")


class Fallback(Section):
    """Another target, for when those before it failed."""

    to: Name = Field(description="The target.")
    when: FallbackConditions = Field(
        default=FALLBACK_CONDITIONS,
        min_length=1,
        description="After which failures; `content_filter` only when it is written.",
    )


def _fallback(value: Any) -> Any:
    if isinstance(value, str):
        return {"to": value}
    if value is not None and not isinstance(value, dict | Section):
        raise refuse("must be the name of a target, or a mapping", "write NAME, or {to: NAME, when: [5xx]}")
    return value


class _OrName:
    """Tells editors that the name of a target stands for the section."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(schema)]}


FallbackSetting = Annotated[Fallback, BeforeValidator(_fallback), _OrName()]


class TierConditions(Section):
    """What a request has to be for a tier: all that is given, and at least one is."""

    max_prompt_bytes: ByteCount | None = Field(default=None, description="Its body has at most this size.")
    max_messages: int | None = Field(default=None, ge=1, description="It has at most this many messages.")
    tools: bool | None = Field(default=None, description="It offers tools, or (`false`) none.")
    tags: dict[TagName, TagValue] = Field(default_factory=dict, description="Its tags match these globs.")
    header: dict[RequestHeader, HeaderGlob] = Field(default_factory=dict, description="Its headers match these globs.")
    regex: Regex | None = Field(
        default=None, description="Its last user message, the first 4 kB of it, matches anywhere."
    )


class Tier(Section):
    """Another model for requests that do not need the route's own. The first whose conditions hold."""

    to: Name = Field(description="The target.")
    when: TierConditions = Field(description="For which requests.")


class Hedge(Section):
    """A second request to another of the route's targets when the first is slow; the first answer wins."""

    after: HedgeAfter = Field(default="p95", description="How slow: a duration, or the usual `p95` of the first token.")
    max: Share = Field(default=0.1, description="Most requests that get a second one; both are paid.")


class Route(Section):
    """What applications put in `model`, and where that goes. The most specific pattern wins."""

    model: ModelPattern = Field(description="A name, or a glob such as `gpt-*` or `*`.")
    target: Name | None = Field(default=None, description="The one target; or `split`, or `pool`.")
    split: dict[Name, Weight] | None = Field(default=None, description="Targets and their weights.")
    pool: tuple[Name, ...] | None = Field(default=None, min_length=1, description="Equal targets, chosen by `balance`.")
    balance: Balance = Field(
        default="weighted", description="Who of the `pool` is asked: equal parts, the idlest, fastest, or cheapest."
    )
    sticky: Sticky = Field(
        default=(), description="What keeps its target: `header:NAME`, `key`, `prompt`; the first one present."
    )
    tiers: tuple[Tier, ...] = Field(default=(), description="Smaller models for simple requests.")
    default_max_tokens: int | None = Field(
        default=None, ge=1, description="`max_tokens` of requests that have none, where a limit needs one."
    )
    retry: Retry | None = Field(default=None, description="Trying the same target again; omitted: never.")
    fallback: tuple[FallbackSetting, ...] = Field(default=(), description="Targets to try after a failure, in order.")
    hedge: Hedge | None = Field(default=None, description="A second request when the first is slow; omitted: never.")
    shadow: Shadow | None = Field(default=None, description="A copy of some requests to another target.")
    cache: RouteCache | None = Field(default=None, description="Replies that are kept for equal requests.")
    priority: Priority = Field(default="normal", description="Who goes first under load; a key's own has precedence.")
    max_ejected: Share = Field(
        default=0.5, description="Most of its targets that breakers may take out at once; the others get a trickle."
    )

    @property
    def weights(self) -> dict[str, float]:
        """Targets and their weights, for `target` and `pool` as for `split`; at least one is above 0."""
        if self.split is not None:
            return dict(self.split)
        return dict.fromkeys(self.pool if self.pool is not None else (str(self.target),), 1.0)
