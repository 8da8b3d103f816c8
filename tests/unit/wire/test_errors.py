"""Errors in the client's dialect, and providers' errors read."""

import json
import math

import pytest

from gateway.core.errors import (
    BudgetExceeded,
    ConcurrencyLimited,
    DeadlineExceeded,
    Forbidden,
    GatewayError,
    Headers,
    InternalError,
    InvalidApiKey,
    InvalidRequest,
    LoopDetected,
    MethodNotAllowed,
    NoHealthyTarget,
    NotFound,
    Overloaded,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    UpstreamAccountError,
    UpstreamConnectError,
    UpstreamReplyError,
    UpstreamTimeout,
)
from gateway.core.exchange import Dialect
from gateway.wire.errors import ProviderError, error_body, error_headers, provider_error, reply_error

DIALECTS: list[Dialect] = ["openai", "anthropic"]
ERRORS: list[tuple[GatewayError, str, str]] = [
    (InvalidRequest("bad", param="n"), "invalid_request_error", "invalid_request_error"),
    (InvalidApiKey(), "invalid_request_error", "authentication_error"),
    (Forbidden("no"), "invalid_request_error", "permission_error"),
    (NotFound("none"), "invalid_request_error", "not_found_error"),
    (MethodNotAllowed("no", "GET"), "invalid_request_error", "invalid_request_error"),
    (RequestTooLarge("big"), "invalid_request_error", "request_too_large"),
    (UpstreamReplyError("slow", status=429), "requests", "rate_limit_error"),
    (UpstreamReplyError("paid", status=429, code="insufficient_quota"), "insufficient_quota", "rate_limit_error"),
    (InternalError(), "server_error", "api_error"),
    (UpstreamConnectError("gone"), "server_error", "api_error"),
    (NoHealthyTarget("none"), "service_unavailable_error", "overloaded_error"),
    (UpstreamReplyError("busy", status=529), "service_unavailable_error", "overloaded_error"),
    (UpstreamTimeout("late", phase="idle"), "server_error", "timeout_error"),
    (LoopDetected("loop"), "server_error", "api_error"),
]


