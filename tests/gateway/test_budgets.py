"""Budgets of a running gateway: never a cent over, whoever asks and however it ends."""

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anthropic
import openai
import pytest

from gateway.cli import main
from tests.gateway.calls import CHATS, MESSAGES, WHOLE, Way, wire
from tests.gateway.harness import CHAT, Gateway, gateway
from tests.gateway.processes import serving
from tests.gateway.spending import NUSD, counters, ledger, limited, outcome, quiet, redis_store, served, storm
from tests.gateway.waiting import until
from tests.redis_servers import needs_redis, redis_server

pytestmark = pytest.mark.anyio

TEN = limited("name: money, budget: $1/month")
"""A budget for exactly ten requests of ten cents."""
TEN_BY_TOKENS = limited("name: money, budget: $0.001/month", price="{input: $0, output: $10}")
"""The same for ten requests of ten tokens, a hundred thousand nano-dollars each."""
TEN_TOKENS = CHAT | {"max_tokens": 10}
SPENT = "429 insufficient_quota"
CHATTING = tuple(way for way in WHOLE if way.name not in ("count_tokens", "moderations"))


@asynccontextmanager
async def kept_in(store: str, config: str) -> AsyncIterator[Gateway]:
    """A gateway that counts in memory, or in a Redis of its own."""
    if store == "memory":
        async with gateway(config) as gw:
            yield gw
        return
    async with redis_server() as server:
        text = config.replace("targets:\n", f"{redis_store()}\ntargets:\n", 1)
        async with gateway(text, {"REDIS_URL": server.url}) as gw:
            yield gw


def key_of(secret: str, key_id: str, team: str) -> str:
    """A client key in the configuration, whose team is fixed."""
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return f'  - {{id: {key_id}, hash: "sha256:{digest}", tags: {{team: {team}}}}}'


