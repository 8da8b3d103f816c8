"""The same door with stock httpx behind it: for HTTP/2 and proxies.

Two of its habits are handled here, both of httpcore 1.0.9. A call that is cancelled between being
given a connection and using it loses a place in the pool for ever; so every call runs in a task of
its own, which is not cancelled before its request goes out. And an HTTP/2 stream that is closed
early is not reset, so the upstream would go on; so it is reset here.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from typing import Any

import httpx

from gateway.core.errors import (
    GatewayError,
    Headers,
    Overloaded,
    UpstreamConnectError,
    UpstreamError,
    UpstreamTimeout,
    UpstreamTruncated,
)
from gateway.core.pipeline import spawn
from gateway.transport.base import Origin, PoolStats, Timeouts, UpstreamRequest
from gateway.transport.head import encode_head
from gateway.transport.line import WaitingLine
from gateway.transport.pool import KEEPALIVE_PLAIN_S, KEEPALIVE_TLS_S, Limits
from gateway.transport.response import Phase, declares_end

_GOODBYE_S = 1.0
_OVERLOAD_RETRY_S = 1.0
_HTTP2_CANCEL = 8
"""RFC 9113, 7."""


class StockTransport:
    """An `Upstream` over httpx.AsyncClient; proxies come from the environment, as httpx reads it.

    `limits.max_connections` bounds requests in flight; with HTTP/2 they share connections. `stats`
    counts requests. `limits.max_age_s` is not observed. httpx changes the ALPN offer of
    `ssl_context`: give each transport its own.
    """

    def __init__(self, origin: Origin, *, ssl_context: ssl.SSLContext | None, limits: Limits) -> None:
        self._origin = origin
        self._limits = limits
        self._client = httpx.AsyncClient(
            verify=ssl_context if ssl_context is not None else True,
            http2=True,
            trust_env=True,
            follow_redirects=False,
            timeout=None,
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=None, keepalive_expiry=_keepalive_s(origin, limits)
            ),
        )
        self._in_flight = 0
        self._line: WaitingLine[None] = WaitingLine(limits.max_waiting, lambda _: self._leave())

    async def open(self, request: UpstreamRequest, timeouts: Timeouts) -> "StockResponse":
        """The response to `request`, as soon as its head is there. See `Upstream.open`.

        What is not HTTP raises UpstreamTruncated here, since httpx does not tell the two apart.
        """
        encode_head(request, self._origin.authority)  # for its check alone
        started_s = asyncio.get_running_loop().time()
        await self._enter(started_s, timeouts)
        sending = _Sending(self._client, _httpx_request(self._origin, request, timeouts), started_s)
        task = spawn(sending.run(), "stock request")
        try:
            await sending.wait(task, timeouts)
        except BaseException:
            sending.is_abandoned = True
            if sending.sent_s is not None:
                task.cancel()
            task.add_done_callback(self._settle)
            raise
        outcome = task.result()
        if isinstance(outcome, GatewayError):
            self._leave()
            raise outcome
        return StockResponse(outcome, timeouts, sending.sent_s or started_s, self._leave)

    def stats(self) -> PoolStats:
        """Requests in flight, as connections in use."""
        return PoolStats(open=self._in_flight, idle=0, in_use=self._in_flight, waiting=len(self._line))

    async def aclose(self) -> None:
        """Close every connection."""
        self._line.fail(UpstreamConnectError(f"The connections to {self._origin.host} are closed."))
        with suppress(httpx.HTTPError):
            await self._client.aclose()

    async def _enter(self, now: float, timeouts: Timeouts) -> None:
        deadline = timeouts.deadline_s if timeouts.deadline_s is not None else inf
        if deadline <= now:
            raise UpstreamTimeout("No time was left for the upstream (total timeout).", phase="total")
        if self._client.is_closed:
            raise UpstreamConnectError(f"The connections to {self._origin.host} are closed.")
        if self._in_flight < self._limits.max_connections:
            self._in_flight += 1
            return
        if self._line.is_full:
            raise Overloaded("Too many requests wait for this upstream already.", retry_after_s=_OVERLOAD_RETRY_S)
        try:
            await self._line.wait(min(now + timeouts.connect_s, deadline))
        except TimeoutError:
            if deadline <= now + timeouts.connect_s:
                raise UpstreamTimeout("No connection became free in time (total timeout).", phase="total") from None
            raise Overloaded(
                "As many requests as allowed are in flight to this upstream, and none ended in time.",
                retry_after_s=_OVERLOAD_RETRY_S,
            ) from None

    def _leave(self) -> None:
        if not self._line.offer(None):
            self._in_flight -= 1

    def _settle(self, task: "asyncio.Task[httpx.Response | GatewayError]") -> None:
        if task.cancelled() or task.exception() is not None or isinstance(outcome := task.result(), GatewayError):
            self._leave()
        else:
            spawn(_shut(outcome, False, self._leave), "stock response close")


class StockResponse:
    """An `UpstreamResponse` over httpx's."""

    __slots__ = (
        "_error",
        "_has_begun",
        "_is_closed",
        "_is_complete",
        "_leave",
        "_pieces",
        "_response",
        "_sent_s",
        "_timeouts",
        "headers",
        "http_version",
        "is_delimited",
        "status",
    )

    def __init__(self, response: httpx.Response, timeouts: Timeouts, sent_s: float, leave: Callable[[], None]) -> None:
        self._response = response
        self._pieces = response.aiter_raw()
        self._timeouts = timeouts
        self._sent_s = sent_s
        self._leave = leave
        self._error: GatewayError | None = None
        self._has_begun = False
        self._is_complete = False
        self._is_closed = False
        self.status = response.status_code
        self.headers: Headers = [(name.lower(), value) for name, value in response.headers.raw]
        self.http_version = response.http_version.removeprefix("HTTP/")
        self.is_delimited = self.http_version == "2" or self.status in (204, 304) or declares_end(self.headers)

    async def read(self) -> bytes:
        """The next piece; `b""` at the clean end, and again after it. Raises as `UpstreamResponse.read`."""
        if self._is_complete:
            return b""
        if self._is_closed:
            raise UpstreamTruncated("The response was closed before its end.")
        if self._error is not None:
            raise self._error
        at, phase = self._limit()
        try:
            async with asyncio.timeout_at(at if at < inf else None):
                with map_from_httpx():
                    piece = await anext(self._pieces, b"")
        except TimeoutError:
            self._error = UpstreamTimeout(f"The upstream took too long ({phase} timeout).", phase=phase)
            raise self._error from None
        except GatewayError as error:
            self._error = error
            raise
        except BaseException:
            # httpx's iterator is spent by any exception, and would look like a clean end afterwards.
            self._error = UpstreamTruncated("Reading the response was interrupted.")
            raise
        if not piece:
            self._is_complete = True
        return piece

    def whole(self, limit: int) -> bytes | None:
        """None: every piece has to be waited for."""
        return None

    async def read_all(self, limit: int) -> bytes:
        """The rest of the body. Raises UpstreamError above `limit` bytes."""
        gathered = bytearray()
        while piece := await self.read():
            gathered += piece
            if len(gathered) > limit:
                raise UpstreamError(f"The upstream's reply is larger than the {limit} bytes that are allowed.")
        return bytes(gathered)

    def take(self) -> bytes | None:
        """Nothing is ever at hand here: httpx gives its pieces to whoever waits."""
        return None

    def listen(self, listener: Callable[[], None] | None) -> bool:
        """Not able to: httpx has no way to call."""
        return False

    def begin(self) -> None:
        """Note that the first event was seen: from now on `idle_s` applies, not `first_event_s`."""
        self._has_begun = True

    def close(self) -> None:
        """Let httpx have its connection back; a few turns of the loop later it has it."""
        if not self._is_closed:
            self._is_closed = True
            spawn(_shut(self._response, self._is_complete, self._leave), "stock response close")

    def _limit(self) -> tuple[float, Phase]:
        timeouts = self._timeouts
        at: float = inf
        phase: Phase = "first_token"
        if self._has_begun:
            at, phase = asyncio.get_running_loop().time() + timeouts.idle_s, "idle"
        elif timeouts.first_event_s is not None:
            at = self._sent_s + timeouts.first_event_s
        if timeouts.deadline_s is not None and timeouts.deadline_s <= at:
            return timeouts.deadline_s, "total"
        return at, phase


