"""Upstream bytes on their way down."""

import gzip

import pytest

from gateway.core.errors import UpstreamError, UpstreamReplyError, UpstreamTimeout, UpstreamTruncated
from gateway.providers.decoding import Decoder
from gateway.providers.streams import EventStream, Pieces
from gateway.wire.stream_reader import reader_for
from tests.fakes import FakeResponse

pytestmark = pytest.mark.anyio


def _chunk(text: str, finish: str = "null") -> bytes:
    delta = f'{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":{finish}}}'
    return f'data: {{"id":"c","model":"m","choices":[{delta}]}}\n\n'.encode()


FIRST, LAST, DONE = _chunk("a"), _chunk("b", '"stop"'), b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"boom","type":"server_error","code":null}}\n\n'


def _stream(response: FakeResponse, *, strip_usage: bool = False, decoder: Decoder | None = None) -> EventStream:
    reader = reader_for("openai", "chat", prompt_bytes=10, strip_usage=strip_usage)
    return EventStream(response, reader, decoder)


async def _all(stream: EventStream) -> bytes:
    await stream.peek()
    return b"".join([block async for block in stream])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_a_stream_is_relayed_byte_for_byte_whatever_the_pieces(size: int) -> None:
    """F20, F22."""
    text = b": ping\n\n" + _chunk("\u2028 \u0085 \U0001f600") + LAST + DONE
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert await _all(_stream(FakeResponse(pieces=pieces))) == text


async def test_every_block_is_complete_frames() -> None:
    stream = _stream(FakeResponse(pieces=[FIRST[:9], FIRST[9:] + LAST[:5], LAST[5:] + DONE]))
    await stream.peek()
    assert [block async for block in stream] == [FIRST, LAST + DONE]


async def test_a_peek_waits_for_the_first_real_event_and_loses_nothing() -> None:
    response = FakeResponse(pieces=[b": ping\n\n", b": ping\n\n", FIRST, LAST, DONE])
    stream = _stream(response)
    assert not response.has_begun
    await stream.peek()
    assert response.has_begun
    assert response.pieces == [LAST, DONE]
    assert await anext(stream) == b": ping\n\n: ping\n\n" + FIRST


async def test_an_error_instead_of_the_first_event_is_raised_by_the_peek() -> None:
    """F26."""
    response = FakeResponse(pieces=[b": ping\n\n" + ERROR])
    with pytest.raises(UpstreamReplyError, match="boom"):
        await _stream(response).peek()
    assert not response.has_begun


async def test_an_error_event_comes_after_everything_before_it_and_whole() -> None:
    """F15, F16, F25."""
    stream = _stream(FakeResponse(pieces=[FIRST + FIRST, FIRST + ERROR[:9], ERROR[9:], LAST]))
    await stream.peek()
    blocks: list[bytes] = []
    with pytest.raises(UpstreamReplyError) as caught:
        async for block in stream:
            blocks.append(block)
    assert b"".join(blocks) == FIRST * 3
    assert caught.value.relay == ERROR


async def test_an_error_in_the_first_block_behind_an_event_keeps_the_event() -> None:
    stream = _stream(FakeResponse(pieces=[FIRST + ERROR]))
    await stream.peek()
    assert await anext(stream) == FIRST
    with pytest.raises(UpstreamReplyError):
        await anext(stream)


@pytest.mark.parametrize("fault", [None, UpstreamTruncated("reset")], ids=["clean end", "reset"])
async def test_a_stream_that_stops_early_is_truncated(fault: Exception | None) -> None:
    """F18, F19: `eof_after`, `rst_after`."""
    stream = _stream(FakeResponse(pieces=[FIRST], fault=fault))
    await stream.peek()
    assert await anext(stream) == FIRST
    with pytest.raises(UpstreamTruncated):
        await anext(stream)


async def test_a_stream_that_ends_before_its_first_event_never_began() -> None:
    for fault in (None, UpstreamTruncated("reset")):
        response = FakeResponse(pieces=[b": ping\n\n"], fault=fault)
        with pytest.raises(UpstreamTruncated):
            await _stream(response).peek()


