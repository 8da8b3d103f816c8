"""Embeddings of the running gateway that go up together: few calls, each caller's own vectors and own bill."""

import asyncio
import hashlib
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest

from tests.gateway.calls import Wire, request, settled
from tests.gateway.harness import PLAIN, Gateway, gateway
from tests.gateway.spending import counters, limited, quiet
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

TOGETHER = PLAIN.replace("provider: mock,", "provider: mock, coalesce: {wait: 10ms},")
TOKEN_NUSD, REQUEST_NUSD = 130, 1_000_000
PRICED = "{input: $0.13, output: $0, request: $0.001}, coalesce: {wait: 10ms}"
"""130 nano-dollars a token, a million a request."""
KEYS = [f"k{number}" for number in range(10)]
PATH = "/v1/embeddings"
SLOW = {"x_mock": "latency=150ms"}


def body(*inputs: object, **more: Any) -> dict[str, Any]:
    """A request for embeddings of eight numbers."""
    return {"model": "demo", "input": list(inputs), "dimensions": 8} | more


@dataclass(slots=True)
class Answer:
    """What one caller has got."""

    status: int
    headers: httpx.Headers
    json: dict[str, Any]

    @property
    def vectors(self) -> list[Any]:
        """The vectors; asserts that they are counted from 0."""
        assert self.status == 200, self.json
        assert [row["index"] for row in self.json["data"]] == list(range(len(self.json["data"])))
        return [row["embedding"] for row in self.json["data"]]


async def ask_all(
    gw: Gateway, asked: Sequence[tuple[dict[str, Any], dict[str, str]]], path: str = PATH
) -> list[Answer]:
    """What comes of these requests, sent in one moment, each on a connection of its own."""
    wires = [Wire(*await asyncio.open_connection(*gw.address)) for _ in asked]
    try:
        for wire, (fields, headers) in zip(wires, asked, strict=True):
            wire.writer.write(request(path, json.dumps(fields).encode(), connection="close", **headers))
        return [answer(await wire.reader.read()) for wire in wires]
    finally:
        for wire in wires:
            wire.writer.close()


def answer(raw: bytes) -> Answer:
    """A reply, parsed."""
    head, _, content = raw.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = httpx.Headers([(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)])
    return Answer(int(status.split()[1]), headers, json.loads(content))


async def alone(gw: Gateway, fields: dict[str, Any]) -> list[Any]:
    """The vectors of a request that has no company."""
    reply = await gw.client.post(PATH, json=fields)
    return answer(b"x 200\r\n\r\n" + reply.content).vectors


async def test_fifty_callers_make_few_calls_and_each_has_its_own_vectors_and_its_own_bill(
    record_property: Callable[[str, object], None],
) -> None:
    """F57: to the nano-dollar, what the callers pay is what the provider asks for."""
    keys = [f'{{id: {key}, hash: "sha256:{hashlib.sha256(key.encode()).hexdigest()}"}}' for key in KEYS]
    config = limited("name: money, per: [key], budget: $1/month", price=PRICED, more=f"keys: [{', '.join(keys)}]")
    fields = [body(*[f"text {n} {'word ' * (n % 7)}{part}" for part in range(n % 3 + 1)]) for n in range(50)]
    headers = [{"authorization": f"Bearer {KEYS[n % 10]}"} | SLOW for n in range(50)]
    async with gateway(config) as gw, gateway() as other:
        answers = await ask_all(gw, list(zip(fields, headers, strict=True)))
        calls = len(await gw.calls())
        record_property("calls_for_50_requests", calls)
        assert calls <= 25, "three, unless the machine is busy"
        for reply, asked in zip(answers, fields, strict=True):
            assert reply.vectors == await alone(other, asked)
            assert reply.headers["x-gateway-attempts"] == "1"
        words = sum(len(text.split()) for asked in fields for text in asked["input"])
        assert sum(reply.json["usage"]["prompt_tokens"] for reply in answers) == words
        assert await quiet(gw.admin) == words * TOKEN_NUSD + calls * REQUEST_NUSD
        lines = gw.requests()
        assert sum(line["input_tokens"] for line in lines) == words
        assert {line["usage_source"] for line in lines} == {"provider"}
        for key in KEYS:
            (counter,) = [each for each in await counters(gw.admin) if key in each["scope"]]
            spent = sum(round(line["cost_usd"] * 1e9) for line in lines if line["key"] == key)
            assert counter["spent_nusd"] == spent > 0