class _Abandoned(Exception):
    """Nobody waits for this call any more, and nothing of it was sent."""


class _Sending:
    """One call of httpx until its head is there."""

    def __init__(self, client: httpx.AsyncClient, request: httpx.Request, started_s: float) -> None:
        self._client = client
        self._request = request
        self._started_s = started_s
        self._loop = asyncio.get_running_loop()
        self._sent: asyncio.Future[None] = self._loop.create_future()
        self.sent_s: float | None = None
        self.is_abandoned = False
        request.extensions["trace"] = self._trace

    async def run(self) -> httpx.Response | GatewayError:
        """The response or the fault, as a value: who waited for it may be gone."""
        try:
            with map_from_httpx():
                return await self._client.send(self._request, stream=True, auth=None)
        except GatewayError as error:
            return error
        except _Abandoned:
            return UpstreamConnectError("The request was given up before it was sent.")

    async def wait(self, task: "asyncio.Task[httpx.Response | GatewayError]", timeouts: Timeouts) -> None:
        """Until `task` is done. Raises UpstreamTimeout."""
        while not task.done():
            at, phase = self._limit(timeouts)
            left_s = at - self._loop.time()
            if left_s <= 0:
                raise UpstreamTimeout(f"The upstream took too long ({phase} timeout).", phase=phase)
            awaited: set[asyncio.Future[Any]] = {task} if self._sent.done() else {task, self._sent}
            await asyncio.wait(awaited, timeout=left_s if left_s < inf else None, return_when=asyncio.FIRST_COMPLETED)

    def _limit(self, timeouts: Timeouts) -> tuple[float, Phase]:
        at: float
        phase: Phase
        if self.sent_s is None:
            at, phase = self._started_s + timeouts.connect_s, "connect"
        else:
            first_s = timeouts.first_event_s
            at, phase = (inf if first_s is None else self.sent_s + first_s), "first_token"
        if timeouts.deadline_s is not None and timeouts.deadline_s <= at:
            return timeouts.deadline_s, "total"
        return at, phase

    async def _trace(self, name: str, _info: dict[str, Any]) -> None:
        if name.endswith(".send_request_headers.started"):
            if self.is_abandoned:
                raise _Abandoned
            if self.sent_s is None:
                self.sent_s = self._loop.time()
                self._sent.set_result(None)


