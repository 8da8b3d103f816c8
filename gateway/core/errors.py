"""Every way a request can fail, as one tree.

GatewayError
├── ClientFault                 source client; the caller can mend it
│   ├── InvalidRequest          400 invalid_request_error (or a finer code)
│   ├── InvalidApiKey           401 invalid_api_key
│   ├── Forbidden               403 model_not_allowed, pin_not_allowed
│   ├── NotFound                404 model_not_found, not_found
│   ├── MethodNotAllowed        405 method_not_allowed
│   ├── DeadlineExceeded        408 deadline_exceeded (the client's own x-gateway-timeout)
│   ├── RequestTimeout          408 request_timeout (the client did not send its body in time)
│   ├── RequestTooLarge         413 request_too_large
│   ├── UnsupportedMediaType    415 unsupported_media_type
│   ├── HeadersTooLarge         431 headers_too_large
│   ├── CacheMiss               504 cache_miss (the client's own `cache-control: only-if-cached`)
│   └── ClientGone              499 (never sent: nobody is there to read it)
├── UpstreamFault               source upstream; breakers count these
│   ├── UpstreamConnectError    502 upstream_error, nothing was sent
│   ├── UpstreamError           502 upstream_error, or the provider's own status
│   ├── UpstreamAccountError    502 upstream_error: the provider refused the gateway's own account
│   ├── UpstreamTimeout         504 upstream_timeout
│   ├── UpstreamTruncated       502 upstream_error, a reply that ended before its end
│   └── UpstreamReplyError      502 upstream_error, an error event inside a reply
├── Refused                     source gateway; a declared limit, not a failure
│   ├── RateLimited             429 rate_limit_exceeded
│   ├── ConcurrencyLimited      429 concurrency_limit_exceeded
│   └── BudgetExceeded          429 insufficient_quota, not to be retried
└── GatewayFault                source gateway
    ├── NoHealthyTarget         503 no_healthy_target
    │   └── TargetEjected       503 no_healthy_target: this target alone
    ├── Overloaded              503 overloaded
    │   └── TargetBusy          503 overloaded: this target alone
    ├── ShuttingDown            503 overloaded, at the end of a drain
    ├── StoreUnavailable        503 store_unavailable
    ├── LoopDetected            508 loop_detected
    └── InternalError           500 internal_error
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

Headers = list[tuple[bytes, bytes]]
"""Names in lower case, in the order they came, duplicates kept."""

Source = Literal["client", "upstream", "gateway"]

Outcome = Literal[
    "ok",
    "cached",
    "client_error",
    "client_gone",
    "rate_limited",
    "over_budget",
    "upstream_error",
    "upstream_timeout",
    "truncated",
    "no_target",
    "overloaded",
    "internal",
]
OUTCOMES: tuple[Outcome, ...] = (
    "ok",
    "cached",
    "client_error",
    "client_gone",
    "rate_limited",
    "over_budget",
    "upstream_error",
    "upstream_timeout",
    "truncated",
    "no_target",
    "overloaded",
    "internal",
)


class GatewayError(Exception):
    """A fault with everything a client, a breaker and a dashboard need to know about it.

    `param` names the field at fault as OpenAI's error body does. `retry_after_s` becomes
    `retry-after` and `retry-after-ms`; every 429 and 503 has one. `retried`: the gateway has spent its
    own tries on this, so the client is told (`x-should-retry: false`) not to multiply them by its own.
    """

    status: int = 500
    code: str = "internal_error"
    source: ClassVar[Source] = "gateway"
    retryable: ClassVar[bool] = False
    outcome: ClassVar[Outcome] = "internal"
    retried: bool = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        if code is not None:
            self.code = code


class ClientFault(GatewayError):
    """The caller sent something that cannot be served as it is."""

    status = 400
    code = "invalid_request_error"
    source = "client"
    outcome: ClassVar[Outcome] = "client_error"


class InvalidRequest(ClientFault):
    """A field, header or body that breaks a rule; the message says which, and which value."""


class InvalidApiKey(ClientFault):
    """No credential, or one that is malformed, unknown, expired or withdrawn: one text for all."""

    status = 401
    code = "invalid_api_key"

    def __init__(self) -> None:
        super().__init__("Incorrect API key provided. Send a key that was issued for this gateway.")


class Forbidden(ClientFault):
    """A known key that may not do this."""

    status = 403
    code = "model_not_allowed"


class NotFound(ClientFault):
    """No route for the model, or no such path."""

    status = 404
    code = "model_not_found"


class MethodNotAllowed(ClientFault):
    """The path exists, for other methods; `allow` goes into the header of that name."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class DeadlineExceeded(ClientFault):
    """The time that the client itself allowed (`x-gateway-timeout`) is over."""

    status = 408
    code = "deadline_exceeded"


class RequestTimeout(ClientFault):
    """The client did not send its body in time."""

    status = 408
    code = "request_timeout"


class RequestTooLarge(ClientFault):
    """A body over `server.max_body`."""

    status = 413
    code = "request_too_large"


class UnsupportedMediaType(ClientFault):
    """JSON endpoints take `application/json` only, so that a web form cannot drive a local gateway."""

    status = 415
    code = "unsupported_media_type"


