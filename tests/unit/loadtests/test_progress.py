"""The progress line."""

import io

from loadtests.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_each_step_is_a_line_where_nobody_watches() -> None:
    out = io.StringIO()
    progress = Progress(out)
    progress.scenario("storm")
    progress.step("one")
    progress.step("one")
    progress.end()
    assert [line.partition("] ")[2] for line in out.getvalue().splitlines()] == ["storm", "storm: one"]


def test_the_line_is_rewritten_on_a_terminal() -> None:
    out = Terminal()
    progress = Progress(out)
    progress.step("one")
    progress.end()
    assert "\n" not in out.getvalue()
    assert out.getvalue().endswith("\r\x1b[K")
