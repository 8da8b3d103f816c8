"""`make bench`: every scenario in turn, then one table of figures with the target beside each."""

import asyncio
import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from loadtests import machine
from loadtests.figures import Figure, failures, load_baseline, render, save_baseline
from loadtests.options import Options, parse
from loadtests.processes import BenchFailure, require
from loadtests.progress import Progress
from loadtests.rig import Rig
from loadtests.scenarios import (
    agents,
    coldstart,
    drain,
    latency,
    limits,
    outage,
    overload,
    reload,
    resilience,
    soak,
    storm,
    streams,
    switch,
    throughput,
    workers,
)

Scenario = Callable[[Rig], Awaitable[list[Figure]]]
SCENARIOS: dict[str, Scenario] = {
    "coldstart": coldstart.run,
    "throughput": throughput.run,
    "latency": latency.run,
    "streams": streams.run,
    "storm": storm.run,
    "reload": reload.run,
    "drain": drain.run,
    "soak": soak.run,
    "workers": workers.run,
    "limits": limits.run,
    "outage": outage.run,
    "agents": agents.run,
    "resilience": resilience.run,
    "overload": overload.run,
    "switch": switch.run,
}
TOOLS = {"nginx": "nginx", "wrk": "wrk", "taskset": "util-linux", "redis-server": "redis-server"}
BUSY = 1.0
"""Load average from which on a warning is given: somebody else is using the machine."""


async def run_all(options: Options, folder: Path, progress: Progress) -> tuple[list[Figure], list[str]]:
    """The figures of the chosen scenarios, and the faults of those that could not be run."""
    cores = machine.plan_cores(os.sched_getaffinity(0))
    # The driver in this process must not take time from the measured core.
    os.sched_setaffinity(0, set(cores.driver))
    if options.priority:
        # Every process of the bench inherits it, nginx too, so the ratios stay fair.
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    rig = Rig.build(folder, cores, options, progress)
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    figures: list[Figure] = []
    faults: list[str] = []
    try:
        for name, scenario in SCENARIOS.items():
            if options.only and name not in options.only:
                continue
            progress.scenario(name)
            try:
                figures += await scenario(rig)
            except* (BenchFailure, OSError, TimeoutError) as group:
                faults.append(f"{name}: {_first(group)}")
                progress.step("failed")
    finally:
        rig.kill_all()
        progress.end()
    return figures, faults


def _first(group: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, BenchFailure):
        return str(error)
    return "".join(traceback.format_exception(error)).strip()


def main(arguments: list[str]) -> int:
    """Run the bench. 0 when every target is met and nothing fell behind the baseline, 1 otherwise."""
    options = parse(arguments, tuple(SCENARIOS))
    progress = Progress()
    here = machine.describe()
    say = sys.stdout.write
    try:
        require(TOOLS)
    except (BenchFailure, subprocess.SubprocessError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    _raise_file_limit()
    _warn(sys.stderr.write)
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                figures, faults = runner.run(run_all(options, Path(folder), progress))
        except (KeyboardInterrupt, asyncio.CancelledError):
            sys.stderr.write("stopped; every process of the bench has ended\n")
            return 130
    baseline = load_baseline(options.baseline)
    say(f"{here}\n\n{render(figures, baseline, here)}\n")
    if baseline is not None and baseline.machine != here:
        say(f"\nThe baseline is from another machine ({baseline.machine}): only ratios and counts are compared.\n")
    if options.report is not None:
        options.report.write_text(json.dumps([dataclasses.asdict(figure) for figure in figures], indent=2) + "\n")
    if options.accept and not faults:
        save_baseline(options.baseline, figures, here)
        say(f"\nWritten as the baseline to {options.baseline}\n")
        baseline = load_baseline(options.baseline)
    wrong = failures(figures, baseline, here)
    for fault in faults:
        say(f"\nFAILED {fault}\n")
    if wrong:
        say(f"\n{len(wrong)} of {len(figures)} figures are not as they should be: {'; '.join(wrong)}\n")
    return 1 if wrong or faults else 0


def _raise_file_limit() -> None:
    """As many open files as are allowed: a thousand streams need several thousand."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _warn(say: Callable[[str], object]) -> None:
    cores = machine.plan_cores(os.sched_getaffinity(0))
    if not cores.isolated:
        say("Only one core: server, upstream and driver share it, so only the CPU ratios mean something.\n")
    load = os.getloadavg()[0]
    if load > BUSY:
        say(f"The machine is busy (load {load:.1f}); trust the CPU ratios more than times and rates.\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
