"""The choice of a reader."""

import pytest

from gateway.core.exchange import Dialect, Operation
from gateway.wire.anthropic_stream import AnthropicStream
from gateway.wire.openai_stream import OpenAIStream
from gateway.wire.plain_stream import PlainStream
from gateway.wire.responses_stream import ResponsesStream
from gateway.wire.stream_reader import StreamReader, reader_for


@pytest.mark.parametrize(
    ("dialect", "operation", "kind"),
    [
        ("openai", "chat", OpenAIStream),
        ("openai", "text_completion", OpenAIStream),
        ("openai", "responses", ResponsesStream),
        ("openai", "relay", PlainStream),
        ("openai", "embeddings", PlainStream),
        ("anthropic", "messages", AnthropicStream),
        ("anthropic", "relay", PlainStream),
    ],
)
def test_a_reader_fits_dialect_and_operation(dialect: Dialect, operation: Operation, kind: type) -> None:
    reader: StreamReader = reader_for(dialect, operation, prompt_bytes=10, strip_usage=False)
    assert type(reader) is kind
    assert not reader.begun
    assert not reader.complete
    assert reader.error is None
