"""Events on their way to who asked for them: one JSON object a post, in order, never in the way of a request.

Each webhook has a bounded queue and one task that posts, so that one which is away delays no other.
What does not arrive after three tries is given up, counted and logged. A URL may be a credential: it
is shown by its origin alone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from msgspec.json import Encoder

from gateway.core.clock import Clock
from gateway.core.pipeline import spawn
from gateway.telemetry.logs import rfc3339

MAX_QUEUE = 1000
"""Events that wait for one webhook. More are dropped: the newest, so that what began the trouble is told."""
MAX_TRIES = 3
_CUT_S = 1.0

Post = Callable[[str, Mapping[str, str], bytes], Awaitable[int]]
"""Posts bytes to a URL with these headers; the status of the answer. Raises ConnectionError when there is none."""
Wait = Callable[[int], float]
"""Seconds before the next try, after so many have failed."""
Result = Literal["sent", "failed", "dropped"]

logger = logging.getLogger(__name__)
_encode = Encoder().encode


@dataclass(frozen=True, slots=True)
class Webhook:
    """Who wants to be told, of what. `kinds` are the first words of events: `budget` for `budget_alert`."""

    url: str = field(repr=False)
    kinds: frozenset[str]
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def shown(self) -> str:
        """Scheme and host: the path may be a credential."""
        url = urlsplit(self.url)
        return f"{url.scheme}://{url.hostname}/***"


class Webhooks:
    """Tells the webhooks of the configuration. `notify` is what `Events` calls."""

    def __init__(self, post: Post, wait: Wait, clock: Clock, sleep: Callable[[float], Awaitable[object]]) -> None:
        self._post = post
        self._wait = wait
        self._clock = clock
        self._sleep = sleep
        self._environment = ""
        self._couriers: list[_Courier] = []
        self._leaving: list[_Courier] = []
        self.counts: dict[Result, int] = {"sent": 0, "failed": 0, "dropped": 0}
        """Events by what became of them, one for each webhook that wanted it."""

    def configure(self, environment: str, hooks: Iterable[Webhook]) -> None:
        """Tell these from now on. What waits for a former one is still posted; one that stays keeps its queue."""
        self._environment = environment
        former = {(courier.hook.url, courier.hook.kinds): courier for courier in self._couriers}
        self._couriers = []
        for hook in hooks:
            courier = former.pop((hook.url, hook.kinds), None)
            if courier is None:
                courier = _Courier(self, hook)
            courier.hook = hook
            self._couriers.append(courier)
        self._leaving = [courier for courier in (*self._leaving, *former.values()) if courier.is_busy]

    def notify(self, event: str, fields: Mapping[str, Any]) -> None:
        """Queue an event for whoever wants its kind. Never waits; needs a running loop when somebody does."""
        kind = event.partition("_")[0]
        wanting = [courier for courier in self._couriers if kind in courier.hook.kinds]
        if not wanting:
            return
        body = _encode(payload(event, fields, environment=self._environment, at_s=self._clock.wall()))
        for courier in wanting:
            courier.take(event, body)

    async def deliver(self, event: str, hook: Webhook, body: bytes) -> None:
        """Post one event, at most three times, and count what became of it."""
        reason = ""
        for failed in range(1, MAX_TRIES + 1):
            try:
                status = await self._post(hook.url, {"content-type": "application/json", **hook.headers}, body)
            except ConnectionError as error:
                reason = str(error)
            else:
                if 200 <= status < 300:
                    self.counts["sent"] += 1
                    return
                reason = f"status {status}"
                if not _is_passing(status):
                    break
            if failed < MAX_TRIES:
                await self._sleep(self._wait(failed))
        self.counts["failed"] += 1
        logger.warning("webhook %s was not told of %s: %s", hook.shown, event, reason)

    async def aclose(self, timeout_s: float) -> None:
        """Post what waits, for at most `timeout_s`; what is left then counts as dropped."""
        couriers = [courier for courier in (*self._couriers, *self._leaving) if courier.is_busy]
        self._couriers, self._leaving = [], []
        tasks = [courier.task for courier in couriers if courier.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        for courier in couriers:
            self.counts["dropped"] += courier.abandon()
        if tasks:
            await asyncio.wait(tasks, timeout=_CUT_S)


class _Courier:
    """One webhook's queue, and the task that empties it; there is none while nothing waits."""

    def __init__(self, webhooks: Webhooks, hook: Webhook) -> None:
        self.hook = hook
        self.task: asyncio.Task[None] | None = None
        self._webhooks = webhooks
        self._waiting: list[tuple[str, bytes]] = []

    @property
    def is_busy(self) -> bool:
        """Whether something is still to be posted."""
        return self.task is not None and not self.task.done()

    def take(self, event: str, body: bytes) -> None:
        """Queue one post, or drop it."""
        if len(self._waiting) >= MAX_QUEUE:
            self._webhooks.counts["dropped"] += 1
            return
        self._waiting.append((event, body))
        if not self.is_busy:
            self.task = spawn(self._run(), f"webhook {self.hook.shown}")

    async def _run(self) -> None:
        while self._waiting:
            # Taken out once it is over, so that what is under way at the end is counted.
            event, body = self._waiting[0]
            await self._webhooks.deliver(event, self.hook, body)
            del self._waiting[0]

    def abandon(self) -> int:
        """Stop posting; how many are lost."""
        if self.task is not None:
            self.task.cancel()
        return len(self._waiting)


def payload(event: str, fields: Mapping[str, Any], *, environment: str, at_s: float) -> dict[str, Any]:
    """What is posted: the event, when (RFC 3339), where, and its fields. `text` says the same to chat programs."""
    details = ", ".join(f"{name} {value}" for name, value in fields.items() if value not in ("", None))
    where = f" [{environment}]" if environment else ""
    return {
        "event": event,
        "at": rfc3339(at_s),
        "environment": environment,
        "text": f"{event.replace('_', ' ')}{where}: {details}" if details else f"{event.replace('_', ' ')}{where}",
        **{name: value for name, value in fields.items() if name not in ("event", "at", "environment", "text")},
    }


def _is_passing(status: int) -> bool:
    """Whether another try may do better: the receiver has trouble, or has had enough for the moment."""
    return status >= 500 or status in (408, 429)
