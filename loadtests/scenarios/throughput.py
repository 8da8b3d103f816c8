"""Requests a second on one core, everything switched on, closed loop: the gateway and nginx in turns."""

from dataclasses import dataclass

from loadtests.configs import Setting
from loadtests.figures import Figure, median_of
from loadtests.processes import BenchFailure, Child
from loadtests.rig import Rig
from loadtests.wrk import Load


@dataclass(frozen=True, slots=True)
class Round:
    """One measured run."""

    load: Load
    cpu_us: float
    """CPU µs of the server a request."""

    @property
    def used(self) -> float:
        """Share of its core that the server used: well below 1 means that something else was the bottleneck."""
        return self.cpu_us * self.load.requests / 1e6 / self.load.duration_s


async def run(rig: Rig) -> list[Figure]:
    """Ratios of requests a second and of CPU time, medians over the pairs."""
    pairs: list[tuple[Round, Round]] = []
    async with rig.canned() as upstream, rig.yardstick(upstream.port) as nginx:
        setting = Setting(upstream.port, collector_port=upstream.port)
        async with rig.gateway(setting) as gateway:
            rig.progress.step("warm-up")
            await rig.wrk().run(nginx.port, 1)
            await rig.wrk().run(gateway.port, 2)
            for pair in range(rig.options.pairs):
                rig.progress.step(f"pair {pair + 1} of {rig.options.pairs}, nginx")
                yard = await measure(rig, nginx.child, nginx.port)
                rig.progress.step(f"pair {pair + 1} of {rig.options.pairs}, gateway")
                ours = await measure(rig, gateway.child, gateway.port)
                gateway.cut_log()
                pairs.append((yard, ours))
                rig.progress.step(
                    f"pair {pair + 1}: nginx {yard.load.per_second:,.0f}/s {yard.cpu_us:.0f} µs, "
                    f"gateway {ours.load.per_second:,.0f}/s {ours.cpu_us:.0f} µs"
                )
            counted = await gateway.metric("gateway_requests_total", outcome="ok")
    answered = sum(ours.load.requests for _, ours in pairs)
    if counted < answered:
        raise BenchFailure(f"gateway_requests_total says {counted:,.0f} of at least {answered:,} requests")
    spans = (rig.folder / "spans.log").read_text().count("\n")
    if spans == 0:
        raise BenchFailure("no trace was exported: the run was not the one with everything on")
    return _figures(pairs)


async def measure(rig: Rig, child: Child, port: int, longest_s: float = 60.0) -> Round:
    """One run of wrk against `port`, of at most `longest_s`, with the CPU time that `child` used for it."""
    before = child.cpu_s()
    load = await rig.wrk().run(port, min(longest_s, rig.options.measure_s))
    return Round(load, (child.cpu_s() - before) / load.requests * 1e6)


def _figures(pairs: list[tuple[Round, Round]]) -> list[Figure]:
    rate, rate_low, rate_high = median_of([ours.load.per_second / yard.load.per_second for yard, ours in pairs])
    cpu, cpu_low, cpu_high = median_of([yard.cpu_us / ours.cpu_us for yard, ours in pairs])
    ours_us, us_low, us_high = median_of([ours.cpu_us for _, ours in pairs])
    yard_us, yard_us_low, yard_us_high = median_of([yard.cpu_us for yard, _ in pairs])
    ours_rate = median_of([ours.load.per_second for _, ours in pairs])
    yard_rate = median_of([yard.load.per_second for yard, _ in pairs])
    used, used_low, used_high = median_of([yard.used * 100 for yard, _ in pairs])
    shown = {"portable": False, "guarded": False}
    return [
        Figure("throughput: requests/s", rate, "x nginx", "higher", 0.30, rate_low, rate_high),
        Figure("throughput: nginx's CPU / ours", cpu, "x nginx", "higher", 0.30, cpu_low, cpu_high),
        Figure("  gateway CPU a request", ours_us, "µs", "lower", None, us_low, us_high, **shown),
        Figure("  nginx CPU a request", yard_us, "µs", "lower", None, yard_us_low, yard_us_high, **shown),
        Figure("  gateway", ours_rate[0], "requests/s", "higher", None, *ours_rate[1:], **shown),
        Figure("  nginx", yard_rate[0], "requests/s", "higher", None, *yard_rate[1:], **shown),
        Figure("  nginx used of its core", used, "%", "higher", None, used_low, used_high, **shown),
    ]
