"""What a provider keeps stays with the target that made it: responses, conversations, files, batches.

Theory of operation. An id that a target hands out means something to that target alone. So the ids in
replies are remembered with the target they came from, and an exchange that names one goes there, past
every split, and is pinned, so that no fallback takes it elsewhere. An id that is not known takes the
ordinary way: it may be older than this process, and the first target is as good a guess as any.

Ids are learned only from members of a reply where providers put their own (`id`, `output_file_id`, …,
`data[].id`), at their exact place: metadata or file names that a client chose must not be able to lead
another client's ids astray. On the way in they are searched in the body's bytes: to name an id
somewhere else than its place leads at most to the target that made it.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Protocol

import msgspec

from gateway.core.clock import Clock
from gateway.core.errors import NoHealthyTarget
from gateway.core.exchange import Exchange, Reply, Request
from gateway.core.pipeline import Handler

MAX_ID_CHARS = 256
MAX_REPLY_BYTES = 64 * 1024
"""A relayed reply larger than this is content, not the description of something that was made."""

_SEARCHED_BYTES = 1024 * 1024
_RETRY_AFTER_S = 5.0
_STR = rb'"([^"\\\x00-\x1f]{1,256})"'
_SPACE = rb"[ \t\r\n]*+"
# In the order in which they decide. Group 1, or 2, is the id.
_NAMED: tuple[tuple[bytes, re.Pattern[bytes]], ...] = tuple(
    (b'"%b"' % name, re.compile(rb'"%b"%b:%b%b' % (name, _SPACE, _SPACE, value)))
    for name, value in (
        (b"previous_response_id", _STR),
        (b"conversation", rb"(?:%b|\{[^{}]*?\"id\"%b:%b%b)" % (_STR, _SPACE, _SPACE, _STR)),
        (b"input_file_id", _STR),
        (b"file_id", _STR),
    )
)
# The first segment of relayed paths whose replies describe what is kept.
_KEPT = frozenset(
    {"files", "uploads", "batches", "responses", "conversations", "vector_stores", "containers", "videos"}
    | {"fine_tuning"}
)
_FILE_ID = b'"file_id"'
_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Made(msgspec.Struct):
    # No `input_file_id`: that one the client named, and a provider may repeat it unchecked.
    id: Any = None
    output_file_id: Any = None
    error_file_id: Any = None
    file: Any = None
    data: Any = None


_decode_made = msgspec.json.Decoder(_Made).decode


class Memory(Protocol):
    """Which target made what. May forget; must not fail: what it cannot tell now it does not know."""

    async def get(self, made_id: str) -> str | None:
        """The target that made this, if that is known."""
        ...

    def put(self, made_id: str, target: str) -> None:
        """Remember it; without waiting, so that a reply's end waits for nothing."""
        ...


