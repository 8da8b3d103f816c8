"""From the start of the process to the first answer with status 200, and the memory of a gateway that idles."""

import asyncio
import time

from loadtests.client import Fleet, chat_request
from loadtests.configs import KEY, MODEL, Setting
from loadtests.figures import Figure, median_of
from loadtests.processes import BenchFailure, Child, stop
from loadtests.rig import Rig


async def run(rig: Rig) -> list[Figure]:
    """Median of the starts, and resident memory two seconds after the first answer."""
    times: list[float] = []
    idle: list[float] = []
    async with rig.canned() as upstream:
        setting = Setting(upstream.port, collector_port=upstream.port)
        for number in range(rig.options.starts):
            rig.progress.step(f"start {number + 1} of {rig.options.starts}")
            made = rig.gateway_command(setting)
            began_s = time.monotonic()
            child = rig.launch("gateway", made.command, rig.cores.server, made.port)
            try:
                times.append(await _first_answer(child, made.port) - began_s)
                await asyncio.sleep(2 if number == 0 else 0)
                idle.append(child.rss_bytes() / 2**20)
            finally:
                await stop(child)
    start_s, low, high = median_of(times)
    return [
        Figure("cold start: first 200", start_s, "s", "lower", 1.5, low, high, slack=0.3, portable=False),
        Figure("idle: resident memory", idle[0], "MiB", "lower", 100, slack=3.0),
    ]


async def _first_answer(child: Child, port: int, within_s: float = 20.0) -> float:
    """When the first 200 came (monotonic seconds). Raises BenchFailure when none comes."""
    fleet = Fleet(port)
    until = time.monotonic() + within_s
    try:
        while time.monotonic() < until:
            answer = await fleet.ask(chat_request(MODEL, KEY))
            if answer.ok:
                return answer.ended_s
            if child.process.poll() is not None:
                raise BenchFailure(f"the gateway ended with {child.process.returncode}:\n{child.last_words()}")
            await asyncio.sleep(0.01)
    finally:
        fleet.close()
    raise BenchFailure(f"no answer within {within_s:g} s:\n{child.last_words()}")