async def test_without_the_setting_every_call_goes_up_as_it_came() -> None:
    fields = [body(f"text {n}") for n in range(10)]
    async with gateway() as gw:
        answers = await ask_all(gw, [(each, SLOW) for each in fields])
        assert {reply.status for reply in answers} == {200}
        sent = {call["body_sha256"] for call in await gw.calls()}
        assert sent == {hashlib.sha256(json.dumps(each).encode()).hexdigest() for each in fields}


async def test_who_comes_alone_waits_for_nobody_and_goes_up_as_it_came(
    record_property: Callable[[str, object], None],
) -> None:
    content = b'{ "input" : ["hi"],\n "model":"demo" }'
    async with gateway(TOGETHER) as gw:
        for _ in range(30):
            await gw.client.post(PATH, content=content, headers={"content-type": "application/json"})
        assert {call["body_sha256"] for call in await gw.calls()} == {hashlib.sha256(content).hexdigest()}
        overhead_ms = statistics.median(line["overhead_ms"] for line in gw.requests())
        record_property("overhead_ms_alone", overhead_ms)
        assert overhead_ms < 5, "not the ten milliseconds"


async def test_what_differs_never_goes_together() -> None:
    asked = [
        (body("a"), SLOW),
        (body("a", dimensions=9), SLOW),
        (body("a", encoding_format="base64"), SLOW),
        (body("a", user="eve"), SLOW),
        (body([1, 2]), SLOW),
        (body("a"), SLOW | {"user_agent": "other"}),
        (body("a"), SLOW | {"idempotency_key": "1"}),
        (body("a"), {"x_mock": "latency=151ms"}),
    ]
    async with gateway(TOGETHER) as gw:
        answers = await ask_all(gw, asked)
        assert {reply.status for reply in answers} == {200}
        assert len(await gw.calls()) == len(asked)
        assert [len(reply.json["data"][0]["embedding"]) for reply in answers[:2]] == [8, 9]


async def test_a_caller_that_leaves_disturbs_nobody_and_pays_for_what_was_sent() -> None:
    """F1, F31."""
    slow = {"x_mock": "latency=300ms"}
    config = limited("name: money, budget: $1/month", price=PRICED)
    async with gateway(config) as gw:
        leaving = Wire(*await asyncio.open_connection(*gw.address))
        tasks = [asyncio.ensure_future(ask_all(gw, [(body("first"), slow)]))]
        await until(lambda: gw.mock.stats.inflight == 1)
        leaving.writer.write(request(PATH, json.dumps(body("gone " * 100)).encode(), **slow))
        tasks += [asyncio.ensure_future(ask_all(gw, [(body(f"b{n}"), slow)])) for n in range(3)]
        await until(lambda: gw.mock.stats.inflight == 2)
        leaving.leave("rst")
        for task in tasks:
            (reply,) = await task
            assert reply.status == 200
        await settled(gw)
        assert not any(call["closed_early"] for call in await gw.calls())
        (gone,) = [line for line in gw.requests() if line["outcome"] == "client_gone"]
        assert gone["usage_source"] == "estimated"
        assert gone["cost_usd"] > 0
        spent = await quiet(gw.admin)
        assert spent == sum(round(line["cost_usd"] * 1e9) for line in gw.requests())


async def test_when_all_callers_have_left_the_call_ends() -> None:
    """F1: within 250 ms."""
    slow = {"x_mock": "latency=5s"}
    async with gateway(TOGETHER) as gw:
        wires = [Wire(*await asyncio.open_connection(*gw.address)) for _ in range(6)]
        for wire in wires:
            wire.writer.write(request(PATH, json.dumps(body("a")).encode(), **slow))
        await until(lambda: gw.mock.stats.inflight == 2)
        left_s = max(wire.leave("fin") for wire in wires)
        await settled(gw)
        for call in await gw.calls():
            assert call["closed_early"]
            assert call["t_closed"] - left_s <= 0.25


async def test_a_failure_is_each_callers_own_and_tells_nobody_of_the_others() -> None:
    async with gateway(TOGETHER) as gw:
        failing = {"x_mock": "latency=100ms,status=500"}
        answers = await ask_all(gw, [(body(f"a{n}"), failing) for n in range(20)])
        assert {reply.status for reply in answers} == {500}
        assert len(await gw.calls()) < 15
        messages = [reply.json["error"]["message"] for reply in answers]
        assert messages.count("The provider answered 500.") >= 6
        assert await gw.metric("gateway_upstream_attempts_total", outcome="upstream_error") == 20
        assert [line["cost_usd"] for line in gw.requests()] == [None] * 20


