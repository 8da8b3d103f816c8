"""The log line of a request."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.errors import (
    GatewayError,
    InvalidRequest,
    Outcome,
    UpstreamConnectError,
    UpstreamReplyError,
    UpstreamTimeout,
)
from gateway.core.exchange import Attempt, Exchange, Usage
from gateway.telemetry.access import access_line, access_record, explain, plain_code

FIELDS = (
    "ts level event request_id trace_id key route target model_requested model_served prompt_name prompt_version "
    "input_tokens output_tokens cached_input_tokens usage_source cost_usd cache attempts outcome status "
    "ttft_ms duration_ms overhead_ms stream tags config_revision reason"
)

MakeExchange = Callable[..., Exchange]


def written(exchange: Exchange, outcome: Outcome = "ok") -> tuple[bytes, dict[str, Any]]:
    """The line of an exchange, and what it says."""
    record = access_record(exchange, outcome, wall_s=1_767_225_599.5, duration_s=0.8123456, ttft_s=None)
    line = access_line(record)
    fields: dict[str, Any] = json.loads(line)
    return line, fields


def test_a_line_has_exactly_the_promised_fields_in_their_order(make_exchange: MakeExchange) -> None:
    _, fields = written(make_exchange())
    assert " ".join(fields) == FIELDS


def test_a_line_says_what_happened(make_exchange: MakeExchange) -> None:
    exchange = make_exchange()
    exchange.route, exchange.target, exchange.model_served = "support-*", "stable", "gpt-4.1-2025-04-14"
    exchange.prompt_name, exchange.prompt_version = "greeting", "7"
    exchange.usage = Usage(input_tokens=100, output_tokens=0, source="provider")
    exchange.cost_nusd, exchange.overhead_s, exchange.status = 1_234_567, 0.0004, 200
    exchange.attempts.append(Attempt(1, "stable"))
    _, fields = written(exchange)
    assert fields == {
        "ts": "2025-12-31T23:59:59.500Z",
        "level": "info",
        "event": "request",
        "request_id": "req-1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "key": "checkout",
        "route": "support-*",
        "target": "stable",
        "model_requested": "support-chat",
        "model_served": "gpt-4.1-2025-04-14",
        "prompt_name": "greeting",
        "prompt_version": "7",
        "input_tokens": 100,
        "output_tokens": 0,
        "cached_input_tokens": None,
        "usage_source": "provider",
        "cost_usd": 0.001234567,
        "cache": "bypass",
        "attempts": 1,
        "outcome": "ok",
        "status": 200,
        "ttft_ms": None,
        "duration_ms": 812.345,
        "overhead_ms": 0.4,
        "stream": False,
        "tags": {"service": "checkout", "costCenter": "42"},
        "config_revision": "rev-1",
        "reason": None,
    }


def test_a_model_name_with_a_newline_cannot_forge_a_line(make_exchange: MakeExchange) -> None:
    """F132."""
    forged = 'a\n{"level":"error"}\r\x1b[2J'
    line, fields = written(make_exchange(forged))
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")
    assert b"\x1b" not in line
    assert fields["model_requested"] == forged


@pytest.mark.parametrize("model", ["x" * 100_000, "modèle " * 1000])
def test_a_long_model_name_is_cut(make_exchange: MakeExchange, model: str) -> None:
    _, fields = written(make_exchange(model))
    assert fields["model_requested"] == model[:256]


def test_half_a_surrogate_pair_can_be_written(make_exchange: MakeExchange) -> None:
    _, fields = written(make_exchange("gpt-\ud83d"))
    assert fields["model_requested"] == "gpt-?"


def test_neither_prompt_nor_key_is_in_a_line(make_exchange: MakeExchange, canaries: tuple[str, str]) -> None:
    """F114."""
    exchange = make_exchange()
    exchange.error = InvalidRequest(f"messages[0].content: {canaries[0]} ({canaries[1]}) is too long", param="messages")
    line, fields = written(exchange, "client_error")
    assert fields["reason"] == "invalid_request_error"
    assert not any(canary.encode() in line for canary in canaries)


def test_the_repr_of_an_exchange_shows_neither_prompt_nor_key(
    make_exchange: MakeExchange, canaries: tuple[str, str]
) -> None:
    """F114: tracebacks and asyncio's messages print it."""
    assert not any(canary in repr(make_exchange()) for canary in canaries)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            UpstreamConnectError("eu.example.com: connection refused"),
            "upstream_error: eu.example.com: connection refused",
        ),
        (UpstreamTimeout("no event within 10 s", phase="first_token"), "upstream_timeout: no event within 10 s"),
        (UpstreamReplyError("the provider quotes the prompt", code="server_error"), "server_error"),
        (UpstreamConnectError("proxy says Bearer abcdefghijkl"), "upstream_error: proxy says Bearer ***"),
    ],
)
def test_a_reason_quotes_only_our_own_words(error: GatewayError, reason: str) -> None:
    assert explain(error) == reason


def test_a_refusal_that_was_passed_on_has_its_status_as_reason(make_exchange: MakeExchange) -> None:
    exchange = make_exchange()
    exchange.status = 429
    assert written(exchange, "upstream_error")[1]["reason"] == "upstream_status_429"


@pytest.mark.parametrize(
    ("outcome", "level"),
    [("ok", "info"), ("client_gone", "info"), ("truncated", "warning"), ("no_target", "error"), ("internal", "error")],
)
def test_the_level_tells_whose_trouble_it_is(make_exchange: MakeExchange, outcome: Outcome, level: str) -> None:
    assert written(make_exchange(), outcome)[1]["level"] == level


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("rate_limit_exceeded", "rate_limit_exceeded"),
        ("timeout", "timeout"),
        ("sk-0123456789abcdef", "upstream_error"),
        ("what is the capital", "upstream_error"),
        ("x" * 5000, "upstream_error"),
        ("server_error\n", "upstream_error"),
        ("a_b_c_d_e_f_g", "upstream_error"),
        ("", "upstream_error"),
    ],
)
def test_a_providers_code_is_shown_when_it_is_one(code: str, shown: str) -> None:
    """F114: a provider may quote a key or a prompt where its code should stand."""
    error = UpstreamReplyError("boom")
    error.code = code
    assert plain_code(error) == explain(error) == shown
