"""Time added at half load: open loop over an upstream of 50 ms, direct, through nginx, through the gateway."""

import random
from dataclasses import dataclass

from loadtests.client import Fleet, chat_request
from loadtests.configs import KEY, MODEL, Setting
from loadtests.figures import Figure, median_of
from loadtests.openloop import Arrivals, OpenLoop
from loadtests.processes import BenchFailure
from loadtests.rig import Rig

UPSTREAM = "bench:latency=50ms"
CEILING = 2_000.0
"""Requests a second that the driver and the mock certainly keep up with."""
SLICE_S = 0.5
"""Length of one measurement. Short ones, in turns: what disturbs the machine spoils a few, not their median."""
Round = tuple[Arrivals, Arrivals, Arrivals]
"""Direct, through nginx, through the gateway."""


@dataclass(frozen=True, slots=True)
class Way:
    """One of the three ways to the upstream."""

    fleet: Fleet
    request: bytes

    async def go(self, rate: float, length_s: float, seed: int) -> Arrivals:
        """One open-loop run. Raises BenchFailure when a request was not answered with 200."""
        arrivals = await OpenLoop(self.fleet, self.request, rate, random.Random(seed)).run(length_s)
        if arrivals.faults:
            lost = sum(arrivals.faults.values())
            raise BenchFailure(f"{lost} of {arrivals.sent} failed: {arrivals.faults.most_common(3)}")
        return arrivals


async def run(rig: Rig) -> list[Figure]:
    """Median and 99th percentile added to a direct call, medians over the slices."""
    rate = rig.options.rate or await half_load(rig)
    slices = max(3, round(rig.options.pairs * rig.options.measure_s / SLICE_S))
    rounds: list[Round] = []
    async with rig.canned() as collector, rig.mock() as mock, rig.yardstick(mock.port) as nginx:
        setting = Setting(mock.port, UPSTREAM, collector_port=collector.port)
        async with rig.gateway(setting) as gateway:
            ways = [
                Way(Fleet(mock.port), chat_request(UPSTREAM, KEY)),
                Way(Fleet(nginx.port), chat_request(UPSTREAM, KEY)),
                Way(Fleet(gateway.port), chat_request(MODEL, KEY)),
            ]
            try:
                for way in ways:
                    await way.fleet.open(int(rate * 0.06) + 16)
                    await way.go(rate, 2 * SLICE_S, rig.options.seed)
                for number in range(slices):
                    # The same seed for all three: they get the same arrivals.
                    direct, yard, ours = [await way.go(rate, SLICE_S, rig.options.seed + number) for way in ways]
                    rounds.append((direct, yard, ours))
                    rig.progress.step(
                        f"slice {number + 1} of {slices} at {rate:,.0f}/s: "
                        f"p50/p99 ms direct {_pair(direct)}, nginx {_pair(yard)}, gateway {_pair(ours)}"
                    )
            finally:
                for way in ways:
                    way.fleet.close()
    return _figures(rounds, rate)


async def half_load(rig: Rig) -> float:
    """Half of the requests a second that the gateway reaches here in a closed loop."""
    rig.progress.step("finding half load")
    async with rig.canned() as upstream, rig.gateway(Setting(upstream.port)) as gateway:
        await rig.wrk().run(gateway.port, 1)
        load = await rig.wrk().run(gateway.port, 2)
    return min(CEILING, load.per_second / 2)


def _pair(arrivals: Arrivals) -> str:
    return f"{arrivals.quantile_ms(0.5):.1f}/{arrivals.quantile_ms(0.99):.1f}"


def _figures(rounds: list[Round], rate: float) -> list[Figure]:
    def added(which: int, share: float) -> tuple[float, float, float]:
        return median_of([turn[which].quantile_ms(share) - turn[0].quantile_ms(share) for turn in rounds])

    p50, p99 = added(2, 0.5), added(2, 0.99)
    yard50, yard99 = added(1, 0.5), added(1, 0.99)
    name = "added latency"
    shown = {"portable": False, "guarded": False}
    return [
        Figure(f"{name}: p50 at half load", p50[0], "ms", "lower", 0.5, *p50[1:], slack=0.3, portable=False),
        Figure(f"{name}: p99 at half load", p99[0], "ms", "lower", 3.0, *p99[1:], slack=1.0, portable=False),
        Figure("  nginx added p50", yard50[0], "ms", "lower", None, *yard50[1:], **shown),
        Figure("  nginx added p99", yard99[0], "ms", "lower", None, *yard99[1:], **shown),
        Figure("  rate", rate, "requests/s", "higher", **shown),
    ]