async def test_after_a_failure_each_caller_goes_its_own_way_within_the_retry_budget() -> None:
    """F30: a fifth of the callers, and three."""
    config = TOGETHER.replace(
        "model: demo, target: mock}",
        'model: "demo*", target: mock, retry: {attempts: 2, when: [5xx]}, fallback: [spare]}',
    ).replace("routes:", "  spare: {breaker: off, provider: mock, base_url: MOCK_URL, model: spare}\nroutes:")
    async with gateway(config) as gw:
        asked = [(body(f"a{n}", model="demo:status=500"), {"x_mock": "latency=100ms"}) for n in range(20)]
        answers = await ask_all(gw, asked)
        assert [reply.status for reply in answers] == [200] * 20
        assert {reply.headers["x-gateway-target"] for reply in answers} == {"spare"}
        by_model = [call["model"] for call in await gw.calls()]
        assert by_model.count("spare") == 20
        assert by_model.count("demo:status=500") < 20, "with all tries"


async def test_nobody_suffers_from_anothers_bad_input() -> None:
    async with gateway(TOGETHER) as gw:
        asked = [(body([1, n]), SLOW) for n in range(10)]
        bad = body([1, "x"])
        answers = await ask_all(gw, [*asked, (bad, SLOW)])
        assert [reply.status for reply in answers] == [200] * 10 + [400]
        assert len(await gw.calls()) <= 11 + 5, "every call for several, and then each alone"
        solo = [await alone(gw, each) for each, _ in asked]
        assert [reply.vectors for reply in answers[:10]] == solo


async def test_one_callers_deadline_is_its_own() -> None:
    """F36."""
    async with gateway(TOGETHER) as gw:
        slow = {"x_mock": "latency=400ms"}
        asked = [(body(f"a{n}"), slow) for n in range(5)]
        asked[3] = (asked[3][0], slow | {"x_gateway_timeout": "100ms"})
        answers = await ask_all(gw, asked)
        assert [reply.status for reply in answers] == [200, 200, 200, 408, 200]


async def test_a_place_at_the_target_is_for_a_call_not_for_a_caller() -> None:
    """F48."""
    config = TOGETHER.replace("coalesce:", "max_inflight: 2, queue: {size: 1}, coalesce:")
    async with gateway(config) as gw:
        first = asyncio.ensure_future(ask_all(gw, [(body("first"), SLOW)]))
        await until(lambda: gw.mock.stats.inflight == 1)
        answers = await ask_all(gw, [(body(f"a{n}"), SLOW) for n in range(5)])
        assert [reply.status for reply in answers + await first] == [200] * 6
        await settled(gw)


async def test_azures_deployments_go_together_too() -> None:
    config = PLAIN.replace(
        "provider: mock, base_url: MOCK_URL", "provider: azure, base_url: MOCK_URL, coalesce: {wait: 10ms}"
    )
    async with gateway(config) as gw:
        fields = [{"input": f"text {n}", "dimensions": 8} for n in range(12)]
        path = "/openai/deployments/demo/embeddings?api-version=2024-10-21"
        answers = await ask_all(gw, [(each, {}) for each in fields], path)
        calls = await gw.calls()
        assert len(calls) < 12, "they came in one moment"
        assert {(call["path"], call["query"]) for call in calls} == {tuple(path.split("?"))}
        assert [reply.vectors for reply in answers] == [await alone(gw, {"model": "demo"} | each) for each in fields]


async def test_the_sdk_that_asks_for_base64_gets_its_own_numbers() -> None:
    """F134."""
    async with gateway(TOGETHER) as gw, openai.AsyncOpenAI(base_url=f"{gw.url}/v1", api_key="any") as sdk:
        texts = [f"text number {n}" for n in range(12)]
        for tried in range(1, 11):
            found = await asyncio.gather(*[sdk.embeddings.create(model="demo", input=text) for text in texts])
            if len(await gw.calls()) < tried * len(texts):
                break
        else:
            pytest.fail("they never met")
        for text, each in zip(texts, found, strict=True):
            solo = await sdk.embeddings.create(model="demo", input=text)
            assert each.data[0].embedding == solo.data[0].embedding


async def test_calls_upstream_can_be_told_from_what_is_counted_and_a_failed_one_is_one_failure() -> None:
    """F32, F125."""
    async with gateway(TOGETHER.replace("breaker: off", "breaker: {consecutive: 15}")) as gw:
        failing = {"x_mock": "latency=100ms,status=500"}
        answers = await ask_all(gw, [(body(f"a{n}"), failing) for n in range(20)])
        assert {reply.status for reply in answers} == {500}
        calls = len(await gw.calls())
        tries = await gw.metric("gateway_upstream_attempts_total")
        together = await gw.metric("gateway_coalesced_calls_total", way="together")
        assert calls == tries - together + await gw.metric("gateway_coalesced_batches_total")
        assert calls < 15
        assert await gw.metric("gateway_breaker_state") == 0
