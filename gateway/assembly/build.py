"""From a checked configuration to handlers: every object of a generation is made here and nowhere else."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.assembly.generation import Generation, LiveTarget, Route
from gateway.assembly.pools import PoolKey, SharedPools
from gateway.config.load import Loaded
from gateway.config.schema import Target as TargetConfig
from gateway.config.secret import Secret
from gateway.core.clock import Clock
from gateway.core.errors import Headers
from gateway.core.pipeline import Handler, compose
from gateway.policies.attempt import Attempted
from gateway.providers.kinds import KINDS, Addressing
from gateway.providers.target import Target, TargetSettings
from gateway.routing.split import Arm, Split
from gateway.routing.table import ModelTable
from gateway.telemetry.observe import Observer
from gateway.telemetry.tracing import Destination
from gateway.transport.base import Origin, Upstream
from gateway.transport.pool import Limits, PoolTransport
from gateway.transport.stock import StockTransport
from gateway.transport.tls import tls_context


@dataclass(frozen=True, slots=True)
class Builder:
    """What every generation is built from, besides its configuration."""

    pools: SharedPools
    observer: Observer
    clock: Clock
    rng: random.Random

    def build(self, loaded: Loaded, mock_url: str | None) -> Generation:
        """The generation of `loaded`. `mock_url` is the built-in mock's base URL, for targets that use it.

        Takes pools and opens no connection, so it cannot fail because of a provider.
        """
        acquired: list[PoolKey] = []
        targets: dict[str, LiveTarget] = {}
        handlers: dict[str, Handler] = {}
        for name, config in loaded.config.targets.items():
            base_url = config.base_url or mock_url
            assert base_url is not None
            upstream: Upstream | None = None
            if config.out_of_service is None:
                key = pool_key(name, config, base_url, loaded)
                upstream = self.pools.acquire(key)
                acquired.append(key)
                handlers[name] = self._target(name, config, base_url, upstream)
            targets[name] = LiveTarget(name, config, upstream, config.out_of_service)
        routes = {
            route.model: self._route(route.model, route.weights, targets, handlers) for route in loaded.config.routes
        }
        return Generation(
            revision=loaded.revision,
            routes=ModelTable(routes),
            routes_by_name=routes,
            targets=targets,
            release=lambda: self._release(acquired),
        )

    def _release(self, keys: list[PoolKey]) -> None:
        for key in keys:
            self.pools.release(key)

    def _target(self, name: str, config: TargetConfig, base_url: str, upstream: Upstream) -> Handler:
        kind = KINDS[config.provider]
        url = urlsplit(base_url)
        settings = TargetSettings(
            name=name,
            kind=kind,
            addressing=Addressing(url.path.rstrip("/"), config.api_version),
            connect_s=config.timeouts.connect,
            first_token_s=config.timeouts.first_token,
            idle_s=config.timeouts.idle,
            total_s=config.timeouts.total,
            model=config.model,
            headers=_headers(config),
            default_headers=kind.default_headers(config.anthropic_version),
            inject_usage=config.inject_usage,
        )
        origin = _origin(base_url)
        destination = Destination(kind.name, config.model, origin.host, origin.port)
        attempted = Attempted(name, destination, self.observer, self.clock)
        return compose([attempted], Target(settings, upstream, self.clock))

    def _route(
        self, name: str, weights: dict[str, float], targets: dict[str, LiveTarget], handlers: dict[str, Handler]
    ) -> Route:
        arms = [
            Arm(target, weight, handlers.get(target), targets[target].out_of_service)
            for target, weight in weights.items()
        ]
        return Route(name, weights, Split(arms, self.rng))


def pool_maker() -> Callable[[PoolKey], Upstream]:
    """Makes the pool of a key: our own transport, or stock httpx where the target asks for it."""

    def make(key: PoolKey) -> Upstream:
        tls = tls_context(key.ca_pem) if key.origin.scheme == "https" else None
        limits = Limits(max_connections=key.max_connections, keepalive_s=key.keepalive_s, max_age_s=key.max_age_s)
        if key.transport == "httpx":
            return StockTransport(key.origin, ssl_context=tls, limits=limits)
        return PoolTransport(key.origin, ssl_context=tls, limits=limits)

    return make


def pool_key(name: str, config: TargetConfig, base_url: str, loaded: Loaded) -> PoolKey:
    """What the pool of a target is made of."""
    ca_pem = loaded.sources.files[config.ca_file] if config.ca_file else None
    return PoolKey(
        target=name,
        origin=_origin(base_url),
        transport=config.transport,
        ca_pem=ca_pem,
        max_connections=config.max_connections,
        keepalive_s=config.keepalive,
        max_age_s=config.max_connection_age,
    )


def needs_mock(loaded: Loaded) -> bool:
    """Whether a target relies on the built-in mock."""
    return any(target.provider == "mock" and target.base_url is None for target in loaded.config.targets.values())


def _origin(base_url: str) -> Origin:
    url = urlsplit(base_url)
    assert url.hostname is not None
    return Origin(url.scheme, url.hostname, url.port or (443 if url.scheme == "https" else 80))


def _headers(config: TargetConfig) -> Headers:
    headers: Headers = []
    if config.api_key is not None:
        headers += KINDS[config.provider].credential(config.api_key.reveal())
    for name, value in config.headers.items():
        text = value.reveal() if isinstance(value, Secret) else value
        headers.append((name.lower().encode("ascii"), text.encode("utf-8")))
    return headers
