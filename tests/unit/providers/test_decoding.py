"""Content codings that nobody asked for."""

import gzip
import zlib

import pytest

from gateway.core.errors import UpstreamError
from gateway.providers.decoding import Decoder

TEXT = b"data: {}\n\n" * 100


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        (b"gzip", gzip.compress(TEXT, mtime=0)),
        (b" GZIP ", gzip.compress(TEXT, mtime=0)),
        (b"x-gzip", gzip.compress(TEXT, mtime=0)),
        (b"deflate", zlib.compress(TEXT)),
    ],
)
def test_a_coded_body_is_decoded_whatever_the_pieces(coding: bytes, packed: bytes) -> None:
    """F91."""
    for size in (1, 7, len(packed)):
        decoder = Decoder(coding, 10_000)
        pieces = [packed[start : start + size] for start in range(0, len(packed), size)]
        assert b"".join(map(decoder.feed, pieces)) == TEXT


def test_an_unknown_coding_is_refused_without_quoting_all_of_it() -> None:
    with pytest.raises(UpstreamError, match="content coding that it was not asked for") as caught:
        Decoder(b"br" * 1000, 10)
    assert len(caught.value.message) < 200


def test_broken_data_is_the_providers_fault() -> None:
    with pytest.raises(UpstreamError, match="broken"):
        Decoder(b"gzip", 10).feed(b"this is not gzip")


def test_a_bomb_is_stopped_at_the_limit() -> None:
    bomb = gzip.compress(bytes(1_000_000))
    with pytest.raises(UpstreamError, match="larger than the limit"):
        Decoder(b"gzip", 1000).feed(bomb)


def test_the_limit_counts_all_pieces_together() -> None:
    decoder = Decoder(b"gzip", len(TEXT))
    packed = gzip.compress(TEXT, mtime=0)
    assert decoder.feed(packed) == TEXT
    late = zlib.compressobj(wbits=31)
    first = late.compress(TEXT) + late.flush(zlib.Z_SYNC_FLUSH)
    second = late.compress(b"x") + late.flush()
    decoder = Decoder(b"gzip", len(TEXT))
    assert decoder.feed(first) == TEXT
    with pytest.raises(UpstreamError):
        decoder.feed(second)
