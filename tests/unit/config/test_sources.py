"""What a configuration is made of."""

import os
from pathlib import Path

import pytest

from gateway.config import sources as subject
from gateway.config.document import parse
from gateway.config.sources import Sources, at, included, read, resolve, signature

MAIN = """\
apiVersion: gateway/v1
include: [routes/*.yaml, keys.yaml]
server: {admin_token: env:TOKEN}
targets:
  a: {provider: openai, base_url: https://h/v1, api_key: file:secrets/a, ca_file: ca.pem, headers: {x-k: env:HEADER}}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with a configuration of several files."""
    (tmp_path / "routes").mkdir()
    (tmp_path / "secrets").mkdir()
    (tmp_path / "gateway.yaml").write_text(MAIN)
    (tmp_path / "routes" / "b.yaml").write_text("routes: []\n")
    (tmp_path / "routes" / "a.yaml").write_text("targets:\n  b: {provider: mock, api_key: file:../secrets/b}\n")
    (tmp_path / "routes" / ".#a.yaml").write_text("an editor's lock\n")
    (tmp_path / "keys.yaml").write_text("keys: []\n")
    (tmp_path / "secrets" / "a").write_text("secret-a\n")
    (tmp_path / "secrets" / "b").write_text("secret-b")
    (tmp_path / "ca.pem").write_text("certificate")
    return tmp_path


def test_every_file_and_variable_that_is_named_is_read(home: Path) -> None:
    found = read(home / "gateway.yaml", {"TOKEN": "t", "HEADER": "h", "OTHER": "o"})
    names = ["gateway.yaml", "routes/a.yaml", "routes/b.yaml", "keys.yaml"]
    assert list(found.documents) == [str(home / name) for name in names]
    assert set(found.files) == {str(home / "secrets/a"), str(home / "ca.pem"), str(home / "routes/../secrets/b")}
    assert found.environ == {"TOKEN": "t", "HEADER": "h"}
    assert found.unreadable == {}
    assert set(found.paths) == set(found.signatures)


def test_what_cannot_be_read_is_kept_with_its_reason(home: Path) -> None:
    (home / "keys.yaml").unlink()
    (home / "ca.pem").unlink()
    (home / "secrets" / "a").unlink()
    (home / "secrets" / "a").mkdir()
    found = read(home / "gateway.yaml", {})
    assert found.unreadable == {
        str(home / "keys.yaml"): "No such file or directory",
        str(home / "ca.pem"): "No such file or directory",
        str(home / "secrets/a"): "not a file",
    }


def test_a_pipe_does_not_block(home: Path) -> None:
    (home / "ca.pem").unlink()
    os.mkfifo(home / "ca.pem")
    assert read(home / "gateway.yaml", {}).unreadable == {str(home / "ca.pem"): "not a file"}


def test_a_file_beyond_any_use_is_not_read(home: Path) -> None:
    (home / "keys.yaml").write_bytes(b"#" * (subject.MAX_DOCUMENT + 1))
    assert read(home / "gateway.yaml", {}).unreadable == {str(home / "keys.yaml"): "larger than 4 MiB"}


def test_no_file_at_all_raises_nothing(tmp_path: Path) -> None:
    found = read(tmp_path / "none.yaml", {})
    assert found.unreadable == {str(tmp_path / "none.yaml"): "No such file or directory"}
    assert read(Path("\0"), {}).unreadable == {"\0": "not a path"}


def test_sources_are_the_same_in_another_process(home: Path) -> None:
    found = read(home / "gateway.yaml", {"TOKEN": "t"}, listen="127.0.0.1:0", admin="127.0.0.1:1")
    there = Sources.restore(found.dump())
    assert there == found
    assert there.revision == found.revision


def test_sources_do_not_show_their_content(home: Path) -> None:
    """F114."""
    shown = repr(read(home / "gateway.yaml", {"TOKEN": "canary-token"}))
    assert "canary" not in shown
    assert "secret-a" not in shown


