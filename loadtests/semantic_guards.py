"""`python -m loadtests.semantic_guards`: what the lexical guards tell apart on pairs of questions, as one table.

Each file is a list of pairs with a verdict: JSON (`[{"cat", "a", "b", "label"}]`, label 1 for the same answer), PAWS'
tab-separated form (id, one, other, label), or lines `category | same or different | one | other`. For every category
it shows how many pairs pass at a similarity of 0.85, 0.90 and 0.95, by the embedding alone and with the guards; then
how long the guards take. The model must be installed (`gateway cache model install`).
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.semantic.embedder import Encodes
from gateway.semantic.guards import compare, features
from gateway.semantic.model import DEFAULT_FOLDER, ModelError, load

THRESHOLDS = (0.85, 0.90, 0.95)
_ROOT = Path(__file__).parents[1]
_RECORDED = _ROOT.parent / "shared" / "data" / "semantic"
OWN = _ROOT / "tests" / "unit" / "semantic" / "question_pairs.txt"
NEAR_DUPLICATES = _RECORDED / "near_duplicates.json"
PAWS = _RECORDED / "paws_wiki_first_half.tsv"
_FILES = (OWN, NEAR_DUPLICATES, PAWS)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts, and whether one answer may serve both."""

    category: str
    same: bool
    one: str
    other: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair, how similar its vectors are, and the guard that says no."""

    pair: Pair
    similarity: float
    guard: str | None


def read(path: Path) -> list[Pair]:
    """The pairs of a file, by the form that its name tells."""
    text = path.read_text("utf-8")
    if path.suffix == ".json":
        return [Pair(each["cat"], bool(each["label"]), each["a"], each["b"]) for each in json.loads(text)]
    if path.suffix == ".tsv":
        rows = [line.split("\t") for line in text.splitlines()]
        return [Pair("sentences", row[3] == "1", row[1], row[2]) for row in rows if row[3] in "01"]
    rows = [line.split(" | ") for line in text.splitlines() if line and not line.startswith("#")]
    return [Pair(category, verdict == "same", one, other) for category, verdict, one, other in rows]


def judge(pairs: Sequence[Pair], encoder: Encodes) -> list[Judged]:
    """What the embedding and the guards say of each pair."""
    return [
        Judged(
            each,
            float(encoder.encode(each.one) @ encoder.encode(each.other)),
            compare(features(each.one), features(each.other)),
        )
        for each in pairs
    ]


def passing(judged: Sequence[Judged], threshold: float, *, same: bool) -> float:
    """Of the pairs that are, or are not, the same: the share that is similar enough and that no guard refuses."""
    asked = [each for each in judged if each.pair.same == same]
    return sum(each.similarity >= threshold and each.guard is None for each in asked) / max(len(asked), 1)


def table(judged: Sequence[Judged]) -> list[str]:
    """Lines: for each category and verdict, the shares that pass without and with the guards."""
    heads = "".join(f"{f'>= {each:.2f}':>16}" for each in THRESHOLDS)
    lines = [f"{'category':<18}{'verdict':<11}{'pairs':>6}{heads}", f"{'':<35}{'  alone  guarded' * len(THRESHOLDS)}"]
    groups = sorted({(each.pair.same, each.pair.category) for each in judged})
    for same in (False, True):
        rows = [(name, [name]) for kind, name in groups if kind == same]
        rows.append(("all", [name for name, _ in rows]))
        for name, names in rows:
            chosen = [each for each in judged if each.pair.same == same and each.pair.category in names]
            if chosen:
                lines.append(f"{name:<18}{'same' if same else 'different':<11}{len(chosen):>6}{_shares(chosen)}")
    return lines


def _shares(judged: Sequence[Judged]) -> str:
    cells = []
    for threshold in THRESHOLDS:
        alone = sum(each.similarity >= threshold for each in judged)
        guarded = passing(judged, threshold, same=judged[0].pair.same)
        cells.append(f"{alone / len(judged):>7.1%}{guarded:>9.1%}")
    return "".join(cells)


def speed(pairs: Sequence[Pair]) -> str:
    """One line: what reading a text and comparing two readings cost, on this machine, now."""
    started = time.perf_counter()
    read_pairs = [(features(each.one), features(each.other)) for each in pairs]
    between = time.perf_counter()
    for one, other in read_pairs:
        compare(one, other)
    ended = time.perf_counter()
    words = sum(len(each.one.split()) + len(each.other.split()) for each in pairs) / (2 * len(pairs))
    return (
        f"features {(between - started) / (2 * len(pairs)) * 1e6:.1f} µs a text of {words:.1f} words, "
        f"compare {(ended - between) / len(pairs) * 1e6:.1f} µs a pair"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each file."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.semantic_guards", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="pairs; without any, those at hand")
    parser.add_argument("--model", type=Path, default=DEFAULT_FOLDER, help="folder of the installed embedding model")
    parser.add_argument("--wrong", action="store_true", help="also print the pairs that pass at 0.90 and should not")
    options = parser.parse_args(arguments)
    try:
        encoder = load(options.model)
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for path in options.files or [each for each in _FILES if each.is_file()]:
        pairs = read(path)
        judged = judge(pairs, encoder)
        print_lines(f"{path.name}: {len(pairs)} pairs", *table(judged), speed(pairs), "")
        if options.wrong:
            wrong = [each for each in judged if each.guard is None and each.similarity >= 0.90 and not each.pair.same]
            print_lines(*(f"  {each.similarity:.3f} {each.pair.one} | {each.pair.other}" for each in wrong), "")
    return 0


def print_lines(*lines: str) -> None:
    """Write lines to the standard output."""
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
