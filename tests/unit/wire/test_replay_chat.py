"""Chat completions and completions: whole to stream and stream to whole."""

import json
from typing import Any

import pytest

from gateway.core.exchange import Usage
from gateway.wire.openai_stream import OpenAIStream
from gateway.wire.replay_chat import ChatCollector, chat_stream, chat_traits, openai_usage
from gateway.wire.replay_parts import PIECE_CHARS, Unfit

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def whole(**changes: Any) -> dict[str, Any]:
    """A chat completion."""
    message = {"role": "assistant", "content": "Hello there.", "refusal": None} | changes.pop("message", {})
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"} | changes.pop("choice", {})
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "gpt-4.1-2025-04-14",
        "service_tier": "default",
        "system_fingerprint": "fp_1",
        "choices": [choice],
        "usage": USAGE,
    } | changes


def told(reply: dict[str, Any], *, include_usage: bool = True, is_chat: bool = True) -> bytes:
    """The stream of a reply."""
    return chat_stream(json.dumps(reply).encode(), is_chat=is_chat, include_usage=include_usage)


def chunks(stream: bytes) -> list[dict[str, Any]]:
    """The chunks of a stream that ends as it should."""
    assert stream.endswith(b"data: [DONE]\n\n")
    return [json.loads(frame.removeprefix(b"data: ")) for frame in stream.split(b"\n\n")[:-2]]


def collected(stream: bytes, usage: Usage | None = None, *, is_chat: bool = True) -> Any:
    """The whole reply of a stream, or None."""
    collector = ChatCollector(is_chat=is_chat)
    for frame in stream.split(b"\n\n")[:-1]:
        collector.feed(frame + b"\n\n")
    body = collector.body(usage if usage is not None else Usage())
    return None if body is None else json.loads(body)


def frame(delta: dict[str, Any], **choice: Any) -> bytes:
    """One chunk."""
    said = {"index": 0, "delta": delta, "finish_reason": None} | choice
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [said]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


END = frame({}, finish_reason="stop") + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "reply",
    [
        whole(),
        whole(message={"content": "x" * (3 * PIECE_CHARS)}),
        whole(message={"reasoning_content": "Let me see."}),
        whole(message={"annotations": [{"type": "url_citation", "url_citation": {"url": "https://a.example"}}]}),
        whole(choice={"logprobs": {"content": [{"token": "Hello", "logprob": -0.25}], "refusal": []}}),
        whole(choice={"content_filter_results": {"hate": {"filtered": False}}}),
        whole(
            message={
                "content": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
                    {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ],
            },
            choice={"finish_reason": "tool_calls"},
        ),
    ],
)
def test_a_reply_told_as_a_stream_and_put_together_again_is_the_same(reply: dict[str, Any]) -> None:
    assert collected(told(reply)) == reply


def test_a_replayed_stream_reads_as_the_providers_own() -> None:
    reader = OpenAIStream(prompt_bytes=10, strip_usage=False)
    reader.feed(told(whole()))
    assert reader.complete
    assert reader.finish() == b""
    assert (reader.response_id, reader.model, reader.finish_reasons) == ("chatcmpl-1", "gpt-4.1-2025-04-14", ["stop"])
    assert (reader.usage.input_tokens, reader.usage.output_tokens, reader.usage.source) == (5, 7, "provider")


def test_usage_comes_in_a_chunk_of_its_own_when_it_was_asked_for() -> None:
    *others, last = chunks(told(whole()))
    assert last["choices"] == []
    assert last["usage"] == USAGE
    assert all(chunk["usage"] is None for chunk in others)


def test_no_usage_comes_when_it_was_not_asked_for() -> None:
    assert all("usage" not in chunk for chunk in chunks(told(whole(), include_usage=False)))


def test_the_first_chunk_has_the_role_and_the_last_the_reason() -> None:
    first, *_, last = chunks(told(whole(), include_usage=False))
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert first["object"] == "chat.completion.chunk"
    assert last["choices"][0]["finish_reason"] == "stop"


def test_a_completion_goes_both_ways() -> None:
    reply = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "text": "a b", "logprobs": None, "finish_reason": "stop"}],
        "usage": USAGE,
    }
    assert collected(told(reply, is_chat=False), is_chat=False) == reply


def test_usage_that_the_stream_did_not_say_is_filled_in() -> None:
    """The gateway asks for usage by itself and takes it out of what the client gets."""
    usage = Usage(5, 7, cached_input_tokens=2, source="provider")
    found = collected(told(whole(), include_usage=False), usage)
    assert found["usage"] == openai_usage(usage)
    assert found["usage"]["prompt_tokens_details"]["cached_tokens"] == 2


