"""The tree of errors: what each class fixes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from gateway.core import errors
from gateway.core.errors import (
    OUTCOMES,
    BudgetExceeded,
    CacheMiss,
    ClientFault,
    ClientGone,
    ConcurrencyLimited,
    DeadlineExceeded,
    Forbidden,
    GatewayError,
    GatewayFault,
    HeadersTooLarge,
    InternalError,
    InvalidApiKey,
    InvalidRequest,
    LoopDetected,
    MethodNotAllowed,
    NoHealthyTarget,
    NotFound,
    Outcome,
    Overloaded,
    ProviderReply,
    RateLimited,
    Refused,
    RequestTimeout,
    RequestTooLarge,
    ShuttingDown,
    StoreUnavailable,
    TargetBusy,
    TargetEjected,
    UnsupportedMediaType,
    UpstreamAccountError,
    UpstreamConnectError,
    UpstreamError,
    UpstreamFault,
    UpstreamReplyError,
    UpstreamTimeout,
    UpstreamTruncated,
)

EVERY_KIND: list[tuple[GatewayError, int, str, str, str]] = [
    (InvalidRequest("x"), 400, "invalid_request_error", "client", "client_error"),
    (InvalidApiKey(), 401, "invalid_api_key", "client", "client_error"),
    (Forbidden("x"), 403, "model_not_allowed", "client", "client_error"),
    (NotFound("x"), 404, "model_not_found", "client", "client_error"),
    (MethodNotAllowed("x", "GET"), 405, "method_not_allowed", "client", "client_error"),
    (DeadlineExceeded("x"), 408, "deadline_exceeded", "client", "client_error"),
    (RequestTimeout("x"), 408, "request_timeout", "client", "client_error"),
    (RequestTooLarge("x"), 413, "request_too_large", "client", "client_error"),
    (UnsupportedMediaType("x"), 415, "unsupported_media_type", "client", "client_error"),
    (HeadersTooLarge("x"), 431, "headers_too_large", "client", "client_error"),
    (ClientGone("x"), 499, "client_gone", "client", "client_gone"),
    (CacheMiss("x"), 504, "cache_miss", "client", "client_error"),
    (UpstreamConnectError("x"), 502, "upstream_error", "upstream", "upstream_error"),
    (UpstreamError("x"), 502, "upstream_error", "upstream", "upstream_error"),
    (UpstreamAccountError("x"), 502, "upstream_error", "upstream", "upstream_error"),
    (UpstreamTimeout("x", phase="idle"), 504, "upstream_timeout", "upstream", "upstream_timeout"),
    (UpstreamTruncated("x"), 502, "upstream_error", "upstream", "truncated"),
    (UpstreamReplyError("x"), 502, "upstream_error", "upstream", "upstream_error"),
    (RateLimited("x", limit="l", retry_after_s=1), 429, "rate_limit_exceeded", "gateway", "rate_limited"),
    (ConcurrencyLimited("x", limit="l", retry_after_s=1), 429, "concurrency_limit_exceeded", "gateway", "rate_limited"),
    (BudgetExceeded("x", limit="l", retry_after_s=1), 429, "insufficient_quota", "gateway", "over_budget"),
    (TargetEjected("x"), 503, "no_healthy_target", "gateway", "no_target"),
    (TargetBusy("x"), 503, "overloaded", "gateway", "overloaded"),
    (StoreUnavailable("x"), 503, "store_unavailable", "gateway", "overloaded"),
    (NoHealthyTarget("x"), 503, "no_healthy_target", "gateway", "no_target"),
    (Overloaded("x"), 503, "overloaded", "gateway", "overloaded"),
    (ShuttingDown("x"), 503, "overloaded", "gateway", "overloaded"),
    (LoopDetected("x"), 508, "loop_detected", "gateway", "client_error"),
    (InternalError(), 500, "internal_error", "gateway", "internal"),
]


@pytest.mark.parametrize(
    ("error", "status", "code", "source", "outcome"), EVERY_KIND, ids=lambda value: type(value).__name__
)
def test_each_kind_fixes_status_code_source_and_outcome(
    error: GatewayError, status: int, code: str, source: str, outcome: str
) -> None:
    assert (error.status, error.code, error.source, error.outcome) == (status, code, source, outcome)
    assert error.outcome in OUTCOMES


def _leaves(kind: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    for child in kind.__subclasses__():
        # What other rooms derive for themselves is theirs to test.
        if child.__module__ != errors.__name__:
            continue
        yield child
        yield from _leaves(child)


def test_every_error_of_the_tree_is_drawn_at_its_head_and_tested_here() -> None:
    drawn = set(re.findall(r"[A-Z]\w+", (errors.__doc__ or "").split("GatewayError", 1)[1]))
    kinds = {kind.__name__ for kind in _leaves()}
    assert kinds <= drawn
    branches = {ClientFault.__name__, UpstreamFault.__name__, GatewayFault.__name__, Refused.__name__}
    assert kinds - branches == {type(error).__name__ for error, *_ in EVERY_KIND}


def test_outcomes_are_listed_once_each() -> None:
    assert get_args(Outcome) == OUTCOMES


@pytest.mark.parametrize("error", [error for error, *_ in EVERY_KIND], ids=lambda error: type(error).__name__)
def test_only_what_may_succeed_elsewhere_is_retryable(error: GatewayError) -> None:
    hopeless = (ClientFault, UpstreamAccountError, LoopDetected, InternalError, BudgetExceeded)
    assert error.retryable is not isinstance(error, hopeless)


def test_an_error_keeps_its_message_field_and_waiting_time() -> None:
    error = InvalidRequest("bad n", code="finer_code", param="n", retry_after_s=2.0)
    assert (str(error), error.message, error.code, error.param, error.retry_after_s) == (
        "bad n",
        "bad n",
        "finer_code",
        "n",
        2.0,
    )
    assert InvalidRequest("x").code == "invalid_request_error"


def test_one_text_stands_for_every_bad_key() -> None:
    """F113."""
    assert str(InvalidApiKey()) == str(InvalidApiKey())
    assert "key" in InvalidApiKey().message


def test_a_bug_says_nothing_of_itself() -> None:
    assert "request id" in InternalError().message


def test_a_method_that_is_not_allowed_names_those_that_are() -> None:
    assert MethodNotAllowed("no", "GET, POST").allow == "GET, POST"


def test_an_upstream_error_keeps_the_providers_status_and_reply() -> None:
    reply = ProviderReply([(b"content-type", b"application/json")], b'{"error":"prompt text"}')
    error = UpstreamError("x", upstream_status=429, retry_after_s=3.0, status=429, reply=reply)
    assert (error.status, error.upstream_status, error.retry_after_s, error.reply) == (429, 429, 3.0, reply)
    assert UpstreamError("x").status == 502, "the class must not have been changed"
    assert UpstreamFault("x", code="c", upstream_status=500).code == "c"


def test_a_providers_reply_shows_no_content_in_its_repr() -> None:
    assert repr(ProviderReply([(b"set-cookie", b"secret")], b"prompt")) == "ProviderReply()"


def test_a_timeout_says_which_phase_ran_out() -> None:
    assert UpstreamTimeout("x", phase="first_token").phase == "first_token"


def test_an_error_inside_a_reply_had_status_200_upstream() -> None:
    error = UpstreamReplyError("x", status=429, code="rate_limit_exceeded", relay=b"data: {}\n\n")
    assert (error.status, error.code, error.upstream_status) == (429, "rate_limit_exceeded", 200)
    assert error.relay == b"data: {}\n\n"
    assert UpstreamReplyError("x").relay is None
    assert not UpstreamReplyError("x").is_account


def test_no_error_is_a_subclass_of_something_python_handles_by_itself() -> None:
    unwanted: tuple[Any, ...] = (OSError, LookupError, ValueError)
    assert not issubclass(GatewayError, unwanted)
    assert Path(errors.__file__ or "").name == "errors.py"
