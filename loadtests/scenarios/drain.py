"""SIGTERM with streams open: all of them end as they should, and the exit status is 0."""

import asyncio

from loadtests.client import Answer, Fleet, chat_request
from loadtests.configs import KEY, MODEL, Setting
from loadtests.figures import Figure
from loadtests.processes import BenchFailure, becomes, wait_for_exit
from loadtests.rig import Gateway, Rig

UPSTREAM = "bench:gap=20ms,tokens=150"
STREAMS = 50


async def run(rig: Rig) -> list[Figure]:
    """Streams cut by the drain, the exit status, and the readiness seen meanwhile."""
    async with rig.canned() as collector, rig.mock() as mock:
        setting = Setting(mock.port, UPSTREAM, collector_port=collector.port)
        async with rig.gateway(setting) as gateway:
            rig.progress.step(f"{STREAMS} streams, then SIGTERM")
            answers, ready_status = await _drained(gateway)
            loop = asyncio.get_running_loop()
            ended_s = loop.time()
            status = await wait_for_exit(gateway.child, 15)
            lingered_s = loop.time() - ended_s
    whole = sum(answer.ok and answer.finished for answer in answers)
    faults = {answer.fault or f"status {answer.status}" for answer in answers if not (answer.ok and answer.finished)}
    rig.progress.step(f"{whole} of {STREAMS} complete, exit status {status}, /readyz {ready_status} {faults or ''}")
    return [
        Figure("drain: streams cut", STREAMS - whole, "streams", "lower", 0),
        Figure("drain: exit status", 99 if status is None else status, "", "lower", 0),
        Figure("drain: not ready while draining", ready_status == 503, "(1 = 503)", "higher", 1),
        Figure("drain: exit after the last stream", lingered_s, "s", "lower", 2.0, slack=1.0, portable=False),
    ]


async def _drained(gateway: Gateway) -> tuple[list[Answer], int]:
    fleet = Fleet(gateway.port)
    try:
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(fleet.ask(chat_request(MODEL, KEY, stream=True))) for _ in range(STREAMS)]
            if not await becomes(lambda: fleet.events >= STREAMS * 3, 10):
                raise BenchFailure(f"{STREAMS} streams did not begin within 10 s")
            gateway.child.process.terminate()
            await asyncio.sleep(0.3)
            async with gateway.admin() as admin:
                ready = await admin.get("/readyz")
        return [task.result() for task in asked], ready.status_code
    finally:
        fleet.close()
