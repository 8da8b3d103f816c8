"""The log and the counters."""

import json

from gateway.mock.calls import MAX_CALLS, Call, CallLog, Stats


def call(number: int) -> Call:
    return Call(
        id=number,
        connection=1,
        t=1.0,
        method="POST",
        target=b"/v1/x?a=b",
        headers=[(b"X-Name", b"\xe9")],
        body_bytes=2,
        body_sha256="00",
    )


def test_a_call_shows_headers_as_received_and_no_body() -> None:
    shown = call(7).describe()
    assert shown["headers"] == [["X-Name", "é"]]
    assert (shown["path"], shown["query"], shown["body_bytes"]) == ("/v1/x", "a=b", 2)
    assert shown["request_id"] == "req_000000000000000000000007"
    assert (shown["status"], shown["completed"], shown["closed_early"]) == (None, False, False)


def test_the_log_forgets_the_oldest() -> None:
    log = CallLog()
    for number in range(MAX_CALLS + 5):
        log.append(call(number))
    assert len(log) == MAX_CALLS
    assert json.loads(log.dump())[0]["id"] == 5
    log.clear()
    assert log.entries() == []


def test_a_reset_keeps_what_is_open() -> None:
    stats = Stats(connections=2, inflight=1, requests_total=9, tokens_total=5)
    stats.reset()
    assert json.loads(stats.dump()) == {
        "connections": 2,
        "connections_total": 0,
        "inflight": 1,
        "requests_total": 0,
        "completed_total": 0,
        "closed_early_total": 0,
        "tokens_total": 0,
    }
