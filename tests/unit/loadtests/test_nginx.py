"""The two nginx configurations."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from loadtests import nginx


def test_the_canned_answer_is_a_chat_completion_of_about_700_bytes() -> None:
    answer = json.loads(nginx.CANNED)
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]
    assert 600 < len(nginx.CANNED) < 800


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
@pytest.mark.parametrize("name", ["yardstick", "canned"])
def test_nginx_accepts_the_configuration(tmp_path: Path, name: str) -> None:
    text = nginx.yardstick(tmp_path, 18080, 18081) if name == "yardstick" else nginx.canned(tmp_path, 18080)
    (tmp_path / f"{name}.conf").write_text(text)
    checked = subprocess.run([*nginx.command(tmp_path, name), "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
