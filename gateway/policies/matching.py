"""Which limits a request meets, and whose counters they count it on.

A rule has one counter for each *scope*: the values of what it is `per`, written `key=checkout,tag.team=ml`.
Identity comes from the key alone, never from the body. Values are escaped (`,` `=` `|` `%`), so that no
value that a client sends can read as another scope; a tag that is missing is a scope of its own, `tag.team=`.

A client can invent model names where a route is a glob, and would have a fresh counter with each. So
`per: [model]` counts by name only where the operator has written the name, as a route or in the rule's
`match`; all other names under a glob count together, under the glob.

Rules that mention a target are about attempts and are asked for each of them; all others are asked
once for a request.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.core.exchange import Exchange
from gateway.core.globs import glob_pattern
from gateway.policies.calendar import Periods
from gateway.policies.pressure import Ladder
from gateway.policies.rules import Rule
from gateway.store.base import Claim, Standing
from gateway.telemetry.metrics import Counter

DecisionLabel = Literal["allowed", "refused", "dry_run", "local", "open"]
Count = Callable[[str, DecisionLabel], Counter]
"""The series of `gateway_limit_decisions_total{limit,decision}`."""

_MAX_REMEMBERED = 4096
_MAX_REMEMBERED_MODEL = 256
_ESCAPES = str.maketrans({character: f"%{ord(character):02X}" for character in "%,=|"})


class Tally:
    """The counters of one rule's decisions, resolved once."""

    __slots__ = ("allowed", "dry_run", "local", "open", "refused")

    def __init__(self, rule: str, count: Count) -> None:
        self.allowed = count(rule, "allowed")
        self.refused = count(rule, "refused")
        self.dry_run = count(rule, "dry_run")
        self.local = count(rule, "local")
        self.open = count(rule, "open")


class Terms:
    """A rule worked out: what is the same for all of its scopes."""

    __slots__ = ("_matches", "_models", "_tags", "alert_at", "ladder", "periods", "rule", "tally")

    def __init__(self, rule: Rule, tally: Tally) -> None:
        self.rule = rule
        self.tally = tally
        self.periods: Periods | None = None
        self.ladder: Ladder | None = None
        self.alert_at: tuple[int, ...] = ()
        budget = rule.budget
        if budget is not None:
            self.periods = Periods(budget.calendar, budget.zone)
            self.ladder = Ladder(budget.limit_nusd, rule.pressure)
            self.alert_at = tuple(sorted(int(budget.limit_nusd * share) for share in rule.alert_at))
        match = rule.match
        self._models = frozenset(match.models)
        self._tags = tuple((name, glob_pattern(glob)) for name, glob in match.tags)
        self._matches = (_any_of(match.keys), _any_of(match.routes), _any_of(match.models), _any_of(match.targets))

    def scope(self, exchange: Exchange, target: str | None) -> str | None:
        """The scope of the counter that counts this request; None when the rule is not about it."""
        consumer, route = exchange.consumer, exchange.route
        assert consumer is not None
        assert route is not None
        model = exchange.request.head.model or route
        tags = exchange.tags
        given = (consumer.id, route, model, target or "")
        if not all(matches(value) for matches, value in zip(self._matches, given, strict=True)):
            return None
        if not all(name in tags and pattern.fullmatch(tags[name]) for name, pattern in self._tags):
            return None
        values = {
            "key": consumer.id,
            "route": route,
            "target": target or "",
            "model": model if model in self._models else route,
        }
        return ",".join(f"{name}={_value(name, values, tags).translate(_ESCAPES)}" for name in self.rule.per)


def _value(dimension: str, values: Mapping[str, str], tags: Mapping[str, str]) -> str:
    if dimension.startswith("tag."):
        return tags.get(dimension.removeprefix("tag."), "")
    return values[dimension]


def _any_of(globs: Sequence[str]) -> Callable[[str], bool]:
    patterns = [glob_pattern(glob) for glob in globs]

    def matches(value: str) -> bool:
        return not patterns or any(pattern.fullmatch(value) for pattern in patterns)

    return matches


