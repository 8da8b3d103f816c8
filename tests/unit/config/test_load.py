"""From files to a configuration, or to every fault with its line.

Each file in `broken/` stands beside the exact text of its faults.
"""

from pathlib import Path

import pytest
import trustme

from gateway.config.load import ConfigError, Sources, load, read

HERE = Path(__file__).parent / "broken"
SHIPPED = Path(__file__).parents[3] / "config" / "gateway.yaml"
ENVIRON = {"SET": "canary-value", "TWO_LINES": "canary\nvalue"}
BROKEN = sorted(path.name for path in HERE.glob("*.yaml"))
SOUND = """\
apiVersion: gateway/v1
targets:
  a: {provider: openai, base_url: https://api.example.com/v1, api_key: file:key, ca_file: ca.pem}
routes:
  - {model: demo, target: a}
"""


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_has_exactly_these_faults(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """F76, F114: every fault at once, and no secret in any of them."""
    monkeypatch.chdir(HERE)
    with pytest.raises(ConfigError) as refused:
        load(read(Path(name), ENVIRON))
    text = "".join(f"{fault}\n" for fault in refused.value.faults)
    assert text == Path(name).with_suffix(".txt").read_text()
    assert "canary" not in text


def test_a_hundred_and_fifty_broken_files_and_more_are_kept() -> None:
    assert len(BROKEN) >= 150


def test_the_shipped_file_loads_with_nothing_but_warnings_for_its_variables() -> None:
    loaded = load(read(SHIPPED, {}))
    assert [fault.message.split(" ")[0] for fault in loaded.warnings] == ["env:OPENAI_API_KEY", "env:ANTHROPIC_API_KEY"]
    assert loaded.config.targets["mock"].out_of_service is None
    assert [route.model for route in loaded.config.routes] == ["demo", "claude-*", "*"]


def test_the_shipped_file_comes_alive_with_its_variables() -> None:
    loaded = load(read(SHIPPED, {"OPENAI_API_KEY": "a", "ANTHROPIC_API_KEY": "b"}))
    assert loaded.warnings == []
    assert {target.out_of_service for target in loaded.config.targets.values()} == {None}


def test_a_budget_over_an_unknown_price_is_refused_where_prices_are_known() -> None:
    text = """\
apiVersion: gateway/v1
targets: {a: {provider: openai, base_url: https://h/v1, model: gpt-strange}}
routes: [{model: demo, target: a}]
limits: [{name: b, budget: $1/day}]
"""
    assert load(Sources.of_text(text)).config.limits[0].name == "b"
    assert load(Sources.of_text(text), lambda provider, model, base_url: True).config.limits[0].name == "b"
    with pytest.raises(ConfigError, match=r"gateway\.yaml:2:11: budget `b` applies to `a`, and the price of"):
        load(Sources.of_text(text), lambda provider, model, base_url: False)


def test_secrets_in_lists_are_found(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(
        "apiVersion: gateway/v1\nstore: {redis: file:url}\n"
        "webhooks: [{url: env:HOOK, headers: {x-a: file:url}}, {url: https://h/x}]\n"
    )
    (tmp_path / "url").write_text("redis://:canary@h\n")
    config = load(read(tmp_path / "gateway.yaml", {"HOOK": "https://hooks.example.com/canary"})).config
    assert config.store.redis is not None
    assert config.store.redis.reveal() == "redis://:canary@h"
    assert config.webhooks[0].url.reveal() == "https://hooks.example.com/canary"
    assert config.webhooks[0].headers["x-a"].reveal() == "redis://:canary@h"
    assert "canary" not in repr(config)


def test_a_missing_file_is_one_fault() -> None:
    with pytest.raises(ConfigError) as refused:
        load(read(Path("none.yaml"), {}))
    assert str(refused.value) == (
        "none.yaml: cannot read the file: No such file or directory (name the configuration file)"
    )


def test_a_file_beyond_4_mib_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_bytes(b"# " + b"x" * 4 * 1024**2)
    with pytest.raises(ConfigError, match="larger than 4 MiB"):
        load(read(tmp_path / "gateway.yaml", {}))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A sound configuration with a secret and a CA in files."""
    (tmp_path / "gateway.yaml").write_text(SOUND)
    (tmp_path / "key").write_text("sk-canary\n")
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path


def test_secrets_and_certificates_come_from_files(home: Path) -> None:
    target = load(read(home / "gateway.yaml", {})).config.targets["a"]
    assert target.api_key is not None
    assert target.api_key.reveal() == "sk-canary"
    assert target.ca_file == str(home / "ca.pem")


def test_a_secret_file_that_is_empty_counts_as_not_set(home: Path) -> None:
    (home / "key").write_text("\n")
    loaded = load(read(home / "gateway.yaml", {}))
    assert loaded.config.targets["a"].out_of_service == "key is empty"
    assert [fault.message for fault in loaded.warnings] == ["file:key is not set: target `a` stays out of service"]


def test_a_ca_file_without_a_name_is_refused(home: Path) -> None:
    (home / "gateway.yaml").write_text(SOUND.replace("ca.pem", '""'))
    with pytest.raises(ConfigError, match="`ca_file` must be something"):
        load(read(home / "gateway.yaml", {}))


def test_nothing_loaded_shows_a_secret(home: Path) -> None:
    """F114."""
    loaded = load(read(home / "gateway.yaml", {}))
    assert "canary" not in repr(loaded)
    assert "canary" not in repr(loaded.config.model_dump())


def test_what_was_read_gives_the_same_in_another_process(home: Path) -> None:
    sources = read(home / "gateway.yaml", {})
    for path in home.iterdir():
        path.unlink()
    there = load(Sources.restore(sources.dump()))
    assert there.config == load(sources).config
    assert there.revision == sources.revision


def test_addresses_of_the_command_line_win_and_are_checked_alike(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("apiVersion: gateway/v1\nserver: {drain: 5s, admin: 127.0.0.1:1}\ntargets: {a: {provider: mock}}\n")
    config = load(read(path, {}, listen="127.0.0.1:0", admin="[::1]:0")).config
    assert (str(config.server.listen), str(config.server.admin)) == ("127.0.0.1:0", "[::1]:0")
    assert config.server.drain == 5.0
    with pytest.raises(ConfigError) as refused:
        load(read(path, {}, listen="0.0.0.0:8080", admin="8081"))
    assert [str(fault) for fault in refused.value.faults if fault.severity == "error"] == [
        '--admin: `admin`: "8081" has no port (write 8081:8080)',
        "--listen: without keys anybody who reaches 0.0.0.0:8080 may call (list `keys`, or listen on 127.0.0.1)",
    ]


def test_an_included_file_is_part_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("apiVersion: gateway/v1\ninclude: [more/*.yaml]\n")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "t.yaml").write_text(
        "targets: {a: {provider: openai, base_url: https://h/v1, api_key: file:key}}"
    )
    (tmp_path / "more" / "r.yaml").write_text("routes: [{model: demo, target: a}]")
    (tmp_path / "more" / "key").write_text("beside the file that names it")
    loaded = load(read(tmp_path / "gateway.yaml", {}))
    assert loaded.warnings == []
    assert loaded.config.routes[0].target == "a"
