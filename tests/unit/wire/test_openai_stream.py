"""Streams of chat completions and completions."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import UpstreamReplyError, UpstreamTimeout, UpstreamTruncated
from gateway.wire.openai_stream import DONE, OpenAIStream
from gateway.wire.sse import FrameSplitter, frames

Recording = Callable[[str], bytes]


def reader(*, prompt_bytes: int = 28, strip_usage: bool = False) -> OpenAIStream:
    return OpenAIStream(prompt_bytes=prompt_bytes, strip_usage=strip_usage)


def chunk(*choices: dict[str, Any], **members: Any) -> bytes:
    value = {"id": "c-1", "model": "served", "choices": list(choices), **members}
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def text(content: object, index: int = 0, **members: Any) -> bytes:
    return chunk({"index": index, "delta": {"content": content}, "finish_reason": None}, **members)


def stop(index: int = 0, reason: str = "stop") -> bytes:
    return chunk({"index": index, "delta": {}, "finish_reason": reason})


USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def test_a_chunk_passes_as_the_same_object() -> None:
    stream = reader()
    frame = text("a", obfuscation="xyz")
    assert stream.feed(frame) is frame
    assert (stream.model, stream.response_id) == ("served", "c-1")
    assert stream.begun
    assert not stream.complete
    block = text("b") + text("c")
    assert stream.feed(block) is block


def test_a_stream_ends_with_done() -> None:
    stream = reader()
    stream.feed(text("a") + stop() + chunk(usage=USAGE) + DONE)
    assert stream.complete
    assert stream.finish() == b""
    stream.settle()
    assert stream.finish_reasons == ["stop"]
    assert (stream.usage.input_tokens, stream.usage.output_tokens, stream.usage.source) == (7, 2, "provider")


def test_a_missing_done_is_added() -> None:
    """F18: `nodone`."""
    stream = reader()
    stream.feed(text("a") + stop(reason="length"))
    assert stream.complete
    assert stream.finish() == DONE
    assert stream.finish() == b""


def test_an_end_without_a_finish_reason_is_truncation() -> None:
    """F18: `eof_after`."""
    stream = reader()
    stream.feed(text("a") + text("b"))
    assert not stream.complete
    with pytest.raises(UpstreamTruncated):
        stream.finish()


def test_an_empty_stream_is_truncation() -> None:
    """F18."""
    with pytest.raises(UpstreamTruncated):
        reader().finish()


def test_every_choice_must_finish() -> None:
    """F18."""
    stream = reader()
    ends = []
    for frame in (text("a", 0) + text("b", 1), stop(0), stop(0), stop(1, "length")):
        stream.feed(frame)
        ends.append(stream.complete)
    assert ends == [False, False, False, True]
    assert stream.finish_reasons == ["stop", "length"]


def test_a_comment_is_no_beginning() -> None:
    stream = reader()
    block = b": OPENROUTER PROCESSING\n\n"
    assert stream.feed(block) is block
    assert not stream.begun


def test_done_alone_is_an_end() -> None:
    stream = reader()
    assert stream.feed(b"data:[DONE]\r\n\r\n") == b"data:[DONE]\r\n\r\n"
    assert stream.begun
    assert stream.complete


def test_a_done_before_the_finish_reasons_is_no_end() -> None:
    """F18: as llama-cpp-python ends a stream that it drops for another request."""
    stream = OpenAIStream(prompt_bytes=28, strip_usage=False)
    assert stream.feed(text("a")) + stream.feed(DONE) == text("a")
    assert not stream.complete
    with pytest.raises(UpstreamTruncated):
        stream.finish()


def test_crlf_frames_are_read_too() -> None:
    """F22."""
    stream = reader()
    frame = text("a", usage=USAGE).replace(b"\n\n", b"\r\n\r\n")
    assert stream.feed(frame) is frame
    assert stream.usage.input_tokens == 7


def test_data_over_several_lines_is_one_chunk() -> None:
    """F22."""
    stream = reader(strip_usage=True)
    frame = b'data: {"id":"c",\ndata: "choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}],\ndata: '
    frame += b'"usage":null}\n\n'
    assert stream.feed(frame) is frame
    assert stream.complete


# Errors.


@pytest.mark.parametrize(
    ("frame", "status", "code", "message"),
    [
        (b'data: {"error":{"message":"m","type":"server_error","code":null}}\n\n', 502, "server_error", "m"),
        (b'data: {"error":{"message":"m","code":"rate_limit_exceeded"}}\n\n', 429, "rate_limit_exceeded", "m"),
        (b'data: {"error":{"message":"m","code":503}}\n\n', 503, "503", "m"),
        (b'data: {"error":"overflow"}\n\n', 502, "upstream_error", "overflow"),
        (b'event: error\ndata: {"message":"m","code":"timeout"}\n\n', 504, "timeout", "m"),
        (b"event: error\ndata: broken\n\n", 502, "upstream_error", "The provider reported an error."),
        (
            b'data: {"id":"x","choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}],'
            b'"error":{"message":"m","code":"overloaded_error"}}\n\n',
            529,
            "overloaded_error",
            "m",
        ),
    ],
)
def test_an_error_event_ends_the_stream(frame: bytes, status: int, code: str, message: str) -> None:
    """F15, F26."""
    stream = reader()
    before = text("a")
    assert stream.feed(before + frame + text("b")) == before
    error = stream.error
    assert isinstance(error, UpstreamReplyError)
    assert (error.status, error.code, error.message, error.relay) == (status, code, message, frame)
    assert stream.feed(text("c")) == b""
    assert stream.finish() == b""
    assert stream.error_event(error, "r") == frame


def test_an_error_may_be_the_first_event() -> None:
    """F26."""
    stream = reader()
    assert stream.feed(b'data: {"error":{"message":"m"}}\n\n') == b""
    assert stream.error is not None
    assert not stream.begun
    stream.settle()
    assert stream.usage.source is None


def test_a_null_error_is_none() -> None:
    stream = reader()
    frame = text("a", error=None)
    assert stream.feed(frame) is frame
    assert stream.error is None


def test_our_own_error_is_one_frame_in_openais_shape() -> None:
    """F15, F133."""
    frame = reader().error_event(UpstreamTimeout("late", phase="idle"), "req-1")
    assert frame.startswith(b"data: ")
    assert frame.endswith(b"}\n\n")
    assert json.loads(frame[6:]) == {
        "error": {"message": "late", "type": "server_error", "param": None, "code": "upstream_timeout"}
    }


def test_broken_json_is_relayed_and_is_no_end() -> None:
    """F15: `badjson_after`."""
    stream = reader()
    frame = b'data: {"choices":[{"ind\n\n'
    broken = b"data: {bad}\n\n"
    assert stream.feed(frame) is frame
    assert stream.feed(broken) is broken
    assert stream.begun
    assert stream.error is None
    with pytest.raises(UpstreamTruncated):
        stream.finish()


def test_json_of_another_shape_is_relayed() -> None:
    stream = reader()
    for frame in (b"data: []\n\n", b'data: {"choices":{"a":1}}\n\n', b'data: {"x":' + b"[" * 100_000 + b"}\n\n"):
        assert stream.feed(frame) is frame
    assert stream.error is None


# Usage.


def test_usage_is_read_wherever_it_is_and_the_last_wins() -> None:
    """F54: `usage_in_choice`."""
    stream = reader()
    stream.feed(text("a", usage={"prompt_tokens": 7, "completion_tokens": 1}))
    stream.feed(
        chunk({"index": 0, "delta": {}, "finish_reason": "stop"}, usage={**USAGE, "prompt_tokens_details": None})
    )
    stream.settle()
    assert (stream.usage.input_tokens, stream.usage.output_tokens, stream.usage.source) == (7, 2, "provider")


def test_the_service_is_the_first_chunks() -> None:
    stream = reader()
    stream.feed(text("a", service_tier="priority"))
    stream.feed(text("b"))
    assert stream.usage.service_tier == "priority"


def test_an_aborted_stream_is_charged_for_what_was_relayed() -> None:
    """F55."""
    stream = reader(prompt_bytes=28)
    for number in range(5):
        stream.feed(text(f"token {number} "))
    stream.settle()
    assert (stream.usage.input_tokens, stream.usage.output_tokens, stream.usage.source) == (7, 5, "estimated")


def test_missing_usage_is_estimated() -> None:
    """F53: `nousage`."""
    stream = reader(prompt_bytes=100)
    stream.feed(text("") + text("a") + text("b" * 40) + stop() + DONE)
    stream.settle()
    assert (stream.usage.input_tokens, stream.usage.output_tokens, stream.usage.source) == (25, 11, "estimated")


def test_zero_output_that_was_relayed_is_counted() -> None:
    """F56: `zero_usage`."""
    stream = reader()
    stream.feed(text("a") + text("b") + stop() + chunk(usage={"prompt_tokens": 7, "completion_tokens": 0}) + DONE)
    stream.settle()
    assert (stream.usage.input_tokens, stream.usage.output_tokens, stream.usage.source) == (7, 2, "estimated")


@pytest.mark.parametrize(
    ("choice", "tokens"),
    [
        ({"delta": {"content": "a"}}, 1),
        ({"delta": {"content": [{"type": "text", "text": "a"}]}}, 7),
        ({"delta": {"reasoning_content": "a", "reasoning": "a"}}, 1),
        ({"delta": {"content": "", "reasoning": "a"}}, 1),
        ({"delta": {"refusal": "no"}}, 1),
        ({"delta": {"tool_calls": [{"function": {"name": "f", "arguments": ""}}]}}, 1),
        ({"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}, {"function": None}]}}, 1),
        ({"delta": {"function_call": {"name": "f", "arguments": "{"}}}, 2),
        ({"delta": None}, 0),
        ({"text": "a", "index": 1}, 1),
        ({"text": "", "index": None}, 0),
    ],
)
def test_every_kind_of_output_is_counted(choice: dict[str, Any], tokens: int) -> None:
    """F55."""
    stream = reader()
    stream.feed(chunk(choice))
    assert stream.relayed_tokens == tokens


def test_a_list_of_no_choices_is_read() -> None:
    stream = reader()
    stream.feed(b'data: {"id":"","choices":null,"usage":null}\n\n' + text("a"))
    assert stream.response_id == "c-1"


# Taking the usage out again that the client did not ask for.


def test_the_usage_that_the_client_did_not_ask_for_is_stripped() -> None:
    """F53, F135."""
    stream = reader(strip_usage=True)
    first = text("a", usage=None, obfuscation="x")
    assert stream.feed(first) == first.replace(b',"usage":null', b"")
    assert stream.feed(chunk(usage=USAGE)) == b""
    assert stream.usage.output_tokens == 2
    frame = text("c")
    assert stream.feed(frame) is frame


def test_one_block_may_lose_some_frames_only() -> None:
    """F135."""
    stream = reader(strip_usage=True)
    block = text("a", usage=None) + stop() + chunk(usage=USAGE) + DONE
    assert stream.feed(block) == text("a") + stop() + DONE


def test_usage_beside_choices_is_taken_out_of_the_chunk() -> None:
    """F54, F135."""
    stream = reader(strip_usage=True)
    assert stream.feed(text("a", usage=USAGE)) == text("a")
    assert stream.usage.input_tokens == 7


def test_a_chunk_without_choices_that_is_no_usage_chunk_stays() -> None:
    """Azure's first chunk has no choices but the filter's results."""
    stream = reader(strip_usage=True)
    assert stream.feed(chunk(prompt_filter_results=[], usage=None)) == chunk(prompt_filter_results=[])


@pytest.mark.parametrize(
    ("data", "left"),
    [
        (b'{"id":"c", "usage": null, "choices":[]}', b'{"id":"c", "choices":[]}'),
        (b'{"usage":null,"choices":[{"text":"a"}]}', b'{"choices":[{"text":"a"}]}'),
        (
            b'{"choices":[{"text":"a","usage":null}],"usage":null}',
            b'{"choices":[{"text":"a","usage":null}]}',
        ),
        (b'{"choices":[{"text":",\\"usage\\":null"}],"usage":null}', b'{"choices":[{"text":",\\"usage\\":null"}]}'),
    ],
)
def test_only_the_top_level_usage_goes(data: bytes, left: bytes) -> None:
    """F135, F136."""
    stream = reader(strip_usage=True)
    assert stream.feed(b"data:" + data + b"\r\n\r\n") == b"data:" + left + b"\r\n\r\n"


def test_null_usage_stays_when_the_client_asked_for_it() -> None:
    """F135."""
    stream = reader(strip_usage=False)
    block = text("a", usage=None) + chunk(usage=USAGE)
    assert stream.feed(block) is block


# Recorded streams.

RECORDED = [
    ("chat-streaming.yaml", None),
    ("chat-streaming-detailed-usage.yaml", (12, 100)),
    ("chat-streaming-web-search.yaml", None),
    ("completion-streaming.yaml", None),
    ("completion-streaming-usage.yaml", (31, 25)),
]


@pytest.mark.parametrize(("name", "usage"), RECORDED)
@pytest.mark.parametrize("size", [1, 2, 7, 100, 1460, 1_000_000])
def test_recorded_streams_are_relayed_byte_for_byte(
    openai_recording: Recording, name: str, usage: tuple[int, int] | None, size: int
) -> None:
    """F20, F22, F136."""
    recorded = openai_recording(name)
    splitter, stream = FrameSplitter(), reader(prompt_bytes=100)
    relayed = [
        stream.feed(block)
        for start in range(0, len(recorded), size)
        if (block := splitter.feed(recorded[start : start + size]))
    ]
    assert b"".join(relayed) == recorded
    assert splitter.finish() == stream.finish() == b""
    assert stream.complete
    assert stream.model is not None
    stream.settle()
    if usage is None:
        assert stream.usage.source == "estimated"
    else:
        assert (stream.usage.input_tokens, stream.usage.output_tokens) == usage
        assert stream.usage.source == "provider"


@pytest.mark.parametrize("name", ["chat-streaming-detailed-usage.yaml", "completion-streaming-usage.yaml"])
def test_a_recorded_stream_without_its_usage_is_what_a_client_gets_who_did_not_ask(
    openai_recording: Recording, name: str
) -> None:
    """F135."""
    recorded = openai_recording(name)
    stream = reader(strip_usage=True)
    relayed = stream.feed(recorded)
    assert b'"usage"' not in relayed
    kept = list(frames(relayed))
    originals = [frame for frame in frames(recorded) if b'"choices":[]' not in frame]
    assert len(kept) == len(originals) == len(list(frames(recorded))) - 1
    for frame, original in zip(kept, originals, strict=True):
        if original != DONE:
            expected = json.loads(original[6:])
            expected.pop("usage", None)
            assert list(json.loads(frame[6:]).items()) == list(expected.items())
    assert stream.usage.input_tokens is not None
    assert stream.complete


def raw(value: bytes, tail: bytes = b"") -> bytes:
    """A frame around a text that is put there as it is."""
    start = b'data: {"id":"c-1","model":"served","choices":[{"index":0,"delta":{"content":"'
    return start + value + b'"},"finish_reason":null}]' + tail + b"}\n\n"


NULL_USAGE = b',"usage":null'
FRAMES = [
    *(raw(value) for value in (b"a", b" b", b"", "\u00e9\u4e2d".encode(), b"x" * 99)),
    *(raw(value, NULL_USAGE) for value in (b"a", b" b", b"", "\u00e9\u4e2d".encode(), b"x" * 99)),
    *(raw(value, NULL_USAGE) for value in (b"\\n", b'\\"', b"\\u00e9", b"\x01")),
    raw(b'a"},"finish_reason":"length","x":{"y":"', NULL_USAGE),
    text("two") + text("three"),
    text("c", index=1),
    text("d", usage=None),
    text(["a", "list"]),
    chunk({"index": 0, "delta": {"content": "t", "refusal": "no"}, "finish_reason": None}),
    chunk({"index": 0, "delta": {"tool_calls": [{"function": {"arguments": '{"content":"x"}'}}]}}),
    chunk({"index": 0, "delta": {"content": "e"}, "finish_reason": "stop"}),
    chunk({"index": 0, "x\"content": "f", "delta": {"content": "f"}, "finish_reason": None}),
    text("g", usage=USAGE),
    chunk(usage=USAGE),
    text("h", error={"message": "no"}),
    b"data: {broken\n\n",
    DONE,
]  # fmt: skip


@given(st.lists(st.sampled_from(FRAMES), max_size=30), st.booleans())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_frames_that_differ_in_their_text_only_are_read_as_every_other(blocks: list[bytes], strip_usage: bool) -> None:
    """What the short cut passes on is counted, and ends, as by decoding every frame."""
    short, long = reader(strip_usage=strip_usage), reader(strip_usage=strip_usage)
    long._lessons = 0
    for block in blocks:
        assert short.feed(block) == long.feed(block)
    assert short.relayed_tokens == long.relayed_tokens
    assert (short.usage, short.complete, short.finish_reasons) == (long.usage, long.complete, long.finish_reasons)
    assert (short.error is None) == (long.error is None)


def test_a_stream_of_texts_is_decoded_once() -> None:
    stream = reader(strip_usage=True)
    stream.feed(raw(b"first", NULL_USAGE))
    lessons = stream._lessons
    for _ in range(20):
        assert stream.feed(raw(b"next", NULL_USAGE)) == raw(b"next")
    assert (stream.relayed_tokens, stream._lessons) == (21, lessons)


def test_a_stream_whose_frames_differ_in_more_is_not_learnt_for_ever() -> None:
    stream = reader()
    for number in range(50):
        frame = text("a", obfuscation="x" * number)
        assert stream.feed(frame) is frame
    assert (stream.relayed_tokens, stream._lessons) == (50, 0)


def test_a_text_that_is_no_utf8_is_relayed_and_is_no_end() -> None:
    stream = reader()
    for _ in range(2):
        assert stream.feed(raw(b"\xff")) == raw(b"\xff")
    assert stream.begun and stream.error is None
