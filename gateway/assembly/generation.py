"""One configuration made alive, and the change from one to the next without a request lost.

A reload builds a whole new generation beside the running one and swaps one reference. An exchange
keeps the generation that it began with, by a lease; the old one is closed when its last lease ends.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, Protocol, TypeVar

from gateway.assembly.overrides import Isolation
from gateway.config.schema import Target as TargetConfig
from gateway.core.exchange import Decision, Priority
from gateway.core.pipeline import Handler
from gateway.policies.breaker import Breaker
from gateway.routing.table import ModelTable
from gateway.transport.base import Upstream


@dataclass(frozen=True)
class Route:
    """One route: its configured name, where it leads, and what answers."""

    name: str
    weights: dict[str, float]
    handler: Handler = field(repr=False)
    priority: Priority = "normal"

    @cached_property
    def decision(self) -> Decision:
        """The decision that a request takes this route; one object for all of them."""
        return Decision("route", f"{self.name} to {', '.join(self.weights)}")


@dataclass(frozen=True, slots=True)
class LiveTarget:
    """One target: its settings, and its connections unless it is out of service."""

    name: str
    config: TargetConfig
    upstream: Upstream | None
    out_of_service: str | None
    breaker: Breaker | None = None


@dataclass(slots=True)
class Generation:
    """The handlers of one configuration, and what must be given back when nobody uses them any more."""

    revision: str
    routes: ModelTable[Route]
    routes_by_name: dict[str, Route]
    targets: dict[str, LiveTarget]
    isolation: Isolation
    release: Callable[[], None] = field(repr=False)


class Leased(Protocol):
    """What a lease is taken on."""

    def close(self) -> None:
        """Give everything back; called once, after the last lease."""
        ...


G = TypeVar("G", bound=Leased)


class Generations(Generic[G]):
    """The current generation, and those before it that still have exchanges."""

    def __init__(self) -> None:
        self._current: G | None = None
        self._entered = 0
        """Leases on the current one."""
        self._leases: dict[int, int] = {}
        """Leases on those before it."""
        self._retired: dict[int, G] = {}

    @property
    def current(self) -> G | None:
        """The generation that new exchanges get; None before the first."""
        return self._current

    def __len__(self) -> int:
        """Generations alive: the current one and those being left."""
        return len(self._retired) + (self._current is not None)

    def swap(self, generation: G) -> None:
        """Serve with `generation` from now on."""
        previous, self._current = self._current, generation
        entered, self._entered = self._entered, 0
        if previous is not None:
            self._leases[id(previous)] = entered
            self._retired[id(previous)] = previous
            self._close_if_left(id(previous))

    def enter(self) -> G:
        """A lease on the current generation; `leave` ends it."""
        generation = self._current
        assert generation is not None, "no configuration is loaded yet"
        self._entered += 1
        return generation

    def leave(self, generation: G) -> None:
        """End a lease; the last one closes a generation that has been replaced."""
        if generation is self._current:
            self._entered -= 1
            return
        key = id(generation)
        self._leases[key] -= 1
        self._close_if_left(key)

    def _close_if_left(self, key: int) -> None:
        if self._leases[key] == 0:
            del self._leases[key]
            self._retired.pop(key).close()
