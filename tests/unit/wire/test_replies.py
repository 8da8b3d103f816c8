"""Facts in whole replies."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.exchange import Operation, Usage
from gateway.wire.replies import ReplyFacts, estimate, read_reply

Recording = Callable[[str], bytes]


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def test_a_chat_completion() -> None:
    facts = read_reply(
        "openai",
        "chat",
        encode(
            {
                "id": "c-1",
                "model": "served",
                "choices": [
                    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}},
                    {"index": 1, "finish_reason": None, "message": {"content": None, "reasoning_content": "abc"}},
                    {"index": 2, "message": None},
                ],
                "usage": {"prompt_tokens": 7, "completion_tokens": 2, "completion_tokens_details": None},
                "error": None,
            }
        ),
    )
    assert facts == ReplyFacts(
        Usage(7, 2, None, None, None, "provider"), "served", "c-1", ["stop"], None, True, False, 8
    )


def test_a_chat_completion_tells_every_class_of_its_tokens_and_its_service() -> None:
    """F57."""
    usage = {
        "prompt_tokens": 12,
        "completion_tokens": 100,
        "total_tokens": 112,
        "prompt_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 2, "audio_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 5},
    }
    body = {"id": "c", "model": "m", "choices": [{"finish_reason": "stop"}], "usage": usage, "service_tier": "priority"}
    expected = Usage(12, 100, 1, 2, 4, "provider", None, 3, 5, "priority")
    assert read_reply("openai", "chat", encode(body)).usage == expected
    # By the slower way too, which look-alikes go.
    assert read_reply("openai", "chat", encode(body | {"model": None})).usage == expected


def test_a_chat_completion_without_details_has_none() -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 100, "total_tokens": 112}
    body = encode({"id": "c", "model": "m", "choices": [{"finish_reason": "stop"}], "usage": usage})
    assert read_reply("openai", "chat", body).usage == Usage(12, 100, source="provider")


def test_a_text_completion() -> None:
    facts = read_reply("openai", "text_completion", b'{"choices":[{"text":"hello","finish_reason":"length"}]}')
    assert (facts.finish_reasons, facts.content_bytes) == (["length"], 5)


def test_an_answer_of_the_responses_api() -> None:
    facts = read_reply(
        "openai",
        "responses",
        b'{"id":"r","model":"m","status":"completed","error":null,"output":"answer","incomplete_details":null,'
        b'"usage":{"input_tokens":5,"output_tokens":6}}',
    )
    assert (facts.usage.input_tokens, facts.usage.output_tokens) == (5, 6)
    assert (facts.finish_reasons, facts.content_bytes) == (["completed"], 6)


def test_an_incomplete_answer_says_why() -> None:
    facts = read_reply(
        "openai", "responses", b'{"status":"incomplete","incomplete_details":{"reason":"content_filter"}}'
    )
    assert facts.finish_reasons == ["content_filter"]
    facts = read_reply("openai", "responses", b'{"status":"incomplete","incomplete_details":{}}')
    assert facts.finish_reasons == ["incomplete"]


def test_a_message_of_anthropic() -> None:
    """F57."""
    facts = read_reply(
        "anthropic",
        "messages",
        b'{"id":"m","type":"message","model":"c","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn",'
        b'"usage":{"input_tokens":5,"cache_read_input_tokens":10,"cache_creation_input_tokens":1,"output_tokens":2}}',
    )
    assert facts.usage == Usage(16, 2, 10, 1, None, "provider")
    assert (facts.model, facts.response_id, facts.finish_reasons) == ("c", "m", ["end_turn"])


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"null", b'{"id":', b'["' + b"x" * 10 + b'"]', b"[" * 100_000, b'{"a":' + b"[" * 100_000],
)
def test_what_is_no_json_object_gives_nothing(body: bytes) -> None:
    """F43."""
    operations: list[Operation] = ["chat", "embeddings"]
    for operation in operations:
        assert read_reply("openai", operation, body) == ReplyFacts(is_json=False)


def test_members_of_another_shape_are_left_out() -> None:
    facts = read_reply("openai", "chat", b'{"id":5,"model":"m","choices":"none","usage":{"prompt_tokens":3}}')
    assert (facts.model, facts.response_id, facts.usage.input_tokens, facts.is_json) == ("m", None, 3, True)
    # Broken behind the member of the wrong shape.
    assert read_reply("openai", "chat", b'{"choices":"none",').is_json is False


@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        (
            b'{"error":{"message":"m","type":"server_error","code":"rate_limit_exceeded"}}',
            429,
            "rate_limit_exceeded",
            "m",
        ),
        (b'{"error":"text"}', 502, "upstream_error", "text"),
        (b'{"error":5}', 502, "upstream_error", "The provider reported an error."),
    ],
)
def test_an_error_inside_a_200_is_an_error(body: bytes, status: int, code: str, message: str) -> None:
    """F42."""
    error = read_reply("openai", "chat", body).error
    assert error is not None
    assert (error.status, error.code, error.message) == (status, code, message)


def test_a_refused_account_is_told_by_the_type_too() -> None:
    """F42, F114."""
    body = b'{"error":{"type":"authentication_error","code":"e17","message":"bad key sk-canary"}}'
    error = read_reply("openai", "chat", body).error
    assert error is not None
    assert error.is_account
    assert "canary" not in error.message


def test_anthropics_error_is_an_error() -> None:
    """F42."""
    facts = read_reply("anthropic", "messages", b'{"type":"error","error":{"type":"overloaded_error","message":"m"}}')
    assert facts.error is not None
    assert facts.error.status == 529


@pytest.mark.parametrize("value", [None, "", {}, False])
def test_an_empty_error_is_none(value: object) -> None:
    assert read_reply("openai", "chat", encode({"error": value})).error is None


def estimated(body: dict[str, Any], operation: Operation = "chat", prompt_bytes: int = 28) -> Usage:
    facts = read_reply("openai", operation, encode(body))
    estimate(facts, operation, prompt_bytes=prompt_bytes)
    return facts.usage


CHOICES = [{"message": {"content": "x" * 40}}]


def test_missing_usage_is_estimated() -> None:
    """F53."""
    assert estimated({"choices": CHOICES}) == Usage(7, 10, None, None, None, "estimated")


def test_reported_usage_stands() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 9}
    assert estimated({"choices": CHOICES, "usage": usage}) == Usage(3, 9, None, None, None, "provider")


def test_zero_output_that_has_text_is_counted() -> None:
    """F56."""
    usage = {"prompt_tokens": 3, "completion_tokens": 0}
    assert estimated({"choices": CHOICES, "usage": usage}) == Usage(3, 10, None, None, None, "estimated")


def test_only_what_the_model_wrote_is_counted() -> None:
    """F56: a picture, encrypted reasoning, a signature or a page that was found are no output tokens."""
    bulk = "A" * 100_000
    output = [
        {
            "type": "reasoning",
            "id": bulk,
            "summary": [{"type": "summary_text", "text": "why"}],
            "encrypted_content": bulk,
        },
        {"type": "image_generation_call", "result": bulk},
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": bulk},
        {"type": "message", "content": [{"type": "output_text", "text": "\u00e9", "annotations": [{"url": bulk}]}]},
        {"type": "message", "content": [{"type": "refusal", "refusal": "no"}], "summary": None},
    ]
    reported = {"input_tokens": 3, "output_tokens": 9}
    responses = {"status": "completed", "output": output, "usage": reported}
    assert read_reply("openai", "responses", encode(responses)).content_bytes == 3 + 2 + 2 + 2
    assert estimated(responses, "responses") == Usage(3, 9, None, None, None, "provider")
    content = [
        {"type": "thinking", "thinking": "hm", "signature": bulk},
        {"type": "server_tool_use", "id": bulk, "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "content": [{"type": "web_search_result", "encrypted_content": bulk}]},
        {"type": "mcp_tool_result", "content": [{"type": "text", "text": bulk}]},
        {"type": "text", "text": 5, "citations": [{"cited_text": bulk}]},
    ]
    facts = read_reply("anthropic", "messages", encode({"content": content, "usage": reported}))
    assert facts.content_bytes == 2 + len('"query":"q"')


def test_embeddings_have_no_output() -> None:
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    assert estimated({"data": [], "usage": usage}, "embeddings") == Usage(3, 0, None, None, None, "provider")
    assert estimated({"data": []}, "embeddings") == Usage(7, 0, None, None, None, "estimated")


def test_nothing_is_estimated_for_what_costs_no_tokens() -> None:
    assert estimated({"input_tokens": 5}, "count_tokens") == Usage()
    assert estimated({"id": "file"}, "relay") == Usage()
    assert estimated({"error": {"message": "m"}}) == Usage()


@pytest.mark.parametrize(
    ("name", "operation", "tokens_in", "tokens_out"),
    [
        ("chat-basic.yaml", "chat", 8, 377),
        ("chat-detailed-usage.yaml", "chat", 12, 100),
        ("azure-chat-basic.yaml", "chat", 8, 271),
        ("completion-basic.yaml", "text_completion", 31, 25),
        ("embeddings-basic.yaml", "embeddings", 7, None),
    ],
)
def test_recorded_replies_are_read(
    openai_recording: Recording, name: str, operation: Operation, tokens_in: int, tokens_out: int | None
) -> None:
    """F57."""
    facts = read_reply("openai", operation, openai_recording(name))
    assert (facts.usage.input_tokens, facts.usage.output_tokens) == (tokens_in, tokens_out)
    assert facts.model
    assert facts.error is None


@pytest.mark.parametrize("name", ["chat-bad-request.yaml", "chat-unknown-model.yaml", "embeddings-bad-request.yaml"])
def test_recorded_errors_are_read(openai_recording: Recording, name: str) -> None:
    facts = read_reply("openai", "chat", openai_recording(name))
    assert facts.error is not None
    assert 400 <= facts.error.status < 500


@pytest.mark.parametrize("operation", ["chat", "responses", "embeddings"])
def test_bytes_that_are_no_utf8_are_no_json(operation: Operation) -> None:
    assert not read_reply("openai", operation, b'{"id":"\xff","model":"m","choices":[]}').is_json
