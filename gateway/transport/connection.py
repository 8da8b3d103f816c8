"""One HTTP/1.1 connection to an upstream.

Theory of operation. A connection carries one exchange at a time. `start` writes the request and
gives its `Http1Response`; from then on the event loop calls `data_received`, httptools calls the
`on_…` methods, and these fill the response. There is no task, except one that sends a body too
large for one write.

Time costs nothing while all goes well: there is one timer a connection, armed for the earliest limit
that was ever asked for and not moved when data arrives. When it fires it asks the response for its
limit as of now, and either ends the exchange or sleeps on.

Whatever ends an exchange early goes through `_drop`, once: it frees the slot in the pool in the same
step, so that nothing can be lost between two loop turns.
"""

import asyncio
import socket
import struct
from math import inf
from typing import Protocol, cast

import httptools

from gateway.core.errors import GatewayError, Headers, UpstreamError, UpstreamTimeout, UpstreamTruncated
from gateway.core.pipeline import spawn
from gateway.transport.base import Timeouts, UpstreamRequest
from gateway.transport.response import Http1Response
from gateway.transport.upload import Upload

HIGH_WATER_BYTES = 256 * 1024
"""Above this much unread body the socket is not read; it is again when the reader has taken it."""
MAX_BARREN_BYTES = 256 * 1024
"""Of head, trailers or chunk extensions in a row, without one byte of body."""
ONE_WRITE_BYTES = 256 * 1024
"""Up to here a body goes out in one write with its head."""
_PIECE_OVERHEAD_BYTES = 48
"""Of a bytes object and its place in a list: a body in chunks of one byte must count for what it takes."""
_TIMER_SLACK_S = 0.002
"""uvloop's clock and timers have whole milliseconds."""
_USUAL_NAMES = (
    b"access-control-expose-headers alt-svc anthropic-organization-id apim-request-id cache-control cf-cache-status "
    b"cf-ray connection content-encoding content-length content-type date keep-alive openai-model openai-organization "
    b"openai-processing-ms openai-project openai-version request-id retry-after server server-timing set-cookie "
    b"strict-transport-security transfer-encoding vary via x-content-type-options x-envoy-upstream-service-time "
    b"x-ms-region x-ratelimit-limit-requests x-ratelimit-limit-tokens x-ratelimit-remaining-requests "
    b"x-ratelimit-remaining-tokens x-ratelimit-reset-requests x-ratelimit-reset-tokens x-request-id x-robots-tag"
).split()
KNOWN_NAMES = {spelling: name for name in _USUAL_NAMES for spelling in (name, name.title(), name.upper())}
"""Usual names as they come, to their lower case: one object for all responses, whose hash is known."""
_LINGER_NONE = struct.pack("ii", 1, 0)


class Owner(Protocol):
    """The pool, as a connection sees it."""

    def release(self, connection: "Connection") -> None:
        """The exchange is complete and the connection can carry another."""
        ...

    def discard(self, connection: "Connection") -> None:
        """The connection is gone. Called once."""
        ...


class _Surplus(Exception):
    """The upstream says more than it was asked."""


