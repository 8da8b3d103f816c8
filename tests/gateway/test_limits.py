"""Limits on requests, tokens and concurrency of a running gateway."""

import asyncio
import re
import time
from datetime import UTC, datetime

import anthropic
import httpx
import openai
import pytest

from tests.gateway.calls import CHATS, EVENT_STREAMS, MESSAGES, Way, settled, wire
from tests.gateway.harness import CHAT, Gateway, gateway
from tests.gateway.spending import limited, outcome, storm
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

RATE = "429 rate_limit_exceeded"
FULL = "429 concurrency_limit_exceeded"
FREE = "{request: $0}"


async def ask(gw: Gateway, way: Way = CHATS, **headers: str) -> httpx.Response:
    """One request that is not streamed; `_` in a header's name stands for `-`."""
    named = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return await gw.client.post(way.path, content=way.body(stream=False), headers=named)


async def decisions(gw: Gateway, limit: str) -> dict[str, int]:
    """What a rule has decided, as `GET limits` shows it."""
    rules = (await gw.admin.get("/admin/v1/limits")).json()["limits"]
    found: dict[str, int] = next(rule["decisions"] for rule in rules if rule["name"] == limit)
    return {decision: count for decision, count in found.items() if count}


async def test_of_parallel_requests_only_those_pass_whose_tokens_fit() -> None:
    """F52: twenty at once that may need 900 tokens each, in a window of 1,000. Settled to the truth, more fit."""
    async with gateway(limited("name: tpm, tokens: 1000/min", price=FREE)) as gw:
        body = CHAT | {"max_tokens": 900}
        answers = await storm([gw.address], 20, body, x_mock="tokens=20,latency=300ms")
        assert answers.outcomes == {"200": 1, RATE: 19}
        assert len(gw.mock.log.entries()) == 1
        # It came to 21 tokens: so there is room for another one, and for no larger one.
        assert (await storm([gw.address], 1, CHAT | {"max_tokens": 978}, x_mock="tokens=1")).outcomes == {"200": 1}
        assert (await storm([gw.address], 1, CHAT | {"max_tokens": 978})).outcomes == {RATE: 1}


async def test_more_than_the_window_ever_holds_is_refused_for_good() -> None:
    """F52: waiting would not help, so nobody is told to."""
    async with gateway(limited("name: tpm, tokens: 100/min", price=FREE)) as gw:
        [answer] = (await storm([gw.address], 1, CHAT | {"max_tokens": 500})).responses
        assert outcome(answer) == RATE and answer.headers["x-should-retry"] == "false"
        assert "never allows more than 100 per minute" in answer.json()["error"]["message"]
        assert (await storm([gw.address], 1, CHAT | {"max_tokens": 50})).outcomes == {"200": 1}


async def test_a_window_lets_no_twofold_through_at_its_edge() -> None:
    """F63: wherever ten of a second have come, the eleventh waits until the first of them is a second old."""
    async with gateway(limited("name: rps, requests: 10/s", price=FREE)) as gw:
        begun = time.monotonic()
        assert (await storm([gw.address], 10)).outcomes == {"200": 10}
        while (refused := await ask(gw)).status_code == 429:
            wait_s = int(refused.headers["retry-after-ms"]) / 1000
            assert 0 < wait_s <= 1.02
            await asyncio.sleep(min(wait_s, 0.2))
        assert outcome(refused) == "200" and time.monotonic() - begun >= 1.0


async def test_refused_requests_use_nothing_up() -> None:
    """F65: whoever hammers away waits no longer than who waits."""
    async with gateway(limited("name: rps, requests: 2/s", "name: day, requests: 5/day", price=FREE)) as gw:
        assert (await storm([gw.address], 2)).outcomes == {"200": 2}
        answers = await storm([gw.address], 100)
        assert answers.outcomes == {RATE: 100}
        wait_s = max(int(each.headers["retry-after-ms"]) for each in answers.responses) / 1000
        await asyncio.sleep(wait_s)
        # The longest wait that was told is enough, and the rule that had room has counted none of the hundred.
        assert (await storm([gw.address], 2)).outcomes == {"200": 2}
        await until(lambda: _fits(gw), 3.0)
        assert (await decisions(gw, "day"))["allowed"] == 5
        last = await ask(gw)
        assert outcome(last) == RATE and int(last.headers["retry-after"]) > 80_000


async def _fits(gw: Gateway) -> bool:
    return (await ask(gw)).status_code == 200


