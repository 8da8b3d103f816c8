"""What the mock remembers of its callers: `/__log` and `/__stats`."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

MAX_CALLS = 10_000


@dataclass(slots=True)
class Call:
    """One call, from its last byte in to its last byte out. Times are monotonic seconds."""

    id: int
    connection: int
    t: float
    method: str
    target: bytes
    headers: Iterable[tuple[bytes, bytes]] = field(repr=False)
    body_bytes: int
    body_sha256: str
    model: str | None = None
    stream: bool = False
    status: int | None = None
    """None until the status line is out."""
    tokens_sent: int = 0
    completed: bool = False
    """Whether the whole answer went out: no fault cut it, and the peer stayed."""
    t_completed: float | None = None
    closed_early: bool = False
    """Whether the peer closed before the answer was complete."""
    t_closed: float | None = None
    """When the peer closed the connection, if this was its last call."""

    def describe(self) -> dict[str, object]:
        """The call as `/__log` shows it: header names and values as received, no body."""
        path, _, query = self.target.decode("latin-1").partition("?")
        return {
            "id": self.id,
            "request_id": f"req_{self.id:024x}",
            "connection": self.connection,
            "t": self.t,
            "method": self.method,
            "path": path,
            "query": query,
            "model": self.model,
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in self.headers],
            "body_bytes": self.body_bytes,
            "body_sha256": self.body_sha256,
            "stream": self.stream,
            "status": self.status,
            "tokens_sent": self.tokens_sent,
            "completed": self.completed,
            "t_completed": self.t_completed,
            "closed_early": self.closed_early,
            "t_closed": self.t_closed,
        }


class CallLog:
    """The last 10,000 calls, oldest first."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque(maxlen=MAX_CALLS)

    def __len__(self) -> int:
        return len(self._calls)

    def append(self, call: Call) -> None:
        """Remember a call; the oldest is forgotten."""
        self._calls.append(call)

    def clear(self) -> None:
        """Forget all calls."""
        self._calls.clear()

    def entries(self) -> list[dict[str, object]]:
        """All calls as `/__log` shows them, for tests in the same process."""
        return [call.describe() for call in self._calls]

    def dump(self) -> bytes:
        """All calls as a JSON list."""
        return msgspec.json.encode(self.entries())


@dataclass(slots=True)
class Stats:
    """Counters that cost nothing to keep."""

    connections: int = 0
    """Open now."""
    connections_total: int = 0
    inflight: int = 0
    """Answers that are not over."""
    requests_total: int = 0
    completed_total: int = 0
    closed_early_total: int = 0
    tokens_total: int = 0

    def dump(self) -> bytes:
        """All counters as a JSON object."""
        return msgspec.json.encode(self)

    def reset(self) -> None:
        """Set the totals to 0; what is open or in flight stays."""
        self.connections_total = self.requests_total = self.completed_total = 0
        self.closed_early_total = self.tokens_total = 0
