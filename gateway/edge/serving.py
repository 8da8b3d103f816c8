"""One generation as the data plane sees it: who may call, which hosts are served, what the bounds are."""

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.assembly.generation import Generation, Route
from gateway.assembly.overrides import Isolation
from gateway.config.load import Loaded
from gateway.core.clock import Clock
from gateway.core.exchange import Consumer
from gateway.edge.auth import Keyring
from gateway.edge.inbound import HostGate, host_gate
from gateway.policies.overload import Shedder
from gateway.routing.table import ModelFilter, ModelTable, is_glob

_REMEMBERED_ANSWERS = 4096


@dataclass(slots=True)
class Serving:
    """What an exchange holds a lease on."""

    loaded: Loaded
    generation: Generation
    keyring: Keyring
    hosts: HostGate
    required_tags: tuple[str, ...]
    max_body: int
    max_inflight: int
    shedder: Shedder
    default_route: str | None
    isolation: Isolation
    """Whom an operator has shut out."""
    created_s: int
    """Unix seconds, when this generation was built: what lists of models call `created`."""
    revision: str = field(init=False)
    """The configuration's revision."""
    routes: ModelTable[Route] = field(init=False)
    """Routes by model."""
    is_isolating: bool = field(init=False)
    """Whether anybody is shut out."""
    _filters: dict[str, ModelFilter] = field(default_factory=dict)
    _allowed: dict[tuple[str, str], bool] = field(default_factory=dict)
    """By key and model, what was asked before; boundedly."""

    def __post_init__(self) -> None:
        self.revision = self.generation.revision
        self.routes = self.generation.routes
        self.is_isolating = bool(self.isolation)

    @property
    def routes_by_name(self) -> dict[str, Route]:
        """Routes by their configured name."""
        return self.generation.routes_by_name

    @property
    def listed_models(self) -> list[str]:
        """The models that can be listed: routes that are no globs, in the order of the file."""
        return [name for name in self.generation.routes_by_name if not is_glob(name)]

    def allows(self, consumer: Consumer, model: str) -> bool:
        """Whether the consumer's key may use `model`."""
        known = self._allowed.get((consumer.id, model))
        if known is not None:
            return known
        allowed = self._filters.get(consumer.id)
        if allowed is None:
            allowed = self._filters[consumer.id] = ModelFilter(consumer.models)
        if len(self._allowed) >= _REMEMBERED_ANSWERS:
            self._allowed.clear()
        answer = self._allowed[consumer.id, model] = allowed.allows(model)
        return answer

    def close(self) -> None:
        """Give the generation's pools back."""
        self.generation.release()


Build = Callable[[Loaded, str | None], Generation]


def serving(loaded: Loaded, generation: Generation, clock: Clock) -> Serving:
    """The view of `generation` that the data plane works with."""
    config = loaded.config
    consumers = None
    if config.keys is not None:
        consumers = {
            bytes.fromhex(key.hash.removeprefix("sha256:")): Consumer(
                id=key.id,
                tags=dict(key.tags),
                models=key.models,
                may_pin=key.may_pin,
                expires_at=key.expires,
                priority=key.priority,
            )
            for key in config.keys
        }
    return Serving(
        loaded=loaded,
        generation=generation,
        keyring=Keyring(consumers, clock),
        hosts=host_gate(config.server.allowed_hosts, consumers is None),
        required_tags=config.required_tags,
        max_body=config.server.max_body,
        max_inflight=config.server.max_inflight,
        shedder=Shedder(
            config.server.max_inflight,
            config.server.overload.reserve_high,
            config.server.overload.loop_lag,
            config.server.overload.max_rss,
        ),
        default_route=config.server.default_route,
        isolation=generation.isolation,
        created_s=int(clock.wall()),
    )
