"""Traffic that goes on while something else happens: streams that stay open, and requests one after another."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.gateway.harness import CHAT
from tests.gateway.waiting import until

DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class Stream:
    """What one client has of a streamed reply."""

    status: int = 0
    body: bytes = b""
    fault: str = ""
    """Why its connection ended before the reply did; empty for a whole reply."""
    is_over: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether the reply has come to the end that its model gave it."""
        return self.is_over and not self.fault and (self.body.endswith(DONE) or b"event: message_stop" in self.body)

    @property
    def has_error(self) -> bool:
        """Whether the reply ended with an error of its dialect, and not by a cut."""
        last = self.body.rstrip().rpartition(b"\n\n")[2]
        return self.is_over and self.status == 200 and not self.fault and b'"error"' in last


@dataclass(slots=True)
class Streams:
    """Several streams at once."""

    all: list[Stream]
    tasks: Sequence["asyncio.Task[None]"]

    async def ended(self, timeout_s: float = 15.0) -> None:
        """Return when every stream is over."""
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(*self.tasks)

    def count(self, **claims: bool) -> int:
        """How many streams have these properties."""
        return sum(all(getattr(each, name) is value for name, value in claims.items()) for each in self.all)


@asynccontextmanager
async def streams(client: httpx.AsyncClient, count: int, directives: str, *paths: str) -> AsyncIterator[Streams]:
    """`count` streams, each with its first event in; they take turns at `paths` (chat completions)."""
    opened = [Stream() for _ in range(count)]
    urls = paths or ("/v1/chat/completions",)
    tasks = [
        asyncio.ensure_future(_read(client, urls[number % len(urls)], directives, stream))
        for number, stream in enumerate(opened)
    ]
    try:
        await until(lambda: all(b"\n\n" in stream.body or stream.is_over for stream in opened), 20.0)
        yield Streams(opened, tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(client: httpx.AsyncClient, path: str, directives: str, stream: Stream) -> None:
    asked: dict[str, Any] = CHAT | {"input": "hi", "stream": True, "max_tokens": 10_000}
    try:
        async with client.stream("POST", path, json=asked, headers={"x-mock": directives}) as response:
            stream.status = response.status_code
            async for piece in response.aiter_raw():
                stream.body += piece
    except httpx.TransportError as error:
        stream.fault = repr(error)
    stream.is_over = True


@dataclass(slots=True)
class Requests:
    """Requests that are sent one after another, and what became of them."""

    statuses: Counter[int] = field(default_factory=Counter)
    revisions: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """How many replies there were."""
        return self.statuses.total()


@asynccontextmanager
async def requests(client: httpx.AsyncClient, at_once: int = 2, **headers: str) -> AsyncIterator[Requests]:
    """Chat requests without a pause, `at_once` at a time, until the scope ends; the last ones are waited for."""
    asked = Requests()
    over = asyncio.Event()
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def ask() -> None:
        while not over.is_set():
            try:
                response = await client.post("/v1/chat/completions", json=CHAT, headers=named)
            except httpx.TransportError as error:
                asked.faults.append(repr(error))
                continue
            asked.statuses[response.status_code] += 1
            asked.revisions[response.headers.get("x-gateway-config", "")] += 1

    tasks = [asyncio.ensure_future(ask()) for _ in range(at_once)]
    try:
        await until(lambda: asked.answered >= at_once, 10.0)
        yield asked
    finally:
        over.set()
        await asyncio.gather(*tasks)
