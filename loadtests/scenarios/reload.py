"""Ten reloads a second under load with streams: no request is lost, and the last configuration is in force."""

import asyncio
import random
from dataclasses import dataclass, field

import httpx

from loadtests.client import Answer, Fleet, chat_request
from loadtests.configs import KEY, MODEL, Setting, variant
from loadtests.figures import Figure
from loadtests.openloop import Arrivals, OpenLoop
from loadtests.rig import Gateway, Rig

UPSTREAM = "bench:gap=10ms,tokens=30"
STREAMS = 40
PERIOD_S = 0.1


@dataclass(slots=True)
class Streams:
    """What became of the streams that ran meanwhile."""

    complete: int = 0
    lost: list[str] = field(default_factory=list)
    revisions: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Reloads:
    """How the configuration was changed."""

    written: int = 0
    accepted: int = 0
    """Good files that `POST reload` took."""
    refused: int = 0
    """Broken files that `POST reload` refused."""
    wrong: list[str] = field(default_factory=list)
    """Good files refused, broken files accepted."""


async def run(rig: Rig) -> list[Figure]:
    """Requests and streams lost, of how many, over how many configurations."""
    async with rig.canned() as collector, rig.mock() as mock:
        setting = Setting(mock.port, UPSTREAM, collector_port=collector.port)
        async with rig.gateway(setting) as gateway:
            rss = gateway.child.rss_bytes()
            arrivals, streams, reloads = await _load(rig, gateway, setting)
            grown = (gateway.child.rss_bytes() - rss) / 2**20
    lost = sum(arrivals.faults.values())
    seen = arrivals.revisions | streams.revisions
    rig.progress.step(
        f"{arrivals.sent:,} requests, {streams.complete:,} streams, {reloads.written} files written, "
        f"{reloads.accepted} accepted and {reloads.refused} refused by POST, {len(seen)} revisions answered, "
        f"{grown:.0f} MiB grown {arrivals.faults.most_common(3) or ''} {streams.lost[:3] or ''} "
        f"{reloads.wrong[:3] or ''}"
    )
    name = "reload under load"
    wanted = rig.options.reload_s / PERIOD_S * 0.25
    return [
        Figure(f"{name}: requests", arrivals.sent, "requests", "higher", guarded=False),
        Figure(f"{name}: requests lost", lost, "requests", "lower", 0),
        Figure(f"{name}: streams", streams.complete, "streams", "higher", guarded=False),
        Figure(f"{name}: streams lost", len(streams.lost), "streams", "lower", 0),
        Figure(f"{name}: configurations that answered", len(seen), "revisions", "higher", wanted, guarded=False),
        Figure(f"{name}: verdicts that were wrong", len(reloads.wrong), "reloads", "lower", 0),
    ]


async def _load(rig: Rig, gateway: Gateway, setting: Setting) -> tuple[Arrivals, Streams, Reloads]:
    fleet, stream_fleet = Fleet(gateway.port), Fleet(gateway.port)
    streams, reloads, over = Streams(), Reloads(), asyncio.Event()
    rng = random.Random(rig.options.seed)
    try:
        await fleet.open(32)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(STREAMS):
                tasks.create_task(_stream(stream_fleet, streams, over))
            changes = tasks.create_task(_change(rig, gateway, setting, reloads, over))
            load = OpenLoop(fleet, chat_request(MODEL, KEY), rig.options.reload_rate, rng)
            arrivals = await load.run(rig.options.reload_s)
            over.set()
            await changes
    finally:
        fleet.close()
        stream_fleet.close()
    return arrivals, streams, reloads


async def _stream(fleet: Fleet, streams: Streams, over: asyncio.Event) -> None:
    request = chat_request(MODEL, KEY, stream=True)
    while not over.is_set():
        answer: Answer = await fleet.ask(request)
        if answer.ok and answer.finished:
            streams.complete += 1
            streams.revisions.add(answer.revision)
        else:
            streams.lost.append(answer.fault or f"status {answer.status}, {answer.events} events")
            # A refused connection must not become a busy loop.
            await asyncio.sleep(0.05)


async def _change(rig: Rig, gateway: Gateway, setting: Setting, reloads: Reloads, over: asyncio.Event) -> None:
    """Write another file each tenth of a second, and ask for it by POST, by SIGHUP, or not at all (the watcher)."""
    loop = asyncio.get_running_loop()
    next_s = loop.time()
    async with gateway.admin() as admin:
        while not over.is_set():
            turn = reloads.written
            text, good = variant(rig.folder, setting, turn)
            gateway.rewrite(text, by_rename=turn % 2 == 0)
            reloads.written += 1
            if turn % 3 == 0:
                gateway.signal_reload()
            elif turn % 3 == 1 or turn % 6 == 5:
                _judge(await admin.post("/admin/v1/reload"), good, turn, reloads)
            if turn % 50 == 0:
                rig.progress.step(f"{turn} files written, {gateway.child.rss_bytes() >> 20} MiB")
            next_s += PERIOD_S
            await asyncio.sleep(max(0.0, next_s - loop.time()))


def _judge(answer: httpx.Response, good: bool, turn: int, reloads: Reloads) -> None:
    if answer.is_success:
        reloads.accepted += 1
    else:
        reloads.refused += 1
    if answer.is_success != good:
        reloads.wrong.append(f"turn {turn}: {answer.status_code} for a {'good' if good else 'broken'} file")
