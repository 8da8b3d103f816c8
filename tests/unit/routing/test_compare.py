"""Two replies side by side."""

import asyncio
import json
from dataclasses import replace
from typing import get_args

import pytest

from gateway.core.errors import (
    BudgetExceeded,
    GatewayError,
    InvalidRequest,
    NoHealthyTarget,
    Overloaded,
    RateLimited,
    StoreUnavailable,
    TargetEjected,
    UpstreamError,
    UpstreamTimeout,
    UpstreamTruncated,
)
from gateway.core.exchange import Usage
from gateway.routing.compare import (
    MEASURES,
    RATIO_BUCKETS,
    RESULTS,
    TRAITS,
    Comparison,
    Measure,
    Result,
    Side,
    Trait,
    result_of,
    side_of,
)
from tests.fakes import exchange

PRIMARY = Side("a", 200, "ok", 0.2, 1.0, 100, 4000, "stop", 2000)
SHADOW = Side("b", 200, "ok", 0.1, 2.0, 150, 1000, "stop", 3000)


def _comparison(primary: Side | None = PRIMARY, shadow: Side | None = SHADOW, result: Result = "ok") -> Comparison:
    return Comparison("req-1", "chat", "b", result, primary, shadow)


def test_ratios_are_the_shadows_over_the_primarys() -> None:
    assert _comparison().ratios() == {
        "latency": 2.0,
        "first_event": 0.5,
        "output_tokens": 1.5,
        "cost": 0.25,
        "length": 1.5,
    }


def test_a_measure_that_one_side_lacks_has_no_ratio() -> None:
    primary = replace(PRIMARY, cost_nusd=None, output_tokens=0)
    shadow = replace(SHADOW, first_event_s=None, length_bytes=0)
    assert _comparison(primary, shadow).ratios() == {"latency": 2.0, "length": 0.0}


@pytest.mark.parametrize("outcome", ["cut", "truncated", "client_gone", "upstream_error"])
def test_what_is_not_complete_has_no_ratios(outcome: str) -> None:
    assert _comparison(shadow=replace(SHADOW, outcome=outcome)).ratios() == {}
    assert _comparison(primary=replace(PRIMARY, outcome=outcome)).ratios() == {}


def test_differences_are_named() -> None:
    assert _comparison().differences() == ()
    assert _comparison(shadow=replace(SHADOW, finish_reason="length")).differences() == ("finish_reason",)
    failed = replace(SHADOW, status=500, outcome="upstream_error", finish_reason=None)
    assert _comparison(shadow=failed, result="error").differences() == ("status",)


def test_a_shadow_that_says_nothing_of_the_target_differs_in_nothing() -> None:
    other = replace(SHADOW, status=429, outcome="rate_limited")
    assert _comparison(shadow=other, result="refused").differences() == ()
    assert _comparison(shadow=other, result="cut").differences() == ()
    gone = replace(PRIMARY, outcome="client_gone", finish_reason=None)
    assert _comparison(primary=gone).differences() == ()
    assert _comparison(None, None, "skipped").differences() == ()
    assert _comparison(None, None, "skipped").ratios() == {}


def test_a_log_line_has_names_and_numbers() -> None:
    fields = _comparison().fields()
    assert json.loads(json.dumps(fields)) == fields
    assert {name: fields[name] for name in ("request_id", "route", "target", "result")} == {
        "request_id": "req-1",
        "route": "chat",
        "target": "b",
        "result": "ok",
    }
    assert fields["primary"]["ttft_ms"] == 200.0
    assert fields["shadow"]["duration_ms"] == 2000.0
    assert fields["ratios"]["cost"] == 0.25
    assert fields["distance"] is None
    assert replace(_comparison(), distance=0.123456).fields()["distance"] == 0.1235
    skipped = _comparison(None, None, "skipped").fields()
    assert "primary" not in skipped
    assert "shadow" not in skipped
    silent = _comparison(shadow=replace(SHADOW, first_event_s=None)).fields()
    assert silent["shadow"]["ttft_ms"] is None


def test_a_side_is_what_its_exchange_came_to() -> None:
    asked = exchange(target="a", usage=Usage(output_tokens=7), cost_nusd=12, finish_reasons=["stop", "length"])
    side = side_of(asked, status=200, error=None, first_event_s=0.1, duration_s=0.5, length_bytes=70)
    assert side == Side("a", 200, "ok", 0.1, 0.5, 7, 12, "stop", 70)
    assert side.is_complete


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (200, UpstreamTruncated("cut"), (200, "truncated")),
        (None, UpstreamTimeout("late", phase="first_token"), (504, "upstream_timeout")),
        (None, UpstreamError("bad", status=529), (529, "upstream_error")),
        (200, asyncio.CancelledError(), (200, "client_gone")),
        (400, None, (400, "client_error")),
        (500, None, (500, "upstream_error")),
        (None, None, (None, "ok")),
    ],
)
def test_a_side_says_how_it_ended(
    status: int | None, error: BaseException | None, expected: tuple[int | None, str]
) -> None:
    side = side_of(exchange(), status=status, error=error, first_event_s=None, duration_s=0.5, length_bytes=0)
    assert (side.status, side.outcome) == expected
    assert side.finish_reason is None


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (RateLimited("no", limit="shadow", retry_after_s=1.0), "refused"),
        (BudgetExceeded("no", limit="shadow", retry_after_s=1.0), "refused"),
        (NoHealthyTarget("none"), "refused"),
        (TargetEjected("out"), "refused"),
        (Overloaded("full"), "refused"),
        (StoreUnavailable("away"), "refused"),
        (UpstreamError("bad", status=503), "error"),
        (UpstreamTimeout("late", phase="idle"), "error"),
        (InvalidRequest("not served"), "error"),
        (None, "error"),
    ],
)
def test_what_the_gateway_refused_itself_is_no_error_of_the_target(error: GatewayError | None, result: Result) -> None:
    side = side_of(
        exchange(), status=None if error else 400, error=error, first_event_s=None, duration_s=0.1, length_bytes=0
    )
    assert result_of(side, error) == result


def test_a_complete_answer_is_ok() -> None:
    assert result_of(SHADOW, None) == "ok"


def test_labels_are_a_closed_set() -> None:
    assert get_args(Result) == RESULTS
    assert get_args(Measure) == MEASURES
    assert get_args(Trait) == TRAITS
    assert list(RATIO_BUCKETS) == sorted(RATIO_BUCKETS)
    assert 1.0 in RATIO_BUCKETS
