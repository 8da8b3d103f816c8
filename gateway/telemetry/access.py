"""The log line of a request: fixed fields, in which no prompt, reply or key ever stands."""

import re
from typing import Literal

from msgspec import Struct
from msgspec.json import Encoder

from gateway.core.errors import (
    GatewayError,
    GatewayFault,
    Outcome,
    UpstreamAccountError,
    UpstreamConnectError,
    UpstreamTimeout,
    UpstreamTruncated,
)
from gateway.core.exchange import Exchange
from gateway.telemetry.logs import Level, redacted, rfc3339

MAX_TEXT = 256
"""Characters of a name that the client chose."""

OUR_WORDS = (GatewayFault, UpstreamAccountError, UpstreamConnectError, UpstreamTimeout, UpstreamTruncated)
"""Errors whose message is the gateway's own text. Others may quote a field, and so a prompt."""

PLAIN_CODE = re.compile(r"[a-z]{1,24}(?:_[a-z]{1,24}){0,5}")
"""Codes such as `server_error`. Without digits and signs it is no key, and with six words no prompt."""

LEVELS: dict[Outcome, Level] = {
    "upstream_error": "warning",
    "upstream_timeout": "warning",
    "truncated": "warning",
    "no_target": "error",
    "overloaded": "warning",
    "internal": "error",
}
"""Everything else is `info`: what clients do wrong is not this gateway's trouble."""


_encode = Encoder().encode


class AccessRecord(Struct, gc=False):
    """The log line of one request. Milliseconds since the end of its header, money in US dollars.

    `outcome` may be a failure although `status` is 200: a stream can break after its head was sent.
    """

    ts: str
    level: Level
    event: Literal["request"]
    request_id: str
    trace_id: str
    key: str | None
    route: str | None
    target: str | None
    model_requested: str | None
    model_served: str | None
    prompt_name: str | None
    prompt_version: str | None
    input_tokens: int | None
    output_tokens: int | None
    cached_input_tokens: int | None
    usage_source: Literal["provider", "estimated"] | None
    cost_usd: float | None
    cache: Literal["hit", "semantic", "miss", "bypass"]
    attempts: int
    outcome: Outcome
    status: int | None
    ttft_ms: float | None
    duration_ms: float
    overhead_ms: float | None
    stream: bool
    tags: dict[str, str]
    config_revision: str
    reason: str | None


def access_record(
    exchange: Exchange, outcome: Outcome, wall_s: float, duration_s: float, ttft_s: float | None
) -> AccessRecord:
    """The log line of a finished exchange. `wall_s` is now, in Unix seconds."""
    head = exchange.request.head
    asked, served = head.model, exchange.model_served
    if asked is not None and not (len(asked) <= MAX_TEXT and asked.isascii()):
        asked = _short(asked)
    if served is not None and not (len(served) <= MAX_TEXT and served.isascii()):
        served = _short(served)
    usage = exchange.usage
    cost_nusd = exchange.cost_nusd
    overhead_s = exchange.overhead_s
    return AccessRecord(
        rfc3339(wall_s),
        "info" if outcome == "ok" else LEVELS.get(outcome, "info"),
        "request",
        exchange.request_id,
        exchange.trace.trace_id,
        exchange.consumer.id if exchange.consumer is not None else None,
        exchange.route,
        exchange.target,
        asked,
        served,
        _short(exchange.prompt_name) if exchange.prompt_name is not None else None,
        _short(exchange.prompt_version) if exchange.prompt_version is not None else None,
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_input_tokens,
        usage.source,
        cost_nusd / 1e9 if cost_nusd is not None else None,
        exchange.cache,
        len(exchange.attempts),
        outcome,
        exchange.status,
        int(ttft_s * 1e6) / 1e3 if ttft_s is not None else None,
        int(duration_s * 1e6) / 1e3,
        int(overhead_s * 1e6) / 1e3 if overhead_s is not None else None,
        head.stream,
        exchange.tags,
        exchange.config_revision,
        None if outcome == "ok" else reason(exchange),
    )


def access_line(record: AccessRecord) -> bytes:
    """A record as one line of JSON, with its newline. Control characters inside are escaped, as JSON demands."""
    return _encode(record) + b"\n"


def reason(exchange: Exchange) -> str | None:
    """Why an exchange did not end well: the error's code, and its message where that is ours."""
    error = exchange.error
    if error is not None:
        return explain(error)
    if exchange.status is not None and exchange.status >= 400:
        return f"upstream_status_{exchange.status}"
    return None


def explain(error: GatewayError) -> str:
    """An error in words that hold nothing of what the client or the provider wrote, but a provider's plain code."""
    if isinstance(error, OUR_WORDS):
        return f"{error.code}: {redacted(error.message)}"
    return plain_code(error)


def plain_code(error: GatewayError) -> str:
    """The code of an error; of its class, where a provider's own code is none but some text."""
    return error.code if PLAIN_CODE.fullmatch(error.code) else type(error).code


def _short(text: str) -> str:
    # JSON can name half of a surrogate pair, which no encoder can write.
    return text[:MAX_TEXT].encode("utf-8", "replace").decode("utf-8")
