"""Redis goes away under a steady load and comes back: nobody waits long, nobody is refused, and all count again."""

import asyncio
import random
import time
from dataclasses import dataclass, field

from loadtests.client import Answer, Fleet, chat_request
from loadtests.configs import KEY, MODEL, Setting
from loadtests.figures import Figure, percentile
from loadtests.openloop import Arrivals, OpenLoop
from loadtests.processes import BenchFailure
from loadtests.redis import Redis, store_section
from loadtests.rig import Gateway, Rig
from loadtests.scenarios.limits import LIMITS, PRICE

RATE = 100.0
BEFORE_S = 2.0
GONE_S = 4.0
AFTER_S = 5.0
MOMENT_S = 1.0
"""How long after the store has gone still counts as the moment itself."""


@dataclass(slots=True)
class Timeline:
    """Latency of each answer by the time at which its request should have left."""

    answers: list[tuple[float, float]] = field(default_factory=list)

    def note(self, answer: Answer, intended_s: float) -> None:
        """Count a whole answer; the others are the open loop's faults."""
        if answer.ok:
            self.answers.append((intended_s, answer.ended_s - intended_s))

    def p99_ms(self, start_s: float, end_s: float) -> float:
        """Of the requests of a stretch of time; NaN when there were none."""
        return percentile(sorted(took for at, took in self.answers if start_s <= at < end_s), 0.99) * 1e3


@dataclass(frozen=True, slots=True)
class Outage:
    """What one outage did to those who asked meanwhile."""

    way: str
    at_once_ms: float
    """p99 added in the first second."""
    later_ms: float
    """p99 added while it lasted, after that."""
    recovery_s: float
    arrivals: Arrivals


async def run(rig: Rig) -> list[Figure]:
    """An outage by SIGSTOP and one by SIGKILL, each under its own gateway."""
    figures: list[Figure] = []
    for way in ("paused", "killed"):
        async with rig.canned() as upstream, rig.redis() as redis:
            setting = Setting(
                upstream.port, target=PRICE, state=f"state-outage-{way}", sections=store_section(rig.folder) + LIMITS
            )
            async with rig.gateway(setting) as gateway:
                outage = await _outage(rig, gateway, redis, way)
        figures += _figures(outage)
    return figures


async def _outage(rig: Rig, gateway: Gateway, redis: Redis, way: str) -> Outage:
    rig.progress.step(f"{way}: steady")
    fleet, timeline = Fleet(gateway.port), Timeline()
    loop = OpenLoop(fleet, chat_request(MODEL, KEY), RATE, random.Random(rig.options.seed), timeline.note)
    try:
        await fleet.open(32)
        for _ in range(200):
            await fleet.ask(chat_request(MODEL, KEY))
        if await gateway.metric("gateway_store_up") != 1:
            raise BenchFailure("Redis was not in use before the outage")
        async with asyncio.TaskGroup() as tasks:
            load = tasks.create_task(loop.run(BEFORE_S + GONE_S + AFTER_S))
            began_s = time.monotonic()
            await asyncio.sleep(BEFORE_S)
            rig.progress.step(f"{way}: gone")
            gone_s = time.monotonic()
            redis.pause() if way == "paused" else redis.kill()
            await asyncio.sleep(GONE_S)
            if await gateway.metric("gateway_store_up") != 0:
                raise BenchFailure(f"Redis was {way}, and gateway_store_up did not say so")
            rig.progress.step(f"{way}: back")
            back_s = time.monotonic()
            redis.resume() if way == "paused" else redis.restart()
            recovery_s = await _recovery(gateway, back_s)
    finally:
        fleet.close()
    usual_ms = timeline.p99_ms(began_s, gone_s)
    return Outage(
        way=way,
        at_once_ms=timeline.p99_ms(gone_s, gone_s + MOMENT_S) - usual_ms,
        later_ms=timeline.p99_ms(gone_s + MOMENT_S, back_s) - usual_ms,
        recovery_s=recovery_s,
        arrivals=load.result(),
    )


async def _recovery(gateway: Gateway, back_s: float, within_s: float = 10.0) -> float:
    """Seconds from `back_s` until the store is in use; `within_s` when it is not by then."""
    while time.monotonic() - back_s < within_s:
        if await gateway.metric("gateway_store_up") == 1:
            return time.monotonic() - back_s
        await asyncio.sleep(0.1)
    return within_s


def _figures(outage: Outage) -> list[Figure]:
    name = f"store {outage.way}"
    hangs = outage.arrivals.faults["no answer in time"]
    errors = sum(outage.arrivals.faults.values()) - hangs
    return [
        Figure(f"{name}: p99 added at that moment", outage.at_once_ms, "ms", "lower", 150, slack=60, portable=False),
        Figure(f"{name}: p99 added after it", outage.later_ms, "ms", "lower", 5.0, slack=3, portable=False),
        Figure(f"{name}: requests that hung", hangs, "requests", "lower", 0),
        Figure(f"{name}: requests that failed", errors, "requests", "lower", 0),
        Figure(f"{name}: counts again after", outage.recovery_s, "s", "lower", 5.0, slack=2, portable=False),
    ]
