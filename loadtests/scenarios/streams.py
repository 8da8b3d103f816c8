"""Many slow streams at once: CPU a chunk, memory a stream, time to the first byte, every chunk delivered."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtests.client import Answer, Fleet, chat_request
from loadtests.configs import KEY, MODEL, Setting
from loadtests.figures import Figure, median_of, percentile
from loadtests.processes import BenchFailure, Child, becomes
from loadtests.rig import Rig


@dataclass(frozen=True, slots=True)
class Flow:
    """What a run of streams showed of the server in the middle."""

    cpu_us: float
    """CPU µs a chunk, while all streams were open."""
    rss_kib: float
    """Resident memory a stream, over what the server held before the first."""
    first_byte_ms: float
    events: int
    complete: int


async def run(rig: Rig) -> list[Figure]:
    """CPU ratio a chunk and the rest, medians over at most two pairs."""
    count, gap_s = rig.options.streams, rig.options.gap_ms / 1e3
    tokens = int((rig.options.measure_s + _spread_s(count) + 1.0) / gap_s)
    model = f"bench:gap={rig.options.gap_ms}ms,tokens={tokens}"
    pairs: list[tuple[Flow, Flow]] = []
    async with rig.canned() as collector, rig.mock() as mock, rig.yardstick(mock.port) as nginx:
        direct = await _direct(rig, mock.port, model)
        setting = Setting(mock.port, model, collector_port=collector.port)
        # A fresh gateway for each pair: memory is taken from the first streams of a process, which are its dearest.
        for turn in range(min(2, rig.options.pairs)):
            async with rig.gateway(setting) as gateway:
                rig.progress.step(f"pair {turn + 1}: {count} streams of {tokens} chunks through nginx")
                yard = await flow(rig, nginx.child, nginx.port, chat_request(model, KEY, stream=True))
                rig.progress.step(f"pair {turn + 1}: {count} streams of {tokens} chunks through the gateway")
                await _one(gateway.port, chat_request(MODEL, KEY, stream=True))
                ours = await flow(rig, gateway.child, gateway.port, chat_request(MODEL, KEY, stream=True))
                rig.progress.step(
                    f"pair {turn + 1}: CPU a chunk nginx {yard.cpu_us:.1f} µs, gateway {ours.cpu_us:.1f} µs"
                )
                pairs.append((yard, ours))
    return _figures(pairs, direct, count)


async def _direct(rig: Rig, port: int, model: str) -> Flow:
    """A second of streams straight from the mock, for their number of events and the time to the first byte."""
    short = model.partition(",")[0] + ",tokens=20"
    events = await _one(port, chat_request(model.replace(f"gap={rig.options.gap_ms}ms", "gap=0ms"), KEY, stream=True))
    firsts: list[float] = []
    fleet = Fleet(port)

    def note(answer: Answer, began_s: float) -> None:
        if answer.first_byte_s is not None:
            firsts.append(answer.first_byte_s - began_s)

    try:
        await _spread(fleet, chat_request(short, KEY, stream=True), rig.options.streams, note)
    finally:
        fleet.close()
    return Flow(0.0, 0.0, percentile(sorted(firsts), 0.5) * 1e3, events, len(firsts))


async def _one(port: int, request: bytes) -> int:
    fleet = Fleet(port)
    try:
        answer = await fleet.ask(request)
    finally:
        fleet.close()
    if not (answer.ok and answer.finished):
        raise BenchFailure(f"a single stream failed: status {answer.status} {answer.fault}")
    return answer.events


async def flow(rig: Rig, child: Child, port: int, request: bytes) -> Flow:
    """Many streams at once through the server `child`, which listens on `port`."""
    answers: list[tuple[Answer, float]] = []
    fleet = Fleet(port)
    try:
        async with asyncio.TaskGroup() as tasks:
            window = tasks.create_task(_watch(child, fleet, rig.options.streams, rig.options.measure_s))
            await _spread(
                fleet, request, rig.options.streams, lambda answer, began_s: answers.append((answer, began_s))
            )
    finally:
        fleet.close()
    cpu_us, rss = window.result()
    whole = [answer for answer, _ in answers if answer.ok and answer.finished]
    firsts = sorted(answer.first_byte_s - began_s for answer, began_s in answers if answer.first_byte_s is not None)
    return Flow(
        cpu_us=cpu_us,
        rss_kib=rss / rig.options.streams / 1024,
        first_byte_ms=percentile(firsts, 0.5) * 1e3,
        events=sum(answer.events for answer in whole),
        complete=len(whole),
    )


def _spread_s(count: int) -> float:
    """Time over which the streams begin: 500 a second, so that they do not beat in step."""
    return count / 500


async def _spread(fleet: Fleet, request: bytes, count: int, note: Callable[[Answer, float], None]) -> None:
    """Open `count` streams one after the other, and wait until all are over."""
    over = asyncio.Event()
    left = count

    def send() -> None:
        began_s = time.monotonic()

        def end(answer: Answer) -> None:
            nonlocal left
            left -= 1
            note(answer, began_s)
            if left == 0:
                over.set()

        fleet.send(request, end)

    # Connections first: opening one is no part of the time to the first byte.
    await fleet.open(count)
    for number in range(count):
        send()
        await asyncio.sleep(_spread_s(count) / count if number else 0)
    async with asyncio.timeout(120):
        await over.wait()


async def _watch(child: Child, fleet: Fleet, count: int, length_s: float) -> tuple[float, float]:
    """CPU µs a chunk while `count` streams are open, and the growth of resident memory in bytes."""
    idle = child.rss_bytes()
    if not await becomes(lambda: fleet.busy >= count, 60):
        raise BenchFailure(f"{fleet.busy} of {count} streams were open at once")
    await asyncio.sleep(0.2)
    cpu, events = child.cpu_s(), fleet.events
    await asyncio.sleep(length_s * 0.8)
    cpu, events = child.cpu_s() - cpu, fleet.events - events
    return cpu / max(1, events) * 1e6, child.rss_bytes() - idle


def _figures(pairs: list[tuple[Flow, Flow]], direct: Flow, count: int) -> list[Figure]:
    ratio = median_of([ours.cpu_us / yard.cpu_us for yard, ours in pairs])
    ours_us = median_of([ours.cpu_us for _, ours in pairs])
    yard_us = median_of([yard.cpu_us for yard, _ in pairs])
    memory = median_of([ours.rss_kib for _, ours in pairs])
    first = median_of([ours.first_byte_ms - direct.first_byte_ms for _, ours in pairs])
    yard_first = median_of([yard.first_byte_ms - direct.first_byte_ms for yard, _ in pairs])
    lost = sum(direct.events * count - ours.events for _, ours in pairs)
    shown = {"portable": False, "guarded": False}
    return [
        Figure("streams: CPU a chunk", ratio[0], "x nginx", "lower", 1.6, *ratio[1:]),
        Figure("  gateway CPU a 1,000 chunks", ours_us[0], "ms", "lower", None, *ours_us[1:], **shown),
        Figure("  nginx CPU a 1,000 chunks", yard_us[0], "ms", "lower", None, *yard_us[1:], **shown),
        Figure("streams: memory a stream", memory[0], "KiB", "lower", 30, *memory[1:], slack=3),
        Figure("streams: first byte added", first[0], "ms", "lower", None, *first[1:], slack=1.0, portable=False),
        Figure("  nginx first byte added", yard_first[0], "ms", "lower", None, *yard_first[1:], **shown),
        Figure("streams: incomplete", sum(count - ours.complete for _, ours in pairs), "streams", "lower", 0),
        Figure("streams: chunks missing", lost, "chunks", "lower", 0),
    ]
