"""What is wrong with a configuration, and where: a fault is one line that an editor can jump to."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple


class Place(NamedTuple):
    """A position in a source. Lines and columns count from 1; line 0 means the source as a whole."""

    file: str
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, or doubtful (`severity`), with what to do about it."""

    file: str
    line: int
    column: int
    message: str
    advice: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        """`file:line:column: message (advice)`, as compilers write it."""
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        doubt = "warning: " if self.severity == "warning" else ""
        advice = f" ({self.advice})" if self.advice else ""
        return _on_one_line(f"{where}: {doubt}{self.message}{advice}")

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place(self.file, self.line, self.column)


def _on_one_line(text: str) -> str:
    # A fault repeats what was written; a line break or an escape sequence in it must not forge another (F132).
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


class ConfigError(Exception):
    """A configuration that cannot be used; `faults` has every reason at once, errors and warnings, in file order."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


def error(place: Place, message: str, advice: str = "") -> Fault:
    """A fault that makes the configuration unusable."""
    return Fault(*place, message, advice)


def warning(place: Place, message: str, advice: str = "") -> Fault:
    """A fault that the gateway can live with."""
    return Fault(*place, message, advice, "warning")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Advice naming the closest of `known`; empty when none is close."""
    folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f"did you mean `{folded[close[0]]}`?" if close else ""


def in_order(faults: Iterable[Fault], files: Iterable[str]) -> list[Fault]:
    """`faults` without repetitions, by file in the order of `files`, then by line and column."""
    rank = {name: number for number, name in enumerate(files)}
    return sorted(
        dict.fromkeys(faults), key=lambda fault: (rank.get(fault.file, len(rank)), fault.file, fault.line, fault.column)
    )
