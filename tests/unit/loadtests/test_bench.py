"""The bench as a command, with a scenario of the test's own in place of the real ones."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtests import bench
from loadtests.figures import Figure
from loadtests.processes import BenchFailure
from loadtests.rig import Rig


@pytest.fixture
def scenario(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Replaces all scenarios by one that finds the given ratio; below 0 it fails."""

    def replace(value: float) -> None:
        async def run(rig: Rig) -> list[Figure]:
            if value < 0:
                raise BenchFailure("the gateway ended with 2")
            return [Figure("ratio", value, "x nginx", "higher", 0.3)]

        monkeypatch.setattr(bench, "SCENARIOS", {"only": run})
        monkeypatch.setattr(bench, "TOOLS", {})
        monkeypatch.setattr("os.sched_setaffinity", lambda pid, cores: None)

    return replace


def test_a_met_target_is_exit_status_zero(
    scenario: Callable[[float], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario(0.4)
    report = tmp_path / "report.json"
    assert bench.main(["--baseline", str(tmp_path / "none.json"), "--report", str(report)]) == 0
    assert "0.4 x nginx" in capsys.readouterr().out
    assert json.loads(report.read_text())[0]["value"] == 0.4


def test_a_missed_target_is_exit_status_one(
    scenario: Callable[[float], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario(0.2)
    assert bench.main(["--baseline", str(tmp_path / "none.json")]) == 1
    assert "MISSED" in capsys.readouterr().out


def test_an_accepted_baseline_is_what_the_next_run_is_held_to(
    scenario: Callable[[float], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = ["--baseline", str(tmp_path / "baseline.json")]
    scenario(0.6)
    assert bench.main([*baseline, "--accept"]) == 0
    scenario(0.4)
    assert bench.main(baseline) == 1
    assert "WORSE" in capsys.readouterr().out


def test_a_scenario_that_cannot_run_fails_the_bench_and_is_not_accepted(
    scenario: Callable[[float], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario(-1)
    path = tmp_path / "baseline.json"
    assert bench.main(["--baseline", str(path), "--accept"]) == 1
    assert "FAILED only: the gateway ended with 2" in capsys.readouterr().out
    assert not path.exists()
