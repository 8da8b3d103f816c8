"""Log lines on their way out, with readers that are slow, gone, or shared."""

import os
import time
from collections.abc import Iterator

import pytest

from gateway.telemetry.sink import LogSink


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: its reading and its writing end."""
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        try:
            os.close(fd)
        except OSError:
            continue


def drain(fd: int, size: int) -> bytes:
    """Exactly `size` bytes, read as they come."""
    received = b""
    while len(received) < size:
        received += os.read(fd, size - len(received))
    return received


def test_lines_come_out_in_order(pipe: tuple[int, int]) -> None:
    """F131."""
    sink = LogSink(pipe[1])
    for number in range(1000):
        sink.write(b"%d\n" % number)
    assert sink.flush(5)
    expected = b"".join(b"%d\n" % number for number in range(1000))
    assert os.read(pipe[0], 65536) == expected
    assert sink.dropped == 0
    sink.close(5)


def test_lines_come_out_without_being_asked_for(pipe: tuple[int, int]) -> None:
    sink = LogSink(pipe[1])
    sink.write(b"hello\n")
    assert drain(pipe[0], 6) == b"hello\n"
    sink.close(5)


def test_a_blocked_reader_blocks_nobody_and_costs_lines_that_are_counted(pipe: tuple[int, int]) -> None:
    """F131: back-pressure of the log never reaches a request."""
    sink = LogSink(pipe[1], max_pending_bytes=100_000)
    line = b"x" * 999 + b"\n"
    began = time.monotonic()
    for _ in range(1000):
        sink.write(line)
    assert time.monotonic() - began < 0.5
    assert sink.dropped == 900
    assert not sink.flush(0.01)
    assert drain(pipe[0], 100 * 1000) == line * 100
    assert sink.flush(5)
    sink.write(line)
    assert sink.flush(5)
    assert (drain(pipe[0], 1000), sink.dropped) == (line, 900)
    sink.close(5)


def test_closing_does_not_wait_for_a_blocked_reader(pipe: tuple[int, int]) -> None:
    """F131."""
    sink = LogSink(pipe[1])
    for _ in range(500):
        sink.write(b"x" * 999 + b"\n")
    began = time.monotonic()
    sink.close(0.05)
    assert time.monotonic() - began < 1
    sink.write(b"too late\n")
    assert sink.dropped >= 1
    drain(pipe[0], 200_000)


def test_lines_are_lost_and_counted_when_the_reader_is_gone(pipe: tuple[int, int]) -> None:
    sink = LogSink(pipe[1])
    os.close(pipe[0])
    sink.write(b"one\n")
    sink.write(b"two\n")
    assert sink.flush(5)
    assert sink.dropped == 2
    sink.close(5)
    assert sink.flush(0)


def test_a_stream_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    sink = LogSink(pipe[1])
    line = b"x" * 999 + b"\n"
    for _ in range(200):
        sink.write(line)
    assert drain(pipe[0], 200_000) == line * 200
    assert sink.flush(5)
    assert sink.dropped == 0
    sink.close(5)


def test_lines_of_processes_that_share_a_pipe_are_never_torn_apart(pipe: tuple[int, int]) -> None:
    sinks = [LogSink(pipe[1], shared=True) for _ in range(3)]
    for number, sink in enumerate(sinks):
        for _ in range(300):
            sink.write(b"%d" % number * 700 + b"\n")
    lines = drain(pipe[0], 3 * 300 * 701).splitlines()
    assert sorted(set(lines)) == [b"%d" % number * 700 for number in range(3)]
    assert len(lines) == 900
    for sink in sinks:
        sink.close(5)
