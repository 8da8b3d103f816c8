"""Changes of files are noticed, whichever way they are made (F80)."""

import os
from pathlib import Path

import pytest

from gateway.config.sources import read
from gateway.config.watch import Watcher

TEXT = "apiVersion: gateway/v1\ninclude: [more/*.yaml]\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A configuration that includes whatever is in `more/`."""
    (tmp_path / "gateway.yaml").write_text(TEXT)
    (tmp_path / "more").mkdir()
    return tmp_path / "gateway.yaml"


def looks(watcher: Watcher, times: int = 4) -> list[bool]:
    """What the watcher says, several times in a row."""
    return [watcher.changed() for _ in range(times)]


def test_nothing_is_said_while_nothing_changes(path: Path) -> None:
    assert not any(looks(Watcher(read(path, {}))))


def test_a_file_written_again_is_noticed_once_when_it_has_come_to_rest(path: Path) -> None:
    watcher = Watcher(read(path, {}))
    path.write_text(TEXT + "environment: prod\n")
    assert looks(watcher) == [False, True, False, False]


def test_an_editors_rename_is_noticed(path: Path) -> None:
    watcher = Watcher(read(path, {}))
    path.with_suffix(".new").write_text(TEXT)
    path.with_suffix(".new").rename(path)
    assert looks(watcher) == [False, True, False, False]


def test_a_swap_of_a_kubernetes_volume_is_noticed(tmp_path: Path) -> None:
    for name in ("..1", "..2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "gateway.yaml").write_text(TEXT)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "gateway.yaml").symlink_to("..data/gateway.yaml")
    watcher = Watcher(read(tmp_path / "gateway.yaml", {}))
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert looks(watcher) == [False, True, False, False]


def test_a_file_is_not_read_while_it_is_being_written(path: Path) -> None:
    watcher = Watcher(read(path, {}))
    path.write_text("api")
    assert not watcher.changed()
    path.write_text("apiVersion: gateway/v1\n")
    assert looks(watcher, 2) == [False, True]


def test_a_file_that_never_rests_is_read_all_the_same(path: Path) -> None:
    watcher = Watcher(read(path, {}))
    said = []
    for length in range(6):
        path.write_text(TEXT + "#" * (length + 1))
        said.append(watcher.changed())
    assert said == [False, False, True, False, False, True]


def test_a_new_file_that_a_glob_includes_is_noticed(path: Path) -> None:
    watcher = Watcher(read(path, {}))
    (path.parent / "more" / "a.yaml").write_text("routes: []\n")
    assert looks(watcher) == [False, True, False, False]


def test_a_file_that_vanishes_and_comes_back_is_noticed(path: Path) -> None:
    watcher = Watcher(read(path, {}))
    path.unlink()
    assert looks(watcher, 2) == [False, True]
    path.write_text(TEXT)
    assert looks(watcher, 2) == [False, True]


def test_a_missing_secret_that_appears_is_noticed(path: Path) -> None:
    path.write_text("targets: {a: {api_key: file:key}}\n")
    watcher = Watcher(read(path, {}))
    (path.parent / "key").write_text("secret")
    assert looks(watcher) == [False, True, False, False]


def test_a_change_between_reading_and_watching_is_not_lost(path: Path) -> None:
    sources = read(path, {})
    path.write_text(TEXT + "environment: prod\n")
    assert True in looks(Watcher(sources))


def test_what_was_read_last_is_what_is_watched(path: Path) -> None:
    watcher = Watcher(read(path, {}))
    other = path.parent / "other.yaml"
    path.write_text("include: [other.yaml]\n")
    assert looks(watcher, 2) == [False, True]
    watcher.follow(read(path, {}))
    assert not any(looks(watcher))
    other.write_text("routes: []\n")
    assert looks(watcher) == [False, True, False, False]


def test_reading_a_file_is_no_change(path: Path) -> None:
    watcher = Watcher(read(path, {}))
    path.read_text()
    os.utime(path.parent)
    assert not any(looks(watcher))
