"""The configurations that the bench writes."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtests import configs
from loadtests.configs import KEY, Setting

SETTING = Setting(1234, "bench:gap=5ms,tokens=50", collector_port=4318)


def load(text: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def test_everything_is_switched_on(tmp_path: Path) -> None:
    config = load(configs.gateway(tmp_path, SETTING))
    assert config["telemetry"] == {"logs": "json", "traces": {"otlp": "http://127.0.0.1:4318", "sample": "1%"}}
    assert config["keys"][0]["hash"] == "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()
    assert config["targets"]["upstream"]["model"] == "bench:gap=5ms,tokens=50"
    assert config["routes"] == [{"model": "bench", "target": "upstream"}]


def test_traces_are_off_without_a_collector(tmp_path: Path) -> None:
    assert "traces" not in load(configs.gateway(tmp_path, Setting(1)))["telemetry"]


def test_the_key_itself_is_in_no_configuration(tmp_path: Path) -> None:
    assert KEY not in configs.gateway(tmp_path, SETTING)


def test_the_files_that_secrets_refer_to_are_written(tmp_path: Path) -> None:
    configs.secrets(tmp_path)
    assert (tmp_path / "upstream.key").read_text().strip()
    assert (tmp_path / "admin.token").read_text().strip() == configs.ADMIN_TOKEN


def test_sixty_reloads_are_sixty_different_files_ten_of_them_broken(tmp_path: Path) -> None:
    made = [configs.variant(tmp_path, SETTING, turn) for turn in range(60)]
    assert len({text for text, _ in made}) == 60
    assert sum(not good for _, good in made) == 10


@pytest.mark.parametrize(("turn", "routes", "targets"), [(0, 1, 1), (1, 2, 1), (2, 1, 2), (3, 1, 1), (4, 1, 2)])
def test_good_variants_keep_the_route_in_use(tmp_path: Path, turn: int, routes: int, targets: int) -> None:
    text, good = configs.variant(tmp_path, SETTING, turn)
    config = load(text)
    assert good
    assert (len(config["routes"]), len(config["targets"])) == (routes, targets)
    assert config["routes"][0]["model"] == "bench"


def test_the_broken_variant_has_an_unknown_key(tmp_path: Path) -> None:
    text, good = configs.variant(tmp_path, SETTING, 5)
    assert not good and "tarket" in load(text)["routes"][1]
