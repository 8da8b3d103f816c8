"""A line on standard error that says what the bench is doing."""

import sys
import time
from typing import TextIO


class Progress:
    """Reports steps as they begin. On a terminal the line is rewritten; elsewhere each step is a line."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stderr if out is None else out
        self._began_s = time.monotonic()
        self._scenario = ""
        self._rewrites = self._out.isatty()
        self._last: str | None = None

    def scenario(self, name: str) -> None:
        """Begin a scenario."""
        self._scenario = name
        self._last = None
        self.step("")

    def step(self, text: str) -> None:
        """Show what happens now, with the seconds since the bench began; a repeated text is shown once."""
        if text == self._last and not self._rewrites:
            return
        self._last = text
        line = f"[{time.monotonic() - self._began_s:5.0f} s] {self._scenario}: {text}".rstrip(": ")
        self._out.write(f"\r\x1b[K{line}" if self._rewrites else f"{line}\n")
        self._out.flush()

    def end(self) -> None:
        """Leave the line, so that the table begins on its own."""
        if self._rewrites:
            self._out.write("\r\x1b[K")
            self._out.flush()
