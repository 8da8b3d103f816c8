"""What stored replies say, as two of them are compared."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Dialect, Operation
from gateway.mock.anthropic import AnthropicMessage
from gateway.mock.content import Content
from gateway.mock.directives import Directives
from gateway.mock.openai import Chat, Reckoning
from gateway.mock.responses import Response
from gateway.wire.replay import Replay
from gateway.wire.replay_text import said

CONTENT = Content((b"one", b" two"), "stop")
RECKONING = Reckoning(3, 2, Directives())
FORMS: list[tuple[Dialect, Operation]] = [
    ("openai", "chat"),
    ("openai", "responses"),
    ("anthropic", "messages"),
    ("openai", "embeddings"),
]


def chat(*messages: dict[str, Any]) -> str | None:
    """What a chat with these messages as choices says."""
    return said("openai", "chat", json.dumps({"choices": [{"message": each} for each in messages]}).encode())


def message(*content: dict[str, Any]) -> str | None:
    """What a message of Anthropic's with these parts says."""
    return said("anthropic", "messages", json.dumps({"content": content}).encode())


def response(*output: dict[str, Any]) -> str | None:
    """What a response with these items says."""
    return said("openai", "responses", json.dumps({"output": output}).encode())


@pytest.mark.parametrize(
    ("dialect", "operation", "answer"),
    [
        ("openai", "chat", Chat(CONTENT, RECKONING, number=1, created=1, model="m", include_usage=True)),
        ("openai", "responses", Response(CONTENT, RECKONING, number=1, created=1, model="m")),
        ("anthropic", "messages", AnthropicMessage(CONTENT, RECKONING, number=1, model="m")),
    ],
)
def test_the_text_of_a_whole_reply(dialect: Dialect, operation: Operation, answer: Any) -> None:
    assert said(dialect, operation, answer.whole()) == "one two"
    assert Replay().text(dialect, operation, answer.whole()) == "one two"


def test_white_space_around_a_text_says_nothing() -> None:
    assert chat({"content": "\n one two "}) == "one two"


@pytest.mark.parametrize("content", ["", "  ", None, 5, [{"type": "text", "text": "a"}]])
def test_a_chat_without_a_text_says_nothing(content: object) -> None:
    assert chat({"content": content}) is None


def test_several_choices_or_none_have_no_one_text() -> None:
    assert chat({"content": "a"}, {"content": "a"}) is None
    assert chat() is None


@pytest.mark.parametrize("name", ["tool_calls", "function_call", "audio"])
def test_what_is_besides_a_text_cannot_be_compared(name: str) -> None:
    assert chat({"content": "a", name: [{"id": "x"}]}) is None
    assert chat({"content": "a", name: None}) == "a"


def test_what_a_model_thinks_is_not_what_it_says() -> None:
    thought = {"type": "thinking", "thinking": "hm"}, {"type": "redacted_thinking", "data": "x"}
    assert message(*thought, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}) == "ab"
    reasoning = {"type": "reasoning", "summary": []}
    said_so = {"type": "message", "content": [{"type": "output_text", "text": "a"}]}
    assert response(reasoning, said_so) == "a"
    assert message(*thought) is None
    assert response(reasoning) is None


def test_parts_of_other_kinds_cannot_be_compared() -> None:
    assert message({"type": "text", "text": "a"}, {"type": "tool_use", "id": "x"}) is None
    refusal = {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}
    assert response(refusal) is None
    assert response({"type": "function_call", "name": "f"}) is None


def test_operations_without_a_text_have_none() -> None:
    assert said("openai", "embeddings", b'{"data":[]}') is None
    assert said("openai", "text_completion", b'{"choices":[{"text":"a"}]}') is None


@pytest.mark.parametrize(("dialect", "operation"), FORMS)
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"5", b"{}", b'{"choices":5,"content":5,"output":5}', b"[" * 100_000]
)
def test_what_has_no_known_shape_has_no_text(dialect: Dialect, operation: Operation, body: bytes) -> None:
    assert said(dialect, operation, body) is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["text", "message", "output_text", "reasoning"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "output", "type", "text", "tool_calls"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(_json, st.sampled_from(FORMS))
def test_no_shape_is_an_error(value: object, form: tuple[Dialect, Operation]) -> None:
    found = said(*form, json.dumps(value).encode())
    assert found is None or found == found.strip() != ""
