"""The bytes of a request's head."""

from collections.abc import AsyncIterator

import pytest

from gateway.core.errors import UpstreamConnectError
from gateway.transport.base import UpstreamRequest
from gateway.transport.head import encode_head


async def nothing() -> AsyncIterator[bytes]:
    yield b""


def test_a_post_has_host_and_length() -> None:
    request = UpstreamRequest(b"POST", b"/v1/x?y=1", [(b"a", b"1"), (b"b", b"")], b"{}")
    assert (
        encode_head(request, b"h:1")
        == b"POST /v1/x?y=1 HTTP/1.1\r\nhost: h:1\r\na: 1\r\nb: \r\ncontent-length: 2\r\n\r\n"
    )


def test_an_empty_post_says_so_and_a_get_says_nothing() -> None:
    assert encode_head(UpstreamRequest(b"POST", b"/", []), b"h").endswith(b"h\r\ncontent-length: 0\r\n\r\n")
    assert encode_head(UpstreamRequest(b"GET", b"/", []), b"h") == b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"


def test_an_iterator_is_framed_by_its_length_or_in_chunks() -> None:
    known = UpstreamRequest(b"POST", b"/", [], nothing(), 7)
    unknown = UpstreamRequest(b"POST", b"/", [], nothing())
    assert encode_head(known, b"h").endswith(b"\r\ncontent-length: 7\r\n\r\n")
    assert encode_head(unknown, b"h").endswith(b"\r\ntransfer-encoding: chunked\r\n\r\n")


@pytest.mark.parametrize("value", [b"key\n", b"key\r", b"key\r\nx-evil: 1"])
def test_a_line_break_in_a_header_is_refused_and_the_value_not_shown(value: bytes) -> None:
    """F87, F114."""
    with pytest.raises(UpstreamConnectError, match="the header 'authorization' holds a line break") as caught:
        encode_head(UpstreamRequest(b"POST", b"/", [(b"authorization", value)], b"{}"), b"h")
    assert "key" not in caught.value.message


@pytest.mark.parametrize("target", [b"/a\nb", b"/a HTTP/1.1\r\nx: y\r\n\r\n"])
def test_a_line_break_in_the_target_is_refused(target: bytes) -> None:
    """F87."""
    with pytest.raises(UpstreamConnectError, match="request line"):
        encode_head(UpstreamRequest(b"GET", target, []), b"h")
