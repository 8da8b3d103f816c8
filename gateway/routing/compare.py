"""Two replies to one request side by side: how they differ, in numbers and names, never in content."""

from dataclasses import dataclass
from typing import Any, Literal

from gateway.core.errors import GatewayError, Refused
from gateway.core.exchange import Exchange

Result = Literal["ok", "error", "refused", "cut", "skipped", "cancelled"]
"""What became of a shadow request.

`ok`: answered in full · `error`: failed, or a status of 400 and above · `refused`: by its own limit,
budget or breaker, so the provider never saw it · `cut`: longer, in time or bytes, than a shadow may be ·
`skipped`: not sent, because as many as may be were under way · `cancelled`: ended with the process.
"""
RESULTS: tuple[Result, ...] = ("ok", "error", "refused", "cut", "skipped", "cancelled")

Measure = Literal["latency", "first_event", "output_tokens", "cost", "length"]
MEASURES: tuple[Measure, ...] = ("latency", "first_event", "output_tokens", "cost", "length")

Trait = Literal["status", "finish_reason"]
TRAITS: tuple[Trait, ...] = ("status", "finish_reason")

RATIO_BUCKETS = (0.1, 0.25, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0)
"""For a histogram of `Comparison.ratios`: 1 is no difference, and fine around it."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two replies, once it is over. Times are from the moment its own request set out."""

    target: str | None
    status: int | None
    """HTTP status; that of the error which came instead, where no reply began. None: neither."""
    outcome: str
    """`ok`, or what ended it: an outcome of the error tree, `cut` or `cancelled`."""
    first_event_s: float | None
    duration_s: float
    output_tokens: int | None
    cost_nusd: int | None
    finish_reason: str | None
    """Of the first choice."""
    length_bytes: int
    """Of the body, with its frames."""

    @property
    def is_complete(self) -> bool:
        """Whether it is a whole answer."""
        return self.outcome == "ok"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A primary reply and its shadow's, when both are over. Without sides where no shadow was sent."""

    request_id: str
    """The primary's; its shadow's ends in `-shadow`."""
    route: str
    target: str
    """The shadow's target."""
    result: Result
    primary: Side | None = None
    shadow: Side | None = None
    distance: float | None = None
    """Cosine distance of the two texts, 0 for the same; None where there is none, or nothing measures it."""

    def ratios(self) -> dict[Measure, float]:
        """The shadow's value over the primary's, for each measure that both have; empty unless both are complete."""
        primary, shadow = self.primary, self.shadow
        if primary is None or shadow is None or not (primary.is_complete and shadow.is_complete):
            return {}
        pairs: dict[Measure, tuple[float | None, float | None]] = {
            "latency": (shadow.duration_s, primary.duration_s),
            "first_event": (shadow.first_event_s, primary.first_event_s),
            "output_tokens": (shadow.output_tokens, primary.output_tokens),
            "cost": (shadow.cost_nusd, primary.cost_nusd),
            "length": (shadow.length_bytes, primary.length_bytes),
        }
        return {measure: mine / its for measure, (mine, its) in pairs.items() if mine is not None and its}

    def differences(self) -> tuple[Trait, ...]:
        """The traits in which a complete primary and a shadow that ran to its end differ."""
        primary, shadow = self.primary, self.shadow
        if primary is None or shadow is None or not primary.is_complete or self.result not in ("ok", "error"):
            return ()
        found: list[Trait] = []
        if shadow.status != primary.status:
            found.append("status")
        elif shadow.finish_reason != primary.finish_reason:
            found.append("finish_reason")
        return tuple(found)

    def fields(self) -> dict[str, Any]:
        """What a log line says of it: names, numbers, nothing that anybody wrote."""
        fields: dict[str, Any] = {
            "request_id": self.request_id,
            "route": self.route,
            "target": self.target,
            "result": self.result,
            "differences": list(self.differences()),
            "ratios": {measure: round(ratio, 4) for measure, ratio in self.ratios().items()},
            "distance": None if self.distance is None else round(self.distance, 4),
        }
        for name, side in (("primary", self.primary), ("shadow", self.shadow)):
            if side is not None:
                fields[name] = {
                    "target": side.target,
                    "status": side.status,
                    "outcome": side.outcome,
                    "ttft_ms": None if side.first_event_s is None else round(side.first_event_s * 1000, 3),
                    "duration_ms": round(side.duration_s * 1000, 3),
                    "output_tokens": side.output_tokens,
                    "cost_nusd": side.cost_nusd,
                    "finish_reason": side.finish_reason,
                    "length_bytes": side.length_bytes,
                }
        return fields


def side_of(
    exchange: Exchange,
    *,
    status: int | None,
    error: BaseException | None,
    first_event_s: float | None,
    duration_s: float,
    length_bytes: int,
) -> Side:
    """How a reply stands once its scope is left, which `error` ended; an unknown error is a departure."""
    outcome = "ok"
    if isinstance(error, GatewayError):
        outcome = error.outcome
        if status is None:
            status = error.status
    elif error is not None:
        outcome = "client_gone"
    elif status is not None and status >= 400:
        outcome = "client_error" if status < 500 else "upstream_error"
    return Side(
        target=exchange.target,
        status=status,
        outcome=outcome,
        first_event_s=first_event_s,
        duration_s=duration_s,
        output_tokens=exchange.usage.output_tokens,
        cost_nusd=exchange.cost_nusd,
        finish_reason=exchange.finish_reasons[0] if exchange.finish_reasons else None,
        length_bytes=length_bytes,
    )


def result_of(side: Side, error: BaseException | None) -> Result:
    """What to call a shadow that was sent and is over."""
    if side.is_complete:
        return "ok"
    is_own = isinstance(error, Refused) or (isinstance(error, GatewayError) and error.status == 503)
    return "refused" if is_own and isinstance(error, GatewayError) and error.source == "gateway" else "error"
