"""Connection pools that outlive a reload: counted, and found again by what they are made of."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.core.pipeline import spawn
from gateway.transport.base import Origin, Upstream


@dataclass(frozen=True, slots=True)
class PoolKey:
    """Everything that makes two targets' connections interchangeable.

    The target's name is part of it: one target's stall must not take another's connections (F48).
    """

    target: str
    origin: Origin
    transport: str
    ca_pem: bytes | None
    max_connections: int
    keepalive_s: float | None
    max_age_s: float


class SharedPools:
    """Pools by key, with the number of generations that use each. The last to let go closes it."""

    def __init__(self, make: Callable[[PoolKey], Upstream]) -> None:
        self._make = make
        self._pools: dict[PoolKey, tuple[Upstream, int]] = {}

    def __len__(self) -> int:
        return len(self._pools)

    def acquire(self, key: PoolKey) -> Upstream:
        """The pool for `key`, made if there is none."""
        upstream, users = self._pools.get(key) or (self._make(key), 0)
        self._pools[key] = (upstream, users + 1)
        return upstream

    def release(self, key: PoolKey) -> None:
        """Let go of one use of the pool for `key`."""
        upstream, users = self._pools[key]
        if users > 1:
            self._pools[key] = (upstream, users - 1)
        else:
            del self._pools[key]
            spawn(upstream.aclose(), f"close pool of {key.target}")

    async def aclose(self) -> None:
        """Close every pool, used or not; for the end of the process."""
        pools = [upstream for upstream, _ in self._pools.values()]
        self._pools.clear()
        for upstream in pools:
            await upstream.aclose()
