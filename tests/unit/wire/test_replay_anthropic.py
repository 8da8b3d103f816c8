"""Messages: whole to stream and stream to whole."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.core.exchange import Usage
from gateway.wire.anthropic_stream import AnthropicStream
from gateway.wire.replay_anthropic import AnthropicCollector, anthropic_stream, anthropic_traits
from gateway.wire.replay_parts import PIECE_CHARS, Unfit
from gateway.wire.sse import fields, frames

TEXT = {"type": "text", "text": "Hello there."}
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, 0.5]}}


def message(*content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A whole message."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": list(content or (TEXT,)),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "cache_read_input_tokens": 3, "output_tokens": 7, "service_tier": "standard"},
    } | changes


def told(reply: dict[str, Any]) -> bytes:
    """The stream of a message."""
    return anthropic_stream(json.dumps(reply).encode())


def collected(stream: bytes) -> Any:
    """The whole message of a stream, or None."""
    collector = AnthropicCollector()
    for frame in frames(stream):
        collector.feed(frame)
    body = collector.body(Usage())
    return None if body is None else json.loads(body)


def frame(kind: str, **members: Any) -> bytes:
    """One event."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


START = frame("message_start", message=message(content=[], stop_reason=None))
END = frame("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7}) + frame("message_stop")


@pytest.mark.parametrize(
    "reply",
    [
        message(),
        message({"type": "text", "text": "x" * (2 * PIECE_CHARS + 5)}),
        message(TEXT, TOOL, stop_reason="tool_use"),
        message({**TOOL, "input": {}}, stop_reason="tool_use"),
        message({"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}, TEXT),
        message({"type": "redacted_thinking", "data": "eA=="}, TEXT),
        message({**TEXT, "citations": [{"type": "char_location", "cited_text": "a"}]}),
        message(stop_reason="stop_sequence", stop_sequence="###"),
    ],
)
def test_a_message_told_as_a_stream_and_put_together_again_is_the_same(reply: dict[str, Any]) -> None:
    assert collected(told(reply)) == reply


def test_the_events_come_in_the_providers_order() -> None:
    assert [fields(each)[0] for each in frames(told(message()))] == [
        b"message_start",
        b"content_block_start",
        b"content_block_delta",
        b"content_block_stop",
        b"message_delta",
        b"message_stop",
    ]


def test_a_replayed_stream_reads_as_the_providers_own() -> None:
    reader = AnthropicStream(prompt_bytes=10)
    reader.feed(told(message()))
    assert reader.complete
    assert reader.finish_reasons == ["end_turn"]
    assert (reader.usage.input_tokens, reader.usage.output_tokens) == (8, 7)


def test_a_message_without_usage_can_be_told() -> None:
    reply = message()
    del reply["usage"]
    assert collected(told(reply))["content"] == [TEXT]


def test_pings_pass() -> None:
    stream = START + frame("ping") + frame("content_block_start", index=0, content_block=TEXT) + END
    assert collected(stream)["content"] == [TEXT]


@pytest.mark.parametrize(
    "stream",
    [
        START,
        START + frame("message_stop"),
        END,
        START + frame("content_block_start", index=0, content_block={"type": "server_tool_use"}) + END,
        START + frame("content_block_start", index="0", content_block=TEXT) + END,
        START + frame("content_block_delta", index=0, delta={"type": "text_delta", "text": "a"}) + END,
        START
        + frame("content_block_start", index=0, content_block=TEXT)
        + frame("content_block_delta", index=0, delta={"type": "novelty_delta"})
        + END,
        START
        + frame("content_block_start", index=0, content_block=TOOL)
        + frame("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": '{"a":'})
        + END,
        START + frame("error", error={"type": "overloaded_error"}) + END,
        b"data: nonsense\n\n" + START + END,
    ],
)
def test_what_is_cut_or_not_known_gives_no_message(stream: bytes) -> None:
    """F117: a truncated stream is never stored."""
    assert collected(stream) is None


@pytest.mark.parametrize(
    ("reply", "traits"),
    [
        (message(), set()),
        (message(TOOL), {"tool_calls"}),
        (message({"type": "text", "text": ""}), {"empty"}),
        (message(content=[]), {"empty"}),
        (message({"type": "thinking", "thinking": "Hm."}), {"empty"}),
    ],
)
def test_traits_of_a_message(reply: dict[str, Any], traits: set[str]) -> None:
    assert anthropic_traits(reply) == traits


@pytest.mark.parametrize(
    "reply", [message({"type": "server_tool_use"}), message(stop_reason=None), message(content={})]
)
def test_a_message_of_another_shape_is_unfit(reply: dict[str, Any]) -> None:
    with pytest.raises(Unfit):
        anthropic_traits(reply)


def test_a_block_that_is_not_known_cannot_be_told() -> None:
    with pytest.raises(Unfit):
        told(message({"type": "server_tool_use"}))


def test_a_recorded_message_goes_through_a_stream_unharmed(shared_data: Path) -> None:
    recorded = (shared_data / "cassettes" / "anthropic" / "basic_response.txt").read_bytes()
    body = collected(recorded)
    assert body["content"]
    assert anthropic_traits(body) == set()
    assert collected(told(body)) == body