def reset_s(span: str) -> float:
    """Seconds of a span as OpenAI writes it; asserts that it is one."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?|(\d+)ms", span)
    assert found is not None and span, span
    hours, minutes, seconds, milliseconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


@pytest.mark.parametrize("way", EVENT_STREAMS, ids=str)
async def test_headers_agree_with_the_next_decision(way: Way) -> None:
    """F64: as many as remain are let in, none more, in the dialect's own words; on refusals too."""
    async with gateway(limited("name: rpm, requests: 5/min", "name: rph, requests: 100/h", price=FREE)) as gw:
        for left in (4, 3, 2, 1, 0):
            response = await ask(gw, way)
            assert response.status_code == 200
            assert told(way, response) == (5, left)
        refused = await ask(gw, way)
        assert refused.status_code == 429 and told(way, refused) == (5, 0)
        assert 1 <= int(refused.headers["retry-after"]) <= 61


def told(way: Way, response: httpx.Response) -> tuple[int, int]:
    """Limit and remaining of the headers; asserts that the reset is a time to come and the other dialect is silent."""
    headers = response.headers
    if way.dialect == "anthropic":
        assert "x-ratelimit-limit-requests" not in headers
        reset = datetime.fromisoformat(headers["anthropic-ratelimit-requests-reset"])
        assert 0 < (reset - datetime.now(UTC)).total_seconds() <= 62
        prefix = "anthropic-ratelimit-requests-"
        return int(headers[f"{prefix}limit"]), int(headers[f"{prefix}remaining"])
    assert "anthropic-ratelimit-requests-limit" not in headers
    assert 0 < reset_s(headers["x-ratelimit-reset-requests"]) <= 61
    return int(headers["x-ratelimit-limit-requests"]), int(headers["x-ratelimit-remaining-requests"])


async def test_token_headers_tell_what_is_left_after_this_request() -> None:
    """F64: with its hold; what it gives back when it is over is there for the next one."""
    async with gateway(limited("name: tpm, tokens: 1000/min", price=FREE)) as gw:
        body = CHAT | {"max_tokens": 400}
        first = (await storm([gw.address], 1, body, x_mock="tokens=9")).responses[0]
        assert first.headers["x-ratelimit-limit-tokens"] == "1000"
        assert first.headers["x-ratelimit-remaining-tokens"] == "599"
        await settled(gw)
        second = (await storm([gw.address], 1, body, x_mock="tokens=9")).responses[0]
        assert second.headers["x-ratelimit-remaining-tokens"] == "589"


@pytest.mark.parametrize("way", EVENT_STREAMS, ids=str)
async def test_the_place_of_a_cancelled_stream_is_free_at_once(way: Way) -> None:
    """F6: one place; who leaves amid a stream gives it back within a second, again and again."""
    async with gateway(limited("name: one, concurrency: 1", price=FREE)) as gw:
        for how in ("fin", "rst") * 3:
            async with wire(gw) as client:
                await client.post(way, x_mock="tokens=1000,gap=20ms")
                await client.until(b"tok2")
                refused = await ask(gw, way)
                assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
                client.leave("fin" if how == "fin" else "rst")
            await until(lambda: _succeeds(gw, way), 1.0)


async def _succeeds(gw: Gateway, way: Way) -> bool:
    return (await ask(gw, way)).status_code == 200


@pytest.mark.parametrize(
    "directives", ["status=500", "latency=30s", "rst_after=0", "badjson_after=0", "eof_after=1", "status=429"]
)
async def test_the_place_of_a_failed_call_is_free_at_once(directives: str) -> None:
    """F7: ten failures of any kind, two places, and the next call is served."""
    config = limited("name: two, concurrency: 2", price=FREE).replace(
        "breaker: off,", "breaker: off, timeouts: {first_token: 100ms, total: 200ms},"
    )
    async with gateway(config) as gw:
        for _ in range(5):
            answers = await storm([gw.address], 2, x_mock=directives)
            assert FULL not in answers.outcomes
        assert outcome(await ask(gw)) == "200"


async def test_two_calls_back_to_back_need_one_place() -> None:
    """F8: the place is free with the last byte, also on one connection."""
    async with gateway(limited("name: one, concurrency: 1", price=FREE)) as gw:
        for number in range(30):
            answer = await gw.client.post(CHATS.path, content=CHATS.body(stream=number % 2 == 0), headers=JSON)
            assert answer.status_code == 200, answer.text
        answers = await storm([gw.address], 10, x_mock="latency=300ms")
        assert answers.outcomes == {"200": 1, FULL: 9}


