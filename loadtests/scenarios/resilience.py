"""What resilience costs when nothing fails: a route with everything on beside a bare one, requests and streams."""

from loadtests.client import chat_request
from loadtests.configs import KEY, MODEL, Setting
from loadtests.figures import Figure, median_of
from loadtests.rig import Rig
from loadtests.scenarios.streams import Flow, flow
from loadtests.scenarios.throughput import Round, measure

ROUND_S = 2.0
BARE = "    breaker: off\n"
FULL = "    max_inflight: 1000\n"
ROUTE = (
    f"{{model: {MODEL}, split: {{upstream: 90, second: 10}}, sticky: [key], retry: {{attempts: 2}}, "
    "fallback: [third], priority: high}"
)
"""A sticky split, retries, a fallback, a priority; with the breakers and bounds of `FULL`. None of it ever acts."""


async def run(rig: Rig) -> list[Figure]:
    """CPU µs that all of it adds to a request, and CPU a chunk of streams against the bare route; medians."""
    return _figures(await _requests(rig), await _streams(rig))


def settings(upstream_port: int, model: str) -> tuple[Setting, Setting]:
    """The bare gateway and the full one."""
    others = "".join(
        f'  {name}:\n    provider: openai\n    base_url: http://127.0.0.1:{upstream_port}/v1\n    model: "{model}"\n'
        f"    max_connections: 2000\n{FULL}"
        for name in ("second", "third")
    )
    return (
        Setting(upstream_port, model, state="state-bare", target=BARE),
        Setting(upstream_port, model, state="state-full", target=FULL, targets=others, route=ROUTE),
    )


async def _requests(rig: Rig) -> list[tuple[Round, Round]]:
    turns = []
    async with rig.canned() as upstream:
        bare_setting, full_setting = settings(upstream.port, "upstream-model")
        async with rig.gateway(bare_setting) as bare, rig.gateway(full_setting) as full:
            for gateway in (bare, full):
                rig.progress.step("warm-up")
                await rig.wrk().run(gateway.port, 2)
            for number in range(max(3, rig.options.pairs)):
                rig.progress.step(f"turn {number + 1}, bare")
                one = await measure(rig, bare.child, bare.port, ROUND_S)
                rig.progress.step(f"turn {number + 1}, full")
                other = await measure(rig, full.child, full.port, ROUND_S)
                for gateway in (bare, full):
                    gateway.cut_log()
                turns.append((one, other))
                rig.progress.step(f"turn {number + 1}: bare {one.cpu_us:.1f} µs, full {other.cpu_us:.1f} µs")
    return turns


async def _streams(rig: Rig) -> list[tuple[Flow, Flow]]:
    gap_s = rig.options.gap_ms / 1e3
    tokens = int((rig.options.measure_s + rig.options.streams / 500 + 1.0) / gap_s)
    model = f"bench:gap={rig.options.gap_ms}ms,tokens={tokens}"
    request = chat_request(MODEL, KEY, stream=True)
    turns = []
    async with rig.mock() as mock:
        bare_setting, full_setting = settings(mock.port, model)
        async with rig.gateway(bare_setting) as bare, rig.gateway(full_setting) as full:
            # More than one turn is a matter of `--pairs`: the streams of one take a quarter of a minute.
            for number in range(max(1, rig.options.pairs // 3)):
                rig.progress.step(f"{rig.options.streams} streams, turn {number + 1}, bare")
                one = await flow(rig, bare.child, bare.port, request)
                rig.progress.step(f"{rig.options.streams} streams, turn {number + 1}, full")
                other = await flow(rig, full.child, full.port, request)
                turns.append((one, other))
                rig.progress.step(f"CPU a chunk bare {one.cpu_us:.1f} µs, full {other.cpu_us:.1f} µs")
    return turns


def _figures(requests: list[tuple[Round, Round]], flows: list[tuple[Flow, Flow]]) -> list[Figure]:
    added = median_of([full.cpu_us - bare.cpu_us for bare, full in requests])
    usual = median_of([bare.cpu_us for bare, _ in requests])
    chunk = median_of([full.cpu_us / bare.cpu_us for bare, full in flows])
    lost = sum(bare.events - full.events for bare, full in flows)
    shown = {"portable": False, "guarded": False}
    return [
        Figure("resilience: CPU added to a request", added[0], "µs", "lower", 25, *added[1:], slack=6, portable=False),
        Figure("  CPU a request without it", usual[0], "µs", "lower", None, *usual[1:], **shown),
        Figure("resilience: CPU a stream's chunk", chunk[0], "x bare", "lower", 1.05, *chunk[1:], slack=0.05),
        Figure("resilience: chunks missing", lost, "chunks", "lower", 0),
    ]
