"""What the mock says, and that it says the same again."""

import json

import pytest

from gateway.mock.bodies import Body
from gateway.mock.content import compose_content, escape, luck
from gateway.mock.directives import Directives

TRICKY = 'a "b"\\ \u2028c\u0085 d\n é 😀  '


def text_of(pieces: bytes) -> str:
    text: str = json.loads(b'"' + pieces + b'"')
    return text


def test_the_default_answer_has_sixteen_numbered_tokens() -> None:
    content = compose_content(Body(), Directives(), 0.0)
    assert len(content.pieces) == 16
    assert text_of(content.text).startswith("tok1 tok2 ")
    assert content.finish == "stop"


def test_the_default_answer_bends_to_max_tokens() -> None:
    content = compose_content(Body(max_tokens=3), Directives(), 0.0)
    assert (len(content.pieces), content.finish) == (3, "length")


def test_asked_tokens_do_not_bend_to_max_tokens() -> None:
    content = compose_content(Body(max_tokens=3), Directives(tokens=100), 0.0)
    assert (len(content.pieces), content.finish) == (100, "stop")


def test_an_echo_is_the_user_text_byte_for_byte() -> None:
    """F20, F21: U+2028, U+0085 and emoji come back as they were."""
    content = compose_content(Body(prompt=TRICKY), Directives(echo=True), 0.0)
    assert text_of(content.text) == TRICKY
    assert len(content.pieces) > 4


def test_big_chunks_are_one_object_however_many() -> None:
    content = compose_content(Body(), Directives(tokens=1000, bigchunk=65536), 0.0)
    assert len(content.pieces) == 1000
    assert {id(piece) for piece in content.pieces} == {id(content.pieces[0])}
    assert len(content.pieces[0]) == 65536


def test_a_tool_call_is_one_token_of_arguments() -> None:
    body = Body(prompt="call f", tools=[])
    assert compose_content(body, Directives(), 0.0).tool is None


@pytest.mark.parametrize(("draw", "contains"), [(0.79, True), (0.81, False)])
def test_quality_decides_whether_the_expected_text_is_there(draw: float, contains: bool) -> None:
    content = compose_content(Body(prompt="capital? expect: Paris"), Directives(quality=0.8), draw)
    assert ("Paris" in text_of(content.text)) is contains


def test_a_quality_answer_is_filled_up_to_the_asked_tokens() -> None:
    content = compose_content(Body(), Directives(quality=1.0, tokens=10), 0.0)
    assert len(content.pieces) == 10
    assert text_of(content.text).startswith("The answer is correct. tok5")


def test_luck_is_the_same_for_the_same_parts_and_evenly_spread() -> None:
    draws = [luck("seed", n) for n in range(2000)]
    assert draws == [luck("seed", n) for n in range(2000)]
    assert draws != [luck("other", n) for n in range(2000)]
    assert 0.47 < sum(draws) / len(draws) < 0.53


def test_escaping_leaves_text_beyond_ascii_as_utf_8() -> None:
    assert escape('é"') == b'\xc3\xa9\\"'
