"""What the cache's table asks of requests, replies and texts."""

from typing import Any

import pytest

from gateway.core.exchange import Operation, RequestHead
from gateway.policies.cache_checks import (
    Answered,
    Asked,
    Terms,
    has_hosted_tools,
    has_media,
    is_deictic,
    is_filtered,
    is_foreign,
    is_hot,
    is_many,
    is_stateful,
    is_timed,
    is_unfinished,
)
from tests.fakes import request


def asked(operation: Operation = "chat", head: RequestHead | None = None, **values: Any) -> Asked:
    """A request with these members."""
    return Asked(request(operation=operation, head=head), values, Terms())


def chat(*content: Any) -> Asked:
    """A chat whose one message has these parts."""
    return asked(messages=[{"role": "user", "content": list(content)}])


TEXT = {"type": "text", "text": "a"}


@pytest.mark.parametrize(
    "case",
    [
        chat({"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}),
        chat(TEXT, {"type": "input_audio"}),
        chat({"type": "file", "file": {"file_id": "f"}}),
        chat({"type": "document"}),
        chat({"type": "novelty"}),
        chat({"type": {}}),
        chat({}),
        chat(1),
        chat({"type": "tool_result", "content": [TEXT, {"type": "image"}]}),
        asked(messages=[{"role": "assistant", "content": None, "audio": {"id": "a"}}]),
        asked(audio={"voice": "alloy"}),
        asked(modalities=["text", "audio"]),
        asked("responses", input=[{"role": "user", "content": [{"type": "input_image"}]}]),
        asked("responses", input=[{"type": "function_call_output", "output": [{"type": "input_image"}]}]),
        asked("responses", input=[{"type": "image_generation_call"}]),
        asked("responses", input=[1]),
    ],
)
def test_what_is_not_text_is_media(case: Asked) -> None:
    assert has_media(case)


@pytest.mark.parametrize(
    "case",
    [
        chat(TEXT, "a"),
        chat({"type": "tool_result", "content": "a"}, {"type": "tool_use"}, {"type": "thinking"}),
        asked(messages="a"),
        asked(messages=["a", {"role": "user", "content": "image_url"}]),
        asked(modalities=["text"], audio=None),
        asked("responses", input="a"),
        asked("responses", input=[{"role": "user", "content": [{"type": "input_text"}]}, {"type": "reasoning"}]),
        asked("embeddings", input=["a"]),
        asked("text_completion", prompt="a"),
    ],
)
def test_text_is_not(case: Asked) -> None:
    assert not has_media(case)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (asked(), False),
        (asked(tools=[]), False),
        (asked(tools=[{"type": "function"}, {"name": "f"}, {"type": "custom"}]), False),
        (asked(tools=[{"type": "web_search"}]), True),
        (asked(tools=[{"type": ["function"]}]), True),
        (asked(tools=["f"]), True),
        (asked(tools={"type": "function"}), True),
        (asked(web_search_options={}), True),
        (asked(mcp_servers=[{}]), True),
        (asked(mcp_servers=None), False),
    ],
)
def test_tools_that_the_provider_runs(case: Asked, expected: bool) -> None:
    assert has_hosted_tools(case) is expected


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (asked(), False),
        (asked(store=False), False),
        (asked(store=True), True),
        (asked(previous_response_id="r"), True),
        (asked("responses", store=False), False),
        (asked("responses"), True),
        (asked("responses", store=None), True),
        (asked("responses", store=False, background=True), True),
        (asked("responses", store=False, conversation={"id": "c"}), True),
        (asked("responses", store=False, prompt={"id": "p"}), True),
        (asked("responses", store=False, input=[{"type": "item_reference", "id": "i"}]), True),
    ],
)
def test_what_the_provider_keeps(case: Asked, expected: bool) -> None:
    assert is_stateful(case) is expected


def test_several_answers() -> None:
    assert is_many(asked(head=RequestHead(n=2)))
    assert is_many(asked(best_of=2))
    assert not is_many(asked(best_of=1, head=RequestHead(n=1)))
    assert not is_many(asked(best_of=[2]))


def test_variety() -> None:
    assert is_hot(asked(head=RequestHead(temperature=1.01)))
    assert not is_hot(asked(head=RequestHead(temperature=1.0)))
    assert not is_hot(asked(head=RequestHead()))


def answered(*reasons: str, operation: Operation = "chat", terms: Terms | None = None) -> Answered:
    """A reply that ended so."""
    return Answered(200, b"{}", frozenset(), reasons, operation, True, terms if terms is not None else Terms())


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (answered("stop"), False),
        (answered("STOP"), False),
        (answered("end_turn"), False),
        (answered("completed"), False),
        (answered(), True),
        (answered("length"), True),
        (answered("max_tokens"), True),
        (answered("pause_turn"), True),
        (answered("novelty"), True),
        (answered("stop", "length"), True),
        (answered("tool_calls"), True),
        (answered("tool_calls", terms=Terms(tool_calls=True)), False),
        (answered("length", terms=Terms(tool_calls=True)), True),
        (answered(operation="embeddings"), False),
    ],
)
def test_ends_that_are_none(case: Answered, expected: bool) -> None:
    assert is_unfinished(case) is expected


def test_filters() -> None:
    assert is_filtered(("stop", "CONTENT_FILTER"))
    assert is_filtered(("refusal",))
    assert not is_filtered(("stop",))


@pytest.mark.parametrize(
    "text",
    [
        "What does this mean?",
        "Translate the text above.",
        "And in Paris?",
        "Is it true?",
        "why did she leave",
        "What is that?",
        "Summarise the following",
        "no, the other way round",
        "say the same in French",
    ],
)
def test_words_that_point_elsewhere(text: str) -> None:
    assert is_deictic(text)


@pytest.mark.parametrize(
    "text",
    [
        "What is a monad and how does it work?",
        "Write a function that sorts a list.",
        "How do I reset my password?",
        "Which country has the largest population?",
        "Android phones under 300 euros",
    ],
)
def test_words_that_stand_by_themselves(text: str) -> None:
    assert not is_deictic(text)
    assert not is_timed(text)


@pytest.mark.parametrize(
    "text",
    [
        "Who is the president now?",
        "What's the latest version of Python?",
        "What happened last week?",
        "the weather in Paris",
        "what time is dinner",
        "sales in the past 3 months",
        "Yesterday's results",
    ],
)
def test_words_bound_to_their_moment(text: str) -> None:
    assert is_timed(text)


def test_letters_that_are_not_latin() -> None:
    assert is_foreign("Как сбросить пароль?")
    assert is_foreign("パスワード")
    assert not is_foreign("Where is the Café de Flore in Paris?")
    assert not is_foreign("plain")
