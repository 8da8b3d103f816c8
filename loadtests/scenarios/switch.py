"""A switch, its undo, a failover and its undo, under an open loop of 300 requests a second: none is lost, all follow.

Several replicas share a Redis; each verb is asked of another one. Half of the requests are streams that last longer
than a verb does. The two sides are model servers of their own, whose logs tell when the last call came to the side that
was left.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from loadtests.client import Answer, Fleet, Sink, chat_request
from loadtests.configs import KEY, MODEL, Setting
from loadtests.figures import Figure
from loadtests.openloop import Arrivals, OpenLoop
from loadtests.processes import BenchFailure
from loadtests.redis import store_section
from loadtests.rig import Rig, Server

REPLICAS = 3
RATE = 300.0
"""Requests a second, over all replicas."""
STREAM_SHARE = 0.5
UPSTREAM = "bench:latency=20ms,gap=20ms,tokens=20"
SETTLE_S = 1.7
"""After each verb; the next comes then."""
MOST_ROUNDS = 4
"""The mock remembers 10,000 calls."""
WITHIN_S = 1.0
SIDES = ("upstream", "second")


@dataclass(frozen=True, slots=True)
class Verb:
    """What an operator does, as the command line sends it."""

    name: str
    method: str
    path: str
    body: dict[str, Any] | None
    leaves: int
    """The side, 0 or 1, that takes no new request from then on."""
    action: str
    """Its name in the audit."""


_REASON = "a test"
VERBS = (
    Verb("switch --to", "POST", f"routes/{MODEL}/switch", {"target": SIDES[1], "reason": _REASON}, 0, "switch"),
    Verb("switch --undo", "DELETE", f"routes/{MODEL}/switch?reason=back", None, 1, "undo"),
    Verb(
        "failover --tag",
        "POST",
        "failover",
        {"from": {"region": "eu"}, "to": {"region": "us"}, "reason": _REASON},
        0,
        "failover",
    ),
    Verb("failover --undo", "DELETE", "failover?from=region%3Deu&reason=back", None, 1, "undo"),
)


@dataclass(slots=True)
class Done:
    """A verb that came back."""

    verb: Verb
    asked_s: float
    returned_s: float
    actor: str
    until_s: float = 0.0
    """When the next was asked, or the load was over."""


@dataclass(slots=True)
class Seen:
    """What requests and operators saw."""

    arrivals: Arrivals
    length_s: float
    done: list[Done]
    streams: Counter[int]
    """Whole streams by their number of events."""
    audits: list[list[dict[str, Any]]] = field(default_factory=list)
    """Of each replica, oldest first."""

    @property
    def lost(self) -> int:
        """Requests that were not answered with a whole reply of status 200."""
        return sum(self.arrivals.faults.values())

    @property
    def short_streams(self) -> int:
        """Streams that ended well and brought fewer events than the others."""
        return sum(count for events, count in self.streams.items() if events != max(self.streams))

    @property
    def missing(self) -> int:
        """Entries that an audit ought to have and has not, or has and ought not to; over all replicas."""
        wanted = Counter((done.actor, done.verb.action) for done in self.done)
        found = [Counter((entry["actor"], entry["action"]) for entry in audit) for audit in self.audits]
        return sum(((wanted - each) + (each - wanted)).total() for each in found)


class Spread(Fleet):
    """A fleet on several replicas in turn. Half of its requests are streams; one without its end is a fault."""

    def __init__(self, ports: Sequence[int], rng: random.Random, key: str = KEY, model: str = MODEL) -> None:
        super().__init__(ports[0])
        self._fleets = [Fleet(port) for port in ports]
        self._rng = rng
        self._turn = 0
        self._requests = [chat_request(model, key, stream=stream) for stream in (False, True)]
        self.streams: Counter[int] = Counter()

    async def open(self, count: int) -> None:
        """Have `count` more connections ready to each replica."""
        for fleet in self._fleets:
            await fleet.open(count)

    def send(self, request: bytes, sink: Sink) -> None:
        """Send one of the two kinds of requests, whatever is given, to the next replica."""
        is_stream = self._rng.random() < STREAM_SHARE
        self._turn = (self._turn + 1) % len(self._fleets)

        def over(answer: Answer) -> None:
            if is_stream and answer.ok:
                if answer.finished:
                    self.streams[answer.events] += 1
                else:
                    answer.complete, answer.fault = False, f"stream without its end, {answer.events} events"
            sink(answer)

        self._fleets[self._turn].send(self._requests[is_stream], over)

    def close(self) -> None:
        """Leave every connection."""
        for fleet in self._fleets:
            fleet.close()


async def play(
    spread: Spread, admins: Sequence[httpx.AsyncClient], rng: random.Random, rounds: int, settle_s: float = SETTLE_S
) -> Seen:
    """Every verb in turn, `rounds` times, under load; `admins` are the replicas' admin planes.

    Between two verbs go `settle_s` seconds, which must be more than `WITHIN_S` to prove anything.
    """
    verbs = [verb for _ in range(rounds) for verb in VERBS]
    length_s = settle_s * (len(verbs) + 1)
    await spread.open(48)
    async with asyncio.TaskGroup() as tasks:
        load = tasks.create_task(OpenLoop(spread, b"", RATE, rng).run(length_s))
        done: list[Done] = []
        for number, verb in enumerate(verbs):
            await asyncio.sleep(settle_s)
            done.append(await _do(verb, admins[number % len(admins)], f"operator-{number}"))
    for each, after in zip(done, [*(one.asked_s for one in done[1:]), time.monotonic()], strict=True):
        each.until_s = after
    seen = Seen(load.result(), length_s, done, spread.streams)
    for admin in admins:
        audit = (await admin.get("/admin/v1/audit")).json()["audit"]
        seen.audits.append(audit[::-1])
    return seen


async def _do(verb: Verb, admin: httpx.AsyncClient, actor: str) -> Done:
    asked_s = time.monotonic()
    reply = await admin.request(
        verb.method, f"/admin/v1/{verb.path}", json=verb.body, headers={"x-gateway-actor": actor}
    )
    if reply.status_code != 200:
        raise BenchFailure(f"{verb.name} answered {reply.status_code}: {reply.text[:200]}")
    return Done(verb, asked_s, time.monotonic(), actor)


def followed_s(done: Done, sides: Sequence[Sequence[float]]) -> float:
    """Seconds from a verb's return to the last call of the side that it leaves; 0 when there was none.

    `sides`: the monotonic times at which calls came, in any order. Raises BenchFailure when the other
    side got none either, as nothing was proved then.
    """
    left = [at for at in sides[done.verb.leaves] if done.asked_s < at < done.until_s]
    taken = [at for at in sides[1 - done.verb.leaves] if done.returned_s < at < done.until_s]
    if not taken:
        raise BenchFailure(f"no request went to the other side after {done.verb.name}")
    return max([0.0, *(at - done.returned_s for at in left)])


async def calls(port: int) -> list[float]:
    """When each call came to a mock."""
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        listed = (await client.get(f"http://127.0.0.1:{port}/__log")).json()
    return [float(call["t"]) for call in listed]


def told(seen: Seen, took_s: Mapping[str, float]) -> str:
    """What was seen, on one line."""
    return (
        f"{seen.arrivals.sent:,} requests ({seen.arrivals.sent / seen.length_s:.0f}/s), "
        f"{seen.streams.total():,} streams; followed after "
        + ", ".join(f"{name} {took * 1e3:.0f} ms" for name, took in took_s.items())
        + f"; {dict(seen.arrivals.faults) or 'none lost'}; driver late {seen.arrivals.late_s * 1e3:.1f} ms"
    )


async def run(rig: Rig) -> list[Figure]:
    """Requests lost, time until the last replica follows, and what is missing from the audit."""
    rounds = min(rig.options.pairs, MOST_ROUNDS)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(rig.redis())
        sides: list[Server] = [await enter(rig.mock()), await enter(rig.mock())]
        settings = [setting(rig.folder, number, [side.port for side in sides]) for number in range(REPLICAS)]
        gateways = [await enter(rig.gateway(each)) for each in settings]
        admins = [await enter(gateway.admin()) for gateway in gateways]
        rng = random.Random(rig.options.seed)
        spread = Spread([gateway.port for gateway in gateways], rng)
        stack.callback(spread.close)
        rig.progress.step(f"{rounds} x {len(VERBS)} verbs, {RATE:g} requests/s at {REPLICAS} replicas")
        seen = await play(spread, admins, rng, rounds)
        arrived = [await calls(side.port) for side in sides]
    took_s = slowest(seen, arrived)
    rig.progress.step(told(seen, took_s))
    return _figures(seen, took_s)


def slowest(seen: Seen, sides: Sequence[Sequence[float]]) -> dict[str, float]:
    """By the verb's name, the longest time until the last replica followed, in seconds."""
    took: dict[str, float] = {}
    for done in seen.done:
        took[done.verb.name] = max(took.get(done.verb.name, 0.0), followed_s(done, sides))
    return took


