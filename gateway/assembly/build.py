"""From a checked configuration to a generation: every object of it is made here, and in `targets` and `routes`."""

import random
from collections.abc import Callable, Mapping

from gateway.assembly.caches import Caches
from gateway.assembly.generation import Generation
from gateway.assembly.inner import InnerCalls, Ways
from gateway.assembly.lasting import Lasting, Lease
from gateway.assembly.limits import rule_set
from gateway.assembly.overrides import Effect, effect_of
from gateway.assembly.pools import PoolKey, SharedPools
from gateway.assembly.routes import RouteMaker
from gateway.assembly.targets import Parts, TargetMaker
from gateway.config.load import Loaded
from gateway.core.clock import Clock
from gateway.policies.breaker import Change
from gateway.policies.desk import Desk, HoldIds
from gateway.routing.affinity import LocalMemory
from gateway.routing.shadow import Shadows
from gateway.routing.table import ModelTable
from gateway.store.base import Override, Store
from gateway.telemetry.events import Events
from gateway.telemetry.logs import Level
from gateway.telemetry.metrics import Registry
from gateway.telemetry.observe import Observer

_REMEMBERED = 100_000
_REMEMBERED_S = 30 * 86400.0
_MOST_SHADOWS = 50


class Builder:
    """What every generation is built from, besides its configuration; and what outlives them all."""

    def __init__(  # noqa: PLR0913 - one for each thing that outlives the generations
        self,
        pools: SharedPools,
        observer: Observer,
        clock: Clock,
        rng: random.Random,
        store: Store,
        events: Events,
        registry: Registry,
        caches: Caches | None = None,
        inner: InnerCalls | None = None,
    ) -> None:
        """Without `caches` no reply is kept. `inner` is told of every generation that is built."""
        self.pools = pools
        self.observer = observer
        self.shadows = Shadows(_MOST_SHADOWS)
        self.caches = caches
        self._inner = inner
        self._clock = clock
        self._rng = rng
        self._store = store
        self._events = events
        self._registry = registry
        self._lasting = Lasting()
        # Several processes begin with their own names for holds, whatever seeded `rng`.
        self._desk = Desk(store.ledger, HoldIds(random.SystemRandom()), store.now_s)
        self._made_by = LocalMemory(clock, capacity=_REMEMBERED, ttl_s=_REMEMBERED_S)

    def build(self, loaded: Loaded, mock_url: str | None, overrides: Mapping[str, Override]) -> Generation:
        """The generation of `loaded` with `overrides` over it.

        `mock_url` is the built-in mock's base URL, for targets that use it. Takes pools and opens no
        connection, so it cannot fail because of a provider.
        """
        config = loaded.config
        effect = effect_of(config, overrides)
        lease = self._lasting.lease()
        maker = TargetMaker(
            self.pools,
            self.observer,
            self._clock,
            self._rng,
            self._store.leases if self._store.is_shared else None,
            self._changed,
            self._registry,
        )
        keys: dict[str, PoolKey] = {}
        parts: dict[str, Parts] = {}
        for name in config.targets:
            parts[name], key = maker.make(name, loaded, mock_url, lease, effect.ejected.get(name))
            if key is not None:
                keys[name] = key
        _eject(parts, effect, overrides)
        routes_maker = RouteMaker(
            config,
            effect,
            parts,
            rule_set(config, self._registry),
            self._desk,
            self._registry,
            self._events,
            self.shadows,
            self._made_by,
            lambda name: self._keeper(keys[name]),
            self._clock,
            self._rng,
            self.caches,
        )
        routes = routes_maker.make()
        ways = Ways(routes_maker, loaded.revision, lambda: self._release(list(keys.values()), lease))
        if self._inner is not None:
            self._inner.serve(ways)
        return Generation(
            revision=loaded.revision,
            routes=ModelTable(routes),
            routes_by_name=routes,
            targets={name: each.live for name, each in parts.items()},
            isolation=effect.isolation,
            release=ways.close,
        )

    def _keeper(self, key: PoolKey) -> Callable[[], Callable[[], None]]:
        def keep() -> Callable[[], None]:
            self.pools.acquire(key)
            return lambda: self.pools.release(key)

        return keep

    def _release(self, keys: list[PoolKey], lease: Lease) -> None:
        for key in keys:
            self.pools.release(key)
        lease.release()

    def _changed(self, change: Change) -> None:
        """A breaker has something to tell."""
        if change.event == "account":
            self._events.tell("account_refused", "error", target=change.name, reason=change.reason)
        else:
            level: Level = "info" if change.event in ("closed", "restored") else "warning"
            self._events.tell(f"breaker_{change.event}", level, target=change.name, reason=change.reason)


def _eject(parts: Mapping[str, Parts], effect: Effect, overrides: Mapping[str, Override]) -> None:
    """Have every breaker follow the operators' ejections."""
    for name, each in parts.items():
        breaker = each.live.breaker
        if breaker is None:
            continue
        reason = effect.ejected.get(name)
        if reason is not None:
            override = overrides.get(f"target/{name}") or overrides.get(f"isolate/target/{name}")
            breaker.eject(reason, override.until_s if override is not None else None)
        elif breaker.is_ejected:
            breaker.restore("the operator's ejection is over")


def needs_mock(loaded: Loaded) -> bool:
    """Whether a target relies on the built-in mock."""
    return any(target.provider == "mock" and target.base_url is None for target in loaded.config.targets.values())
