"""Responses in OpenAI's words."""

from tests.unit.mock.raw import decoded, events, responses, stream

TOOLS = [{"type": "function", "name": "look_up", "parameters": {}}]


def test_a_response_has_output_and_usage() -> None:
    body = decoded(responses("tokens=2"))
    assert (body["object"], body["status"]) == ("response", "completed")
    assert body["output"][0]["content"][0]["text"] == "tok1 tok2"
    assert (body["usage"]["input_tokens"], body["usage"]["output_tokens"], body["usage"]["total_tokens"]) == (1, 2, 3)


def test_a_stream_counts_its_events() -> None:
    found = events(stream(responses("tokens=2", stream=True)))
    assert [event["type"] for event in found] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["sequence_number"] for event in found] == list(range(10))
    assert found[0]["response"]["usage"] is None
    assert found[-1]["response"]["usage"]["output_tokens"] == 2


def test_the_token_limit_makes_a_response_incomplete() -> None:
    body = decoded(responses(max_output_tokens=1))
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert body["output"][0]["status"] == "incomplete"
    assert events(stream(responses(max_output_tokens=1, stream=True)))[-1]["type"] == "response.incomplete"


def test_a_function_is_called_whole_and_streamed() -> None:
    item = decoded(responses(tools=TOOLS, tool_choice="required"))["output"][0]
    assert (item["type"], item["name"], item["arguments"]) == ("function_call", "look_up", "{}")
    found = events(stream(responses(tools=TOOLS, tool_choice="required", stream=True)))
    assert [event["type"] for event in found[3:5]] == [
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
    ]
    assert found[2]["item"]["arguments"] == ""


def test_a_response_can_lack_usage_and_its_end() -> None:
    """F18, F53."""
    assert decoded(responses("nousage"))["usage"] is None
    assert decoded(responses("zero_usage"))["usage"]["total_tokens"] == 0
    assert events(stream(responses("nodone", stream=True)))[-1]["type"] == "response.output_item.done"


def test_the_error_event_has_its_fields_at_the_top() -> None:
    """F17."""
    found = events(stream(responses("error_after=1,status=429", stream=True)))
    error = found[-1]
    assert (error["type"], error["code"], error["param"]) == ("error", "rate_limit_exceeded", None)
    assert error["sequence_number"] == len(found) - 1