def setting(folder: Path, number: int, ports: Sequence[int]) -> Setting:
    """One replica: the route leads to the first side, in `eu`; the second is in `us`, with the same model."""
    second = (
        f"  {SIDES[1]}:\n    extends: {SIDES[0]}\n    base_url: http://127.0.0.1:{ports[1]}/v1\n"
        "    tags: {region: us}\n"
    )
    return Setting(
        ports[0],
        UPSTREAM,
        state=f"state-switch-{number}",
        target="    tags: {region: eu}\n",
        targets=second,
        sections=store_section(folder),
    )


def _figures(seen: Seen, took_s: Mapping[str, float]) -> list[Figure]:
    name = "switch under load"
    shown = {"portable": False, "guarded": False}
    offered = seen.arrivals.sent / seen.length_s
    return [
        Figure(f"{name}: requests lost", seen.lost, "requests", "lower", 0),
        Figure(f"{name}: streams short of chunks", seen.short_streams, "streams", "lower", 0),
        *(
            Figure(f"{verb}: all follow after", took, "s", "lower", WITHIN_S, slack=0.5, portable=False)
            for verb, took in took_s.items()
        ),
        Figure(f"{name}: audit entries wrong", seen.missing, "entries", "lower", 0),
        Figure("  offered", offered, "requests/s", "higher", **shown),
        Figure("  requests", seen.arrivals.sent, "requests", "higher", guarded=False),
        Figure("  streams among them", seen.streams.total(), "streams", "higher", guarded=False),
    ]
