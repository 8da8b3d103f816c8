"""What the scenarios stand on."""

import io
import subprocess
from pathlib import Path

from loadtests.configs import Setting
from loadtests.machine import plan_cores
from loadtests.options import QUICK
from loadtests.processes import Child
from loadtests.progress import Progress
from loadtests.rig import Gateway, Rig, metric_sum

EXPOSITION = """# TYPE gateway_upstream_connections gauge
gateway_upstream_connections{target="a",state="in_use"} 3
gateway_upstream_connections{target="a",state="idle"} 7
gateway_upstream_connections{target="b",state="in_use"} 1.5
gateway_upstream_connections_total{target="b",state="in_use"} 99
gateway_connections 12
"""


def test_a_metric_is_summed_over_its_series() -> None:
    assert metric_sum(EXPOSITION, "gateway_upstream_connections", {"state": "in_use"}) == 4.5
    assert metric_sum(EXPOSITION, "gateway_upstream_connections", {}) == 11.5
    assert metric_sum(EXPOSITION, "gateway_connections", {}) == 12
    assert metric_sum(EXPOSITION, "gateway_absent", {}) == 0


def rig(folder: Path) -> Rig:
    return Rig.build(folder, plan_cores([0]), QUICK, Progress(io.StringIO()))


def test_a_rig_has_its_files_and_a_command_for_the_gateway(tmp_path: Path) -> None:
    made = rig(tmp_path).gateway_command(Setting(1), workers=2)
    assert made.config.exists() and (tmp_path / "chat.lua").exists()
    assert made.command[1:4] == ["-m", "gateway", "serve"]
    assert made.command[-2:] == ["--workers", "2"]
    assert made.port != made.admin_port


def test_a_configuration_is_rewritten_in_place_or_by_rename(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("one")
    with subprocess.Popen(["true"]) as process:
        gateway = Gateway(Child("gateway", process, tmp_path / "out"), 1, 2, config)
    inode = config.stat().st_ino
    gateway.rewrite("two", by_rename=False)
    assert (config.read_text(), config.stat().st_ino) == ("two", inode)
    gateway.rewrite("three", by_rename=True)
    assert config.read_text() == "three" and config.stat().st_ino != inode
