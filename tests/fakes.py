"""Stand-ins for the gateway's own protocols: a clock, an upstream, a client, a fleet. No patching, no sockets."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from gateway.config.load import Loaded, Sources, load
from gateway.core.errors import GatewayError, Headers
from gateway.core.exchange import (
    Attempt,
    Consumer,
    Dialect,
    Exchange,
    Operation,
    Reply,
    Request,
    RequestHead,
    Trace,
)
from gateway.core.pipeline import Handler
from gateway.edge.desired import Desired
from gateway.edge.fleet import TargetState
from gateway.store.base import BudgetState, Crossing, Grant, Spend
from gateway.store.blobs import Receipt
from gateway.store.memory import MemoryStore
from gateway.telemetry.metrics import Registry
from gateway.telemetry.observe import Observer
from gateway.telemetry.otlp import TraceSettings
from gateway.telemetry.recent import Recent
from gateway.telemetry.snapshot import Snapshot
from gateway.telemetry.tracing import Tracer
from gateway.transport.base import PoolStats, Timeouts, UpstreamRequest

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"

MOCK_CONFIG = """\
apiVersion: gateway/v1
targets:
  mock: {provider: mock}
routes:
  - {model: demo, target: mock}
"""


class FakeClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, monotonic_s: float = 1000.0, wall_s: float = 1_700_000_000.0) -> None:
        self.monotonic_s = monotonic_s
        self.wall_s = wall_s

    def monotonic(self) -> float:
        """Seconds that `advance` has added to the start."""
        return self.monotonic_s

    def wall(self) -> float:
        """Unix seconds, moved by `advance` too."""
        return self.wall_s

    def advance(self, seconds: float) -> None:
        """Let both clocks go on."""
        self.monotonic_s += seconds
        self.wall_s += seconds


@dataclass
class FakeResponse:
    """An upstream's response: pieces given one at a time, then `fault` or a clean end.

    With `pushes` it calls its listener too: one piece each turn of the loop, as long as somebody listens.
    """

    status: int = 200
    headers: Headers = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    fault: BaseException | None = None
    http_version: str = "1.1"
    is_delimited: bool = True
    has_begun: bool = False
    closed: int = 0
    clock: FakeClock | None = None
    piece_takes_s: float = 0.0
    pushes: bool = False
    listener: Callable[[], None] | None = None
    _arrived: list[bytes] = field(default_factory=list)
    _is_over: bool = False

    async def read(self) -> bytes:
        """The next piece."""
        if self.clock is not None:
            self.clock.advance(self.piece_takes_s)
        if self.pieces:
            return self.pieces.pop(0)
        if self.fault is not None:
            raise self.fault
        return b""

    def whole(self, limit: int) -> bytes | None:
        """None, as long as something has to be waited for."""
        return None

    async def read_all(self, limit: int) -> bytes:
        """Everything that is left; the limit is the transport's own matter."""
        body = b""
        while piece := await self.read():
            body += piece
        assert len(body) <= limit
        return body

    def take(self) -> bytes | None:
        """The piece that has arrived by itself; nothing ever has without `pushes`."""
        if self._arrived:
            return self._arrived.pop(0)
        if not self._is_over:
            return None
        if self.fault is not None:
            raise self.fault
        return b""

    def listen(self, listener: Callable[[], None] | None) -> bool:
        """Remember `listener` and call it from the loop; not able to without `pushes`."""
        if not self.pushes:
            return False
        self.listener = listener
        if listener is not None:
            asyncio.get_running_loop().call_soon(self._arrive, listener)
        return True

    def _arrive(self, listener: Callable[[], None]) -> None:
        if self.listener is not listener:
            return
        if self.pieces:
            self._arrived.append(self.pieces.pop(0))
            asyncio.get_running_loop().call_soon(self._arrive, listener)
        else:
            self._is_over = True
        listener()

    def begin(self) -> None:
        """Note that it was called."""
        self.has_begun = True

    def close(self) -> None:
        """Count the calls."""
        self.closed += 1


