"""The client for the gateway's own few calls, such as webhooks. No client's request ever takes this way."""

from collections.abc import Awaitable, Callable, Mapping

import httpx

from gateway import __version__

_MAX_CONNECTIONS = 10

Instrument = Callable[[httpx.AsyncClient], None]
Post = Callable[[str, Mapping[str, str], bytes], Awaitable[int]]
"""Posts bytes to a URL with these headers; the status of the answer. Raises ConnectionError when there is none."""


def control_client(timeout_s: float, instrument: Instrument | None = None) -> httpx.AsyncClient:
    """A client whose every wait is bounded by `timeout_s`, to be closed with `aclose`.

    `instrument` makes its calls visible in traces. It follows no redirect, since what it sends is meant
    for one address, and it takes the proxies and certificates of the environment, as the operator's
    other programs do.
    """
    client = httpx.AsyncClient(
        timeout=timeout_s,
        follow_redirects=False,
        limits=httpx.Limits(max_connections=_MAX_CONNECTIONS, max_keepalive_connections=2),
        headers={"user-agent": f"llm-gateway/{__version__}"},
    )
    if instrument is not None:
        instrument(client)
    return client


def poster(client: httpx.AsyncClient) -> Post:
    """Posts by `client`. What goes wrong is told by its kind alone: the URL may be a credential."""

    async def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
        try:
            # Nobody reads the answer, however long it is.
            async with client.stream("POST", url, headers=dict(headers), content=body) as response:
                return response.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ConnectionError(type(error).__name__) from error

    return post
