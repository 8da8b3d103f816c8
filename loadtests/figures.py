"""What a bench found out: figures with their targets, the table of them, and the baseline."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

WORSE = 0.15
"""Share by which a figure may fall behind its baseline before the bench fails."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of the table, with the target it has to meet if there is one."""

    name: str
    value: float
    unit: str
    better: Literal["higher", "lower"]
    target: float | None = None
    low: float | None = None
    """The smallest and largest of the runs behind `value`, which is their median."""
    high: float | None = None
    slack: float = 0.0
    """A difference to the baseline, in `unit`, that is noise whatever its share."""
    portable: bool = True
    """Whether the figure may be compared with one taken on another machine: ratios and counts, not times."""
    guarded: bool = True
    """Whether falling behind the baseline is a failure. Yardsticks are shown, not guarded."""

    @property
    def met(self) -> bool:
        """Whether the target is met; True without a target."""
        if math.isnan(self.value):
            return False
        if self.target is None:
            return True
        return self.value >= self.target if self.better == "higher" else self.value <= self.target

    def fell_behind(self, before: float) -> bool:
        """Whether the value is worse than `before` by more than 15 % and more than `slack`."""
        loss = before - self.value if self.better == "higher" else self.value - before
        return loss > max(abs(before) * WORSE, self.slack)


def median_of(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, smallest and largest of `values`, which must not be empty."""
    return statistics.median(values), min(values), max(values)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` (0..1) of the ascending values lie; nearest rank, NaN when there is none."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The figures of an earlier run that was accepted, and the machine it ran on."""

    machine: str
    values: Mapping[str, float]

    def before(self, figure: Figure, machine: str) -> float | None:
        """The earlier value to compare with, or None when there is none or it came from another kind of machine."""
        if not figure.portable and machine != self.machine:
            return None
        return self.values.get(figure.name)


def load_baseline(path: Path) -> Baseline | None:
    """The accepted baseline, or None when nothing was accepted yet."""
    if not path.exists():
        return None
    stored = json.loads(path.read_text())
    return Baseline(machine=stored["machine"], values=stored["figures"])


def save_baseline(path: Path, figures: Sequence[Figure], machine: str) -> None:
    """Write the guarded figures as the new baseline; figures of scenarios that did not run keep their old values."""
    known = load_baseline(path)
    values = dict(known.values) if known is not None and known.machine == machine else {}
    values.update({figure.name: _short(figure.value) for figure in figures if figure.guarded})
    path.write_text(json.dumps({"machine": machine, "figures": values}, indent=2, sort_keys=True) + "\n")


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def render(figures: Sequence[Figure], baseline: Baseline | None, machine: str) -> str:
    """The table, one line a figure, with a last column that says what is wrong."""
    rows = [("figure", "value", "min-max", "target", "baseline", "")]
    for figure in figures:
        before = baseline.before(figure, machine) if baseline is not None else None
        spread = "" if figure.low is None or figure.high is None else f"{figure.low:.3g}-{figure.high:.3g}"
        sign = "≥" if figure.better == "higher" else "≤"
        target = "" if figure.target is None else f"{sign} {figure.target:g}"
        rows.append(
            (
                figure.name,
                f"{figure.value:,.0f} {figure.unit}"
                if abs(figure.value) >= 1000
                else f"{figure.value:.3g} {figure.unit}",
                spread,
                target,
                "" if before is None else f"{before:.3g}",
                verdict(figure, before),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-" * (sum(widths) + 10))
    return "\n".join(lines)


def verdict(figure: Figure, before: float | None) -> str:
    """`ok`, `MISSED`, `WORSE` than the baseline, or nothing where a figure is only shown."""
    if not figure.met:
        return "MISSED"
    if before is not None and figure.guarded and figure.fell_behind(before):
        return "WORSE"
    return "ok" if figure.target is not None or before is not None else ""


def failures(figures: Sequence[Figure], baseline: Baseline | None, machine: str) -> list[str]:
    """Names of the figures that miss their target or fell behind the baseline."""
    found = []
    for figure in figures:
        before = baseline.before(figure, machine) if baseline is not None else None
        if verdict(figure, before) in ("MISSED", "WORSE"):
            found.append(figure.name)
    return found