class FakeUpstream:
    """Gives the same response, or raises the same fault, to every request; keeps the requests."""

    def __init__(
        self,
        response: FakeResponse | None = None,
        *,
        fault: BaseException | None = None,
        clock: FakeClock | None = None,
        opening_takes_s: float = 0.0,
        stats: PoolStats | None = None,
    ) -> None:
        self.response = response if response is not None else FakeResponse()
        self.requests: list[UpstreamRequest] = []
        self.timeouts: list[Timeouts] = []
        self.closed = 0
        self._fault = fault
        self._clock = clock
        self._opening_takes_s = opening_takes_s
        self._stats = stats if stats is not None else PoolStats(open=0, idle=0, in_use=0, waiting=0)

    async def open(self, request: UpstreamRequest, timeouts: Timeouts) -> FakeResponse:
        """The response, after `opening_takes_s` on the fake clock."""
        self.requests.append(request)
        self.timeouts.append(timeouts)
        if self._clock is not None:
            self._clock.advance(self._opening_takes_s)
        if self._fault is not None:
            raise self._fault
        return self.response

    def stats(self) -> PoolStats:
        """The counts it was made with."""
        return self._stats

    async def aclose(self) -> None:
        """Count the calls."""
        self.closed += 1


class Client:
    """A client and its connection: the body that it sends, and what was written to it."""

    def __init__(self, *messages: Mapping[str, Any]) -> None:
        self._messages = list(messages)
        self.sent: list[dict[str, Any]] = []
        self.aborted = 0
        self.has_unread_body = False
        self.is_congested = False
        self.on_gone: Any = None
        self.task: asyncio.Task[Any] | None = None

    @classmethod
    def sending(cls, *pieces: bytes) -> Self:
        """A client whose body comes in these pieces."""
        last = len(pieces) - 1
        return cls(*({"type": "http.request", "body": piece, "more_body": n < last} for n, piece in enumerate(pieces)))

    @property
    def cycle(self) -> Self:
        """Where the body is received from."""
        return self

    @property
    def active(self) -> Self:
        """The request that is being answered."""
        return self

    async def receive(self) -> dict[str, Any]:
        """The next message; after the last one the client is gone."""
        return dict(self._messages.pop(0)) if self._messages else {"type": "http.disconnect"}

    def whole_body(self) -> bytes | None:
        """The body when it came in one piece."""
        if len(self._messages) != 1 or self._messages[0].get("more_body"):
            return None
        body: bytes = self._messages.pop()["body"]
        return body

    def respond(self, status: int, headers: bytes, body: bytes, *, close: bool = False) -> None:
        """Keep a whole reply."""
        self.begin(status, headers, length=len(body), close=close)
        self.sent.append({"type": "body", "body": body})

    def begin(self, status: int, headers: bytes, *, length: int | None = None, close: bool = False) -> None:
        """Keep the head of a reply."""
        assert self.sent == [], "never two replies"
        assert headers == b"" or headers.endswith(b"\r\n")
        lines: Headers = [(line.split(b": ", 1)[0], line.split(b": ", 1)[1]) for line in headers.splitlines()]
        if length is not None:
            lines.append((b"content-length", b"%d" % length))
        if close:
            lines.append((b"connection", b"close"))
        self.sent.append({"type": "start", "status": status, "headers": lines, "more_body": True})

    def write(self, piece: bytes) -> bool:
        """Keep a piece, which must not be empty: in chunks that would be the end."""
        assert piece
        self.sent.append({"type": "body", "body": piece, "more_body": True})
        return self.is_congested

    def end(self) -> None:
        """Note the end."""
        self.sent.append({"type": "body", "body": b""})

    async def drained(self) -> None:
        """The client reads again at once."""
        self.is_congested = False

    def abort(self) -> None:
        """Count the calls."""
        self.aborted += 1

    @property
    def status(self) -> int:
        """The status of the one reply."""
        assert self.sent, "nothing was sent"
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The reply's headers; none may come twice."""
        headers: Headers = self.sent[0]["headers"]
        assert len({name for name, _ in headers}) == len(headers), headers
        return dict(headers)

    @property
    def body(self) -> bytes:
        """The reply's whole body."""
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def is_complete(self) -> bool:
        """Whether the reply was ended."""
        return bool(self.sent) and not self.sent[-1].get("more_body", False)


