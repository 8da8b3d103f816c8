"""Content codings that an upstream applied although it was asked for none (F91)."""

import zlib

from gateway.core.errors import Headers, UpstreamError, UpstreamTruncated
from gateway.providers.headers import first
from gateway.transport.base import UpstreamResponse

# 16 + MAX_WBITS: gzip's own wrapper; plain: zlib's (RFC 9110, 8.4.1).
_WBITS = {b"gzip": 16 + zlib.MAX_WBITS, b"x-gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}


class Decoder:
    """Undoes one content coding, piece by piece. Raises UpstreamError for an unknown coding, bad data or a bomb.

    `limit` bounds what comes out in all, in bytes: a reply of zeros shrinks a thousandfold.
    """

    def __init__(self, coding: bytes, limit: int) -> None:
        wbits = _WBITS.get(coding.strip().lower())
        if wbits is None:
            raise UpstreamError(f"The provider sent a content coding that it was not asked for: {coding[:40]!r}.")
        self._inflate = zlib.decompressobj(wbits)
        self._left = limit

    def feed(self, chunk: bytes) -> bytes:
        """What `chunk` decodes to; may be empty."""
        try:
            out = self._inflate.decompress(chunk, self._left + 1)
        except zlib.error as error:
            raise UpstreamError(f"The provider's compressed reply is broken: {error}.") from error
        self._left -= len(out)
        if self._left < 0:
            raise UpstreamError("The provider's compressed reply is larger than the limit once decoded.")
        return out

    def finish(self) -> None:
        """Raise UpstreamTruncated unless the coding came to its own end."""
        if not self._inflate.eof:
            raise UpstreamTruncated("The provider's compressed reply stopped before its end.")


def decoder_for(headers: Headers, limit: int) -> Decoder | None:
    """What undoes the coding that these headers name; None for none."""
    coding = first(headers, b"content-encoding")
    if coding is None or coding.strip().lower() == b"identity":
        return None
    return Decoder(coding, limit)


async def whole_body(response: UpstreamResponse, limit: int) -> bytes:
    """The whole body, decoded. Raises UpstreamError above `limit` bytes, and what reading raises."""
    body = await response.read_all(limit)
    decoder = decoder_for(response.headers, limit)
    if decoder is None:
        return body
    decoded = decoder.feed(body)
    if body:
        decoder.finish()
    return decoded
