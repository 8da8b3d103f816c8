"""The admin API's verbs: what operators change, and what they ask about limits, budgets and changes."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.config.units import UnitError, parse_money
from gateway.core.errors import GatewayError, InvalidRequest, NotFound
from gateway.core.money import usd
from gateway.edge.control import Control
from gateway.edge.desired import shown
from gateway.edge.fleet import Fleet
from gateway.edge.operations import Operations, Order, show_moment
from gateway.store.base import BudgetState, Grant, Journal
from gateway.store.blobs import purge_scope
from gateway.telemetry.snapshot import Snapshot, merge

_MAX_AUDIT = 1000
_MAX_BODY = 64 * 1024
_PURGED_BY = frozenset({"key", "tag", "route", "prompt_version", "entry"})

Endpoint = Callable[[Request], Awaitable[Response]]


class Changes:
    """Endpoints that change something, or show what was changed."""

    def __init__(self, control: Control, fleet: Fleet, operations: Operations, journal: Journal) -> None:
        self._control = control
        self._fleet = fleet
        self._operations = operations
        self._journal = journal

    def routes(self) -> list[Route]:
        """Where these endpoints are."""
        listed: list[tuple[str, str, Endpoint]] = [
            ("POST", "/admin/v1/routes/{model:path}/switch", self.switch),
            ("DELETE", "/admin/v1/routes/{model:path}/switch", self.undo_switch),
            ("POST", "/admin/v1/failover", self.failover),
            ("DELETE", "/admin/v1/failover", self.undo_failover),
            ("POST", "/admin/v1/isolate", self.isolate),
            ("DELETE", "/admin/v1/isolate", self.undo_isolate),
            ("POST", "/admin/v1/targets/{name}/eject", self.eject),
            ("POST", "/admin/v1/targets/{name}/restore", self.restore),
            ("GET", "/admin/v1/limits", self.limits),
            ("GET", "/admin/v1/budgets", self.budgets),
            ("POST", "/admin/v1/budgets/{name}/grant", self.grant),
            ("GET", "/admin/v1/spend", self.spend),
            ("DELETE", "/admin/v1/cache", self.purge),
            ("GET", "/admin/v1/audit", self.audit),
        ]
        return [Route(path, _answering(endpoint), methods=[method]) for method, path, endpoint in listed]

    async def switch(self, request: Request) -> Response:
        """Send a route's traffic elsewhere."""
        order = await _order(request)
        config = self._control.loaded.config
        return JSONResponse(await self._operations.switch(config, request.path_params["model"], order))

    async def undo_switch(self, request: Request) -> Response:
        """Send a route's traffic where the file says again."""
        return await self._undo(f"route/{request.path_params['model']}", request)

    async def failover(self, request: Request) -> Response:
        """Move traffic from targets with some tags to those with others."""
        return JSONResponse(await self._operations.failover(self._control.loaded.config, await _order(request)))

    async def undo_failover(self, request: Request) -> Response:
        """End a failover; `?from=region=eu`."""
        return await self._undo(f"failover/{_parameter(request, 'from')}", request)

    async def isolate(self, request: Request) -> Response:
        """Refuse a key, a target or a tag's value."""
        order = await _order(request)
        kind = next((kind for kind in ("key", "target", "tag") if isinstance(order.body.get(kind), str)), None)
        evidence = await self._fleet.evidence(kind, order.body[kind]) if kind is not None else []
        return JSONResponse(await self._operations.isolate(self._control.loaded.config, order, evidence))

    async def undo_isolate(self, request: Request) -> Response:
        """End an isolation; `?key=`, `?target=` or `?tag=`."""
        kind = next((kind for kind in ("key", "target", "tag") if kind in request.query_params), None)
        if kind is None:
            raise InvalidRequest("Name one of `key`, `target` and `tag` in the query.")
        return await self._undo(f"isolate/{kind}/{request.query_params[kind]}", request)

    async def eject(self, request: Request) -> Response:
        """Take a target out of service."""
        order = await _order(request)
        config = self._control.loaded.config
        return JSONResponse(await self._operations.eject(config, request.path_params["name"], order))

    async def restore(self, request: Request) -> Response:
        """Take an ejected target back, whoever or whatever ejected it."""
        order, name = await _order(request), request.path_params["name"]
        if name not in self._control.loaded.config.targets:
            raise NotFound(f"There is no target {name!r}.")
        override = f"target/{name}"
        if override in await self._journal.overrides():
            await self._operations.undo(override, "restore", order.actor, order.reason)
        else:
            await self._operations.record(order.actor, "restore", override, order.reason, {})
        await self._fleet.restore(name)
        return JSONResponse({"target": name, "restored": True})

    async def limits(self, request: Request) -> Response:
        """Every rule, and what it has decided since the start."""
        decided = _decisions(merge(await self._fleet.snapshots()))
        rules = self._control.loaded.config.model_dump(mode="json", by_alias=True)["limits"]
        return JSONResponse({"limits": [{**rule, "decisions": decided.get(rule["name"], {})} for rule in rules]})

    async def budgets(self, request: Request) -> Response:
        """Every budget's counters: spent, held, left, and when they start anew."""
        limits = {limit.name: limit.budget.limit_nusd for limit in self._control.loaded.config.limits if limit.budget}
        states = await self._fleet.budgets()
        known = [_budget(state, limits[state.rule]) for state in states if state.rule in limits]
        used = {state.rule for state in states}
        unused = [
            {"name": name, "limit_usd": usd(limit), "counters": 0} for name, limit in limits.items() if name not in used
        ]
        return JSONResponse({"budgets": known, "unused": unused})

    async def grant(self, request: Request) -> Response:
        """More room in a budget, until a moment: `{"amount": "$50", "until": "...", "reason": "...", "scope": "*"}`."""
        order, name = await _order(request), request.path_params["name"]
        if name not in {limit.name for limit in self._control.loaded.config.limits if limit.budget}:
            raise NotFound(f"There is no budget {name!r}.")
        try:
            amount_nusd = parse_money(order.body.get("amount"))
        except UnitError as error:
            raise InvalidRequest(f"`amount`: {error.message} ({error.advice}).", param="amount") from error
        scope = order.body.get("scope", "*")
        if not isinstance(scope, str):
            raise InvalidRequest("`scope` must be a text, as GET budgets shows it, or *.", param="scope")
        until_s = _moment(order.body.get("until"))
        grant = Grant(uuid4().hex, name, scope, amount_nusd, until_s)
        detail = {"amount_usd": usd(amount_nusd), "scope": scope, "until": show_moment(until_s), "grant": grant.id}
        await self._operations.record(order.actor, "grant", f"budget/{name}", order.reason, detail)
        await self._fleet.grant(grant)
        return JSONResponse({"budget": name, **detail})

    async def spend(self, request: Request) -> Response:
        """Totals of some days (UTC): `?from=2026-11-01&to=2026-11-30`, today when absent."""
        today = datetime.now(UTC).strftime("%Y-%m-%d")
        first, last = (_day(request.query_params.get(name, today), name) for name in ("from", "to"))
        totals = await self._fleet.spend(first, last)
        rows = [{**msgspec.to_builtins(row), "tags": dict(row.tags), "cost_usd": usd(row.cost_nusd)} for row in totals]
        return JSONResponse({"from": first, "to": last, "spend": rows})

    async def purge(self, request: Request) -> Response:
        """Remove stored replies: `?key=`, `?tag=name=value`, `?route=`, `?prompt_version=name@version` or `?entry=`."""
        given = request.query_params.multi_items()
        named = {name: value for name, value in given if name != "reason"}
        # A word that is not understood must not make a purge larger or smaller than was meant.
        if len(given) != len(dict(given)) or not named.keys() <= _PURGED_BY:
            raise InvalidRequest(f"Name exactly one of {', '.join(sorted(_PURGED_BY))} in the query, once.")
        try:
            scope = purge_scope(**named)
        except ValueError as error:
            raise InvalidRequest(f"In the query, {error}.") from error
        reason = request.query_params.get("reason", "purged")[:500]
        await self._operations.record(_actor(request), "purge", f"cache/{scope}", reason, {})
        receipt = await self._fleet.purge(scope)
        return JSONResponse(msgspec.to_builtins(receipt))

    async def audit(self, request: Request) -> Response:
        """Who changed what and why, newest first; `?limit=100`."""
        given = request.query_params.get("limit", "100")
        if not given.isdecimal() or not 1 <= int(given) <= _MAX_AUDIT:
            raise InvalidRequest(f"`limit` must be a number from 1 to {_MAX_AUDIT}.", param="limit")
        entries = await self._journal.audit(int(given))
        return JSONResponse(
            {"audit": [{**msgspec.to_builtins(entry), "at": show_moment(entry.at_s)} for entry in entries]}
        )

    def overrides(self) -> list[dict[str, Any]]:
        """What is in force over the file, for `GET config`."""
        return [shown(override) for override in self._control.overrides.values()]

    async def _undo(self, name: str, request: Request) -> Response:
        reason = request.query_params.get("reason", "undone")
        return JSONResponse(await self._operations.undo(name, "undo", _actor(request), reason[:500]))


