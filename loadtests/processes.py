"""Processes that the bench starts, pins to cores, and ends again by their own pids."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests import machine

REPOSITORY = Path(__file__).resolve().parent.parent
POLICY = Path("/usr/sbin/policy-rc.d")


class BenchFailure(Exception):
    """Something the bench needs did not work; the text says what, for the person who ran it."""


@dataclass(slots=True)
class Child:
    """A process of the bench."""

    name: str
    process: subprocess.Popen[bytes]
    output: Path
    """Its standard output; errors are beside it, as `.err`."""

    @property
    def pid(self) -> int:
        """Its process id; descendants are counted by `machine.family`."""
        return self.process.pid

    def cpu_s(self) -> float:
        """CPU seconds it and its descendants have used."""
        return machine.cpu_s(self.pid)

    def rss_bytes(self) -> int:
        """Resident memory of it and its descendants."""
        return machine.rss_bytes(self.pid)

    def last_words(self) -> str:
        """The end of what it wrote to standard error, for a failure's text."""
        text = self.output.with_suffix(".err").read_text(errors="replace")
        return "\n".join(text.splitlines()[-12:])


def start(name: str, command: Sequence[str], cores: Sequence[int], folder: Path, output: Path | None = None) -> Child:
    """Start `command` on `cores`, in a session of its own so that Ctrl-C reaches the bench alone."""
    output = output or folder / f"{name}.out"
    pinned = ["taskset", "-c", ",".join(map(str, cores)), *command] if shutil.which("taskset") else list(command)
    # Appending lets a long run cut its log back to nothing while the process goes on writing.
    with output.open("ab") as out, output.with_suffix(".err").open("ab") as err:
        process = subprocess.Popen(
            pinned, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True, env=_environ()
        )
    return Child(name, process, output)


def _environ() -> Mapping[str, str]:
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    # A proxy setting of the shell must not reach loopback traffic.
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**clean, "PYTHONPATH": path}


async def wait_for_port(child: Child, port: int, within_s: float = 20.0) -> None:
    """Return when `port` accepts connections. Raises BenchFailure when the process ends or the time is over."""
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    while loop.time() < until:
        if child.process.poll() is not None:
            raise BenchFailure(f"{child.name} ended with {child.process.returncode}:\n{child.last_words()}")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        writer.close()
        return
    raise BenchFailure(f"{child.name} did not listen on {port} within {within_s:g} s:\n{child.last_words()}")


async def wait_for_exit(child: Child, within_s: float) -> int | None:
    """The exit status, or None when it still runs after `within_s`."""
    await becomes(lambda: child.process.poll() is not None, within_s)
    return child.process.returncode


async def becomes(condition: Callable[[], bool], within_s: float) -> bool:
    """Whether `condition` comes true within `within_s`; looked at every 20 ms."""
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    while loop.time() < until:
        if condition():
            return True
        await asyncio.sleep(0.02)
    return condition()


async def stop(child: Child, grace_s: float = 5.0) -> None:
    """End it politely, then for good, with whatever it has started."""
    if child.process.poll() is None:
        child.process.terminate()
        if await wait_for_exit(child, grace_s) is None:
            kill(child)


def kill(child: Child) -> None:
    """End a process and its descendants at once."""
    for member in machine.family(child.pid):
        try:
            os.kill(member.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    if child.process.poll() is None:
        child.process.wait(timeout=5)


def require(tools: Mapping[str, str]) -> None:
    """Make sure that `tools` (command → Debian package) are there; as root, installs what is missing.

    Raises BenchFailure with the packages to install otherwise.
    """
    missing = sorted({package for command, package in tools.items() if shutil.which(command) is None})
    if not missing:
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        _install(missing)
    if any(shutil.which(command) is None for command in tools):
        names = " ".join(missing)
        raise BenchFailure(f"The bench needs {names}. Install it first: sudo apt-get install {names}")


def _install(packages: Sequence[str]) -> None:
    sys.stderr.write(f"installing {' '.join(packages)}\n")
    # Debian starts a freshly installed nginx as a service, on port 80; the bench wants the program alone.
    blocked = not POLICY.exists()
    if blocked:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update", "-q"], ["install", "-qy", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", *arguments], check=False, env=environ, stdout=subprocess.DEVNULL)
    finally:
        if blocked:
            POLICY.unlink()
