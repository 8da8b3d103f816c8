"""The exact cache of the running gateway: what is given again, to whom, and what never is (F116, F117, F118)."""

import asyncio
import hashlib
import json
import re
from typing import Any

import httpx
import pytest

from tests.gateway.calls import EVENT_STREAMS, RESPONSES, Way, events, scripted, streamed
from tests.gateway.harness import CHAT, PLAIN, Gateway, gateway
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

CACHED = PLAIN.replace("target: mock}", "target: mock, cache: {exact: 1h}}").replace(
    "provider: mock,", "provider: mock, price: {request: $0.10},"
)
STORABLE = (
    *(way for way in EVENT_STREAMS if way is not RESPONSES),
    Way("responses", RESPONSES.path, RESPONSES.fields | {"store": False}, can_stream=True),
)
EMBEDDINGS = Way("embeddings", "/v1/embeddings", {"model": "demo", "input": "hi"})
KEYS = {"ann": "tenant: x, team: red", "bob": "tenant: x, team: blue", "eve": "tenant: y"}


def keyed(config: str, **more: str) -> str:
    """`config` with the keys of Ann and Bob, who have one tenant, and of Eve. `more`: further settings of a key."""
    lines = [
        f'  - {{id: {name}, hash: "sha256:{hashlib.sha256(name.encode()).hexdigest()}", tags: {{{tags}}}'
        f"{', ' + more[name] if name in more else ''}}}\n"
        for name, tags in KEYS.items()
    ]
    return config + "keys:\n" + "".join(lines)


