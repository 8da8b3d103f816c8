"""Pairs of texts with a verdict: our own, and the recorded sets where they lie beside the checkout."""

import json
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
RECORDED = HERE.parents[3] / "shared" / "data" / "semantic"


class Pair(NamedTuple):
    """Two texts, and whether one answer may serve both."""

    category: str
    same: bool
    one: str
    other: str


def own() -> list[Pair]:
    """The pairs of question_pairs.txt."""
    lines = (HERE / "question_pairs.txt").read_text("utf-8").splitlines()
    rows = (line.split(" | ") for line in lines if line and not line.startswith("#"))
    return [Pair(category, verdict == "same", one, other) for category, verdict, one, other in rows]


def near_duplicates() -> list[Pair]:
    """The recorded set of that name. Raises FileNotFoundError."""
    rows = json.loads((RECORDED / "near_duplicates.json").read_bytes())
    return [Pair(each["cat"], bool(each["label"]), each["a"], each["b"]) for each in rows]


def paws() -> list[Pair]:
    """Sentences of nearly the same words (PAWS-Wiki). Raises FileNotFoundError."""
    lines = (RECORDED / "paws_wiki_first_half.tsv").read_text("utf-8").splitlines()
    rows = (line.split("\t") for line in lines)
    return [Pair("paws", label == "1", one, other) for _, one, other, label in rows]
