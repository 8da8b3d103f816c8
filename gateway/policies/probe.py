"""The right to try a target that is out: one request at a time, in this process and in the fleet."""

import random
from dataclasses import dataclass
from math import inf
from typing import Literal

from gateway.core.errors import StoreUnavailable
from gateway.core.pipeline import spawn
from gateway.store.base import Leases

_LEASE_S = 60.0
_ASK_AGAIN_S = 1.0
# A reply that has streamed this long without a fault tells enough; nobody waits for its end.
_PROVEN_S = 5.0


@dataclass(slots=True, eq=False)
class Pass:
    """The way in for one request while a target is not simply open to all."""

    kind: Literal["probe", "trickle", "spared"]
    """`probe`: its end is the verdict. `trickle`: the route has nothing better. `spared`: others are out already."""
    owner: str = ""
    """Holder of the fleet's lease; empty when there is none to return."""
    entered_s: float = inf
    """Monotonic, when its reply began."""


class ProbeRight:
    """Grants the probe to one request at a time; by a lease of the whole fleet where there is a store (F33)."""

    def __init__(self, name: str, leases: Leases | None, rng: random.Random) -> None:
        self._name = f"probe/{name}"
        self._leases = leases
        self._rng = rng
        self._current: Pass | None = None
        self._ask_again_s = 0.0

    def is_free(self, now_s: float) -> bool:
        """Whether it is worth asking for now."""
        return self._current is None and now_s >= self._ask_again_s

    def is_proven(self, now_s: float) -> bool:
        """Whether the probe under way has streamed for so long that it needs no end."""
        return self._current is not None and now_s - self._current.entered_s >= _PROVEN_S

    async def take(self, now_s: float) -> Pass | None:
        """The right, for one request; None when another process has it.

        A store that does not answer is no reason not to try: then each process probes for itself.
        """
        taken = self._current = Pass("probe")
        if self._leases is None:
            return taken
        owner = f"{self._rng.getrandbits(64):016x}"
        try:
            if await self._leases.acquire(self._name, owner, _LEASE_S):
                taken.owner = owner
                return taken
        except StoreUnavailable:
            return taken
        except BaseException:
            # Whether it was granted is not known.
            self._current = None
            spawn(self._release(self._leases, owner), f"release {self._name}")
            raise
        self._ask_again_s = now_s + _ASK_AGAIN_S
        self._current = None
        return None

    def give_back(self, taken: Pass) -> None:
        """End a pass of any kind; once. Does not wait for the store."""
        if taken is self._current:
            self._current = None
        if taken.owner and self._leases is not None:
            spawn(self._release(self._leases, taken.owner), f"release {self._name}")

    async def _release(self, leases: Leases, owner: str) -> None:
        try:
            await leases.release(self._name, owner)
        except StoreUnavailable:
            # It lapses by itself.
            return
