"""Faults of a batch, as each of its members has them."""

import json

import pytest

from gateway.core.conditions import condition_of
from gateway.core.errors import (
    GatewayError,
    ProviderReply,
    TargetBusy,
    UpstreamAccountError,
    UpstreamConnectError,
    UpstreamError,
    UpstreamTimeout,
    UpstreamTruncated,
)
from gateway.policies.coalesce_faults import is_refusal, own_copy

SECRET = "my diagnosis"


def told(status: int, error: object, *, upstream_status: int | None = None) -> UpstreamError:
    """A failure with a body that may quote somebody."""
    reply = ProviderReply([(b"content-type", b"application/json")], json.dumps({"error": error}).encode())
    upstream = status if upstream_status is None else upstream_status
    return UpstreamError(f"quoted: {SECRET}", status=status, upstream_status=upstream, retry_after_s=2.0, reply=reply)


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (UpstreamError("HTML", upstream_status=413), True),
        (told(400, {}, upstream_status=200), True),
        (told(422, {}, upstream_status=200), True),
        (told(429, {}, upstream_status=200), False),
        (told(429, {}), False),
        (told(500, {}), False),
        (UpstreamError("no HTTP"), False),
        (UpstreamAccountError("no", upstream_status=403), False),
        (UpstreamTimeout("late", phase="idle"), False),
    ],
)
def test_a_refusal_is_the_providers_4xx_alone(error: GatewayError, refused: bool) -> None:
    assert is_refusal(error) is refused


@pytest.mark.parametrize(
    "error",
    [
        UpstreamConnectError("refused"),
        UpstreamTimeout("late", phase="first_token"),
        UpstreamTruncated("cut"),
        UpstreamAccountError("no", upstream_status=401),
        TargetBusy("full", retry_after_s=1.0),
        told(500, {"message": SECRET, "code": None}),
        told(429, {"message": SECRET, "code": "insufficient_quota"}),
        told(529, {"message": SECRET, "type": "overloaded_error"}),
        told(503, {"message": SECRET}, upstream_status=200),
    ],
    ids=lambda error: f"{type(error).__name__}-{error.status}",
)
def test_a_copy_is_the_same_fault_for_every_policy(error: GatewayError) -> None:
    copied = own_copy(error)
    assert copied is not error
    assert type(copied) is type(error)
    assert copied.__traceback__ is None
    assert condition_of(copied) == condition_of(error)
    for name in ("status", "code", "retry_after_s", "upstream_status", "phase"):
        assert getattr(copied, name, None) == getattr(error, name, None)
    copied.retried = True
    assert not error.retried


@pytest.mark.parametrize("said", [{"message": SECRET, "code": SECRET, "type": SECRET}, SECRET, [SECRET], None])
def test_nobody_reads_what_the_provider_has_said_of_anothers_input(said: object) -> None:
    """F116."""
    error = told(500, said)
    error.code = SECRET
    copied = own_copy(error)
    assert isinstance(copied, UpstreamError)
    assert copied.reply is not None
    assert SECRET not in f"{copied} {copied.args} {copied.message} {copied.code} {copied.reply.body!r}"
    assert json.loads(copied.reply.body)["error"] == {
        "message": "The provider answered 500.",
        "type": None,
        "param": None,
        "code": None,
    }


def test_plain_codes_are_passed_on() -> None:
    copied = own_copy(told(429, {"message": SECRET, "type": "tokens", "code": "rate_limit_exceeded"}))
    assert isinstance(copied, UpstreamError)
    assert copied.reply is not None
    assert json.loads(copied.reply.body)["error"]["code"] == "rate_limit_exceeded"
    assert json.loads(copied.reply.body)["error"]["type"] == "tokens"


def test_a_body_that_is_no_json_says_nothing() -> None:
    error = UpstreamError("x", upstream_status=500, reply=ProviderReply([], b"{" + SECRET.encode()))
    copied = own_copy(error)
    assert isinstance(copied, UpstreamError)
    assert copied.reply is not None
    assert SECRET.encode() not in copied.reply.body
