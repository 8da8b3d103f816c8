"""What is counted of pairs with a verdict, on few of them."""

import json
from pathlib import Path

import numpy
import pytest

from gateway.semantic.model import Vector
from loadtests.semantic_guards import Judged, Pair, judge, main, passing, read, speed, table

SAME = Pair("paraphrase", True, "How do I reset my password?", "How can I reset my password?")
NUMBER = Pair("number", False, "Can I return it after 14 days?", "Can I return it after 30 days?")
WORDS = Pair("words", False, "left", "right")


class Lengths:
    """A vector for a text: its length, and something else."""

    def encode(self, text: str) -> Vector:
        """Of length 1."""
        vector = numpy.array([len(text), 10], numpy.float32)
        return vector / numpy.linalg.norm(vector)


def test_a_pair_passes_when_it_is_similar_and_no_guard_refuses() -> None:
    judged = [
        Judged(SAME, 0.95, None),
        Judged(SAME, 0.91, "order"),
        Judged(WORDS, 0.90, None),
        Judged(NUMBER, 0.99, "number"),
        Judged(NUMBER, 0.80, None),
    ]
    assert passing(judged, 0.90, same=True) == 0.5
    assert passing(judged, 0.90, same=False) == pytest.approx(1 / 3)
    assert passing(judged, 0.95, same=False) == 0
    assert passing([], 0.95, same=False) == 0


def test_pairs_are_judged_by_vectors_and_guards() -> None:
    same, number = judge([SAME, NUMBER], Lengths())
    assert (same.guard, number.guard) == (None, "number")
    assert same.similarity == pytest.approx(1, abs=1e-3)


def test_three_forms_of_files_are_read(tmp_path: Path) -> None:
    rows = [{"cat": "number", "a": NUMBER.one, "b": NUMBER.other, "label": 0}]
    (tmp_path / "a.json").write_text(json.dumps(rows), "utf-8")
    (tmp_path / "a.txt").write_text(f"# pairs\n\nparaphrase | same | {SAME.one} | {SAME.other}\n", "utf-8")
    (tmp_path / "a.tsv").write_text("id\tsentence1\tsentence2\tlabel\n7\tx\ty\t1\n8\tx\tz\t0\n", "utf-8")
    assert read(tmp_path / "a.json") == [NUMBER]
    assert read(tmp_path / "a.txt") == [SAME]
    assert read(tmp_path / "a.tsv") == [Pair("sentences", True, "x", "y"), Pair("sentences", False, "x", "z")]


def test_the_table_has_a_line_for_each_category_and_one_for_all() -> None:
    lines = table(judge([SAME, NUMBER, WORDS], Lengths()))
    assert [line.split()[:3] for line in lines[2:]] == [
        ["number", "different", "1"],
        ["words", "different", "1"],
        ["all", "different", "2"],
        ["paraphrase", "same", "1"],
        ["all", "same", "1"],
    ]
    assert lines[2].split()[3:] == ["100.0%", "0.0%"] * 3
    assert "µs a pair" in speed([SAME])


def test_an_absent_model_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"no embedding model in {tmp_path}")
