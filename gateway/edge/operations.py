"""What operators change at run time: overrides over the file, each with who, why and until when, and audited.

The file is never edited. An override lives in the store, is shown beside the configuration as
declared drift, takes effect on every replica within a second, and is gone at its time.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from gateway.assembly.overrides import counterparts
from gateway.config.schema import Config
from gateway.config.units import UnitError, parse_duration
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError, InvalidRequest, NotFound
from gateway.store.base import AuditEntry, Journal, Override

_MAX_TEXT = 500
_EVIDENCE = 100


class Applies(Protocol):
    """What brings overrides into force."""

    async def refresh_overrides(self) -> None:
        """Read the overrides from the store, and serve with them."""
        ...


class Unprocessable(GatewayError):
    """A change that makes no sense with the configuration that is served."""

    status = 422
    code = "unprocessable"


class Order:
    """Who asks for a change, why, and for how long; read from a request's JSON body.

    `reason` is needed, as is whatever the verb itself needs; `for` is a duration, and absent means
    until it is undone. Raises InvalidRequest.
    """

    def __init__(self, body: object, actor: str) -> None:
        if not isinstance(body, dict):
            raise InvalidRequest('Send a JSON object, such as {"reason": "..."}.')
        self.body: dict[str, Any] = body
        self.actor = actor
        self.reason = self._text("reason")
        self.for_s = self._duration("for")

    def _text(self, name: str) -> str:
        value = self.body.get(name)
        if not isinstance(value, str) or not value.strip() or len(value) > _MAX_TEXT:
            raise InvalidRequest(f"`{name}` is missing: say why, in {_MAX_TEXT} characters at most.", param=name)
        return value.strip()

    def _duration(self, name: str) -> float | None:
        value = self.body.get(name)
        if value is None:
            return None
        try:
            return parse_duration(value)
        except UnitError as error:
            raise InvalidRequest(f"`{name}`: {error.message} ({error.advice}).", param=name) from error

    def tags(self, name: str) -> dict[str, str]:
        """Tags given as an object. Raises InvalidRequest."""
        value = self.body.get(name)
        if not isinstance(value, dict) or not value or not all(isinstance(text, str) for text in value.values()):
            raise InvalidRequest(f'`{name}` must be tags, such as {{"region": "eu"}}.', param=name)
        return value


class Operations:
    """The verbs of the admin API that change something. Each raises InvalidRequest, NotFound, Unprocessable
    and StoreUnavailable, and then nothing has changed."""

    def __init__(self, journal: Journal, applies: Applies, clock: Clock) -> None:
        self._journal = journal
        self._applies = applies
        self._clock = clock

    async def switch(self, config: Config, model: str, order: Order) -> dict[str, Any]:
        """Send a route's traffic elsewhere: `{"target": NAME}` or `{"split": {NAME: WEIGHT}}`."""
        route = next((route for route in config.routes if route.model == model), None)
        if route is None:
            raise NotFound(f"There is no route {model!r}. Routes: {_listed(r.model for r in config.routes)}.")
        split = _split(config, order.body)
        was = route.weights
        return await self._put(f"route/{model}", {"split": split}, order, "switch", {"file": was})

    async def failover(self, config: Config, order: Order) -> dict[str, Any]:
        """Move every route's share from targets with the tags `from` to their counterparts with the tags `to`."""
        left, taken = order.tags("from"), order.tags("to")
        leaving = [name for name, target in config.targets.items() if left.items() <= target.tags.items()]
        if not leaving:
            raise NotFound(f"No target has the tags {_pairs(left)}.")
        moves = {name: counterparts(config, name, taken) for name in leaving}
        stuck = [name for name, places in moves.items() if not places]
        if len(stuck) == len(leaving):
            raise Unprocessable(
                f"No target with the tags {_pairs(taken)} can stand in for {_listed(leaving)}: "
                "it needs the same dialect and the same model, and to be in service."
            )
        name = f"failover/{_pairs(left)}"
        done = await self._put(name, {"from": left, "to": taken}, order, "failover", {"moves": moves})
        return {**done, "moves": moves, "without_counterpart": stuck}

    async def eject(self, config: Config, name: str, order: Order) -> dict[str, Any]:
        """Take a target out of service."""
        _known_target(config, name)
        return await self._put(f"target/{name}", {"ejected": True}, order, "eject", {})

    async def isolate(
        self, config: Config, order: Order, evidence: list[dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        """Refuse a `key`, a `target` or a `tag` (`name=value`), and keep `evidence` of what it last did."""
        kinds = [kind for kind in ("key", "target", "tag") if isinstance(order.body.get(kind), str)]
        if len(kinds) != 1:
            raise InvalidRequest("Name one of `key`, `target` and `tag`.")
        kind, subject = kinds[0], str(order.body[kinds[0]])
        if kind == "target":
            _known_target(config, subject)
        elif kind == "key" and subject not in {key.id for key in config.keys or ()}:
            raise NotFound(f"There is no key {subject!r}.")
        elif kind == "tag" and not all(subject.partition("=")):
            raise InvalidRequest("`tag` must be name=value.", param="tag")
        kept = (evidence or [])[:_EVIDENCE]
        return await self._put(f"isolate/{kind}/{subject}", {}, order, "isolate", {"evidence": kept})

    async def undo(self, name: str, action: str, actor: str, reason: str) -> dict[str, Any]:
        """End the override `name`. Raises NotFound when there is none."""
        dropped = await self._journal.drop(name)
        if dropped is None:
            raise NotFound(f"There is no override {name!r} to undo.")
        await self._record(AuditEntry(self._clock.wall(), actor, action, name, reason, {"was": dropped.value}))
        await self._applies.refresh_overrides()
        return {"override": name, "undone": True, "was": dropped.value}

    async def record(self, actor: str, action: str, subject: str, reason: str, detail: Mapping[str, Any]) -> None:
        """Write down a change that is no override."""
        await self._record(AuditEntry(self._clock.wall(), actor, action, subject, reason, dict(detail)))

    async def _put(
        self, name: str, value: dict[str, Any], order: Order, action: str, detail: dict[str, Any]
    ) -> dict[str, Any]:
        now_s = self._clock.wall()
        until_s = None if order.for_s is None else now_s + order.for_s
        # First the audit: a change that nobody can trace must not be made.
        entry = AuditEntry(now_s, order.actor, action, name, order.reason, {**value, **detail, "until_s": until_s})
        await self._record(entry)
        await self._journal.put(Override(name, value, order.actor, order.reason, now_s, until_s))
        await self._applies.refresh_overrides()
        return {"override": name, "value": value, "until": None if until_s is None else show_moment(until_s)}

    async def _record(self, entry: AuditEntry) -> None:
        await self._journal.record(entry)


def show_moment(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _split(config: Config, body: Mapping[str, Any]) -> dict[str, float]:
    target, split = body.get("target"), body.get("split")
    if (target is None) == (split is None):
        raise InvalidRequest("Name either `target` or `split`.")
    if target is not None:
        split = {target: 1.0}
    if not isinstance(split, dict) or not split:
        raise InvalidRequest('`split` must be weights by target, such as {"a": 90, "b": 10}.', param="split")
    weights: dict[str, float] = {}
    for name, weight in split.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1e9:
            raise InvalidRequest(f"The weight of {name!r} must be a number of at least 0.", param="split")
        _known_target(config, name)
        reason = config.targets[name].out_of_service
        if reason is not None and weight > 0:
            raise Unprocessable(f"Target {name} is out of service: {reason}.")
        weights[name] = float(weight)
    if not any(weights.values()):
        raise InvalidRequest("The weights add up to 0.", param="split")
    return weights


def _known_target(config: Config, name: object) -> None:
    if name not in config.targets:
        raise NotFound(f"There is no target {name!r}. Targets: {_listed(config.targets)}.")


def _listed(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:20]) + (f" and {len(listed) - 20} more" if len(listed) > 20 else "")


def _pairs(tags: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(tags.items()))
