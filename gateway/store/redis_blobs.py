"""Stored replies that a fleet shares, in Redis 6 or later.

Theory of operation. A connection of its own carries batches to one script (`cache.lua`), so that large
bodies hold up no limit and no budget. What is asked in one turn of the loop becomes one batch; while it
is under way the next one gathers. An operation that is not answered within the timeout counts as a miss,
and so does everything else until the connection is back: nothing is waited for, nothing is kept for
later, nothing fails. Every hit is one round trip that reads the body and its epochs, so a purge and a
time to live hold for every process from the moment that Redis has them.

    {gw}:cache:e:ID                         entry         hash: scopes and epochs, packed reply; ends by itself
    {gw}:cache:epochs                       epochs        hash: by scope, and when it began
    {gw}:cache:purged:ID                    epoch         of one entry, for an hour
    {gw}:cache:lease:ID                     lease         the process that asks the model
    {gw}:cache:used, :sizes, :bytes         room          what was used when, how large it is, all together

The cache takes no more than `max_bytes` there, and what was longest unused makes room. What has ended by
its own time counts until then, or until a purge comes by.
"""

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from importlib.resources import files
from random import Random
from typing import Any

import msgspec

from gateway.core.clock import Clock
from gateway.core.errors import StoreUnavailable
from gateway.core.pipeline import spawn
from gateway.store.blobs import MAX_LEASE_S, Entry, Found, Receipt
from gateway.store.connect import Opener, parse
from gateway.store.link import Link, Script, Unreachable
from gateway.store.redis import RedisSettings

logger = logging.getLogger(__name__)

MOST_FINDS = 16
"""Look-ups in a batch: each may bring a body of 1 MiB, and all of them must come within the timeout."""
MOST_BYTES = 2 * 1024 * 1024
"""Of bodies in a batch; one may be larger by itself."""
MOST_WAITING_BYTES = 16 * 1024 * 1024
"""Of bodies that wait for a batch; what comes above it is not stored."""
HEARTBEAT_S = 1.0
CONNECT_S = 1.0
SWEEP_S = 5.0
"""How long a purge may take to remove what it has ended."""
_SWEPT_AT_ONCE = 200
_FIRST_BACKOFF_S, _MOST_BACKOFF_S = 0.1, 2.0
_FIND, _PUT, _RELEASE, _BUMP, _SWEEP = 1, 2, 3, 4, 5
_HEAD_DIGITS = 8

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_unpack_entry = msgspec.msgpack.Decoder(Entry).decode


class _Errand:
    """One operation on its way."""

    __slots__ = ("blob", "future", "operation")

    def __init__(self, operation: tuple[Any, ...], blob: bytes, future: asyncio.Future[Any]) -> None:
        self.operation = operation
        self.blob = blob
        self.future = future


