"""The configuration's way from the file to the fleet."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from gateway.config.load import Sources, load, read
from gateway.core.errors import StoreUnavailable
from gateway.edge.control import OVERRIDES_INTERVAL_S, Control, needing_restart
from gateway.store.base import Journal, Override
from gateway.telemetry.metrics import Registry
from tests.fakes import MOCK_CONFIG, FakeClock, FakeFleet, loaded, memory_store

pytestmark = pytest.mark.anyio

CHANGED = MOCK_CONFIG.replace("demo", "changed")
BROKEN = MOCK_CONFIG.replace("target: mock", "target: mokc")


class Desk:
    """A control over one text instead of a file."""

    def __init__(self, take: Callable[[], Sources] | None = None, first: Sources | None = None) -> None:
        self.text = MOCK_CONFIG
        self.fleet = FakeFleet()
        self.registry = Registry()
        self.clock = FakeClock(wall_s=100.0)
        self.journal: Journal = memory_store(self.clock).journal
        loaded = load(first if first is not None else self._read())
        self.control = Control(take or self._read, loaded, self.fleet, self.registry, self.clock, self.journal)

    def _read(self) -> Sources:
        return Sources.of_text(self.text)

    def metrics(self) -> tuple[float, float]:
        """Whether the last reload succeeded, and when one last did."""
        return (
            self.registry.gauge("gateway_config_last_reload_successful").value,
            self.registry.gauge("gateway_config_last_reload_success_timestamp_seconds").value,
        )


async def test_the_first_configuration_counts_as_a_success() -> None:
    desk = Desk()
    assert desk.metrics() == (1.0, 100.0)
    assert desk.fleet.applied == []
    assert desk.control.loaded.config.routes[0].model == "demo"


async def test_a_changed_file_is_served(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.text = CHANGED
    desk.clock.advance(5.0)
    with caplog.at_level(logging.INFO):
        result = await desk.control.reload("SIGHUP")
    assert (result.changed, result.faults) == (True, [])
    assert result.revision == desk.control.loaded.revision
    assert [desired.loaded.config.routes[0].model for desired in desk.fleet.applied] == ["changed"]
    assert desk.metrics() == (1.0, 105.0)
    assert "applied (SIGHUP)" in caplog.text


async def test_an_unchanged_file_is_not_applied_again() -> None:
    desk = Desk()
    result = await desk.control.reload("SIGHUP")
    assert (result.changed, desk.fleet.applied) == (False, [])


async def test_a_broken_file_changes_nothing_and_is_told_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    """F76, F77."""
    desk = Desk()
    before = desk.control.loaded
    desk.text = BROKEN
    desk.clock.advance(5.0)
    with caplog.at_level(logging.ERROR):
        result = await desk.control.reload("file changed")
    assert desk.control.loaded is before
    assert desk.fleet.applied == []
    assert result.revision == before.revision
    assert desk.control.faults == result.faults
    assert "mokc" in result.faults[0]
    assert "mokc" in caplog.text
    assert desk.metrics() == (0.0, 100.0)


async def test_a_mended_file_is_a_success_although_it_changed_nothing() -> None:
    desk = Desk()
    desk.text = BROKEN
    await desk.control.reload("file changed")
    desk.text = MOCK_CONFIG
    desk.clock.advance(5.0)
    result = await desk.control.reload("file changed")
    assert (result.changed, desk.control.faults, desk.metrics()) == (False, [], (1.0, 105.0))


async def test_warnings_of_a_new_configuration_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.text = MOCK_CONFIG + "  - {model: o, target: o}\n"
    desk.text = desk.text.replace(
        "routes:", "  o: {provider: openai, base_url: 'http://h/v1', api_key: env:NO}\nroutes:"
    )
    with caplog.at_level(logging.WARNING):
        result = await desk.control.reload("SIGHUP")
    assert result.changed
    assert "NO" in caplog.text


async def test_reloads_wait_for_each_other() -> None:
    desk = Desk()
    desk.text = CHANGED
    results = await asyncio.gather(*(desk.control.reload("SIGHUP") for _ in range(5)))
    assert [result.changed for result in results].count(True) == 1
    assert len(desk.fleet.applied) == 1


async def test_a_file_is_watched_and_a_refused_one_looked_at_again_when_it_changes(tmp_path: Path) -> None:
    """F76."""
    path = tmp_path / "gateway.yaml"
    path.write_text(MOCK_CONFIG)
    desk = Desk(lambda: read(path, {}), read(path, {}))
    watching = asyncio.ensure_future(desk.control.watch())

    async def until(claim: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not claim():
                await asyncio.sleep(0.02)

    await asyncio.sleep(0)
    path.write_text(BROKEN)
    await until(lambda: bool(desk.control.faults))
    path.write_text(CHANGED)
    await until(lambda: len(desk.fleet.applied) == 1)
    assert desk.control.faults == []
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


@pytest.mark.parametrize(
    ("line", "needed"),
    [
        ("server: {listen: '127.0.0.1:1', admin: '127.0.0.1:2', max_body: 1MiB}", ["server.listen", "server.admin"]),
        ("server: {body_timeout: 1s, drain: 1s, max_inflight: 5}", ["server.body_timeout"]),
        ("telemetry: {logs: 'off', traces: {sample: 5%}}", ["telemetry.logs", "telemetry.traces"]),
        ("environment: other", []),
        ("store: {prefix: other, redis: env:REDIS_URL}", ["store"]),
        ("server: {state_dir: ./elsewhere}", ["server.state_dir"]),
    ],
)
def test_what_is_made_once_needs_a_restart(line: str, needed: list[str]) -> None:
    changed = loaded(f"{MOCK_CONFIG}{line}\n", {"REDIS_URL": "redis://127.0.0.1:1/0"})
    assert needing_restart(loaded().config, changed.config) == needed


def test_the_environment_of_spans_needs_a_restart() -> None:
    traced = MOCK_CONFIG + "telemetry: {traces: {otlp: 'http://h:1'}}\n"
    assert needing_restart(loaded(traced).config, loaded(f"{traced}environment: other\n").config) == ["environment"]


async def test_a_setting_that_needs_a_restart_is_told_once_and_forgotten_when_it_is_taken_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk()
    for text in (MOCK_CONFIG + "server: {listen: '127.0.0.1:1'}\n", CHANGED + "server: {listen: '127.0.0.1:1'}\n"):
        desk.text = text
        await desk.control.reload("SIGHUP")
        assert desk.control.restart_required == ["server.listen"]
    assert caplog.text.count("server.listen changed; takes effect after a restart") == 1
    desk.text = MOCK_CONFIG
    await desk.control.reload("SIGHUP")
    assert desk.control.restart_required == []


def _override(name: str = "route/demo", until_s: float | None = None) -> Override:
    return Override(name, {"split": {"mock": 1.0}}, "ada", "drill", 100.0, until_s)


async def test_an_override_is_served_once_and_told(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    await desk.journal.put(_override())
    with caplog.at_level(logging.INFO):
        await desk.control.refresh_overrides()
        await desk.control.refresh_overrides()
    [desired] = desk.fleet.applied
    assert desired.loaded is desk.control.loaded
    assert list(desired.overrides) == list(desk.control.overrides) == ["route/demo"]
    assert caplog.messages == ["override route/demo by ada: drill"]


async def test_an_override_is_gone_at_its_time(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    await desk.journal.put(_override(until_s=105.0))
    await desk.control.refresh_overrides()
    desk.clock.advance(5.0)
    with caplog.at_level(logging.INFO):
        await desk.control.refresh_overrides()
    assert [len(desired.overrides) for desired in desk.fleet.applied] == [1, 0]
    assert caplog.messages == ["override route/demo is over"]


async def test_a_reload_keeps_the_overrides_in_force() -> None:
    desk = Desk()
    await desk.journal.put(_override())
    await desk.control.refresh_overrides()
    desk.text = CHANGED
    await desk.control.reload("SIGHUP")
    assert list(desk.fleet.applied[-1].overrides) == ["route/demo"]


class GoneJournal:
    """A journal whose store does not answer."""

    def __init__(self) -> None:
        self.asked = 0

    async def overrides(self) -> dict[str, Override]:
        """Count the call, and fail."""
        self.asked += 1
        raise StoreUnavailable("gone")


async def test_overrides_stay_in_force_while_the_store_is_away() -> None:
    """F73."""
    desk = Desk()
    await desk.journal.put(_override())
    await desk.control.refresh_overrides()
    gone = GoneJournal()
    desk.control._journal = cast(Journal, gone)
    with pytest.raises(StoreUnavailable):
        await desk.control.refresh_overrides()
    watching = asyncio.ensure_future(desk.control.watch_overrides())
    await asyncio.sleep(0)
    assert not watching.done()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert gone.asked == 2
    assert list(desk.control.overrides) == ["route/demo"]
    # Twice in a second: a switch is everywhere within it.
    assert OVERRIDES_INTERVAL_S <= 0.5
