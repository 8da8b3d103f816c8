"""The configuration's way from the file to the fleet: at the start, on a change, on request.

A file that cannot be used changes nothing: its faults are logged and kept for `GET config`, the
metric goes to 0, and what is served stays what it was (F76, F77).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter

from gateway.assembly.prices import is_known
from gateway.config.load import ConfigError, Loaded, Sources, load
from gateway.config.schema import Config
from gateway.config.watch import Watcher
from gateway.core.clock import Clock
from gateway.core.errors import StoreUnavailable
from gateway.edge.desired import Desired
from gateway.edge.fleet import Fleet
from gateway.store.base import Journal, Override
from gateway.telemetry.metrics import Registry

logger = logging.getLogger(__name__)

_BOUND_AT_START = (
    "server.listen",
    "server.admin",
    "server.max_header",
    "server.max_connections",
    "server.header_timeout",
    "server.body_timeout",
    "server.write_timeout",
    "server.keepalive_timeout",
    "telemetry.logs",
    "telemetry.traces",
    "server.state_dir",
    "store",
    "cache",
)
"""Settings that listeners, the logger and the tracer are made from; a reload makes no new ones."""

WATCH_INTERVAL_S = 0.25
OVERRIDES_INTERVAL_S = 0.4
"""How often the store is asked for overrides: a switch is in force on every replica within a second."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What became of a reload: `faults` is empty when the file is what is served now."""

    revision: str
    changed: bool
    faults: list[str] = field(default_factory=list)


def needing_restart(started: Config, now: Config) -> list[str]:
    """Settings whose new value a reload cannot bring into force, by their name in the file."""
    changed = []
    for name in _BOUND_AT_START:
        before, after = (attrgetter(name)(config) for config in (started, now))
        if before != after:
            changed.append(name)
    if started.environment != now.environment and started.telemetry.traces.otlp is not None:
        # Metrics and log lines follow; a span's resource is that of the process.
        changed.append("environment")
    return changed


class Control:
    """Reads the configuration, and has the fleet apply it. One reload at a time."""

    def __init__(
        self,
        read: Callable[[], Sources],
        loaded: Loaded,
        fleet: Fleet,
        registry: Registry,
        clock: Clock,
        journal: Journal,
    ) -> None:
        """`loaded` is what the fleet serves already, without any override."""
        self._read = read
        self._loaded = loaded
        self._started = loaded.config
        self._seen = loaded.sources
        self._fleet = fleet
        self._clock = clock
        self._journal = journal
        self._overrides: Mapping[str, Override] = {}
        self._lock = asyncio.Lock()
        self._successful = registry.gauge("gateway_config_last_reload_successful")
        self._succeeded_at = registry.gauge("gateway_config_last_reload_success_timestamp_seconds")
        self.on_rejected: Callable[[list[str]], None] | None = None
        """Called with the faults of a file that could not be used."""
        self.faults: list[str] = []
        self.restart_required: list[str] = []
        """Settings of what is served that wait for a restart to come into force."""
        self._note_success()

    @property
    def loaded(self) -> Loaded:
        """What is served."""
        return self._loaded

    @property
    def overrides(self) -> Mapping[str, Override]:
        """What is in force over the file, by name."""
        return self._overrides

    async def refresh_overrides(self) -> None:
        """Serve with the overrides that the store has now. Raises StoreUnavailable, and then nothing changes."""
        async with self._lock:
            overrides = await self._journal.overrides()
            if overrides == self._overrides:
                return
            await self._fleet.apply(Desired(self._loaded, overrides))
            for name in self._overrides.keys() - overrides.keys():
                logger.info("override %s is over", name)
            for name in overrides.keys() - self._overrides.keys():
                override = overrides[name]
                logger.info("override %s by %s: %s", name, override.actor, override.reason)
            self._overrides = overrides

    async def watch_overrides(self) -> None:
        """Follow the store's overrides; for ever. While the store is away, those in force stay."""
        while True:
            # The store's own state is in the log and in a metric already.
            with suppress(StoreUnavailable):
                await self.refresh_overrides()
            await asyncio.sleep(OVERRIDES_INTERVAL_S)

    def _note_success(self) -> None:
        self.faults = []
        self._successful.value = 1.0
        self._succeeded_at.value = self._clock.wall()

    def _note_restart(self) -> None:
        before, self.restart_required = self.restart_required, needing_restart(self._started, self._loaded.config)
        for name in self.restart_required:
            if name not in before:
                logger.warning("configuration: %s changed; takes effect after a restart", name)

    async def reload(self, cause: str) -> Reloaded:
        """Read the file again and serve with it, if it is sound. `cause` goes into the log."""
        async with self._lock:
            try:
                self._seen = await asyncio.to_thread(self._read)
                loaded = await asyncio.to_thread(load, self._seen, is_known)
            except ConfigError as error:
                self.faults = [str(fault) for fault in error.faults]
                self._successful.value = 0.0
                for fault in self.faults:
                    logger.error("configuration not applied (%s): %s", cause, fault)
                if self.on_rejected is not None:
                    self.on_rejected(self.faults)
                return Reloaded(self._loaded.revision, False, self.faults)
            changed = loaded.revision != self._loaded.revision
            if changed:
                await self._fleet.apply(Desired(loaded, self._overrides))
                self._loaded = loaded
                for warning in loaded.warnings:
                    logger.warning("configuration: %s", warning)
                logger.info("configuration %s applied (%s)", loaded.revision, cause)
                self._note_restart()
            self._note_success()
            return Reloaded(loaded.revision, changed)

    async def watch(self) -> None:
        """Reload whenever a file changes; for ever."""
        watcher = Watcher(self._seen, WATCH_INTERVAL_S)
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            if watcher.changed():
                await self.reload("file changed")
                # A file that was refused is looked at again when it changes again, not before.
                watcher.follow(self._seen)
