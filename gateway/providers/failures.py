"""What a provider's failure means to the client: whose fault it is, and what of it may be shown.

The table, by the provider's status:
- 3xx: never followed, 502 (a redirect would carry the credential elsewhere, F108);
- 401, 402, 403: the gateway's own account, 502; the text stays here, it may quote the credential;
- 429, 5xx: the provider's status and body, when the body is JSON; HTML from a middle box becomes
  a JSON 502 (F43);
- any other 4xx: the caller's own mistake, passed on as it is.
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite

from gateway.core.errors import (
    GatewayError,
    Headers,
    ProviderReply,
    UpstreamAccountError,
    UpstreamError,
    UpstreamReplyError,
)
from gateway.core.exchange import Exchange, Reply
from gateway.providers.decoding import whole_body
from gateway.providers.headers import down, first
from gateway.transport.base import UpstreamResponse

_MAX_ERROR_BYTES = 1024 * 1024
_ACCOUNT_STATUSES = frozenset({401, 402, 403})
MAX_RETRY_AFTER_S = 60.0
"""The longest wait that is passed on: the Anthropic SDK ignores longer ones, OpenAI's gives up at 120 s (F137)."""


async def failed(exchange: Exchange, response: UpstreamResponse) -> Reply:
    """The reply for a status that is the caller's fault. Raises UpstreamError or UpstreamAccountError for the rest."""
    status = response.status
    if 300 <= status < 400 or status < 200:
        raise UpstreamError(
            f"The provider answered {status}; the gateway follows no redirect. Check the target's base_url.",
            upstream_status=status,
        )
    if status in _ACCOUNT_STATUSES:
        raise UpstreamAccountError(
            f"The provider refused the gateway's own credential or account ({status}).", upstream_status=status
        )
    response.begin()
    body = await whole_body(response, _MAX_ERROR_BYTES)
    headers = _relayed_headers(response.headers)
    shown = _is_json_object(response.headers, body)
    if status == 429 or status >= 500:
        raise UpstreamError(
            f"The provider answered {status}.",
            upstream_status=status,
            retry_after_s=retry_after_s(response.headers),
            status=status if shown or status == 429 else 502,
            reply=ProviderReply(headers, body) if shown else None,
        )
    if not shown:
        raise UpstreamError(
            f"The provider answered {status} with something that is not a JSON object.", upstream_status=status
        )
    return Reply(status, headers, body=body, usage=exchange.usage)


def first_event_failed(
    error: UpstreamReplyError, *, body: bytes | None = None, headers: Headers | None = None
) -> GatewayError:
    """The fault for an error that came with status 200 instead of an answer (F15, F26, F42)."""
    if error.is_account:
        return UpstreamAccountError(error.message, upstream_status=200)
    reply = None if body is None else ProviderReply(headers or [], body)
    failure = UpstreamError(error.message, upstream_status=200, status=error.status, reply=reply)
    failure.code = error.code
    return failure


def retry_after_s(headers: Headers, now: datetime | None = None) -> float | None:
    """Seconds to wait, from `retry-after-ms`, or `retry-after` as seconds or as a date; clamped to 0..60.

    None when there is none, or none that makes sense (F28). The order is the SDKs' own.
    """
    milliseconds = _number(first(headers, b"retry-after-ms"))
    if milliseconds is not None:
        return min(max(milliseconds / 1000, 0.0), MAX_RETRY_AFTER_S)
    value = first(headers, b"retry-after")
    seconds = _number(value)
    if seconds is None and value is not None:
        seconds = _until(value, now or datetime.now(UTC))
    return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def _number(value: bytes | None) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if isfinite(number) else None


def _until(value: bytes, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(value.decode("ascii"))
    except (ValueError, UnicodeDecodeError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - now).total_seconds()


def _relayed_headers(headers: Headers) -> Headers:
    """The headers of an error reply; its retry times are rewritten by the edge, clamped."""
    return [item for item in down(headers) if item[0] not in (b"retry-after", b"retry-after-ms")]


def _is_json_object(headers: Headers, body: bytes) -> bool:
    content_type = first(headers, b"content-type") or b""
    return b"json" in content_type and body.lstrip()[:1] == b"{"
