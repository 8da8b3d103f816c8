"""The head of an HTTP/1.1 request, as bytes."""

from gateway.core.errors import UpstreamConnectError
from gateway.transport.base import UpstreamRequest

_colon = b": ".join
_METHODS_WITH_BODY = frozenset((b"POST", b"PUT", b"PATCH"))


def encode_head(request: UpstreamRequest, authority: bytes) -> bytes:
    """Request line and headers up to the empty line; framing follows from the body (RFC 9112, 6).

    Raises UpstreamConnectError when a line break hides in the target or in a header: an API key read
    from a file with one must not become two header lines. Nothing has been sent then.
    """
    headers = request.headers
    body = request.body
    lines = b"\r\n".join(map(_colon, headers)) + b"\r\n" if headers else b""
    if not isinstance(body, bytes):
        length = request.content_length
        framing = b"transfer-encoding: chunked\r\n\r\n" if length is None else b"content-length: %d\r\n\r\n" % length
    elif body or request.method in _METHODS_WITH_BODY:
        framing = b"content-length: %d\r\n\r\n" % len(body)
    else:
        framing = b"\r\n"
    head = b"%b %b HTTP/1.1\r\nhost: %b\r\n%b%b" % (request.method, request.target, authority, lines, framing)
    # Two scans of the whole are cheaper than looking into every value.
    expected = len(headers) + (3 if framing == b"\r\n" else 4)
    if head.count(b"\n") != expected or head.count(b"\r") != expected:
        raise UpstreamConnectError(f"Not sent: {_where(request)} holds a line break. Remove it from the configuration.")
    return head


def _where(request: UpstreamRequest) -> str:
    for name, value in request.headers:
        if b"\n" in value or b"\r" in value:
            return f"the header {name.decode('latin-1')!r}"
    return "the request line or a header name"
