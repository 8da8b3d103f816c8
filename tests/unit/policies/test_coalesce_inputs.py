"""Bodies taken apart into their inputs and all the rest, and one body for several."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policies.coalesce_inputs import LARGEST_BYTES, Inputs, count_tokens, read_inputs, write_body

TEXTS = st.lists(st.text(min_size=1), min_size=1, max_size=5)


def read(text: str) -> Inputs:
    """A body that can be read."""
    found = read_inputs(text.encode())
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("asked", "kind", "items"),
    [
        ('"hi"', "text", [b'"hi"']),
        ('["hi", "a, \\"b\\" [c]"]', "text", [b'"hi"', b'"a, \\"b\\" [c]"']),
        ("[1, 2,3]", "tokens", [b"[1, 2,3]"]),
        ("[ [1,2], [3] ]", "tokens", [b"[1,2]", b"[3]"]),
    ],
)
def test_an_input_is_a_text_or_token_ids_one_or_many(asked: str, kind: str, items: list[bytes]) -> None:
    found = read(f'{{"model":"m","input":{asked}}}')
    assert (found.kind, list(found.items)) == (kind, items)


@pytest.mark.parametrize(
    "body",
    [
        '{"model":"m"}',
        '{"model":"m","input":null}',
        '{"model":"m","input":{"text":"a"}}',
        '{"model":"m","input":[]}',
        '{"model":"m","input":[{"text":"a"}]}',
        '{"model":"m","input":["a",[1]]}',
        '{"model":"m","input":["a",1]}',
        '{"model":"m","input":""}',
        '{"model":"m","input":["a",""]}',
        '["a"]',
        '{"model":',
        "",
    ],
)
def test_what_is_no_list_of_inputs_of_one_kind_goes_its_own_way(body: str) -> None:
    assert read_inputs(body.encode()) is None


@pytest.mark.parametrize(
    "body",
    [
        '{"model":"m","input":"a","input":"b"}',
        '{"input":"a","model":"m","model":"n"}',
        '{"model":"m","inp\\u0075t":"a","input":"b"}',
        '{"model":"m","input":"a","é":1}',
    ],
)
def test_a_body_that_is_not_read_without_loss_goes_its_own_way(body: str) -> None:
    """F118: what one parser takes for the input, another must not take for nothing."""
    assert read_inputs(body.encode()) is None


def test_a_large_body_goes_its_own_way() -> None:
    body = b'{"model":"m","input":"%b"}'
    room = LARGEST_BYTES - len(body % b"")
    assert read_inputs(body % (b"x" * room)) is not None
    assert read_inputs(body % (b"x" * (room + 1))) is None


def test_white_space_and_order_do_not_matter_and_all_other_members_do() -> None:
    one = read('{ "dimensions" : 3,\n "input":"a", "model": "m", "x": {"y": [1, 2]} }\n')
    other = read('{"model":"m","x":{"y":[1,2]},"input":["a"],"dimensions":3}')
    assert one == other
    assert [name for name, _ in one.others] == ["model", "dimensions", "x"]
    assert read('{"model":"m","x":{"y":[1,3]},"input":["a"],"dimensions":3}').others != one.others


@given(TEXTS, TEXTS, st.booleans())
def test_one_body_asks_for_all_inputs_as_they_were_written(first: list[str], second: list[str], escapes: bool) -> None:
    found = [
        read(json.dumps({"input": texts, "model": "m", "user": 'a"b'}, ensure_ascii=escapes))
        for texts in (first, second)
        if all(text.encode("utf-8", "replace").decode() == text for text in texts)
    ]
    items = [item for each in found for item in each.items]
    body = write_body((("model", b'"m"'), ("user", b'"a\\"b"')), items)
    assert json.loads(body)["input"] == [json.loads(item) for item in items]
    assert json.loads(body)["user"] == 'a"b'


def test_tokens_are_a_guess_of_texts_and_counted_of_ids() -> None:
    assert count_tokens("text", b'"%b"' % (b"x" * 40)) == 10
    assert count_tokens("text", b'"x"') == 1
    assert count_tokens("tokens", b"[1,2,3]") == 3
    assert read('{"model":"m","input":["x","yyyyyyyy"]}').tokens == 3
