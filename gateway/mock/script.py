"""The writes of one answer in order, with the faults that the directives put between them; no clock, no socket.

A *beat* is what goes out at one moment, as a list of writes: one, or many under `split`. The
generators set `ending` and `is_last` before they yield the last beat, so that whoever plays them
need not wait one gap longer to learn that there is no more.
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Literal

from gateway.mock.endpoints import error_frame
from gateway.mock.heads import render_head
from gateway.mock.plan import Plan, Stream

Ending = Literal["complete", "broken_off", "silent", "reset"]
"""In order; in order as far as HTTP can tell; never; with an RST."""

_CHUNKED = b"transfer-encoding: chunked\r\n"
_CLOSE = b"connection: close\r\n"
_KEEP_10 = b"connection: keep-alive\r\n"
_BROKEN_EVENT = b'data: {"id":"broken","choices":[{"index":0,"delta":{"content":"tok\n\n'


class Script:
    """One Plan as bytes for the wire."""

    __slots__ = ("_deflate", "_is_chunked", "_is_http_10", "_plan", "ending", "is_last", "keep_alive", "tokens_sent")

    def __init__(self, plan: Plan, *, keep_alive: bool, is_http_10: bool) -> None:
        self._plan = plan
        self._is_http_10 = is_http_10
        self._is_chunked = not is_http_10
        self._deflate: Callable[[bytes, bool], bytes] | None = None
        # HTTP/1.0 has no chunks, so there only the end of the connection ends a stream.
        self.keep_alive = keep_alive and not (is_http_10 and plan.stream is not None)
        self.ending: Ending = "complete"
        self.is_last = False
        self.tokens_sent = 0

    def whole(self) -> bytes:
        """Head and body of an answer without faults."""
        self.tokens_sent = self._plan.tokens
        return self._whole_head() + self._plan.body

    def whole_beats(self) -> Iterator[list[bytes]]:
        """One beat with head and body; a directive that cuts leaves half of the body, or none at 0."""
        plan, split = self._plan, self._plan.directives.split
        cut_at, self.ending = self._cut()
        body = plan.body
        if self.ending == "complete":
            self.tokens_sent = plan.tokens
        else:
            body = body[: len(body) // 2] if cut_at else b""
            self.keep_alive = False
        self.is_last = True
        head = self._whole_head()
        yield [head + body] if split is None else [head, *_slices(body, split)]

    def stream_head(self) -> bytes:
        """The status line and headers of a stream."""
        plan = self._plan
        lines = list(plan.lines)
        if plan.stream is not None and plan.stream.is_event_stream:
            lines.append((b"cache-control", b"no-cache"))
        if plan.directives.gzip:
            self._deflate = _compressor()
            lines.append((b"content-encoding", b"gzip"))
        framing = (_CHUNKED if self._is_chunked else b"") + (b"" if self.keep_alive else _CLOSE)
        return render_head(plan.status, plan.content_type, plan.vendor_lines, lines, length=None, framing=framing)

    def stream_beats(self, stream: Stream) -> Iterator[list[bytes]]:
        """A beat for each token; the opening goes with the first, the closing with the last."""
        grammar, pieces, count = stream.grammar, stream.pieces, len(stream.pieces)
        cut_at, error_at, bad_at = self._fault_places(count)
        stop = min((place for place in (cut_at, error_at) if place is not None), default=count)
        ends_well = cut_at is None and error_at is None
        frames: list[bytes] = []
        for index in range(stop):
            if index == bad_at:
                frames.append(_broken(stream))
            if index == 0:
                frames += grammar.opening()
            frames.append(grammar.piece(pieces[index]))
            self.tokens_sent += stream.tokens_per_piece
            if index + 1 == count and ends_well and bad_at != count:
                break
            yield self._encode(frames)
            frames = []
        if stop == bad_at:
            frames.append(_broken(stream))
        if cut_at == stop and self._cut()[1] != "broken_off":
            self.ending = self._cut()[1]
            return
        self.is_last = True
        if ends_well:
            frames += [*(grammar.opening() if count == 0 else ()), *grammar.closing()]
        else:
            self.ending = "broken_off"
            if cut_at != stop:
                frames.append(error_frame(self._plan))
        yield self._finish(frames)

    def _cut(self) -> tuple[int, Ending]:
        """After how many tokens the answer is cut, and how; the strongest directive counts."""
        directives = self._plan.directives
        if directives.rst_after is not None:
            return directives.rst_after, "reset"
        if directives.stall_after is not None:
            return directives.stall_after, "silent"
        if directives.eof_after is not None:
            return directives.eof_after, "broken_off"
        return -1, "complete"

    def _fault_places(self, count: int) -> tuple[int | None, int | None, int | None]:
        """Before which token the cut, the error event and the broken event come; at the latest before the end."""
        directives = self._plan.directives
        cut_at, ending = self._cut()
        error_at = 0 if directives.event_error and directives.error_after is None else directives.error_after
        bad_at = directives.badjson_after
        return (
            None if ending == "complete" else min(cut_at, count),
            None if error_at is None else min(error_at, count),
            None if bad_at is None else min(bad_at, count),
        )

    def _whole_head(self) -> bytes:
        plan = self._plan
        framing = (_KEEP_10 if self._is_http_10 else b"") if self.keep_alive else _CLOSE
        return render_head(
            plan.status, plan.content_type, plan.vendor_lines, plan.lines, length=len(plan.body), framing=framing
        )

    def _finish(self, frames: list[bytes]) -> list[bytes]:
        """The last frames and what ends the body: the compressor's trailer, the empty chunk."""
        writes = self._encode([frame for frame in frames if frame])
        tail = b"" if self._deflate is None else self._framed(self._deflate(b"", True))
        if self._is_chunked:
            tail += b"0\r\n\r\n"
        return [*writes, tail]

    def _encode(self, frames: list[bytes]) -> list[bytes]:
        """Frames decorated, compressed, each in a chunk of its own; in one write, or split."""
        directives, stream = self._plan.directives, self._plan.stream
        if stream is not None and stream.is_event_stream and (directives.comment or directives.crlf):
            frames = [_decorate(frame, comment=directives.comment, crlf=directives.crlf) for frame in frames]
        if self._deflate is not None:
            frames = [self._deflate(frame, False) for frame in frames]
        if directives.split is not None:
            return [self._framed(part) for frame in frames for part in _slices(frame, directives.split)]
        return [b"".join([self._framed(frame) for frame in frames])]

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data


def _broken(stream: Stream) -> bytes:
    return _BROKEN_EVENT if stream.is_event_stream else b"\x00broken\x00"


def _decorate(frame: bytes, *, comment: bool, crlf: bool) -> bytes:
    """The frame with comments before and inside it, and with CRLF line ends (WHATWG HTML, 9.2.6)."""
    if comment:
        frame = b": keep-alive\n\n: a comment inside an event\n" + frame
    return frame.replace(b"\n", b"\r\n") if crlf else frame


def _slices(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def _compressor() -> Callable[[bytes, bool], bytes]:
    stream = zlib.compressobj(wbits=31)

    def deflate(data: bytes, is_last: bool) -> bytes:
        return stream.compress(data) + stream.flush(zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH)

    return deflate
