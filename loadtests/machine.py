"""The machine under the bench: its cores, and what a process has used of it (Linux, procfs)."""

import os
import platform
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where: the measured server alone on `server`, everything else on the other cores."""

    server: tuple[int, ...]
    second: tuple[int, ...]
    """A core for a second worker, beside `server`."""
    upstream: tuple[int, ...]
    driver: tuple[int, ...]

    @property
    def isolated(self) -> bool:
        """Whether the measured server shares its core with no part of the bench."""
        return not set(self.server) & {*self.upstream, *self.driver}


def plan_cores(available: Iterable[int]) -> Cores:
    """The cores for each part: server last, upstream first, drivers between, as far as there are that many."""
    cores = sorted(available)
    server = cores[-1:]
    rest = cores[:-1] or cores
    upstream = rest[:1]
    driver = rest[1:] or rest
    return Cores(server=tuple(server), second=tuple(driver[-1:]), upstream=tuple(upstream), driver=tuple(driver))


def describe() -> str:
    """CPU model, number of usable cores and Python version: what makes two runs comparable."""
    model = platform.processor() or platform.machine()
    for line in (PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """What /proc/PID/stat says of one process."""

    pid: int
    parent: int
    cpu_s: float
    """User and system time."""
    rss_bytes: int


def parse_stat(text: str) -> ProcessStat:
    """One line of /proc/PID/stat (proc(5)); the command's name may hold spaces and parentheses."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return ProcessStat(
        pid=int(head.split(" ", 1)[0]),
        parent=int(fields[1]),
        cpu_s=(int(fields[11]) + int(fields[12])) * TICK_S,
        rss_bytes=int(fields[21]) * PAGE_BYTES,
    )


def family(pid: int) -> list[ProcessStat]:
    """A process and all its living descendants; empty when it is gone."""
    everyone = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                everyone.append(parse_stat((entry / "stat").read_text()))
            except OSError:
                # It ended between the listing and the reading.
                continue
    members = {pid}
    grown = True
    while grown:
        grown = False
        for process in everyone:
            if process.parent in members and process.pid not in members:
                members.add(process.pid)
                grown = True
    return [process for process in everyone if process.pid in members]


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and its living descendants have used."""
    return sum(process.cpu_s for process in family(pid))


def rss_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants; pages that they share count each time."""
    return sum(process.rss_bytes for process in family(pid))
