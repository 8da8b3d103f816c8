"""wrk's script and its output."""

import pytest

from loadtests.client import chat_body
from loadtests.processes import BenchFailure
from loadtests.wrk import Load, parse, script

OUTPUT = """Running 2s test @ http://127.0.0.1:1
  2 threads and 64 connections
Requests/sec:  46140.18
{"requests":90000,"duration_us":2000000,"p50_us":1346,"p99_us":2366,"status":1,"broken":2}
"""


def test_the_last_line_has_the_figures() -> None:
    load = parse(OUTPUT)
    assert load == Load(90000, 2.0, 1.346, 2.366, refused=1, broken=2)
    assert load.per_second == 45000


def test_output_without_figures_is_shown() -> None:
    with pytest.raises(BenchFailure, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused")


def test_the_script_sends_a_key_and_the_body() -> None:
    text = script(chat_body("bench"), "sk-1")
    assert 'wrk.headers["Authorization"] = "Bearer sk-1"' in text
    assert chat_body("bench") in text
    assert "{{" not in text
