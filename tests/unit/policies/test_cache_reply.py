"""A stored reply on its way to a client."""

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.exchange import Exchange, RequestHead, Usage
from gateway.policies.cache_reply import stored_reply
from gateway.store.blobs import Entry
from gateway.wire.replay import Replay
from gateway.wire.stream_reader import reader_for
from tests.fakes import exchange, request

FORMS = Replay()
BODY = (
    b'{"id":"c1","object":"chat.completion","created":1,"model":"gpt-4.1","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Hi."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
)
ENTRY = Entry(
    BODY, b"application/json", 1000.0, 60.0, "gpt", "gpt-4.1", "c1", ("stop",), 3, 2, 900, "checkout", "req-0", (), ()
)


def asking(*, stream: bool = False, include_usage: bool = False, **changes: Any) -> Exchange:
    """A client that asks again."""
    head = RequestHead(model="m", stream=stream, include_usage=include_usage)
    return exchange(request(head=head, **changes))


def test_a_client_that_wants_it_whole_gets_the_providers_body() -> None:
    again = asking()
    reply = stored_reply(again, ENTRY, FORMS, 1012.9)
    assert reply is not None
    assert (reply.status, reply.body) == (200, BODY)
    assert reply.headers == [(b"content-type", b"application/json"), (b"age", b"12")]


def test_the_exchange_is_told_whose_reply_it_is_and_that_nothing_was_spent() -> None:
    again = asking()
    reply = stored_reply(again, ENTRY, FORMS, 1000.0)
    assert reply is not None
    assert (again.cache, again.target, again.model_served) == ("hit", "gpt", "gpt-4.1")
    assert (again.response_id, again.finish_reasons) == ("c1", ["stop"])
    assert (again.cost_nusd, again.usage, reply.usage, again.attempts) == (0, Usage(), Usage(), [])


def test_a_semantic_hit_says_so() -> None:
    again = asking()
    assert stored_reply(again, ENTRY, FORMS, 1000.0, "semantic") is not None
    assert again.cache == "semantic"


@pytest.mark.anyio
@pytest.mark.parametrize("include_usage", [True, False])
async def test_a_client_that_wants_a_stream_gets_one_to_its_end(include_usage: bool) -> None:
    reply = stored_reply(asking(stream=True, include_usage=include_usage), ENTRY, FORMS, 1000.0)
    assert reply is not None
    assert reply.headers[0] == (b"content-type", b"text/event-stream")
    assert reply.is_event_stream
    assert reply.events is not None
    reader = reader_for("openai", "chat", prompt_bytes=0, strip_usage=False)
    blocks = [block async for block in reply.events]
    for block in blocks:
        assert reader.feed(block)
    assert reader.complete
    assert reader.finish() == b""
    assert reader.usage.output_tokens == (2 if include_usage else None)
    assert [block async for block in reply.events] == []


def test_embeddings_are_whole_whatever_is_asked() -> None:
    again = asking(stream=True, operation="embeddings")
    reply = stored_reply(again, ENTRY, FORMS, 1000.0)
    assert reply is not None
    assert reply.body == BODY


def test_an_entry_that_cannot_be_told_as_a_stream_is_none() -> None:
    again = asking(stream=True)
    broken = replace(ENTRY, body=b"[]")
    assert stored_reply(again, broken, FORMS, 1000.0) is None
    assert (again.cache, again.target) == ("bypass", None)