def test_the_revision_changes_with_any_content(home: Path) -> None:
    def revision(environ: dict[str, str]) -> str:
        return read(home / "gateway.yaml", environ).revision

    seen = {revision({}), revision({"TOKEN": "1"}), revision({"TOKEN": "2"}), revision({"UNNAMED": "1"})}
    assert len(seen) == 3
    (home / "secrets" / "a").write_text("rotated\n")
    seen.add(revision({}))
    (home / "routes" / "c.yaml").write_text("routes: []\n")
    seen.add(revision({}))
    assert len(seen) == 5
    assert all(len(found) == 12 for found in seen)


def test_the_revision_is_the_same_wherever_the_directory_lies(home: Path, tmp_path: Path) -> None:
    before = read(home / "gateway.yaml", {}).revision
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    home.rename(moved)
    assert read(moved / "gateway.yaml", {}).revision == before


def test_a_kubernetes_volume_is_read_once(tmp_path: Path) -> None:
    """F80: the files are links into `..data`, which is a link itself."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "a.yaml").write_text("routes: []\n")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    assert included(tmp_path / "gateway.yaml", "**/*.yaml") == (str(tmp_path / "a.yaml"),)


def test_a_glob_does_not_include_the_main_file_itself(home: Path) -> None:
    assert included(home / "gateway.yaml", "*.yaml") == (str(home / "keys.yaml"),)


def test_an_absolute_pattern_is_taken_as_it_is(home: Path) -> None:
    assert included(Path("gateway.yaml"), f"{home}/k*.yaml") == (str(home / "keys.yaml"),)
    assert included(Path("gateway.yaml"), f"{home}/keys.yaml") == (str(home / "keys.yaml"),)


def test_a_pattern_that_makes_no_sense_matches_nothing() -> None:
    assert included(Path("gateway.yaml"), "a**/[") == ()


def test_positions_are_found_at_any_name() -> None:
    values = parse("a", b"targets: {x: {api_key: 1}, y: 5, z: {api_key: 2}}\n").values
    assert [(path, key) for path, key, _ in at(values, ("targets", "*", "api_key"))] == [
        (("targets", "x", "api_key"), "api_key"),
        (("targets", "z", "api_key"), "api_key"),
    ]


def test_positions_are_found_in_every_item_of_a_list() -> None:
    values = parse("a", b"webhooks: [{url: 1}, 5, {headers: {x: 2, y: 3}}]\n").values
    assert [path for path, _, _ in at(values, ("webhooks", "*", "url"))] == [("webhooks", 0, "url")]
    assert [path for path, _, _ in at(values, ("webhooks", "*", "headers", "*"))] == [
        ("webhooks", 2, "headers", "x"),
        ("webhooks", 2, "headers", "y"),
    ]
    assert list(at(values, ("webhooks", "*"))) == []


@pytest.mark.parametrize(
    ("text", "value", "problem"),
    [
        ("env:SET", "value", ""),
        ("env:LINE_END", "value", ""),
        ("env:EMPTY", None, ""),
        ("env:UNSET", None, ""),
        ("env:NOT-A-NAME", None, '"NOT-A-NAME" is not the name of a variable'),
        ("env:TWO_LINES", None, "env:TWO_LINES holds a line break, a control or a non-ASCII character"),
        ("env:ACCENT", None, "env:ACCENT holds a line break, a control or a non-ASCII character"),
        ("file:key", "from-file", ""),
        ("file:none", None, "cannot read conf/none: gone"),
    ],
)
def test_a_reference_is_resolved_or_says_what_is_wrong(text: str, value: str | None, problem: str) -> None:
    environ = {"SET": "value", "LINE_END": "value\r\n", "EMPTY": "\n", "TWO_LINES": "a\nb", "ACCENT": "é"}
    sources = Sources("r", {}, {"conf/key": b"from-file\n"}, {"conf/none": "gone"}, environ)
    found = resolve(text, "conf/gateway.yaml", sources)
    assert (found.value, found.problem) == (value, problem)


def test_a_text_can_stand_in_for_a_file() -> None:
    found = Sources.of_text("server: {admin_token: env:A}\n", {"A": "1", "B": "2"})
    assert list(found.documents) == ["gateway.yaml"]
    assert found.environ == {"A": "1"}


def test_a_signature_follows_links(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text("same")
    (tmp_path / "link").symlink_to("one")
    before = signature(str(tmp_path / "link"))
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("two")
    assert signature(str(tmp_path / "link")) != before
    assert signature(str(tmp_path / "none")) == ()
