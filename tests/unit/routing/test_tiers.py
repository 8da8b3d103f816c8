"""Short and simple prompts to a small model."""

import json
from typing import Any

import pytest

from gateway.core.exchange import Exchange, Operation
from gateway.routing.tiers import SEARCHED_CHARS, Condition, Tier, Tiers
from tests.fakes import Answering, events_of, exchange, request

pytestmark = pytest.mark.anyio

USER = {"role": "user", "content": "What is 2 + 2?"}
TOOLS = [{"type": "function", "function": {"name": "add"}}]


def _asked(operation: Operation = "chat", *, raw: bytes | None = None, **body: Any) -> Exchange:
    text = raw if raw is not None else json.dumps({"model": "m", **body}).encode()
    return exchange(request(operation=operation, body=text))


async def _served(asked: Exchange, *conditions: Condition) -> str:
    """Which tier served: small, tiny, … or `large`, the ordinary way."""
    names = ["small", "tiny"][: len(conditions)]
    answering = {name: Answering() for name in [*names, "large"]}
    rules = [Tier(name, answering[name].handler, condition) for name, condition in zip(names, conditions, strict=True)]
    async with Tiers(rules, answering["large"].handler)(asked):
        pass
    [name] = [name for name, each in answering.items() if each.exchanges]
    return name


async def _meets(asked: Exchange, condition: Condition) -> bool:
    return await _served(asked, condition) == "small"


def _why(asked: Exchange) -> list[tuple[str, str]]:
    return [(decision.step, decision.detail) for decision in asked.decisions]


async def test_a_short_prompt_goes_to_the_small_model_and_says_why() -> None:
    asked = _asked(messages=[USER])
    assert await _meets(asked, Condition(max_prompt_bytes=2000, max_messages=4, tools=False))
    assert _why(asked) == [("tier", "small: at most 2000 bytes, no tools, at most 4 messages")]


async def test_a_long_prompt_takes_the_ordinary_way_and_says_why() -> None:
    asked = _asked(raw=b'{"messages":[' + b" " * 2000 + b"]}")
    assert not await _meets(asked, Condition(max_prompt_bytes=2000))
    assert _why(asked) == [("tier", "not small: 2015 bytes > 2000")]


async def test_the_first_tier_that_is_met_serves() -> None:
    asked = _asked(messages=[USER] * 3)
    assert await _served(asked, Condition(max_messages=2), Condition(max_messages=3)) == "tiny"
    assert _why(asked) == [("tier", "tiny: at most 3 messages")]
    asked = _asked(messages=[USER] * 5)
    assert await _served(asked, Condition(max_messages=2), Condition(max_messages=3)) == "large"
    assert _why(asked) == [("tier", "not small: 5 messages > 2; not tiny: 5 messages > 3")]


async def test_a_tier_without_conditions_takes_everything() -> None:
    asked = _asked(messages=[USER])
    assert await _meets(asked, Condition())
    assert _why(asked) == [("tier", "small: no condition")]


@pytest.mark.parametrize(
    ("body", "has_tools"),
    [
        ({"tools": TOOLS}, True),
        ({"functions": [{"name": "f"}]}, True),
        ({"tools": []}, False),
        ({"tools": None}, False),
        ({}, False),
        ({"metadata": {"tools": ["hammer"]}}, False),
    ],
)
async def test_tools_are_those_that_are_offered(body: dict[str, Any], has_tools: bool) -> None:
    assert await _meets(_asked(messages=[USER], **body), Condition(tools=True)) is has_tools
    assert await _meets(_asked(messages=[USER], **body), Condition(tools=False)) is not has_tools


async def test_tags_and_headers_are_globs() -> None:
    condition = Condition(tags={"service": "chat-*"}, header={"X-Tier": "small*"})
    headers = [(b"x-tier", b"small-please")]
    good = exchange(request(headers=headers), tags={"service": "chat-web"})
    assert await _meets(good, condition)
    assert _why(good) == [("tier", "small: tag service is chat-*, header X-Tier is small*")]
    other = exchange(request(headers=headers), tags={"service": "batch"})
    assert not await _meets(other, condition)
    assert _why(other) == [("tier", "not small: tag service")]
    without = exchange(tags={"service": "chat-web"})
    assert not await _meets(without, condition)
    assert _why(without) == [("tier", "not small: header X-Tier")]
    wrong = exchange(request(headers=[(b"x-tier", b"large")]), tags={"service": "chat-web"})
    assert not await _meets(wrong, condition)


