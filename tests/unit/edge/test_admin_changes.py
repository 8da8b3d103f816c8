"""The admin API's verbs."""

from datetime import UTC, datetime
from typing import Any, cast

import httpx
import pytest

from gateway.config.load import load
from gateway.core.errors import StoreUnavailable
from gateway.edge.admin import admin_app
from gateway.edge.control import Control
from gateway.store.base import AuditEntry, BudgetState, Grant, Journal, Override, Spend
from gateway.telemetry.metrics import Registry
from tests.fakes import FakeClock, FakeFleet, loaded, memory_store

pytestmark = pytest.mark.anyio

TEXT = """\
apiVersion: gateway/v1
targets:
  a: {provider: mock, model: m, price: {request: $0.01}, tags: {region: eu}}
  b: {provider: mock, model: m, price: {request: $0.01}, tags: {region: us}}
routes:
  - {model: chat, split: {a: 90, b: 10}}
  - {model: "org/*", target: a}
limits:
  - {name: rpm, requests: 600/min}
  - {name: team, per: [tag.team], budget: $10/day}
  - {name: idle, budget: $5/month}
"""
UNTIL = 1_700_003_600.0
STATE = BudgetState("team", "tag.team=ml", "2023-11-14", UNTIL, 2_500_000_000, 1_000_000_000, 500_000_000)


class GoneJournal:
    """A journal whose store does not answer."""

    async def record(self, entry: AuditEntry) -> None:
        """Fail."""
        raise StoreUnavailable("The store does not answer.", retry_after_s=1.0)

    async def audit(self, limit: int) -> list[AuditEntry]:
        """Fail."""
        raise StoreUnavailable("The store does not answer.", retry_after_s=1.0)


