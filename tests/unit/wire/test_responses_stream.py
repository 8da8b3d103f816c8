"""Streams of the Responses API."""

import json
from typing import Any

import pytest

from gateway.core.errors import UpstreamTimeout, UpstreamTruncated
from gateway.wire.responses_stream import ResponsesStream


def event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def response(status: str, **members: Any) -> dict[str, Any]:
    return {"id": "resp-1", "model": "served", "status": status, "usage": None, **members}


CREATED = event("response.created", sequence_number=0, response=response("in_progress"))
DELTA = event("response.output_text.delta", sequence_number=4, delta="hi", item_id="i")
USAGE = {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 1}, "output_tokens": 6}
COMPLETED = event(
    "response.completed", sequence_number=9, response=response("completed", usage=USAGE, service_tier="flex")
)


def reader(prompt_bytes: int = 20) -> ResponsesStream:
    return ResponsesStream(prompt_bytes=prompt_bytes)


def test_a_complete_stream_passes_as_it_is() -> None:
    stream = reader()
    block = CREATED + DELTA + COMPLETED
    assert stream.feed(block) is block
    assert stream.complete
    assert stream.finish() == b""
    stream.settle()
    assert (stream.model, stream.response_id, stream.finish_reasons) == ("served", "resp-1", ["completed"])
    usage = stream.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, usage.source) == (5, 6, 1, "provider")
    assert usage.service_tier == "flex"


def test_an_incomplete_answer_is_an_end_with_its_reason() -> None:
    stream = reader()
    stream.feed(
        event(
            "response.incomplete", response=response("incomplete", incomplete_details={"reason": "max_output_tokens"})
        )
    )
    assert stream.complete
    assert stream.finish_reasons == ["max_output_tokens"]


def test_an_end_without_a_terminal_event_is_truncation() -> None:
    """F18."""
    stream = reader()
    stream.feed(CREATED + DELTA)
    assert stream.begun
    assert not stream.complete
    with pytest.raises(UpstreamTruncated):
        stream.finish()
    stream.settle()
    assert (stream.usage.input_tokens, stream.usage.output_tokens, stream.usage.source) == (5, 1, "estimated")


def test_a_failed_answer_is_an_error_and_an_end() -> None:
    """F15."""
    stream = reader()
    failed = event(
        "response.failed",
        sequence_number=5,
        response=response("failed", error={"code": "rate_limit_exceeded", "message": "slow down"}),
    )
    assert stream.feed(CREATED + failed) == CREATED
    assert stream.complete
    assert stream.finish() == b""
    assert stream.error is not None
    assert (stream.error.status, stream.error.message, stream.error.relay) == (429, "slow down", failed)
    assert stream.error_event(stream.error, "r") == failed


def test_a_failed_answer_without_a_response_is_an_error_too() -> None:
    stream = reader()
    assert stream.feed(event("response.failed")) == b""
    assert stream.error is not None
    assert stream.error.status == 502


@pytest.mark.parametrize(
    "frame",
    [
        event("error", code="server_is_overloaded", message="m", param=None, sequence_number=3),
        b'event: error\ndata: {"error":{"message":"m","code":"server_is_overloaded"}}\n\n',
        b'data: {"error":{"message":"m","code":"server_is_overloaded"}}\n\n',
    ],
)
def test_an_error_event_ends_the_stream(frame: bytes) -> None:
    """F15, F17."""
    stream = reader()
    assert stream.feed(CREATED + frame + DELTA) == CREATED
    assert stream.error is not None
    assert (stream.error.status, stream.error.code, stream.error.message) == (503, "server_is_overloaded", "m")
    assert stream.error.relay == frame
    assert stream.finish() == b""


def test_our_own_error_goes_on_with_the_numbering() -> None:
    """F17."""
    stream = reader()
    stream.feed(CREATED + DELTA)
    frame = stream.error_event(UpstreamTimeout("late", phase="total"), "req-1")
    name, data = frame.split(b"\n", 1)
    assert name == b"event: error"
    assert json.loads(data.removeprefix(b"data: ")) == {
        "type": "error",
        "code": "upstream_timeout",
        "message": "late (request id req-1)",
        "param": None,
        "sequence_number": 5,
    }
    assert frame.endswith(b"}\n\n")


def test_our_own_error_may_be_the_first_event() -> None:
    """F17."""
    assert b'"sequence_number":0' in reader().error_event(UpstreamTimeout("late", phase="total"), "r")


@pytest.mark.parametrize(
    ("kind", "delta", "tokens"),
    [
        ("response.output_text.delta", "a", 1),
        ("response.function_call_arguments.delta", "{", 1),
        ("response.reasoning_summary_text.delta", "x" * 40, 10),
        ("response.output_audio.delta", "AAAA", 0),
        ("response.output_text.delta", None, 0),
        ("response.output_text.done", "abc", 0),
    ],
)
def test_every_kind_of_text_is_counted(kind: str, delta: object, tokens: int) -> None:
    """F55."""
    stream = reader()
    stream.feed(event(kind, delta=delta))
    assert stream.relayed_tokens == tokens


def test_a_look_alikes_done_is_an_end() -> None:
    stream = reader()
    stream.feed(DELTA + b"data: [DONE]\n\n")
    assert stream.complete


def test_the_type_may_stand_in_the_events_name_alone() -> None:
    stream = reader()
    stream.feed(b'event: response.completed\ndata: {"response":{"id":"r"}}\n\n')
    assert stream.complete
    assert stream.response_id == "r"
    assert stream.finish_reasons == []


@pytest.mark.parametrize("data", [b"broken", b"[]", b'{"type":"response.created","response":[1]}'])
def test_what_cannot_be_read_is_relayed(data: bytes) -> None:
    stream = reader()
    frame = b"data: " + data + b"\n\n"
    assert stream.feed(frame) is frame
    assert stream.begun
    assert stream.error is None
    with pytest.raises(UpstreamTruncated):
        stream.finish()