@pytest.mark.parametrize(("error", "kind", "_"), ERRORS)
def test_openai_errors_have_their_four_keys(error: GatewayError, kind: str, _: str) -> None:
    """F133."""
    assert json.loads(error_body("openai", error, "req-1")) == {
        "error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    }


@pytest.mark.parametrize(("error", "_", "kind"), ERRORS)
def test_anthropic_errors_have_type_and_request_id(error: GatewayError, _: str, kind: str) -> None:
    """F17, F133."""
    assert json.loads(error_body("anthropic", error, "req-1")) == {
        "type": "error",
        "error": {"type": kind, "message": error.message},
        "request_id": "req-1",
    }


def test_messages_are_encoded_not_pasted() -> None:
    body = error_body("openai", InvalidRequest('a "quoted"\nline é'), "r")
    assert json.loads(body)["error"]["message"] == 'a "quoted"\nline é'


def headers_of(error: GatewayError) -> dict[bytes, bytes]:
    headers: Headers = error_headers(error)
    assert len(dict(headers)) == len(headers)
    return dict(headers)


@pytest.mark.parametrize(
    ("wait_s", "seconds", "milliseconds"),
    [
        (None, b"1", b"1000"),
        (0.043, b"1", b"43"),
        (2.0, b"2", b"2000"),
        (2.5, b"3", b"2500"),
        (0.0, b"1", b"1"),
        (-5.0, b"1", b"1"),
        (float("nan"), b"1", b"1000"),
        (float("inf"), b"1", b"1000"),
    ],
)
def test_every_503_says_when_to_come_back(wait_s: float | None, seconds: bytes, milliseconds: bytes) -> None:
    """F28, F29."""
    headers = headers_of(Overloaded("full", retry_after_s=wait_s))
    assert headers == {
        b"content-type": b"application/json",
        b"retry-after": seconds,
        b"retry-after-ms": milliseconds,
    }


def test_every_429_says_when_to_come_back() -> None:
    """F29."""
    assert headers_of(UpstreamReplyError("slow", status=429))[b"retry-after"] == b"1"


def test_other_errors_say_it_when_it_is_known() -> None:
    error = UpstreamConnectError("gone")
    assert b"retry-after" not in headers_of(error)
    error.retry_after_s = 3.0
    assert headers_of(error)[b"retry-after"] == b"3"


@pytest.mark.parametrize(
    ("error", "hopeless"),
    [
        (InvalidRequest("x"), False),
        (InvalidApiKey(), False),
        (DeadlineExceeded("x"), True),
        (RequestTimeout("x"), False),
        (LoopDetected("x"), True),
        (InternalError(), True),
        (UpstreamAccountError("x"), True),
        (UpstreamConnectError("x"), False),
        (NoHealthyTarget("x"), False),
        (UpstreamReplyError("x", status=429), False),
        (UpstreamReplyError("x", status=429, code="insufficient_quota"), True),
    ],
)
def test_sdks_are_told_not_to_repeat_what_cannot_succeed(error: GatewayError, hopeless: bool) -> None:
    """F30."""
    assert (headers_of(error).get(b"x-should-retry") == b"false") is hopeless


def test_sdks_do_not_multiply_the_gateways_own_retries() -> None:
    """F30: one layer retries."""
    error = UpstreamConnectError("refused")
    error.retried = True
    assert headers_of(error)[b"x-should-retry"] == b"false"


def test_a_budget_that_is_spent_is_told_as_the_providers_tell_it() -> None:
    """F30: the same refusal in both dialects; an SDK must not repeat it."""
    error = BudgetExceeded("spent", limit="team-day", retry_after_s=90.5)
    assert json.loads(error_body("openai", error, "r"))["error"] == {
        "message": "spent",
        "type": "insufficient_quota",
        "param": None,
        "code": "insufficient_quota",
    }
    assert dict(error_headers(error)) == {
        b"content-type": b"application/json",
        b"retry-after": b"91",
        b"retry-after-ms": b"90500",
        b"x-should-retry": b"false",
    }
    assert json.loads(error_body("anthropic", error, "r"))["error"] == {
        "type": "rate_limit_error",
        "message": "spent",
        "details": {"error_code": "enforced_spend_limit_reached"},
    }
    assert dict(error_headers(error, "anthropic")) == {
        b"content-type": b"application/json",
        b"x-should-retry": b"false",
    }


@pytest.mark.parametrize("error_class", [RateLimited, ConcurrencyLimited])
@pytest.mark.parametrize(("wait_s", "told"), [(0.2, (b"1", b"200", None)), (math.inf, (b"1", b"1000", b"false"))])
def test_a_limit_says_when_to_come_back_and_what_never_fits_is_not_to_be_repeated(
    error_class: type[RateLimited | ConcurrencyLimited], wait_s: float, told: tuple[bytes, bytes, bytes | None]
) -> None:
    """F29, F30."""
    error = error_class("full", limit="per-key", retry_after_s=wait_s)
    for dialect in DIALECTS:
        headers = dict(error_headers(error, dialect))
        assert (headers[b"retry-after"], headers[b"retry-after-ms"], headers.get(b"x-should-retry")) == told
    assert json.loads(error_body("anthropic", error, "r"))["error"] == {"type": "rate_limit_error", "message": "full"}
    assert json.loads(error_body("openai", error, "r"))["error"]["code"] == error.code


def test_a_405_names_the_methods() -> None:
    assert headers_of(MethodNotAllowed("no", "GET, HEAD"))[b"allow"] == b"GET, HEAD"


@pytest.mark.parametrize(
    ("dialect", "body", "expected"),
    [
        ("openai", b'{"error":{"message":"m","type":"t","param":null,"code":"c"}}', ProviderError("m", "c", "t")),
        ("openai", b'{"error":{"message":"m","type":null,"code":null}}', ProviderError("m", None, None)),
        ("openai", b'{"error":{"message":"m","code":429}}', ProviderError("m", "429", None)),
        ("openai", b'{"error":{"code":true,"message":5}}', ProviderError("5", None, None)),
        ("openai", b'{"error":{"code":"c"}}', ProviderError("The provider reported an error.", "c", None)),
        ("openai", b'{"error":"text"}', ProviderError("text", None, None)),
        (
            "openai",
            b'[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]',
            ProviderError("m", "429", "RESOURCE_EXHAUSTED"),
        ),
        ("openai", b'{"object":"error","message":"m","type":"t","code":40}', ProviderError("m", "40", "t")),
        ("openai", b'{"type":"error","code":"c","message":"m"}', ProviderError("m", "c", None)),
        ("anthropic", b'{"type":"error","error":{"type":"t","message":"m"}}', ProviderError("m", None, "t")),
        (
            "anthropic",
            b'{"type":"error","error":{"type":"t","message":"m","details":{"error_code":"spend"}}}',
            ProviderError("m", "spend", "t"),
        ),
        ("openai", b'{"error":null,"id":"x"}', None),
        ("openai", b'{"error":{}}', None),
        ("openai", b'{"error":5,"message":"m"}', None),
        ("openai", b'{"id":"x"}', None),
        ("openai", b"[]", None),
        ("openai", b'"text"', None),
        ("openai", b"<html>502</html>", None),
        ("openai", b"", None),
        ("openai", b"[" * 100_000, None),
    ],
)
def test_a_providers_error_is_read_in_any_of_its_shapes(
    dialect: Dialect, body: bytes, expected: ProviderError | None
) -> None:
    """F43: and what is no JSON is no error."""
    assert provider_error(dialect, body) == expected


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        ("rate_limit_exceeded", "requests", 429),
        (None, "rate_limit_error", 429),
        ("server_is_overloaded", "service_unavailable_error", 503),
        (None, "overloaded_error", 529),
        (None, "invalid_request_error", 400),
        ("context_length_exceeded", None, 400),
        (None, "timeout_error", 504),
        ("429", None, 429),
        ("503", "x", 503),
        ("401", None, 502),
        ("403", "permission_error", 502),
        ("200", None, 502),
        ("99999", None, 502),
        ("٤٢٩", None, 502),
        ("c", "RESOURCE_EXHAUSTED", 429),
        (None, "authentication_error", 502),
        ("e17", "authentication_error", 502),
        ("invalid_api_key", "invalid_request_error", 502),
        (None, None, 502),
    ],
)
def test_an_error_inside_a_200_gets_a_fitting_status(code: str | None, kind: str | None, status: int) -> None:
    """F26, F42."""
    body = json.dumps({"error": {"message": "m", "code": code, "type": kind}}).encode()
    assert reply_error("openai", body).status == status


