"""What the readers of all dialects share."""

import pytest

from gateway.core.errors import UpstreamTruncated
from gateway.wire.stream_state import StreamState, text_of, truncated


class Reader(StreamState):
    """Drops `drop`, fails at `fail`, passes the rest on."""

    def _event(self, frame: bytes, name: bytes | None, data: bytes) -> bytes | None:
        if data == b"fail":
            self._fail(frame, b"not JSON")
            return None
        if data.startswith(b"{"):
            self._fail(frame, data)
            return None
        self.begun = True
        return b"" if data == b"drop" else frame


def test_a_block_that_is_not_changed_is_the_same_object() -> None:
    block = b": comment\n\ndata: a\n\ndata: b\r\n\r\n"
    assert Reader("openai", 0).feed(block) is block


def test_frames_are_dropped_one_by_one() -> None:
    assert Reader("openai", 0).feed(b"data: a\n\ndata: drop\n\n: c\n\ndata: b\n\n") == b"data: a\n\n: c\n\ndata: b\n\n"


def test_nothing_passes_after_an_error() -> None:
    """F15."""
    reader = Reader("openai", 0)
    assert reader.feed(b"data: a\n\ndata: fail\n\ndata: b\n\n") == b"data: a\n\n"
    assert reader.error is not None
    assert reader.error.relay == b"data: fail\n\n"
    assert (reader.error.status, reader.error.message) == (502, "The provider reported an error.")
    assert reader.feed(b"data: c\n\n") == b""


def test_a_refused_account_is_not_relayed() -> None:
    """F15, F114: its frame may quote the gateway's credential."""
    reader = Reader("openai", 0)
    block = b'data: {"error":{"type":"authentication_error","code":"e17","message":"bad key sk-canary"}}\n\n'
    assert reader.feed(b"data: a\n\n" + block) == b"data: a\n\n"
    assert reader.error is not None
    assert reader.error.is_account
    assert reader.error.relay is None
    assert "canary" not in reader.error.message


def test_a_comment_is_no_beginning() -> None:
    reader = Reader("openai", 0)
    reader.feed(b": keep-alive\n\n")
    assert not reader.begun
    assert not reader.complete


def test_a_stream_is_settled_once() -> None:
    """F55."""
    reader = Reader("openai", 400)
    reader.relayed_tokens = 5
    reader.settle()
    reader.relayed_tokens = 9
    reader.settle()
    usage = reader.usage
    assert (usage.input_tokens, usage.output_tokens, usage.source) == (100, 5, "estimated")


def test_a_stream_refused_at_once_costs_nothing() -> None:
    reader = Reader("openai", 400)
    reader.feed(b"data: fail\n\n")
    reader.settle()
    assert reader.usage.input_tokens is None
    assert reader.usage.source is None


def test_a_stream_that_failed_later_is_charged() -> None:
    reader = Reader("openai", 400)
    reader.feed(b"data: a\n\ndata: fail\n\n")
    reader.settle()
    assert reader.usage.input_tokens == 100


def test_the_base_reads_no_grammar() -> None:
    with pytest.raises(NotImplementedError):
        StreamState("openai", 0).feed(b"data: a\n\n")


def test_text_is_a_string_with_something_in_it() -> None:
    assert [text_of(value) for value in ("a", "", None, 5)] == ["a", None, None, None]


def test_a_cut_stream_is_the_upstreams_fault() -> None:
    """F18."""
    error = truncated()
    assert isinstance(error, UpstreamTruncated)
    assert (error.source, error.outcome) == ("upstream", "truncated")
