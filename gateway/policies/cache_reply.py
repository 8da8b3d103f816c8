"""A stored reply on its way to a client who asked again."""

from collections.abc import AsyncIterator
from typing import Literal, Protocol

from gateway.core.exchange import Dialect, ErrorEvent, Exchange, Operation, Reply, Usage
from gateway.store.blobs import Entry


class Collector(Protocol):
    """Puts a stream together while it passes. `gateway.wire.replay` has them."""

    def feed(self, block: bytes) -> None:
        """Take complete frames, as the client got them. Never fails."""
        ...

    def body(self, usage: Usage) -> bytes | None:
        """The whole reply, once the stream is over; None when it is not complete, or not known well enough."""
        ...


class Forms(Protocol):
    """The two ways of telling a reply. `gateway.wire.replay.Replay` knows them."""

    def collector(self, dialect: Dialect, operation: Operation) -> Collector:
        """For a stream that is to be stored."""
        ...

    def traits(self, dialect: Dialect, operation: Operation, body: bytes) -> frozenset[str]:
        """What decides whether a whole reply may be stored."""
        ...

    def text(self, dialect: Dialect, operation: Operation, body: bytes) -> str | None:
        """What a whole reply says; None when it has no text, or something besides."""
        ...

    def stream(
        self, dialect: Dialect, operation: Operation, body: bytes, *, include_usage: bool
    ) -> tuple[bytes, ErrorEvent] | None:
        """The frames that say what `body` does, and how to tell of an error inside them; None where there are none."""
        ...


def stored_reply(
    exchange: Exchange, entry: Entry, forms: Forms, wall_s: float, cache: Literal["hit", "semantic"] = "hit"
) -> Reply | None:
    """The reply that says what `entry` does, in the form that the client asked for; `exchange` is told so.

    Nothing was spent, so `exchange.usage` stays empty and its cost is 0, whatever the reply reports as the tokens
    that it once took. None when a stream is wanted and the entry cannot be told as one.
    """
    request = exchange.request
    age = (b"age", b"%d" % entry.age_s(wall_s))
    reply: Reply | None = None
    if request.head.stream and request.operation != "embeddings":
        told = forms.stream(request.dialect, request.operation, entry.body, include_usage=request.head.include_usage)
        if told is None:
            return None
        headers = [(b"content-type", b"text/event-stream"), age]
        reply = Reply(200, headers, events=_Once(told[0]), error_event=told[1])
    else:
        reply = Reply(200, [(b"content-type", entry.content_type), age], body=entry.body)
    exchange.cache = cache
    exchange.target = entry.target
    exchange.model_served = entry.model_served
    exchange.response_id = entry.response_id
    exchange.finish_reasons = list(entry.finish_reasons)
    exchange.cost_nusd = 0
    return reply


class _Once(AsyncIterator[bytes]):
    """A stream that is there at once."""

    __slots__ = ("_block",)

    def __init__(self, block: bytes) -> None:
        self._block = block

    async def __anext__(self) -> bytes:
        block, self._block = self._block, b""
        if not block:
            raise StopAsyncIteration
        return block
