"""One reply taken apart: vectors byte for byte, tokens to the last one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gateway.core.errors import UpstreamError
from gateway.core.exchange import Usage
from gateway.policies.coalesce_reply import (
    read_members,
    read_rows,
    shares,
    split_reported,
    split_usage,
    write_part,
)

WEIGHTS = st.lists(st.integers(1, 10**6), min_size=1, max_size=50)


def reply(*rows: str, more: str = "") -> bytes:
    """A reply with these rows."""
    return f'{{ "object": "list", "data": [{", ".join(rows)}], "model": "m"{more} }}'.encode()


def test_a_part_has_the_vectors_bytes_and_counts_from_nought() -> None:
    odd = "[ -0.0, 1E-7,\n 0.10000000000000000555, 12345678901234567890.5 ]"
    body = reply(
        f'{{"index": 1, "embedding": {odd}, "extra": null}}',
        '{"object":"embedding","embedding":"AAAA","index":0}',
        more=', "id": "e-1", "usage": {"prompt_tokens": 5}',
    )
    members = read_members(body)
    rows = read_rows(members["data"], 2)
    part = write_part(members, rows[1:], b'{"prompt_tokens":3}')
    assert odd.encode() in part
    assert json.loads(part) == {
        "object": "list",
        "data": [{"index": 0, "embedding": json.loads(odd), "extra": None}],
        "model": "m",
        "id": "e-1",
        "usage": {"prompt_tokens": 3},
    }


def test_a_reply_without_usage_stays_without() -> None:
    members = read_members(reply('{"index":0,"embedding":[]}'))
    assert split_reported(members, [1]) is None
    assert b"usage" not in write_part(members, read_rows(members["data"], 1), None)


@pytest.mark.parametrize(
    "rows",
    [
        ['{"index":0,"embedding":[1]}'],
        ['{"index":0,"embedding":[1]}', '{"index":0,"embedding":[2]}'],
        ['{"index":0,"embedding":[1]}', '{"index":2,"embedding":[2]}'],
        ['{"index":0,"embedding":[1]}', '{"index":1,"embedding":[2]}', '{"index":2,"embedding":[3]}'],
        ['{"index":0,"embedding":[1]}', '{"index":1.0,"embedding":[2]}'],
        ['{"index":0,"embedding":[1]}', '{"index":-1,"embedding":[2]}'],
        ['{"index":0,"embedding":[1]}', '{"embedding":[2]}'],
        ['{"index":0,"embedding":[1]}', '{"index":1}'],
        ['{"embedding":[1]}', '{"embedding":[2]}'],
        ['{"index":0,"embedding":[1]}', "[2]"],
    ],
)
def test_nobody_gets_a_vector_that_may_be_anothers(rows: list[str]) -> None:
    with pytest.raises(UpstreamError, match="cannot be told apart") as raised:
        read_rows(read_members(reply(*rows))["data"], 2)
    assert raised.value.upstream_status is None, "it was worked on, and is paid for"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"object":"list"}'])
def test_what_is_no_reply_with_data_is_a_fault_of_the_providers(body: bytes) -> None:
    with pytest.raises(UpstreamError):
        read_members(body)


@given(st.integers(0, 10**9), WEIGHTS)
def test_shares_come_to_the_total_and_none_is_off_by_a_whole_token(total: int, weights: list[int]) -> None:
    found = shares(total, weights)
    assert sum(found) == total
    whole = sum(weights)
    assert all(abs(share * whole - total * weight) < whole for share, weight in zip(found, weights, strict=True))


@given(st.integers(0, 10**6), st.none() | st.integers(0, 10**6), WEIGHTS)
def test_everybodys_usage_comes_to_the_providers_report(tokens: int, cached: int | None, weights: list[int]) -> None:
    """F57."""
    usage = Usage(tokens, 0, cached, source="provider", service_tier="flex")
    found = split_usage(usage, weights)
    assert sum(each.input_tokens or 0 for each in found) == tokens
    assert {each.output_tokens for each in found} == {0}
    assert {each.reasoning_tokens for each in found} == {None}
    assert {(each.source, each.service_tier) for each in found} == {("provider", "flex")}
    if cached is not None:
        assert sum(each.cached_input_tokens or 0 for each in found) == cached


def test_every_number_of_a_report_is_shared_and_all_else_is_the_same() -> None:
    said: dict[str, Any] = {
        "prompt_tokens": 7,
        "details": {"cached": 3},
        "cost": 0.5,
        "tier": "x",
        "is": True,
        "n": None,
    }
    found = split_reported({"usage": Raw(json.dumps(said).encode())}, [1, 3])
    assert found is not None
    one, other = map(json.loads, found)
    assert one == {"prompt_tokens": 2, "details": {"cached": 1}, "cost": 0.125, "tier": "x", "is": True, "n": None}
    assert other == {"prompt_tokens": 5, "details": {"cached": 2}, "cost": 0.375, "tier": "x", "is": True, "n": None}


def test_a_usage_that_is_no_object_stays_what_it_is() -> None:
    assert split_reported({"usage": Raw(b"null")}, [1, 1]) == [b"null", b"null"]
