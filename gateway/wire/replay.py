"""Stored replies and the two ways of telling them: whole, and as a stream of the client's dialect.

A reply is stored whole, whichever way it came, so one entry answers clients of both kinds. Told as a
stream it has the provider's own grammar, with its texts in pieces of a few thousand characters; told
whole it is the provider's body, or what its stream came to. What has a shape that is not known well
enough is not stored at all: a reply must never lose a part by being told again.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway.core.errors import GatewayError
from gateway.core.exchange import Dialect, ErrorEvent, Operation, Usage
from gateway.wire.replay_anthropic import AnthropicCollector, anthropic_stream, anthropic_traits
from gateway.wire.replay_chat import ChatCollector, chat_stream, chat_traits
from gateway.wire.replay_parts import Unfit, array, decode, obj
from gateway.wire.replay_responses import ResponsesCollector, responses_stream, responses_traits
from gateway.wire.replay_text import said
from gateway.wire.stream_reader import reader_for


class Collector(Protocol):
    """Puts a stream together while it passes."""

    def feed(self, block: bytes) -> None:
        """Take complete frames, as the client got them. Never fails."""
        ...

    def body(self, usage: Usage) -> bytes | None:
        """The whole reply, once the stream is over; None when it is not complete, or not known well enough.

        `usage` is what the gateway knows of it, for a stream that says none.
        """
        ...


class Replay:
    """The stored replies' grammar: all dialects and operations that can be stored."""

    def collector(self, dialect: Dialect, operation: Operation) -> Collector:
        """For a stream that is to be stored. For an operation that has no streams, one that gives nothing."""
        if dialect == "anthropic":
            return AnthropicCollector()
        if operation == "responses":
            return ResponsesCollector()
        return ChatCollector(is_chat=operation == "chat")

    def traits(self, dialect: Dialect, operation: Operation, body: bytes) -> frozenset[str]:
        """What decides whether a whole reply may be stored.

        `unknown` (it is not JSON, or has a shape that cannot be told again), `empty` (it says nothing),
        `refusal`, `tool_calls`, `hosted_tools` (the provider used tools of its own), `media`.
        """
        try:
            whole = obj(decode(body))
            if operation == "embeddings":
                return frozenset() if array(whole.get("data")) else frozenset({"empty"})
            if dialect == "anthropic":
                return frozenset(anthropic_traits(whole))
            if operation == "responses":
                return frozenset(responses_traits(whole))
            return frozenset(chat_traits(whole, is_chat=operation == "chat"))
        except (Unfit, msgspec.DecodeError, RecursionError):
            return frozenset({"unknown"})

    def text(self, dialect: Dialect, operation: Operation, body: bytes) -> str | None:
        """What a whole reply says; None when it has no text, or something besides."""
        return said(dialect, operation, body)

    def stream(
        self, dialect: Dialect, operation: Operation, body: bytes, *, include_usage: bool
    ) -> tuple[bytes, ErrorEvent] | None:
        """The frames of a stream that says what `body` does, to its end, and how to tell of an error inside it.

        None for an operation that has no streams, and for a body that was not fit to be stored.
        `include_usage`: whether the client asked for the usage chunk of OpenAI's chat and completions.
        """
        try:
            block = _tell(dialect, operation, body, include_usage)
        except (Unfit, msgspec.DecodeError, RecursionError):
            return None
        return None if block is None else (block, _error_event(dialect, operation, block))


def _tell(dialect: Dialect, operation: Operation, body: bytes, include_usage: bool) -> bytes | None:
    if operation == "embeddings":
        return None
    if dialect == "anthropic":
        return anthropic_stream(body)
    if operation == "responses":
        return responses_stream(body)
    return chat_stream(body, is_chat=operation == "chat", include_usage=include_usage)


def _error_event(dialect: Dialect, operation: Operation, block: bytes) -> Callable[[GatewayError, str], bytes]:
    def event(error: GatewayError, request_id: str) -> bytes:
        # Made only when it is needed: it has to know what has gone before.
        reader = reader_for(dialect, operation, prompt_bytes=0, strip_usage=False)
        reader.feed(block)
        return reader.error_event(error, request_id)

    return event
