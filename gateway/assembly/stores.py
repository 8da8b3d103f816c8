"""Which store a configuration asks for, opened."""

import random
from pathlib import Path

from gateway.config.schema import Config
from gateway.core.clock import Clock
from gateway.store.base import OnCrossing, Store
from gateway.store.failover import FailoverStore, FailureRules
from gateway.store.memory import MemoryStore
from gateway.store.redis import RedisSettings, RedisStore


def open_store(config: Config, clock: Clock, path: Path | None, on_crossing: OnCrossing) -> Store:
    """The store of one process; `path` is the file of what it counts by itself, None to forget it with the process.

    Opens no connection. Raises OSError when the state directory cannot be used.
    """
    if config.store.redis is None:
        return MemoryStore(path, clock, on_crossing)
    rng = random.Random()
    settings = RedisSettings(
        url=config.store.redis.reveal(), timeout_s=config.store.timeout, prefix=config.store.prefix
    )
    shared = RedisStore(settings, clock, rng, on_crossing)
    return FailoverStore(shared, MemoryStore(None, clock, on_crossing), failure_rules(config))


def declare(store: Store, config: Config) -> None:
    """Have a store follow a new configuration in what a reload may change: what holds while it is gone."""
    if isinstance(store, FailoverStore):
        store.declare(failure_rules(config))


def failure_rules(config: Config) -> FailureRules:
    """What happens to limits and budgets while the shared store is gone."""
    declared = config.on_store_failure
    return FailureRules(rate_limits=declared.rate_limits, budgets=declared.budgets, share=declared.share)