JSON = {"content-type": "application/json"}


async def test_a_dry_run_counts_and_refuses_nothing() -> None:
    """It is told by the metric and by `GET limits`."""
    async with gateway(limited("name: trial, requests: 2/min, dry_run: true", price=FREE)) as gw:
        answers = await storm([gw.address], 5)
        assert answers.outcomes == {"200": 5}
        # No limit is in force, so what is told is the provider's own.
        assert answers.responses[0].headers["x-ratelimit-limit-requests"] == "10000"
        assert await decisions(gw, "trial") == {"allowed": 2, "dry_run": 3}
        assert await gw.metric("gateway_limit_decisions_total", limit="trial", decision="dry_run") == 3
        record = (await gw.admin.get(f"/admin/v1/requests/{gw.requests()[-1]['request_id']}")).json()
        assert any("trial would have refused" in str(each) for each in record["decisions"])


async def test_a_reload_changes_the_limit_and_keeps_the_count() -> None:
    """F61: fifty are running while the limit falls; the new one holds, and what runs is counted once."""
    config = limited("name: rpm, requests: 100/min", "name: slots, concurrency: 60", price=FREE)
    async with gateway(config) as gw:
        running = asyncio.ensure_future(storm([gw.address], 50, x_mock="latency=400ms"))
        await until(lambda: gw.mock.stats.inflight == 50, 5.0)
        lower = config.replace("100/min", "52/min")
        assert (await gw.reload(lower))["changed"]
        assert (await storm([gw.address], 5)).outcomes == {"200": 2, RATE: 3}
        assert (await running).outcomes == {"200": 50}
        assert (await gw.reload(config.replace("100/min", "54/min").replace("60", "1")))["changed"]
        assert (await storm([gw.address], 1)).outcomes == {"200": 1}
        answers = await storm([gw.address], 3, x_mock="latency=200ms")
        assert answers.outcomes["200"] == 1


async def test_the_rule_that_takes_longest_is_the_one_that_is_told() -> None:
    """All rules that match apply; a rule about others does not."""
    rules = (
        "name: minute, requests: 1/min",
        "name: hour, requests: 1/h",
        "name: others, match: {model: gpt-*}, requests: 1/day",
        "name: tagged, match: {tags: {service: batch}}, requests: 1/day",
    )
    async with gateway(limited(*rules, price=FREE)) as gw:
        assert outcome(await ask(gw)) == "200"
        refused = await ask(gw)
        assert outcome(refused) == RATE and "Limit hour allows 1 requests per hour" in refused.text
        assert int(refused.headers["retry-after"]) > 3500
        assert await decisions(gw, "others") == {} == await decisions(gw, "tagged")


async def test_the_sdks_raise_a_rate_limit_error_and_see_when_to_come_back() -> None:
    """F133, F137."""
    async with gateway(limited("name: rpm, requests: 1/min", price=FREE)) as gw:
        assert outcome(await ask(gw)) == "200"
        async with openai.AsyncOpenAI(base_url=f"{gw.url}/v1", api_key="any", max_retries=0) as sdk:
            with pytest.raises(openai.RateLimitError) as raised:
                await sdk.chat.completions.create(model="demo", messages=[{"role": "user", "content": "hi"}])
            assert raised.value.code == "rate_limit_exceeded"
            assert 1 <= int(raised.value.response.headers["retry-after"]) <= 61
        async with anthropic.AsyncAnthropic(base_url=gw.url, api_key="any", max_retries=0) as other:
            with pytest.raises(anthropic.RateLimitError) as caught:
                await other.messages.create(model="demo", max_tokens=10, messages=[{"role": "user", "content": "hi"}])
            assert 1 <= int(caught.value.response.headers["retry-after"]) <= 61
            assert "Limit rpm" in str(caught.value)


async def test_an_sdk_that_waits_as_it_is_told_is_served() -> None:
    """F29, F65: one retry after the time that the refusal names."""
    async with gateway(limited("name: rps, requests: 1/s", price=FREE)) as gw:
        assert outcome(await ask(gw, MESSAGES)) == "200"
        async with openai.AsyncOpenAI(base_url=f"{gw.url}/v1", api_key="any", max_retries=1) as sdk:
            reply = await sdk.chat.completions.create(model="demo", messages=[{"role": "user", "content": "hi"}])
        assert reply.choices[0].message.content
        assert [line["status"] for line in gw.requests()] == [200, 429, 200]
