"""Recorded provider answers, where they are at hand: `../shared/data` beside the checkout."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

_RECORDINGS = Path(__file__).resolve().parents[4] / "shared" / "data" / "cassettes"


def _existing(path: Path) -> Path:
    if not path.is_file():
        pytest.skip("no recorded answers beside this checkout")
    return path


@pytest.fixture
def openai_recording() -> Callable[[str], bytes]:
    """The body of the first answer in an OpenAI cassette, by file name; skips where there is none."""

    def read(name: str) -> bytes:
        text = _existing(_RECORDINGS / "openai" / name).read_text("utf-8")
        body: str = yaml.safe_load(text)["interactions"][0]["response"]["body"]
        return body.encode()

    return read


@pytest.fixture
def anthropic_recording() -> Callable[[str], bytes]:
    """An Anthropic stream with its last blank line, by file name; skips where there is none."""

    def read(name: str) -> bytes:
        return _existing(_RECORDINGS / "anthropic" / name).read_bytes().rstrip(b"\n") + b"\n\n"

    return read
