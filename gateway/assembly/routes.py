"""From the routes of the configuration to handlers.

From outside in: admission (limits, budgets) - affinity - shadow - fallback - tiers - hedge - split or
balance - and then, for each target of the route: cache - retry - breaker - the try's own admission - what
`targets` has made of it (queue, observation, bill, provider).
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gateway.assembly.caches import Caches
from gateway.assembly.generation import Route
from gateway.assembly.overrides import Effect
from gateway.assembly.targets import Parts
from gateway.config.routes import Route as RouteConfig
from gateway.config.schema import Config
from gateway.core.clock import Clock
from gateway.core.conditions import Condition
from gateway.core.pipeline import Handler, Policy, compose
from gateway.policies.admission import Admission, AdmissionSettings
from gateway.policies.attempt_admission import AttemptAdmission
from gateway.policies.desk import Desk
from gateway.policies.detours import Way
from gateway.policies.ejection import EjectionPanel
from gateway.policies.guarded import Guarded
from gateway.policies.matching import RuleSet
from gateway.policies.quoting import DEFAULT_MAX_TOKENS, AnyTarget
from gateway.policies.retry import Retry, RetrySettings
from gateway.routing.affinity import Affinity, Memory
from gateway.routing.balance import Balance
from gateway.routing.compare import Comparison
from gateway.routing.fallback import Fallback, Step
from gateway.routing.hedge import Hedge, HedgeSettings
from gateway.routing.shadow import Report, Shadow, Shadows, ShadowSettings
from gateway.routing.split import Arm, Split
from gateway.routing.sticky import Sticky
from gateway.routing.tiers import Condition as TierCondition
from gateway.routing.tiers import Tier, Tiers
from gateway.telemetry.events import Events
from gateway.telemetry.metrics import Registry

_SHADOW_BYTES = 8 * 1024 * 1024
# What tells that a target is out tells the same of one whose account was refused, or whose queue is full.
_WITH_EJECTED: frozenset[Condition] = frozenset({"account", "busy"})
_LEAST_RETRIES = 3


@dataclass(frozen=True, slots=True)
class RouteMaker:
    """What the routes of one generation are made from."""

    config: Config
    effect: Effect
    parts: Mapping[str, Parts]
    rules: RuleSet
    desk: Desk
    registry: Registry
    events: Events
    shadows: Shadows
    made_by: Memory
    keep: Callable[[str], Callable[[], Callable[[], None]]]
    """For a target's name: takes its connections beyond the generation, until what it returns is called."""
    clock: Clock
    rng: random.Random
    caches: Caches | None
    """None: no reply is kept, whatever the routes say."""
    _chains: dict[tuple[str, str], "Chain"] = field(default_factory=dict)

    def make(self) -> dict[str, Route]:
        """Every route, by its model."""
        cores = {route.model: self._core(route) for route in self.config.routes}
        ways = {name: self._way(name, cores) for name in self._downgrades()}
        return {route.model: self._route(route, cores[route.model], ways) for route in self.config.routes}

    def _weights(self, route: RouteConfig) -> dict[str, float]:
        return self.effect.weights.get(route.model, route.weights)

    def _route(self, route: RouteConfig, core: Way, ways: Mapping[str, Way]) -> Route:
        handler = core.handler
        if self.config.limits:
            handler = compose([self._admission(route, core, ways)], handler)
        return Route(route.model, self._weights(route), handler, route.priority)

    def _admission(self, route: RouteConfig, core: Way, ways: Mapping[str, Way]) -> Admission:
        settings = AdmissionSettings(
            default_max_tokens=route.default_max_tokens or DEFAULT_MAX_TOKENS,
            tag_labels=self.config.telemetry.tag_labels,
            reports_all=True,
            falls_over_budget=any("over_budget" in step.when for step in route.fallback),
        )
        return Admission(self.rules, self.desk, core.quoter, ways, settings)

    def _downgrades(self) -> set[str]:
        return {step.downgrade_to for limit in self.config.limits for step in limit.pressure if step.downgrade_to}

    def _way(self, name: str, cores: Mapping[str, Way]) -> Way:
        """What a budget's pressure leads to: a target, else a route."""
        if name not in self.parts:
            return cores[name]
        chain = self._chain(RouteConfig(model=name, target=name), name, self._panel([name], 1.0))
        return Way(chain.answer, AnyTarget({name: self.parts[name].quote}))

    def _panel(self, names: Iterable[str], most: float) -> EjectionPanel:
        breakers = [self.parts[name].live.breaker for name in names]
        return EjectionPanel([breaker for breaker in breakers if breaker is not None], most)

    def inner(self, name: str) -> Handler | None:
        """What answers the gateway's own requests to a target, else a route; None when there is neither.

        With an admission, and without what is only for clients: caches, shadows, hedges, cheaper ways.
        """
        if name in self.parts:
            route = RouteConfig(model=name, target=name)
            way = self._way(name, {})
        else:
            named = [route for route in self.config.routes if route.model == name]
            if not named:
                return None
            route = named[0].model_copy(update={"cache": None, "shadow": None, "hedge": None})
            way = self._core(route)
        if not self.config.limits:
            return way.handler
        return compose([self._admission(route, way, {})], way.handler)

    def _core(self, route: RouteConfig) -> Way:
        """A route without its admission."""
        weights = self._weights(route)
        used = dict.fromkeys([*weights, *(step.to for step in route.fallback), *(tier.to for tier in route.tiers)])
        panel = self._panel(used, route.max_ejected)
        chains = {name: self._chain(route, name, panel) for name in used}
        handler = self._choice(route, weights, chains)
        first = [*weights, *(tier.to for tier in route.tiers)]
        if route.tiers:
            tiers = [Tier(tier.to, chains[tier.to].answer, TierCondition(**dict(tier.when))) for tier in route.tiers]
            handler = Tiers(tiers, handler)
        if route.fallback:
            handler = self._fallback(route, handler, weights, chains)
        policies: list[Policy] = []
        if len(chains) > 1:
            # With one target there is nowhere else to go.
            policies.append(Affinity({name: chain.handler for name, chain in chains.items()}, self.made_by))
        if route.shadow is not None and self.parts[route.shadow.target].handler is not None:
            policies.append(self._shadow(route))
        quoter = AnyTarget({name: self.parts[name].quote for name in first})
        return Way(compose(policies, handler), quoter)

    def _choice(self, route: RouteConfig, weights: Mapping[str, float], chains: Mapping[str, "Chain"]) -> Handler:
        arms = [
            Arm(name, weight, chains[name].handler, self._out(name), chains[name].available)
            for name, weight in weights.items()
        ]
        handler: Handler
        if route.pool is not None and route.balance != "weighted" and route.model not in self.effect.weights:
            loads = {name: self.parts[name].load for name in weights}
            costs = {name: cost for name in weights if (cost := self._cost(name)) is not None}
            handler = Balance(arms, route.balance, loads, self.clock, self.rng, costs)
        else:
            handler = Split(arms, self.rng, Sticky(route.sticky) if route.sticky else None)
        if route.hedge is not None:
            others = {name: chain.handler for name, chain in chains.items() if chain.handler is not None}
            after = route.hedge.after
            settings = HedgeSettings(None if after == "p95" else after, route.hedge.max)
            handler = Hedge(handler, others, settings, self.clock, self._on_hedge(route.model))
        return handler

    def _chain(self, route: RouteConfig, name: str, panel: EjectionPanel) -> "Chain":
        parts = self.parts[name]
        if parts.handler is None:
            return Chain(None, None, self._out(name))
        policies: list[Policy] = []
        if route.cache is not None and self.caches is not None:
            policies.append(self.caches.make(route.model, route.cache, name, parts.revision))
        available: Callable[[], bool] | None = None
        if route.retry is not None and route.retry.attempts > 1:
            settings = RetrySettings(
                route.retry.attempts, frozenset(route.retry.when), route.retry.max_wait, parts.total_s
            )
            budget = parts.retry_budget(route.retry.budget, _LEAST_RETRIES)
            on_retry = self._on_retry(route.model)
            policies.append(Retry(settings, budget, self.clock, self.rng, asyncio.sleep, on_retry))
        if parts.live.breaker is not None:
            guarded = Guarded(parts.live.breaker, name, panel)
            available = guarded.available
            policies.append(guarded)
        if self.config.limits:
            policies.append(AttemptAdmission(name, self.rules, self.desk, parts.quote))
        return Chain(compose(policies, parts.handler), available, None)

    def _fallback(
        self, route: RouteConfig, primary: Handler, weights: Mapping[str, float], chains: Mapping[str, "Chain"]
    ) -> Handler:
        steps = []
        for step in route.fallback:
            chain = chains[step.to]
            when: frozenset[Condition] = frozenset(step.when)
            if "ejected" in when:
                when |= _WITH_EJECTED
            if chain.handler is not None:
                steps.append(Step(step.to, chain.handler, when, chain.available or _always))
        ready = [chains[name].available or _always for name, weight in weights.items() if weight > 0]
        first = Step(next(iter(weights)), primary, frozenset(), lambda: any(each() for each in ready))
        longest_s = max(self.parts[name].total_s for name in chains)
        return Fallback(first, steps, longest_s, self.clock, self._on_fallback(route.model))

    def _shadow(self, route: RouteConfig) -> Shadow:
        assert route.shadow is not None
        name = route.shadow.target
        chain = self._chain(RouteConfig(model=route.model, target=name), name, self._panel([name], 1.0))
        handler = chain.answer
        if self.config.limits:
            way = Way(handler, AnyTarget({name: self.parts[name].quote}))
            handler = compose([self._admission(route, way, {})], handler)
        settings = ShadowSettings(name, route.shadow.sample, self.parts[name].total_s, _SHADOW_BYTES)
        report = Report(self._counted)
        if route.shadow.compare:
            report = Report(self._compared, None if self.caches is None else self.caches.likeness(self.config))
        return Shadow(settings, handler, self.shadows, report, self.clock, self.rng, self.keep(name))

    def _out(self, name: str) -> str | None:
        return self.parts[name].live.out_of_service

    def _cost(self, name: str) -> float | None:
        """Of a middling request, for comparison: three tokens of prompt to one of the answer."""
        price = self.parts[name].price
        return None if price is None else float(3 * price.input + price.output + 4000 * price.request)

    def _on_retry(self, route: str) -> Callable[[Condition], None]:
        def retried(reason: Condition) -> None:
            self.registry.counter("gateway_retries_total", route, reason).value += 1

        return retried

    def _on_fallback(self, route: str) -> Callable[[str, str, Condition], None]:
        def fell_over(source: str, to: str, reason: Condition) -> None:
            self.registry.counter("gateway_fallbacks_total", route, source, to, reason).value += 1

        return fell_over

    def _on_hedge(self, route: str) -> Callable[[bool], None]:
        def hedged(won: bool) -> None:
            self.registry.counter("gateway_hedges_total", route, "won" if won else "lost").value += 1

        return hedged

    def _counted(self, comparison: Comparison) -> None:
        names = (comparison.route, comparison.target)
        self.registry.counter("gateway_shadow_requests_total", *names, comparison.result).value += 1

    def _compared(self, comparison: Comparison) -> None:
        self._counted(comparison)
        names = (comparison.route, comparison.target)
        for trait in comparison.differences():
            self.registry.counter("gateway_shadow_differences_total", *names, trait).value += 1
        for measure, ratio in comparison.ratios().items():
            self.registry.histogram("gateway_shadow_ratio", *names, measure).observe(ratio)
        if comparison.distance is not None:
            self.registry.histogram("gateway_shadow_distance", *names).observe(comparison.distance)
        self.events.tell("shadow_compared", "info", **comparison.fields())


@dataclass(frozen=True, slots=True)
class Chain:
    """The way from a route to one target. Without a handler it is out of service."""

    handler: Handler | None
    available: Callable[[], bool] | None
    out_of_service: str | None

    @property
    def answer(self) -> Handler:
        """The handler; one that says why not, where there is none."""
        if self.handler is not None:
            return self.handler
        return Split([Arm("target", 1.0, None, self.out_of_service)], random.Random())


def _always() -> bool:
    return True