class FakeFleet:
    """A fleet of nothing: it remembers what it was told, and tells what it was given."""

    def __init__(self, *, is_ready: bool = True, snapshots: Iterable[Snapshot] = ()) -> None:
        self.is_ready = is_ready
        self.applied: list[Desired] = []
        self.requests: dict[str, dict[str, Any]] = {}
        self.states: dict[str, TargetState] = {}
        self.kept: list[dict[str, Any]] = []
        self.asked_for_evidence: list[tuple[str, str]] = []
        self.restored: list[str] = []
        self.granted: list[Grant] = []
        self.counters: list[BudgetState] = []
        self.totals: list[Spend] = []
        self.asked_for_days: list[tuple[str, str]] = []
        self.purged: list[str] = []
        self._snapshots = list(snapshots)

    async def apply(self, desired: Desired) -> None:
        """Remember it."""
        self.applied.append(desired)

    async def snapshots(self) -> list[Snapshot]:
        """What it was made with."""
        return self._snapshots

    async def targets(self) -> dict[str, TargetState]:
        """`states`."""
        return self.states

    async def find_request(self, request_id: str) -> dict[str, Any] | None:
        """One of `requests`."""
        return self.requests.get(request_id)

    async def evidence(self, kind: str, subject: str) -> list[dict[str, Any]]:
        """`kept`."""
        self.asked_for_evidence.append((kind, subject))
        return self.kept

    async def restore(self, target: str) -> None:
        """Remember it."""
        self.restored.append(target)

    async def budgets(self) -> list[BudgetState]:
        """`counters`."""
        return self.counters

    async def grant(self, grant: Grant) -> None:
        """Remember it."""
        self.granted.append(grant)

    async def spend(self, first_day: str, last_day: str) -> list[Spend]:
        """`totals`."""
        self.asked_for_days.append((first_day, last_day))
        return self.totals

    async def purge(self, scope: str) -> Receipt:
        """Remember it; `matched` is how often it was asked."""
        self.purged.append(scope)
        return Receipt(scope, len(self.purged), len(self.purged))


def memory_store(clock: FakeClock, crossings: list[Crossing] | None = None) -> MemoryStore:
    """A real store without a file, that tells `crossings`. It is not started: it does nothing by itself."""
    return MemoryStore(None, clock, (crossings if crossings is not None else []).append)


class Sightings:
    """Real telemetry that reaches nobody: a registry and the last requests, to look at."""

    def __init__(self, clock: FakeClock, *, routes: Iterable[str] = (), targets: Iterable[str] = ()) -> None:
        self.registry = Registry()
        self.registry.configure(routes, targets)
        self.recent = Recent()
        settings = TraceSettings(
            endpoint=None, sample=0.0, service_name="test", service_version="0", environment="test"
        )
        self.tracer = Tracer(settings, random.Random(7))
        self.observer = Observer(registry=self.registry, tracer=self.tracer, sink=None, recent=self.recent, clock=clock)


async def events_of(*pieces: bytes, fault: BaseException | None = None) -> AsyncIterator[bytes]:
    """A reply's events, and how they end."""
    for piece in pieces:
        yield piece
    if fault is not None:
        raise fault


def event_frame(error: GatewayError, request_id: str) -> bytes:
    """A made-up dialect's error event."""
    return f"event: error\ndata: {error.code} {request_id}\n\n".encode()


@dataclass
class Answering:
    """A handler with one reply; counts how often its scope was entered and left."""

    reply: Reply = field(default_factory=lambda: Reply(200, [], body=b"{}"))
    fault: BaseException | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    left: int = 0

    @property
    def handler(self) -> Handler:
        """The handler itself."""
        return self._answer

    @asynccontextmanager
    async def _answer(self, exchange: Exchange) -> AsyncIterator[Reply]:
        self.exchanges.append(exchange)
        try:
            if self.fault is not None:
                raise self.fault
            yield self.reply
        finally:
            self.left += 1


def request(
    *,
    operation: Operation = "chat",
    dialect: Dialect = "openai",
    suffix: str = "chat/completions",
    head: RequestHead | None = None,
    **changes: Any,
) -> Request:
    """A request with the fields that a test does not care about filled in."""
    given: dict[str, Any] = {
        "method": "POST",
        "path": f"/v1/{suffix}",
        "query": b"",
        "headers": [],
        "dialect": dialect,
        "operation": operation,
        "suffix": suffix,
        "head": head if head is not None else RequestHead(),
    }
    return Request(**(given | changes))


def exchange(asked: Request | None = None, *, attempts: int = 0, **changes: Any) -> Exchange:
    """An exchange begun at second 1000 of the fake clock, with this many attempts at `mock` begun."""
    given: dict[str, Any] = {
        "request": asked if asked is not None else request(),
        "request_id": "req-1",
        "trace": Trace(TRACE_ID, "00f067aa0ba902b7", sampled=False),
        "started_s": 1000.0,
        "received_s": 1000.0,
        "started_wall_s": 1_700_000_000.0,
        "config_revision": "abc123",
        "consumer": Consumer("tester"),
        "attempts": [Attempt(number + 1, "mock", b"00-trace-span-00", 1000.0) for number in range(attempts)],
    }
    return Exchange(**(given | changes))


def loaded(text: str = MOCK_CONFIG, environ: Mapping[str, str] | None = None) -> Loaded:
    """The configuration that a file with this text gives."""
    return load(Sources.of_text(text, environ))