def _decisions(snapshot: Snapshot) -> dict[str, dict[str, int]]:
    """What each limit has decided how often, by its name."""
    decided: dict[str, dict[str, int]] = {}
    for sample in snapshot.metrics.get("gateway_limit_decisions_total", []):
        limit, decision = sample.labels
        decided.setdefault(limit, {})[decision] = int(sample.value)
    return decided


def _answering(endpoint: Endpoint) -> Endpoint:
    """`endpoint`, whose errors become replies."""

    async def answering(request: Request) -> Response:
        try:
            return await endpoint(request)
        except GatewayError as error:
            body = {"error": {"message": error.message, "code": error.code, "param": error.param}}
            headers = {} if error.retry_after_s is None else {"retry-after": str(max(1, round(error.retry_after_s)))}
            return JSONResponse(body, status_code=error.status, headers=headers)

    return answering


async def _order(request: Request) -> Order:
    raw = await request.body()
    if len(raw) > _MAX_BODY:
        raise InvalidRequest("The body is larger than any change needs.")
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not JSON: {error}.") from error
    return Order(body, _actor(request))


def _actor(request: Request) -> str:
    """Who says that they ask. The token alone proves the right to; the name is for the audit."""
    given = request.headers.get("x-gateway-actor", "")
    return given[:100] if given.isprintable() and given else "admin"


