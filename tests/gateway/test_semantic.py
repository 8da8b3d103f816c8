"""Replies for the same question in other words, by a running gateway: modes, headers, forms, rules (F116 to F118)."""

import json
from typing import Any

import pytest

from gateway.mock.vectors import embed
from tests.gateway.calls import events
from tests.gateway.harness import gateway
from tests.gateway.semantic_world import (
    AGAIN,
    ENTRY,
    FIRST,
    REASON,
    ask,
    by,
    chats,
    said,
    similar,
    told,
    why,
    wordings,
    world,
)
from tests.gateway.test_cache import keyed
from tests.gateway.test_cache import words as tokens
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

SHADOW = "{mode: shadow, max_wrong: 20%}"
VERIFIED = "{max_wrong: 20%}"


async def test_static_gives_a_reply_for_other_words_and_says_how_near_and_why() -> None:
    async with gateway(similar()) as gw:
        first, again = await ask(gw, FIRST), await ask(gw, AGAIN)
        assert (told(first), told(again)) == ("miss none", "semantic static")
        assert first.json() == again.json()
        assert again.headers["x-gateway-similarity"] == "0.8182"
        assert len(again.headers[ENTRY]) == 64
        assert {"age", ENTRY, "x-gateway-similarity"}.isdisjoint(first.headers)
        assert len(await chats(gw)) == 1
        lines = [line for line in gw.requests() if line["route"] == "demo"]
        assert [(line["cache"], line["outcome"], line["cost_usd"]) for line in lines] == [
            ("miss", "ok", 0.1),
            ("semantic", "cached", 0.0),
        ]
        assert await gw.metric("gateway_cache_requests_total", route="demo", result="semantic") == 1
        assert await gw.metric("gateway_cache_saved_usd_total", route="demo") == pytest.approx(0.1)
        assert await gw.metric("gateway_cache_saved_tokens_total", route="demo") > 0
        assert f"entry {again.headers[ENTRY]}" in await why(gw, again)


async def test_what_is_given_is_not_stored_again_under_the_other_words() -> None:
    """A chain of neighbours of neighbours would lead anywhere."""
    async with gateway(similar()) as gw:
        await ask(gw, FIRST)
        entries = {(await ask(gw, AGAIN)).headers[ENTRY] for _ in range(3)}
        assert entries == {(await ask(gw, FIRST)).headers[ENTRY]}
        assert await gw.metric("gateway_cache_requests_total", result="stored") == 1
        assert await gw.metric("gateway_cache_index_rows") == 1


@pytest.mark.parametrize("semantic", ["{mode: off}", "{threshold: 0.8}"], ids=["off", "neither a mode nor a bound"])
async def test_off_looks_nothing_up_and_says_nothing(semantic: str) -> None:
    async with gateway(similar(semantic)) as gw:
        assert [told(await ask(gw, text)) for text in (FIRST, AGAIN, FIRST)] == ["miss", "miss", "hit"]
        assert [call["path"] for call in await gw.calls()] == ["/v1/chat/completions"] * 2


async def test_verified_is_closed_at_first() -> None:
    async with gateway(similar(VERIFIED)) as gw:
        assert [told(await ask(gw, text)) for text in (FIRST, AGAIN)] == ["miss none", "miss closed"]
        assert await gw.metric("gateway_cache_scopes", route="demo", state="closed") == 1
        assert await gw.metric("gateway_cache_scopes", route="demo", state="open") == 0


async def test_the_same_words_with_other_spaces_are_the_same_in_every_mode() -> None:
    for mode in ("{mode: static}", VERIFIED):
        async with gateway(similar(mode)) as gw:
            given = [await ask(gw, text) for text in (FIRST, "How do I  reset my password? ")]
            assert [told(each) for each in given] == ["miss none", "semantic same"]
            assert given[1].headers["x-gateway-similarity"] == "1.0000"
    async with gateway(similar(SHADOW)) as gw:
        assert [told(await ask(gw, text)) for text in (FIRST, FIRST + " ")] == ["miss none", "miss shadow"]


WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {}),
    "messages": ("/v1/messages", {"max_tokens": 100}),
    "responses": ("/v1/responses", {"store": False}),
}


def asking(way: str, text: str, **more: Any) -> tuple[str, dict[str, Any]]:
    """Path and body of a question in a dialect."""
    path, fields = WAYS[way]
    if way == "responses":
        return path, {"model": "demo", "input": text, **fields, **more}
    return path, said(text, **fields, **more)


