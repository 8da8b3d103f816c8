"""How far two replies are apart in what they say: kept while they pass, measured when both are over, then forgotten.

Routing knows neither dialects nor embeddings: what puts a stream together, what reads the text of a whole
reply and what measures are handed in. Nothing of a text is ever logged.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.core.exchange import Dialect, Operation, Reply, Request, Usage

MOST_BYTES = 64 * 1024
"""A reply that is larger, or comes to more when its stream is put together, is not kept."""
MOST_STREAM_BYTES = 2 * 1024 * 1024
"""A stream is not kept beyond this. A frame says a few characters in some hundred bytes, so little of it is kept."""

_TOLD: frozenset[Operation] = frozenset({"chat", "responses", "messages"})
"""What has one text for an answer; of other operations nothing is kept."""


class Collector(Protocol):
    """Puts a stream together while it passes; `gateway.wire.replay` has them."""

    def feed(self, block: bytes) -> None:
        """Take complete frames. Never fails."""
        ...

    def body(self, usage: Usage) -> bytes | None:
        """The whole reply, once the stream is over; None when it is not complete, or not known well enough."""
        ...


class Texts(Protocol):
    """Reads replies; `gateway.wire.replay.Replay`."""

    def collector(self, dialect: Dialect, operation: Operation) -> Collector:
        """For a stream."""
        ...

    def text(self, dialect: Dialect, operation: Operation, body: bytes) -> str | None:
        """What a whole reply says; None when it has no text, or something besides."""
        ...


Distance = Callable[[str, str], Awaitable[float | None]]
"""Two texts -> their cosine distance, 0 for the same; None when there is none in time. Bounds its own time."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """What two replies' texts are compared with."""

    texts: Texts
    distance: Distance

    def listen(self, request: Request, reply: Reply) -> "Heard | None":
        """Keeps what a primary says, `reply`, from now on; None where its text cannot be had, nor is needed."""
        if request.operation not in _TOLD:
            return None
        primary = Listener(self.texts, request.dialect, request.operation)
        primary.open(reply)
        if primary.is_empty:
            return None
        if reply.body is None:
            reply.watch(primary.feed)
        return Heard(primary, Listener(self.texts, request.dialect, request.operation), self.distance)


class Listener:
    """Keeps one reply, as long as it is short enough, until its text is asked for or it is told to forget."""

    __slots__ = ("_body", "_collector", "_dialect", "_left_bytes", "_operation", "_texts")

    def __init__(self, texts: Texts, dialect: Dialect, operation: Operation) -> None:
        self._texts = texts
        self._dialect: Dialect = dialect
        self._operation: Operation = operation
        self._left_bytes = MOST_STREAM_BYTES
        self._body: bytes | None = None
        self._collector: Collector | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it keeps nothing (any more)."""
        return self._body is None and self._collector is None

    def open(self, reply: Reply) -> None:
        """Begin to keep what has begun: its body, or a stream whose frames `feed` is to be given."""
        if reply.body is None:
            if reply.is_event_stream:
                self._collector = self._texts.collector(self._dialect, self._operation)
        elif len(reply.body) <= MOST_BYTES:
            self._body = reply.body

    def feed(self, block: bytes) -> None:
        """Take complete frames of the stream. Never fails."""
        if self._collector is None:
            return
        self._left_bytes -= len(block)
        if self._left_bytes < 0:
            self.forget()
        else:
            self._collector.feed(block)

    def forget(self) -> None:
        """Keep nothing any more."""
        self._body = self._collector = None

    def text(self) -> str | None:
        """What the reply has said, which is over now; once, for then it is forgotten. None: nothing that is known."""
        body, collector = self._body, self._collector
        self.forget()
        if collector is not None:
            # What it cost is no part of what it says.
            body = collector.body(Usage())
        if body is None or len(body) > MOST_BYTES:
            return None
        return self._texts.text(self._dialect, self._operation, body)


class Heard:
    """What a primary and its copy say. For the copy, whoever reads it must `open` and `feed`."""

    __slots__ = ("_distance", "copy", "primary")

    def __init__(self, primary: Listener, copy: Listener, distance: Distance) -> None:
        self.primary = primary
        self.copy = copy
        self._distance = distance

    def forget(self) -> None:
        """Keep nothing any more, and take nothing."""
        self.primary.forget()
        self.copy.forget()

    async def distance(self) -> float | None:
        """How far the two texts are apart, once both are over; then they are forgotten."""
        one, other = self.primary.text(), self.copy.text()
        if one is None or other is None:
            return None
        return await self._distance(one, other)
