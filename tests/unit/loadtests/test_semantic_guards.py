"""The table of pairs that pass."""

from pathlib import Path

import pytest

from loadtests.semantic_guards import Judged, Pair, main, read, table


def test_every_form_of_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"cat": "unit", "a": "x", "b": "y", "label": 0}]', "utf-8")
    (tmp_path / "b.tsv").write_text("1\tx\ty\t1\n", "utf-8")
    (tmp_path / "c.txt").write_text("# notes\nunit | same | x | y\n", "utf-8")
    assert read(tmp_path / "a.json") == [Pair("unit", False, "x", "y")]
    assert read(tmp_path / "b.tsv") == [Pair("sentences", True, "x", "y")]
    assert read(tmp_path / "c.txt") == [Pair("unit", True, "x", "y")]


def test_the_table_shows_the_shares_that_pass_alone_and_guarded() -> None:
    pair = Pair("unit", False, "x", "y")
    lines = table(
        [Judged(pair, 0.96, "unit"), Judged(pair, 0.91, None), Judged(pair, 0.5, None), Judged(pair, 0.86, "unit")]
    )
    assert lines[2].split() == ["unit", "different", "4", "75.0%", "25.0%", "50.0%", "25.0%", "25.0%", "0.0%"]
    assert lines[3].split()[0] == "all"


def test_without_a_model_it_says_how_to_get_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(tmp_path)]) == 1
    assert "gateway cache model install" in capsys.readouterr().err
