"""Event streams of no known grammar."""

import json

from gateway.core.errors import UpstreamReplyError, UpstreamTimeout
from gateway.core.exchange import Usage
from gateway.wire.plain_stream import PlainStream


def test_frames_pass_as_they_are() -> None:
    reader = PlainStream("openai")
    block = b"event: image.partial\ndata: not json\n\n"
    assert reader.feed(block) is block
    assert reader.begun
    assert not reader.complete
    assert reader.finish() == b""


def test_a_comment_is_no_beginning() -> None:
    reader = PlainStream("openai")
    assert reader.feed(b": hello\n\n") == b": hello\n\n"
    assert not reader.begun


def test_done_is_an_end() -> None:
    reader = PlainStream("openai")
    reader.feed(b"data: [DONE]\n\n")
    assert reader.complete


def test_an_error_event_is_an_error() -> None:
    """F15."""
    reader = PlainStream("openai")
    frame = b'event: error\ndata: {"error":{"message":"m","code":"rate_limit_exceeded"}}\n\n'
    assert reader.feed(frame) == b""
    assert reader.error is not None
    assert (reader.error.status, reader.error.relay) == (429, frame)
    assert reader.error_event(reader.error, "r") == frame


def test_our_own_error_is_in_the_clients_dialect() -> None:
    """F17."""
    error = UpstreamTimeout("late", phase="idle")
    openai = PlainStream("openai").error_event(error, "r")
    assert openai.startswith(b'event: error\ndata: {"error":{') and openai.endswith(b"}\n\n")
    frame = PlainStream("anthropic").error_event(UpstreamReplyError("m"), "r")
    assert json.loads(frame.split(b"data: ")[1])["request_id"] == "r"


def test_nothing_is_estimated() -> None:
    reader = PlainStream("openai")
    reader.feed(b"data: x\n\n")
    reader.settle()
    assert reader.usage == Usage()
