"""Sections about how much may be used, where that is counted, and whom to tell: limits, store, webhooks."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainSerializer

from gateway.config.endpoints import HeaderName, SecretText
from gateway.config.fields import Duration, Name, TagName, TagValue
from gateway.config.limit_fields import BudgetText, Dimensions, Globs, RateText, Share, Zone, once_each
from gateway.config.secret import Secret
from gateway.config.section import OrWord, Section
from gateway.config.services import RedisUrl, WebhookUrl

Priority = Literal["low", "normal", "high"]
Event = Literal["budget", "breaker", "account", "store", "config"]
EVENTS: tuple[Event, ...] = ("budget", "breaker", "account", "store", "config")


class Store(Section):
    """Where limits and budgets are counted: in each process, or in a Redis that all share."""

    redis: RedisUrl | None = Field(
        default=None, description="URL of the Redis, as env:NAME or file:PATH; none is `store: memory`."
    )
    timeout: Duration = Field(default=0.05, description="Longest wait for an answer; then the store counts as gone.")
    prefix: Name = Field(default="gw", description="What its keys begin with; the same for all that count together.")

    @property
    def kind(self) -> Literal["memory", "redis"]:
        """Which store it is."""
        return "memory" if self.redis is None else "redis"


StoreSetting = Annotated[
    Store,
    OrWord("memory", {}, "write memory, or {redis: env:REDIS_URL}"),
    # A lambda has no return type: editors are still told of the section.
    PlainSerializer(lambda store: "memory" if store.redis is None else store.model_dump(mode="json")),
]

OnFailure = Literal["local", "open", "closed"]


class OnStoreFailure(Section):
    """What holds while the store does not answer."""

    rate_limits: OnFailure = Field(
        default="local", description="`local`: this replica's share; `open`: no limit; `closed`: 503."
    )
    budgets: OnFailure = Field(default="closed", description="The same for budgets.")
    cache: Literal["bypass"] = Field(default="bypass", description="Replies come from the models.")
    share: Share = Field(default=1.0, description="This replica's part of each limit while it counts alone.")


class Match(Section):
    """The requests that a limit is about: all that is given has to match."""

    key: Globs = Field(default=(), description="Keys, by id; callers without a key are `open`.")
    route: Globs = Field(default=(), description="Routes, by their `model` as it stands there.")
    target: Globs = Field(default=(), description="Targets, by name.")
    model: Globs = Field(default=(), description="Models that are asked for.")
    tags: dict[TagName, TagValue] = Field(default_factory=dict, description="Tags and the globs that they match.")


class Pressure(Section):
    """What happens from a share of the budget on: exactly one of the three."""

    at: Share = Field(description="Share of the budget, spent and held together.")
    downgrade_to: str | None = Field(
        default=None, min_length=1, description="Serve by this target, or by the route of this `model`."
    )
    only_priority: Literal["high", "normal"] | None = Field(
        default=None, description="Refuse requests of lower priority."
    )
    refuse: bool = Field(default=False, description="Refuse everything that costs.")


class Limit(Section):
    """A rule about requests, tokens, concurrency or money. All that match apply; the strictest decides."""

    name: Name = Field(description="Its name in errors, metrics and the admin API.")
    per: Dimensions = Field(
        default=(), description="What has a counter of its own: `key`, `route`, `target`, `model`, `tag.NAME`."
    )
    match: Match = Field(default=Match(), description="The requests that it is about; omitted: all.")
    requests: RateText | None = Field(default=None, description="Most requests in any stretch of the period.")
    tokens: RateText | None = Field(default=None, description="Most tokens, input and output, in any such stretch.")
    concurrency: int | None = Field(default=None, ge=1, description="Most requests at once.")
    budget: BudgetText | None = Field(default=None, description="Most money in each hour, day, week or month.")
    timezone: Zone = Field(default="UTC", description="Zone whose hours, days, weeks and months count for `budget`.")
    mode: Literal["strict", "calibrated"] | None = Field(
        default=None,
        description="How the worst case is bound before the reply: by bytes, or learned. Omitted: `strict` for"
        " `budget`, `calibrated` for `tokens`.",
    )
    on_crash: Literal["return", "charge"] = Field(
        default="return", description="What becomes of money held by a process that died."
    )
    dry_run: bool = Field(default=False, description="Count and report, refuse nothing.")
    alert_at: tuple[Share, ...] = Field(default=(), description="Shares of the budget that are told once a period.")
    pressure: tuple[Pressure, ...] = Field(default=(), description="What happens as the budget fills up, rising.")


class Webhook(Section):
    """Whom to tell what happens."""

    url: WebhookUrl = Field(description="Where events are posted as JSON: https, or env:NAME, or file:PATH.")
    events: Annotated[tuple[Event, ...], AfterValidator(once_each)] = Field(
        default=EVENTS, min_length=1, description="Which ones."
    )
    headers: dict[HeaderName, SecretText] = Field(
        default_factory=dict, description="Headers of the post, as env: or file:."
    )

    @property
    def out_of_service(self) -> str | None:
        """Why nothing can be sent: `HOOK_URL is not set`. None when it can."""
        secrets: tuple[Secret, ...] = (self.url, *self.headers.values())
        return next((secret.unset_reason for secret in secrets if not secret.is_set), None)
