"""How an ordinary httpx.AsyncClient uses a pool of ours."""

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx

from gateway.core.errors import (
    Overloaded,
    UpstreamConnectError,
    UpstreamError,
    UpstreamTimeout,
    UpstreamTruncated,
)
from gateway.transport.base import Origin, Timeouts, UpstreamRequest, UpstreamResponse

_FRAMING = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection"))
_FOREVER_S = 86400.0


class HttpxDoor(httpx.AsyncBaseTransport):
    """`handle_async_request` in terms of `open`. Faults become httpx's own, the cause is kept."""

    origin: Origin

    @abstractmethod
    async def open(self, request: UpstreamRequest, timeouts: Timeouts) -> UpstreamResponse:
        """See `Upstream.open`."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """httpx's way in. Raises httpx.UnsupportedProtocol for a URL of another origin."""
        url = request.url
        port = url.port or {"http": 80, "https": 443}.get(url.scheme)
        if (url.scheme, url.raw_host.decode("ascii").strip("[]"), port) != (
            self.origin.scheme,
            self.origin.host,
            self.origin.port,
        ):
            raise httpx.UnsupportedProtocol(f"This transport reaches {self.origin} only.", request=request)
        with map_to_httpx(request):
            response = await self.open(_upstream_request(request), _timeouts(request))
        response.begin()
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Stream(response, request),
            extensions={"http_version": b"HTTP/" + response.http_version.encode("ascii")},
        )


class _Stream(httpx.AsyncByteStream):
    def __init__(self, response: UpstreamResponse, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            with map_to_httpx(self._request):
                piece = await self._response.read()
            if not piece:
                return
            yield piece

    async def aclose(self) -> None:
        self._response.close()


@contextmanager
def map_to_httpx(request: httpx.Request) -> Iterator[None]:
    """The transport's faults as httpx's, so that code written for httpx keeps working."""
    try:
        yield
    except UpstreamConnectError as error:
        raise httpx.ConnectError(error.message, request=request) from error
    except Overloaded as error:
        raise httpx.PoolTimeout(error.message, request=request) from error
    except UpstreamTimeout as error:
        kind = httpx.ConnectTimeout if error.phase == "connect" else httpx.ReadTimeout
        raise kind(error.message, request=request) from error
    except UpstreamTruncated as error:
        raise httpx.RemoteProtocolError(error.message, request=request) from error
    except UpstreamError as error:
        raise httpx.RemoteProtocolError(error.message, request=request) from error


def _upstream_request(request: httpx.Request) -> UpstreamRequest:
    headers = [(name.lower(), value) for name, value in request.headers.raw if name.lower() not in _FRAMING]
    declared = request.headers.get("content-length")
    try:
        body: bytes | AsyncIterator[bytes] = request.content
    except httpx.RequestNotRead:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        body = aiter(request.stream)
    return UpstreamRequest(
        method=request.method.encode("ascii"),
        target=request.url.raw_path,
        headers=headers,
        body=body,
        content_length=int(declared) if declared is not None else None,
    )


def _timeouts(request: httpx.Request) -> Timeouts:
    wanted = request.extensions.get("timeout", {})
    connect, pool, read = wanted.get("connect"), wanted.get("pool"), wanted.get("read")
    known = [limit for limit in (connect, pool) if limit is not None]
    return Timeouts(
        connect_s=max(known) if known else _FOREVER_S,
        first_event_s=read,
        idle_s=read if read is not None else _FOREVER_S,
        deadline_s=None,
    )
