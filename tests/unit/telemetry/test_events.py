"""Events: a log line each, and a call to who asked for it."""

import json
import os
from typing import Any

from gateway.telemetry.events import Events
from gateway.telemetry.sink import LogSink
from tests.fakes import FakeClock


def test_an_event_is_a_line_and_a_call() -> None:
    reading, writing = os.pipe()
    sink = LogSink(writing)
    told: list[tuple[str, dict[str, Any]]] = []
    events = Events(sink, FakeClock(), lambda event, fields: told.append((event, fields)))
    events.tell("breaker_opened", "warning", target="a", reason='five failures\n{"level":"forged"}')
    sink.close(2.0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = pipe.read().splitlines()
    [line] = [json.loads(each) for each in lines]
    assert (line["event"], line["level"], line["target"]) == ("breaker_opened", "warning", "a")
    assert line["ts"].startswith("2023-11-14T")
    assert told == [("breaker_opened", {"target": "a", "reason": 'five failures\n{"level":"forged"}'})]


def test_without_a_log_and_without_anybody_who_asked_nothing_happens() -> None:
    events = Events(None, FakeClock())
    events.tell("store_down", "error")
    assert events.notify is None