class LocalMemory:
    """The last things made, in this process. About 300 bytes each."""

    __slots__ = ("_capacity", "_clock", "_entries", "_ttl_s")

    def __init__(self, clock: Clock, *, capacity: int, ttl_s: float) -> None:
        self._clock = clock
        self._capacity = capacity
        self._ttl_s = ttl_s
        self._entries: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many are remembered, those out of date included."""
        return len(self._entries)

    async def get(self, made_id: str) -> str | None:
        """The target that made this; being asked for keeps it from being the next to be forgotten, not from its end."""
        entry = self._entries.get(made_id)
        if entry is None:
            return None
        target, until_s = entry
        if until_s <= self._clock.monotonic():
            del self._entries[made_id]
            return None
        self._entries.move_to_end(made_id)
        return target

    def put(self, made_id: str, target: str) -> None:
        """Remember it for `ttl_s`; the one longest unused makes room."""
        self._entries[made_id] = (target, self._clock.monotonic() + self._ttl_s)
        self._entries.move_to_end(made_id)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)


class Affinity:
    """Sends an exchange that names something a target made to that target.

    Above the yield: the id is looked up, and the exchange pinned to its target. At it: nothing, but for
    a relayed reply that comes in pieces, of which up to 64 KiB are read along. Below it: what the reply
    says was made is remembered. Chat without a file's id in it passes by at the cost of a byte search.
    """

    def __init__(self, arms: Mapping[str, Handler | None], memory: Memory) -> None:
        """`arms`: the way to each target of the route, fallbacks included, past splits; None: out of service."""
        self._arms = arms
        self._memory = memory

    def __call__(self, exchange: Exchange, call_next: Handler) -> AbstractAsyncContextManager[Reply]:
        """The reply of the target that made what is named, else of `call_next`."""
        request = exchange.request
        operation = request.operation
        if operation in ("responses", "relay") or (operation == "chat" and _FILE_ID in request.body):
            return _Scope(self._arms, self._memory, exchange, call_next)
        return call_next(exchange)


class _Scope:
    __slots__ = ("_arms", "_body", "_call_next", "_exchange", "_inner", "_memory", "_pieces", "_seen_bytes")

    def __init__(
        self, arms: Mapping[str, Handler | None], memory: Memory, exchange: Exchange, call_next: Handler
    ) -> None:
        self._arms = arms
        self._memory = memory
        self._exchange = exchange
        self._call_next = call_next
        self._body: bytes | None = None
        self._pieces: list[bytes] = []
        self._seen_bytes = 0

    async def __aenter__(self) -> Reply:
        handler = self._call_next
        if self._exchange.pinned_target is None:
            handler = await self._way()
        self._inner = handler(self._exchange)
        reply = await self._inner.__aenter__()
        if reply.status < 300 and self._exchange.request.suffix.partition("/")[0] in _KEPT:
            if reply.body is not None:
                self._body = reply.body
            elif not reply.is_event_stream and _is_json(reply):
                reply.watch(self._collect)
        return reply

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._inner.__aexit__(kind, error, traceback)
        finally:
            self._remember()

    async def _way(self) -> Handler:
        exchange = self._exchange
        for kind, made_id in named(exchange.request):
            target = await self._memory.get(made_id)
            if target is None:
                continue
            if target not in self._arms:
                exchange.decide("affinity", f"{kind} was made by {target}, which is no target of this route")
                continue
            arm = self._arms[target]
            if arm is None:
                raise NoHealthyTarget(
                    f"What {kind} names is kept by target {target}, which is out of service.",
                    retry_after_s=_RETRY_AFTER_S,
                )
            exchange.decide("affinity", f"{target} made what {kind} names")
            exchange.pinned_target = target
            return arm
        return self._call_next

    def _collect(self, piece: bytes) -> None:
        self._seen_bytes += len(piece)
        if self._seen_bytes <= MAX_REPLY_BYTES:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def _remember(self) -> None:
        exchange = self._exchange
        target = exchange.target
        if target is None:
            return
        operation = exchange.request.operation
        if operation == "responses":
            if exchange.response_id is not None and len(exchange.response_id) <= MAX_ID_CHARS:
                self._memory.put(exchange.response_id, target)
            return
        if operation != "relay":
            return
        body = self._body if self._body is not None else b"".join(self._pieces)
        if len(body) <= MAX_REPLY_BYTES:
            for made_id in made(body):
                self._memory.put(made_id, target)


def named(request: Request) -> list[tuple[str, str]]:
    """The ids that a request names, with where it does so, the most binding first. Usually none."""
    found = []
    if request.operation == "relay":
        # files/ID, batches/ID/cancel, conversations/ID/items/ID; fine_tuning/jobs/ID.
        segments = request.suffix.split("/")
        place = 2 if segments[0] == "fine_tuning" else 1
        if len(segments) > place:
            found.append(("the path", segments[place]))
    body = request.body
    for name, pattern in _NAMED:
        # A member that comes late in a large body stands behind its input: in the last bytes.
        at = body.find(name, 0, _SEARCHED_BYTES)
        if at < 0 and len(body) > _SEARCHED_BYTES:
            at = body.find(name, len(body) - MAX_REPLY_BYTES)
        match = pattern.search(body, at, at + _SEARCHED_BYTES) if at >= 0 else None
        if match is not None:
            value: bytes = match[1] or match[match.lastindex or 1]
            found.append((name.decode().strip('"'), value.decode("utf-8", "replace")))
    return found


def made(body: bytes) -> list[str]:
    """The ids of what a relayed reply describes: one thing, or a list of them. None if it is no such JSON."""
    if not body.lstrip().startswith(b"{"):
        return []
    try:
        reply = _decode_made(body)
    except _ERRORS:
        return []
    ids = [reply.id, reply.output_file_id, reply.error_file_id, *_inner_ids([reply.file])]
    if isinstance(reply.data, list):
        ids += _inner_ids(reply.data)
    return [each for each in ids if isinstance(each, str) and 0 < len(each) <= MAX_ID_CHARS]


def _inner_ids(things: Iterable[object]) -> list[object]:
    return [thing.get("id") for thing in things if isinstance(thing, dict)]


def _is_json(reply: Reply) -> bool:
    return any(name == b"content-type" and value.startswith(b"application/json") for name, value in reply.headers)
