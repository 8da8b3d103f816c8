"""Responses: whole to stream and stream to whole."""

import json
from typing import Any

import pytest

from gateway.core.exchange import Usage
from gateway.wire.replay_parts import PIECE_CHARS, Unfit
from gateway.wire.replay_responses import ResponsesCollector, responses_stream, responses_traits
from gateway.wire.responses_stream import ResponsesStream
from gateway.wire.sse import fields, frames

PART = {"type": "output_text", "text": "Hello there.", "annotations": [], "logprobs": []}
MESSAGE = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [PART]}
CALL = {"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "c", "name": "f", "arguments": "{}"}
REASONING = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
SEARCH = {"id": "ws_1", "type": "web_search_call", "status": "completed"}


def response(*output: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A whole response."""
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "completed_at": 2,
        "status": "completed",
        "model": "gpt-4.1",
        "output": list(output or (MESSAGE,)),
        "store": False,
        "usage": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12},
    } | changes


def told(reply: dict[str, Any]) -> bytes:
    """The stream of a response."""
    return responses_stream(json.dumps(reply).encode())


def collected(stream: bytes) -> Any:
    """The whole response of a stream, or None."""
    collector = ResponsesCollector()
    for frame in frames(stream):
        collector.feed(frame)
    body = collector.body(Usage())
    return None if body is None else json.loads(body)


def frame(kind: str, **members: Any) -> bytes:
    """One event."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


@pytest.mark.parametrize(
    "reply",
    [
        response(),
        response(REASONING, MESSAGE),
        response(CALL),
        response(SEARCH, MESSAGE),
        response({**MESSAGE, "content": [{**PART, "text": "x" * (2 * PIECE_CHARS)}]}),
        response({**MESSAGE, "content": [{**PART, "annotations": [{"type": "url_citation"}], "logprobs": [{}]}]}),
    ],
)
def test_a_response_told_as_a_stream_and_put_together_again_is_the_same(reply: dict[str, Any]) -> None:
    assert collected(told(reply)) == reply


def test_the_events_come_in_the_providers_order_and_numbered() -> None:
    said = [json.loads(fields(each)[1] or b"") for each in frames(told(response()))]
    assert [event["type"].removeprefix("response.") for event in said] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in said] == list(range(9))
    assert said[0]["response"]["output"] == []
    assert said[0]["response"]["status"] == "in_progress"


def test_a_replayed_stream_reads_as_the_providers_own() -> None:
    reader = ResponsesStream(prompt_bytes=10)
    reader.feed(told(response(REASONING, MESSAGE, CALL)))
    assert reader.complete
    assert reader.finish_reasons == ["completed"]
    assert (reader.usage.input_tokens, reader.usage.output_tokens) == (5, 7)


@pytest.mark.parametrize(
    "stream",
    [
        frame("response.created", response=response()),
        frame("response.incomplete", response=response()),
        frame("response.completed", response=response()) + frame("error", message="no"),
        frame("response.failed", response=response()) + frame("response.completed", response=response()),
        b"event: response.completed\ndata: nonsense response.completed\n\n",
    ],
)
def test_what_was_not_completed_gives_no_response(stream: bytes) -> None:
    """F117: a truncated stream is never stored."""
    assert collected(stream) is None


def test_a_look_alikes_done_is_no_matter() -> None:
    stream = frame("response.completed", response=response()) + b"data: [DONE]\n\n: error\n\n"
    assert collected(stream + b"event: error-free\ndata: [DONE]\n\n") == response()


@pytest.mark.parametrize(
    ("output", "traits"),
    [
        ([MESSAGE], set()),
        ([REASONING, MESSAGE], set()),
        ([CALL], {"tool_calls"}),
        ([SEARCH, MESSAGE], {"hosted_tools"}),
        ([{**MESSAGE, "content": [{"type": "refusal", "refusal": "No."}]}], {"refusal"}),
        ([{**MESSAGE, "content": []}], {"empty"}),
        ([REASONING], {"empty"}),
    ],
)
def test_traits_of_a_response(output: list[dict[str, Any]], traits: set[str]) -> None:
    assert responses_traits(response(*output)) == traits


@pytest.mark.parametrize(
    "reply", [response(status=None), response({**MESSAGE, "content": [{"type": "output_audio"}]}), response(output={})]
)
def test_a_response_of_another_shape_is_unfit(reply: dict[str, Any]) -> None:
    with pytest.raises(Unfit):
        responses_traits(reply)
