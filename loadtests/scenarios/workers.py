"""One worker on one core against two workers on two."""

from loadtests.configs import Setting
from loadtests.figures import Figure, median_of
from loadtests.rig import Rig
from loadtests.wrk import Wrk


async def run(rig: Rig) -> list[Figure]:
    """Throughput of two workers as a multiple of one, medians over at most two pairs."""
    cores = rig.cores
    if len({*cores.server, *cores.second, *cores.upstream}) < 3:
        rig.progress.step("skipped: two workers, the upstream and the driver need three cores")
        return []
    # The upstream answers faster than two workers ask, so the driver may share its core when there are few.
    driver = tuple(core for core in cores.driver if core not in cores.second) or cores.upstream
    wrk = Wrk(rig.folder, driver, max(128, rig.options.connections))
    ratios: list[float] = []
    async with rig.canned() as upstream:
        setting = Setting(upstream.port, collector_port=upstream.port)
        for turn in range(min(2, rig.options.pairs)):
            rates = []
            for workers, where in ((1, cores.server), (2, (*cores.server, *cores.second))):
                async with rig.gateway(setting, workers=workers, cores=where) as gateway:
                    rig.progress.step(f"pair {turn + 1}: {workers} worker(s) on cores {where}")
                    await wrk.run(gateway.port, 1)
                    load = await wrk.run(gateway.port, rig.options.measure_s)
                    gateway.cut_log()
                rates.append(load.per_second)
                rig.progress.step(f"pair {turn + 1}: {workers} worker(s) {load.per_second:,.0f}/s")
            ratios.append(rates[1] / rates[0])
    ratio, low, high = median_of(ratios)
    return [Figure("workers: 2 on 2 cores", ratio, "x 1 worker", "higher", 1.8, low, high)]
