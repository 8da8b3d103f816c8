"""The ways of requests that the gateway makes itself: found by name in the generation that is in force.

Such a call holds no lease as a client's exchange does, for it may begin where there is none: in a task
that learns, or stores. So each generation's resources are given back when both are over: the exchanges
that its lease counts, and the calls that are counted here.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from gateway.assembly.overrides import Isolation
from gateway.assembly.routes import RouteMaker
from gateway.core.clock import Clock
from gateway.core.errors import Forbidden, NoHealthyTarget
from gateway.core.exchange import Consumer, Dialect
from gateway.providers.kinds import KINDS
from gateway.routing.inner import EMBEDDER_CONSUMER, JUDGE_CONSUMER, Inner, Surroundings, Way
from gateway.telemetry.observe import Observer
from gateway.telemetry.tracing import Tracer

LONGEST_S = 60.0
"""A call takes no longer unless more is allowed: judges answer in a word, and embedders in no time."""

_RETRY_AFTER_S = 5.0
_CANCELLED_WITHIN_S = 1.0
_CONSUMERS = {each.id: each for each in (JUDGE_CONSUMER, EMBEDDER_CONSUMER)}


class InnerCalls:
    """Makes what asks models on the gateway's own account. One for a process: it outlives the generations."""

    def __init__(self, observer: Observer, tracer: Tracer, clock: Clock, rng: random.Random) -> None:
        self._surroundings = Surroundings(clock, lambda: tracer.begin(None, None), observer.observe)
        self._rng = rng
        self._ways: Ways | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        """How many calls are under way."""
        return len(self._tasks)

    def inner(self, name: str, payer: str, max_s: float = LONGEST_S) -> Inner:
        """What asks the target, else the route, called `name`; each call ends within `max_s`.

        `payer` is `judge` or `embedder`; the ids of its requests begin with it: `judge-…`. The name is looked up with
        each call, so this may be made before there is a configuration, and kept over reloads.
        """
        consumer = _CONSUMERS[payer]

        def new_id() -> str:
            return f"{payer}-{self._rng.getrandbits(96):024x}"

        return Inner(self._enter, name, consumer, self._surroundings, new_id, max_s)

    def serve(self, ways: "Ways") -> None:
        """Send calls by these ways from now on; those under way keep theirs."""
        self._ways = ways

    async def cancel(self) -> None:
        """End all calls, by cancelling the tasks that wait for them, and take no more; for the end of the process.

        A task that takes longer than 1 s to end is not waited for.
        """
        self._ways = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCELLED_WITHIN_S)

    @contextmanager
    def _enter(self, name: str, consumer: Consumer) -> Iterator[Way]:
        ways, task = self._ways, asyncio.current_task()
        assert task is not None
        if ways is None:
            raise NoHealthyTarget("No configuration is in force.", retry_after_s=_RETRY_AFTER_S)
        with ways.enter(name, consumer) as way:
            self._tasks.add(task)
            try:
                yield way
            finally:
                self._tasks.discard(task)


class Ways:
    """Those of one generation, made when they are first asked for; and the calls that are on them."""

    def __init__(self, maker: RouteMaker, revision: str, release: Callable[[], None]) -> None:
        """`release`: gives back what the generation uses."""
        self._maker = maker
        self._revision = revision
        self._release = release
        self._made: dict[str, Way | None] = {}
        self._calls = 0
        self._is_closed = False

    @contextmanager
    def enter(self, name: str, consumer: Consumer) -> Iterator[Way]:
        """The way to the target, else the route, of this name; what it needs is kept until the scope ends.

        Raises NoHealthyTarget when there is neither, or nothing is kept any more; Forbidden when an operator has
        shut `consumer` out.
        """
        _require_not_isolated(self._maker.effect.isolation, consumer)
        if name not in self._made:
            self._made[name] = self._make(name)
        way = self._made[name]
        if way is None or self._is_closed:
            raise NoHealthyTarget(f"There is no target and no route {name!r}.", retry_after_s=_RETRY_AFTER_S)
        self._calls += 1
        try:
            yield way
        finally:
            self._calls -= 1
            self._give_back()

    def close(self) -> None:
        """Give everything back, when the last call is over; call it once."""
        self._is_closed = True
        self._give_back()

    def _give_back(self) -> None:
        if self._is_closed and not self._calls:
            self._release()

    def _make(self, name: str) -> Way | None:
        handler = self._maker.inner(name)
        if handler is None:
            return None
        targets = self._maker.parts
        if name in targets:
            return Way(handler, self._dialect([name]), "", self._revision)
        [route] = [route for route in self._maker.config.routes if route.model == name]
        return Way(handler, self._dialect(route.weights), name, self._revision)

    def _dialect(self, names: Iterable[str]) -> Dialect:
        """OpenAI's, unless none of these targets speaks it."""
        kinds = [KINDS[self._maker.config.targets[name].provider] for name in names]
        return "openai" if any("openai" in kind.dialects for kind in kinds) else "anthropic"


def _require_not_isolated(isolation: Isolation, consumer: Consumer) -> None:
    if consumer.id in isolation.keys or not isolation.tags.isdisjoint(consumer.tags.items()):
        raise Forbidden(f"The consumer {consumer.id} is isolated by an operator.", code="isolated")
