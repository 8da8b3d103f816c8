"""Messages in Anthropic's words."""

from tests.unit.mock.raw import decoded, events, messages, stream

TOOLS = [{"name": "look_up", "input_schema": {"type": "object"}}]


def test_a_message_has_content_stop_reason_and_usage() -> None:
    body = decoded(messages("tokens=2"))
    assert (body["type"], body["role"], body["model"]) == ("message", "assistant", "demo")
    assert body["content"] == [{"type": "text", "text": "tok1 tok2"}]
    assert body["stop_reason"] == "end_turn"
    assert (body["usage"]["input_tokens"], body["usage"]["output_tokens"]) == (1, 2)


def test_a_stream_has_the_grammar_of_the_provider() -> None:
    raw = stream(messages("tokens=2", stream=True))
    found = events(raw)
    assert [event["type"] for event in found] == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert found[0]["message"]["usage"]["input_tokens"] == 1
    assert found[3]["delta"] == {"type": "text_delta", "text": "tok1"}
    assert found[6]["delta"]["stop_reason"] == "end_turn"
    assert found[6]["usage"]["output_tokens"] == 2
    assert b"[DONE]" not in raw
    assert raw.startswith(b"event: message_start\ndata: ")


def test_a_tool_is_called_whole_and_streamed() -> None:
    body = decoded(messages(tools=TOOLS, tool_choice={"type": "any"}))
    assert body["stop_reason"] == "tool_use"
    assert (body["content"][0]["name"], body["content"][0]["input"]) == ("look_up", {})
    found = events(stream(messages(tools=TOOLS, tool_choice={"type": "tool", "name": "look_up"}, stream=True)))
    assert found[1]["content_block"]["type"] == "tool_use"
    assert found[3]["delta"] == {"type": "input_json_delta", "partial_json": "{}"}


def test_the_token_limit_is_a_stop_reason() -> None:
    assert decoded(messages(max_tokens=1))["stop_reason"] == "max_tokens"


def test_usage_can_be_missing_or_zero() -> None:
    """F53, F56."""
    assert "usage" not in decoded(messages("nousage"))
    found = events(stream(messages("nousage", stream=True)))
    assert "usage" not in found[0]["message"]
    assert "usage" not in found[-2]
    found = events(stream(messages("zero_usage", stream=True)))
    assert (found[0]["message"]["usage"]["output_tokens"], found[-2]["usage"]["output_tokens"]) == (0, 0)


def test_a_stream_can_end_without_message_stop() -> None:
    """F18."""
    assert events(stream(messages("nodone", stream=True)))[-1]["type"] == "message_delta"


def test_an_error_event_breaks_off_the_stream() -> None:
    """F15, F17: by default the provider is overloaded; `status` names another error."""
    found = events(stream(messages("error_after=1", stream=True)))
    assert [event["type"] for event in found[-2:]] == ["content_block_delta", "error"]
    assert found[-1]["error"]["type"] == "overloaded_error"
    found = events(stream(messages("error_after=1,status=429", stream=True)))
    assert found[-1]["error"]["type"] == "rate_limit_error"
