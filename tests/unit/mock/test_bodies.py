"""What is read of a body: tokens, the last user text, tools, and faults."""

import json

import pytest

from gateway.core.errors import InvalidRequest
from gateway.mock.bodies import Body, count_words, embedding_inputs, read_body, require


def body(**fields: object) -> Body:
    return read_body(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"messages": [{"role": "user", "content": "hi"}]}, 1),
        ({"messages": []}, 1),
        ({"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "a b c"}]}, 5),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "what is this"}, {"type": "image_url"}]}
                ]
            },
            3,
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "a b"}]}]}
                ]
            },
            2,
        ),
        ({"messages": [{"role": "assistant", "content": None}]}, 1),
        ({"system": [{"type": "text", "text": "one two"}], "messages": [{"role": "user", "content": "three"}]}, 3),
        ({"prompt": "a b c"}, 3),
        ({"prompt": ["a b", "c"]}, 3),
        ({"prompt": [1, 2, 3, 4]}, 4),
        ({"prompt": [[1, 2], [3]]}, 3),
        ({"input": "a b", "instructions": "c"}, 3),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "a b"}]}]}, 2),
        ({"input": [{"type": "function_call_output", "output": "a b c"}]}, 3),
        ({"input": [{"type": "text", "text": "a b"}]}, 2),
        ({"input": "word " * 2000}, 2000),
    ],
)
def test_input_tokens_are_the_words_of_all_texts(fields: dict[str, object], tokens: int) -> None:
    assert body(**fields).input_tokens() == tokens


def test_long_texts_are_counted_like_short_ones() -> None:
    assert count_words("a b " * 4000) == 8000
    assert count_words("a b") == count_words("a b") == 2


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "a"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]},
            "ab",
        ),
        ({"input": [{"role": "user", "content": "q"}, {"type": "reasoning"}]}, "q"),
        ({"input": "plain"}, "plain"),
        ({"prompt": "plain"}, "plain"),
        ({"prompt": ["a", "b"]}, "b"),
        ({"prompt": [1, 2]}, ""),
        ({}, ""),
    ],
)
def test_the_last_user_text_is_found_in_every_dialect(fields: dict[str, object], text: str) -> None:
    assert body(**fields).last_user_text() == text


def test_the_expected_text_stands_after_expect() -> None:
    assert body(prompt="2+2? Expect: four \nthanks").expected_text() == "four"
    assert body(prompt="2+2?").expected_text() == "correct"


TOOLS = [{"type": "function", "function": {"name": "first"}}, {"name": "second"}]


@pytest.mark.parametrize(
    ("fields", "tool"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, None),
        ({"tool_choice": "required"}, "first"),
        ({"tool_choice": {"type": "any"}}, "first"),
        ({"tool_choice": {"type": "function", "function": {"name": "second"}}}, "second"),
        ({"tool_choice": {"type": "tool", "name": "second"}}, "second"),
        ({"prompt": "call second please"}, "second"),
        ({"prompt": "call third"}, None),
        ({"prompt": "call second", "tool_choice": "none"}, None),
        ({"tools": [], "tool_choice": "required"}, None),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, None),
    ],
)
def test_a_tool_is_called_when_forced_or_named_by_the_user(fields: dict[str, object], tool: str | None) -> None:
    assert body(**({"tools": TOOLS} | fields)).tool_to_call() == tool


def test_the_token_limit_has_three_names() -> None:
    assert body(max_tokens=1).token_limit == 1
    assert body(max_completion_tokens=2, max_tokens=1).token_limit == 2
    assert body(max_output_tokens=3).token_limit == 3
    assert body().token_limit is None


@pytest.mark.parametrize("n", [0, -1, 129, 100_000])
def test_an_absurd_number_of_choices_is_refused(n: int) -> None:
    """F104."""
    with pytest.raises(InvalidRequest, match="Invalid 'n'"):
        _ = body(n=n).choices


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"model":NaN}', "invalid_json"),
        (b'{"model":"\xff"}', "invalid_json"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
        (b"[]", "invalid_request_error"),
        (b'{"model":1}', "invalid_request_error"),
        (b'{"messages":"hi"}', "invalid_request_error"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(raw: bytes, code: str) -> None:
    """F98, F101, F102: nothing of this is an error of the mock itself."""
    with pytest.raises(InvalidRequest) as caught:
        read_body(raw)
    assert caught.value.code == code


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InvalidRequest, match="Missing required parameter: 'messages'") as caught:
        require("messages", None)
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("a b", ["a b"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], ["1 2"]),
        ([[1, 2], [3]], ["1 2", "3"]),
        ([{"role": "user", "content": "x"}, "y"], ["x", "y"]),
        ([7, "y"], ["7", "y"]),
    ],
)
def test_embedding_inputs_are_one_text_for_each_vector(given: object, texts: list[str]) -> None:
    assert embedding_inputs(body(input=given)) == texts


def test_an_empty_batch_of_embeddings_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="not empty"):
        embedding_inputs(body(input=[]))
