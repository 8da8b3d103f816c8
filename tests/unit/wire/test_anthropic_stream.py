"""Streams of the Messages API."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.errors import UpstreamTimeout, UpstreamTruncated
from gateway.wire.anthropic_stream import MESSAGE_STOP, AnthropicStream
from gateway.wire.sse import FrameSplitter

Recording = Callable[[str], bytes]


def event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def start(**usage: int) -> bytes:
    return event("message_start", message={"id": "msg-1", "model": "served", "usage": usage})


def text(content: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": content})


PING = event("ping")
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 6})


def reader(prompt_bytes: int = 28) -> AnthropicStream:
    return AnthropicStream(prompt_bytes=prompt_bytes)


def test_a_complete_stream_passes_as_it_is() -> None:
    stream = reader()
    block = start(input_tokens=11, cache_read_input_tokens=4, output_tokens=1) + PING + text("Hi") + END + MESSAGE_STOP
    assert stream.feed(block) is block
    assert stream.complete
    assert stream.finish() == b""
    stream.settle()
    assert (stream.model, stream.response_id, stream.finish_reasons) == ("served", "msg-1", ["end_turn"])
    usage = stream.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, usage.source) == (15, 6, 4, "provider")


def test_a_ping_is_no_beginning() -> None:
    stream = reader()
    assert stream.feed(PING) is PING
    assert not stream.begun
    stream.feed(start(input_tokens=1))
    assert stream.begun


def test_a_missing_message_stop_is_added() -> None:
    """F18: `nodone`."""
    stream = reader()
    stream.feed(start(input_tokens=1) + text("a") + END)
    assert stream.complete
    assert stream.finish() == MESSAGE_STOP
    assert stream.finish() == b""


def test_an_end_without_a_stop_reason_is_truncation() -> None:
    """F18: `eof_after`."""
    stream = reader()
    stream.feed(start(input_tokens=1) + text("a") + event("message_delta", delta=None, usage={"output_tokens": 1}))
    assert not stream.complete
    with pytest.raises(UpstreamTruncated):
        stream.finish()


def test_an_error_event_ends_the_stream() -> None:
    """F15, F17."""
    stream = reader()
    frame = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    assert stream.feed(start(input_tokens=1) + frame + text("a")) == start(input_tokens=1)
    assert stream.error is not None
    assert (stream.error.status, stream.error.code, stream.error.relay) == (529, "overloaded_error", frame)
    assert stream.finish() == b""
    assert stream.error_event(stream.error, "r") == frame


def test_our_own_error_is_one_event_in_anthropics_shape() -> None:
    """F17, F133."""
    frame = reader().error_event(UpstreamTimeout("late", phase="idle"), "req-1")
    assert frame.startswith(b"event: error\ndata: ")
    assert json.loads(frame.split(b"data: ")[1]) == {
        "type": "error",
        "error": {"type": "timeout_error", "message": "late"},
        "request_id": "req-1",
    }


def test_an_aborted_stream_is_charged_for_what_was_relayed() -> None:
    """F55: the count in message_start is no more than a beginning."""
    stream = reader()
    stream.feed(start(input_tokens=7, output_tokens=1) + b"".join(text(f"token {n} ") for n in range(5)))
    stream.settle()
    assert (stream.usage.input_tokens, stream.usage.output_tokens, stream.usage.source) == (7, 5, "estimated")


def test_missing_usage_is_estimated() -> None:
    """F53: `nousage`."""
    stream = reader(prompt_bytes=28)
    stream.feed(event("message_start", message={"id": "m"}) + text("a"))
    stream.feed(event("message_delta", delta={"stop_reason": "end_turn"}) + MESSAGE_STOP)
    stream.settle()
    assert (stream.usage.input_tokens, stream.usage.output_tokens, stream.usage.source) == (7, 1, "estimated")


def test_zero_output_that_was_relayed_is_counted() -> None:
    """F56: `zero_usage`."""
    stream = reader()
    stream.feed(start(input_tokens=7) + text("a"))
    stream.feed(event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 0}))
    stream.settle()
    assert (stream.usage.output_tokens, stream.usage.source) == (1, "estimated")


@pytest.mark.parametrize(
    ("delta", "tokens"),
    [
        ({"type": "text_delta", "text": "a"}, 1),
        ({"type": "input_json_delta", "partial_json": "{"}, 1),
        ({"type": "thinking_delta", "thinking": "x" * 40}, 10),
        ({"type": "compaction_delta", "content": "a"}, 1),
        ({"type": "signature_delta", "signature": "abcd"}, 0),
        (None, 0),
    ],
)
def test_every_kind_of_output_is_counted(delta: object, tokens: int) -> None:
    """F55."""
    stream = reader()
    stream.feed(event("content_block_delta", index=0, delta=delta))
    assert stream.relayed_tokens == tokens


def test_the_type_may_stand_in_the_events_name_alone() -> None:
    stream = reader()
    stream.feed(b"event: message_stop\ndata: {}\n\n")
    assert stream.complete


@pytest.mark.parametrize("data", [b"broken", b"[]", b'{"type":"message_start"}', b'{"type":"message_delta","delta":5}'])
def test_what_cannot_be_read_is_relayed(data: bytes) -> None:
    stream = reader()
    frame = b"data: " + data + b"\n\n"
    assert stream.feed(frame) is frame
    assert stream.begun
    assert stream.error is None
    assert not stream.complete


RECORDED = [
    ("basic_response.txt", 11, 6, "end_turn"),
    ("compaction_response.txt", 30, 8, "end_turn"),
    ("fallback_response.txt", 25, 8, "end_turn"),
    ("fallback_credit_response.txt", 25, 8, "end_turn"),
    ("incomplete_partial_json_response.txt", 450, 124, "max_tokens"),
    ("stream-a-refusal.sse", 28, 106, "refusal"),
    ("stream-a-toolrefusal.sse", 28, 106, "refusal"),
    ("stream-b-fallback.sse", 31, 547, "end_turn"),
    ("tool_use_response.txt", 377, 65, "tool_use"),
]


@pytest.mark.parametrize(("name", "tokens_in", "tokens_out", "reason"), RECORDED)
@pytest.mark.parametrize("size", [1, 3, 50, 1460, 1_000_000])
def test_recorded_streams_are_relayed_byte_for_byte(
    anthropic_recording: Recording, name: str, tokens_in: int, tokens_out: int, reason: str, size: int
) -> None:
    """F20, F22, F136."""
    recorded = anthropic_recording(name)
    splitter, stream = FrameSplitter(), reader()
    relayed = [stream.feed(splitter.feed(recorded[at : at + size])) for at in range(0, len(recorded), size)]
    assert b"".join(relayed) == recorded
    assert splitter.pending == b""
    assert stream.complete
    assert stream.finish() == b""
    stream.settle()
    assert (stream.usage.input_tokens, stream.usage.output_tokens) == (tokens_in, tokens_out)
    assert stream.usage.source == "provider"
    assert stream.finish_reasons == [reason]


def test_a_recorded_stream_without_its_last_blank_line_is_completed(anthropic_recording: Recording) -> None:
    """F22."""
    recorded = anthropic_recording("basic_response.txt")
    splitter, stream = FrameSplitter(), reader()
    relayed = stream.feed(splitter.feed(recorded[:-2]))
    relayed += stream.feed(splitter.finish())
    assert relayed == recorded
    assert stream.complete


def test_a_cut_message_stop_is_replaced(anthropic_recording: Recording) -> None:
    """F16, F18: the cut frame is dropped, and a whole one is sent."""
    recorded = anthropic_recording("basic_response.txt")
    splitter, stream = FrameSplitter(), reader()
    relayed = stream.feed(splitter.feed(recorded[:-9])) + stream.feed(splitter.finish()) + stream.finish()
    assert relayed == recorded
