"""Upstream bytes on their way down: whole SSE frames, or the pieces of a file."""

import asyncio

from gateway.core.errors import UpstreamFault, UpstreamTruncated
from gateway.core.exchange import Sink
from gateway.providers.decoding import Decoder
from gateway.transport.base import UpstreamResponse
from gateway.wire.sse import FrameSplitter
from gateway.wire.stream_reader import StreamReader


class EventStream:
    """An SSE reply as blocks of complete frames. Read once, in order.

    Ends cleanly only when the answer did: a stream that stops early raises UpstreamTruncated, one
    that carries an error raises that error after everything that came before it. An iterator class,
    not a generator: a cancelled consumer leaves nothing behind that must be finalised.
    """

    __slots__ = ("_decoder", "_ended", "_fault", "_held", "_reader", "_response", "_splitter")

    def __init__(self, response: UpstreamResponse, reader: StreamReader, decoder: Decoder | None) -> None:
        self._response = response
        self._reader = reader
        self._decoder = decoder
        self._splitter = FrameSplitter()
        self._held = b""
        self._fault: UpstreamFault | None = None
        self._ended = False

    async def peek(self) -> None:
        """Wait for the first real event; comments and pings before it are held with it.

        Raises the fault when one comes instead: the reply has not begun, so it can still be another.
        """
        reader = self._reader
        held = []
        while not reader.begun and not self._ended:
            held.append(await self._next_block())
        if self._fault is not None and not reader.begun:
            raise self._fault
        self._response.begin()
        self._held = b"".join(held)

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> bytes:
        out = self._held
        if out:
            self._held = b""
            return out
        while not self._ended:
            out = await self._next_block()
            if out:
                return out
        if self._fault is not None:
            raise self._fault
        raise StopAsyncIteration

    async def pour(self, sink: Sink) -> None:
        """Write every block into `sink` as it arrives, to the end of the stream; instead of iterating.

        While the sink keeps up no coroutine runs: the transport calls back, and the block goes out in
        the same turn of the loop. Raises the fault that ended the stream.
        """
        if self._held:
            sink.write(self._held)
            self._held = b""
        while not self._ended:
            if sink.is_congested:
                await sink.drained()
            await self._push(sink)
        if self._fault is not None:
            raise self._fault

    async def _push(self, sink: Sink) -> None:
        """Push until the end, a fault, or a sink that is congested."""
        response = self._response
        pause = asyncio.get_running_loop().create_future()
        failures: list[Exception] = []
        take, write = response.take, sink.write

        def news() -> None:
            if pause.done():
                return
            try:
                # As `_next_block`, of what has arrived already. Every event passes here, so there are few calls.
                while not self._ended:
                    try:
                        chunk = take()
                    except UpstreamTruncated as fault:
                        block = self._cut(fault)
                    else:
                        if chunk is None:
                            return
                        block = self._pass(chunk)
                    if block and write(block):
                        break
            except Exception as error:  # noqa: BLE001 - not swallowed: it is raised in the task that waits
                # Called from the event loop: the task that waits is the one to hear of it. Not by `set_exception`,
                # which would be reported as unheard when that task is cancelled in the same turn.
                failures.append(error)
            pause.set_result(None)

        response.listen(news)
        try:
            news()
            await pause
        finally:
            response.listen(None)
        if failures:
            raise failures.pop()

    async def _next_block(self) -> bytes:
        """What the next piece from upstream lets through, maybe nothing."""
        try:
            chunk = await self._response.read()
        except UpstreamTruncated as fault:
            return self._cut(fault)
        return self._pass(chunk)

    def _pass(self, chunk: bytes) -> bytes:
        """What `chunk` lets through; `b""` is the end.

        At the end, clean or not, `_ended` is set; a fault waits in `_fault` until all before it is read.
        """
        if not chunk:
            return self._last_block()
        if self._decoder is not None:
            chunk = self._decoder.feed(chunk)
        block = self._splitter.feed(chunk)
        if not block:
            return b""
        reader = self._reader
        out = reader.feed(block)
        if reader.error is not None:
            self._end(reader.error)
        return out

    def _cut(self, fault: UpstreamTruncated) -> bytes:
        """The connection broke. Once the last event was seen, that has cut nothing."""
        if self._reader.complete:
            return self._last_block()
        self._end(fault)
        return b""

    def _last_block(self) -> bytes:
        out = b""
        # Some servers forget the blank line after the last event.
        last = self._splitter.finish()
        if last:
            out = self._reader.feed(last)
        fault: UpstreamFault | None = self._reader.error
        if fault is None:
            try:
                out += self._reader.finish()
            except UpstreamTruncated as truncated:
                fault = truncated
        self._end(fault)
        return out

    def _end(self, fault: UpstreamFault | None) -> None:
        self._ended = True
        self._fault = fault


class Pieces:
    """A body that is no event stream, piece by piece, as it arrives."""

    __slots__ = ("_decoder", "_response")

    def __init__(self, response: UpstreamResponse, decoder: Decoder | None) -> None:
        self._response = response
        self._decoder = decoder

    def __aiter__(self) -> "Pieces":
        return self

    async def __anext__(self) -> bytes:
        while True:
            chunk = await self._response.read()
            if not chunk:
                if self._decoder is not None:
                    self._decoder.finish()
                raise StopAsyncIteration
            if self._decoder is None:
                return chunk
            decoded = self._decoder.feed(chunk)
            if decoded:
                return decoded
