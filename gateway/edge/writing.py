"""Replies written straight to the client's connection.

ASGI's `send` checks every header with two patterns, builds two dictionaries and runs two coroutines for a
reply, and one more for each event. The gateway's own header values are checked where they are made and a
provider's by the parser that read them, so here a whole reply is one call and one write: 5 µs less a
request, 2 µs less an event (`loadtests/`). uvicorn keeps its state in the request's cycle; so do we.
"""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.edge.turn import Turn

_NO_BODY = frozenset({204, 304})
_END = b"\r\n"
_END_AND_CLOSE = b"connection: close\r\n\r\n"
_USUAL_SIZES = 1024
_SIZE_LINES = tuple([b"%x\r\n" % size for size in range(_USUAL_SIZES)])
"""The lines before chunks of a usual size: to format one takes longer than all else about a chunk."""


class ReplyWriter(HttpToolsProtocol):
    """uvicorn's connection, with methods that write a reply. `headers` are lines, each with its line end."""

    active: Turn
    """The request that is being answered. uvicorn's `cycle` is the latest one, which may wait behind it."""
    _date_of: object = None
    _date_line = b""

    @property
    def is_congested(self) -> bool:
        """Whether the client reads more slowly than we write, so that the writer should wait."""
        return self.flow.write_paused

    async def drained(self) -> None:
        """Wait until the client has read enough, or is gone."""
        await self.flow.drain()

    def respond(self, status: int, headers: bytes, body: bytes, *, close: bool = False) -> None:
        """Write a whole reply; `close` ends the connection with it."""
        cycle = self.active
        if cycle.disconnected:
            return
        assert not cycle.response_started
        if close:
            cycle.keep_alive = False
        if status in _NO_BODY:
            length = body = b""
        else:
            length = b"content-length: %d\r\n" % len(body)
            if cycle.scope["method"] == "HEAD":
                body = b""
        ending = _END if cycle.keep_alive else _END_AND_CLOSE
        date = self._date_line if self.server_state.default_headers is self._date_of else self._date()
        self.transport.write(b"".join((STATUS_LINE[status], date, headers, length, ending, body)))
        cycle.response_started = True
        self._complete(cycle)

    def begin(self, status: int, headers: bytes, *, length: int | None = None, close: bool = False) -> None:
        """Write the head of a reply that comes in pieces: of `length` bytes, or of a length not known yet."""
        cycle = self.active
        if cycle.disconnected:
            return
        assert not cycle.response_started
        cycle.response_started = True
        # HTTP/1.0 knows no chunks: there the end of the connection is the end of the reply.
        cycle.chunked_encoding = length is None and cycle.scope["http_version"] != "1.0"
        if close or (length is None and not cycle.chunked_encoding):
            cycle.keep_alive = False
        framing = b"transfer-encoding: chunked\r\n" if cycle.chunked_encoding else b""
        if length is not None:
            framing = b"content-length: %d\r\n" % length
        ending = _END if cycle.keep_alive else _END_AND_CLOSE
        self.transport.write(b"".join((STATUS_LINE[status], self._date(), headers, framing, ending)))

    def write(self, piece: bytes) -> bool:
        """Write a piece that is not empty; whether the client now reads too slowly, as `is_congested` tells."""
        cycle = self.active
        if cycle.disconnected:
            return False
        if cycle.chunked_encoding:
            size = len(piece)
            line = _SIZE_LINES[size] if size < _USUAL_SIZES else b"%x\r\n" % size
            piece = b"".join((line, piece, b"\r\n"))
        self.transport.write(piece)
        return self.flow.write_paused

    def end(self) -> None:
        """Write the end of a reply that came in pieces."""
        cycle = self.active
        if cycle.disconnected:
            return
        if cycle.chunked_encoding:
            self.transport.write(b"0\r\n\r\n")
        self._complete(cycle)

    def abort(self) -> None:
        """Cut the connection, so that the client cannot take what it has for the whole."""
        self.transport.abort()

    def hang_up(self) -> None:
        """Close the connection once all is written."""
        self.transport.close()

    def _complete(self, cycle: Turn) -> None:
        cycle.waiting_for_100_continue = False
        cycle.response_complete = True
        if cycle.waiter is not None:
            cycle.set()
        if not cycle.keep_alive:
            self.hang_up()
        self.on_response_complete()

    def _date(self) -> bytes:
        # uvicorn replaces the list once a second.
        current = self.server_state.default_headers
        if current is not self._date_of:
            self._date_of = current
            self._date_line = b"".join(b"%b: %b\r\n" % item for item in current)
        return self._date_line
