"""How long and how hard a bench runs, from the command line."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BASELINE = Path(__file__).parent / "baseline.json"


@dataclass(frozen=True, slots=True)
class Options:
    """The sizes of every scenario. Times in seconds, rates in requests a second."""

    only: tuple[str, ...] = ()
    """Names of the scenarios to run; all when empty."""
    pairs: int = 3
    """How often nginx and the gateway take turns."""
    measure_s: float = 5.0
    """One measured run of throughput, latency, streams or workers."""
    connections: int = 64
    rate: float = 0.0
    """Requests a second of the latency scenario; 0 = half of what the gateway can do here."""
    streams: int = 500
    gap_ms: int = 20
    cancels: int = 20_000
    warm_up: int = 5_000
    """Streams cancelled before the storm that counts, at least; a fifth of it when that is more, up to 10,000."""
    cancel_pace: int = 120
    """Streams that are open at once in the disconnect storm."""
    reload_s: float = 30.0
    reload_rate: float = 450.0
    requests: int = 60_000
    """Requests of the soak."""
    calls: int = 3_000
    """Calls that the agents make."""
    overload_s: float = 60.0
    starts: int = 3
    """How often the cold start is timed."""
    seed: int = 7
    priority: bool = False
    """Whether everything runs at a higher priority than what else the machine does; needs root."""
    accept: bool = False
    baseline: Path = BASELINE
    report: Path | None = None
    """Where to write the figures as JSON as well."""


QUICK = Options(
    pairs=1,
    measure_s=1.0,
    streams=200,
    cancels=1_500,
    warm_up=2_000,
    reload_s=4.0,
    requests=8_000,
    starts=1,
    calls=2_000,
    overload_s=15.0,
)
"""About two minutes: enough to see that something broke, not enough to see that it got 5 % slower."""


def parse(arguments: Sequence[str], scenarios: Sequence[str]) -> Options:
    """Options from command line arguments; exits with a usage text when they are wrong."""
    known = argparse.ArgumentParser(
        prog="python -m loadtests.bench",
        description="The gateway beside nginx on the same core: one table of ratios. "
        "Exit 1 when a target is missed or the baseline is worse by more than 15 %%.",
    )
    known.add_argument("--quick", action="store_true", help="about two minutes, coarse")
    known.add_argument(
        "--only", action="append", default=[], choices=scenarios, metavar="NAME", help=", ".join(scenarios)
    )
    known.add_argument("--pairs", type=_positive, help="turns of nginx and the gateway")
    known.add_argument("--measure", type=float, metavar="SECONDS", help="length of one measured run")
    known.add_argument("--connections", type=_positive, help="client connections of the throughput scenario")
    known.add_argument("--rate", type=float, metavar="PER_SECOND", help="latency scenario; default: half load")
    known.add_argument("--streams", type=_positive, help="concurrent streams")
    known.add_argument("--gap", type=_positive, metavar="MS", help="time between two chunks of a stream")
    known.add_argument("--cancels", type=_positive, help="streams cancelled in the disconnect storm")
    known.add_argument("--reload-seconds", type=float, help="length of the reload scenario")
    known.add_argument("--requests", type=_positive, help="requests of the soak")
    known.add_argument("--calls", type=_positive, help="calls of the agents")
    known.add_argument("--overload-seconds", type=float, help="length of the overload")
    known.add_argument("--seed", type=int, help="of every random choice")
    known.add_argument(
        "--priority", action="store_true", help="run at nice -10 (root), where others use the machine too"
    )
    known.add_argument("--accept", action="store_true", help="write the figures as the new baseline")
    known.add_argument("--baseline", type=Path, help="default: loadtests/baseline.json")
    known.add_argument("--report", type=Path, help="write the figures there as JSON, too")
    given = known.parse_args(arguments)
    base = QUICK if given.quick else Options()
    return Options(
        only=tuple(given.only),
        pairs=given.pairs or base.pairs,
        measure_s=given.measure or base.measure_s,
        connections=given.connections or base.connections,
        rate=given.rate or base.rate,
        streams=given.streams or base.streams,
        gap_ms=given.gap or base.gap_ms,
        cancels=given.cancels or base.cancels,
        warm_up=base.warm_up,
        cancel_pace=base.cancel_pace,
        reload_s=given.reload_seconds or base.reload_s,
        reload_rate=base.reload_rate,
        requests=given.requests or base.requests,
        calls=given.calls or base.calls,
        overload_s=given.overload_seconds or base.overload_s,
        starts=base.starts,
        seed=base.seed if given.seed is None else given.seed,
        priority=given.priority,
        accept=given.accept,
        baseline=given.baseline or base.baseline,
        report=given.report,
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number
