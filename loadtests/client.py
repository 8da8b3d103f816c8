"""A client that costs little, so that it is never what a bench measures.

One connection carries one exchange at a time. httptools parses; a body is counted, not kept. A
driver is called back when an answer is over, whatever ended it, so no task is needed per request.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httptools

from gateway.core.pipeline import spawn

DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class Answer:
    """What came back for one request. Times are monotonic seconds."""

    status: int = 0
    """0 when no header came."""
    events: int = 0
    """Complete SSE frames."""
    size_bytes: int = 0
    first_byte_s: float | None = None
    """When the first byte of the body came."""
    ended_s: float = 0.0
    complete: bool = False
    """Whether the message ended as HTTP says, not by a lost connection."""
    finished: bool = False
    """Whether the body ended in `data: [DONE]`."""
    revision: str = ""
    """`x-gateway-config` of the answer."""
    fault: str = ""
    """Why it is not complete."""

    @property
    def ok(self) -> bool:
        """Whether it is a whole answer with status 200."""
        return self.complete and self.status == 200


Sink = Callable[[Answer], None]


class Connection(asyncio.Protocol):
    """One kept-alive connection to a server."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer = Answer()
        self._sink: Sink | None = None
        self._tail = b""
        self._earlier_events = 0
        self._parser = httptools.HttpResponseParser(self)

    @property
    def usable(self) -> bool:
        """Whether another request may be sent now."""
        return self.transport is not None and not self.transport.is_closing() and self._sink is None

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return self._sink is not None

    @property
    def events(self) -> int:
        """SSE frames received on it so far."""
        return self._earlier_events + self.answer.events

    def send(self, request: bytes, sink: Sink) -> None:
        """Send a whole request; `sink` gets the answer, once. Only while `usable`."""
        assert self.transport is not None and self._sink is None
        self._earlier_events += self.answer.events
        self.answer = Answer()
        self._sink = sink
        self._tail = b""
        self.transport.write(request)

    def abort(self) -> None:
        """Leave at once, by a reset where data was unread."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport (asyncio.Protocol)."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser (asyncio.Protocol)."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"not HTTP: {error}")
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report an answer that is not over (asyncio.Protocol)."""
        self._end(f"connection lost: {exc or 'closed by the server'}")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note the configuration revision (httptools)."""
        if name.lower() == b"x-gateway-config":
            self.answer.revision = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Note the status (httptools)."""
        self.answer.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        """Count a piece of the body (httptools)."""
        answer = self.answer
        if answer.first_byte_s is None:
            answer.first_byte_s = time.monotonic()
        answer.size_bytes += len(data)
        answer.events += data.count(b"\n\n")
        if self._tail[-1:] == b"\n" and data[:1] == b"\n":
            answer.events += 1
        self._tail = data[-len(DONE) :] if len(data) >= len(DONE) else (self._tail + data)[-len(DONE) :]

    def on_message_complete(self) -> None:
        """Hand the answer over (httptools)."""
        self.answer.complete = True
        self.answer.finished = self._tail == DONE
        if not self._parser.should_keep_alive() and self.transport is not None:
            self.transport.close()
        self._end("")

    def _end(self, fault: str) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            self.answer.fault = fault
            self.answer.ended_s = time.monotonic()
            sink(self.answer)


class Fleet:
    """Connections to one port of the loopback address, opened as needed and used again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()

    @property
    def busy(self) -> int:
        """Answers that are under way."""
        return sum(connection.busy for connection in self._all)

    @property
    def events(self) -> int:
        """SSE frames received so far, on the connections that still stand."""
        return sum(connection.events for connection in self._all)

    async def open(self, count: int) -> None:
        """Have `count` more connections ready."""
        for _ in range(count):
            self._idle.append(await self._connect())

    def send(self, request: bytes, sink: Sink) -> None:
        """Send on an idle connection, or on a new one; a failure to connect is an answer with a fault."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                self._use(connection, request, sink)
                return
            self._all.discard(connection)
        spawn(self._send_new(request, sink), "connect")

    async def ask(self, request: bytes) -> Answer:
        """The answer to one request."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def over(answer: Answer) -> None:
            # Nobody waits any more when the bench itself is being stopped.
            if not future.done():
                future.set_result(answer)

        self.send(request, over)
        return await future

    def close(self) -> None:
        """Leave every connection."""
        for connection in self._all:
            connection.abort()
        self._all.clear()
        self._idle.clear()

    def _use(self, connection: Connection, request: bytes, sink: Sink) -> None:
        def over(answer: Answer) -> None:
            if answer.complete:
                self._idle.append(connection)
            else:
                self._all.discard(connection)
            sink(answer)

        connection.send(request, over)

    async def _send_new(self, request: bytes, sink: Sink) -> None:
        try:
            connection = await self._connect()
        except OSError as error:
            sink(Answer(fault=f"no connection: {error}", ended_s=time.monotonic()))
            return
        self._use(connection, request, sink)

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, "127.0.0.1", self._port)
        self._all.add(connection)
        return connection


def chat_body(model: str, *, stream: bool = False) -> str:
    """A chat request of about 1 KB of JSON."""
    prompt = " ".join(["Summarise the following ticket for the on-call engineer in two sentences."] * 10)
    switch = '"stream":true,' if stream else ""
    return (
        f'{{"model":"{model}",{switch}"messages":[{{"role":"system","content":"You are a terse assistant."}},'
        f'{{"role":"user","content":"{prompt}"}}],"temperature":0.2,"max_tokens":256,"user":"bench"}}'
    )


def chat_request(model: str, key: str, *, stream: bool = False) -> bytes:
    """A whole HTTP request for a chat completion."""
    body = chat_body(model, stream=stream).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: loadtests\r\nAccept: */*\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
