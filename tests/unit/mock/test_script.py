"""The writes of streams and cut bodies, with each fault at its place."""

import zlib

import pytest

from gateway.mock.plan import Plan
from gateway.mock.script import Script
from tests.unit.mock.raw import beats, chat, events, messages, stream, texts


def played(plan: Plan) -> tuple[bytes, Script]:
    assert plan.stream is not None
    script = Script(plan, keep_alive=True, is_http_10=True)
    script.stream_head()
    return b"".join(write for writes in script.stream_beats(plan.stream) for write in writes), script


def whole(plan: Plan) -> tuple[list[bytes], Script]:
    script = Script(plan, keep_alive=True, is_http_10=False)
    [writes] = list(script.whole_beats())
    return writes, script


def test_each_token_is_a_beat_and_the_closing_goes_with_the_last() -> None:
    assert len(beats(chat("tokens=5", stream=True))) == 5
    assert len(beats(chat("tokens=0", stream=True))) == 1
    raw, script = played(chat("tokens=5", stream=True))
    assert (script.tokens_sent, script.ending, script.is_last) == (5, "complete", True)
    assert events(raw)[-1] == "[DONE]"


def test_an_empty_answer_still_opens_and_closes() -> None:
    found = events(stream(chat("tokens=0", stream=True)))
    assert found[0]["choices"][0]["delta"]["role"] == "assistant"
    assert found[1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(("after", "tokens"), [(0, 0), (2, 2), (3, 3), (9, 3)])
def test_an_error_comes_after_its_tokens_and_before_the_finish(after: int, tokens: int) -> None:
    """F15, F26: at 0 it is the first event of all."""
    raw, script = played(chat(f"tokens=3,error_after={after}", stream=True))
    found = events(raw)
    assert len(texts(raw)) == script.tokens_sent == tokens
    assert "error" in found[-1]
    assert len(found) == (tokens + 2 if tokens else 1)
    assert (script.ending, script.is_last) == ("broken_off", True)


@pytest.mark.parametrize(("after", "tokens"), [(0, 0), (2, 2), (3, 3), (9, 3)])
def test_an_early_end_is_clean_for_http_and_lacks_the_finish(after: int, tokens: int) -> None:
    """F18."""
    raw, script = played(chat(f"tokens=3,eof_after={after}", stream=True))
    assert len(texts(raw)) == tokens
    assert b'"finish_reason":"stop"' not in raw
    assert (script.ending, script.is_last) == ("broken_off", True)
    chunked = b"".join(beats(chat(f"tokens=3,eof_after={after}", stream=True), is_http_10=False))
    assert chunked.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(("directive", "ending"), [("stall_after", "silent"), ("rst_after", "reset")])
def test_a_stall_and_a_reset_stop_without_a_last_beat(directive: str, ending: str) -> None:
    """F13, F19."""
    raw, script = played(chat(f"tokens=3,{directive}=2", stream=True))
    assert len(texts(raw)) == 2
    assert (script.ending, script.is_last) == (ending, False)


def test_the_strongest_of_several_cuts_counts() -> None:
    _, script = played(chat("tokens=9,rst_after=1,stall_after=2,eof_after=3,error_after=1", stream=True))
    assert (script.tokens_sent, script.ending) == (1, "reset")


@pytest.mark.parametrize(("after", "place"), [(0, 0), (2, 3), (3, 4), (9, 4)])
def test_a_broken_event_comes_at_its_place_and_the_stream_goes_on(after: int, place: int) -> None:
    found = events(stream(chat(f"tokens=3,badjson_after={after}", stream=True)))
    assert [index for index, event in enumerate(found) if str(event).startswith('{"id":"broken"')] == [place]
    assert found[-1] == "[DONE]"
    assert found[-2]["choices"][0]["finish_reason"] == "stop"


def test_line_ends_can_be_crlf() -> None:
    """F22."""
    raw = stream(messages("crlf,tokens=2", stream=True))
    assert raw.count(b"\n") == raw.count(b"\r\n") > 0
    assert events(raw)[-1] == {"type": "message_stop"}


def test_comments_come_before_and_inside_events() -> None:
    """F22."""
    raw = stream(chat("comment,tokens=2", stream=True))
    assert raw.startswith(b": keep-alive\n\n: a comment inside an event\ndata: ")
    assert "".join(texts(raw)) == "tok1 tok2"


def test_a_stream_can_be_split_anywhere() -> None:
    """F20, F22: the bytes are the same, in pieces of one byte."""
    plain, pieces = chat("tokens=3", stream=True), chat("tokens=3,split=1", stream=True)
    assert pieces.stream is not None
    script = Script(pieces, keep_alive=True, is_http_10=True)
    script.stream_head()
    writes = [write for beat in script.stream_beats(pieces.stream) for write in beat if write]
    assert {len(write) for write in writes} == {1}
    assert b"".join(writes) == stream(plain)


def test_a_stream_can_be_compressed_event_by_event() -> None:
    """F91."""
    plan = chat("tokens=3,gzip", stream=True)
    assert plan.stream is not None
    script = Script(plan, keep_alive=True, is_http_10=True)
    assert b"content-encoding: gzip\r\n" in script.stream_head()
    unpack = zlib.decompressobj(wbits=31)
    parts = [unpack.decompress(b"".join(beat)) for beat in script.stream_beats(plan.stream)]
    assert all(parts)
    assert unpack.eof
    assert b"".join(parts) == stream(chat("tokens=3", stream=True))


def test_the_head_says_how_the_stream_ends() -> None:
    plan = chat(stream=True)
    head = Script(plan, keep_alive=True, is_http_10=False).stream_head()
    assert b"transfer-encoding: chunked\r\n" in head
    assert b"cache-control: no-cache\r\n" in head
    old = Script(plan, keep_alive=True, is_http_10=True)
    assert b"connection: close\r\n" in old.stream_head()
    assert not old.keep_alive


def test_a_complete_answer_is_one_write() -> None:
    plan = chat()
    for is_http_10, line in ((False, b"connection"), (True, b"connection: keep-alive\r\n")):
        script = Script(plan, keep_alive=True, is_http_10=is_http_10)
        assert script.whole().endswith(plan.body)
        assert (line in script.whole()) is is_http_10
        assert script.tokens_sent == 16


@pytest.mark.parametrize(
    ("directives", "share", "ending"),
    [
        ("eof_after=0", 0, "broken_off"),
        ("eof_after=1", 2, "broken_off"),
        ("stall_after=0", 0, "silent"),
        ("stall_after=1", 2, "silent"),
        ("rst_after=1", 2, "reset"),
    ],
)
def test_a_cut_complete_answer_has_half_of_its_body_or_nothing(directives: str, share: int, ending: str) -> None:
    plan = chat(directives)
    [write], script = whole(plan)
    body = write.partition(b"\r\n\r\n")[2]
    assert body == (plan.body[: len(plan.body) // share] if share else b"")
    assert b"content-length: %d\r\n" % len(plan.body) in write
    assert (script.ending, script.tokens_sent, script.keep_alive) == (ending, 0, False)


def test_a_complete_answer_can_be_split() -> None:
    plan = chat("split=100")
    writes, script = whole(plan)
    assert b"".join(writes).endswith(plan.body)
    assert {len(write) for write in writes[1:-1]} == {100}
    assert script.tokens_sent == 16
