"""Where log lines leave the process, without anybody ever waiting for them.

`write` appends to a queue and returns. One daemon thread wakes every 50 ms, joins what has come
and writes it. When the reader of the stream is slow, lines wait in memory up to a limit; above it
they are dropped and counted, because a full pipe must not stop requests.

The two byte counters have one writer each (whoever calls `write`, and the thread), so that no
lock is needed on the way of a request.
"""

import os
import select
import stat
import threading
from collections import deque

MAX_PENDING_BYTES = 8 * 1024 * 1024
"""Lines that may wait for a slow reader, unless told otherwise."""

WAKE_S = 0.05
BATCH_BYTES = 256 * 1024
RETRY_MS = 1000


class LogSink:
    """Lines on their way to a file descriptor. Made in the process that writes: a thread outlives no fork.

    With `shared`, other processes write to the same stream; to a pipe, lines then go out in pieces
    that the kernel does not tear apart (`PIPE_BUF`).
    """

    __slots__ = (
        "_batch_bytes", "_closed", "_dropped", "_idle", "_lines", "_lost", "_max_pending_bytes",
        "_stream_fd", "_taken_bytes", "_thread", "_wake", "_written_to_queue_bytes",
    )  # fmt: skip

    def __init__(self, stream_fd: int, *, max_pending_bytes: int = MAX_PENDING_BYTES, shared: bool = False) -> None:
        self._stream_fd = stream_fd
        self._max_pending_bytes = max_pending_bytes
        is_pipe = stat.S_ISFIFO(os.fstat(stream_fd).st_mode)
        self._batch_bytes = select.PIPE_BUF if shared and is_pipe else BATCH_BYTES
        self._lines: deque[bytes] = deque()
        self._written_to_queue_bytes = 0
        self._taken_bytes = 0
        self._dropped = 0
        self._lost = 0
        self._closed = False
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-sink", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines lost so far: too many were waiting, or the stream was closed."""
        return self._dropped + self._lost

    def write(self, line: bytes) -> None:
        """Queue one line, with its newline. Returns at once; drops the line when too much is waiting."""
        size = self._written_to_queue_bytes + len(line)
        if self._closed or size - self._taken_bytes > self._max_pending_bytes:
            self._dropped += 1
            return
        self._written_to_queue_bytes = size
        self._lines.append(line)

    def flush(self, timeout_s: float) -> bool:
        """Whether everything written so far is out within `timeout_s`. Blocks its caller: for shutdown only."""
        if not self._thread.is_alive():
            return not self._lines
        self._idle.clear()
        self._wake.set()
        return self._idle.wait(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Flush, then stop the thread. What is not out by then, and what comes later, counts as dropped."""
        flushed = self.flush(timeout_s)
        self._closed = True
        self._wake.set()
        if flushed:
            self._thread.join(timeout_s)
        self._lost += len(self._lines)

    def _run(self) -> None:
        while not self._closed:
            asked = self._wake.wait(WAKE_S)
            if asked:
                # Before the queue is looked at: a flush that begins after this wakes the next turn.
                self._wake.clear()
            while self._lines:
                self._write_batch()
            if asked:
                self._idle.set()

    def _write_batch(self) -> None:
        lines: list[bytes] = []
        size = 0
        while self._lines and (not lines or size + len(self._lines[0]) <= self._batch_bytes):
            line = self._lines.popleft()
            lines.append(line)
            size += len(line)
        try:
            self._write_out(b"".join(lines))
        except OSError:
            # The reader is gone for good. Logging that would end here again.
            self._lost += len(lines)
        self._taken_bytes += size

    def _write_out(self, batch: bytes) -> None:
        rest = memoryview(batch)
        while rest:
            try:
                rest = rest[os.write(self._stream_fd, rest) :]
            except BlockingIOError:
                # Somebody else made the stream non-blocking, as a terminal shared with node does.
                poll = select.poll()
                poll.register(self._stream_fd, select.POLLOUT)
                poll.poll(RETRY_MS)
