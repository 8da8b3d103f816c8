"""Errors on the wire: ours in the client's dialect, and a provider's as far as we read it."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.core.errors import (
    BudgetExceeded,
    GatewayError,
    Headers,
    MethodNotAllowed,
    Refused,
    RequestTimeout,
    UpstreamReplyError,
)
from gateway.core.exchange import Dialect

_DEFAULT_RETRY_AFTER_S = 1.0

_WAIT_STATUSES = frozenset({429, 503, 529})

# OpenAI: `Error` in openapi.yaml, and recorded answers. 401 has the type of any bad request; its code tells.
_OPENAI_TYPES = {429: "requests", 503: "service_unavailable_error", 529: "service_unavailable_error"}

# docs.anthropic.com/en/api/errors. What has no type of its own there takes the nearest.
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}

# What an error inside a 200 would have been as a status. Errors of the gateway's own account (401,
# 402, 403) are not in it: the client cannot mend them.
_STATUS_BY_NAME = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "rate_limit": 429,
    "rate_limited": 429,
    "too_many_requests": 429,
    "resource_exhausted": 429,
    "insufficient_quota": 429,
    "requests": 429,
    "tokens": 429,
    "overloaded_error": 529,
    "overloaded": 503,
    "server_is_overloaded": 503,
    "engine_overloaded": 503,
    "slow_down": 503,
    "service_unavailable": 503,
    "service_unavailable_error": 503,
    "unavailable": 503,
    "timeout": 504,
    "timeout_error": 504,
    "deadline_exceeded": 504,
    "invalid_request": 400,
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "invalid_prompt": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "badrequesterror": 400,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
}
_ACCOUNT_STATUSES = frozenset({401, 402, 403, 407})
_ACCOUNT_NAMES = frozenset(
    {
        "account_deactivated",
        "authentication_error",
        "billing_error",
        "billing_not_active",
        "credit_balance_exhausted",
        "invalid_api_key",
        "permission_denied",
        "permission_error",
        "unauthenticated",
    }
)


class ProviderError(NamedTuple):
    """What a provider's error says. The message may quote a credential: never log it as it is."""

    message: str
    code: str | None
    type: str | None


def error_body(dialect: Dialect, error: GatewayError, request_id: str) -> bytes:
    """The JSON body that says `error` in the client's dialect."""
    if dialect == "anthropic":
        kind = _ANTHROPIC_TYPES.get(error.status)
        if kind is None:
            kind = "api_error" if error.status >= 500 else "invalid_request_error"
        said: dict[str, Any] = {"type": kind, "message": error.message}
        if isinstance(error, BudgetExceeded):
            # As a spend limit of the account: SDKs and people tell it from a rate limit by this alone.
            said["details"] = {"error_code": "enforced_spend_limit_reached"}
        return msgspec.json.encode({"type": "error", "error": said, "request_id": request_id})
    return msgspec.json.encode(
        {
            "error": {
                "message": error.message,
                "type": _openai_type(error),
                "param": error.param,
                "code": error.code,
            }
        }
    )


def _openai_type(error: GatewayError) -> str:
    if error.code == "insufficient_quota":
        return "insufficient_quota"
    default = "server_error" if error.status >= 500 else "invalid_request_error"
    return _OPENAI_TYPES.get(error.status, default)


def error_headers(error: GatewayError, dialect: Dialect = "openai") -> Headers:
    """The headers that go with `error_body`.

    `retry-after` is whole seconds and at least 1, `retry-after-ms` the finer figure that SDKs prefer;
    every 429, 503 and 529 has both. `x-should-retry: false` stops an SDK from repeating, on a
    status that it would repeat by itself (408, 409, 429, 5xx), what cannot succeed. A budget that is
    spent has no time to come back at in Anthropic's dialect, as the provider's own has none.
    """
    headers: Headers = [(b"content-type", b"application/json")]
    wait_s = error.retry_after_s
    if wait_s is None and error.status in _WAIT_STATUSES:
        wait_s = _DEFAULT_RETRY_AFTER_S
    if wait_s is not None and not (dialect == "anthropic" and isinstance(error, BudgetExceeded)):
        wait_s = wait_s if math.isfinite(wait_s) else _DEFAULT_RETRY_AFTER_S
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(wait_s))))
        headers.append((b"retry-after-ms", b"%d" % max(1, math.ceil(wait_s * 1000))))
    if _is_hopeless(error):
        headers.append((b"x-should-retry", b"false"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allow.encode("ascii")))
    return headers


def _is_hopeless(error: GatewayError) -> bool:
    if error.status not in (408, 409, 429) and error.status < 500:
        return False
    if error.retried or error.code == "insufficient_quota":
        return True
    if isinstance(error, Refused) and error.retry_after_s == math.inf:
        # More than the limit ever allows at once.
        return True
    # A body that came too slowly may well come in time the next time.
    return not error.retryable and not isinstance(error, RequestTimeout)


def provider_error(dialect: Dialect, body: bytes) -> ProviderError | None:
    """What a provider's error body or event says; None when it is no error in JSON.

    Reads `{"error": {…}}`, `{"error": "text"}`, a list of one of them (Gemini), and the flat
    `{"message", "code", "type"}` of the Responses API and of older servers.
    """
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    if not isinstance(parsed, dict):
        return None
    error = parsed.get("error")
    if isinstance(error, str) and error:
        return ProviderError(error, None, None)
    if isinstance(error, dict) and error:
        return _provider_error(dialect, error)
    if not error and isinstance(parsed.get("message"), str):
        return _provider_error(dialect, parsed)
    return None


def _provider_error(dialect: Dialect, error: Mapping[str, Any]) -> ProviderError:
    code = error.get("code")
    details = error.get("details")
    if dialect == "anthropic" and code is None and isinstance(details, dict):
        code = details.get("error_code")
    kind = error.get("type")
    if kind is None or kind == "error":
        kind = error.get("status")
    return ProviderError(
        message=_text(error.get("message")) or "The provider reported an error.",
        code=_text(code),
        type=_text(kind),
    )


def _text(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    return str(value)


def _is_account_error(name: str | None) -> bool:
    """Whether a code or type of a provider's error means the account that called it, which is the gateway's own."""
    if name is None:
        return False
    return name.lower() in _ACCOUNT_NAMES or (name.isdecimal() and len(name) == 3 and int(name) in _ACCOUNT_STATUSES)


def reply_error(dialect: Dialect, body: bytes, relay: bytes | None = None) -> UpstreamReplyError:
    """The fault for an error that a reply of status 200 holds: `body` says it, `relay` is the event that brought it.

    An error about the gateway's own account may quote its credential, in the message or anywhere else in the
    event; so nothing of it is kept.
    """
    found = provider_error(dialect, body) or ProviderError("The provider reported an error.", None, None)
    if _is_account_error(found.code) or _is_account_error(found.type):
        return UpstreamReplyError(
            "The provider refused the gateway's own credential or account, in a reply of status 200.", is_account=True
        )
    return UpstreamReplyError(found.message, status=_reply_status(found), code=found.code or found.type, relay=relay)


def _reply_status(error: ProviderError) -> int:
    """The HTTP status that fits an error found inside a 200; 502 where nothing better is known."""
    for name in (error.code, error.type):
        if name is None:
            continue
        if name.isascii() and name.isdigit() and len(name) == 3 and 400 <= int(name) <= 599:
            return int(name)
        status = _STATUS_BY_NAME.get(name.lower())
        if status is not None:
            return status
    return 502
