"""What a budget does before it is spent: tell, serve more cheaply, keep the rest for what matters."""

import hashlib

import pytest

from tests.gateway.calls import CHATS
from tests.gateway.harness import CHAT, Gateway, gateway
from tests.gateway.spending import NUSD, ledger, limited, outcome, quiet, storm

pytestmark = pytest.mark.anyio

CHEAP = "  small: {extends: mock, price: {request: $0.01}}"
SPENT = "429 insufficient_quota"


def keys() -> str:
    """One key for each priority, whose secret is its name."""
    lines = []
    for name in ("low", "normal", "high"):
        digest = hashlib.sha256(name.encode()).hexdigest()
        lines.append(f'  - {{id: app-{name}, hash: "sha256:{digest}", priority: {name}}}')
    return "keys:\n" + "\n".join(lines)


def alerts(gw: Gateway) -> list[tuple[str, str, str]]:
    """What was told of budgets: scope, share, and what was spent."""
    return [(line["scope"], line["at"], line["spent"]) for line in gw.lines() if line["event"] == "budget_alert"]


async def targets_of(gw: Gateway, count: int) -> list[str]:
    """Which target served each of `count` requests, one after another; the outcome of those that none served."""
    found = []
    for _ in range(count):
        response = await gw.client.post(CHATS.path, json=CHAT)
        found.append(response.headers["x-gateway-target"] if response.status_code == 200 else outcome(response))
    return found


async def test_alerts_are_told_once_a_period() -> None:
    """By a line in the log and a metric, for settled spend alone; a reload does not tell them again."""
    config = limited("name: money, budget: $1/month, alert_at: [50%, 80%]")
    async with gateway(config) as gw:
        await storm([gw.address], 4)
        assert await quiet(gw.admin) == 4 * NUSD // 10 and alerts(gw) == []
        await storm([gw.address], 2)
        assert await quiet(gw.admin) == 6 * NUSD // 10
        assert [at for _, at, _ in alerts(gw)] == ["50%"]
        assert (await gw.reload(config.replace("drain: 2s", "drain: 3s")))["changed"]
        await storm([gw.address], 10)
        assert await quiet(gw.admin) == NUSD
        assert [at for _, at, _ in alerts(gw)] == ["50%", "80%"]
        await storm([gw.address], 10)
        assert len(alerts(gw)) == 2
        for at in ("50%", "80%"):
            assert await gw.metric("gateway_budget_alerts_total", limit="money", at=at) == 1


async def test_each_counter_tells_its_own_alerts() -> None:
    """Two teams, one rule."""
    config = limited("name: money, per: [tag.team], budget: $0.2/month, alert_at: [50%]")
    async with gateway(config) as gw:
        for team in ("a", "b", "a"):
            await storm([gw.address], 1, x_gateway_tags=f"team={team}")
        await quiet(gw.admin)
        assert sorted(scope for scope, _, _ in alerts(gw)) == ["tag.team=a", "tag.team=b"]


async def test_under_pressure_a_cheaper_target_serves() -> None:
    """From 50 % on, and for as long as even its price fits."""
    config = limited(
        "name: money, budget: $1/month, pressure: [{at: 50%, downgrade_to: small}]",
        price="{request: $0.25}",
        targets=CHEAP,
    )
    async with gateway(config) as gw:
        assert await targets_of(gw, 6) == ["mock", "mock", "small", "small", "small", "small"]
        assert await quiet(gw.admin) == 54 * NUSD // 100
        record = (await gw.admin.get(f"/admin/v1/requests/{gw.requests()[-1]['request_id']}")).json()
        assert "small" in str(record["decisions"])
        answers = await storm([gw.address], 100)
        assert answers.outcomes["200"] == 46
        assert await quiet(gw.admin) == NUSD


async def test_where_the_usual_way_does_not_fit_the_cheaper_one_may() -> None:
    """It is asked for at once, instead of a refusal; and it may be the route of another model."""
    config = limited(
        "name: money, budget: $0.25/month, pressure: [{at: 99%, downgrade_to: tiny}]",
        targets=CHEAP,
        routes="  - {model: tiny, target: small}",
    )
    async with gateway(config) as gw:
        assert await targets_of(gw, 8) == ["mock", "mock", "small", "small", "small", "small", "small", SPENT]
        assert await ledger(gw.admin) == (NUSD // 4, 0)


async def test_the_rest_is_kept_for_priority() -> None:
    """`only_priority` is exact: under a storm nobody below it gets past its share."""
    config = limited(
        "name: money, budget: $1/month, pressure: [{at: 50%, only_priority: normal}, {at: 80%, only_priority: high}]",
        more=keys(),
    )
    async with gateway(config) as gw:
        for key, served in (("low", 5), ("normal", 3), ("low", 0), ("high", 2), ("high", 0)):
            answers = await storm([gw.address], 50, authorization=f"Bearer {key}")
            assert answers.outcomes["200"] == served, key
            refused = next(response for response in answers.responses if response.status_code == 429)
            assert outcome(refused) == SPENT
        assert await ledger(gw.admin) == (NUSD, 0)


async def test_a_step_may_refuse_everything_that_costs() -> None:
    """`refuse`, and the message says what it is kept from."""
    config = limited("name: money, budget: $1/month, pressure: [{at: 30%, refuse: true}]")
    async with gateway(config) as gw:
        answers = await storm([gw.address], 50)
        assert answers.outcomes == {"200": 3, SPENT: 47}
        refused = next(response for response in answers.responses if response.status_code == 429)
        assert "may use $0.30 of it" in refused.json()["error"]["message"]
        assert await ledger(gw.admin) == (3 * NUSD // 10, 0)


async def test_a_dry_budget_counts_and_refuses_nothing() -> None:
    """What fits is charged; what does not is told."""
    async with gateway(limited("name: money, budget: $0.3/month, dry_run: true")) as gw:
        assert (await storm([gw.address], 8)).outcomes == {"200": 8}
        assert await gw.metric("gateway_limit_decisions_total", limit="money", decision="dry_run") == 5