async def ask(
    gw: Gateway,
    body: dict[str, Any] | None = None,
    *,
    key: str = "",
    path: str = "/v1/chat/completions",
    **headers: str,
) -> httpx.Response:
    """A chat request; `_` in a header's name stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if key:
        named["authorization"] = f"Bearer {key}"
    return await gw.client.post(path, json=CHAT | (body or {}), headers=named)


async def result(gw: Gateway, body: dict[str, Any] | None = None, **asked: str) -> str:
    """What the cache said of a request that was answered."""
    answer = await ask(gw, body, **asked)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-gateway-cache"]


def words(answer: httpx.Response) -> set[bytes]:
    """What the mock has said, in whatever form and dialect."""
    return set(re.findall(rb"tok\d+", answer.content))


@pytest.mark.parametrize("first", ["whole", "stream"])
@pytest.mark.parametrize("way", STORABLE, ids=str)
async def test_a_reply_is_given_again_whole_and_as_a_stream(way: Way, first: str) -> None:
    """F117: one entry feeds both forms, whichever it came in, with its age, for nothing."""
    async with gateway(CACHED) as gw:
        order = [first == "stream", True, False]
        answers = [
            await gw.client.post(
                way.path, content=way.body(stream=stream), headers={"content-type": "application/json"}
            )
            for stream in order
        ]
        assert [answer.status_code for answer in answers] == [200] * 3, answers[0].text
        assert [answer.headers["x-gateway-cache"] for answer in answers] == ["miss", "hit", "hit"]
        assert ["age" in answer.headers for answer in answers] == [False, True, True]
        assert answers[1].headers["content-type"] == "text/event-stream"
        assert answers[2].headers["content-type"] == "application/json"
        assert words(answers[0]) == words(answers[1]) == words(answers[2]) != set()
        assert len(await gw.calls()) == 1
        lines = gw.requests()
        assert [line["cache"] for line in lines] == ["miss", "hit", "hit"]
        assert [line["outcome"] for line in lines] == ["ok", "cached", "cached"]
        assert [line["cost_usd"] for line in lines] == [0.1, 0.0, 0.0]
        assert [line["attempts"] for line in lines] == [1, 0, 0]


async def test_embeddings_are_given_again_byte_for_byte() -> None:
    async with gateway(CACHED) as gw:
        first, second = [await gw.client.post(EMBEDDINGS.path, json=EMBEDDINGS.fields) for _ in range(2)]
        assert second.headers["x-gateway-cache"] == "hit"
        assert first.content == second.content


async def test_the_usage_chunk_of_a_stored_stream_comes_only_where_it_is_asked_for() -> None:
    """F135."""
    async with gateway(CACHED) as gw:
        await ask(gw)
        silent = await ask(gw, {"stream": True})
        asking = await ask(gw, {"stream": True, "stream_options": {"include_usage": True}})
        assert [silent.headers["x-gateway-cache"], asking.headers["x-gateway-cache"]] == ["hit", "hit"]
        assert not any(event.get("usage") for event in events(silent.content))
        assert events(asking.content)[-1]["usage"]["completion_tokens"] == 16


async def test_the_client_decides_by_cache_control_and_a_reply_tells_its_age() -> None:
    """RFC 9111, 5.2.1."""
    async with gateway(CACHED) as gw:
        refused = await ask(gw, cache_control="only-if-cached")
        assert (refused.status_code, refused.json()["error"]["code"]) == (504, "cache_miss")
        assert await result(gw, cache_control="no-store") == "bypass"
        assert (await ask(gw, cache_control="only-if-cached")).status_code == 504, "nothing was stored"
        assert await result(gw, cache_control="no-cache") == "bypass"
        assert await result(gw, cache_control="only-if-cached") == "hit", "no-cache stores"

        async def is_older() -> bool:
            return int((await ask(gw)).headers["age"]) >= 1

        await until(is_older, 3.0)
        assert await result(gw, cache_control="max-age=3600") == "hit"
        calls = len(await gw.calls())
        assert await result(gw, cache_control="max-age=0") == "bypass"
        assert len(await gw.calls()) == calls + 1
        assert await gw.metric("gateway_cache_requests_total", route="demo", result="bypass") >= 2


FAULTS = ("status=500", "status=429", "error_after=3", "eof_after=3", "rst_after=3", "badjson_after=3", "html")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_what_is_no_whole_answer_is_never_stored(fault: str, stream: bool) -> None:
    """F117: asked again, the model is asked again."""
    async with gateway(CACHED) as gw:
        for _ in range(2):
            try:
                await ask(gw, {"stream": stream}, x_mock=fault)
            except httpx.RemoteProtocolError:
                continue
        assert len(await gw.calls()) == 2
        assert await gw.metric("gateway_cache_requests_total", result="stored") == 0
        assert await gw.metric("gateway_cache_requests_total", result="hit") == 0


@pytest.mark.parametrize(
    "body",
    [
        {"max_tokens": 3},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"},
        {"n": 2},
        {"temperature": 1.5},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://h/a.png"}}]}]},
        {"store": True},
    ],
    ids=["cut by its length", "tool call", "several choices", "hot", "picture", "stateful"],
)
async def test_what_must_not_be_repeated_is_never_stored(body: dict[str, Any]) -> None:
    """F117."""
    async with gateway(CACHED) as gw:
        assert {await result(gw, body) for _ in range(2)} <= {"miss", "bypass"}
        assert len(await gw.calls()) == 2


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("reason", ["content_filter", "length"])
async def test_a_reply_that_a_filter_cut_is_never_stored(reason: str, stream: bool) -> None:
    """F117."""
    said = {"role": "assistant", "content": "I will no"}
    choice = {"index": 0, "finish_reason": reason, ("delta" if stream else "message"): said}
    kind = "chat.completion.chunk" if stream else "chat.completion"
    body = json.dumps({"id": "c", "object": kind, "created": 1, "model": "m", "choices": [choice]}).encode()
    if stream:
        sent = streamed(b"data: %b\n\ndata: [DONE]\n\n" % body)
    else:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        sent = head + body
    async with scripted([sent]) as upstream:
        config = CACHED.replace("provider: mock", "provider: openai").replace("MOCK_URL", f"{upstream.url}/v1")
        async with gateway(config) as gw:
            assert [await result(gw, {"stream": stream}) for _ in range(2)] == ["miss", "miss"]
            assert len(upstream.requests) == 2


CANARY = {"messages": [{"role": "user", "content": "the secret of ann is 4711"}]}


async def test_another_keys_reply_is_nobodys() -> None:
    """F116: the same question from another key, of the same tenant or not, is asked anew."""
    async with gateway(keyed(CACHED)) as gw:
        assert [await result(gw, CANARY, key="ann") for _ in range(2)] == ["miss", "hit"]
        assert await result(gw, CANARY, key="bob") == "miss"
        assert await result(gw, CANARY, key="eve", x_gateway_tags="owner=ann") == "miss"
        assert (await ask(gw, CANARY, key="mallory")).status_code == 401


async def test_a_tenants_reply_is_its_own_and_no_header_makes_one_a_member() -> None:
    """F116."""
    shared = CACHED.replace("exact: 1h", "exact: 1h, share: tenant")
    async with gateway(keyed(shared)) as gw:
        assert await result(gw, CANARY, key="ann") == "miss"
        assert await result(gw, CANARY, key="bob") == "hit"
        assert await result(gw, CANARY, key="eve") == "miss"
        assert await result(gw, CANARY, key="eve", x_gateway_tags="tenant=x") == "hit", "its own: the tag is fixed"
        assert len(await gw.calls()) == 2
    teams = CACHED.replace("exact: 1h", "exact: 1h, share: team")
    async with gateway(keyed(teams)) as gw:
        assert await result(gw, CANARY, key="ann") == "miss"
        assert await result(gw, CANARY, key="bob") == "miss"
        assert await result(gw, CANARY, key="eve") == "miss"
        assert await result(gw, CANARY, key="eve", x_gateway_tags="team=red") == "hit", "what it had filled itself"


SYSTEM = {"messages": [{"role": "system", "content": "Be brief."}, *CHAT["messages"]]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


@pytest.mark.parametrize(
    "body",
    [
        SYSTEM,
        {"messages": [{"role": "user", "content": "Hi"}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, *CHAT["messages"]]},
        {"tools": [TOOL]},
        {"temperature": 0.2},
        {"seed": 7},
        {"max_tokens": 100},
        {"response_format": {"type": "json_object"}},
        {"user": "somebody"},
        {"a_field_that_nobody_knows": 1},
    ],
    ids=lambda body: "+".join(body),
)
async def test_another_question_is_asked(body: dict[str, Any]) -> None:
    """F116: the system prompt, every turn, tools, parameters and unknown fields make another one."""
    async with gateway(CACHED) as gw:
        assert [await result(gw), await result(gw, body), await result(gw)] == ["miss", "miss", "hit"]


async def test_what_stands_beside_the_body_makes_another_question() -> None:
    """F116: the prompt's version, and headers that reach the provider; the form of the reply does not."""
    async with gateway(CACHED) as gw:
        assert await result(gw) == "miss"
        assert await result(gw, x_gateway_prompt="greeting@1") == "miss"
        assert await result(gw, x_gateway_prompt="greeting@2") == "miss"
        assert await result(gw, openai_beta="x=1") == "miss"
        assert await result(gw, x_request_id="another", user_agent="another") == "hit"


