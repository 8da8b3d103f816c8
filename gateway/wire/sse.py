"""Server-sent events as bytes: complete frames out of any pieces, nothing decoded, nothing changed.

Theory of operation. A frame is a run of lines up to a blank line; a line ends with LF, CRLF or CR
(WHATWG HTML, "Parsing an event stream"), and with nothing else: U+2028 or U+0085 inside a text are
text. So a stream of bytes can be cut wherever a line end is followed by another one, and that shows
in two adjacent bytes: LF LF, LF CR or CR CR (CR LF is one line end, so it does not count). The
splitter therefore looks for the *last* such pair in what it has, hands out everything up to it as one
block, and keeps the rest. A pair that ends in CR takes a following LF with it: where LF CR are the
last bytes at hand it waits for the next byte, since they are nearly always the middle of CRLF CRLF;
CR CR go out at once, and should an LF follow it opens the next frame as an empty line, which means
nothing.

Two bytes of context are enough to find a pair over an edge, so pieces of one byte cost no more than
their own scan, and every byte is copied a fixed number of times: linear, whatever the pieces are.
Frames are taken apart (`frames`, `fields`) only by who wants to read them.
"""

import re
from collections.abc import Iterator

import msgspec

from gateway.core.errors import UpstreamError

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""An unfinished frame of more bytes than this is refused."""

_re_blank = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)++")
_re_line_end = re.compile(rb"\r\n|\r|\n")
_re_trailing_ends = re.compile(rb"(?>\r\n|\r|\n)\Z")
_decode_any = msgspec.json.Decoder(type=msgspec.Raw).decode


class FrameSplitter:
    """Complete frames out of pieces that are cut anywhere. One for each stream."""

    __slots__ = ("_max_frame_bytes", "_pending")

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._pending = bytearray()

    @property
    def pending(self) -> bytes:
        """The unfinished frame at the end of what was fed."""
        return bytes(self._pending)

    def feed(self, chunk: bytes) -> bytes:
        """The frames that are complete by now, byte for byte; `b""` when none is.

        Raises UpstreamError when the unfinished rest grows over the limit; a frame that arrives
        whole needs no memory here and always passes.
        """
        pending = self._pending
        if not pending and chunk.endswith(b"\n\n"):
            return chunk
        context = bytes(pending[-2:])
        end = _last_end(context + chunk) - len(context)
        if end < 0:
            pending += chunk
            complete = b""
        else:
            complete = bytes(pending) + chunk[:end]
            pending.clear()
            pending += chunk[end:]
        if len(pending) > self._max_frame_bytes:
            raise UpstreamError(f"The provider sent an event of more than {self._max_frame_bytes} bytes.")
        return complete

    def finish(self) -> bytes:
        """The last frame of a stream that ended cleanly but without its last blank line, with it; else `b""`.

        Some servers leave it out. A rest that is not whole (cut JSON) is dropped, as the standard says.
        """
        rest = bytes(self._pending)
        self._pending.clear()
        if rest.endswith(b"\n\r"):
            return rest
        closed = rest + (b"\n" if _re_trailing_ends.search(rest) else b"\n\n")
        data = fields(closed)[1]
        if data is None:
            return b""
        if data != b"[DONE]":
            try:
                _decode_any(data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return b""
        return closed


def frames(block: bytes) -> Iterator[bytes]:
    """Each frame of `block` with the blank line that ends it; joined they are `block` again.

    Further blank lines belong to the frame before them. A rest without a blank line comes last.
    """
    position = 0
    size = len(block)
    if b"\r" in block:
        for match in _re_blank.finditer(block):
            yield block[position : match.end()]
            position = match.end()
    else:
        while (end := block.find(b"\n\n", position)) >= 0:
            end += 2
            while end < size and block[end] == 10:
                end += 1
            yield block[position:end]
            position = end
    if position < size:
        yield block[position:]


def fields(frame: bytes) -> tuple[bytes | None, bytes | None]:
    """The event's name and its data, lines joined by LF; None for what the frame does not have.

    A frame without data is no event (a comment, a lone `retry:`), whatever else it has.
    """
    size = len(frame)
    if b"\r" not in frame and frame.endswith(b"\n\n"):
        if frame.startswith(b"data: ") and frame.find(b"\n") == size - 2:
            return None, frame[6:-2]
        if frame.startswith(b"event: "):
            first = frame.find(b"\n")
            if frame.startswith(b"data: ", first + 1) and frame.find(b"\n", first + 7) == size - 2:
                return frame[7:first], frame[first + 7 : -2]
    return _all_fields(frame)


def _all_fields(frame: bytes) -> tuple[bytes | None, bytes | None]:
    name: bytes | None = None
    data: list[bytes] = []
    for line in _re_line_end.split(frame.removeprefix(b"\xef\xbb\xbf")):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return name, b"\n".join(data) if data else None


def _last_end(piece: bytes) -> int:
    """Where the last complete frame in `piece` ends; -1 when none does."""
    end = piece.rfind(b"\n\n")
    if b"\r" in piece:
        limit = len(piece) - piece.endswith(b"\n\r")
        end = max(piece.rfind(b"\n\n", 0, limit), piece.rfind(b"\r\r", 0, limit), piece.rfind(b"\n\r", 0, limit))
        if end >= 0 and piece.startswith(b"\r\n", end + 1):
            return end + 3
    return end + 2 if end >= 0 else -1