class Connection(asyncio.Protocol):
    """A transport, its parser and the response it is busy with, if any."""

    __slots__ = (
        "_barren",
        "_headers",
        "_http_version",
        "_is_expecting",
        "_is_interim",
        "_owner",
        "_parser",
        "_response",
        "_timer",
        "_timer_at_s",
        "_transport",
        "_upload",
        "_upload_task",
        "created_s",
        "is_dropped",
        "is_writing_paused",
        "keep_alive_s",
        "loop",
        "reusable_until_s",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Owner, created_s: float) -> None:
        self.loop = loop
        self.created_s = created_s
        self.reusable_until_s = created_s
        """The pool's own note."""
        self.keep_alive_s: int | None = None
        """How long the upstream said it keeps an idle connection (`keep-alive: timeout=N`)."""
        self.is_dropped = False
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._response: Http1Response | None = None
        self._headers: Headers = []
        self._http_version: str | None = None
        self._is_interim = False
        self._is_expecting = False
        self._barren = 0
        self.is_writing_paused = False
        self._upload: Upload | None = None
        self._upload_task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = inf

    # --- the owner's and the response's side

    def start(self, head: bytes, request: UpstreamRequest, timeouts: Timeouts) -> Http1Response:
        """Send a request; the response has no status until its head is there. Raises nothing."""
        assert self._response is None and self._transport is not None
        response = self._response = Http1Response(self, timeouts, request.method == b"HEAD")
        self._is_expecting = True
        self._barren = 0
        body = request.body
        if isinstance(body, bytes) and len(body) <= ONE_WRITE_BYTES:
            self._transport.write(head + body)
            response.is_sent = True
            response.sent_s = self.loop.time()
            deadline_s, first_event_s = timeouts.deadline_s, timeouts.first_event_s
            if first_event_s is None and deadline_s is not None and deadline_s >= self._timer_at_s:
                # It fires before this response can be late, and is set anew then.
                return response
        else:
            self._transport.write(head)
            self._upload = Upload(self, response, request)
            self._upload_task = spawn(self._upload.run(), "upstream upload")
        self.watch(response.limit()[0])
        return response

    def finish(self, response: Http1Response) -> None:
        """The response is closed: back to the pool, or away with the connection."""
        if self._response is not response:
            return
        self._response = None
        if self._upload is not None:
            self._stop_upload()
        transport = self._transport
        if self.is_dropped or transport is None:
            return
        if not (response.is_complete and response.is_sent) or transport.get_write_buffer_size():
            self.abort()
        elif not response.keeps_alive:
            self.shut()
        else:
            if response.is_paused:
                transport.resume_reading()
            self._owner.release(self)

    def resume(self, response: Http1Response) -> None:
        """Read from the socket again, now that the response's buffer is empty."""
        response.is_paused = False
        if self._response is response and not self.is_dropped and self._transport is not None:
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Queue bytes for the socket."""
        assert self._transport is not None
        self._transport.write(data)

    def watch(self, at_s: float) -> None:
        """Look at the response's limit at `at_s` (loop time) at the latest."""
        if at_s < self._timer_at_s and not self.is_dropped:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at_s = at_s
            self._timer = self.loop.call_at(at_s, self._on_timer)

    def shut(self) -> None:
        """Close an idle connection in order (with TLS: with its goodbye)."""
        if not self.is_dropped:
            if self._transport is not None:
                self._transport.close()
            self._drop()

    def abort(self) -> None:
        """Close at once, by a reset: an upstream that does not read would take a FIN for a half-close."""
        if not self.is_dropped:
            if self._transport is not None:
                _reset(self._transport)
            self._drop()

    def fail(self, error: GatewayError) -> None:
        """End the exchange with `error`, after what has arrived of it."""
        response = self._response
        if response is not None and not response.is_complete and response.error is None:
            response.error = error
            response.wake()
        self.abort()

    # --- the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected, with TLS already done."""
        self._transport = cast(asyncio.Transport, transport)
        if self.is_dropped:  # given up while it was being connected
            _reset(self._transport)
            return
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A middle box that forgot the flow says nothing: probes find out, long before an idle timeout of minutes.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """Parse, then let the reader look."""
        response = self._response
        if response is None or not self._is_expecting:
            self.abort()
            return
        barren = self._barren = self._barren + len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if response.is_complete:  # the reply itself is sound; what follows it is not
                response.keeps_alive = False
            else:
                fault = UpstreamError(f"The upstream does not speak HTTP/1.1 as it should: {error}.")
                fault.__cause__ = error
                self.fail(fault)
                return
        if response.status:
            response.wake()
            if response.buffered > HIGH_WATER_BYTES and not response.is_paused and not response.is_complete:
                response.is_paused = True
                assert self._transport is not None
                self._transport.pause_reading()
        if barren > MAX_BARREN_BYTES and self._barren and not response.is_complete:
            self.fail(UpstreamError(f"The upstream sent more than {MAX_BARREN_BYTES} bytes of headers."))

    def eof_received(self) -> None:
        """The upstream has said its last: half-open connections are of no use to anybody here."""
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed by either side, or reset."""
        self._end(exc)
        # The parser holds bound methods of this object: without the cycle it is freed at once, not by the collector.
        del self._parser
        self._transport = None

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self.is_writing_paused = True

    def resume_writing(self) -> None:
        """The socket takes more again."""
        self.is_writing_paused = False
        if self._upload is not None:
            self._upload.wake()

    # --- the parser's side

    def on_message_begin(self) -> None:
        """A response begins; there must be somebody who asked."""
        if not self._is_expecting:
            raise _Surplus

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line, or a trailer, which nobody needs."""
        self._headers.append((KNOWN_NAMES.get(name) or name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head of a response, 1xx included."""
        parser = self._parser
        response = self._response
        assert response is not None
        status = parser.get_status_code()
        headers, self._headers = self._headers, []
        if status < 200:
            self._is_interim = True
            return
        if self._http_version is None:  # neither changes during the life of a connection
            self._http_version = parser.get_http_version()
            self.keep_alive_s = _keep_alive_s(headers)
        response.http_version = self._http_version
        response.status = status
        response.headers = headers
        if response.is_head:
            # The parser cannot be told that no body follows; so it is not used again.
            response.is_complete = True
            self._is_expecting = False
        else:
            response.keeps_alive = parser.should_keep_alive()
        if response.sent_s is None:
            response.sent_s = self.loop.time()
            self.watch(response.limit()[0])
            if status >= 300:
                self._stop_upload()

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        response = self._response
        assert response is not None
        response.pieces.append(piece)
        response.buffered += len(piece) + _PIECE_OVERHEAD_BYTES
        self._barren = 0

    def on_message_complete(self) -> None:
        """The clean end of a response."""
        if self._is_interim:
            self._is_interim = False
            return
        if self._headers:
            self._headers = []
        response = self._response
        assert response is not None
        response.is_complete = True
        self._is_expecting = False

    # --- inside

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at_s = inf
        response = self._response
        if response is None or response.is_complete:
            return
        at, phase = response.limit()
        late_s = self.loop.time() - at
        if late_s >= -_TIMER_SLACK_S:
            self.fail(UpstreamTimeout(f"The upstream took too long ({phase} timeout).", phase=phase))
        elif at < inf:
            self.watch(at)

    def _end(self, exc: Exception | None) -> None:
        response = self._response
        if response is not None and not response.is_complete and response.error is None:
            if not response.status:
                response.error = UpstreamTruncated("The upstream closed the connection before its reply began.")
            elif exc is not None:
                response.error = UpstreamTruncated("The upstream reset the connection in the middle of its reply.")
            elif response.is_delimited:
                response.error = UpstreamTruncated("The upstream closed the connection in the middle of its reply.")
            else:
                response.is_complete = True
            if response.error is not None:
                response.error.__cause__ = exc
            response.wake()
        if not self.is_dropped:
            if self._transport is not None:
                # Not close(): that would first wait for what is still to be written.
                self._transport.abort()
            self._drop()

    def _drop(self) -> None:
        self.is_dropped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._upload is not None:
            self._upload.wake()
        self._owner.discard(self)

    def _stop_upload(self) -> None:
        if self._upload is not None and self._upload_task is not None:
            self._upload.is_over = True
            self._upload_task.cancel()
            self._upload = self._upload_task = None


def _reset(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
    transport.abort()


def _keep_alive_s(headers: Headers) -> int | None:
    for name, value in headers:
        if name == b"keep-alive":
            for parameter in value.lower().split(b","):
                key, _, seconds = parameter.strip().partition(b"=")
                if key == b"timeout" and seconds.isdigit() and len(seconds) < 10:
                    return int(seconds)
    return None
