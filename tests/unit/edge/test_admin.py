"""The admin plane."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from gateway.config.load import Sources, load
from gateway.edge.admin import admin_app
from gateway.edge.control import Control
from gateway.store.base import Override
from gateway.telemetry.metrics import Registry
from tests.fakes import MOCK_CONFIG, FakeClock, FakeFleet, memory_store

pytestmark = pytest.mark.anyio

TOKEN = {"authorization": "Bearer t-1"}
GUARDED = MOCK_CONFIG.replace("targets:", "server: {admin_token: env:ADMIN_TOKEN}\ntargets:")
SECRETS = GUARDED.replace(
    "routes:", "  o: {provider: openai, base_url: 'http://h/v1', api_key: env:UP, model: m}\nroutes:"
)


class Desk:
    """An admin plane over a fake fleet, called without a socket."""

    def __init__(self, text: str = MOCK_CONFIG, environ: Mapping[str, str] | None = None, **fleet: Any) -> None:
        self.text = text
        self.environ = environ or {"ADMIN_TOKEN": "t-1"}
        registry = Registry()
        registry.configure(["demo"], ["mock"])
        self.fleet = FakeFleet(snapshots=[registry.snapshot()], **fleet)
        clock = FakeClock()
        self.journal = memory_store(clock).journal
        self.control = Control(self._read, load(self._read()), self.fleet, registry, clock, self.journal)
        self.app = admin_app(self.control, self.fleet, self.journal, clock)
        registry.series("demo", "mock").count("ok")
        self.fleet._snapshots = [registry.snapshot(), registry.snapshot()]

    def _read(self) -> Sources:
        return Sources.of_text(self.text, self.environ)

    async def ask(self, path: str, *, method: str = "GET", host: str = "127.0.0.1", **more: Any) -> httpx.Response:
        """One request."""
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.request(method, path, **more)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/metrics"])
async def test_health_and_metrics_need_no_token(path: str) -> None:
    assert (await Desk(GUARDED).ask(path)).status_code == 200


@pytest.mark.parametrize(
    "path", ["/admin/v1/config", "/admin/v1/routes", "/", "/livez/", "/Livez", "//livez", "/admin%2fv1%2fconfig"]
)
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer t-2"}, {"authorization": "t-1"}])
async def test_everything_else_needs_the_token_however_it_is_spelled(path: str, headers: dict[str, str]) -> None:
    """F107."""
    answer = await Desk(GUARDED).ask(path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "t-1" not in answer.text


async def test_the_token_opens_it() -> None:
    assert (await Desk(GUARDED).ask("/admin/v1/config", headers=TOKEN)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://127.0.0.1"}, 200),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
async def test_a_web_page_of_another_origin_changes_nothing(headers: dict[str, str], status: int) -> None:
    """F120."""
    assert (await Desk().ask("/admin/v1/reload", method="POST", headers=headers)).status_code == status
    assert (await Desk().ask("/admin/v1/config", headers=headers)).status_code == 200


async def test_without_a_token_only_loopback_names_are_served() -> None:
    """F101."""
    desk = Desk()
    assert (await desk.ask("/admin/v1/config")).status_code == 200
    answer = await desk.ask("/admin/v1/config", host="evil.example")
    assert answer.status_code == 400
    assert "evil.example" in answer.json()["error"]["message"]


async def test_with_a_token_any_host_is_served() -> None:
    desk = Desk(GUARDED)
    for _ in range(2):
        assert (await desk.ask("/admin/v1/routes", host="gateway.example", headers=TOKEN)).status_code == 200


async def test_a_new_token_counts_from_the_reload_on() -> None:
    desk = Desk(GUARDED)
    desk.environ = {"ADMIN_TOKEN": "t-2"}
    answer = await desk.ask("/admin/v1/reload", method="POST", headers=TOKEN)
    assert answer.json()["changed"] is True
    assert (await desk.ask("/admin/v1/config", headers=TOKEN)).status_code == 401
    assert (await desk.ask("/admin/v1/config", headers={"authorization": "Bearer t-2"})).status_code == 200


@pytest.mark.parametrize(("path", "status"), [("/livez", 200), ("/readyz", 503), ("/healthz", 503)])
async def test_a_fleet_that_drains_is_alive_but_not_ready(path: str, status: int) -> None:
    """F82."""
    assert (await Desk(is_ready=False).ask(path)).status_code == status


async def test_readiness_says_why_when_asked() -> None:
    desk = Desk(SECRETS)
    answer = await desk.ask("/readyz?verbose")
    assert answer.status_code == 200
    assert answer.json() == {
        "ready": True,
        "config_revision": desk.control.loaded.revision,
        "last_reload_faults": 0,
        "targets_out_of_service": {"o": "UP is not set"},
        "store": {"kind": "memory", "up": True},
    }
    assert (await Desk(is_ready=False).ask("/readyz?verbose")).status_code == 503


async def test_metrics_are_the_sum_of_all_processes_in_the_format_asked_for() -> None:
    desk = Desk()
    answer = await desk.ask("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'gateway_requests_total{outcome="ok",route="demo",target="mock"} 2.0' in answer.text
    answer = await desk.ask("/metrics", headers={"accept": "application/openmetrics-text"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


async def test_the_configuration_is_shown_without_a_secret() -> None:
    """F114."""
    desk = Desk(SECRETS, {"ADMIN_TOKEN": "t-1", "UP": "sk-upstream"})
    answer = await desk.ask("/admin/v1/config", headers=TOKEN)
    shown = answer.json()
    assert shown["revision"] == desk.control.loaded.revision
    assert shown["overrides"] == []
    assert shown["last_reload"] == {"successful": True, "faults": []}
    assert "sk-upstream" not in answer.text
    assert "t-1" not in answer.text


async def test_readiness_does_not_hang_on_the_store_but_says_that_it_is_gone() -> None:
    """F73."""
    desk = Desk()
    registry = Registry()
    registry.gauge("gateway_store_up").value = 0.0
    desk.fleet._snapshots = [registry.snapshot()]
    answer = await desk.ask("/readyz?verbose")
    assert (answer.status_code, answer.json()["store"]) == (200, {"kind": "memory", "up": False})


async def test_overrides_are_shown_beside_the_file() -> None:
    desk = Desk()
    override = Override("route/demo", {"split": {"mock": 1.0}}, "ada", "drill", 1.0, None)
    await desk.journal.put(override)
    await desk.control.refresh_overrides()
    [shown] = (await desk.ask("/admin/v1/config")).json()["overrides"]
    assert (shown["name"], shown["actor"], shown["reason"]) == ("route/demo", "ada", "drill")


async def test_a_reload_of_a_broken_file_tells_its_faults() -> None:
    """F77."""
    desk = Desk()
    desk.text = MOCK_CONFIG.replace("target: mock", "target: mokc")
    answer = await desk.ask("/admin/v1/reload", method="POST")
    assert answer.status_code == 422
    assert "mokc" in answer.json()["faults"][0]
    shown = (await desk.ask("/admin/v1/config")).json()
    assert shown["last_reload"]["successful"] is False


async def test_a_reload_of_a_sound_file_tells_the_revision() -> None:
    desk = Desk()
    desk.text = MOCK_CONFIG.replace("demo", "changed")
    answer = await desk.ask("/admin/v1/reload", method="POST")
    assert (answer.status_code, answer.json()["changed"], answer.json()["faults"]) == (200, True, [])
    assert answer.json()["revision"] == desk.control.loaded.revision
    assert len(desk.fleet.applied) == 1


async def test_routes_and_targets_are_listed() -> None:
    desk = Desk(SECRETS)
    open_one = {"open": 1, "idle": 1, "in_use": 0, "waiting": 0}
    desk.fleet.states = {"mock": {"connections": open_one, "breaker": {"state": "closed"}}}
    [route] = (await desk.ask("/admin/v1/routes", headers=TOKEN)).json()["routes"]
    assert (route["model"], route["split"]) == ("demo", {"mock": 1.0})
    targets = (await desk.ask("/admin/v1/targets", headers=TOKEN)).json()["targets"]
    assert [(target["name"], target["in_service"]) for target in targets] == [("mock", True), ("o", False)]
    assert [target.get("connections") for target in targets] == [open_one, None]
    # Until the fleet tells of its state, `breaker` is what the file says of it.
    assert targets[0]["breaker"] == {"state": "closed"}
    assert targets[1]["breaker"]["consecutive"] == 5


async def test_a_request_can_be_asked_about() -> None:
    desk = Desk()
    desk.fleet.requests["req-1"] = {"request_id": "req-1", "route": "demo"}
    assert (await desk.ask("/admin/v1/requests/req-1")).json() == {"request_id": "req-1", "route": "demo"}
    answer = await desk.ask("/admin/v1/requests/req-2")
    assert answer.status_code == 404
    assert "req-2" in answer.json()["error"]["message"]


async def test_what_does_not_exist_is_said_in_json() -> None:
    desk = Desk()
    assert (await desk.ask("/admin/v1/nothing")).json()["error"]["message"].startswith("No such path")
    answer = await desk.ask("/admin/v1/reload")
    assert answer.status_code == 405
    assert "GET is not for this path" in answer.json()["error"]["message"]


async def test_what_is_not_http_is_not_served() -> None:
    desk = Desk()
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/livez", "headers": []}
    await desk.app(scope, receive, send)
    assert sent == []
