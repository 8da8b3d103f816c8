"""Upstream bytes on their way down."""

import asyncio
import gc
import gzip
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from gateway.core.errors import UpstreamError, UpstreamFault, UpstreamReplyError, UpstreamTimeout, UpstreamTruncated
from gateway.core.pipeline import spawn
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


class Collector:
    """A sink that keeps its blocks; `full_after` of them it is congested, until `release` is called."""

    def __init__(self, full_after: int | None = None, fault: Exception | None = None) -> None:
        self.blocks: list[bytes] = []
        self.released = asyncio.Event()
        self._full_after = full_after
        self._fault = fault

    @property
    def is_congested(self) -> bool:
        """Whether it has as many blocks as it takes."""
        return self._full_after is not None and len(self.blocks) >= self._full_after

    async def drained(self) -> None:
        """Wait for `release`."""
        await self.released.wait()

    def release(self, full_after: int | None = None) -> None:
        """Take blocks again."""
        self._full_after = full_after
        self.released.set()

    def write(self, block: bytes) -> bool:
        """Keep a block, or raise as a tap would."""
        assert block
        if self._fault is not None:
            raise self._fault
        self.blocks.append(block)
        return self.is_congested


@dataclass
class Read:
    """What came of a stream, and how it ended."""

    blocks: list[bytes]
    fault: UpstreamFault | None = None

    @property
    def text(self) -> bytes:
        """All of it; a stream that failed has none."""
        if self.fault is not None:
            raise self.fault
        return b"".join(self.blocks)


async def _pulled(response: FakeResponse, *, strip_usage: bool = False, decoder: Decoder | None = None) -> Read:
    stream = _stream(response, strip_usage=strip_usage, decoder=decoder)
    await stream.peek()
    blocks: list[bytes] = []
    try:
        async for block in stream:
            blocks.append(block)
    except UpstreamFault as fault:
        return Read(blocks, fault)
    return Read(blocks)


async def _pushed(response: FakeResponse, *, strip_usage: bool = False, decoder: Decoder | None = None) -> Read:
    response.pushes = True
    stream = _stream(response, strip_usage=strip_usage, decoder=decoder)
    await stream.peek()
    sink = Collector()
    try:
        await stream.pour(sink)
    except UpstreamFault as fault:
        return Read(sink.blocks, fault)
    finally:
        assert response.listener is None
    return Read(sink.blocks)


Way = Callable[..., Awaitable[Read]]


@pytest.fixture(params=[_pulled, _pushed], ids=["pulled", "pushed"])
def read(request: pytest.FixtureRequest) -> Way:
    """Both ways to read a stream: they give the same."""
    way: Way = request.param
    return way


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_a_stream_is_relayed_byte_for_byte_whatever_the_pieces(read: Way, size: int) -> None:
    """F20, F22."""
    text = b": ping\n\n" + _chunk("\u2028 \u0085 \U0001f600") + LAST + DONE
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert (await read(FakeResponse(pieces=pieces))).text == text


async def test_every_block_is_complete_frames(read: Way) -> None:
    found = await read(FakeResponse(pieces=[FIRST[:9], FIRST[9:] + LAST[:5], LAST[5:] + DONE]))
    assert found == Read([FIRST, LAST + DONE])


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


async def test_an_error_event_comes_after_everything_before_it_and_whole(read: Way) -> None:
    """F15, F16, F25."""
    found = await read(FakeResponse(pieces=[FIRST + FIRST, FIRST + ERROR[:9], ERROR[9:], LAST]))
    assert b"".join(found.blocks) == FIRST * 3
    assert isinstance(found.fault, UpstreamReplyError)
    assert found.fault.relay == ERROR


async def test_an_error_in_the_first_block_behind_an_event_keeps_the_event(read: Way) -> None:
    found = await read(FakeResponse(pieces=[FIRST + ERROR]))
    assert found.blocks == [FIRST]
    assert isinstance(found.fault, UpstreamReplyError)


@pytest.mark.parametrize("fault", [None, UpstreamTruncated("reset")], ids=["clean end", "reset"])
async def test_a_stream_that_stops_early_is_truncated(read: Way, fault: Exception | None) -> None:
    """F18, F19: `eof_after`, `rst_after`."""
    found = await read(FakeResponse(pieces=[FIRST], fault=fault))
    assert found.blocks == [FIRST]
    assert isinstance(found.fault, UpstreamTruncated)


async def test_a_stream_that_ends_before_its_first_event_never_began() -> None:
    for fault in (None, UpstreamTruncated("reset")):
        response = FakeResponse(pieces=[b": ping\n\n"], fault=fault)
        with pytest.raises(UpstreamTruncated):
            await _stream(response).peek()


async def test_a_break_after_the_last_event_cuts_nothing(read: Way) -> None:
    response = FakeResponse(pieces=[FIRST, LAST, DONE], fault=UpstreamTruncated("reset"))
    assert (await read(response)).text == FIRST + LAST + DONE


async def test_a_missing_done_is_added_after_the_finish_reason(read: Way) -> None:
    """F18: `nodone`, with a clean end and with a reset."""
    for fault in (None, UpstreamTruncated("reset")):
        assert (await read(FakeResponse(pieces=[FIRST, LAST], fault=fault))).text == FIRST + LAST + DONE


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
async def test_a_last_event_without_its_blank_line_still_counts(read: Way, ending: bytes) -> None:
    """F22."""
    text = (await read(FakeResponse(pieces=[FIRST, LAST, DONE.rstrip() + ending]))).text
    assert text.startswith(FIRST + LAST + b"data: [DONE]")
    assert text.endswith(b"\n\n")
    assert text.count(b"[DONE]") == 1


