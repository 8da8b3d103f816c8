"""Failures and the words of the configuration for them."""

import pytest

from gateway.core.conditions import (
    CONDITIONS,
    Condition,
    condition_of,
    condition_of_reply,
    effective_status,
    is_account_fault,
)
from gateway.core.errors import (
    BudgetExceeded,
    ClientGone,
    ConcurrencyLimited,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    LoopDetected,
    NoHealthyTarget,
    Overloaded,
    ProviderReply,
    RateLimited,
    ShuttingDown,
    StoreUnavailable,
    TargetBusy,
    TargetEjected,
    UpstreamAccountError,
    UpstreamConnectError,
    UpstreamError,
    UpstreamReplyError,
    UpstreamTimeout,
    UpstreamTruncated,
)
from gateway.core.exchange import Reply
from tests.fakes import events_of


def _from_200(status: int, code: str, message: str = "x") -> UpstreamError:
    """What a provider's error in a reply of status 200 becomes (F26, F42)."""
    error = UpstreamError(message, upstream_status=200, status=status)
    error.code = code
    return error


def _with_body(status: int, body: bytes) -> UpstreamError:
    return UpstreamError("x", upstream_status=status, status=status, reply=ProviderReply([], body))


@pytest.mark.parametrize(
    ("error", "condition"),
    [
        (UpstreamConnectError("x"), "connect"),
        (UpstreamTimeout("x", phase="connect"), "connect"),
        (UpstreamTimeout("x", phase="first_token"), "first_token"),
        (UpstreamTimeout("x", phase="idle"), "idle_before_commit"),
        (UpstreamTimeout("x", phase="total"), None),
        (UpstreamTruncated("x"), "idle_before_commit"),
        (UpstreamAccountError("x"), "account"),
        (UpstreamReplyError("x", is_account=True), "account"),
        (UpstreamReplyError("x", status=529, code="overloaded_error"), "5xx"),
        (UpstreamError("x"), "5xx"),
        (UpstreamError("x", upstream_status=429, status=429), "429"),
        (UpstreamError("x", upstream_status=529, status=529), "5xx"),
        (UpstreamError("x", upstream_status=503, status=503), "5xx"),
        (UpstreamError("HTML", upstream_status=502, status=502), "5xx"),
        (UpstreamError("redirect", upstream_status=302), "5xx"),
        (UpstreamError("not JSON", upstream_status=200), "5xx"),
        (_from_200(429, "rate_limit_exceeded"), "429"),
        (_from_200(529, "overloaded_error"), "5xx"),
        (_from_200(400, "context_length_exceeded"), "context_overflow"),
        (_from_200(400, "content_filter"), "content_filter"),
        (_from_200(400, "invalid_request_error", "prompt is too long: 210000 tokens"), "context_overflow"),
        (_from_200(400, "invalid_request_error"), None),
        (_with_body(429, b'{"error":{"code":"insufficient_quota","message":"x"}}'), "account"),
        (
            _with_body(
                429,
                b'{"error":{"type":"rate_limit_error","details":{"error_code":"enforced_spend_limit_reached"}}}',
            ),
            "account",
        ),
        (_with_body(429, b'{"error":{"code":"rate_limit_exceeded"}}'), "429"),
        (TargetEjected("x"), "ejected"),
        (NoHealthyTarget("x"), "ejected"),
        (TargetBusy("x"), "busy"),
        (Overloaded("x"), "busy"),
        (ShuttingDown("x"), None),
        (ConcurrencyLimited("x", limit="l", retry_after_s=1), "busy"),
        (RateLimited("x", limit="l", retry_after_s=1), "429"),
        (BudgetExceeded("x", limit="l", retry_after_s=1), "over_budget"),
        (StoreUnavailable("x"), None),
        (InvalidRequest("x"), None),
        (DeadlineExceeded("x"), None),
        (ClientGone("x"), None),
        (LoopDetected("x"), None),
        (InternalError(), None),
        (ValueError("x"), None),
    ],
)
def test_an_error_has_at_most_one_condition(error: BaseException, condition: Condition | None) -> None:
    """F36, F37, F42, F43."""
    assert condition_of(error) == condition
    assert condition is None or condition in CONDITIONS


@pytest.mark.parametrize(
    ("status", "body", "condition"),
    [
        (400, b'{"error":{"message":"x","code":"context_length_exceeded"}}', "context_overflow"),
        (400, b'{"error":{"message":"x","code":"string_above_max_length"}}', "context_overflow"),
        (
            400,
            b'{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 > 8"}}',
            "context_overflow",
        ),
        (
            400,
            b'{"error":{"type":"BadRequestError","message":"This model\'s maximum context length is 4096 tokens."}}',
            "context_overflow",
        ),
        (413, b'{"type":"error","error":{"type":"request_too_large","message":"x"}}', "context_overflow"),
        (413, b'{"error":"too large"}', "context_overflow"),
        (400, b'{"error":{"code":"content_filter","message":"x"}}', "content_filter"),
        (
            400,
            b'{"error":{"code":null,"message":"x","innererror":{"code":"ResponsibleAIPolicyViolation"}}}',
            "content_filter",
        ),
        (
            400,
            b'{"error":{"type":"invalid_request_error","message":"Your credit balance is too low to access it."}}',
            "account",
        ),
        (400, b'{"error":{"code":"unsupported_parameter","message":"not: prompt is too long"}}', None),
        (400, b'{"error":{"code":7,"message":["x"]}}', None),
        (400, b"[]", None),
        (400, b"not JSON", None),
        (400, b"[" * 100_000, None),
        (404, b'{"error":{"code":"model_not_found"}}', None),
        (422, b"{}", None),
        (503, b"{}", "5xx"),
        (429, b"{}", "429"),
        (402, b"{}", "account"),
        (200, b'{"error":{"code":"content_filter"}}', None),
    ],
)
def test_a_refusal_that_came_as_a_reply_has_a_condition_too(
    status: int, body: bytes, condition: Condition | None
) -> None:
    """F36, F37: only what another target may do better."""
    assert condition_of_reply(Reply(status, [], body=body)) == condition


def test_a_refusal_in_pieces_is_passed_on() -> None:
    assert condition_of_reply(Reply(500, [], events=events_of())) is None


def test_an_account_fault_is_known_whatever_its_status() -> None:
    """F37."""
    assert is_account_fault(UpstreamAccountError("x"))
    assert is_account_fault(_with_body(429, b'{"error":{"type":"insufficient_quota"}}'))
    assert not is_account_fault(UpstreamError("x", upstream_status=500))
    assert not is_account_fault(TargetEjected("x"))


def test_the_status_that_counts_is_the_one_that_tells_of_a_failure() -> None:
    """F42, F43."""
    assert effective_status(UpstreamError("x", upstream_status=500, status=502)) == 500
    assert effective_status(UpstreamError("x", upstream_status=200, status=429)) == 429
    assert effective_status(UpstreamError("x", upstream_status=404)) == 502
