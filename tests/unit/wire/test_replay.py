"""Replies told whole and as streams, of every dialect; the mock's streams stand in for the providers'."""

import json
from typing import Any

import pytest

from gateway.core.errors import ShuttingDown
from gateway.core.exchange import Dialect, Operation, Usage
from gateway.mock.anthropic import AnthropicMessage
from gateway.mock.content import Content
from gateway.mock.directives import Directives
from gateway.mock.openai import Chat, Reckoning, TextCompletion
from gateway.mock.responses import Response
from gateway.wire.replay import Replay
from gateway.wire.stream_reader import reader_for

REPLAY = Replay()
CONTENT = Content((b"one", b" two"), "stop")
RECKONING = Reckoning(3, 2, Directives())
CASES: list[tuple[Dialect, Operation, Any]] = [
    ("openai", "chat", Chat(CONTENT, RECKONING, number=1, created=1, model="m", include_usage=True)),
    (
        "openai",
        "text_completion",
        TextCompletion(CONTENT, RECKONING, number=1, created=1, model="m", include_usage=True),
    ),
    ("openai", "responses", Response(CONTENT, RECKONING, number=1, created=1, model="m")),
    ("anthropic", "messages", AnthropicMessage(CONTENT, RECKONING, number=1, model="m")),
]


def stream_of(answer: Any) -> list[bytes]:
    """The frames of a mock's answer."""
    return [*answer.opening(), answer.piece(b"one"), answer.piece(b" two"), *answer.closing()]


def put_together(dialect: Dialect, operation: Operation, frames: list[bytes]) -> bytes | None:
    """The whole reply of a stream."""
    collector = REPLAY.collector(dialect, operation)
    for frame in frames:
        collector.feed(frame)
    return collector.body(Usage())


@pytest.mark.parametrize(("dialect", "operation", "answer"), CASES)
def test_a_stream_becomes_the_reply_that_the_provider_gives_whole(
    dialect: Dialect, operation: Operation, answer: Any
) -> None:
    body = put_together(dialect, operation, stream_of(answer))
    assert body is not None
    found, expected = json.loads(body), json.loads(answer.whole())
    if operation == "chat":
        # Nobody sends an empty list of annotations in a stream.
        del expected["choices"][0]["message"]["annotations"]
    assert found == expected
    assert REPLAY.traits(dialect, operation, body) == frozenset()


@pytest.mark.parametrize(("dialect", "operation", "answer"), CASES)
def test_a_whole_reply_becomes_a_stream_that_is_complete(dialect: Dialect, operation: Operation, answer: Any) -> None:
    told = REPLAY.stream(dialect, operation, answer.whole(), include_usage=True)
    assert told is not None
    reader = reader_for(dialect, operation, prompt_bytes=0, strip_usage=False)
    assert reader.feed(told[0]) == told[0]
    assert reader.complete
    assert (reader.usage.input_tokens, reader.usage.output_tokens) == (3, 2)


@pytest.mark.parametrize(("dialect", "operation", "answer"), CASES)
def test_a_stream_without_its_end_gives_nothing(dialect: Dialect, operation: Operation, answer: Any) -> None:
    """F117."""
    assert put_together(dialect, operation, stream_of(answer)[:-1]) is None


@pytest.mark.parametrize(("dialect", "operation", "answer"), CASES)
def test_an_error_amid_a_replay_is_told_in_its_dialect(dialect: Dialect, operation: Operation, answer: Any) -> None:
    told = REPLAY.stream(dialect, operation, answer.whole(), include_usage=False)
    assert told is not None
    event = told[1](ShuttingDown("The gateway stops."), "req-1")
    assert b"The gateway stops." in event
    assert event.endswith(b"\n\n")


@pytest.mark.parametrize(("dialect", "operation"), [(dialect, operation) for dialect, operation, _ in CASES])
def test_what_is_no_reply_is_unknown_and_cannot_be_told(dialect: Dialect, operation: Operation) -> None:
    deep = b"[" * 100_000
    for body in (b"", b"[]", b"{}", b"nonsense", b'{"error":{}}', deep):
        assert REPLAY.traits(dialect, operation, body) in (frozenset({"unknown"}), frozenset({"unknown", "empty"}))
    assert REPLAY.stream(dialect, operation, b"[]", include_usage=True) is None


def test_embeddings_are_stored_and_have_no_stream() -> None:
    body = b'{"object":"list","data":[{"embedding":[0.1]}]}'
    assert REPLAY.traits("openai", "embeddings", body) == frozenset()
    assert REPLAY.traits("openai", "embeddings", b'{"data":[]}') == {"empty"}
    assert REPLAY.stream("openai", "embeddings", body, include_usage=False) is None
    assert put_together("openai", "embeddings", [b"data: [DONE]\n\n"]) is None
