"""A request body that is too large, or too slow, for one write."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from gateway.core.errors import GatewayError, InternalError, InvalidRequest
from gateway.transport.base import UpstreamRequest
from gateway.transport.response import Http1Response

_SLICE_BYTES = 64 * 1024


class Sink(Protocol):
    """What an upload needs of its connection."""

    loop: asyncio.AbstractEventLoop
    is_dropped: bool
    is_writing_paused: bool

    def write(self, data: bytes) -> None:
        """Queue bytes for the socket."""
        ...

    def watch(self, at_s: float) -> None:
        """Look at the response's limit at `at_s` at the latest."""
        ...

    def fail(self, error: GatewayError) -> None:
        """End the exchange with `error`."""
        ...


class Upload:
    """Sends one body at the pace of the upstream; ends early when the exchange does.

    A fault of the body's iterator ends the exchange with it: a GatewayError as it is (the client
    left, or sent too much), anything else as InternalError.
    """

    __slots__ = ("_drained", "_request", "_response", "_sink", "is_over")

    def __init__(self, sink: Sink, response: Http1Response, request: UpstreamRequest) -> None:
        self._sink = sink
        self._response = response
        self._request = request
        self._drained: asyncio.Future[None] | None = None
        self.is_over = False
        """Set when the exchange no longer wants the rest."""

    async def run(self) -> None:
        """Send all of it."""
        body = self._request.body
        try:
            if isinstance(body, bytes):
                await self._send(_slices(body), len(body))
            else:
                await self._send(body, self._request.content_length)
        except GatewayError as error:
            if not self.is_over:
                self._sink.fail(error)
        except BaseException:
            if not self.is_over:
                self._sink.fail(InternalError())
            raise

    def wake(self) -> None:
        """Look again whether the socket takes more."""
        drained = self._drained
        if drained is not None and not drained.done():
            drained.set_result(None)

    async def _send(self, pieces: AsyncIterator[bytes], length: int | None) -> None:
        sink = self._sink
        sent = 0
        async for piece in pieces:
            if self.is_over or sink.is_dropped:
                return
            sent += len(piece)
            if length is not None and sent > length:
                raise InvalidRequest(f"The request's body is longer than the {length} bytes it declared.")
            if piece:  # an empty chunk would be the last
                sink.write(piece if length is not None else b"%x\r\n%b\r\n" % (len(piece), piece))
            if sink.is_writing_paused:
                await self._drain()
        if length is not None and sent != length:
            raise InvalidRequest(f"The request's body ended after {sent} of the {length} bytes it declared.")
        if not self.is_over and not sink.is_dropped:
            self._finish(b"" if length is not None else b"0\r\n\r\n")

    def _finish(self, ending: bytes) -> None:
        sink = self._sink
        sink.write(ending)
        response = self._response
        response.is_sent = True
        if response.sent_s is None:
            response.sent_s = sink.loop.time()
            sink.watch(response.limit()[0])

    async def _drain(self) -> None:
        sink = self._sink
        response = self._response
        while sink.is_writing_paused and not sink.is_dropped:
            self._drained = sink.loop.create_future()
            response.stalled_s = sink.loop.time()
            sink.watch(response.limit()[0])
            await self._drained
        response.stalled_s = None


async def _slices(body: bytes) -> AsyncIterator[bytes]:
    for offset in range(0, len(body), _SLICE_BYTES):
        yield body[offset : offset + _SLICE_BYTES]
