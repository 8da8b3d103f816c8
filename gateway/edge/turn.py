"""One request and its reply on a connection: uvicorn's cycle, made in a third of the time.

uvicorn's own constructor takes thirteen arguments and an `asyncio.Event` that most requests never wait
for. What its `send` and `run_asgi` read is all here; `receive` waits on a future when it must.
"""

import asyncio
import logging
from collections.abc import Callable

from uvicorn._types import ASGIReceiveEvent, HTTPScope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle


class Turn(RequestResponseCycle):
    """The cycle of one request. The protocol fills `body`, `more_body` and `disconnected`, then calls `set`.

    Where nobody waits (`waiter` is None) it may set `has_news` alone.
    """

    # What is the same for every request of ours.
    access_log = False
    logger = logging.getLogger("uvicorn.error")
    expected_content_length = 0

    def __init__(self, protocol: HttpToolsProtocol, scope: HTTPScope, keep_alive: bool) -> None:
        self.scope = scope
        self.transport = protocol.transport
        self.flow: FlowControl = protocol.flow
        self.disconnected = False
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = protocol.expect_100_continue
        self.body: bytes | bytearray = b""  # type: ignore[assignment]
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self.chunked_encoding = None
        self._loop = protocol.loop
        self.has_news = False
        self.waiter: asyncio.Future[None] | None = None

    @property
    def _protocol(self) -> HttpToolsProtocol:
        # Only as long as the request is served: for longer it would be a cycle, as below.
        protocol: HttpToolsProtocol = self.scope["gateway.connection"]  # type: ignore[typeddict-item]
        return protocol

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:  # type: ignore[override]
        """The date, for replies by ASGI's `send`."""
        return self._protocol.server_state.default_headers

    @property
    def on_response(self) -> Callable[..., None]:
        """What uvicorn calls at the end of a reply."""
        return self._protocol.on_response_complete

    @on_response.setter
    def on_response(self, value: Callable[..., None]) -> None:
        """uvicorn breaks a cycle by this that is none here."""

    @property
    def message_event(self) -> "Turn":  # type: ignore[override]
        """What uvicorn calls `set` on whenever there is something to receive.

        A property, because an attribute would be a reference cycle for each request: memory then comes back
        only with the collector, and every allocation meanwhile is cold.
        """
        return self

    def add(self, piece: bytes) -> None:
        """Take a further piece of the body. What nobody has received stops the reading once it is much."""
        body = self.body
        if isinstance(body, bytearray):
            body += piece
        else:
            self.body = bytearray(body) + piece
        if len(self.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.set()

    def set(self) -> None:
        """Wake `receive`."""
        self.has_news = True
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def receive(self) -> ASGIReceiveEvent:
        """As uvicorn's: what has come of the body, or that the client is gone."""
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()
            if not self.has_news:
                self.waiter = self._loop.create_future()
                try:
                    await self.waiter
                finally:
                    self.waiter = None
            self.has_news = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        piece = bytes(self.body)
        self.body = b""
        return {"type": "http.request", "body": piece, "more_body": self.more_body}