class RedisBlobs:
    """See Blobs. The constructor opens no connection; it raises ValueError for a URL that is none, not showing it."""

    def __init__(self, settings: RedisSettings, max_bytes: int, clock: Clock, rng: Random) -> None:
        key = "{" + settings.prefix + "}"
        self._link = Link(Opener(parse(settings.url), key, CONNECT_S), load_script(), key, settings.timeout_s)
        self._timeout_s = settings.timeout_s
        self._max_bytes = max_bytes
        self._clock = clock
        self._rng = rng
        self._owner = f"{rng.getrandbits(64):016x}"
        self._queue: list[_Errand] = []
        self._waiting_bytes = 0
        self._bell: asyncio.Event = asyncio.Event()
        self._tried = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self.is_up = False
        """Whether Redis answers."""
        self.last_error = ""
        """Why it did not, the last time; without credentials."""

    @property
    def is_shared(self) -> bool:
        """See Blobs. Always."""
        return True

    @property
    def size_bytes(self) -> int:
        """See Blobs: none are here but those on their way."""
        return self._waiting_bytes

    @property
    def round_trips(self) -> int:
        """Calls of the script."""
        return self._link.round_trips

    async def start(self) -> None:
        """Connect. Returns after the first attempt, whatever came of it."""
        self._work = spawn(self._run(), "cache-redis")
        await self._tried.wait()

    async def aclose(self) -> None:
        """Close the connection. What waits is not stored."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait((self._work,))
            self._work = None
        await self._link.aclose()

    async def find(self, key: bytes, scopes: tuple[str, ...], lease_s: float = 0.0) -> Found:
        """See Blobs. One round trip."""
        lease_ms = round(min(lease_s, MAX_LEASE_S) * 1000)
        answer = await self._ask((_FIND, key.hex(), scopes, lease_ms))
        if answer is None:
            return Found(None, None)
        blob, leads, epochs = answer
        if blob is None:
            return Found(None, tuple(epochs), leads)
        try:
            return Found(_unpack_entry(blob), tuple(epochs))
        except msgspec.MsgspecError:
            # Of a version that stores other things. Its epochs are of its own scopes.
            return Found(None, None)

    async def put(self, key: bytes, entry: Entry) -> bool:
        """See Blobs."""
        size_bytes = entry.size_bytes
        if self._waiting_bytes + size_bytes > MOST_WAITING_BYTES:
            await self.release(key)
            return False
        ttl_ms = max(1, round(entry.ttl_s * 1000))
        blob = _pack(entry)
        operation = (_PUT, key.hex(), len(blob), size_bytes, ttl_ms, entry.scopes, entry.epochs)
        return bool(await self._ask(operation, blob))

    async def release(self, key: bytes) -> None:
        """See Blobs."""
        await self._ask((_RELEASE, key.hex()))

    async def purge(self, scope: str) -> Receipt:
        """See Purging. Whatever else waits, the epoch is changed by one round trip; removing takes at most 5 s."""
        epoch = await self._ask((_BUMP, scope))
        if epoch is None:
            raise StoreUnavailable("The cache's store does not answer; nothing was purged.", retry_after_s=1.0)
        until_s = self._clock.monotonic() + SWEEP_S
        matched, cursor = 0, "0"
        while True:
            swept = await self._ask((_SWEEP, scope, cursor, _SWEPT_AT_ONCE))
            if swept is None:
                return Receipt(scope, epoch, matched, is_complete=False)
            cursor, removed = swept
            matched += removed
            if cursor == "0":
                return Receipt(scope, epoch, matched)
            if self._clock.monotonic() >= until_s:
                return Receipt(scope, epoch, matched, is_complete=False)

    async def _ask(self, operation: tuple[Any, ...], blob: bytes = b"") -> Any:
        """The answer; None when there is none in time."""
        if not self.is_up:
            return None
        loop = asyncio.get_running_loop()
        errand = _Errand(operation, blob, loop.create_future())
        self._queue.append(errand)
        self._waiting_bytes += len(blob)
        self._bell.set()
        timer = loop.call_later(self._timeout_s, _give_up, errand.future)
        try:
            return await errand.future
        finally:
            timer.cancel()
            self._waiting_bytes -= len(blob)

    async def _run(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        try:
            while True:
                try:
                    await self._link.connect(CONNECT_S)
                    await self._trade([])
                    self._note(None)
                    backoff_s = _FIRST_BACKOFF_S
                    while True:
                        await self._trade(await self._gather())
                except Unreachable as fault:
                    self._note(str(fault))
                await asyncio.sleep(self._rng.uniform(backoff_s / 2, backoff_s))
                backoff_s = min(backoff_s * 2, _MOST_BACKOFF_S)
        finally:
            # Also when this ends by a fault of its own: nobody must wait, then or later.
            self._dismiss()
            self._tried.set()

    async def _gather(self) -> list[_Errand]:
        """The next batch; an empty one when nobody has asked for a while."""
        if not self._queue:
            self._bell.clear()
            beat = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._bell.set)
            try:
                await self._bell.wait()
            finally:
                beat.cancel()
        batch: list[_Errand] = []
        finds = size_bytes = taken = 0
        for errand in self._queue:
            finds += errand.operation[0] == _FIND
            size_bytes += len(errand.blob)
            if batch and (finds > MOST_FINDS or size_bytes > MOST_BYTES):
                break
            taken += 1
            # Whoever asked may have given up by now.
            if not errand.future.done():
                batch.append(errand)
        del self._queue[:taken]
        return batch

    async def _trade(self, batch: Sequence[_Errand]) -> None:
        head = _pack((self._owner, self._max_bytes, [errand.operation for errand in batch]))
        question = [b"%0*x" % (_HEAD_DIGITS, len(head)), head, *[errand.blob for errand in batch]]
        try:
            answer = await self._link.ask(b"".join(question))
        except BaseException:
            for errand in batch:
                _give_up(errand.future)
            raise
        head_ends = _HEAD_DIGITS + int(answer[:_HEAD_DIGITS], 16)
        at = head_ends
        for errand, said in zip(batch, _unpack(answer[_HEAD_DIGITS:head_ends]), strict=True):
            # False: what is stored there is not ours, or damaged.
            result: Any = None if said is False and errand.operation[0] != _PUT else said
            if errand.operation[0] == _FIND and said:
                length, leads, epochs = said
                result = (answer[at : at + length] if length >= 0 else None, leads, epochs)
                at += max(0, length)
            if not errand.future.done():
                errand.future.set_result(result)

    def _note(self, fault: str | None) -> None:
        """Whether Redis answers has become known."""
        was_up = self.is_up
        if fault is None:
            self.is_up = True
        else:
            self.last_error = fault
            self._dismiss()
        self._tried.set()
        if was_up and not self.is_up:
            logger.warning("the cache's store is gone: %s", fault)
        elif self.is_up and not was_up:
            logger.info("the cache's store answers")

    def _dismiss(self) -> None:
        self.is_up = False
        for errand in self._queue:
            _give_up(errand.future)
        self._queue.clear()


def load_script() -> Script:
    """The script of this module."""
    text = files("gateway.store").joinpath("cache.lua").read_bytes()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())


def _give_up(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)
