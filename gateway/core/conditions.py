"""Why an attempt failed, as one word of the configuration's `when:` lists.

The table, first match wins:
- `account`: 401, 402, 403; a balance or quota that money alone refills, whatever its status (F37);
- `context_overflow`, `content_filter`: what the provider's code says, or 413;
- `429`; `5xx`: 500 and above (503 and 529 too, F42), HTML from a middle box, a broken protocol (F43);
- `connect`: no connection; `first_token`: no first event in time; `idle_before_commit`: silent, or
  cut off, before the first event although the request had been sent, so it may have been worked on;
- `ejected`, `busy`, `over_budget`: the gateway itself keeps the request from the target.
Everything else is the caller's own matter, or the end of the time allowed, and is nothing to try again.
"""

from typing import Any, Literal, NamedTuple, get_args

import msgspec

from gateway.core.errors import (
    BudgetExceeded,
    ConcurrencyLimited,
    GatewayError,
    NoHealthyTarget,
    Overloaded,
    RateLimited,
    ShuttingDown,
    UpstreamAccountError,
    UpstreamConnectError,
    UpstreamError,
    UpstreamFault,
    UpstreamReplyError,
    UpstreamTimeout,
    UpstreamTruncated,
)
from gateway.core.exchange import Reply

Condition = Literal[
    "connect",
    "429",
    "5xx",
    "first_token",
    "idle_before_commit",
    "context_overflow",
    "content_filter",
    "ejected",
    "over_budget",
    "account",
    "busy",
]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)

# Codes and types as OpenAI, Azure and Anthropic document them, and as their servers have been recorded to answer.
_BY_NAME: dict[str, Condition] = {
    "context_length_exceeded": "context_overflow",
    "string_above_max_length": "context_overflow",
    "request_too_large": "context_overflow",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "responsibleaipolicyviolation": "content_filter",
    "insufficient_quota": "account",
    "credit_balance_exhausted": "account",
    "billing_error": "account",
    "billing_hard_limit_reached": "account",
    "billing_not_active": "account",
    "account_deactivated": "account",
    "enforced_spend_limit_reached": "account",
}
# Where the code says no more than `invalid_request_error` the provider's sentence is all there is. They are looked
# for at the sentence's beginning as far as it goes: what follows may quote the client.
_BY_WORDS: tuple[tuple[str, Condition], ...] = (
    ("prompt is too long", "context_overflow"),
    ("input is too long", "context_overflow"),
    ("input length and `max_tokens` exceed context limit", "context_overflow"),
    ("this model's maximum context length is", "context_overflow"),
    ("the input token count", "context_overflow"),
    ("output blocked by content filtering policy", "content_filter"),
    ("your credit balance is too low", "account"),
)
_BY_PHASE: dict[str, Condition] = {
    "connect": "connect",
    "first_token": "first_token",
    "idle": "idle_before_commit",
}


class _Said(NamedTuple):
    names: tuple[str, ...] = ()
    message: str = ""


def condition_of(error: BaseException) -> Condition | None:
    """Why a try failed before its reply began; None when no other try, and no other target, is the answer."""
    if isinstance(error, UpstreamFault):
        return _of_upstream(error)
    if isinstance(error, NoHealthyTarget):
        return "ejected"
    if isinstance(error, BudgetExceeded):
        return "over_budget"
    if isinstance(error, RateLimited):
        return "429"
    # A drain that is over ends the process: there is no time for another target.
    if isinstance(error, (Overloaded, ConcurrencyLimited)) and not isinstance(error, ShuttingDown):
        return "busy"
    return None


def condition_of_reply(reply: Reply) -> Condition | None:
    """Why a provider refused with this reply, whose status and body would go to the client; None for any other reply.

    Only whole bodies are looked into, and only those of status 400 and above.
    """
    status = reply.status
    if status < 400 or reply.body is None:
        return None
    return _of_answer(status, _said(reply.body))


def is_account_fault(error: GatewayError) -> bool:
    """Whether `error` is about the gateway's own account at the provider."""
    return isinstance(error, UpstreamFault) and _of_upstream(error) == "account"


def effective_status(error: UpstreamFault) -> int:
    """The status that tells what kind of failure it was: the provider's, or what an error in a 200 stands for."""
    status = error.upstream_status
    return status if status is not None and (status == 429 or status >= 500) else error.status


def _of_upstream(error: UpstreamFault) -> Condition | None:
    if isinstance(error, UpstreamConnectError):
        return "connect"
    if isinstance(error, UpstreamTimeout):
        return _BY_PHASE.get(error.phase)
    if isinstance(error, UpstreamTruncated):
        return "idle_before_commit"
    if isinstance(error, UpstreamAccountError) or (isinstance(error, UpstreamReplyError) and error.is_account):
        return "account"
    said = _Said()
    if isinstance(error, UpstreamError) and error.reply is not None:
        said = _said(error.reply.body)
    elif error.upstream_status == 200:
        said = _Said((error.code.lower(),), error.message.lower())
    return _of_answer(effective_status(error), said)


def _of_answer(status: int, said: _Said) -> Condition | None:
    for name in said.names:
        if name in _BY_NAME:
            return _BY_NAME[name]
    if status == 413:
        return "context_overflow"
    if status == 400:
        for words, condition in _BY_WORDS:
            if said.message.startswith(words):
                return condition
    if status in (401, 402, 403):
        return "account"
    if status == 429:
        return "429"
    return "5xx" if status >= 500 else None


def _said(body: bytes) -> _Said:
    """Codes and message of a provider's error body, in lower case; empty when it is not one."""
    try:
        parsed: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return _Said()
    error = parsed.get("error") if isinstance(parsed, dict) else None
    if not isinstance(error, dict):
        return _Said()
    nested = (error.get("details"), error.get("innererror"))
    names = [error.get("code"), error.get("type")]
    names += [item.get(key) for item in nested if isinstance(item, dict) for key in ("error_code", "code")]
    message = error.get("message")
    return _Said(
        tuple(name.lower() for name in names if isinstance(name, str)),
        message.lower() if isinstance(message, str) else "",
    )
