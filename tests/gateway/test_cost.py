"""What requests cost: the same in the log, the metrics, the report and the budget."""

import pytest

from tests.gateway.calls import CHATS, MESSAGES, Way, scripted, settled, streamed, wire
from tests.gateway.harness import CHAT, Gateway, gateway
from tests.gateway.spending import NUSD, limited, quiet, storm
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

INPUT, OUTPUT = 3_000, 15_000
"""Nano-dollars for a token."""
CONFIG = limited(
    "name: money, budget: $10/month",
    price="{input: $3, output: $15, cached_input: $0.30, cache_write: $3.75, reasoning: $20, audio_input: $40}",
    more="telemetry: {tag_labels: [team]}",
)
SEVEN_WORDS = [{"role": "user", "content": "one two three four five six seven"}]
TAGS = {"x-gateway-tags": "team=ml"}


async def everywhere(gw: Gateway) -> int:
    """The cost of the one request so far in nano-dollars; asserts that it is the same wherever it is shown."""
    spent = await quiet(gw.admin)
    [line] = await until(gw.requests)
    assert round(line["cost_usd"] * NUSD) == spent
    assert round(await gw.metric("gateway_budget_spent_usd", limit="money") * NUSD) == spent
    assert await gw.metric("gateway_budget_limit_usd", limit="money") == 10
    [total] = (await gw.admin.get("/admin/v1/spend")).json()["spend"]
    assert (total["cost_nusd"], total["requests"], total["tags"]) == (spent, 1, {"team": "ml"})
    assert (total["key"], total["route"], total["target"]) == ("open", "demo", "mock")
    assert (total["input_tokens"], total["output_tokens"]) == (line["input_tokens"], line["output_tokens"])
    return spent


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", [CHATS, MESSAGES], ids=str)
async def test_the_cost_is_the_same_wherever_it_is_shown(way: Way, stream: bool) -> None:
    """F57: what the provider counted, at the target's price, rounded up once."""
    async with gateway(CONFIG) as gw:
        body = way.body(stream=stream, messages=SEVEN_WORDS)
        headers = {"content-type": "application/json", "x-mock": "tokens=5", **TAGS}
        assert (await gw.client.post(way.path, content=body, headers=headers)).status_code == 200
        assert await everywhere(gw) == 7 * INPUT + 5 * OUTPUT
        assert gw.requests()[0]["usage_source"] == "provider"