def test_pieces_of_a_call_are_put_together() -> None:
    stream = (
        frame(
            {"role": "assistant", "content": None, "tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f"}}]}
        )
        + frame({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]})
        + frame({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]})
        + END
    )
    call = collected(stream)["choices"][0]["message"]["tool_calls"][0]
    assert call == {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


def test_the_old_call_of_a_function_is_put_together() -> None:
    stream = (
        frame({"function_call": {"name": "f", "arguments": ""}}) + frame({"function_call": {"arguments": "{}"}}) + END
    )
    assert collected(stream)["choices"][0]["message"]["function_call"] == {"name": "f", "arguments": "{}"}


def test_what_is_null_adds_nothing() -> None:
    stream = (
        frame({"content": "a", "novelty": None, "tool_calls": None, "function_call": None}, novelty=None)
        + frame({"content": None, "tool_calls": [{"index": 0, "id": "c1", "function": None, "type": None}]})
        + END
    )
    message = collected(stream)["choices"][0]["message"]
    assert message["content"] == "a"
    assert message["tool_calls"] == [{"id": "c1", "type": "function", "function": {"name": "", "arguments": ""}}]


def test_logprobs_of_all_chunks_are_joined() -> None:
    one, two = ({"token": token, "logprob": -0.5} for token in "ab")
    stream = frame({"content": "a"}, logprobs={"content": [one]}) + frame({"content": "b"}, logprobs={"content": [two]})
    assert collected(stream + END)["choices"][0]["logprobs"] == {"content": [one, two]}


def test_several_choices_stay_apart() -> None:
    stream = (
        frame({"content": "a"}) + frame({"content": "b"}, index=1) + frame({}, index=1, finish_reason="length") + END
    )
    choices = collected(stream)["choices"]
    assert [(each["message"]["content"], each["finish_reason"]) for each in choices] == [("a", "stop"), ("b", "length")]


@pytest.mark.parametrize(
    "stream",
    [
        frame({"content": "cut"}),
        frame({"content": "cut"}) + b"data: [DONE]\n\n",
        frame({}, finish_reason="stop"),
        b"data: [DONE]\n\n",
        frame({"content": ["a part"]}) + END,
        frame({"novelty": {"a": 1}}) + END,
        frame({"role": "user"}) + END,
        frame({}, index="0") + END,
        frame({"tool_calls": [{"index": "0"}]}) + END,
        frame({"tool_calls": [{"index": 0, "novelty": 1}]}) + END,
        b'data: {"error":{"message":"no"}}\n\n' + END,
        b"event: error\ndata: {}\n\n" + END,
        b"data: nonsense\n\n" + END,
        b"data: 1\n\n" + END,
    ],
)
def test_what_is_cut_or_not_known_gives_no_reply(stream: bytes) -> None:
    """F117: a truncated stream is never stored."""
    assert collected(stream) is None


def test_nothing_is_read_after_the_first_that_is_not_known() -> None:
    collector = ChatCollector(is_chat=True)
    collector.feed(b"data: nonsense\n\n")
    collector.feed(frame({"content": "a"}) + END)
    assert collector.body(Usage()) is None


@pytest.mark.parametrize(
    ("changes", "traits"),
    [
        ({}, set()),
        ({"message": {"content": ""}}, {"empty"}),
        ({"message": {"content": None}}, {"empty"}),
        ({"message": {"refusal": "No."}}, {"refusal"}),
        ({"message": {"content": None, "tool_calls": [{"id": "c"}]}}, {"tool_calls"}),
        ({"message": {"function_call": {"name": "f"}}}, {"tool_calls"}),
        ({"message": {"audio": {"id": "a"}}}, {"media"}),
        ({"message": {"images": [{}]}}, {"media"}),
    ],
)
def test_traits_of_a_chat_completion(changes: dict[str, Any], traits: set[str]) -> None:
    assert chat_traits(whole(**changes), is_chat=True) == traits


def test_traits_of_a_completion() -> None:
    choice = {"index": 0, "text": "a", "finish_reason": "stop"}
    assert chat_traits({"choices": [choice]}, is_chat=False) == set()
    assert chat_traits({"choices": [choice | {"text": ""}]}, is_chat=False) == {"empty"}


@pytest.mark.parametrize(
    "reply",
    [
        {"choices": []},
        {"choices": [{"message": {"content": "a"}}]},
        {"choices": [{"message": {"content": ["a"]}, "finish_reason": "stop"}]},
        {"choices": [{"finish_reason": "stop"}]},
    ],
)
def test_a_reply_of_another_shape_is_unfit(reply: dict[str, Any]) -> None:
    with pytest.raises(Unfit):
        chat_traits(reply, is_chat=True)
