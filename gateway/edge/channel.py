"""Calls between a supervisor and its workers, over a socket pair: numbered requests, replies in any order.

A frame is four bytes of length, big-endian, and a msgpack array: `[number, name, payload]` asks,
`[number, ok, payload]` answers. Both ends are this program, of one version.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from gateway.core.pipeline import spawn

logger = logging.getLogger(__name__)

MAX_FRAME_BYTES = 256 * 1024 * 1024

Answer = Callable[[str, Any], Awaitable[Any]]


class ChannelClosed(Exception):
    """The other end is gone; what was asked may or may not have been done."""


class CallFailed(Exception):
    """The other end answered that it could not do it."""


class Channel:
    """One end of the pair. Both ends may call."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
        """`answer` does what the other end asks, by name; what it raises is told to the other end."""
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._number = 0

    async def call(self, name: str, payload: Any = None, *, timeout_s: float) -> Any:
        """The other end's answer. Raises ChannelClosed, CallFailed and TimeoutError."""
        if self._writer.is_closing():
            raise ChannelClosed
        self._number += 1
        number = self._number
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            async with asyncio.timeout(timeout_s):
                await self._write([number, name, payload])
                return await future
        except ConnectionError as error:
            raise ChannelClosed from error
        finally:
            self._waiting.pop(number, None)

    async def run(self) -> None:
        """Serve and deliver until the other end is gone."""
        try:
            while True:
                size = int.from_bytes(await self._reader.readexactly(4))
                if size > MAX_FRAME_BYTES:
                    raise ChannelClosed
                number, what, payload = msgspec.msgpack.decode(await self._reader.readexactly(size))
                if isinstance(what, str):
                    spawn(self._serve(number, what, payload), f"answer {what}")
                else:
                    self._deliver(number, what, payload)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writer.close()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ChannelClosed())

    def _deliver(self, number: int, ok: bool, payload: Any) -> None:
        future = self._waiting.get(number)
        if future is None or future.done():
            return
        if ok:
            future.set_result(payload)
        else:
            future.set_exception(CallFailed(payload))

    async def _serve(self, number: int, name: str, payload: Any) -> None:
        try:
            answer = [number, True, await self._answer(name, payload)]
        except (ValueError, LookupError, OSError, AssertionError) as error:
            logger.exception("%s failed", name)
            answer = [number, False, f"{type(error).__name__}: {error}"]
        try:
            await self._write(answer)
        except ConnectionError:
            # The other end is gone: `run` notices and ends.
            return

    async def _write(self, message: list[Any]) -> None:
        body = msgspec.msgpack.encode(message)
        self._writer.write(len(body).to_bytes(4) + body)
        await self._writer.drain()
