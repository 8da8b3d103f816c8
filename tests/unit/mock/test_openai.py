"""Chat and text completions in OpenAI's words."""

from typing import Any

import pytest

from gateway.mock.endpoints import answer
from gateway.mock.openai import DONE
from tests.unit.mock.raw import HI, chat, decoded, events, new_world, request, stream, texts

TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]


def completion(**fields: object) -> Any:
    return answer(new_world(), request("/v1/completions", {"model": "demo", "prompt": "hi"} | fields))


def test_a_chat_completion_is_about_700_bytes_with_consistent_usage() -> None:
    plan = chat()
    body = decoded(plan)
    assert 500 < len(plan.body) < 900
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["finish_reason"] == "stop"
    usage = body["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (1, 16, 17)
    assert len(body["choices"][0]["message"]["content"].split()) == 16


def test_the_model_is_named_without_its_directives() -> None:
    body = decoded(chat(model="demo:tokens=2"))
    assert body["model"] == "demo"
    assert body["usage"]["completion_tokens"] == 2


def test_a_stream_has_role_tokens_finish_and_done() -> None:
    raw = stream(chat("tokens=3", stream=True))
    found = events(raw)
    assert found[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(texts(raw)) == "tok1 tok2 tok3"
    assert found[-2]["choices"][0]["finish_reason"] == "stop"
    assert found[-1] == "[DONE]"
    assert raw.endswith(DONE)
    assert all("usage" not in event for event in found[:-1])


def test_usage_comes_in_a_chunk_of_its_own_when_asked() -> None:
    """F135: `usage: null` on the others, `choices: []` on this one."""
    found = events(stream(chat("tokens=3", stream=True, stream_options={"include_usage": True})))
    assert all(event["usage"] is None for event in found[:-2])
    assert found[-2]["choices"] == []
    assert found[-2]["usage"]["completion_tokens"] == 3


def test_usage_can_come_with_the_last_choice() -> None:
    """F54."""
    found = events(stream(chat("tokens=3,usage_in_choice", stream=True, stream_options={"include_usage": True})))
    assert found[-2]["choices"][0]["finish_reason"] == "stop"
    assert found[-2]["usage"]["completion_tokens"] == 3
    assert all("usage" not in event for event in found[:-2])


def test_usage_can_be_missing() -> None:
    """F53."""
    found = events(stream(chat("nousage", stream=True, stream_options={"include_usage": True})))
    assert all("usage" not in event for event in found[:-1])
    assert "usage" not in decoded(chat("nousage"))


def test_usage_can_be_zero() -> None:
    """F56."""
    assert decoded(chat("zero_usage"))["usage"]["total_tokens"] == 0
    found = events(stream(chat("zero_usage", stream=True, stream_options={"include_usage": True})))
    assert found[-2]["usage"]["completion_tokens"] == 0


def test_a_stream_can_end_without_done() -> None:
    """F18."""
    found = events(stream(chat("nodone,tokens=1", stream=True)))
    assert found[-1]["choices"][0]["finish_reason"] == "stop"


def test_several_choices_are_counted_together() -> None:
    body = decoded(chat("tokens=3", n=2))
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert body["usage"]["completion_tokens"] == 6
    found = events(stream(chat("tokens=3", n=2, stream=True)))
    indexes = [event["choices"][0]["index"] for event in found[:-1]]
    assert indexes == [0, 1] * 5


def test_a_forced_tool_is_called_with_empty_arguments() -> None:
    body = decoded(chat(tools=TOOLS, tool_choice="required"))
    choice = body["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "look_up", "arguments": "{}"}


def test_a_tool_call_is_streamed_in_deltas() -> None:
    found = events(stream(chat(tools=TOOLS, tool_choice="required", stream=True)))
    deltas = [event["choices"][0]["delta"] for event in found[:-1]]
    assert deltas[0]["tool_calls"][0]["function"]["name"] == "look_up"
    assert deltas[1]["tool_calls"][0]["function"]["arguments"] == "{}"
    assert found[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_tool_call_has_one_choice() -> None:
    plan = chat(tools=TOOLS, tool_choice="required", n=2)
    assert (plan.status, decoded(plan)["error"]["param"]) == (400, "n")


@pytest.mark.parametrize("choices", [1, 2])
def test_a_text_completion_has_its_own_shape(choices: int) -> None:
    body = decoded(completion(n=choices, max_tokens=2))
    assert body["object"] == "text_completion"
    assert body["choices"][0] == {"index": 0, "text": "tok1 tok2", "logprobs": None, "finish_reason": "length"}
    found = events(stream(completion(stream=True, n=choices)))
    assert found[0]["choices"][0]["text"] == "tok1"
    assert found[-2]["choices"][0] == {"index": choices - 1, "text": "", "logprobs": None, "finish_reason": "stop"}


def test_an_error_event_is_named_only_when_asked() -> None:
    """F15."""
    assert stream(chat("error_after=0", stream=True)).startswith(b'data: {"error":{')
    assert stream(chat("event_error", stream=True)).startswith(b'event: error\ndata: {"error":{')


def test_vision_parts_are_accepted() -> None:
    parts = [{"type": "text", "text": "what is this"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    body = decoded(chat(messages=[*HI, {"role": "user", "content": parts}]))
    assert body["usage"]["prompt_tokens"] == 4
