"""A real Redis for a bench, that can be paused, killed and started again."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtests.processes import Child, kill


@dataclass(slots=True)
class Redis:
    """A Redis server of the bench's own, on the loopback address; it keeps nothing on disk."""

    child: Child
    port: int
    _start: Callable[[], Child]

    def pause(self) -> None:
        """SIGSTOP: connections stay open, and nothing answers."""
        os.kill(self.child.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT; nothing when it is gone."""
        if self.child.process.poll() is None:
            os.kill(self.child.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: connections are reset, and all that it knew is gone."""
        kill(self.child)

    def restart(self) -> None:
        """Start it again, empty, on the same port; after `kill`."""
        self.child = self._start()


def store_section(folder: Path) -> str:
    """The sections of a configuration that count in the rig's Redis, locally while it is gone."""
    return f"store: {{redis: 'file:{folder}/redis.url'}}\non_store_failure: {{rate_limits: local, budgets: local}}\n"


def redis_command(folder: Path, port: int) -> list[str]:
    """The command line of a Redis on `port` that saves nothing."""
    settings = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    return ["redis-server", "--port", str(port), *settings]
