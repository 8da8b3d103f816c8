"""The last requests."""

from collections.abc import Callable

from gateway.core.exchange import Attempt, Exchange
from gateway.telemetry.access import access_line, access_record
from gateway.telemetry.recent import Recent

MakeExchange = Callable[..., Exchange]


def remember(recent: Recent, exchange: Exchange, request_id: str) -> None:
    """Add a finished exchange."""
    exchange.request_id = request_id
    record = access_record(exchange, "ok", wall_s=0, duration_s=0.1, ttft_s=None)
    recent.add(access_line(record), exchange.decisions, exchange.attempts)


def test_a_request_is_found_with_its_decisions_and_attempts(make_exchange: MakeExchange) -> None:
    recent = Recent()
    exchange = make_exchange()
    exchange.decide("split", "stable (95 of 100)")
    exchange.attempts.append(
        Attempt(1, "stable", b"00-aa-bb-01", waited_s=0.25, status=200, upstream_request_id="up-1")
    )
    remember(recent, exchange, "req-7")
    found = recent.find("req-7")
    assert found is not None
    assert (found["request_id"], found["attempts"]) == ("req-7", 1)
    assert found["decisions"] == [{"step": "split", "detail": "stable (95 of 100)"}]
    assert found["upstream_attempts"] == [
        {
            "number": 1,
            "target": "stable",
            "status": 200,
            "waited_ms": 250.0,
            "traceparent": "00-aa-bb-01",
            "upstream_request_id": "up-1",
            "usage": None,
            "cost_usd": 0.0,
            "retry_of": None,
        }
    ]


def test_the_oldest_makes_room_for_the_newest(make_exchange: MakeExchange) -> None:
    recent = Recent(capacity=3)
    for number in range(5):
        remember(recent, make_exchange(), f"req-{number}")
    assert len(recent) == 3
    assert recent.find("req-1") is None
    assert [shown["request_id"] for shown in recent.latest(2)] == ["req-4", "req-3"]


def test_of_two_requests_with_one_id_the_newer_is_found(make_exchange: MakeExchange) -> None:
    recent = Recent()
    for model in ("first", "second"):
        remember(recent, make_exchange(model), "same")
    found = recent.find("same")
    assert found is not None
    assert found["model_requested"] == "second"


def test_the_last_requests_of_a_key_a_target_or_a_tag_are_found(make_exchange: MakeExchange) -> None:
    recent = Recent()
    for number, (target, team) in enumerate([("a", "ml"), ("b", "ml"), ("a", "web"), ("a", "ml")]):
        exchange = make_exchange()
        exchange.target, exchange.tags = target, {"team": team}
        remember(recent, exchange, f"req-{number}")

    def found(kind: str, subject: str, n: int = 10) -> list[str]:
        return [shown["request_id"] for shown in recent.select(kind, subject, n)]

    assert found("target", "a") == ["req-3", "req-2", "req-0"]
    assert found("target", "a", 2) == ["req-3", "req-2"]
    assert found("tag", "team=ml") == ["req-3", "req-1", "req-0"]
    assert found("tag", "team") == found("tag", "other=ml") == []
    key = recent.latest(1)[0]["key"]
    assert len(found("key", key)) == 4
    assert found("key", "nobody") == []


def test_a_remembered_request_holds_neither_prompt_nor_key(
    make_exchange: MakeExchange, canaries: tuple[str, str]
) -> None:
    recent = Recent()
    remember(recent, make_exchange(), "req-1")
    assert not any(canary in repr(recent.latest(1)) for canary in canaries)


def test_an_id_that_stands_elsewhere_in_a_line_is_not_found_there(make_exchange: MakeExchange) -> None:
    recent = Recent()
    remember(recent, make_exchange("gpt-4"), "req-1")
    assert recent.find("gpt-4") is None
    assert recent.find('quoted"') is None
