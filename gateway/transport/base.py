"""What the gateway asks of a connection to a provider: one request out, one response in, every wait bounded."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from gateway.core.errors import Headers


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an upstream lives: `http` or `https`, a host name or address (IPv6 without brackets), a port."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> bytes:
        """The value of the `host` header: the port only when it is not the scheme's own (RFC 9110, 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default_port = 443 if self.scheme == "https" else 80
        return (host if self.port == default_port else f"{host}:{self.port}").encode("ascii")


class UpstreamRequest(Struct, frozen=True):
    """One request as it goes on the wire. It is sent at most once, whatever happens.

    `target` is path and query, already encoded. `headers` come without `host`, `content-length`,
    `transfer-encoding` and `connection`: framing belongs to the transport. A `body` given as an
    iterator is read once, at the pace of the upstream.
    """

    method: bytes
    target: bytes
    headers: Headers
    body: bytes | AsyncIterator[bytes] = b""
    content_length: int | None = None
    """Of an iterator, when known; without it the body is sent in chunks."""

    def __repr__(self) -> str:
        return f"UpstreamRequest({self.method!r}, {self.target!r}, ***)"


class Timeouts(Struct, frozen=True):
    """How long each part may take."""

    connect_s: float
    """For a free connection, name resolution, TCP and TLS together."""
    first_event_s: float | None
    """From the moment the request is sent until `UpstreamResponse.begin`."""
    idle_s: float
    """Silence while somebody waits for the next piece, after `begin`; also while an upload makes no progress."""
    deadline_s: float | None
    """Absolute, on the monotonic clock; over everything."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """Connections of one upstream, now."""

    open: int
    """Connected or connecting: `idle` + `in_use`."""
    idle: int
    in_use: int
    waiting: int
    """Requests that wait for a free connection."""


class UpstreamResponse(Protocol):
    """A response whose head has arrived. One reader; `close` it always."""

    @property
    def status(self) -> int:
        """HTTP status, 200 or above."""
        ...

    @property
    def headers(self) -> Headers:
        """Names in lower case, in the order they came, duplicates kept."""
        ...

    @property
    def http_version(self) -> str:
        """`1.0`, `1.1` or `2`."""
        ...

    @property
    def is_delimited(self) -> bool:
        """Whether a cut would be noticed. False when only the end of the connection ends the body."""
        ...

    async def read(self) -> bytes:
        """All that has arrived since the last piece; `b""` at the clean end, and again after it.

        Raises UpstreamTimeout, UpstreamTruncated (reset, or EOF before the declared end) and
        UpstreamError (not HTTP). Pieces that arrived before a fault are given first.
        """
        ...

    async def read_all(self, limit: int) -> bytes:
        """The rest of the body. Raises as `read`, and UpstreamError above `limit` bytes."""
        ...

    def whole(self, limit: int) -> bytes | None:
        """What `read_all` would give now without waiting; None when `read_all` has to be asked."""
        ...

    def take(self) -> bytes | None:
        """What `read` would give now; None when it would have to wait. Raises as `read`."""
        ...

    def listen(self, listener: Callable[[], None] | None) -> bool:
        """Have `listener` called whenever there may be something to take; None ends it. False: not able to.

        It saves the future and the turn of a task that every `read` costs. One reader all the same:
        nobody may wait in `read` meanwhile.
        """
        ...

    def begin(self) -> None:
        """Note that the first event was seen: from now on `idle_s` applies, not `first_event_s`."""
        ...

    def close(self) -> None:
        """Give the connection back, at once and as often as wanted.

        A connection whose exchange is complete is kept for the next request; any other is aborted,
        so that the upstream stops working within milliseconds.
        """
        ...


class Upstream(Protocol):
    """A way to one provider's server."""

    async def open(self, request: UpstreamRequest, timeouts: Timeouts) -> UpstreamResponse:
        """The response to `request`, as soon as its head is there. 1xx heads are skipped. Never retries.

        Raises UpstreamConnectError (nothing was sent), UpstreamTimeout (`connect`, `first_token`,
        `idle`, `total`), Overloaded (no free connection within `connect_s`, or too many wait
        already), UpstreamTruncated (closed before a head: it may have acted on the request) and
        UpstreamError (not HTTP).
        """
        ...

    def stats(self) -> PoolStats:
        """Counts of its connections."""
        ...

    async def aclose(self) -> None:
        """Close every connection, those in use too; what waits or reads fails with an UpstreamFault."""
        ...