async def test_a_tag_that_is_missing_matches_no_glob() -> None:
    assert not await _meets(exchange(), Condition(tags={"service": "*"}))
    assert await _meets(exchange(tags={"service": ""}), Condition(tags={"service": "*"}))


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("chat", {"messages": [{"role": "user", "content": "old"}, {"role": "user", "content": "Translate: hi"}]}),
        ("chat", {"messages": [{"role": "user", "content": "Translate: hi"}, {"role": "assistant", "content": "x"}]}),
        (
            "chat",
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "Translate: hi"}]}
                ]
            },
        ),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": "Translate: hi"}]}]}),
        ("count_tokens", {"messages": [{"role": "user", "content": "Translate: hi"}]}),
        ("responses", {"input": "Translate: hi"}),
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Translate: hi"}]}]}),
        ("responses", {"input": [{"role": "user", "content": "Translate: hi"}, {"type": "function_call_output"}]}),
        ("text_completion", {"prompt": "Translate: hi"}),
        ("text_completion", {"prompt": ["old", "Translate: hi"]}),
        ("embeddings", {"input": "Translate: hi"}),
    ],
)
async def test_the_last_user_message_is_searched(operation: Operation, body: dict[str, Any]) -> None:
    asked = _asked(operation, **body)
    assert await _meets(asked, Condition(regex="^Translate:"))
    assert _why(asked) == [("tier", "small: the last user message matches ^Translate:")]
    other = _asked(operation, **body)
    assert not await _meets(other, Condition(regex="^old"))
    assert _why(other) == [("tier", "not small: the last user message")]


async def test_the_text_is_decoded_before_it_is_searched() -> None:
    asked = _asked(raw=b'{"messages":[{"role":"user","content":"\\u00dcbersetze \\"dies\\""}]}')
    assert await _meets(asked, Condition(regex='^Übersetze "dies"$'))


async def test_only_the_beginning_of_a_message_is_searched() -> None:
    text = "x" * SEARCHED_CHARS + "secret"
    assert not await _meets(_asked(messages=[{"role": "user", "content": text}]), Condition(regex="secret"))
    assert not await _meets(_asked("responses", input=text), Condition(regex="secret"))
    assert not await _meets(_asked("text_completion", prompt=[text]), Condition(regex="secret"))


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "assistant", "content": "a"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "a"}]}]},
        {"messages": [{"role": "user"}, 7]},
        {"messages": []},
        {"messages": {"role": "user", "content": "a"}},
        {},
    ],
)
async def test_a_prompt_without_a_users_text_matches_no_pattern(body: dict[str, Any]) -> None:
    assert not await _meets(_asked(**body), Condition(regex="."))


@pytest.mark.parametrize(
    "asked",
    [
        exchange(request(body_stream=events_of(b"{}"))),
        _asked(raw=b""),
        _asked(raw=b"not json"),
        _asked(raw=b'{"messages":7}'),
        _asked(raw=b'{"tools":[1],"messages":[' + b"1," * 600_000 + b"1]}"),
        _asked("relay", messages=[USER]),
    ],
    ids=["stream", "empty", "no json", "no list", "too large", "another API"],
)
async def test_what_cannot_be_read_meets_no_condition_on_it(asked: Exchange) -> None:
    assert not await _meets(asked, Condition(max_messages=1_000_000))
    assert not await _meets(asked, Condition(regex=""))


async def test_a_body_that_is_passed_on_as_it_comes_has_no_known_size_and_no_known_tools() -> None:
    for condition in (Condition(max_prompt_bytes=10**9), Condition(tools=False), Condition(tools=True)):
        assert not await _meets(exchange(request(body_stream=events_of(b"{}"))), condition)


async def test_one_string_is_one_message() -> None:
    assert await _meets(_asked("responses", input="hi"), Condition(max_messages=1))
    assert not await _meets(_asked("text_completion", prompt=["a", "b"]), Condition(max_messages=1))


async def test_a_pinned_exchange_goes_where_it_is_pinned_to() -> None:
    asked = _asked(messages=[USER] * 9)
    asked.pinned_target = "small"
    assert await _served(asked, Condition(max_messages=1)) == "small"
    asked.pinned_target = "other"
    assert await _served(asked, Condition()) == "large"
    assert asked.decisions == []


async def test_nothing_a_client_wrote_is_written_down() -> None:
    asked = _asked(messages=[{"role": "user", "content": "my secret"}])
    asked.tags = {"service": "private-tag"}
    asked.request.headers = [(b"x-tier", b"private-header")]
    conditions = [Condition(regex="secrets"), Condition(tags={"service": "x"}), Condition(header={"x-tier": "x"})]
    for condition in conditions:
        await _meets(asked, condition)
    written = " ".join(decision.detail for decision in asked.decisions)
    assert "my secret" not in written
    assert "private" not in written
