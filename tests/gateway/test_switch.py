"""What operators flip at run time: switches, failovers, ejections, isolations; each audited, each with an end."""

import asyncio
import hashlib
import random
import sys
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gateway.mock.server import MockServer
from loadtests.scenarios.switch import RATE, UPSTREAM, VERBS, WITHIN_S, Spread, play, slowest, told
from tests.gateway.calls import events
from tests.gateway.harness import Gateway, gateway
from tests.gateway.processes import serving
from tests.gateway.resilience import ask, asked, config, why
from tests.gateway.waiting import until
from tests.redis_servers import needs_redis, redis_server

pytestmark = pytest.mark.anyio

TWO = config({"blue": "", "green": ""}, "target: blue")


async def _post(gw: Gateway, path: str, **body: Any) -> dict[str, Any]:
    reply = await gw.admin.post(f"/admin/v1/{path}", json=body, headers={"x-gateway-actor": "ann"})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


async def test_a_switch_sends_the_next_request_elsewhere_and_undo_brings_it_back() -> None:
    async with gateway(TWO) as gw:
        assert (await ask(gw)).headers["x-gateway-target"] == "blue"
        await _post(gw, "routes/demo/switch", target="green", reason="release 12")
        assert (await ask(gw)).headers["x-gateway-target"] == "green"
        assert await gw.metric("gateway_split_weight", route="demo", target="green") == 1
        [override] = (await gw.admin.get("/admin/v1/config")).json()["overrides"]
        assert (override["name"], override["actor"], override["reason"]) == ("route/demo", "ann", "release 12")
        assert (await gw.admin.delete("/admin/v1/routes/demo/switch")).status_code == 200
        assert (await ask(gw)).headers["x-gateway-target"] == "blue"
        audit = (await gw.admin.get("/admin/v1/audit")).json()["audit"]
        assert [entry["action"] for entry in audit] == ["undo", "switch"]


async def test_a_switch_ends_at_its_time() -> None:
    async with gateway(TWO) as gw:
        await _post(gw, "routes/demo/switch", split={"green": 100}, reason="a test", **{"for": "700ms"})
        assert (await ask(gw)).headers["x-gateway-target"] == "green"

        async def is_back() -> bool:
            return (await ask(gw)).headers["x-gateway-target"] == "blue"

        await until(is_back, 3.0)
        assert (await gw.admin.get("/admin/v1/config")).json()["overrides"] == []


async def test_streams_finish_where_they_began_and_no_request_is_lost() -> None:
    async with gateway(TWO) as gw:
        streams = [asyncio.ensure_future(ask(gw, stream=True, x_mock="tokens=40,gap=20ms")) for _ in range(10)]
        await until(lambda: gw.mock.stats.inflight == 10)
        statuses: list[int] = []
        done = asyncio.Event()

        async def load() -> None:
            while not done.is_set():
                statuses.append((await ask(gw)).status_code)

        loads = [asyncio.ensure_future(load()) for _ in range(4)]
        for turn in range(10):
            if turn % 2:
                assert (await gw.admin.delete("/admin/v1/routes/demo/switch")).status_code == 200
            else:
                await _post(gw, "routes/demo/switch", target="green", reason="to and fro")
        for reply in await asyncio.gather(*streams):
            assert reply.headers["x-gateway-target"] == "blue"
            texts = [each["choices"][0]["delta"].get("content") for each in events(reply.content) if each["choices"]]
            assert sum(bool(text) for text in texts) == 40
        done.set()
        await asyncio.gather(*loads)
        assert set(statuses) == {200}
        assert len((await gw.admin.get("/admin/v1/audit")).json()["audit"]) == 10


TWO_SIDES = """
apiVersion: gateway/v1
server: {listen: "127.0.0.1:0", admin: "127.0.0.1:0", drain: 5s, overload: {loop_lag: 1m}}
store: {redis: env:REDIS_URL, timeout: 2s}
targets:
  upstream: {provider: openai, base_url: "FIRST/v1", api_key: env:KEY, model: "MODEL", tags: {region: eu}}
  second: {extends: upstream, base_url: "SECOND/v1", tags: {region: us}}
routes:
  - {model: bench, target: upstream}
"""


