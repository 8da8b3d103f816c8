"""Frames out of any pieces, byte for byte."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import UpstreamError
from gateway.wire.sse import FrameSplitter, fields, frames

SAMPLE = (
    'data: {"content":"héllo 😀 \u2028 \x85 end"}\n\n'
    ": a comment\n\n"
    'event: x\r\ndata:{"a":1}\r\ndata: two\r\n\r\n'
    "data: cr only\r\revent: y\rdata: z\r\r"
    "data: [DONE]\n\n"
).encode()


def feed_all(splitter: FrameSplitter, pieces: list[bytes]) -> list[bytes]:
    return [splitter.feed(piece) for piece in pieces]


def test_a_whole_frame_passes_as_the_same_object() -> None:
    frame = b"data: x\n\n"
    splitter = FrameSplitter()
    assert splitter.feed(frame) is frame
    assert splitter.pending == b""


def test_an_unfinished_frame_waits_for_its_end() -> None:
    splitter = FrameSplitter()
    assert splitter.feed(b"data: 1\n\ndata: 2") == b"data: 1\n\n"
    assert splitter.pending == b"data: 2"
    assert splitter.feed(b"\n") == b""
    assert splitter.feed(b"\ndata: 3") == b"data: 2\n\n"
    assert splitter.feed(b"\n\n") == b"data: 3\n\n"


def test_a_stream_of_single_bytes_gives_the_same_frames() -> None:
    """F20, F21, F22."""
    splitter = FrameSplitter()
    blocks = feed_all(splitter, [SAMPLE[i : i + 1] for i in range(len(SAMPLE))])
    assert b"".join(blocks) == SAMPLE
    assert splitter.pending == b""
    assert [block for block in blocks if block] == list(frames(SAMPLE))


def test_every_cut_gives_the_same_bytes() -> None:
    """F20, F22."""
    for cut in range(len(SAMPLE) + 1):
        splitter = FrameSplitter()
        assert b"".join(feed_all(splitter, [SAMPLE[:cut], SAMPLE[cut:]])) == SAMPLE


def test_the_line_feed_of_a_last_crlf_is_waited_for() -> None:
    splitter = FrameSplitter()
    assert splitter.feed(b"data: x\r\n\r") == b""
    assert splitter.feed(b"\ndata: y\r\n\r") == b"data: x\r\n\r\n"
    # Another byte than LF ends the wait too.
    assert splitter.feed(b"data: z") == b"data: y\r\n\r"


def test_carriage_returns_alone_end_lines() -> None:
    splitter = FrameSplitter()
    assert splitter.feed(b"data: x\r\r") == b"data: x\r\r"
    assert splitter.feed(b"\ndata: y\r\r\ndata") == b"\ndata: y\r\r\n"
    assert fields(b"\ndata: y\r\r\n") == (None, b"y")


def test_other_unicode_line_ends_are_text() -> None:
    """F21."""
    frame = "data: a\u2028b\x85c\x0bd\u2029\n\n".encode()
    assert list(frames(frame)) == [frame]
    assert fields(frame) == (None, frame[6:-2])


def test_an_endless_frame_is_refused() -> None:
    splitter = FrameSplitter(max_frame_bytes=10)
    assert splitter.feed(b"data: a long one, but whole\n\n")
    assert splitter.feed(b"0123456789") == b""
    with pytest.raises(UpstreamError, match="10 bytes"):
        splitter.feed(b"x")


def test_small_pieces_of_a_large_frame_cost_linear_time() -> None:
    size = 400_000
    started = time.process_time()
    splitter = FrameSplitter()
    for _ in range(size // 4):
        splitter.feed(b"abcd")
    assert len(splitter.feed(b"\n\n")) == size + 2
    # Quadratic copying would be 40 GB.
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("rest", "last"),
    [
        (b"", b""),
        (b"\n", b""),
        (b": bye\n", b""),
        (b"data: [DONE]", b"data: [DONE]\n\n"),
        (b"data: [DONE]\n", b"data: [DONE]\n\n"),
        (b'event: x\r\ndata: {"a":1}\r\n', b'event: x\r\ndata: {"a":1}\r\n\n'),
        (b'data: {"a":1}\r\n\r', b'data: {"a":1}\r\n\r'),
        (b'data: {"a":', b""),
        (b"data: [DO", b""),
        (b"data: " + b"[" * 100_000, b""),
    ],
)
def test_a_last_frame_without_its_blank_line_is_closed(rest: bytes, last: bytes) -> None:
    """F22, F16: a whole one gets its blank line, a cut one is dropped."""
    splitter = FrameSplitter()
    splitter.feed(b"data: x\n\n" + rest)
    assert splitter.finish() == last
    assert splitter.pending == b""


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        (b"", []),
        (b"data: 1\n\n", [b"data: 1\n\n"]),
        (b"data: 1\n\n\n\ndata: 2\n\n", [b"data: 1\n\n\n\n", b"data: 2\n\n"]),
        (b"data: 1\r\n\r\n\r\ndata: 2\r\n\r\n", [b"data: 1\r\n\r\n\r\n", b"data: 2\r\n\r\n"]),
        (b"a\r\nb\n\rc\r\r\nd", [b"a\r\nb\n\r", b"c\r\r\n", b"d"]),
        (b"\n\ndata: 1\n\n", [b"\n\n", b"data: 1\n\n"]),
        (b"data: 1\n\ndata: 2", [b"data: 1\n\n", b"data: 2"]),
    ],
)
def test_blocks_are_taken_apart_without_loss(block: bytes, parts: list[bytes]) -> None:
    assert list(frames(block)) == parts


@pytest.mark.parametrize(
    ("frame", "name", "data"),
    [
        (b"data: x\n\n", None, b"x"),
        (b"data:x\n\n", None, b"x"),
        (b"data:  x\n\n", None, b" x"),
        (b"data\n\n", None, b""),
        (b"data: \n\n", None, b""),
        (b"event: e\ndata: x\n\n", b"e", b"x"),
        (b"event:e\r\ndata:x\r\n\r\n", b"e", b"x"),
        (b"event: e\ndata: x\ndata: y\n\n", b"e", b"x\ny"),
        (b"event: e\nid: 1\ndata: x\n\n", b"e", b"x"),
        (b"event: e\n\n", b"e", None),
        (b"data: x\nevent: e\n\n", b"e", b"x"),
        (b": comment\n\n", None, None),
        (b"retry: 10\n\n", None, None),
        (b"id: 3\n: c\ndata: x: y\nunknown: z\n\n", None, b"x: y"),
        (b"\xef\xbb\xbfdata: x\n\n", None, b"x"),
        (b"data: one\ndata: two\n\n\n", None, b"one\ntwo"),
        (b"data: no blank line", None, b"no blank line"),
        (b"database: x\n\n", None, None),
        (b"\n\n", None, None),
    ],
)
def test_the_whole_grammar_is_read(frame: bytes, name: bytes | None, data: bytes | None) -> None:
    """F22."""
    assert fields(frame) == (name, data)


ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.sampled_from([b"data: x", b"data:y", b": c", b"event: e", "data: \u2028é".encode(), b"data: {}"])
STREAMS = st.lists(st.one_of(ENDS, LINES, ENDS), max_size=30).map(b"".join)


@settings(deadline=None, derandomize=True, max_examples=500)
@given(stream=STREAMS, data=st.data())
def test_any_cutting_gives_frames_of_the_same_bytes(stream: bytes, data: st.DataObject) -> None:
    """F16, F22."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    splitter = FrameSplitter()
    blocks = feed_all(splitter, pieces)
    assert b"".join(blocks) + splitter.pending == stream
    for block in blocks:
        assert b"".join(frames(block)) == block
        assert not block or block.endswith((b"\n\n", b"\n\r\n", b"\r\r", b"\n\r", b"\r\r\n", b"\n\r\n"))
    meanings = [fields(frame) for block in blocks for frame in frames(block)]
    whole = FrameSplitter()
    expected = [fields(frame) for frame in frames(whole.feed(stream))]
    assert [m for m in meanings if m != (None, None)] == [m for m in expected if m != (None, None)]
