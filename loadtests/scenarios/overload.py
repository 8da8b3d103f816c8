"""Twice as much as can be served: what is taken is served, what matters goes first, and memory stays flat.

The capacity is that of a target, `PLACES` requests of 30 to 70 ms at a time, with a queue before it: in life models are
what is short, seldom the gateway's own core. It is measured in a closed loop of unequal replies (equal ones fall into
step, and reach a tenth less), and then twice of it comes in an open loop, a tenth of it with a key of high priority.
The loop's lag and the memory are watched too (`server.overload`).

Once replies take unequal times, as those of models do, and once exactly 50 ms each. The second is the harder for
`high`: places that were taken together come free together, and none in between.

"As usual" is the p99 of all replies at half of the capacity: nobody waits then, so the priority makes no difference,
and those of `high` alone are too few for a p99.
"""

import asyncio
import hashlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtests.client import Answer, Fleet, Sink, chat_request
from loadtests.configs import KEY, MODEL, Setting
from loadtests.figures import Figure, percentile
from loadtests.openloop import Arrivals, OpenLoop
from loadtests.processes import BenchFailure
from loadtests.rig import Gateway, Rig
from loadtests.scenarios.soak import growth

LATENCIES_MS: Sequence[int] = range(30, 71, 4)
EQUAL_MS: Sequence[int] = (50,)
PLACES = 48
HIGH_KEY = KEY.replace("bench", "first")
HIGH_SHARE = 0.1
OVERLOAD = 2.0
HALF_S = 8.0
LIVE = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@dataclass(slots=True)
class Stretch:
    """What a stretch of load showed."""

    normal: Arrivals
    high: Arrivals
    length_s: float
    live_s: list[float] = field(default_factory=list)
    """Times of `/livez`, in ascending order."""
    rss: list[tuple[int, int]] = field(default_factory=list)
    """Tenths of a second since the beginning, and resident bytes."""

    @property
    def goodput(self) -> float:
        """Requests a second that were answered with 200."""
        return (len(self.normal.latencies_s) + len(self.high.latencies_s)) / self.length_s


@dataclass(frozen=True, slots=True)
class Shape:
    """What replies of one shape showed."""

    half: Stretch
    over: Stretch


class Varied(Fleet):
    """A fleet that asks for replies of random latency, whatever it is given to send."""

    def __init__(self, port: int, key: str, rng: random.Random, latencies_ms: Sequence[int] = LATENCIES_MS) -> None:
        super().__init__(port)
        self._rng = rng
        self._requests = [chat_request(f"{MODEL}:latency={latency}ms", key) for latency in latencies_ms]

    def send(self, request: bytes, sink: Sink) -> None:
        """Send one of the requests."""
        super().send(self._rng.choice(self._requests), sink)


async def run(rig: Rig) -> list[Figure]:
    """Goodput against capacity, the p99 of high priority against half load, memory, and `/livez`."""
    async with rig.mock() as mock, rig.gateway(setting(mock.port)) as gateway:
        rng = random.Random(rig.options.seed)
        rig.progress.step("warm-up")
        await _closed(gateway.port, 2.0, rng)
        rig.progress.step("finding the capacity")
        capacity = await _closed(gateway.port, 5.0, rng)
        unequal = await _shape(rig, gateway, capacity, "unequal", LATENCIES_MS)
        equal = await _shape(rig, gateway, capacity, "equal", EQUAL_MS)
        left = await gateway.metric("gateway_inflight_requests")
    return [
        *_figures("twice the capacity", unequal, capacity),
        *_figures("twice, equal replies", equal, capacity),
        Figure("twice the capacity: in flight afterwards", left, "requests", "lower", 0),
        Figure("  capacity", capacity, "requests/s", "higher", portable=False, guarded=False),
    ]


async def _shape(rig: Rig, gateway: Gateway, capacity: float, name: str, latencies_ms: Sequence[int]) -> Shape:
    half_s = min(HALF_S, rig.options.overload_s)
    half = await _stretch(rig, gateway, capacity * 0.5, half_s, f"{name}, half load", latencies_ms)
    # The first seconds of a first overload fill queues and the allocator, and are no measure of what grows.
    await _stretch(rig, gateway, capacity * OVERLOAD, min(3.0, half_s), f"{name}, warm-up", latencies_ms)
    over_s = rig.options.overload_s
    over = await _stretch(rig, gateway, capacity * OVERLOAD, over_s, f"{name}, overload", latencies_ms)
    return Shape(half, over)


def setting(mock_port: int) -> Setting:
    """A target with few places and a queue, and a second key of high priority."""
    digest = hashlib.sha256(HIGH_KEY.encode()).hexdigest()
    return Setting(
        mock_port,
        "",
        state="state-overload",
        server="overload: {loop_lag: 250ms, max_rss: 1GiB}, ",
        keys=f'  - {{id: first, hash: "sha256:{digest}", priority: high}}\n',
        route=f'{{model: "{MODEL}*", target: upstream}}',
        target=f"    max_inflight: {PLACES}\n    queue: {{size: 50, wait: 1s}}\n    breaker: off\n",
    )