async def test_a_break_after_the_last_event_cuts_nothing() -> None:
    fault = UpstreamTruncated("reset")
    assert await _all(_stream(FakeResponse(pieces=[FIRST, LAST, DONE], fault=fault))) == FIRST + LAST + DONE


async def test_a_missing_done_is_added_after_the_finish_reason() -> None:
    """F18: `nodone`, with a clean end and with a reset."""
    for fault in (None, UpstreamTruncated("reset")):
        assert await _all(_stream(FakeResponse(pieces=[FIRST, LAST], fault=fault))) == FIRST + LAST + DONE


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
async def test_a_last_event_without_its_blank_line_still_counts(ending: bytes) -> None:
    """F22."""
    text = await _all(_stream(FakeResponse(pieces=[FIRST, LAST, DONE.rstrip() + ending])))
    assert text.startswith(FIRST + LAST + b"data: [DONE]")
    assert text.endswith(b"\n\n")
    assert text.count(b"[DONE]") == 1


async def test_an_error_event_without_its_blank_line_is_still_an_error() -> None:
    stream = _stream(FakeResponse(pieces=[FIRST, ERROR.rstrip()]))
    await stream.peek()
    assert await anext(stream) == FIRST
    with pytest.raises(UpstreamReplyError):
        await anext(stream)


@pytest.mark.parametrize("fault", [None, UpstreamTruncated("reset")], ids=["clean end", "reset"])
async def test_half_an_event_at_the_end_is_never_sent(fault: Exception | None) -> None:
    """F16, F19: a client must not be given cut JSON as if it were an event."""
    stream = _stream(FakeResponse(pieces=[FIRST, LAST[:-20]], fault=fault))
    await stream.peek()
    blocks: list[bytes] = []
    with pytest.raises(UpstreamTruncated):
        async for block in stream:
            blocks.append(block)
    assert b"".join(blocks) == FIRST


async def test_blocks_of_which_nothing_is_left_are_skipped() -> None:
    usage = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
    stream = _stream(FakeResponse(pieces=[FIRST, LAST, usage, DONE]), strip_usage=True)
    await stream.peek()
    assert [block async for block in stream] == [FIRST, LAST, DONE]


async def test_a_timeout_goes_through_as_it_is() -> None:
    """F13."""
    stream = _stream(FakeResponse(pieces=[FIRST], fault=UpstreamTimeout("late", phase="idle")))
    await stream.peek()
    assert await anext(stream) == FIRST
    with pytest.raises(UpstreamTimeout):
        await anext(stream)


async def test_a_compressed_stream_is_decoded() -> None:
    """F91."""
    text = FIRST + LAST + DONE
    packed = gzip.compress(text)
    pieces = [packed[start : start + 5] for start in range(0, len(packed), 5)]
    assert await _all(_stream(FakeResponse(pieces=pieces), decoder=Decoder(b"gzip", 10_000))) == text


async def test_a_stream_is_over_for_good() -> None:
    stream = _stream(FakeResponse(pieces=[FIRST, LAST, DONE]))
    await _all(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_file_comes_piece_by_piece() -> None:
    pieces = Pieces(FakeResponse(pieces=[b"a", b"\x00b"]), None)
    assert [piece async for piece in pieces] == [b"a", b"\x00b"]


async def test_a_compressed_file_is_decoded_without_empty_pieces() -> None:
    packed = gzip.compress(b"text")
    pieces = Pieces(FakeResponse(pieces=[packed[:1], packed[1:]]), Decoder(b"gzip", 100))
    assert [piece async for piece in pieces] == [b"text"]


async def test_a_file_that_is_cut_or_broken_does_not_end_cleanly() -> None:
    """F19."""
    with pytest.raises(UpstreamTruncated):
        _ = [piece async for piece in Pieces(FakeResponse(pieces=[b"a"], fault=UpstreamTruncated("x")), None)]
    with pytest.raises(UpstreamError):
        _ = [piece async for piece in Pieces(FakeResponse(pieces=[b"plain"]), Decoder(b"gzip", 100))]
