"""What limits and budgets cost: the same gateway without them, with them in memory, and with them in Redis."""

from contextlib import AsyncExitStack

from loadtests.configs import Setting
from loadtests.figures import Figure, median_of
from loadtests.processes import BenchFailure
from loadtests.redis import store_section
from loadtests.rig import Gateway, Rig
from loadtests.scenarios.throughput import Round, measure

PRICE = "    price: {input: $2.00, output: $8.00}\n"
LIMITS = """limits:
  - {name: per-key, per: [key], requests: 100M/min, tokens: 100000M/min, concurrency: 5000}
  - {name: key-day, per: [key], budget: $1000000/day}
"""
"""Four rules that are asked and settled for each request, and that never refuse one."""
ROUND_S = 2.0
WAYS = ("none", "memory", "redis")
Turn = tuple[Round, Round, Round]
"""One round of each of `WAYS`."""


async def run(rig: Rig) -> list[Figure]:
    """Requests a second in Redis mode against memory mode, round trips, and CPU time added; medians over the turns."""
    turns: list[Turn] = []
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(rig.canned())
        await stack.enter_async_context(rig.redis())
        gateways = [await stack.enter_async_context(rig.gateway(setting(rig, way, upstream.port))) for way in WAYS]
        for gateway in gateways:
            rig.progress.step("warm-up")
            await rig.wrk().run(gateway.port, 2)
        trips = await _trips(gateways[2])
        for number in range(max(2, rig.options.pairs)):
            rounds = []
            for way, gateway in zip(WAYS, gateways, strict=True):
                rig.progress.step(f"turn {number + 1}, {way}")
                rounds.append(await measure(rig, gateway.child, gateway.port, ROUND_S))
                gateway.cut_log()
            turns.append((rounds[0], rounds[1], rounds[2]))
            seen = ", ".join(
                f"{way} {each.load.per_second:,.0f}/s {each.cpu_us:.0f} µs"
                for way, each in zip(WAYS, rounds, strict=True)
            )
            rig.progress.step(f"turn {number + 1}: {seen}")
        trips = await _trips(gateways[2]) - trips
        if await gateways[2].metric("gateway_store_up") != 1:
            raise BenchFailure("Redis was not in use at the end of the run")
    return _figures(turns, trips)


def setting(rig: Rig, way: str, upstream_port: int) -> Setting:
    """The gateway of one of `WAYS`."""
    store = store_section(rig.folder) if way == "redis" else ""
    limits = "" if way == "none" else LIMITS
    return Setting(upstream_port, target=PRICE, state=f"state-limits-{way}", sections=store + limits)


async def _trips(gateway: Gateway) -> float:
    return await gateway.metric("gateway_store_round_trips_total")


def _figures(turns: list[Turn], trips: float) -> list[Figure]:
    rate = median_of([redis.load.per_second / memory.load.per_second for _, memory, redis in turns])
    added = median_of([memory.cpu_us - none.cpu_us for none, memory, _ in turns])
    added_redis = median_of([redis.cpu_us - memory.cpu_us for _, memory, redis in turns])
    share = median_of([memory.load.per_second / none.load.per_second for none, memory, _ in turns])
    asked = sum(redis.load.requests for _, _, redis in turns)
    shown = {"portable": False, "guarded": False}
    return [
        Figure("limits: requests/s with Redis", rate[0], "x memory", "higher", 0.75, *rate[1:], slack=0.05),
        Figure("limits: Redis round trips", trips / asked, "a request", "lower", 0.1, slack=0.02),
        Figure("limits: requests/s in memory", share[0], "x no limits", "higher", None, *share[1:], slack=0.05),
        Figure("  CPU added in memory", added[0], "µs", "lower", None, *added[1:], **shown),
        Figure("  CPU added by Redis", added_redis[0], "µs", "lower", None, *added_redis[1:], **shown),
    ]
