"""The `gateway` command, in this process."""

import hashlib
import json
import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import __version__
from gateway.cli import main

SOUND = """\
apiVersion: gateway/v1
server: {listen: "127.0.0.1:0", admin: "127.0.0.1:0"}
targets: {a: {provider: mock}}
routes: [{model: demo, target: a}]
"""
BROKEN = SOUND.replace("target: a", "target: b").replace("server: {", "server: {drain: 5, ")
NO_SERVER = "cannot be served"
COMMANDS = (
    *("serve", "check", "schema", "keys", "mock"),
    *("switch", "failover", "isolate", "eject", "restore", "budgets", "why", "audit"),
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no configuration named in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)
    return tmp_path


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """Loggers as they were before, after a command has configured them."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def _status(*argv: str) -> int:
    """The exit status of a command line that is refused, or that ends by itself."""
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_check_of_a_sound_file_exits_0(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.yaml").write_text(SOUND)
    assert main(["check", "a.yaml"]) == 0
    assert re.fullmatch(r"a.yaml: ok, revision [0-9a-f]{12}: 1 targets, 1 routes\n", capsys.readouterr().out)


def test_check_of_a_broken_file_shows_every_fault_with_its_place_and_exits_1(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "a.yaml").write_text(BROKEN)
    assert main(["check", "a.yaml"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [re.match(r"a\.yaml:\d+:\d+: ", line) is not None for line in lines] == [True, True]
    assert "drain" in lines[0]
    assert '"b"' in lines[1] or "`b`" in lines[1]


def test_check_reads_the_environment(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = "{provider: openai, base_url: https://a.example/v1, api_key: env:A_KEY}"
    (here / "a.yaml").write_text(SOUND.replace("{provider: mock}", target))
    monkeypatch.delenv("A_KEY", raising=False)
    assert main(["check", "a.yaml"]) == 0
    assert "A_KEY" in capsys.readouterr().out
    monkeypatch.setenv("A_KEY", "sk-canary")
    assert main(["check", "a.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "A_KEY" not in shown
    assert "sk-canary" not in shown


def test_check_of_a_file_that_is_not_there_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "nowhere.yaml"]) == 1
    assert "nowhere.yaml" in capsys.readouterr().out


def _schemas(node: Any) -> Iterator[dict[str, Any]]:
    """Every schema inside a schema."""
    if not isinstance(node, dict):
        return
    yield node
    for name in ("properties", "$defs", "patternProperties"):
        for each in node.get(name, {}).values():
            yield from _schemas(each)
    for name in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for each in node.get(name, []):
            yield from _schemas(each)
    for name in ("items", "additionalProperties", "propertyNames", "not"):
        yield from _schemas(node.get(name))


def test_the_schema_is_a_json_schema_whose_references_lead_somewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(schema["properties"]) >= {"apiVersion", "server", "keys", "targets", "routes"}
    found = list(_schemas(schema))
    assert len(found) > 100
    types = {"object", "array", "string", "number", "integer", "boolean", "null"}
    for each in found:
        named = each.get("type", [])
        assert set(named if isinstance(named, list) else [named]) <= types
        assert each.get("$ref", "").removeprefix("#/$defs/") in schema["$defs"] or "$ref" not in each
        assert set(each.get("required", [])) <= set(each.get("properties", each.get("required", [])))
        re.compile(each.get("pattern", ""))


def test_a_new_key_has_the_hash_that_the_file_wants(capsys: pytest.CaptureFixture[str]) -> None:
    keys = set()
    for _ in range(2):
        assert main(["keys", "new", "checkout"]) == 0
        shown = re.fullmatch(
            r'key \(shown once\): (\S+)\n\n  - \{id: checkout, hash: "sha256:([0-9a-f]{64})"\}\n',
            capsys.readouterr().out,
        )
        assert shown is not None
        assert hashlib.sha256(shown[1].encode()).hexdigest() == shown[2]
        keys.add(shown[1])
    assert len(keys) == 2


def test_the_version_comes_with_the_commit(capsys: pytest.CaptureFixture[str]) -> None:
    assert _status("--version") == 0
    shown = re.fullmatch(r"gateway (\S+) \(commit ([0-9a-f]{12}|unknown)\)\n", capsys.readouterr().out)
    assert shown is not None
    assert shown[1] == __version__


def test_help_names_the_commands_and_not_the_supervisors_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert _status("--help") == 0
    shown = capsys.readouterr().out
    assert [each for each in COMMANDS if f"    {each} " not in shown] == []
    assert "worker" not in shown


@pytest.mark.parametrize("argv", [(), ("serv",), ("check",), ("keys",), ("keys", "new"), ("serve", "--port", "1")])
def test_a_command_line_that_means_nothing_exits_2(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert _status(*argv) == 2
    assert "usage: gateway" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["0", "-1", "257", "many", "1.5", "²", ""])
def test_a_number_of_workers_is_from_1_to_256(workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _status("serve", f"--workers={workers}") == 2
    assert f"'{workers}' is not a number of processes from 1 to 256" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_shows_every_fault_of_a_broken_file_and_exits_1(
    workers: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """F78."""
    (here / "a.yaml").write_text(BROKEN)
    assert main(["serve", "--config", "a.yaml", "--workers", workers]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    *faults, last = shown.err.splitlines()
    assert [re.match(r"a\.yaml:\d+:\d+: ", fault) is not None for fault in faults] == [True, True]
    assert NO_SERVER in last


@pytest.mark.parametrize("option", ["--listen", "--admin"])
def test_serve_checks_the_addresses_of_the_command_line(
    option: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "a.yaml").write_text(SOUND)
    assert main(["serve", "--config", "a.yaml", option, "nonsense"]) == 1
    assert capsys.readouterr().err.startswith(f"{option}")


def test_the_file_is_the_one_named_else_the_one_here_else_the_environments(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def served(*options: str) -> str:
        assert main(["serve", *options]) == 1
        name, _, _ = capsys.readouterr().err.partition(":")
        return name

    assert served() == "config/gateway.yaml"
    monkeypatch.setenv("GATEWAY_CONFIG", "")
    assert served() == "config/gateway.yaml"
    monkeypatch.setenv("GATEWAY_CONFIG", "environment.yaml")
    assert served() == "environment.yaml"
    (here / "config").mkdir()
    (here / "config" / "gateway.yaml").write_text(BROKEN)
    assert served() == "config/gateway.yaml"
    assert served("--config", "named.yaml") == "named.yaml"


@pytest.mark.usefixtures("logging_restored")
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("option", ["--listen", "--admin"])
def test_serve_on_an_address_that_is_taken_says_so_and_exits_1(
    workers: str, option: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "a.yaml").write_text(SOUND)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["serve", "--config", "a.yaml", "--workers", workers, option, address]) == 1
    assert capsys.readouterr().err == (
        f"gateway: cannot listen on {address}: address already in use; choose another with --listen and --admin, "
        "or server.listen and server.admin\n"
    )


def test_a_mock_that_cannot_listen_says_so_and_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mock", "--listen", "nonsense"]) == 1
    assert "'nonsense' is no listen address" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["mock", "--quiet", "--listen", f"127.0.0.1:{taken.getsockname()[1]}"]) == 1
    assert capsys.readouterr().err.startswith("mock: ")
