"""Who belongs where."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Consumer, Operation
from gateway.routing.sticky import Ring, Sticky, consumer_key, header_value, prompt_key
from tests.fakes import exchange, request

KEYS = [f"conversation-{number}".encode() for number in range(10_000)]
COMPACT = (",", ":")
SPACED = (", ", ": ")
SYSTEM = {"role": "system", "content": 'Be "kind".'}
USER = {"role": "user", "content": 'Say "}" and \\'}


def _choices(*weights: tuple[str, float]) -> list[str]:
    ring = Ring(weights)
    return [weights[ring.choose(key)][0] for key in KEYS]


def _moved(before: list[str], after: list[str]) -> Counter[tuple[str, str]]:
    return Counter((old, new) for old, new in zip(before, after, strict=True) if old != new)


@pytest.mark.parametrize("weights", [(90, 10), (1, 1), (95, 5), (0.25, 0.75)])
def test_keys_spread_by_weight(weights: tuple[float, float]) -> None:
    """F46: 10,000 keys are within one point of the weights."""
    chosen = Counter(_choices(("stable", weights[0]), ("canary", weights[1])))
    assert abs(chosen["canary"] / 10_000 - weights[1] / sum(weights)) < 0.01


def test_many_targets_each_get_their_share() -> None:
    chosen = Counter(_choices(*((f"target-{number}", number + 1) for number in range(8))))
    for number in range(8):
        assert abs(chosen[f"target-{number}"] / 10_000 - (number + 1) / 36) < 0.01


def test_numbered_keys_spread_as_well_as_random_ones() -> None:
    ring = Ring([("a", 1), ("b", 1)])
    chosen = Counter(ring.choose(b"%d" % number) for number in range(10_000))
    assert abs(chosen[0] - 5000) < 200


def test_a_weight_that_grows_moves_only_to_that_target() -> None:
    before = _choices(("a", 90), ("b", 10))
    after = _choices(("a", 90), ("b", 30))
    moved = _moved(before, after)
    assert set(moved) == {("a", "b")}
    assert abs(moved["a", "b"] / 10_000 - (0.25 - 0.10)) < 0.01


def test_a_step_of_a_rollout_keeps_everybody_who_was_on_the_candidate() -> None:
    before = _choices(("stable", 95), ("next", 5))
    after = _choices(("stable", 75), ("next", 25))
    assert set(_moved(before, after)) == {("stable", "next")}


def test_an_added_target_takes_only_what_it_gets() -> None:
    before = _choices(("a", 1), ("b", 1))
    after = _choices(("new", 1), ("a", 1), ("b", 1))
    assert {new for _, new in _moved(before, after)} == {"new"}


def test_a_removed_target_moves_nobody_else() -> None:
    before = _choices(("a", 1), ("b", 1), ("c", 1))
    after = _choices(("a", 1), ("c", 1))
    assert {old for old, _ in _moved(before, after)} == {"b"}


def test_the_order_in_the_file_is_nothing() -> None:
    assert _choices(("a", 3), ("b", 1)) == _choices(("b", 1), ("a", 3))


def test_weights_in_other_units_are_the_same_weights() -> None:
    assert _choices(("a", 3), ("b", 1)) == _choices(("a", 75), ("b", 25))


def test_every_process_and_every_version_comes_to_the_same_answer() -> None:
    """Replicas and restarts must agree: these are written down, not computed."""
    ring = Ring([("gpt-stable", 50), ("gpt-next", 50)])
    assert "".join(str(ring.choose(key)) for key in KEYS[:24]) == "011010101001001101100100"


def test_targets_without_weight_are_never_chosen() -> None:
    assert set(_choices(("a", 0), ("b", 1), ("c", -1))) == {"b"}


def test_who_stands_in_is_fixed_too() -> None:
    full, without = Ring([("a", 1), ("b", 1), ("c", 1)]), Ring([("a", 0), ("b", 1), ("c", 1)])
    for key in KEYS[:200]:
        ranked = full.ranked(key)
        assert ranked[0] == full.choose(key)
        assert sorted(ranked) == [0, 1, 2]
        assert [place for place in ranked if place != 0] == without.ranked(key)


@given(st.binary(max_size=64), st.lists(st.floats(0.001, 1e6), min_size=1, max_size=6))
def test_every_key_has_a_target(key: bytes, weights: list[float]) -> None:
    ring = Ring([(str(number), weight) for number, weight in enumerate(weights)])
    assert ring.ranked(key)[0] == ring.choose(key)
    assert 0 <= ring.choose(key) < len(weights)


def test_the_first_source_that_is_there_gives_the_key() -> None:
    sticky = Sticky(["header:X-Conversation-Id", "key"])
    with_header = exchange(request(headers=[(b"x-other", b"1"), (b"x-conversation-id", b"c-7")]))
    assert sticky.find(with_header) == ("header:X-Conversation-Id", b"c-7")
    assert sticky.find(exchange()) == ("key", b"tester")
    assert sticky.find(exchange(consumer=None)) is None
    assert sticky.find(exchange(request(headers=[(b"x-conversation-id", b"")]))) == ("key", b"tester"), "empty is none"


def test_a_header_is_found_by_its_first_value() -> None:
    headers = [(b"a", b"1"), (b"b", b"2"), (b"b", b"3")]
    assert header_value(headers, b"b") == b"2"
    assert header_value(headers, b"c") is None
    assert consumer_key(exchange(consumer=Consumer("checkout"))) == b"checkout"


def _key(body: dict[str, Any], operation: Operation = "chat", separators: tuple[str, str] = COMPACT) -> bytes | None:
    text = json.dumps({"model": "m", **body}, separators=separators).encode()
    return prompt_key(exchange(request(operation=operation, body=text)))


def _parts(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text, **more}]}


@pytest.mark.parametrize("separators", [COMPACT, SPACED])
@pytest.mark.parametrize(
    "first",
    [
        [SYSTEM, USER],
        [USER],
        [_parts("look at this")],
        [{"role": "user", "content": [{"type": "input_text", "text": "hi"}, {"type": "image_url", "image_url": {}}]}],
        [{"content": 'Say "hi"', "role": "user"}],
        [{"role": "user", "content": "long " * 1000}],
        [{"role": "user", "name": "ann", "content": "named"}],
    ],
)
def test_every_turn_of_a_conversation_has_the_same_key(
    first: list[dict[str, Any]], separators: tuple[str, str]
) -> None:
    one = _key({"messages": first, "stream": True}, separators=separators)
    more = [{"role": "assistant", "content": "Certainly."}, {"role": "user", "content": "And now?"}]
    assert one is not None
    assert one == _key({"messages": [*first, *more]}, separators=separators)


def test_a_prompt_without_a_user_has_a_key_too() -> None:
    assert _key({"messages": [SYSTEM]}) == b'[{"role":"system","content":"Be \\"kind\\".'
    assert _key({"messages": []}) is not None


def test_other_first_messages_have_other_keys() -> None:
    keys = {_key({"messages": [SYSTEM, {"role": "user", "content": text}]}) for text in ("a", "b", "ab", "")}
    assert len(keys) == 4
    assert _key({"messages": [{"role": "system", "content": "other"}, USER]}) != _key({"messages": [SYSTEM, USER]})


def test_a_cache_mark_that_moves_on_changes_nothing() -> None:
    marked = [_parts("hi", cache_control={"type": "ephemeral"})]
    moved = [_parts("hi"), {"role": "assistant", "content": "ho"}, _parts("more", cache_control={"type": "ephemeral"})]
    assert _key({"messages": marked}, "messages") == _key({"messages": moved}, "messages")


@pytest.mark.parametrize("system", ["Be kind.", [{"type": "text", "text": "Be kind."}]])
def test_a_system_prompt_beside_the_messages_counts(system: object) -> None:
    user = [{"role": "user", "content": "hi"}]
    one = _key({"system": system, "messages": user}, "messages")
    assert one is not None
    assert b"Be kind." in one
    assert one == _key({"system": system, "messages": [*user, {"role": "assistant", "content": "ho"}]}, "messages")
    assert one != _key({"system": "Be rude.", "messages": user}, "messages")
    assert one != _key({"messages": user}, "messages")


def test_each_operation_has_its_own_prompt() -> None:
    assert _key({"input": "hello", "instructions": "short"}, "responses") == b'"short\0"hello'
    assert _key({"input": "hello", "previous_response_id": "resp_1"}, "responses") == b'"hello'
    assert _key({"input": ["hello"]}, "embeddings") is not None
    assert _key({"prompt": "hello"}, "text_completion") == b'"hello'
    assert _key({"messages": [USER]}, "count_tokens") == _key({"messages": [USER]}, "messages")
    assert _key({"input": "hello"}, "relay") is None
    assert _key({"prompt": "hello"}, "chat") is None


def test_a_word_of_the_same_spelling_is_no_prompt() -> None:
    tool = {"name": "f", "parameters": {"messages": {"type": "string"}, "input": {"type": "string"}}}
    key = _key({"tools": [tool], "messages": [USER]})
    assert key == _key({"messages": [USER]})
    assert _key({"tools": [tool], "input": "hello"}, "responses") == b'"hello'
    assert _key({"note": '"messages": ["x"]', "messages": [USER]}) == key, "in a text its quotes are escaped"


def test_no_more_than_a_kilobyte_counts() -> None:
    long = _key({"prompt": "x" * 5000}, "text_completion")
    assert long is not None
    assert len(long) == 1024
    assert long == _key({"prompt": "x" * 6000}, "text_completion")
