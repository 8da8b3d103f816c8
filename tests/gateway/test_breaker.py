"""A target that fails is left alone, and comes back by one probe."""

import asyncio
import time

import pytest

from tests.gateway.calls import settled
from tests.gateway.harness import gateway
from tests.gateway.resilience import ask, asked, config
from tests.gateway.waiting import until

pytestmark = pytest.mark.anyio

QUICK = "breaker: {consecutive: 3, open_for: 300ms, max_open_for: 2s, slow_start: 0s}"


async def test_after_the_threshold_the_target_is_left_alone_and_the_answer_is_quick() -> None:
    """F29, F32."""
    async with gateway(config({"a": f"status=500; {QUICK.replace('300ms', '2s')}"}, "target: a")) as gw:
        for _ in range(3):
            assert (await ask(gw)).status_code == 500
        began = time.monotonic()
        for _ in range(20):
            reply = await ask(gw)
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "no_healthy_target")
            assert int(reply.headers["retry-after"]) >= 1
        assert (time.monotonic() - began) / 20 < 0.02
        assert await asked(gw) == {"a": 3}
        assert await gw.metric("gateway_breaker_state", target="a") == 2
        [target] = (await gw.admin.get("/admin/v1/targets")).json()["targets"]
        assert target["breaker"]["state"] == "open"
        assert "breaker_opened" in {line["event"] for line in gw.lines()}


async def test_failures_amid_streams_count() -> None:
    """F32."""
    async with gateway(config({"a": f"error_after=2; {QUICK.replace('300ms', '2s')}"}, "target: a")) as gw:
        for _ in range(3):
            assert (await ask(gw, stream=True)).status_code == 200
        assert (await ask(gw, stream=True)).status_code == 503


async def test_one_probe_reaches_a_target_that_may_be_well_again() -> None:
    """F33: a hundred at once, one gets through."""
    async with gateway(config({"a": f"; {QUICK}"}, "target: a")) as gw:
        for _ in range(3):
            await ask(gw, x_mock="status=500")
        await asyncio.sleep(0.45)
        replies = await asyncio.gather(*(ask(gw, x_mock="latency=1500ms") for _ in range(100)))
        assert [reply.status_code for reply in replies].count(200) == 1
        assert await asked(gw) == {"a": 4}
        assert (await ask(gw)).status_code == 200
        assert await gw.metric("gateway_breaker_state", target="a") == 0


async def test_a_probe_whose_client_leaves_is_no_verdict() -> None:
    """F34."""
    async with gateway(config({"a": f"; {QUICK}"}, "target: a")) as gw:
        for _ in range(3):
            await ask(gw, x_mock="status=500")
        await asyncio.sleep(0.45)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await ask(gw, x_mock="latency=5s")
        await settled(gw)
        assert await until(lambda: _is_well(gw), 2.0)


async def _is_well(gw: object) -> bool:
    return (await ask(gw)).status_code == 200  # type: ignore[arg-type]


async def test_one_failure_is_no_outage() -> None:
    """F35."""
    async with gateway(config({"a": "; breaker: {consecutive: 5, error_rate: 50%}"}, "target: a")) as gw:
        assert (await ask(gw, x_mock="status=500")).status_code == 500
        for _ in range(5):
            assert (await ask(gw)).status_code == 200


async def test_what_callers_do_wrong_opens_nothing() -> None:
    """F36: refusals, and a deadline that is the caller's own."""
    async with gateway(config({"a": "; breaker: {consecutive: 3}"}, "target: a")) as gw:
        for status in (400, 404, 413, 422):
            for _ in range(5):
                await ask(gw, x_mock=f"status={status}")
        for _ in range(5):
            assert (await ask(gw, x_mock="latency=2s", x_gateway_timeout="20ms")).status_code == 408
        assert (await ask(gw)).status_code == 200


async def test_a_refused_account_takes_the_target_out_and_is_told() -> None:
    """F37."""
    async with gateway(config({"a": "status=401", "b": ""}, "target: a, fallback: [b]")) as gw:
        for _ in range(5):
            reply = await ask(gw)
            assert (reply.status_code, reply.headers["x-gateway-target"]) == (200, "b")
        assert await asked(gw) == {"a": 1, "b": 5}
        [told] = [line for line in gw.lines() if line["event"] == "account_refused"]
        assert told["target"] == "a"


async def test_a_target_that_asked_for_a_pause_has_it() -> None:
    """F39: while a target asked for a pause it gets nothing, from the next request on."""
    async with gateway(config({"a": "seq=429|200,retry_after=30", "b": ""}, "target: a, fallback: [b]")) as gw:
        assert (await ask(gw)).headers["x-gateway-target"] == "b"
        replies = [await ask(gw) for _ in range(10)]
        assert {reply.headers["x-gateway-target"] for reply in replies} == {"b"}
        [a, _] = (await gw.admin.get("/admin/v1/targets")).json()["targets"]
        assert a["breaker"]["cooling_until"] is not None


async def test_a_route_never_loses_all_of_its_targets() -> None:
    """F40: of three that failed once, half may be out."""
    targets = dict.fromkeys("abc", "; breaker: {consecutive: 1, open_for: 30s}")
    async with gateway(config(targets, "split: {a: 1, b: 1, c: 1}")) as gw:
        for _ in range(12):
            await ask(gw, x_mock="status=500")
        statuses = [(await ask(gw)).status_code for _ in range(20)]
        assert statuses.count(200) == 20


async def test_two_targets_of_one_alias_have_breakers_of_their_own() -> None:
    """F41."""
    targets = {"eu": "status=500; breaker: {consecutive: 2}", "us": "; breaker: {consecutive: 2}"}
    async with gateway(config(targets, "split: {eu: 1, us: 1}")) as gw:
        for _ in range(30):
            await ask(gw)
        assert await gw.metric("gateway_breaker_state", target="eu") == 2
        assert await gw.metric("gateway_breaker_state", target="us") == 0
        assert [(await ask(gw)).status_code for _ in range(10)] == [200] * 10


async def test_an_open_breaker_outlives_a_reload() -> None:
    """F79."""
    text = config({"a": "; breaker: {consecutive: 2, open_for: 30s}"}, "target: a")
    async with gateway(text) as gw:
        for _ in range(2):
            await ask(gw, x_mock="status=500")
        assert (await gw.reload(text + "\n# changed\n"))["changed"]
        assert (await ask(gw)).status_code == 503


async def test_a_dying_target_costs_its_own_streams_and_nothing_else() -> None:
    """The clients of its open streams see an error event; everybody else is served by the fallback."""
    targets = {"a": "; breaker: {consecutive: 3, open_for: 30s}", "b": ""}
    async with gateway(config(targets, "target: a, fallback: [b]")) as gw:
        streams = [
            asyncio.ensure_future(ask(gw, stream=True, x_mock="tokens=100,gap=10ms,rst_after=20")) for _ in range(5)
        ]
        await until(lambda: gw.mock.stats.inflight == 5)
        broken = await asyncio.gather(*streams)
        assert all(b'"error"' in reply.content for reply in broken)
        replies = [await ask(gw) for _ in range(20)]
        assert {(reply.status_code, reply.headers["x-gateway-target"]) for reply in replies} == {(200, "b")}