async def _closed(port: int, length_s: float, rng: random.Random) -> float:
    """Requests a second that are answered when each place is asked for again as soon as it is free."""
    fleet = Varied(port, KEY, rng)
    until = time.monotonic() + length_s
    done = 0

    async def visitor() -> None:
        nonlocal done
        while time.monotonic() < until:
            answer = await fleet.ask(b"")
            if not answer.ok:
                raise BenchFailure(f"a request below the capacity failed: {answer.status} {answer.fault}")
            done += 1

    try:
        # A few more than there are places, so that none is ever empty.
        async with asyncio.TaskGroup() as tasks:
            for _ in range(PLACES + PLACES // 4):
                tasks.create_task(visitor())
    finally:
        fleet.close()
    return done / length_s


async def _stretch(
    rig: Rig,
    gateway: Gateway,
    rate: float,
    length_s: float,
    name: str,
    latencies_ms: Sequence[int],
) -> Stretch:
    rig.progress.step(f"{name}: {rate:,.0f}/s for {length_s:g} s")
    rng = random.Random(rig.options.seed)
    fleets = [
        Varied(gateway.port, KEY, rng, latencies_ms),
        Varied(gateway.port, HIGH_KEY, rng, latencies_ms),
        Fleet(gateway.port),
    ]
    loops = [
        OpenLoop(fleets[0], b"", rate * (1 - HIGH_SHARE), rng),
        OpenLoop(fleets[1], b"", rate * HIGH_SHARE, random.Random(rig.options.seed + 1)),
    ]
    try:
        await fleets[0].open(160)
        await fleets[1].open(40)
        async with asyncio.TaskGroup() as tasks:
            normal, high = [tasks.create_task(loop.run(length_s)) for loop in loops]
            seen = tasks.create_task(_watch(gateway, fleets[2], length_s))
    finally:
        for fleet in fleets:
            fleet.close()
    live_s, rss = seen.result()
    found = Stretch(normal.result(), high.result(), length_s, live_s, rss)
    rig.progress.step(
        f"{name}: {found.goodput:,.0f}/s answered; p50/p99 ms normal {_pair(found.normal)}, high {_pair(found.high)}; "
        f"refused {dict(found.normal.faults)} and {dict(found.high.faults)}; "
        f"driver late {max(found.normal.late_s, found.high.late_s) * 1e3:.1f} ms"
    )
    return found


def _pair(arrivals: Arrivals) -> str:
    return f"{arrivals.quantile_ms(0.5):.1f}/{arrivals.quantile_ms(0.99):.1f}"


async def _watch(gateway: Gateway, fleet: Fleet, length_s: float) -> tuple[list[float], list[tuple[int, int]]]:
    """How long `/livez` takes, each 50 ms, and resident memory each second."""
    live_s: list[float] = []
    rss: list[tuple[int, int]] = []
    began_s = time.monotonic()
    while (now := time.monotonic()) - began_s < length_s:
        answer: Answer = await fleet.ask(LIVE)
        if not answer.ok:
            raise BenchFailure(f"/livez answered {answer.status} {answer.fault}")
        live_s.append(answer.ended_s - now)
        if len(live_s) % 20 == 0:
            rss.append((round((now - began_s) * 10), gateway.child.rss_bytes()))
            gateway.cut_log()
        await asyncio.sleep(0.05)
    return sorted(live_s), rss


def usual_ms(half: Stretch) -> float:
    """The p99 of all replies at half load, in ms."""
    return percentile(sorted(half.normal.latencies_s + half.high.latencies_s), 0.99) * 1e3


def _figures(name: str, seen: Shape, capacity: float) -> list[Figure]:
    over, usual = seen.over, usual_ms(seen.half)
    under_ms = over.high.quantile_ms(0.99)
    lost = sum(over.high.faults.values()) / max(1, over.high.sent) * 100
    wrong = sum(count for fault, count in (over.normal.faults + over.high.faults).items() if fault != "status 503")
    live_ms = percentile(over.live_s, 0.99) * 1e3
    grown = growth(over.rss, round(over.length_s * 10)) * 100
    shown = {"portable": False, "guarded": False}
    return [
        Figure(f"{name}: goodput", over.goodput / capacity, "x capacity", "higher", 0.9, slack=0.05),
        Figure(f"{name}: p99 of high", under_ms / usual, "x as usual", "lower", 1.2, slack=0.1),
        Figure(f"{name}: high refused", lost, "%", "lower", 0.0),
        Figure(f"{name}: memory grown", grown, "%", "lower", 5.0, slack=3.0),
        Figure(f"{name}: /livez p99", live_ms, "ms", "lower", 50, slack=10, portable=False),
        Figure(f"{name}: ended neither by 200 nor 503", wrong, "requests", "lower", 0),
        Figure("  p99 as usual", usual, "ms", "lower", **shown),
        Figure("  p99 of normal", over.normal.quantile_ms(0.99), "ms", "lower", **shown),
    ]