@pytest.mark.parametrize("store", ["memory", pytest.param("redis", marks=needs_redis)])
@pytest.mark.parametrize(
    ("config", "body", "budget"),
    [(TEN, CHAT, NUSD), (TEN_BY_TOKENS, TEN_TOKENS, NUSD // 1000)],
    ids=["by_request", "by_tokens"],
)
async def test_of_a_thousand_requests_at_once_a_budget_for_ten_admits_ten(
    store: str, config: str, body: dict[str, object], budget: int
) -> None:
    """F50: ten upstream calls, 990 refusals that no SDK repeats, and the budget is spent to the nano-dollar."""
    async with kept_in(store, config) as gw:
        answers = await storm([gw.address], 1000, body)
        assert answers.broken == 0 and answers.outcomes == {"200": 10, SPENT: 990}
        refused = [response for response in answers.responses if response.status_code == 429]
        assert {response.headers["x-should-retry"] for response in refused} == {"false"}
        assert all(int(response.headers["retry-after"]) >= 1 for response in refused)
        assert len(gw.mock.log.entries()) == served(gw.mock) == 10
        assert await ledger(gw.admin) == (budget, 0)


@pytest.mark.parametrize("store", ["memory", pytest.param("redis", marks=needs_redis)])
async def test_a_hundred_clients_that_leave_leave_the_budget_whole(store: str) -> None:
    """F51: nothing was generated for any of them, so all of the money is there again."""
    async with kept_in(store, TEN_BY_TOKENS.replace("$0.001", "$1")) as gw:
        asked = asyncio.ensure_future(storm([gw.address], 100, TEN_TOKENS, x_mock="latency=30s"))
        await until(lambda: gw.mock.stats.inflight == 100, 10.0)
        assert await ledger(gw.admin) == (0, 100 * 100_000)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        assert await quiet(gw.admin) == 0


@pytest.mark.parametrize("directives", ["status=500", "status=429", "rst_after=0", "html,status=502"])
async def test_what_the_provider_refuses_costs_nothing(directives: str) -> None:
    """F51: the hold comes back with the error."""
    async with gateway(TEN) as gw:
        for _ in range(3):
            assert (await gw.client.post(CHATS.path, json=CHAT, headers={"x-mock": directives})).status_code >= 429
        spent = await quiet(gw.admin)
        # A connection that is reset after the request was sent may have been worked on.
        assert spent == (3 * NUSD // 10 if directives == "rst_after=0" else 0)


@pytest.mark.parametrize("fault", ["seq=500|200", "status=500", "seq=200|500|500|200"])
async def test_retries_and_fallbacks_never_spend_more_than_the_budget(fault: str) -> None:
    """F50: each try is covered by a hold, and the ledger says what the model server would have billed."""
    config = limited(
        "name: money, budget: $1/month",
        price="{input: $0, output: $10, request: $0.1}",
        route="retry: {attempts: 3, when: [5xx], budget: 100%, max_wait: 1s}, fallback: [spare]",
        targets="  spare: {extends: mock, price: {input: $0, output: $10, request: $0.2}}",
    )
    async with gateway(config) as gw:
        await storm([gw.address], 60, TEN_TOKENS, x_mock=fault)
        spent = await quiet(gw.admin)
        price = {"mock": NUSD // 10 + 100_000, "spare": NUSD // 5 + 100_000}
        answered = [line["target"] for line in gw.requests() if line["outcome"] == "ok"]
        assert len(answered) == served(gw.mock) and bool(answered) is (fault != "status=500")
        assert spent == sum(price[target] for target in answered) <= NUSD


async def test_a_dearer_fallback_is_paid_from_the_same_budget() -> None:
    """F50: twenty cents where ten were held; a try for which there is nothing left is not made."""
    config = limited(
        "name: money, budget: $1/month",
        route="fallback: [{to: spare, when: [5xx]}]",
        targets="  spare: {extends: mock, model: demo, price: {request: $0.20}}",
    ).replace("base_url: MOCK_URL", 'base_url: MOCK_URL, model: "demo:status=500"')
    async with gateway(config) as gw:
        first = await storm([gw.address], 60)
        assert set(first.outcomes) == {"200", SPENT, "500 server_error"}, first.outcomes
        for _ in range(8):
            await gw.client.post(CHATS.path, json=CHAT)
        assert await quiet(gw.admin) == NUSD and served(gw.mock) == 5
        assert {line["target"] for line in gw.requests() if line["outcome"] == "ok"} == {"spare"}


@pytest.mark.parametrize("way", CHATTING, ids=str)
async def test_every_endpoint_asks_the_budget(way: Way) -> None:
    """F58: with every kind of credential, streamed and not."""
    secret = "budget-test-key"
    config = limited(
        "name: money, per: [tag.team], budget: $0.1/month",
        more=f"keys:\n{key_of(secret, 'app', 'ml')}",
    )
    async with gateway(config) as gw:
        first = await gw.client.post(CHATS.path, json=CHAT, headers={"authorization": f"Bearer {secret}"})
        assert outcome(first) == "200"
        for credential in ({"authorization": f"Bearer {secret}"}, {"x-api-key": secret}, {"api-key": secret}):
            for stream in {False, way.can_stream}:
                headers = {"content-type": "application/json", **credential}
                response = await gw.client.post(way.path, content=way.body(stream=stream), headers=headers)
                assert response.status_code == 429, response.text
                error = response.json()["error"]
                if way.dialect == "anthropic":
                    assert error["type"] == "rate_limit_error"
                    assert error["details"] == {"error_code": "enforced_spend_limit_reached"}
                    assert "retry-after" not in response.headers
                else:
                    assert error["code"] == error["type"] == "insufficient_quota"
                    assert int(response.headers["retry-after"]) >= 1
                assert response.headers["x-should-retry"] == "false"
                assert "Budget money allows $0.10 per month" in error["message"]
        assert len(gw.mock.log.entries()) == 1
        refused = [line for line in gw.requests() if line["status"] == 429]
        assert {line["outcome"] for line in refused} == {"over_budget"}


async def test_a_free_target_serves_when_the_budget_is_spent() -> None:
    """F59: by itself, and as the fallback of the route whose target has a price."""
    config = limited(
        "name: money, budget: $0.1/month",
        targets="  own: {extends: mock, price: {input: $0, output: $0, request: $0}}",
        routes="  - {model: free, target: own}\n  - {model: either, target: mock, fallback: [own]}",
    )
    async with gateway(config) as gw:
        assert outcome(await gw.client.post(CHATS.path, json=CHAT)) == "200"
        assert outcome(await gw.client.post(CHATS.path, json=CHAT)) == SPENT
        for model in ("free", "either"):
            response = await gw.client.post(CHATS.path, json=CHAT | {"model": model})
            assert (outcome(response), response.headers["x-gateway-target"]) == ("200", "own")
        assert await quiet(gw.admin) == NUSD // 10


async def test_the_key_says_who_pays() -> None:
    """F60: no header, tag or member of the body chooses another team's budget."""
    keys = "\n".join([key_of("ml-secret", "ml-app", "ml"), key_of("web-secret", "web-app", "web")])
    config = limited("name: money, per: [tag.team], budget: $0.1/month", more=f"keys:\n{keys}")
    async with gateway(config) as gw:
        claims = {
            "authorization": "Bearer ml-secret",
            "x-user": "web-app",
            "x-gateway-tags": "team=web",
            "x-team": "web",
            "openai-organization": "web",
        }
        body = CHAT | {"user": "web-app", "metadata": {"team": "web"}}
        answers = [await gw.client.post(CHATS.path, json=body, headers=claims) for _ in range(3)]
        assert "200" not in {outcome(answer) for answer in answers[1:]}
        honest = {"authorization": "Bearer ml-secret"}
        await gw.client.post(CHATS.path, json=CHAT, headers=honest)
        assert outcome(await gw.client.post(CHATS.path, json=CHAT, headers=honest)) == SPENT
        web = await gw.client.post(CHATS.path, json=CHAT, headers={"authorization": "Bearer web-secret"})
        assert outcome(web) == "200"
        spent = {each["scope"]: each["spent_nusd"] for each in await counters(gw.admin)}
        assert spent == {"tag.team=ml": NUSD // 10, "tag.team=web": NUSD // 10}


async def test_a_reload_amid_fifty_requests_changes_the_limit_and_not_the_counter() -> None:
    """F61: what runs is settled on the same counter, and the new amount holds at once."""
    config = limited("name: money, budget: $10/month")
    async with gateway(config) as gw:
        running = asyncio.ensure_future(storm([gw.address], 50, x_mock="latency=500ms"))
        await until(lambda: gw.mock.stats.inflight == 50, 5.0)
        assert (await gw.reload(config.replace("$10/month", "$5.2/month")))["changed"]
        later = await storm([gw.address], 10)
        assert later.outcomes == {"200": 2, SPENT: 8}
        assert (await running).outcomes == {"200": 50}
        assert await quiet(gw.admin) == 52 * NUSD // 10
        assert (await gw.reload(config.replace("$10/month", "$1/month")))["changed"]
        assert outcome(await gw.client.post(CHATS.path, json=CHAT)) == SPENT


async def test_a_grant_is_more_room_and_is_audited(capsys: pytest.CaptureFixture[str]) -> None:
    """By the admin API and by the command line; an unknown budget is a 404."""
    until_ = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    async with gateway(limited("name: money, budget: $0.1/month")) as gw:
        asked = {"amount": "$0.1", "until": until_, "reason": "the demo at noon"}
        assert (await storm([gw.address], 3)).outcomes == {"200": 1, SPENT: 2}
        headers = {"x-gateway-actor": "ada"}
        granted = await gw.admin.post("/admin/v1/budgets/money/grant", json=asked, headers=headers)
        assert granted.status_code == 200 and granted.json()["amount_usd"] == 0.1
        assert (await storm([gw.address], 3)).outcomes == {"200": 1, SPENT: 2}
        words = ["budgets", "--admin", str(gw.admin.base_url), "--grant", "money", "--amount", "$0.2"]
        words += ["--until", until_, "--reason", "another one"]
        assert await asyncio.to_thread(main, words) == 0
        assert "money" in capsys.readouterr().out
        assert (await storm([gw.address], 5)).outcomes == {"200": 2, SPENT: 3}
        [shown] = await counters(gw.admin)
        figures = ("limit_usd", "granted_usd", "spent_usd", "held_usd", "left_usd")
        assert [shown[name] for name in figures] == [0.1, 0.3, 0.4, 0.0, 0.0]
        assert await asyncio.to_thread(main, ["budgets", "--admin", str(gw.admin.base_url)]) == 0
        assert "money" in capsys.readouterr().out
        assert (await gw.admin.post("/admin/v1/budgets/nobody/grant", json=asked)).status_code == 404
        assert (await gw.admin.post("/admin/v1/budgets/money/grant", json=asked | {"amount": 5})).status_code == 400
        grants = [each for each in (await gw.admin.get("/admin/v1/audit")).json()["audit"] if each["action"] == "grant"]
        assert [(each["subject"], each["reason"]) for each in grants] == [
            ("budget/money", "another one"),
            ("budget/money", "the demo at noon"),
        ]
        assert grants[1]["actor"] == "ada" and grants[1]["detail"]["amount_usd"] == 0.1


async def test_a_budget_without_a_known_price_is_refused_by_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """F57: fail closed on a price that nobody knows; with `price:` declared it is fine."""
    config = limited("name: money, budget: $1/month", price="{request: $0.1}").replace("MOCK_URL", "http://127.0.0.1:9")
    path = tmp_path / "gateway.yaml"
    path.write_text(config)
    assert main(["check", str(path)]) == 0
    capsys.readouterr()
    path.write_text(config.replace(", price: {request: $0.1}", "").replace("provider: mock", "provider: openai"))
    assert main(["check", str(path)]) == 1
    told = "".join(capsys.readouterr())
    assert "price" in told and "money" in told


async def test_a_killed_process_has_lost_nothing_that_was_settled(tmp_path: Path) -> None:
    """F51: with `store: memory`, what was spent is in the state file; what was held is not."""
    config = limited("name: money, budget: $1/month").replace("drain: 2s", f"drain: 2s\n  state_dir: {tmp_path}")
    async with serving(config) as first:
        assert (await storm([first.address], 4)).outcomes == {"200": 4}
        assert await quiet(first.admin) == 4 * NUSD // 10
        held = asyncio.ensure_future(storm([first.address], 3, x_mock="latency=30s"))
        await until(lambda: first.run.mock.stats.inflight == 3, 5.0)
        first.run.process.send_signal(signal.SIGKILL)
        await first.run.ended()
        assert (await held).broken == 3
    async with serving(config) as second:
        assert await ledger(second.admin) == (4 * NUSD // 10, 0)
        assert (await storm([second.address], 20)).outcomes == {"200": 6, SPENT: 14}


async def test_workers_on_memory_count_alone_and_are_shown_together() -> None:
    """F50: each has the whole budget, which is said at the start; the admin plane shows the sum."""
    async with serving(TEN, "--workers", "2") as both:
        answers = await storm([both.address], 400)
        served_ = answers.outcomes["200"]
        assert 10 <= served_ <= 20 and answers.outcomes == {"200": served_, SPENT: 400 - served_}
        assert await quiet(both.admin) == served_ * NUSD // 10
        assert any("counts in each worker" in message for message in both.run.messages())


async def test_the_sdks_raise_a_rate_limit_error_that_says_so_and_ask_once() -> None:
    """F133, F137: a spent budget is `insufficient_quota`, and not worth a retry."""
    async with gateway(limited("name: money, budget: $0.1/month")) as gw:
        assert outcome(await gw.client.post(CHATS.path, json=CHAT)) == "200"
        async with openai.AsyncOpenAI(base_url=f"{gw.url}/v1", api_key="any", max_retries=2) as sdk:
            with pytest.raises(openai.RateLimitError) as raised:
                await sdk.chat.completions.create(model="demo", messages=[{"role": "user", "content": "hi"}])
            assert (raised.value.code, raised.value.type) == ("insufficient_quota", "insufficient_quota")
            assert int(raised.value.response.headers["retry-after"]) >= 1
        async with anthropic.AsyncAnthropic(base_url=gw.url, api_key="any", max_retries=2) as other:
            with pytest.raises(anthropic.RateLimitError) as caught:
                await other.messages.create(model="demo", max_tokens=10, messages=[{"role": "user", "content": "hi"}])
            assert "Budget money" in str(caught.value)
        assert len(gw.requests()) == 3 and len(gw.mock.log.entries()) == 1


async def test_a_client_that_leaves_amid_a_stream_has_its_hold_settled() -> None:
    """F51, F6: within a second of its leaving."""
    async with gateway(TEN_BY_TOKENS) as gw, wire(gw) as client:
        await client.post(MESSAGES, x_mock="tokens=100,gap=50ms")
        await client.until(b"tok3")
        assert (await ledger(gw.admin))[1] == 100 * 10_000
        client.leave("rst")
        assert 3 * 10_000 <= await quiet(gw.admin, timeout_s=1.0) <= 10 * 10_000
