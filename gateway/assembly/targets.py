"""From the targets of the configuration to what answers for them, with the state that outlives a reload."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.assembly.generation import LiveTarget
from gateway.assembly.lasting import Lease
from gateway.assembly.pools import PoolKey, SharedPools
from gateway.assembly.prices import by_model, price_of
from gateway.config.load import Loaded
from gateway.config.secret import Secret
from gateway.config.targets import Breaker as BreakerConfig
from gateway.config.targets import Coalesce as CoalesceConfig
from gateway.config.targets import Target as TargetConfig
from gateway.core.clock import Clock
from gateway.core.errors import Headers, InvalidRequest
from gateway.core.pipeline import Handler, Policy, compose
from gateway.core.price import Price
from gateway.mock.bodies import read_body
from gateway.policies.attempt import Attempted
from gateway.policies.billing import Billing
from gateway.policies.breaker import Breaker, BreakerSettings, Change
from gateway.policies.bulkhead import Bulkhead, BulkheadSettings
from gateway.policies.calibration import Calibration
from gateway.policies.coalesce import Coalesce, CoalesceSettings
from gateway.policies.coalesce_bills import bills
from gateway.policies.coalesce_member import Dispatch, Result, Way
from gateway.policies.quote import TargetQuote
from gateway.policies.retry_budget import RetryBudget
from gateway.providers.headers import FORWARDED_UP, Sieve
from gateway.providers.kinds import KINDS, Addressing, chat_bound
from gateway.providers.target import Target, TargetSettings
from gateway.routing.balance import Load
from gateway.store.base import Leases
from gateway.telemetry.metrics import Registry
from gateway.telemetry.observe import Observer
from gateway.telemetry.tracing import Destination
from gateway.transport.base import Origin, Upstream
from gateway.transport.pool import Limits, PoolTransport
from gateway.transport.stock import StockTransport
from gateway.transport.tls import tls_context


@dataclass(frozen=True, slots=True)
class Parts:
    """One target, ready to be put behind routes."""

    live: LiveTarget
    handler: Handler | None
    """One try: written down, billed, kept within `max_inflight`. None when it is out of service."""
    quote: TargetQuote
    load: Load
    total_s: float
    retry_budget: Callable[[float, int], RetryBudget]
    """By share, and the least number."""
    price: Price | None
    revision: str
    """A digest of what its answers depend on: with another one, no stored reply is its own."""


@dataclass(frozen=True, slots=True)
class TargetMaker:
    """What targets are made from, besides their configuration."""

    pools: SharedPools
    observer: Observer
    clock: Clock
    rng: random.Random
    leases: Leases | None
    """For probes of the whole fleet; None where every process is for itself."""
    on_change: Callable[[Change], None]
    registry: Registry

    def make(
        self, name: str, loaded: Loaded, mock_url: str | None, lease: Lease, ejected: str | None
    ) -> tuple[Parts, PoolKey | None]:
        """The target, and the key of its pool for the generation to give back. Opens no connection.

        `ejected`: why an operator keeps it out; the breaker does that, where the target has one.
        """
        config = loaded.config.targets[name]
        base_url = config.base_url or mock_url
        assert base_url is not None
        identity = _identity(name, config, base_url)
        price = price_of(config)
        calibration = lease.get(("calibration", *identity), Calibration)
        count = _mock_tokens if config.provider == "mock" else None
        quote = TargetQuote(price, config.context_window, calibration, count=count)
        key: PoolKey | None = None
        upstream: Upstream | None = None
        handler: Handler | None = None
        breaker: Breaker | None = None
        out = config.out_of_service or (ejected if config.breaker is None else None)
        if out is None:
            key = pool_key(name, config, base_url, loaded)
            upstream = self.pools.acquire(key)
            if config.breaker is not None:
                breaker = self._breaker(name, config.breaker, identity, lease)
            queue: list[Policy] = []
            if config.max_inflight is not None:
                settings = BulkheadSettings(config.max_inflight, config.queue.size, config.queue.wait)
                queue.append(lease.get(("bulkhead", settings, *identity), lambda: Bulkhead(settings, name, self.clock)))
            origin = origin_of(base_url)
            destination = Destination(KINDS[config.provider].name, config.model, origin.host, origin.port)
            known = by_model(config, self.clock)
            billing = Billing(price, calibration, known)
            attempted = Attempted(name, destination, self.observer, self.clock, billing)
            # The method, not the object: Python calls it without a detour through C.
            target = Target(_settings(name, config, base_url), upstream, self.clock).__call__
            policies = [*queue, attempted]
            if config.coalesce is not None:
                meter = CoalesceMeter(self.registry, name)
                dispatch = Dispatch(name, target, queue, config.timeouts.total, self.clock, meter)
                shared = Attempted(name, destination, self.observer, self.clock, None)
                policies.insert(0, _coalesce(config, config.coalesce, dispatch, shared, bills(price, known)))
            handler = compose(policies, target)
        parts = Parts(
            LiveTarget(name, config, upstream, out, breaker),
            handler,
            quote,
            lease.get(("load", *identity), Load),
            config.timeouts.total,
            lambda share, least: lease.get(("retries", share, least, *identity), lambda: RetryBudget(share, least)),
            price,
            revision_of(config),
        )
        return parts, key

    def _breaker(self, name: str, config: BreakerConfig, identity: tuple[str, ...], lease: Lease) -> Breaker:
        settings = BreakerSettings(
            consecutive=config.consecutive,
            error_rate=config.error_rate,
            min_requests=config.min_requests,
            window_s=config.window,
            open_for_s=config.open_for,
            max_open_for_s=config.max_open_for,
            slow_start_s=config.slow_start,
        )

        def make() -> Breaker:
            return Breaker(name, settings, self.clock, self.rng, self.leases, self.on_change)

        return lease.get(("breaker", settings, *identity), make)


class CoalesceMeter:
    """The metrics of coalescing at one target. Implements `Meter`.

    Resolved anew each time: a generation is built before the registry knows the names of its targets.
    """

    __slots__ = ("_registry", "_target")

    def __init__(self, registry: Registry, target: str) -> None:
        self._registry = registry
        self._target = target

    def call(self, way: Way, calls: int) -> None:
        """See Meter."""
        self._registry.counter("gateway_coalesced_calls_total", self._target, way).value += calls

    def batch(self, result: Result) -> None:
        """See Meter."""
        self._registry.counter("gateway_coalesced_batches_total", self._target, result).value += 1


def _coalesce(
    config: TargetConfig,
    wanted: CoalesceConfig,
    dispatch: Dispatch,
    attempted: Policy,
    bill: Callable[[int, int], Billing],
) -> Coalesce:
    settings = CoalesceSettings(wanted.wait, wanted.max_inputs, wanted.max_tokens)
    forwarded = Sieve((FORWARDED_UP | KINDS[config.provider].forwards).__contains__)
    return Coalesce(settings, dispatch, attempted, bill, forwarded)


def _mock_tokens(body: bytes) -> int | None:
    """Of the built-in mock it is known how it counts."""
    try:
        return read_body(body).input_tokens()
    except InvalidRequest:
        return None


def _identity(name: str, config: TargetConfig, base_url: str) -> tuple[str, ...]:
    """What makes two targets the same upstream: a new credential is a new account (F41)."""
    key = "" if config.api_key is None or not config.api_key.is_set else config.api_key.reveal()
    digest = hashlib.sha256(key.encode()).hexdigest()
    return (name, config.provider, base_url, config.model or "", digest)


def revision_of(config: TargetConfig) -> str:
    """A digest of what a target's answers depend on; the same in every process, and after a restart.

    Not of its credential: that is changed for safety's sake, and another account has the same model. The address of
    the built-in mock, which is another one with each start, is none.
    """
    headers = [
        (name.lower(), value.reveal() if isinstance(value, Secret) else value) for name, value in config.headers.items()
    ]
    parts = (config.provider, config.base_url, config.model, config.api_version, config.anthropic_version)
    return hashlib.sha256(repr((parts, sorted(headers))).encode()).hexdigest()


def _settings(name: str, config: TargetConfig, base_url: str) -> TargetSettings:
    kind = KINDS[config.provider]
    return TargetSettings(
        name=name,
        kind=kind,
        addressing=Addressing(urlsplit(base_url).path.rstrip("/"), config.api_version),
        connect_s=config.timeouts.connect,
        first_token_s=config.timeouts.first_token,
        idle_s=config.timeouts.idle,
        total_s=config.timeouts.total,
        model=config.model,
        headers=_headers(config),
        default_headers=kind.default_headers(config.anthropic_version),
        inject_usage=config.inject_usage,
        chat_bound=chat_bound(config.provider, origin_of(base_url).host),
    )


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
        origin=origin_of(base_url),
        transport=config.transport,
        ca_pem=ca_pem,
        max_connections=config.max_connections,
        keepalive_s=config.keepalive,
        max_age_s=config.max_connection_age,
    )


def origin_of(base_url: str) -> Origin:
    """Scheme, host and port of a URL."""
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
