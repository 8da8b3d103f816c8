"""Processes that the bench starts and ends."""

import sys
from pathlib import Path

import pytest

from loadtests import machine, processes
from loadtests.processes import BenchFailure

pytestmark = pytest.mark.anyio


def python(code: str, folder: Path) -> processes.Child:
    return processes.start("child", [sys.executable, "-c", code], [0], folder)


async def test_a_child_is_ended_with_its_descendants(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); print('ready', flush=True);"
        "signal.pause()"
    )
    child = python(code, tmp_path)
    assert await processes.becomes(lambda: "ready" in child.output.read_text(), 10)
    assert len(machine.family(child.pid)) == 2
    await processes.stop(child, grace_s=0.05)
    assert machine.family(child.pid) == []


async def test_a_child_that_dies_before_it_listens_is_reported_with_its_last_words(tmp_path: Path) -> None:
    child = python("import sys; sys.exit('no such option')", tmp_path)
    with pytest.raises(BenchFailure, match="ended with 1:\nno such option"):
        await processes.wait_for_port(child, machine.free_port())


async def test_an_exit_status_is_waited_for(tmp_path: Path) -> None:
    assert await processes.wait_for_exit(python("raise SystemExit(3)", tmp_path), 10) == 3


def test_tools_that_are_there_need_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    processes.require({"sh": "dash"})
    assert capsys.readouterr().err == ""


def test_missing_tools_are_named_with_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(BenchFailure, match="sudo apt-get install nosuchpackage"):
        processes.require({"nosuchcommand": "nosuchpackage"})