class Desk:
    """An admin plane over a fake fleet and a real journal, called without a socket."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.clock = FakeClock()
        self.journal = journal if journal is not None else memory_store(self.clock).journal
        self.registry = Registry()
        self.fleet = FakeFleet()
        configured = loaded(TEXT)
        self.control = Control(
            lambda: configured.sources, configured, self.fleet, self.registry, self.clock, self.journal
        )
        self.app = admin_app(self.control, self.fleet, self.journal, self.clock)

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        """One request."""
        content = {} if body is None else {"content": body} if isinstance(body, bytes) else {"json": body}
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, f"/admin/v1/{path}", headers=headers, **content)

    async def overrides(self) -> list[str]:
        """Names of those in force."""
        return list(await self.journal.overrides())

    async def audited(self) -> list[tuple[str, str, str]]:
        """Who did what to what, newest first."""
        return [(entry.actor, entry.action, entry.subject) for entry in await self.journal.audit(10)]


async def test_a_switch_is_made_shown_and_undone() -> None:
    desk = Desk()
    answer = await desk.ask("POST", "routes/chat/switch", {"target": "b", "reason": "drill", "for": "2h"})
    assert (answer.status_code, answer.json()["value"]) == (200, {"split": {"b": 1.0}})
    assert answer.json()["until"] == "2023-11-15T00:13:20Z"
    assert await desk.overrides() == ["route/chat"]
    [applied] = desk.fleet.applied
    assert list(applied.overrides) == ["route/chat"]
    shown = (await desk.ask("GET", "config")).json()["overrides"]
    assert [override["name"] for override in shown] == ["route/chat"]
    answer = await desk.ask("DELETE", "routes/chat/switch?reason=over")
    assert answer.json() == {"override": "route/chat", "undone": True, "was": {"split": {"b": 1.0}}}
    assert await desk.overrides() == []
    assert await desk.audited() == [("admin", "undo", "route/chat"), ("admin", "switch", "route/chat")]
    assert (await desk.ask("DELETE", "routes/chat/switch")).status_code == 404


async def test_a_route_whose_name_has_slashes_and_stars_is_switched() -> None:
    desk = Desk()
    answer = await desk.ask("POST", "routes/org%2F%2A/switch", {"split": {"b": 1}, "reason": "drill"})
    assert answer.json()["override"] == "route/org/*"


@pytest.mark.parametrize(
    ("header", "actor"), [("ada", "ada"), ("x" * 200, "x" * 100), ("", "admin"), ("a\tb", "admin")]
)
async def test_the_audit_has_the_name_that_the_caller_gives(header: str, actor: str) -> None:
    desk = Desk()
    await desk.ask("POST", "targets/a/eject", {"reason": "drill"}, **{"x-gateway-actor": header})
    assert (await desk.audited())[0] == (actor, "eject", "target/a")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("POST", "routes/chat/switch", b"{", 400, "not JSON"),
        ("POST", "routes/chat/switch", b"[" * 70_000, 400, "larger than any change"),
        ("POST", "routes/chat/switch", b"[" * 60_000, 400, "not JSON"),
        ("POST", "routes/chat/switch", b"[]", 400, "Send a JSON object"),
        ("POST", "routes/chat/switch", {"target": "b"}, 400, "`reason` is missing"),
        ("POST", "routes/none/switch", {"target": "b", "reason": "x"}, 404, "no route 'none'"),
        ("POST", "failover", {"from": {"region": "eu"}, "to": {"region": "mars"}, "reason": "x"}, 422, "stand in"),
        ("DELETE", "failover", None, 400, "`from` is missing"),
        ("POST", "isolate", {"reason": "x"}, 400, "Name one of"),
        ("DELETE", "isolate", None, 400, "Name one of"),
        ("POST", "targets/none/eject", {"reason": "x"}, 404, "no target 'none'"),
        ("POST", "targets/none/restore", {"reason": "x"}, 404, "no target 'none'"),
        ("GET", "audit?limit=0", None, 400, "from 1 to 1000"),
        ("GET", "audit?limit=1001", None, 400, "from 1 to 1000"),
        ("GET", "audit?limit=all", None, 400, "from 1 to 1000"),
        ("GET", "spend?from=yesterday", None, 400, "`from` must be a day"),
        ("GET", "spend?to=2026-13-01", None, 400, "`to` must be a day"),
    ],
)
async def test_what_makes_no_sense_is_refused_in_words_and_changes_nothing(
    method: str, path: str, body: object, status: int, text: str
) -> None:
    desk = Desk()
    answer = await desk.ask(method, path, body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert text in error["message"]
    assert error["code"]
    assert (await desk.overrides(), desk.fleet.applied, desk.fleet.granted) == ([], [], [])


async def test_a_failover_is_made_and_undone() -> None:
    desk = Desk()
    body = {"from": {"region": "eu"}, "to": {"region": "us"}, "reason": "drill"}
    answer = await desk.ask("POST", "failover", body)
    assert (answer.json()["moves"], answer.json()["without_counterpart"]) == ({"a": ["b"]}, [])
    assert await desk.overrides() == ["failover/region=eu"]
    assert (await desk.ask("DELETE", "failover?from=region=eu")).status_code == 200
    assert await desk.overrides() == []


async def test_an_isolation_asks_for_evidence_and_is_undone() -> None:
    desk = Desk()
    desk.fleet.kept = [{"request_id": "r-1"}]
    assert (await desk.ask("POST", "isolate", {"tag": "team=ml", "reason": "leak"})).status_code == 200
    assert desk.fleet.asked_for_evidence == [("tag", "team=ml")]
    [entry] = await desk.journal.audit(1)
    assert entry.detail["evidence"] == [{"request_id": "r-1"}]
    assert (await desk.ask("DELETE", "isolate?tag=team%3Dml")).status_code == 200
    assert await desk.overrides() == []


async def test_a_target_is_ejected_and_restored() -> None:
    desk = Desk()
    await desk.ask("POST", "targets/a/eject", {"reason": "drill"})
    answer = await desk.ask("POST", "targets/a/restore", {"reason": "well"})
    assert answer.json() == {"target": "a", "restored": True}
    assert (await desk.overrides(), desk.fleet.restored) == ([], ["a"])
    assert await desk.audited() == [("admin", "restore", "target/a"), ("admin", "eject", "target/a")]


async def test_a_target_that_only_its_breaker_took_out_is_restored_and_that_is_audited() -> None:
    desk = Desk()
    await desk.ask("POST", "targets/a/restore", {"reason": "well"})
    assert desk.fleet.restored == ["a"]
    assert await desk.audited() == [("admin", "restore", "target/a")]


async def test_limits_are_shown_with_what_they_decided() -> None:
    desk = Desk()
    desk.registry.counter("gateway_limit_decisions_total", "rpm", "allowed").value = 7
    desk.registry.counter("gateway_limit_decisions_total", "rpm", "refused").value = 2
    desk.fleet._snapshots = [desk.registry.snapshot(), desk.registry.snapshot()]
    limits = (await desk.ask("GET", "limits")).json()["limits"]
    assert [(limit["name"], limit["decisions"]) for limit in limits] == [
        ("rpm", {"allowed": 14, "refused": 4}),
        ("team", {}),
        ("idle", {}),
    ]
    assert (limits[0]["requests"], limits[1]["budget"], limits[1]["per"]) == ("600/min", "$10.00/day", ["tag.team"])


async def test_budgets_are_shown_with_what_is_left_and_those_that_nobody_used() -> None:
    desk = Desk()
    gone = BudgetState("renamed", "", "2023-11-14", UNTIL, 1, 1, 1)
    overdrawn = BudgetState("idle", "", "2023-11", UNTIL, 6_000_000_000, 0, 0)
    desk.fleet.counters = [STATE, gone, overdrawn]
    shown = (await desk.ask("GET", "budgets")).json()
    assert shown["unused"] == []
    team, idle = shown["budgets"]
    assert team == {
        "name": "team",
        "scope": "tag.team=ml",
        "period": "2023-11-14",
        "resets": "2023-11-14T23:13:20Z",
        "limit_usd": 10.0,
        "granted_usd": 0.5,
        "spent_usd": 2.5,
        "held_usd": 1.0,
        "left_usd": 7.0,
        "spent_nusd": 2_500_000_000,
        "held_nusd": 1_000_000_000,
        "limit_nusd": 10_500_000_000,
    }
    assert (idle["spent_usd"], idle["left_usd"]) == (6.0, 0.0)
    desk.fleet.counters = []
    assert (await desk.ask("GET", "budgets")).json()["unused"] == [
        {"name": "team", "limit_usd": 10.0, "counters": 0},
        {"name": "idle", "limit_usd": 5.0, "counters": 0},
    ]


async def test_a_grant_is_given_and_audited() -> None:
    desk = Desk()
    body = {"amount": "$50", "until": "2023-11-15T00:00:00+01:00", "reason": "sale"}
    answer = (await desk.ask("POST", "budgets/team/grant", body)).json()
    [grant] = desk.fleet.granted
    assert grant == Grant(answer["grant"], "team", "*", 50_000_000_000, 1_700_002_800.0)
    assert (answer["budget"], answer["amount_usd"], answer["until"]) == ("team", 50.0, "2023-11-14T23:00:00Z")
    [entry] = await desk.journal.audit(1)
    assert (entry.action, entry.subject, entry.detail["grant"]) == ("grant", "budget/team", grant.id)
    await desk.ask("POST", "budgets/team/grant", body | {"scope": "tag.team=ml"})
    assert desk.fleet.granted[1].scope == "tag.team=ml"
    assert desk.fleet.granted[1].id != grant.id


@pytest.mark.parametrize(
    ("name", "change", "status", "param"),
    [
        ("rpm", {}, 404, None),
        ("none", {}, 404, None),
        ("team", {"amount": 50}, 400, "amount"),
        ("team", {"amount": "50"}, 400, "amount"),
        ("team", {"amount": None}, 400, "amount"),
        ("team", {"until": None}, 400, "until"),
        ("team", {"until": "tomorrow"}, 400, "until"),
        ("team", {"until": "2026-11-21T18:00:00"}, 400, "until"),
        ("team", {"scope": 5}, 400, "scope"),
        ("team", {"reason": ""}, 400, "reason"),
    ],
)
async def test_a_grant_without_its_parts_gives_nothing(
    name: str, change: dict[str, Any], status: int, param: str | None
) -> None:
    desk = Desk()
    body = {"amount": "$50", "until": "2026-11-21T18:00:00Z", "reason": "sale"} | change
    answer = await desk.ask("POST", f"budgets/{name}/grant", body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert (desk.fleet.granted, await desk.journal.audit(5)) == ([], [])


async def test_spend_is_shown_by_its_dimensions() -> None:
    desk = Desk()
    desk.fleet.totals = [Spend("2026-11-21", "checkout", "chat", "a", (("team", "ml"),), 3, 10, 20, 1_500_000_000)]
    shown = (await desk.ask("GET", "spend?from=2026-11-01&to=2026-11-30")).json()
    assert desk.fleet.asked_for_days == [("2026-11-01", "2026-11-30")]
    assert (shown["from"], shown["to"]) == ("2026-11-01", "2026-11-30")
    [row] = shown["spend"]
    assert (row["key"], row["tags"], row["requests"], row["cost_usd"]) == ("checkout", {"team": "ml"}, 3, 1.5)


async def test_without_days_the_spend_of_today_is_shown() -> None:
    desk = Desk()
    before = datetime.now(UTC).strftime("%Y-%m-%d")
    shown = (await desk.ask("GET", "spend")).json()
    assert shown["from"] == shown["to"] >= before


async def test_the_audit_is_shown_newest_first_with_its_moments() -> None:
    desk = Desk()
    for action in ("first", "second", "third"):
        await desk.journal.record(AuditEntry(1_700_000_000.0, "ada", action, "x", "why", {"n": 1}))
    shown = (await desk.ask("GET", "audit?limit=2")).json()["audit"]
    assert [entry["action"] for entry in shown] == ["third", "second"]
    assert (shown[0]["at"], shown[0]["detail"]) == ("2023-11-14T22:13:20Z", {"n": 1})
    assert len((await desk.ask("GET", "audit")).json()["audit"]) == 3


@pytest.mark.parametrize(
    ("method", "path", "body"), [("GET", "audit", None), ("POST", "targets/a/eject", {"reason": "drill"})]
)
async def test_while_the_store_is_gone_the_answer_says_when_to_come_back(method: str, path: str, body: object) -> None:
    """F73: a change that cannot be audited is not made."""
    gone = GoneJournal()
    desk = Desk(gone)  # type: ignore[arg-type]
    answer = await desk.ask(method, path, body)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["code"] == "store_unavailable"
    assert desk.fleet.applied == []


async def test_an_override_from_elsewhere_is_shown_too() -> None:
    desk = Desk()
    await desk.journal.put(Override("target/a", {"ejected": True}, "ada", "drill", 1.0, None))
    await desk.control.refresh_overrides()
    [shown] = (await desk.ask("GET", "config")).json()["overrides"]
    assert shown == {
        "name": "target/a",
        "value": {"ejected": True},
        "actor": "ada",
        "reason": "drill",
        "since_s": 1.0,
        "until_s": None,
    }


def test_the_configuration_of_these_tests_is_sound() -> None:
    assert load(loaded(TEXT).sources).config.limits[1].name == "team"


@pytest.mark.parametrize(
    ("query", "scope"),
    [
        ("key=checkout", "key:checkout"),
        ("tag=team%3Dml", "tag:team=ml"),
        ("route=org/*&reason=leak", "route:org/*"),
        ("prompt_version=greeting%403", "prompt:greeting@3"),
        (f"entry={'AB' * 32}", f"entry:{'ab' * 32}"),
    ],
)
async def test_stored_replies_are_purged_by_one_scope_and_that_is_audited(query: str, scope: str) -> None:
    desk = Desk()
    answer = await desk.ask("DELETE", f"cache?{query}", x_gateway_actor="ada")
    assert (answer.status_code, answer.json()) == (
        200,
        {"scope": scope, "epoch": 1, "matched": 1, "is_complete": True},
    )
    assert desk.fleet.purged == [scope]
    [entry] = await desk.journal.audit(10)
    assert (entry.action, entry.subject) == ("purge", f"cache/{scope}")
    assert entry.reason == ("leak" if "leak" in query else "purged")


@pytest.mark.parametrize(
    "query", ["", "key=", "key=a&route=b", "key=a&key=b", "prompt=a%401", "key=a&tga=b%3Dc", "tag=team", "entry=12"]
)
async def test_a_purge_that_is_not_understood_removes_nothing(query: str) -> None:
    """Neither more nor less than was meant."""
    desk = Desk()
    answer = await desk.ask("DELETE", f"cache?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert (desk.fleet.purged, await desk.journal.audit(10)) == ([], [])


async def test_what_cannot_be_audited_is_not_purged() -> None:
    desk = Desk(cast(Journal, GoneJournal()))
    assert (await desk.ask("DELETE", "cache?key=a")).status_code == 503
    assert desk.fleet.purged == []
