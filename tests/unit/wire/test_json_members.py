"""The members of a JSON object as places in its bytes."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import InvalidRequest
from gateway.wire.json_members import MAX_SCAN_STEPS, apply_edits, insertion, remove_members, top_level

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    pairs=st.lists(st.tuples(TEXT, VALUES), max_size=6),
    spaced=st.sampled_from([None, 0, 2]),
    escaped=st.booleans(),
)
def test_members_are_found_in_order_with_their_values(
    pairs: list[tuple[str, Any]], spaced: int | None, escaped: bool
) -> None:
    gap = "" if spaced is None else " \n"
    members = f",{gap}".join(
        f"{json.dumps(key, ensure_ascii=escaped)}{gap}:{gap}{json.dumps(value, indent=spaced, ensure_ascii=escaped)}"
        for key, value in pairs
    )
    body = f"{gap}{{{gap}{members}{gap}}}{gap}".encode()
    found = list(top_level(body))
    assert [(member.key, json.loads(body[member.value_start : member.value_end])) for member in found] == pairs
    assert all(body[member.key_start : member.key_start + 1] == b'"' for member in found)


def test_brackets_and_quotes_in_strings_are_text() -> None:
    body = b'{"a":"}]\\"{[","b":["]",{"c":"\\\\"}],"d\\"":{"e":[[["}"]]]}}'
    assert [member.key for member in top_level(body)] == ["a", "b", 'd"']
    assert [body[m.value_start : m.value_end] for m in top_level(body)] == [
        b'"}]\\"{["',
        b'["]",{"c":"\\\\"}]',
        b'{"e":[[["}"]]]}',
    ]


@pytest.mark.parametrize("value", [b"[[[]]]", b'{"a":{"b":{}}}', b'[{"c":[1,{"d":[]}]}]', b"[[[[[1]]]],[[[]]]]"])
def test_values_of_three_levels_and_more_end_where_they_do(value: bytes) -> None:
    """CPython before 3.11.5 lost a bracket here (python/cpython#106052)."""
    body = b'{"a":' + value + b',"b":1}'
    assert [body[m.value_start : m.value_end] for m in top_level(body)] == [value, b"1"]


def test_an_empty_object_has_no_members() -> None:
    assert list(top_level(b" { } ")) == []


def test_flat_values_cost_one_step_whatever_their_size() -> None:
    """F98."""
    body = b'{"a":[' + b"{},[]," * MAX_SCAN_STEPS + b'1],"b":2}'
    assert [member.key for member in top_level(body)] == ["a", "b"]


def test_a_scan_gives_up_in_time() -> None:
    """F98."""
    with pytest.raises(InvalidRequest, match="nested"):
        list(top_level(b'{"a":[' + b"[[[1]]]," * (MAX_SCAN_STEPS // 2) + b"1]}"))


def test_a_scan_stops_at_too_many_keys() -> None:
    """F98."""
    with pytest.raises(InvalidRequest, match="10000 keys"):
        list(top_level(b"{" + b",".join(b'"k":0' for _ in range(10_001)) + b"}"))


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (b'{"usage":null}', b"{}"),
        (b'{ "usage" : {"a":[1]} }', b"{  }"),
        (b'{"usage":1, "b":2}', b'{"b":2}'),
        (b'{"a":1 , "usage": null , "b":2}', b'{"a":1 , "b":2}'),
        (b'{"a":1,"usage":2}', b'{"a":1}'),
        (b'{"usage":1,"usage":2,"a":3,"usage":4}', b'{"a":3}'),
        (b'{"usage":1,"usage":2}', b"{}"),
        (b'{"a":{"usage":1}}', b'{"a":{"usage":1}}'),
        (b'{"\\u0075sage":1,"a":"usage"}', b'{"a":"usage"}'),
    ],
)
def test_a_member_goes_with_one_comma(body: bytes, result: bytes) -> None:
    assert remove_members(body, "usage") == result


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(["usage", "a", "b"]), VALUES), max_size=6))
def test_what_is_left_is_valid_and_in_order(pairs: list[tuple[str, Any]]) -> None:
    body = ("{" + ",".join(f"{json.dumps(k)}:{json.dumps(v)}" for k, v in pairs) + "}").encode()
    left = json.loads(remove_members(body, "usage"), object_pairs_hook=list)
    expected = json.loads(body, object_pairs_hook=list)
    assert left == [(key, value) for key, value in expected if key != "usage"]


def test_edits_are_applied_from_any_order() -> None:
    assert apply_edits(b"0123456789", [(8, 9, b""), (2, 4, b"xyz"), (0, 0, b"<")]) == b"<01xyz45679"
    unchanged = b"abc"
    assert apply_edits(unchanged, []) is unchanged


def test_members_are_inserted_first() -> None:
    assert insertion(b' { "a":1}', b'"b":2') == (3, 3, b'"b":2,')
    assert insertion(b"{}", b'"b":2') == (1, 1, b'"b":2')
