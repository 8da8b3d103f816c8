"""Many requests in a row: resident memory stays where it was after the first fifth of them."""

import statistics

from loadtests.configs import Setting
from loadtests.figures import Figure
from loadtests.rig import Rig

BURST_S = 5.0


async def run(rig: Rig) -> list[Figure]:
    """Growth of resident memory over the last four fifths of the requests."""
    samples: list[tuple[int, int]] = []
    done = 0
    async with rig.canned() as upstream:
        setting = Setting(upstream.port, collector_port=upstream.port)
        async with rig.gateway(setting) as gateway:

            def sample() -> None:
                samples.append((done, gateway.child.rss_bytes()))
                rig.progress.step(f"{done:,} of {rig.options.requests:,} requests, {samples[-1][1] >> 20} MiB")
                gateway.cut_log()

            warm = await rig.wrk().run(gateway.port, 1)
            per_second = warm.per_second
            while done < rig.options.requests:
                left_s = (rig.options.requests - done) / per_second
                load = await rig.wrk().run(gateway.port, min(BURST_S, left_s + 0.5), sample)
                per_second = load.per_second
                done += load.requests
                sample()
    return [
        Figure("soak: requests", done, "requests", "higher", guarded=False),
        Figure("soak: memory grown", growth(samples, done) * 100, "%", "lower", 5.0, slack=3.0),
        Figure("  resident at the end", samples[-1][1] / 2**20, "MiB", "lower", portable=False, slack=5.0),
    ]


def growth(samples: list[tuple[int, int]], done: int) -> float:
    """Share by which memory grew: the last fifth of the requests against the second fifth, by medians.

    `samples` are (requests so far, resident bytes) in order. 0 when there are too few to tell.
    """
    early = [rss for count, rss in samples if done * 0.2 <= count < done * 0.4]
    late = [rss for count, rss in samples if count >= done * 0.8]
    if not early or not late:
        return samples[-1][1] / samples[0][1] - 1
    return statistics.median(late) / statistics.median(early) - 1