@pytest.mark.parametrize("directives", ["nousage", "zero_usage"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply_without_usage_is_estimated_marked_and_paid(directives: str, stream: bool) -> None:
    """F53, F56: neither silence nor a zero makes it free."""
    async with gateway(CONFIG) as gw:
        body = CHATS.body(stream=stream, messages=SEVEN_WORDS)
        headers = {"content-type": "application/json", "x-mock": f"tokens=20,{directives}", **TAGS}
        assert (await gw.client.post(CHATS.path, content=body, headers=headers)).status_code == 200
        spent = await everywhere(gw)
        [line] = gw.requests()
        assert line["usage_source"] == "estimated"
        assert line["output_tokens"] >= 10 and spent >= line["output_tokens"] * OUTPUT
        assert await gw.metric("gateway_usage_estimated_total") == 1


async def test_usage_beside_choices_is_paid_as_it_says() -> None:
    """F54."""
    async with gateway(CONFIG) as gw:
        headers = {"content-type": "application/json", "x-mock": "tokens=5,usage_in_choice", **TAGS}
        body = CHATS.body(stream=True, messages=SEVEN_WORDS)
        assert (await gw.client.post(CHATS.path, content=body, headers=headers)).status_code == 200
        assert await everywhere(gw) == 7 * INPUT + 5 * OUTPUT


@pytest.mark.parametrize("way", [CHATS, MESSAGES], ids=str)
async def test_an_aborted_stream_costs_what_was_relayed(way: Way) -> None:
    """F55: the prompt of seven tokens by estimate, and five tokens more or less one."""
    async with gateway(CONFIG) as gw:
        async with wire(gw) as client:
            body = {"messages": SEVEN_WORDS, "max_tokens": 100}
            asked = Way(way.name, way.path, way.fields | body, can_stream=True)
            await client.post(asked, x_mock="tokens=50,gap=100ms", x_gateway_tags="team=ml")
            await client.until(b"tok5")
            client.leave("rst")
            await settled(gw)
        spent = await everywhere(gw)
        [line] = gw.requests()
        assert line["outcome"] == "client_gone"
        assert 4 <= line["output_tokens"] <= 6
        assert line["usage_source"] == "estimated" or way is MESSAGES
        assert spent == line["input_tokens"] * INPUT + line["output_tokens"] * OUTPUT


DETAILED = (
    b'{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100,'
    b'"prompt_tokens_details":{"cached_tokens":600,"audio_tokens":100},'
    b'"completion_tokens_details":{"reasoning_tokens":40}}'
)
ANTHROPIC = b'{"input_tokens":100,"cache_read_input_tokens":600,"cache_creation_input_tokens":200,"output_tokens":100}'


@pytest.mark.parametrize("stream", [False, True])
async def test_each_class_of_tokens_has_its_price(stream: bool) -> None:
    """F57: cached input, audio and reasoning in OpenAI's words."""
    chunk = (
        b'{"id":"c","object":"chat.completion%b","created":1,"model":"m","choices":[{"index":0,"%b":'
        b'{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":%b}'
    )
    if stream:
        reply = streamed(b"data: " + chunk % (b".chunk", b"delta", DETAILED) + b"\n\ndata: [DONE]\n\n")
    else:
        reply = whole(chunk % (b"", b"message", DETAILED))
    async with scripted([reply]) as upstream, gateway(CONFIG.replace("MOCK_URL", upstream.url)) as gw:
        response = await gw.client.post(CHATS.path, json=CHAT | {"stream": stream, "max_tokens": 100}, headers=TAGS)
        assert response.status_code == 200, response.text
        assert await everywhere(gw) == 300 * 3_000 + 600 * 300 + 100 * 40_000 + 60 * 15_000 + 40 * 20_000


async def test_anthropics_cache_tokens_are_beside_its_input() -> None:
    """F57: read and written ones come on top of `input_tokens`."""
    body = (
        b'{"id":"m","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"hi"}],'
        b'"stop_reason":"end_turn","stop_sequence":null,"usage":%b}' % ANTHROPIC
    )
    async with scripted([whole(body)]) as upstream, gateway(CONFIG.replace("MOCK_URL", upstream.url)) as gw:
        headers = {"content-type": "application/json", **TAGS}
        response = await gw.client.post(MESSAGES.path, content=MESSAGES.body(stream=False), headers=headers)
        assert response.status_code == 200, response.text
        assert await everywhere(gw) == 100 * 3_000 + 600 * 300 + 200 * 3_750 + 100 * 15_000


def whole(body: bytes) -> bytes:
    """A 200 with this JSON."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % len(body) + body


async def test_a_price_that_is_not_known_is_visible() -> None:
    """F57: no cost is made up; without a budget the request is served, and its cost is null."""
    config = limited("name: rpm, requests: 100/min").replace(", price: {request: $0.10}", "")
    async with gateway(config) as gw:
        assert (await storm([gw.address], 1)).outcomes == {"200": 1}
        [line] = await until(gw.requests)
        assert line["cost_usd"] is None and line["output_tokens"] == 16


async def test_no_budget_lets_through_what_has_no_price() -> None:
    """F57: a price that no file declares and that the provider's model name does not tell is no price of zero."""
    config = limited("name: money, budget: $1/month, dry_run: true", targets="  odd: {breaker: off, provider: mock}")
    async with gateway(config) as gw:
        answer = await gw.reload(config.replace(", dry_run: true", "").replace("target: mock", "target: odd"))
        assert not answer["changed"] and any("price" in str(fault) for fault in answer["faults"])
        assert (await storm([gw.address], 1)).outcomes == {"200": 1}