def _parameter(request: Request, name: str) -> str:
    value = request.query_params.get(name)
    if not value:
        raise InvalidRequest(f"`{name}` is missing in the query.", param=name)
    return value


def _day(text: str, name: str) -> str:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).strftime("%Y-%m-%d")
    except ValueError as error:
        raise InvalidRequest(f"`{name}` must be a day such as 2026-11-21.", param=name) from error


def _moment(value: object) -> float:
    text = value if isinstance(value, str) else ""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest("`until` must be a moment such as 2026-11-21T18:00:00Z.", param="until") from error
    if moment.tzinfo is None:
        raise InvalidRequest("`until` names no time zone; add Z for UTC.", param="until")
    return moment.timestamp()


def _budget(state: BudgetState, limit_nusd: int) -> dict[str, Any]:
    whole = limit_nusd + state.granted_nusd
    return {
        "name": state.rule,
        "scope": state.scope,
        "period": state.period,
        "resets": show_moment(state.ends_at_s),
        "limit_usd": usd(limit_nusd),
        "granted_usd": usd(state.granted_nusd),
        "spent_usd": usd(state.spent_nusd),
        "held_usd": usd(state.held_nusd),
        "left_usd": usd(max(0, whole - state.spent_nusd - state.held_nusd)),
        "spent_nusd": state.spent_nusd,
        "held_nusd": state.held_nusd,
        "limit_nusd": whole,
    }