class Scoped:
    """One rule for one scope: its claims, and how its budget stood when somebody last asked."""

    __slots__ = ("_level", "fixed", "is_dry", "rule", "scope", "tally", "terms")

    def __init__(self, terms: Terms, scope: str) -> None:
        self.terms = terms
        self.rule = rule = terms.rule
        self.tally = terms.tally
        self.scope = scope
        self.is_dry = rule.dry_run
        self.fixed: tuple[Claim, ...] = ()
        """The claims that are the same for every request."""
        self._level = ("", 0.0)
        if rule.requests is not None:
            limit, period_s = rule.requests
            claim = Claim(rule.name, scope, "window", "requests", 1, limit, period_s, dry_run=rule.dry_run)
            self.fixed += (claim,)
        if rule.concurrency is not None:
            limit = rule.concurrency
            claim = Claim(rule.name, scope, "concurrency", "slots", 1, limit, dry_run=rule.dry_run)
            self.fixed += (claim,)

    def note(self, claim: Claim, standing: Standing) -> None:
        """Remember how the budget stands. The share is of the whole budget and its grants, whatever the claim's."""
        assert self.terms.ladder is not None
        limit = self.terms.ladder.limit_nusd + standing.limit - claim.limit
        self._level = (claim.period, standing.used / limit if limit > 0 else 1.0)

    def used_share(self, period: str) -> float:
        """Of the budget in this period, spent or held, as far as this process knows."""
        known, share = self._level
        return share if known == period else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """The rules that a request meets."""

    scoped: tuple[Scoped, ...]
    metered: tuple[Scoped, ...]
    """Those of them that have tokens or a budget."""
    fixed: tuple[Claim, ...]
    """The claims of all that are the same for every request."""
    owners: tuple[Scoped, ...]
    """Whose each of `fixed` is."""
    ones: tuple[int, ...]
    """What each of `fixed` comes to."""
    is_plain: bool
    """Whether none is a dry run."""
    has_downgrades: bool
    """Whether one has a budget that leads to cheaper ways."""

    @classmethod
    def of(cls, scoped: Iterable[Scoped]) -> "Matched":
        """Everything about these rules that can be known before the request."""
        scoped = tuple(scoped)
        pairs = [(claim, each) for each in scoped for claim in each.fixed]
        return cls(
            scoped=scoped,
            metered=tuple(each for each in scoped if each.rule.is_metered),
            fixed=tuple(claim for claim, _ in pairs),
            owners=tuple(owner for _, owner in pairs),
            ones=tuple(claim.amount for claim, _ in pairs),
            is_plain=not any(each.is_dry for each in scoped),
            has_downgrades=any(each.terms.ladder is not None and each.terms.ladder.downgrades for each in scoped),
        )


class Chooser:
    """Finds the rules that a request meets, among some. What was found is remembered, boundedly: clients invent
    names of models and values of tags."""

    __slots__ = ("_found", "_scoped", "_tags", "_target", "_terms", "_uses_model", "is_empty", "is_metered")

    def __init__(self, terms: Sequence[Terms], target: str | None) -> None:
        rules = [each.rule for each in terms]
        self._terms = terms
        self._target = target
        self._uses_model = any(rule.match.models or "model" in rule.per for rule in rules)
        self._tags = tuple(sorted({name for rule in rules for name in _tags_of(rule)}))
        self._found: dict[object, Matched] = {}
        self._scoped: dict[tuple[str, str], Scoped] = {}
        self.is_empty = not rules
        self.is_metered = any(rule.is_metered for rule in rules)

    def __call__(self, exchange: Exchange) -> Matched:
        """The rules that `exchange` meets, in the order of the configuration."""
        consumer = exchange.consumer
        assert consumer is not None
        key: object = (consumer.id, exchange.route)
        if self._tags:
            key = (key, *map(exchange.tags.get, self._tags))
        if self._uses_model:
            model = exchange.request.head.model
            if model is not None and len(model) > _MAX_REMEMBERED_MODEL:
                return self._find(exchange)
            key = (key, model)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _MAX_REMEMBERED:
                self._found.clear()
            found = self._found[key] = self._find(exchange)
        return found

    def _find(self, exchange: Exchange) -> Matched:
        scopes = [(each, each.scope(exchange, self._target)) for each in self._terms]
        return Matched.of([self._of(each, scope) for each, scope in scopes if scope is not None])

    def _of(self, terms: Terms, scope: str) -> Scoped:
        # One object for one counter, however requests come to it: it remembers the counter's level.
        key = (terms.rule.name, scope)
        found = self._scoped.get(key)
        if found is None:
            if len(self._scoped) >= _MAX_REMEMBERED:
                self._scoped.clear()
            found = self._scoped[key] = Scoped(terms, scope)
        return found


def _tags_of(rule: Rule) -> list[str]:
    named = [dimension.removeprefix("tag.") for dimension in rule.per if dimension.startswith("tag.")]
    return named + [name for name, _ in rule.match.tags]


class RuleSet:
    """All rules of one configuration. Raises ZoneInfoNotFoundError for a budget in an unknown zone."""

    def __init__(self, rules: Sequence[Rule], count: Count) -> None:
        terms = [Terms(rule, Tally(rule.name, count)) for rule in rules]
        self._about_attempts = [each for each in terms if each.rule.is_about_attempts]
        self.for_exchange = Chooser([each for each in terms if not each.rule.is_about_attempts], None)
        """The rules that are asked once for a request."""

    def for_target(self, target: str) -> Chooser:
        """The rules that are asked for each attempt at this target; make it once."""
        fitting = [each for each in self._about_attempts if _any_of(each.rule.match.targets)(target)]
        return Chooser(fitting, target)

    @property
    def meters_attempts(self) -> bool:
        """Whether a rule about attempts has tokens or a budget."""
        return any(each.rule.is_metered for each in self._about_attempts)