@pytest.mark.parametrize("first", ["whole", "stream"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_reply_for_other_words_comes_whole_and_as_a_stream(way: str, first: str) -> None:
    """F117: whichever it came in, with usage and its headers."""
    async with gateway(similar()) as gw:
        answers = []
        for text, stream in ((FIRST, first == "stream"), (AGAIN, True), (AGAIN, False)):
            path, body = asking(way, text, stream=stream)
            answers.append(await gw.client.post(path, json=body))
        assert [answer.status_code for answer in answers] == [200] * 3
        assert [told(answer) for answer in answers] == ["miss none", "semantic static", "semantic static"]
        assert answers[1].headers["content-type"] == "text/event-stream"
        assert answers[2].headers["content-type"] == "application/json"
        assert tokens(answers[0]) == tokens(answers[1]) == tokens(answers[2]) != set()
        assert answers[1].headers[ENTRY] == answers[2].headers[ENTRY]
        assert len(await chats(gw)) == 1


async def test_a_stream_out_of_the_cache_tells_its_usage_where_that_is_wanted() -> None:
    """F135."""
    async with gateway(similar()) as gw:
        await ask(gw, FIRST)
        silent = await ask(gw, AGAIN, body={"stream": True})
        asking = await ask(gw, AGAIN, body={"stream": True, "stream_options": {"include_usage": True}})
        assert not any(event.get("usage") for event in events(silent.content))
        assert events(asking.content)[-1]["usage"]["completion_tokens"] == 16


async def test_dialects_share_nothing() -> None:
    """F116: the same words by another endpoint are another question."""
    async with gateway(similar()) as gw:
        for way in WAYS:
            path, body = asking(way, FIRST)
            assert told(await gw.client.post(path, json=body)) == "miss none"


async def test_the_client_decides_by_cache_control() -> None:
    """RFC 9111, 5.2.1, for replies to other words too."""
    async with gateway(similar()) as gw:
        missing = await gw.client.post(
            "/v1/chat/completions", json=said(FIRST), headers={"cache-control": "only-if-cached"}
        )
        assert (missing.status_code, missing.json()["error"]["code"]) == (504, "cache_miss")
        assert told(await ask(gw, FIRST, cache_control="no-store")) == "bypass"
        assert told(await ask(gw, FIRST)) == "miss none"
        assert told(await ask(gw, AGAIN, cache_control="only-if-cached")) == "semantic static"
        assert told(await ask(gw, AGAIN, cache_control="max-age=3600")) == "semantic static"
        assert told(await ask(gw, AGAIN, cache_control="no-store")) == "bypass"

        async def is_older() -> bool:
            return int((await ask(gw, AGAIN)).headers["age"]) >= 1

        await until(is_older, 3.0)
        assert told(await ask(gw, wordings()[4], cache_control="max-age=0")) == "bypass"
        assert told(await ask(gw, AGAIN, cache_control="no-cache")) == "bypass"
        assert told(await ask(gw, AGAIN)) == "hit", "no-cache has stored"


async def test_a_reply_too_old_for_the_client_or_the_route_is_a_miss() -> None:
    async with gateway(similar("{mode: static, threshold: 0.8, ttl: 1s}")) as gw:
        await ask(gw, FIRST)
        assert told(await ask(gw, AGAIN)) == "semantic static"

        async def has_ended() -> bool:
            return told(await ask(gw, AGAIN, cache_control="only-if-cached")) != "semantic static"

        with pytest.raises(AssertionError, match="cache_miss"):
            await until(has_ended, 3.0)
        assert told(await ask(gw, FIRST)) == "hit", "for its own words it lives on"


RULES = {
    "deictic": "What does this mean for my password?",
    "timed": "What is the latest news about my password?",
    "short": "Reset password?",
    "long": "How do I reset my password? " * 60,
    "foreign": "Как мне сбросить мой пароль?",
}


@pytest.mark.parametrize("rule", RULES)
async def test_what_a_rule_names_is_neither_looked_up_nor_embedded(rule: str) -> None:
    async with gateway(similar()) as gw:
        for text in (RULES[rule], RULES[rule].upper()):
            assert told(await ask(gw, text)) == f"miss {rule}"
        assert len(await gw.calls()) == len(await chats(gw)), "no vectors were asked for"
        assert await gw.metric("gateway_cache_index_rows") == 0


TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
TURNS = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]


async def test_tools_and_conversations_are_not_looked_up_by_similarity() -> None:
    async with gateway(similar()) as gw:
        for text in (FIRST, AGAIN):
            assert told(await ask(gw, text, body={"tools": [TOOL]})) == "miss tools"
            long = [*TURNS, *TURNS, {"role": "user", "content": text}]
            assert told(await ask(gw, text, body={"messages": long})) == "miss conversation"
        short = [[*TURNS, {"role": "user", "content": text}] for text in (FIRST, AGAIN)]
        given = [told(await ask(gw, "", body={"messages": messages})) for messages in short]
        assert given == ["miss none", "semantic static"], "two turns before it are allowed"


@pytest.mark.parametrize(
    ("one", "other", "guard"),
    [
        ("Transfer 500 euros to my savings account", "Transfer 5000 euros to my savings account", "number"),
        ("Should I store a password on paper?", "Should I not store a password on paper?", "negation"),
        ("How do I fly from Berlin to Madrid?", "How do I fly from Madrid to Berlin?", "order"),
        ("How do I enable the password lock?", "How do I disable the password lock?", "antonym"),
    ],
)
async def test_a_guard_keeps_a_near_question_from_being_the_same_and_is_named(one: str, other: str, guard: str) -> None:
    async with gateway(similar("{mode: static, threshold: 0.7}")) as gw:
        given = [told(await ask(gw, text)) for text in (one, other)]
        assert given[0] == "miss none"
        assert given[1].startswith("miss ") and given[1] not in ("miss none", "miss far"), given
        if guard != "order":
            assert given[1] == f"miss {guard}"
        assert await gw.metric("gateway_cache_guard_rejections_total", route="demo") == 1
        assert len(await chats(gw)) == 2


async def test_shadow_counts_and_compares_and_gives_nothing() -> None:
    """What would have been given is compared with the fresh answer, every time."""
    async with world() as found, gateway(by(found, SHADOW)) as gw:
        texts = wordings()
        for text in texts[:40]:
            assert (await ask(gw, text)).headers["x-gateway-cache"] == "miss"

        async def would_hit() -> bool:
            await ask(gw, texts.pop())
            return await gw.metric("gateway_cache_requests_total", result="would_hit") >= 2

        await until(would_hit, 5.0)
        assert await gw.metric("gateway_cache_requests_total", result="semantic") == 0
        assert await gw.metric("gateway_cache_scopes", route="demo", state="open") == 1
        assert await gw.metric("gateway_cache_audited_hits", route="demo") >= 1
        assert await gw.metric("gateway_cache_wrong_share", route="demo", bound="estimate") == 0
        assert len(found.asked) == len(set(found.asked)) == 40 + 80 - len(texts)


async def test_a_hit_passes_every_check_and_pays_nothing() -> None:
    """F118: keys, allowed models, isolation and limits come first; a budget is not touched."""
    rules = "limits:\n  - {name: rpm, per: [key], requests: 4/min}\n  - {name: money, per: [key], budget: $1/day}\n"
    async with gateway(keyed(similar(cached="exact: 1h, share: tenant") + rules)) as gw:
        assert told(await ask(gw, FIRST, key="ann")) == "miss none"
        assert told(await ask(gw, AGAIN, key="bob")) == "semantic static"
        budgets = (await gw.admin.get("/admin/v1/budgets")).json()["budgets"]
        # The vectors are paid for by whom they are for: the gateway.
        assert {row["scope"]: row["spent_usd"] for row in budgets} == {
            "key=ann": 0.1,
            "key=embedder": 0.2,
            "key=bob": 0,
        }
        assert await gw.metric("gateway_cache_requests_total", result="semantic") == 1
        narrowed = keyed(similar(cached="exact: 1h, share: tenant") + rules, bob="models: [other]")
        assert (await gw.reload(narrowed))["changed"]
        refused = await _status(gw, "bob")
        assert refused == (403, "model_not_allowed")
        assert (await gw.reload(keyed(similar(cached="exact: 1h, share: tenant") + rules)))["changed"]
        assert told(await ask(gw, AGAIN, key="bob")) == "semantic static", "a reload forgets nothing"
        await gw.admin.post("/admin/v1/isolate", json={"key": "bob", "reason": "leak"})
        assert (await _status(gw, "bob"))[0] == 403
        assert await _status(gw, "") == (401, "invalid_api_key")
        assert [told(await ask(gw, AGAIN, key="ann")) for _ in range(3)] == ["semantic static"] * 3
        assert await _status(gw, "ann") == (429, "rate_limit_exceeded")


async def _status(gw: Any, key: str) -> tuple[int, str]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    answer = await gw.client.post("/v1/chat/completions", json=said(AGAIN), headers=headers)
    return answer.status_code, str(answer.json()["error"]["code"])


SECRET = "How do I reset the xylophone kumquat?"


async def test_nothing_of_a_prompt_gets_into_logs_metrics_or_what_operators_see() -> None:
    async with gateway(similar()) as gw:
        given = [await ask(gw, text) for text in (SECRET, SECRET.replace("do", "can"), "How do I drop a kumquat?")]
        assert told(given[1]) == "semantic static"
        shown = [json.dumps(line) for line in gw.lines()]
        shown += [await why(gw, answer) for answer in given]
        shown += [(await gw.admin.get(path)).text for path in ("/metrics", "/admin/v1/config", "/admin/v1/audit")]
        shown.append(str([dict(answer.headers) for answer in given]))
        assert not [text for text in shown if "kumquat" in text or "xylophone" in text]
        assert given[0].headers[REASON] == "none"


def test_the_mocks_vectors_are_as_near_as_these_tests_take_them_to_be() -> None:
    one, other = embed(FIRST, 1536, 0), embed(AGAIN, 1536, 0)
    assert sum(a * b for a, b in zip(one, other, strict=True)) == pytest.approx(0.8182, abs=0.0001)
