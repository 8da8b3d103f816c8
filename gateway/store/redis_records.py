"""A log that a fleet shares, in Redis 6 or later: a stream, which every process reads from its beginning.

Theory of operation. Two connections, opened together and closed together. On one, whatever was appended in one
turn of the loop goes out as one pipeline; while that is under way the next gathers. On the other, the stream is
read from where this process stands (see `stream_reader`). No command names more than one key, so a cluster takes
them all: XADD, XDEL, XRANGE, XREAD, XINFO STREAM, EXPIRE. Nothing is sent twice, so nothing is told twice; what gets
no answer within the timeout counts as dropped, and so does everything else until the connections are back.

    {gw}:cache:log:NAME     the log     stream of entries with one field, `r`; about `max_records`, ends when unused
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from itertools import islice
from random import Random

from redis.exceptions import OutOfMemoryError, RedisError

from gateway.core.pipeline import spawn
from gateway.store.connect import AnyConnection, Opener, parse
from gateway.store.records import MOST_RECORD_BYTES, START_S, Apply, Reset
from gateway.store.redis import RedisSettings
from gateway.store.stream import FIELD, exchange, is_place, raise_first, reason_of, within
from gateway.store.stream_reader import StreamReader

logger = logging.getLogger(__name__)

CONNECT_S = 1.0
CLOSE_S = 0.5
"""How long the end waits for what is still to be written."""
KEEP_S = 30 * 86_400
"""How long a log stays to which nobody appends."""
MOST_WAITING = 4096
"""Records that wait to be written; what comes above it is dropped."""
MOST_DELETES = 100_000
"""Deletions that wait, for as long as Redis is away; what comes above it is not removed, and logged."""
_HEARTBEAT_S = 5.0
_WRITTEN_AT_ONCE = 64
_DELETED_AT_ONCE = 256
_FIRST_BACKOFF_S, _MOST_BACKOFF_S = 0.1, 2.0


class RedisRecords:
    """See Records. The constructor opens no connection; it raises ValueError for a URL that is none, not showing it."""

    def __init__(self, settings: RedisSettings, name: str, max_records: int, rng: Random) -> None:
        self._key = f"{{{settings.prefix}}}:cache:log:{name}"
        self._opener = Opener(parse(settings.url), self._key, CONNECT_S)
        self._timeout_s = settings.timeout_s
        self._max_records = max_records
        self._rng = rng
        self._queue: deque[bytes] = deque()
        self._deletes: deque[str] = deque()
        self._bell = asyncio.Event()
        self._drained = asyncio.Event()
        self._settled = asyncio.Event()
        self._reader: StreamReader | None = None
        self._work: asyncio.Task[None] | None = None
        self.is_live = False
        """See Records. Redis answers."""
        self.dropped = 0
        """See Records."""
        self.last_error = ""
        """Why Redis did not answer, the last time; without credentials."""

    @property
    def deleting(self) -> int:
        """See Records."""
        return len(self._deletes)

    @property
    def lag_s(self) -> float:
        """See Records. By the server's clock, from the record told last to the newest that is known of."""
        return self._reader.lag_s if self._reader is not None else 0.0

    async def start(self, apply: Apply, reset: Reset) -> None:
        """See Records."""
        self._reader = StreamReader(self._key, apply, reset, self._settled)
        self._work = spawn(self._run(self._reader), "log-redis")
        try:
            async with asyncio.timeout(START_S):
                await self._settled.wait()
        except TimeoutError:
            pass

    def append(self, record: bytes) -> None:
        """See Records. One that is under way when Redis goes away counts as dropped, and may come all the same."""
        if not self.is_live or len(self._queue) >= MOST_WAITING or len(record) > MOST_RECORD_BYTES:
            self.dropped += 1
            return
        self._queue.append(record)
        self._drained.clear()
        self._bell.set()

    def delete(self, ids: Sequence[str]) -> None:
        """See Records."""
        self._deletes += [each for each in ids if is_place(each)]
        self._drained.clear()
        self._bell.set()
        if len(self._deletes) > MOST_DELETES:
            logger.error("the log %s is away, and has to remove too much: some stays until it is trimmed", self._key)
            while len(self._deletes) > MOST_DELETES:
                self._deletes.pop()

    def pause(self) -> None:
        """Tell nothing until `resume`, as a process that lags would; appending goes on. For tests and drills."""
        assert self._reader is not None
        self._reader.pause()

    def resume(self) -> None:
        """Tell again."""
        assert self._reader is not None
        self._reader.resume()

    async def aclose(self) -> None:
        """See Records."""
        if self._work is None:
            return
        if self.is_live:
            try:
                async with asyncio.timeout(CLOSE_S):
                    await self._drained.wait()
            except TimeoutError:
                pass
        self._work.cancel()
        await asyncio.wait((self._work,))
        self._work = None

    async def _run(self, reader: StreamReader) -> None:
        backoff_s = _FIRST_BACKOFF_S
        loop = asyncio.get_running_loop()
        try:
            while True:
                begun_s = loop.time()
                self._note(await self._meet(reader))
                if loop.time() - begun_s > _MOST_BACKOFF_S:
                    backoff_s = _FIRST_BACKOFF_S
                await asyncio.sleep(self._rng.uniform(backoff_s / 2, backoff_s))
                backoff_s = min(backoff_s * 2, _MOST_BACKOFF_S)
        finally:
            # Also when this ends by a fault of its own.
            self._dismiss()
            self._settled.set()

    async def _meet(self, reader: StreamReader) -> str:
        """Be connected and at work as long as Redis answers; why it does not any more."""
        connections: list[AnyConnection] = []
        tasks: list[asyncio.Task[str]] = []
        try:
            for _ in range(2):
                async with asyncio.timeout(CONNECT_S):
                    connections.append(await self._opener())
            await reader.find_place(connections[0])
            self._note(None)
            tasks.append(spawn(reader.read_on(connections[0]), "log-reader"))
            tasks.append(spawn(self._write_on(connections[1]), "log-writer"))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        except (RedisError, OSError) as fault:
            return reason_of(fault)
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            for connection in connections:
                await connection.disconnect(nowait=True)

    async def _write_on(self, connection: AnyConnection) -> str:
        try:
            while True:
                if not self._queue and not self._deletes:
                    await self._rest()
                await self._write(connection)
        except (RedisError, OSError) as fault:
            return reason_of(fault)

    async def _rest(self) -> None:
        self._drained.set()
        self._bell.clear()
        beat = asyncio.get_running_loop().call_later(_HEARTBEAT_S, self._bell.set)
        try:
            await self._bell.wait()
        finally:
            beat.cancel()

    async def _write(self, connection: AnyConnection) -> None:
        records = [self._queue.popleft() for _ in range(min(_WRITTEN_AT_ONCE, len(self._queue)))]
        ids = list(islice(self._deletes, _DELETED_AT_ONCE))
        commands: list[Sequence[str | bytes | int]] = [
            ("XADD", self._key, "MAXLEN", "~", self._max_records, "*", FIELD, record) for record in records
        ]
        commands += [("XDEL", self._key, *ids)] if ids else []
        commands += [("EXPIRE", self._key, KEEP_S)] if records else []
        try:
            async with within(self._timeout_s):
                answers = await exchange(connection, commands or [("PING",)])
        except BaseException:
            self.dropped += len(records)
            raise
        self.dropped += sum(isinstance(answer, RedisError) for answer in answers[: len(records)])
        if ids and not isinstance(answers[len(records)], RedisError):
            for _ in ids:
                self._deletes.popleft()
        # A server that is full takes no record, but is there.
        raise_first([answer for answer in answers if not isinstance(answer, OutOfMemoryError)])

    def _note(self, fault: str | None) -> None:
        """Whether Redis answers has become known."""
        was_live = self.is_live
        if fault is None:
            self.is_live = True
        else:
            self.last_error = fault
            self._dismiss()
            self._settled.set()
        if was_live and not self.is_live:
            logger.warning("the log %s is away: %s", self._key, fault)
        elif self.is_live and not was_live:
            logger.info("the log %s is there", self._key)

    def _dismiss(self) -> None:
        self.is_live = False
        self.dropped += len(self._queue)
        self._queue.clear()
