"""One connection to Redis, and one script on it: a packed question, a packed answer, within a deadline."""

import asyncio
import hashlib
from dataclasses import dataclass
from importlib.resources import files

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from gateway.store.connect import AnyConnection, Opening, command

SECOND_LOOK_S = 0.002
"""How much longer a late answer is looked for: a loop that was busy sees its timers before it has read its sockets."""
_MOST_OF_AN_ERROR = 200


class Unreachable(Exception):
    """No answer: the reason, without credentials. The question may have been carried out all the same."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, and the name by which a server that has seen it knows it."""

    text: bytes
    sha1: str


def load_script() -> Script:
    """The script of limits and budgets: its numbered parts, joined in their order."""
    parts = [part for part in files("gateway.store").joinpath("lua").iterdir() if part.name[0].isdigit()]
    text = b"\n".join(part.read_bytes() for part in sorted(parts, key=lambda part: part.name))
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())


class Link:
    """Asks one question at a time. Raises Unreachable, and is then closed until `connect`."""

    def __init__(self, opening: Opening, script: Script, key: str, timeout_s: float) -> None:
        self._opening = opening
        self._script = script
        self._key = key
        self._timeout_s = timeout_s
        self._connection: AnyConnection | None = None
        self.round_trips = 0

    async def connect(self, within_s: float) -> None:
        """Be connected. Nothing to do if it is."""
        if self._connection is not None:
            return
        try:
            async with asyncio.timeout(within_s):
                self._connection = await self._opening()
        except (RedisError, OSError) as error:
            raise Unreachable(_reason(error)) from error

    async def ask(self, question: bytes) -> bytes:
        """The answer, within the timeout.

        A connection that turns out to be closed is opened again once within it: a server that has been
        restarted while nobody asked is not away. So the script must know a question that comes again.
        """
        try:
            async with asyncio.timeout(None) as limit:
                deadline = _Deadline(limit, self._timeout_s)
                try:
                    return await self._ask_twice(question)
                finally:
                    deadline.cancel()
        except (RedisError, OSError) as error:
            await self.aclose()
            raise Unreachable(_reason(error)) from error
        except asyncio.CancelledError:
            # The answer is still under way, and nobody else must get it (F72): the client has closed the connection.
            self._connection = None
            raise

    async def _ask_twice(self, question: bytes) -> bytes:
        try:
            return await self._evaluate(question)
        except (RedisConnectionError, OSError):
            await self.aclose()
        self._connection = await self._opening()
        return await self._evaluate(question)

    async def _evaluate(self, question: bytes) -> bytes:
        connection = self._connection
        if connection is None:
            raise RedisConnectionError("not connected")
        self.round_trips += 1
        answer: bytes
        try:
            answer = await command(connection, "EVALSHA", self._script.sha1, 1, self._key, question)
        except NoScriptError:
            # After a restart, a failover or SCRIPT FLUSH. SCRIPT LOAD may be forbidden where EVAL is not (F69, F70).
            self.round_trips += 1
            answer = await command(connection, "EVAL", self._script.text, 1, self._key, question)
        return answer

    async def aclose(self) -> None:
        """Close the connection; does not wait for the other side."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


class _Deadline:
    def __init__(self, limit: asyncio.Timeout, delay_s: float) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(delay_s, self._look_again)

    def _look_again(self) -> None:
        self._timer = self._loop.call_later(SECOND_LOOK_S, self._expire)

    def _expire(self) -> None:
        self._limit.reschedule(self._loop.time())

    def cancel(self) -> None:
        self._timer.cancel()


def _reason(error: BaseException) -> str:
    text = str(error) or "no answer in time"
    return f"{type(error).__name__}: {text}"[:_MOST_OF_AN_ERROR]
