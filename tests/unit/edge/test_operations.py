"""What operators change at run time."""

from typing import Any

import pytest

from gateway.config.schema import Config
from gateway.core.errors import GatewayError, InvalidRequest, NotFound
from gateway.edge.operations import Operations, Order, Unprocessable, show_moment
from gateway.store.base import AuditEntry, Override
from tests.fakes import FakeClock, loaded, memory_store

pytestmark = pytest.mark.anyio

CONFIG = loaded(
    """\
apiVersion: gateway/v1
keys: [{id: checkout, hash: "sha256:%s"}]
targets:
  eu: {provider: mock, model: m, tags: {region: eu}}
  us: {provider: mock, model: m, tags: {region: us}}
  lone: {provider: mock, model: other, tags: {region: eu}}
  dead: {provider: openai, base_url: "http://127.0.0.1:1/v1", api_key: env:NOT_SET, model: m}
routes:
  - {model: chat, split: {eu: 90, lone: 10}}
"""
    % ("ab" * 32)
).config


class Desk:
    """The verbs over a real journal in memory."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = memory_store(self.clock)
        self.refreshed = 0
        self.operations = Operations(self.store.journal, self, self.clock)

    async def refresh_overrides(self) -> None:
        """Count the call."""
        self.refreshed += 1

    async def overrides(self) -> dict[str, Override]:
        """Those in force."""
        return dict(await self.store.journal.overrides())

    async def last_entry(self) -> AuditEntry:
        """The newest of the audit."""
        [entry] = await self.store.journal.audit(1)
        return entry


def order(body: dict[str, Any] | None = None, **more: Any) -> Order:
    """What somebody asks for, with a reason."""
    return Order({"reason": "drill", **(body or {}), **more}, "ada")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], None),
        ("text", None),
        ({}, "reason"),
        ({"reason": " "}, "reason"),
        ({"reason": 5}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"reason": "x", "for": "2"}, "for"),
        ({"reason": "x", "for": 2}, "for"),
    ],
)
def test_an_order_says_why_and_how_long(body: object, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Order(body, "ada")
    assert refused.value.param == param


def test_an_order_without_a_time_lasts_until_it_is_undone() -> None:
    assert (order().for_s, order({"for": "2h"}).for_s) == (None, 7200.0)
    assert Order({"reason": "  drill "}, "ada").reason == "drill"


@pytest.mark.parametrize("tags", [None, {}, [], "region=eu", {"region": 1}])
def test_tags_of_an_order_are_an_object_of_texts(tags: object) -> None:
    with pytest.raises(InvalidRequest, match="`from` must be tags"):
        order({"from": tags}).tags("from")


async def test_a_switch_is_audited_kept_and_served() -> None:
    desk = Desk()
    answer = await desk.operations.switch(CONFIG, "chat", order({"target": "us", "for": "60s"}))
    assert answer == {"override": "route/chat", "value": {"split": {"us": 1.0}}, "until": "2023-11-14T22:14:20Z"}
    [override] = (await desk.overrides()).values()
    assert (override.name, override.actor, override.reason) == ("route/chat", "ada", "drill")
    assert (override.since_s, override.until_s) == (1_700_000_000.0, 1_700_000_060.0)
    entry = await desk.last_entry()
    assert (entry.actor, entry.action, entry.subject, entry.reason) == ("ada", "switch", "route/chat", "drill")
    assert entry.detail == {
        "split": {"us": 1.0},
        "file": {"eu": 90.0, "lone": 10.0},
        "until_s": 1_700_000_060.0,
    }
    assert desk.refreshed == 1


async def test_a_switch_by_weights_lasts_until_it_is_undone() -> None:
    desk = Desk()
    answer = await desk.operations.switch(CONFIG, "chat", order(split={"eu": 1, "us": 3.5, "lone": 0}))
    assert answer["value"] == {"split": {"eu": 1.0, "us": 3.5, "lone": 0.0}}
    assert answer["until"] is None
    undone = await desk.operations.undo("route/chat", "undo", "bob", "better")
    assert undone["was"] == answer["value"]
    assert await desk.overrides() == {}
    entry = await desk.last_entry()
    assert (entry.actor, entry.action, entry.detail) == ("bob", "undo", {"was": answer["value"]})
    assert desk.refreshed == 2


@pytest.mark.parametrize(
    ("body", "error", "text"),
    [
        ({}, InvalidRequest, "either `target` or `split`"),
        ({"target": "us", "split": {"us": 1}}, InvalidRequest, "either `target` or `split`"),
        ({"split": {}}, InvalidRequest, "weights by target"),
        ({"split": ["us"]}, InvalidRequest, "weights by target"),
        ({"split": {"us": -1}}, InvalidRequest, "a number of at least 0"),
        ({"split": {"us": True}}, InvalidRequest, "a number of at least 0"),
        ({"split": {"us": "1"}}, InvalidRequest, "a number of at least 0"),
        ({"split": {"us": 1e10}}, InvalidRequest, "a number of at least 0"),
        ({"split": {"us": 0}}, InvalidRequest, "add up to 0"),
        ({"target": "mars"}, NotFound, "no target 'mars'. Targets: eu, us, lone, dead"),
        ({"target": 5}, NotFound, "no target 5"),
        ({"target": "dead"}, Unprocessable, "NOT_SET is not set"),
    ],
)
async def test_a_switch_that_makes_no_sense_changes_nothing(
    body: dict[str, Any], error: type[GatewayError], text: str
) -> None:
    desk = Desk()
    with pytest.raises(error, match=text):
        await desk.operations.switch(CONFIG, "chat", order(body))
    assert (await desk.overrides(), desk.refreshed, await desk.store.journal.audit(5)) == ({}, 0, [])


async def test_a_target_without_its_credential_may_stand_there_with_weight_0() -> None:
    answer = await Desk().operations.switch(CONFIG, "chat", order(split={"us": 1, "dead": 0}))
    assert answer["value"]["split"]["dead"] == 0.0


async def test_a_switch_of_an_unknown_route_names_those_there_are() -> None:
    with pytest.raises(NotFound, match=r"no route 'chta'\. Routes: chat"):
        await Desk().operations.switch(CONFIG, "chta", order(target="us"))


async def test_names_are_listed_up_to_twenty() -> None:
    routes = "".join(f"  - {{model: r{number}, target: t}}\n" for number in range(25))
    config: Config = loaded(f"apiVersion: gateway/v1\ntargets: {{t: {{provider: mock}}}}\nroutes:\n{routes}").config
    with pytest.raises(NotFound, match="r19 and 5 more"):
        await Desk().operations.switch(config, "none", order(target="t"))


async def test_a_failover_moves_what_has_a_counterpart_and_tells_what_has_none() -> None:
    desk = Desk()
    answer = await desk.operations.failover(CONFIG, order({"from": {"region": "eu"}, "to": {"region": "us"}}))
    assert answer["override"] == "failover/region=eu"
    assert answer["moves"] == {"eu": ["us"], "lone": []}
    assert answer["without_counterpart"] == ["lone"]
    [override] = (await desk.overrides()).values()
    assert override.value == {"from": {"region": "eu"}, "to": {"region": "us"}}
    assert (await desk.last_entry()).detail["moves"] == {"eu": ["us"], "lone": []}


@pytest.mark.parametrize(
    ("left", "taken", "error", "text"),
    [
        ({"region": "asia"}, {"region": "us"}, NotFound, "No target has the tags region=asia"),
        ({"region": "eu"}, {"region": "asia"}, Unprocessable, "No target with the tags region=asia can stand in"),
        ({"region": "eu"}, {}, InvalidRequest, "`to` must be tags"),
    ],
)
async def test_a_failover_to_nowhere_changes_nothing(
    left: dict[str, str], taken: dict[str, str], error: type[GatewayError], text: str
) -> None:
    desk = Desk()
    with pytest.raises(error, match=text):
        await desk.operations.failover(CONFIG, order({"from": left, "to": taken}))
    assert await desk.overrides() == {}


async def test_a_target_is_ejected_for_a_time() -> None:
    desk = Desk()
    await desk.operations.eject(CONFIG, "eu", order({"for": "1m"}))
    assert list(await desk.overrides()) == ["target/eu"]
    desk.clock.advance(61.0)
    assert await desk.overrides() == {}
    with pytest.raises(NotFound):
        await desk.operations.eject(CONFIG, "mars", order())


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"key": "checkout"}, "isolate/key/checkout"),
        ({"target": "eu"}, "isolate/target/eu"),
        ({"tag": "team=a"}, "isolate/tag/team=a"),
    ],
)
async def test_an_isolation_keeps_its_evidence_in_the_audit(body: dict[str, str], name: str) -> None:
    desk = Desk()
    records = [{"request_id": f"r-{number}"} for number in range(150)]
    answer = await desk.operations.isolate(CONFIG, order(body), records)
    assert answer["override"] == name
    assert list(await desk.overrides()) == [name]
    entry = await desk.last_entry()
    assert (entry.action, entry.subject) == ("isolate", name)
    assert entry.detail["evidence"] == records[:100]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, InvalidRequest),
        ({"key": "checkout", "target": "eu"}, InvalidRequest),
        ({"key": 5}, InvalidRequest),
        ({"key": "nobody"}, NotFound),
        ({"target": "mars"}, NotFound),
        ({"tag": "team"}, InvalidRequest),
        ({"tag": "=a"}, InvalidRequest),
        ({"tag": "team="}, InvalidRequest),
    ],
)
async def test_an_isolation_of_nothing_in_particular_changes_nothing(
    body: dict[str, Any], error: type[GatewayError]
) -> None:
    desk = Desk()
    with pytest.raises(error):
        await desk.operations.isolate(CONFIG, order(body))
    assert await desk.overrides() == {}


async def test_what_is_not_in_force_cannot_be_undone() -> None:
    with pytest.raises(NotFound, match="no override 'route/chat' to undo"):
        await Desk().operations.undo("route/chat", "undo", "ada", "drill")


async def test_a_change_that_is_no_override_is_written_down_too() -> None:
    desk = Desk()
    await desk.operations.record("ada", "grant", "budget/team", "sale", {"amount_usd": 5.0})
    entry = await desk.last_entry()
    assert (entry.at_s, entry.subject, entry.detail) == (1_700_000_000.0, "budget/team", {"amount_usd": 5.0})


def test_moments_are_shown_in_utc() -> None:
    assert show_moment(1_700_000_000.9) == "2023-11-14T22:13:20Z"
