"""Streams cancelled at random moments: connections, in-flight gauges and memory come back to where they were."""

import asyncio
import random
from dataclasses import dataclass, field

from loadtests.client import Answer, Connection, chat_request
from loadtests.configs import KEY, MODEL, Setting
from loadtests.figures import Figure
from loadtests.processes import BenchFailure
from loadtests.rig import Gateway, Rig, mock_stats

UPSTREAM = "bench:ttfb=30ms,gap=5ms,tokens=50"
"""280 ms of stream; the moment of leaving is anywhere in its first 300 ms, so a few end by themselves."""
LONGEST_S = 0.3


@dataclass(slots=True)
class Storm:
    """What happened to the streams, as their clients saw it."""

    left_before_sent: int = 0
    left_before_answer: int = 0
    left_in_stream: int = 0
    ended: int = 0
    refused: int = 0
    statuses: set[int] = field(default_factory=set)

    @property
    def cancelled(self) -> int:
        """Streams whose client left."""
        return self.left_before_sent + self.left_before_answer + self.left_in_stream

    @property
    def visits(self) -> int:
        """All streams that were begun and are over."""
        return self.cancelled + self.ended + self.refused


@dataclass(frozen=True, slots=True)
class Rest:
    """What the gateway and the mock hold when nobody asks for anything."""

    inflight: float
    upstream_busy: float
    client_connections: float
    mock_busy: int
    rss_bytes: int

    @property
    def quiet(self) -> bool:
        """Whether nothing is in flight, on either side."""
        return self.inflight == 0 and self.upstream_busy == 0 and self.mock_busy == 0


async def run(rig: Rig) -> list[Figure]:
    """Leaks after the storm, each with target 0, and growth of memory over the storm."""
    async with rig.canned() as collector, rig.mock() as mock:
        setting = Setting(mock.port, UPSTREAM, collector_port=collector.port)
        async with rig.gateway(setting) as gateway:
            rng = random.Random(rig.options.seed)
            # The first storm fills pools and the allocator; only from then on is "back to where it was" a fair word.
            warm_up = max(rig.options.warm_up, min(10_000, rig.options.cancels // 5))
            await _storm(rig, gateway, rng, warm_up, "warm-up")
            before, _ = await _settle(gateway, mock.port)
            storm = await _storm(rig, gateway, rng, rig.options.cancels, "storm")
            after, settled_s = await _settle(gateway, mock.port)
    rig.progress.step(
        f"left before sent {storm.left_before_sent}, before the answer {storm.left_before_answer}, "
        f"in the stream {storm.left_in_stream}; ended {storm.ended}, refused {storm.refused}, statuses {storm.statuses}"
    )
    growth = (after.rss_bytes / before.rss_bytes - 1) * 100
    name = "disconnect storm"
    return [
        Figure(f"{name}: cancelled streams", storm.cancelled, "streams", "higher", guarded=False),
        Figure(f"{name}: requests still in flight", after.inflight, "requests", "lower", 0),
        Figure(f"{name}: upstream connections in use", after.upstream_busy, "connections", "lower", 0),
        Figure(f"{name}: streams the mock still sends", after.mock_busy, "streams", "lower", 0),
        Figure(f"{name}: refused", storm.refused, "streams", "lower", 0),
        Figure(f"{name}: quiet after", settled_s, "s", "lower", 1.0, slack=0.5),
        Figure(f"{name}: memory grown", growth, "%", "lower", 5.0, slack=3.0),
    ]


async def _storm(rig: Rig, gateway: Gateway, rng: random.Random, count: int, name: str) -> Storm:
    storm = Storm()

    async def visitor() -> None:
        # Some streams end before they are left; the second bound is for a gateway that ends all of them.
        while storm.cancelled < count and storm.visits < 2 * count:
            await _visit(gateway.port, rng, storm)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(count, rig.options.cancel_pace)):
            tasks.create_task(visitor())
        while storm.cancelled < count and storm.visits < 2 * count:
            rig.progress.step(f"{name}: {storm.cancelled:,} of {count:,}, {gateway.child.rss_bytes() >> 20} MiB")
            await asyncio.sleep(1)
            gateway.cut_log()
    return storm


async def _visit(port: int, rng: random.Random, storm: Storm) -> None:
    """One stream that is left at a random moment, in one of three ways."""
    ended: list[Answer] = []
    request = chat_request(MODEL, KEY, stream=True)
    leave_s = rng.random() * LONGEST_S
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    assert connection.transport is not None
    half_sent = rng.random() < 0.05
    connection.send(request[: rng.randrange(1, len(request))] if half_sent else request, ended.append)
    await asyncio.sleep(0 if half_sent else leave_s)
    answer = connection.answer
    count_visit(storm, half_sent=half_sent, ended=bool(ended), answer=answer)
    if rng.random() < 0.5:
        connection.abort()
    else:
        connection.transport.close()


def count_visit(storm: Storm, *, half_sent: bool, ended: bool, answer: Answer) -> None:
    """Note how one stream ended for its client, which left (or found it ended) at a random moment."""
    storm.statuses.add(answer.status)
    if half_sent:
        storm.left_before_sent += 1
    elif answer.status not in (0, 200) or (ended and not answer.complete):
        storm.refused += 1
    elif ended:
        storm.ended += 1
    elif answer.status == 0:
        storm.left_before_answer += 1
    else:
        storm.left_in_stream += 1


async def _settle(gateway: Gateway, mock_port: int, within_s: float = 10.0) -> tuple[Rest, float]:
    """What is left when all is quiet, and how long that took; what is left after `within_s` otherwise."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    rest = await _rest(gateway, mock_port)
    while not rest.quiet and loop.time() - began_s < within_s:
        await asyncio.sleep(0.05)
        rest = await _rest(gateway, mock_port)
    return rest, loop.time() - began_s


async def _rest(gateway: Gateway, mock_port: int) -> Rest:
    stats = await mock_stats(mock_port)
    if "inflight" not in stats:
        raise BenchFailure(f"the mock's /__stats has no inflight: {stats}")
    return Rest(
        inflight=await gateway.metric("gateway_inflight_requests"),
        upstream_busy=await gateway.metric("gateway_upstream_connections", state="in_use"),
        client_connections=await gateway.metric("gateway_connections"),
        mock_busy=int(stats["inflight"]),
        rss_bytes=gateway.child.rss_bytes(),
    )
