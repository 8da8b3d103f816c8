"""One kept-alive connection and nothing around it: thousands of requests in a second or two, each with its time."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.gateway.harness import CHAT
from tests.gateway.raw import hang_up

JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Answered:
    """One whole reply. Names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    took_s: float


class KeptAlive:
    """A client that sends one request after the other on one connection. Replies need a content-length."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(
        self,
        path: str = "/v1/chat/completions",
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
    ) -> Answered:
        """The reply to one request with a JSON body. Raises EOFError (IncompleteReadError) when there is none."""
        sent = json.dumps(CHAT if body is None else body).encode()
        lines = JSON | {"host": "127.0.0.1", "content-length": str(len(sent))} | dict(headers or {})
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        start_s = time.perf_counter()
        self._writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + sent)
        status_line, *received = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in received)}
        reply = await self._reader.readexactly(int(found["content-length"]))
        return Answered(int(status_line.split(" ")[1]), found, reply, time.perf_counter() - start_s)


@asynccontextmanager
async def kept_alive(address: tuple[str, int]) -> AsyncIterator[KeptAlive]:
    """A connection to the data plane, closed at the end of the scope."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield KeptAlive(reader, writer)
    finally:
        await hang_up(writer)