@needs_redis
@pytest.mark.timeout(90)
async def test_under_three_hundred_requests_a_second_nothing_is_lost_and_every_replica_follows_within_a_second() -> (
    None
):
    """Switch, undo, failover, undo; half of the load are streams, which begin on one side and end after the change."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_server())
        mocks = [MockServer(), MockServer()]
        for mock in mocks:
            await mock.start("127.0.0.1", 0)
            stack.push_async_callback(mock.aclose)
        text = TWO_SIDES.replace("MODEL", UPSTREAM).replace("FIRST", mocks[0].url).replace("SECOND", mocks[1].url)
        environ = {"REDIS_URL": redis.url, "KEY": "sk-upstream"}
        replicas = [await stack.enter_async_context(serving(text, environ=environ)) for _ in range(3)]
        rng = random.Random(7)
        spread = Spread([replica.address[1] for replica in replicas], rng)
        stack.callback(spread.close)
        seen = await play(spread, [replica.admin for replica in replicas], rng, 1, settle_s=1.4)
    took_s = slowest(seen, [[float(str(call["t"])) for call in mock.log.entries()] for mock in mocks])
    # The rate is what a busy machine lets the driver offer, so it is shown and only its order is asserted.
    sys.stdout.write(told(seen, took_s) + "\n")
    assert seen.lost == 0, seen.arrivals.faults
    assert seen.short_streams == 0, seen.streams
    assert set(took_s) == {verb.name for verb in VERBS}
    assert max(took_s.values()) <= WITHIN_S, took_s
    assert seen.missing == 0, seen.audits
    assert seen.arrivals.sent > 0.5 * RATE * seen.length_s
    assert 0.3 < seen.streams.total() / seen.arrivals.sent < 0.7


async def test_an_override_outlives_a_reload_and_a_restart() -> None:
    async with gateway(TWO) as gw:
        await _post(gw, "routes/demo/switch", target="green", reason="known good")
        assert (await gw.reload(TWO + "\n# changed\n"))["changed"]
        assert (await ask(gw)).headers["x-gateway-target"] == "green"


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("routes/demo/switch", {"target": "gren", "reason": "x"}, 404, "no target 'gren'"),
        ("routes/dem/switch", {"target": "green", "reason": "x"}, 404, "no route 'dem'"),
        ("routes/demo/switch", {"target": "green"}, 400, "`reason` is missing"),
        ("routes/demo/switch", {"reason": "x"}, 400, "either `target` or `split`"),
        ("routes/demo/switch", {"split": {"green": 0}, "reason": "x"}, 400, "add up to 0"),
        ("routes/demo/switch", {"split": {"green": -1}, "reason": "x"}, 400, "at least 0"),
        ("routes/demo/switch", {"target": "green", "reason": "x", "for": 5}, 400, "`for`"),
        ("failover", {"from": {"region": "mars"}, "to": {"region": "eu"}, "reason": "x"}, 404, "region=mars"),
        ("isolate", {"key": "nobody", "reason": "x"}, 404, "no key 'nobody'"),
        ("isolate", {"reason": "x"}, 400, "Name one of"),
    ],
)
async def test_a_change_that_makes_no_sense_changes_nothing(
    path: str, body: dict[str, Any], status: int, said: str
) -> None:
    async with gateway(TWO) as gw:
        reply = await gw.admin.post(f"/admin/v1/{path}", json=body)
        assert reply.status_code == status
        assert said in reply.json()["error"]["message"]
        assert (await gw.admin.get("/admin/v1/config")).json()["overrides"] == []
        assert (await gw.admin.get("/admin/v1/audit")).json()["audit"] == []


async def test_a_region_is_left_for_another_and_taken_back() -> None:
    targets = {"eu": "; tags: {region: eu}", "us": "; tags: {region: us}"}
    text = config(targets, "target: eu").replace('model: "eu"', 'model: "m"').replace('model: "us"', 'model: "m"')
    async with gateway(text) as gw:
        done = await _post(gw, "failover", **{"from": {"region": "eu"}, "to": {"region": "us"}, "reason": "outage"})
        assert done["moves"] == {"eu": ["us"]}
        assert (await ask(gw)).headers["x-gateway-target"] == "us"
        assert (await gw.admin.delete("/admin/v1/failover", params={"from": "region=eu"})).status_code == 200
        assert (await ask(gw)).headers["x-gateway-target"] == "eu"


async def test_an_ejected_target_gets_nothing_until_it_is_restored() -> None:
    async with gateway(config({"a": "; breaker: {slow_start: 0s}", "b": ""}, "target: a, fallback: [b]")) as gw:
        await _post(gw, "targets/a/eject", reason="patching")
        reply = await ask(gw)
        assert reply.headers["x-gateway-target"] == "b"
        assert "fallback: b instead of a: ejected" in await why(gw, reply)
        [a, _] = (await gw.admin.get("/admin/v1/targets")).json()["targets"]
        assert "patching" in a["breaker"]["reason"]
        await _post(gw, "targets/a/restore", reason="patched")
        assert (await ask(gw)).headers["x-gateway-target"] == "a"
        assert await asked(gw) == {"a": 1, "b": 1}


async def test_a_target_without_a_breaker_is_ejected_too() -> None:
    async with gateway(config({"a": "; breaker: off", "b": ""}, "target: a, fallback: [b]")) as gw:
        await _post(gw, "targets/a/eject", reason="patching")
        assert (await ask(gw)).headers["x-gateway-target"] == "b"


async def test_an_isolated_key_is_refused_and_what_it_did_is_kept() -> None:
    digest = hashlib.sha256(b"secret-key").hexdigest()
    keys = f'keys:\n  - {{id: bot, hash: "sha256:{digest}", tags: {{team: red}}}}'
    async with gateway(config({"a": ""}, "target: a", keys)) as gw:
        assert (await ask(gw, authorization="Bearer secret-key")).status_code == 200
        await _post(gw, "isolate", key="bot", reason="leaked")
        reply = await ask(gw, authorization="Bearer secret-key")
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "isolated")
        [entry] = (await gw.admin.get("/admin/v1/audit")).json()["audit"]
        assert entry["detail"]["evidence"][0]["key"] == "bot"
        assert (await gw.admin.delete("/admin/v1/isolate", params={"key": "bot"})).status_code == 200
        assert (await ask(gw, authorization="Bearer secret-key")).status_code == 200
        await _post(gw, "isolate", tag="team=red", reason="gone wild")
        assert (await ask(gw, authorization="Bearer secret-key")).status_code == 403
