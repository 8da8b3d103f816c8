"""What is to be sent for one call, before it meets a socket."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.core.exchange import Dialect
from gateway.mock.directives import Directives

Lines = Sequence[tuple[bytes, bytes]]


@dataclass(slots=True)
class MockRequest:
    """One request as it was read from the socket. `repr` shows no header and no body."""

    method: str
    target: bytes
    """The request target as received, with its query."""
    headers: list[tuple[bytes, bytes]] = field(repr=False)
    """Names and values as received, in order."""
    body: bytes = field(repr=False)
    keep_alive: bool
    is_http_10: bool = False

    def header(self, name: bytes) -> bytes | None:
        """The first value of the header `name` (lower case), None without one."""
        for key, value in self.headers:
            if len(key) == len(name) and key.lower() == name:
                return value
        return None


class Grammar(Protocol):
    """How one dialect puts an answer into frames. Frames are complete SSE frames (or raw bytes)."""

    def opening(self) -> list[bytes]:
        """Frames before the first token; may be empty. Called once, before `piece` and `closing`."""
        ...

    def piece(self, text: bytes) -> bytes:
        """The frame of one token, whose text is already escaped for JSON."""
        ...

    def closing(self) -> list[bytes]:
        """Frames after the last token, as the directives want them."""
        ...

    def error(self, status: int) -> bytes:
        """The frame by which a provider breaks off a stream, with the error type of `status`."""
        ...


@dataclass(slots=True)
class Stream:
    """An answer that goes out token by token."""

    grammar: Grammar
    pieces: Sequence[bytes]
    tokens_per_piece: int = 1
    is_event_stream: bool = True


@dataclass(slots=True)
class Plan:
    """One answer: a status, headers, and either a complete body or a stream."""

    status: int
    content_type: bytes
    body: bytes = field(default=b"", repr=False)
    stream: Stream | None = None
    tokens: int = 0
    """Tokens in `body`."""
    dialect: Dialect = "openai"
    directives: Directives = field(default_factory=Directives)
    lines: Lines = ()
    """Headers beside those that every answer has."""
    vendor_lines: bytes = b""
    """What the provider puts on every answer, ready for the wire."""
    model: str | None = None
    """The model as the request named it, directives included."""
    number: int = 0
    """The call's number, of which its ids are made."""
    is_logged: bool = True