class HeadersTooLarge(ClientFault):
    """Header lines over `server.max_header`."""

    status = 431
    code = "headers_too_large"


class CacheMiss(ClientFault):
    """The client wanted a stored reply or none (RFC 9111, 5.2.1.7), and there is none."""

    status = 504
    code = "cache_miss"


class ClientGone(ClientFault):
    """The client left before its reply was complete."""

    status = 499
    code = "client_gone"
    outcome: ClassVar[Outcome] = "client_gone"


@dataclass(frozen=True, slots=True)
class ProviderReply:
    """A provider's own error reply, in the client's dialect, that may be passed on as it is."""

    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)


class UpstreamFault(GatewayError):
    """The provider's side failed. `upstream_status` is its own status, where it sent one."""

    status = 502
    code = "upstream_error"
    source = "upstream"
    retryable = True
    outcome: ClassVar[Outcome] = "upstream_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        upstream_status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code, retry_after_s=retry_after_s)
        self.upstream_status = upstream_status


class UpstreamConnectError(UpstreamFault):
    """No connection: refused, unresolvable, bad certificate. Not one byte of the request was sent."""


class UpstreamError(UpstreamFault):
    """A failure that the provider answered with: 429, 5xx, HTML from a middle box, a redirect, a broken protocol.

    `reply` is the provider's own body where the client may see it; `status` is then the provider's.
    """

    def __init__(
        self,
        message: str,
        *,
        upstream_status: int | None = None,
        retry_after_s: float | None = None,
        status: int = 502,
        reply: ProviderReply | None = None,
    ) -> None:
        super().__init__(message, upstream_status=upstream_status, retry_after_s=retry_after_s)
        self.status = status
        self.reply = reply


class UpstreamAccountError(UpstreamFault):
    """The provider refused the gateway's account (401, 402, 403); its text may quote a credential, so it stays here."""

    retryable = False


class UpstreamTimeout(UpstreamFault):
    """Connect, first-token, idle or total time is over; `phase` says which."""

    status = 504
    code = "upstream_timeout"
    outcome: ClassVar[Outcome] = "upstream_timeout"

    def __init__(self, message: str, *, phase: Literal["connect", "first_token", "idle", "total"]) -> None:
        super().__init__(message)
        self.phase = phase


class UpstreamTruncated(UpstreamFault):
    """The reply stopped before its end: reset, early EOF, or a stream without its last event."""

    outcome: ClassVar[Outcome] = "truncated"


class UpstreamReplyError(UpstreamFault):
    """An error event in a reply whose HTTP status was 200.

    `relay` is the event as the provider sent it, when the client's dialect is the provider's:
    it is passed on as it is. `is_account`: it is about the gateway's own account (as UpstreamAccountError),
    so it has no relay, and its message is not the provider's.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 502,
        code: str | None = None,
        relay: bytes | None = None,
        is_account: bool = False,
    ) -> None:
        super().__init__(message, code=code, upstream_status=200)
        self.status = status
        self.relay = relay
        self.is_account = is_account


class Refused(GatewayError):
    """A limit or budget of the configuration has been reached; `limit` names the rule."""

    status = 429
    retryable = True
    outcome: ClassVar[Outcome] = "rate_limited"

    def __init__(self, message: str, *, limit: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.limit = limit


class RateLimited(Refused):
    """More requests or tokens in the window than a rule allows."""

    code = "rate_limit_exceeded"


class ConcurrencyLimited(Refused):
    """More requests at once than a rule allows."""

    code = "concurrency_limit_exceeded"


class BudgetExceeded(Refused):
    """What this request may cost does not fit into what is left of a budget. Waiting a moment does not help."""

    code = "insufficient_quota"
    retryable = False
    outcome: ClassVar[Outcome] = "over_budget"


class GatewayFault(GatewayError):
    """The gateway itself cannot serve this now."""

    status = 503
    retryable = True


class NoHealthyTarget(GatewayFault):
    """Every target of the route is out of service."""

    code = "no_healthy_target"
    outcome: ClassVar[Outcome] = "no_target"


class TargetEjected(NoHealthyTarget):
    """One target takes no requests: its breaker is open, its account was refused, or somebody ejected it."""


class Overloaded(GatewayFault):
    """More in flight than `server.max_inflight`, or a target's connections are all taken."""

    code = "overloaded"
    outcome: ClassVar[Outcome] = "overloaded"


class TargetBusy(Overloaded):
    """One target has as many requests in flight, and waiting, as it may have."""


class ShuttingDown(Overloaded):
    """The drain is over and this reply was still running."""


class StoreUnavailable(GatewayFault):
    """The shared store does not answer, and what needs it is declared `closed` for that case."""

    code = "store_unavailable"
    outcome: ClassVar[Outcome] = "overloaded"


class LoopDetected(GatewayFault):
    """The request has passed through too many gateways: a target points back at this one."""

    status = 508
    code = "loop_detected"
    retryable = False
    outcome: ClassVar[Outcome] = "client_error"


class InternalError(GatewayError):
    """A bug here. The text says nothing of it; the log has the traceback."""

    def __init__(self) -> None:
        super().__init__("The gateway failed to handle this request. The request id finds it in the gateway's log.")
