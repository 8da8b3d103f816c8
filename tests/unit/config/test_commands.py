"""What the command line does with a configuration."""

import io
import json
import re
from pathlib import Path

from gateway.config.commands import announce_key, check, schema
from gateway.config.load import Sources, load

SOUND = "apiVersion: gateway/v1\ntargets: {a: {provider: mock}}\nroutes: [{model: demo, target: a}]\n"


def test_check_of_a_sound_file_says_so_and_exits_0(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SOUND)
    out = io.StringIO()
    assert check(tmp_path / "a.yaml", {}, out) == 0
    assert re.fullmatch(r".*/a.yaml: ok, revision [0-9a-f]{12}: 1 targets, 1 routes\n", out.getvalue())


def test_check_of_a_doubtful_file_shows_the_doubts_and_exits_0(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SOUND + "keys: []\n")
    out = io.StringIO()
    assert check(tmp_path / "a.yaml", {}, out) == 0
    assert ":4:1: warning: the list of keys is empty" in out.getvalue()


def test_check_of_a_broken_file_shows_every_fault_and_exits_1(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SOUND + "server: {drain: 5, max_bdy: 1MiB}\n")
    out = io.StringIO()
    assert check(tmp_path / "a.yaml", {}, out) == 1
    assert len(out.getvalue().splitlines()) == 2


def test_check_refuses_a_budget_over_a_price_that_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SOUND + "limits: [{name: b, budget: $1/day}]\n")
    out = io.StringIO()
    assert check(tmp_path / "a.yaml", {}, out, lambda provider, model, base_url: False) == 1
    assert "budget `b` applies to `a`, and the price of `demo` is not known" in out.getvalue()
    assert check(tmp_path / "a.yaml", {}, out, lambda provider, model, base_url: True) == 0


def test_a_new_key_is_announced_with_a_line_that_can_be_pasted() -> None:
    out = io.StringIO()
    assert announce_key("checkout", out) == 0
    line = out.getvalue().splitlines()[-1]
    config = load(Sources.of_text(f"{SOUND}keys:\n{line}\n")).config
    assert config.keys is not None
    assert config.keys[0].id == "checkout"


def test_the_schema_shows_defaults_as_they_would_be_written() -> None:
    described = schema()
    server = described["$defs"]["Server"]["properties"]
    assert server["drain"]["default"] == "30s"
    assert server["max_body"]["default"] == "32MiB"
    assert server["listen"]["default"] == "127.0.0.1:8080"
    assert "default" not in server["admin_token"]
    assert described["$id"].startswith("urn:")
    assert described["$defs"]["Retry"]["properties"]["budget"]["default"] == "20%"
    assert described["$defs"]["Hedge"]["properties"]["after"]["default"] == "p95"
    assert described["properties"]["store"]["default"] == "memory"
    json.dumps(described)


def test_the_schema_has_the_patterns_of_units_and_a_description_of_everything() -> None:
    described = schema()
    assert re.search(described["$defs"]["Timeouts"]["properties"]["connect"]["pattern"], "50ms")
    sections = [described, *described["$defs"].values()]
    settings = [setting for section in sections for setting in section["properties"].values()]
    assert all(setting.get("description") for setting in settings)
    assert all(section["additionalProperties"] is False for section in sections)


def test_the_schema_lets_a_target_take_its_provider_from_another() -> None:
    assert schema()["$defs"]["Target"]["anyOf"] == [{"required": ["provider"]}, {"required": ["extends"]}]
