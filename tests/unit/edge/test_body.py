"""The client's body."""

import pytest

from gateway.core.errors import ClientGone, InvalidRequest, RequestTooLarge
from gateway.edge.body import body_pieces, declared_length, read_body
from tests.fakes import Client

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("value", "length"), [(None, None), (b"0", 0), (b"10", 10), (b"007", 7)])
async def test_a_declared_length_is_a_number_of_bytes(value: bytes | None, length: int | None) -> None:
    assert declared_length(value, 10) == length


@pytest.mark.parametrize("value", [b"", b"-1", b"+1", b"1.5", b"0x10", b"1 ", b"1" * 16, b"\xb2"])
async def test_a_length_that_is_no_number_is_refused(value: bytes) -> None:
    """F87."""
    with pytest.raises(InvalidRequest, match="not a number"):
        declared_length(value, 10)


async def test_a_declared_length_over_the_limit_is_refused_before_a_byte_is_read() -> None:
    """F97."""
    with pytest.raises(RequestTooLarge, match=r"10 bytes; server.max_body"):
        declared_length(b"11", 10)


@pytest.mark.parametrize("pieces", [(b"0123456789",), (b"01234", b"56789"), (b"", b"0123456789", b""), (b"",)])
async def test_a_body_up_to_the_limit_is_read_whole(pieces: tuple[bytes, ...]) -> None:
    assert await read_body(Client.sending(*pieces).receive, 10) == b"".join(pieces)


@pytest.mark.parametrize("pieces", [(b"0123456789a",), (b"0123456789", b"a"), (b"0123456789a", b"")])
async def test_a_body_over_the_limit_is_refused_without_a_content_length(pieces: tuple[bytes, ...]) -> None:
    """F97."""
    with pytest.raises(RequestTooLarge):
        await read_body(Client.sending(*pieces).receive, 10)


async def test_a_client_that_leaves_before_its_body_is_gone() -> None:
    with pytest.raises(ClientGone):
        await read_body(Client().receive, 10)


async def test_a_client_that_leaves_in_its_body_is_gone() -> None:
    client = Client({"type": "http.request", "body": b"0", "more_body": True})
    with pytest.raises(ClientGone):
        await read_body(client.receive, 10)


async def test_pieces_come_as_they_arrive_without_empty_ones() -> None:
    pieces = body_pieces(Client.sending(b"ab", b"", b"c").receive, 3)
    assert [piece async for piece in pieces] == [b"ab", b"c"]


async def test_pieces_over_the_limit_stop_the_upload() -> None:
    pieces = body_pieces(Client.sending(b"ab", b"cd").receive, 3)
    assert await anext(pieces) == b"ab"
    with pytest.raises(RequestTooLarge):
        await anext(pieces)
