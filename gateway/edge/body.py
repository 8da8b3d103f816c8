"""The client's body: read whole within a limit, or passed on as it comes (F97)."""

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from gateway.core.errors import ClientGone, InvalidRequest, RequestTooLarge

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Message], Awaitable[None]]


def declared_length(value: bytes | None, limit: int) -> int | None:
    """The Content-Length, None without one. Raises RequestTooLarge before a byte is read."""
    if value is None:
        return None
    if not value.isdigit() or len(value) > 15:
        raise InvalidRequest("The Content-Length header is not a number.")
    length = int(value)
    if length > limit:
        raise too_large(limit)
    return length


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body. Raises RequestTooLarge above `limit` bytes, ClientGone when the client leaves."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise ClientGone("The client left while sending its body.")
    if not message.get("more_body", False):
        if len(body) > limit:
            raise too_large(limit)
        return body
    pieces = [body]
    size = len(body)
    async for piece in body_pieces(receive, limit - size):
        pieces.append(piece)
    return b"".join(pieces)


async def body_pieces(receive: Receive, limit: int) -> AsyncIterator[bytes]:
    """The body as it arrives, once. Raises as `read_body`."""
    left = limit
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("The client left while sending its body.")
        piece: bytes = message.get("body", b"")
        left -= len(piece)
        if left < 0:
            raise too_large(limit)
        if piece:
            yield piece
        if not message.get("more_body", False):
            return


def too_large(limit: int) -> RequestTooLarge:
    """The error for a body over `limit` bytes."""
    return RequestTooLarge(f"The body is larger than this gateway accepts ({limit} bytes; server.max_body).")
