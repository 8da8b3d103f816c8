"""What the replays of all dialects have in common."""

import msgspec
import pytest

from gateway.wire.replay_parts import PIECE_CHARS, Unfit, array, decode, events, obj, pieces, text


def test_events_are_read_and_comments_are_none() -> None:
    block = b": hi\n\nevent: a\ndata: 1\n\ndata: 2\r\n\r\n"
    assert list(events(block)) == [(b"a", b"1"), (None, b"2")]


def test_fractions_keep_the_text_that_they_have() -> None:
    assert msgspec.json.encode(decode(b'{"a":[0.10,1e400,1.0]}')) == b'{"a":[0.10,1e400,1.0]}'


def test_a_text_comes_in_pieces_that_join_to_it() -> None:
    said = "ä" * (2 * PIECE_CHARS + 1)
    found = list(pieces(said))
    assert "".join(found) == said
    assert [len(piece) for piece in found] == [PIECE_CHARS, PIECE_CHARS, 1]


def test_nothing_has_no_pieces() -> None:
    assert list(pieces(None)) == list(pieces("")) == []


def test_null_is_an_empty_array() -> None:
    assert array(None) == []
    assert array([1]) == [1]


@pytest.mark.parametrize(("check", "wrong"), [(obj, []), (array, {}), (text, 1), (text, None)])
def test_another_shape_is_unfit(check: object, wrong: object) -> None:
    assert callable(check)
    with pytest.raises(Unfit):
        check(wrong)


def test_pieces_of_something_else_are_unfit() -> None:
    with pytest.raises(Unfit):
        list(pieces([]))