@contextmanager
def map_from_httpx() -> Iterator[None]:
    """httpx's faults as ours."""
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise UpstreamTimeout("The upstream could not be reached in time.", phase="connect") from error
    except (httpx.ConnectError, httpx.ProxyError, httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
        raise UpstreamConnectError(f"No connection to the upstream: {error}.") from error
    except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
        raise UpstreamTruncated("The upstream closed the connection before the end of its reply.") from error
    except httpx.HTTPError as error:
        raise UpstreamError(f"The upstream could not be talked to ({type(error).__name__}).") from error


async def _shut(response: httpx.Response, is_complete: bool, leave: Callable[[], None]) -> None:
    try:
        with suppress(httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                if not is_complete:
                    await _reset_stream(response)
                await response.aclose()
    finally:
        leave()


async def _reset_stream(response: httpx.Response) -> None:
    stream_id = response.extensions.get("stream_id")
    if stream_id is None:
        return
    # httpcore keeps the connection behind private names; where they are not, the stream runs on unread.
    stream: Any = response.stream
    while stream is not None and not hasattr(stream, "_connection"):
        stream = getattr(stream, "_stream", None) or getattr(stream, "_httpcore_stream", None)
    connection = getattr(stream, "_connection", None)
    state = getattr(connection, "_h2_state", None)
    if connection is not None and state is not None and stream_id in connection._events:
        state.reset_stream(stream_id, error_code=_HTTP2_CANCEL)
        await connection._write_outgoing_data(stream._request)


def _httpx_request(origin: Origin, request: UpstreamRequest, timeouts: Timeouts) -> httpx.Request:
    headers = list(request.headers)
    body: bytes | AsyncIterator[bytes] | None = request.body
    if not isinstance(body, bytes) and request.content_length is not None:
        headers.append((b"content-length", b"%d" % request.content_length))
    if body == b"" and request.method in (b"GET", b"HEAD", b"DELETE"):
        body = None
    return httpx.Request(
        request.method.decode("ascii"),
        httpx.URL(scheme=origin.scheme, host=origin.host, port=origin.port, raw_path=request.target),
        headers=headers,
        content=body,
        extensions={"timeout": {"connect": timeouts.connect_s, "read": None, "write": None, "pool": None}},
    )


def _keepalive_s(origin: Origin, limits: Limits) -> float:
    if limits.keepalive_s is not None:
        return limits.keepalive_s
    return KEEPALIVE_TLS_S if origin.scheme == "https" else KEEPALIVE_PLAIN_S
