"""The operators' commands, as they type them, against a running gateway; and overrides over several processes."""

import asyncio
import subprocess
import sys

import pytest

from tests.gateway.harness import Gateway, gateway
from tests.gateway.processes import Serving, serving
from tests.gateway.resilience import ask, config
from tests.gateway.waiting import until
from tests.redis_servers import redis_server

pytestmark = pytest.mark.anyio

TWO = config({"blue": "", "green": ""}, "target: blue")


async def _run(admin: str, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *arguments, "--admin", admin),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def _admin(gw: Gateway) -> str:
    host, port = gw.served.admin.address
    return f"http://{host}:{port}"


async def test_switch_why_and_audit() -> None:
    async with gateway(TWO) as gw:
        status, out, _ = await _run(_admin(gw), "switch", "demo", "--to", "green", "--for", "2h", "--reason", "r12")
        assert (status, "override: route/demo" in out) == (0, True)
        reply = await ask(gw)
        assert reply.headers["x-gateway-target"] == "green"
        status, out, _ = await _run(_admin(gw), "why", reply.headers["x-request-id"])
        assert status == 0
        assert "step=route  detail=demo to green" in out
        status, out, _ = await _run(_admin(gw), "switch", "demo", "--undo")
        assert status == 0
        assert (await ask(gw)).headers["x-gateway-target"] == "blue"
        status, out, _ = await _run(_admin(gw), "audit")
        assert "action=switch" in out and "reason=r12" in out and "action=undo" in out


async def test_a_refusal_is_one_line_and_a_status() -> None:
    async with gateway(TWO) as gw:
        status, out, err = await _run(_admin(gw), "switch", "demo", "--to", "grey", "--reason", "x")
        assert (status, out) == (1, "")
        assert "no target 'grey'" in err
    status, _, err = await _run("http://127.0.0.1:1", "audit")
    assert status == 1
    assert "cannot ask the admin plane" in err


async def test_a_switch_reaches_every_worker() -> None:
    async with serving(TWO, "--workers", "2") as gw:
        await _switch(gw, "green")
        await until(lambda: _all(gw, "green"), 1.0)
        assert (await gw.admin.delete("/admin/v1/routes/demo/switch")).status_code == 200
        await until(lambda: _all(gw, "blue"), 1.0)


async def test_a_switch_reaches_every_replica_within_a_second() -> None:
    async with redis_server() as redis:
        text = TWO.replace("targets:", "store: {redis: env:REDIS_URL}\ntargets:", 1)
        environ = {"REDIS_URL": redis.url}
        async with serving(text, environ=environ) as one, serving(text, environ=environ) as other:
            await _switch(one, "green")
            await until(lambda: _all(other, "green"), 1.0)
            assert (await other.admin.delete("/admin/v1/routes/demo/switch")).status_code == 200
            await until(lambda: _all(one, "blue"), 1.0)
            entries = (await one.admin.get("/admin/v1/audit")).json()["audit"]
            assert [entry["action"] for entry in entries] == ["undo", "switch"]


async def _switch(gw: Serving, target: str) -> None:
    reply = await gw.admin.post("/admin/v1/routes/demo/switch", json={"target": target, "reason": "test"})
    assert reply.status_code == 200, reply.text


async def _all(gw: Serving, target: str) -> bool:
    replies = await asyncio.gather(*(gw.ask() for _ in range(16)))
    return {reply.headers["x-gateway-target"] for reply in replies} == {target}