async def test_a_hit_passes_every_check_and_pays_nothing() -> None:
    """F118: keys, allowed models and limits come first; a budget is not touched."""
    rules = (
        "limits:\n  - {name: rpm, per: [key], requests: 5/min}\n  - {name: money, budget: $1/day}\n"
        "  - {name: tpm, tokens: 100k/min}\n"
    )
    async with gateway(keyed(CACHED + rules)) as gw:
        assert [await result(gw, key="ann") for _ in range(3)] == ["miss", "hit", "hit"]
        [budget] = (await gw.admin.get("/admin/v1/budgets")).json()["budgets"]
        assert (budget["spent_usd"], budget["held_usd"]) == (0.1, 0.0)
        assert (await ask(gw, key="")).status_code == 401
        narrowed = keyed(CACHED + rules, ann="models: [other]")
        assert (await gw.reload(narrowed))["changed"]
        refused = await ask(gw, key="ann")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
        assert (await gw.reload(keyed(CACHED + rules)))["changed"]
        assert await result(gw, key="ann") == "hit", "a reload forgets nothing"
        assert await result(gw, key="ann") == "hit"
        limited = await ask(gw, key="ann")
        assert (limited.status_code, limited.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert len(await gw.calls()) == 1


async def test_an_isolated_key_gets_no_hit() -> None:
    """F118."""
    async with gateway(keyed(CACHED)) as gw:
        assert await result(gw, key="ann") == "miss"
        await gw.admin.post("/admin/v1/isolate", json={"key": "ann", "reason": "leak"})
        assert (await ask(gw, key="ann")).status_code == 403


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_two_hundred_equal_requests_at_once_are_one_call(stream: bool) -> None:
    async with gateway(CACHED) as gw:
        body = {"stream": stream}
        answers = await asyncio.gather(*[ask(gw, body, x_mock="latency=300ms,tokens=5") for _ in range(200)])
        assert [answer.status_code for answer in answers] == [200] * 200
        assert len(await gw.calls()) == 1
        assert {frozenset(words(answer)) for answer in answers} == {frozenset(words(answers[0]))}
        assert sorted({answer.headers["x-gateway-cache"] for answer in answers}) == ["hit", "miss"]
        # Their wait is for the model, not the gateway's own doing.
        waits = [line["duration_ms"] - line["overhead_ms"] for line in gw.requests()]
        assert sorted(waits)[20] > 100
        assert sum(line["cost_usd"] for line in gw.requests()) == pytest.approx(0.1)


async def test_a_leader_that_leaves_or_fails_leaves_the_others_an_answer() -> None:
    """Failures are not shared."""
    async with gateway(CACHED) as gw:
        leader = asyncio.ensure_future(ask(gw, x_mock="latency=300ms"))
        await until(lambda: gw.mock.stats.inflight == 1)
        followers = [asyncio.ensure_future(ask(gw, x_mock="latency=300ms")) for _ in range(5)]
        await until(lambda: len(gw.served.process.running.inflight) == 6)
        leader.cancel()
        answers = await asyncio.gather(*followers)
        assert [answer.status_code for answer in answers] == [200] * 5
        assert len(await gw.calls()) == 2
        failing = await asyncio.gather(*[ask(gw, x_mock="latency=100ms,seq=500|200") for _ in range(5)])
        assert sorted(answer.status_code for answer in failing) == [200, 200, 200, 200, 500]


PURGES = ({"key": "ann"}, {"tag": "tenant=x"}, {"route": "demo"}, {"prompt_version": "p@1"}, {"entry": ""})


@pytest.mark.parametrize("scope", PURGES, ids=lambda scope: next(iter(scope)))
async def test_what_is_purged_is_gone_at_once(scope: dict[str, str]) -> None:
    async with gateway(keyed(CACHED)) as gw:
        asked = {"key": "ann", "x_gateway_prompt": "p@1"}
        assert [await result(gw, None, **asked) for _ in range(2)] == ["miss", "hit"]
        assert [await result(gw, key="eve") for _ in range(2)] == ["miss", "hit"]
        if "entry" in scope:
            why = (await gw.admin.get(f"/admin/v1/requests/{gw.requests()[1]['request_id']}")).json()
            [detail] = [each["detail"] for each in why["decisions"] if each["step"] == "cache"]
            assert "of key ann" in detail
            scope = {"entry": detail.split("entry ")[1][:64]}
        receipt = await gw.admin.delete("/admin/v1/cache", params=scope | {"reason": "leak"})
        assert receipt.status_code == 200 and receipt.json()["is_complete"]
        assert receipt.json()["matched"] == (2 if "route" in scope else 1)
        assert await result(gw, None, **asked) == "miss"
        assert await result(gw, key="eve") == ("miss" if "route" in scope else "hit")
        [entry] = (await gw.admin.get("/admin/v1/audit")).json()["audit"]
        assert (entry["action"], entry["reason"]) == ("purge", "leak")


async def test_a_purge_while_the_model_is_asked_keeps_its_reply_out() -> None:
    async with gateway(CACHED) as gw:
        asking = asyncio.ensure_future(ask(gw, x_mock="latency=300ms"))
        await until(lambda: gw.mock.stats.inflight == 1)
        await gw.admin.delete("/admin/v1/cache", params={"route": "demo"})
        assert (await asking).status_code == 200
        assert await result(gw, x_mock="latency=300ms") == "miss"


async def test_a_split_asks_each_of_its_targets_itself() -> None:
    """F116: the key names the target, so a canary is tried."""
    config = CACHED.replace("target: mock, cache", "split: {mock: 1, canary: 1}, cache").replace(
        "routes:", "  canary: {extends: mock}\nroutes:"
    )
    async with gateway(config) as gw:
        targets = {(await ask(gw)).headers["x-gateway-target"] for _ in range(40)}
        assert targets == {"mock", "canary"}
        assert len(await gw.calls()) == 2