async def test_an_error_event_without_its_blank_line_is_still_an_error(read: Way) -> None:
    found = await read(FakeResponse(pieces=[FIRST, ERROR.rstrip()]))
    assert found.blocks == [FIRST]
    assert isinstance(found.fault, UpstreamReplyError)


@pytest.mark.parametrize("fault", [None, UpstreamTruncated("reset")], ids=["clean end", "reset"])
async def test_half_an_event_at_the_end_is_never_sent(read: Way, fault: Exception | None) -> None:
    """F16, F19: a client must not be given cut JSON as if it were an event."""
    found = await read(FakeResponse(pieces=[FIRST, LAST[:-20]], fault=fault))
    assert b"".join(found.blocks) == FIRST
    assert isinstance(found.fault, UpstreamTruncated)


async def test_blocks_of_which_nothing_is_left_are_skipped(read: Way) -> None:
    usage = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
    found = await read(FakeResponse(pieces=[FIRST, LAST, usage, DONE]), strip_usage=True)
    assert found == Read([FIRST, LAST, DONE])


async def test_a_timeout_goes_through_as_it_is(read: Way) -> None:
    """F13."""
    late = UpstreamTimeout("late", phase="idle")
    assert await read(FakeResponse(pieces=[FIRST], fault=late)) == Read([FIRST], late)


async def test_a_compressed_stream_is_decoded(read: Way) -> None:
    """F91."""
    text = FIRST + LAST + DONE
    packed = gzip.compress(text)
    pieces = [packed[start : start + 5] for start in range(0, len(packed), 5)]
    assert (await read(FakeResponse(pieces=pieces), decoder=Decoder(b"gzip", 10_000))).text == text


async def test_a_compressed_stream_that_is_too_large_fails_where_it_is_read(read: Way) -> None:
    """F91."""
    packed = gzip.compress(FIRST + LAST * 100 + DONE, compresslevel=0)
    found = await read(FakeResponse(pieces=[packed[:400], packed[400:]]), decoder=Decoder(b"gzip", 1000))
    assert isinstance(found.fault, UpstreamError)


async def test_a_stream_is_over_for_good() -> None:
    stream = _stream(FakeResponse(pieces=[FIRST, LAST, DONE]))
    await stream.peek()
    _ = [block async for block in stream]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


# Pushed


async def _pouring(response: FakeResponse, sink: Collector) -> asyncio.Task[None]:
    """A task that pours, up to where it waits for the first time."""
    response.pushes = True
    stream = _stream(response)
    await stream.peek()
    task = spawn(stream.pour(sink), "pour")
    await asyncio.sleep(0)
    return task


async def _turns(count: int = 20) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_slow_reader_pauses_the_stream_and_loses_nothing() -> None:
    """F24: while the sink is congested nobody listens, so no idle time counts and the socket fills up."""
    response = FakeResponse(pieces=[FIRST, FIRST, FIRST, LAST, DONE])
    sink = Collector(full_after=2)
    task = await _pouring(response, sink)
    await _turns()
    assert sink.blocks == [FIRST, FIRST]
    assert response.listener is None
    assert DONE in response.pieces
    sink.release()
    await task
    assert sink.blocks == [FIRST, FIRST, FIRST, LAST, DONE]
    assert response.listener is None


async def test_what_the_peek_held_may_congest_the_sink_already() -> None:
    """F24."""
    response = FakeResponse(pieces=[FIRST, LAST, DONE])
    sink = Collector(full_after=1)
    task = await _pouring(response, sink)
    await _turns()
    assert sink.blocks == [FIRST]
    assert response.listener is None
    sink.release()
    await task
    assert sink.blocks == [FIRST, LAST, DONE]


async def test_a_cancelled_pour_leaves_no_listener() -> None:
    """F1."""
    response = FakeResponse(pieces=[FIRST])
    sink = Collector()
    task = await _pouring(response, sink)
    assert response.listener is not None
    left = response.listener
    task.cancel()
    left()
    await asyncio.wait([task])
    assert task.cancelled()
    assert response.listener is None
    left()
    assert sink.blocks == [FIRST]


async def test_what_a_tap_raises_reaches_the_task_that_pours() -> None:
    """The transport, whose callback it is, must not see it; nor may the stream go on."""
    response = FakeResponse(pieces=[FIRST, LAST, DONE])
    sink = Collector(full_after=1)
    task = await _pouring(response, sink)
    sink._fault = LookupError("cut by a policy")
    sink.release()
    await asyncio.wait([task])
    assert isinstance(task.exception(), LookupError)
    assert sink.blocks == [FIRST]
    assert response.listener is None


async def test_a_failure_in_the_turn_of_a_cancellation_is_not_reported_as_unheard() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    response = FakeResponse(pieces=[FIRST, LAST])
    sink = Collector()
    task = await _pouring(response, sink)
    sink._fault = LookupError("cut by a policy")
    while response.pieces:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    gc.collect()
    assert reported == []
    assert task.cancelled()


async def test_a_stream_that_is_at_hand_is_poured_without_waiting() -> None:
    response = FakeResponse(pieces=[FIRST], pushes=True)
    stream = _stream(response)
    await stream.peek()
    response._arrived = [LAST, DONE]
    response._is_over = True
    sink = Collector()
    pouring = stream.pour(sink)
    with pytest.raises(StopIteration):
        pouring.send(None)
    assert sink.blocks == [FIRST, LAST, DONE]


# Files


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