ACCOUNT_ERRORS: list[tuple[Dialect, str]] = [
    ("openai", '{"error":{"type":"authentication_error","code":"e17","message":"bad key sk-canary"}}'),
    ("openai", '{"error":{"type":"invalid_request_error","code":"invalid_api_key","message":"bad key sk-canary"}}'),
    ("openai", '{"error":{"code":401,"message":"bad key sk-canary"}}'),
    ("openai", '{"error":{"status":"PERMISSION_DENIED","code":7,"message":"bad key sk-canary"}}'),
    ("openai", '{"type":"error","code":"billing_not_active","message":"bad key sk-canary"}'),
    ("anthropic", '{"type":"error","error":{"type":"authentication_error","message":"bad key sk-canary"}}'),
    (
        "anthropic",
        '{"type":"error","error":{"type":"x","message":"sk-canary","details":{"error_code":"billing_error"}}}',
    ),
]


@pytest.mark.parametrize(("dialect", "body"), ACCOUNT_ERRORS)
def test_an_error_about_the_gateways_account_keeps_nothing_of_the_providers_words(dialect: Dialect, body: str) -> None:
    """F42, F114: the code or the type tells; the text, and the frame that holds it, may quote the credential."""
    error = reply_error(dialect, body.encode(), b"data: " + body.encode() + b"\n\n")
    assert error.is_account
    assert (error.status, error.code, error.relay) == (502, "upstream_error", None)
    assert "canary" not in error.message


def test_any_other_error_inside_a_200_keeps_its_words_and_its_frame() -> None:
    """F15."""
    body = b'{"error":{"type":"server_error","code":"e17","message":"boom"}}'
    error = reply_error("openai", body, b"data: {}\n\n")
    assert (error.message, error.code, error.relay, error.is_account) == ("boom", "e17", b"data: {}\n\n", False)
    unread = reply_error("openai", b"<html>")
    assert (unread.message, unread.status, unread.relay) == ("The provider reported an error.", 502, None)
