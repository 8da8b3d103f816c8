"""A stream of real questions through the verified cache: how many hits, how many of them wrong, and when.

    python -m loadtests.semantic_clinc --data clinc150_data_full.json.gz [--model DIR] [--plot clinc.svg]

The questions are CLINC150's (Larson et al., EMNLP 2019): 150 intents and questions that belong to none. An answer is
right when the question it was given to had the same intent; one that belongs to none has no right answer in the cache.
So is the judge here: it knows the intents, and what is measured is the bound, not the judge.
"""

import argparse
import gzip
import hashlib
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

import numpy
from numpy.typing import NDArray

from gateway.semantic.log import Compared, Seen
from gateway.semantic.model import DEFAULT_FOLDER, load
from gateway.semantic.rows import Room, packed_vector
from gateway.semantic.scopes import Rules, Scopes
from gateway.semantic.zones import Verdict
from loadtests.plot import COLOURS, Curve, Panel, svg

NO_INTENT = "oos"
SHARES = (0.01, 0.02, 0.05)
SEEDS = (1, 2, 3)
MIN_HITS = {0.02: 0.15}
"""Allowed wrong share -> share of hits that must be reached."""
SAMPLES = 200
"""Points of a curve."""
CORES = 2
"""Questions that are embedded at a time."""

Vectors = NDArray[numpy.float32]
SCOPE = b"clinc"
ROUTE = "clinc"


@dataclass(frozen=True, slots=True)
class Question:
    """One line of the data."""

    text: str
    intent: str


@dataclass(slots=True)
class Run:
    """What one stream gave."""

    max_wrong: float
    seed: int
    questions: int = 0
    hits: int = 0
    wrong: int = 0
    exact: int = 0
    judged: int = 0
    opened_at: int | None = None
    curve: list[tuple[int, float, float]] = field(default_factory=list)
    """After so many questions: share of hits, wrong share of the hits."""

    @property
    def hit_share(self) -> float:
        """Semantic hits among all questions."""
        return self.hits / max(self.questions, 1)

    @property
    def wrong_share(self) -> float:
        """Wrong ones among the semantic hits."""
        return self.wrong / max(self.hits, 1)


class Encodes(Protocol):
    """An embedding model; may be called from several threads."""

    def encode(self, text: str) -> Vectors:
        """The vector of one text."""
        ...


class _Stopped:
    """A clock that stands still: nothing of the stream grows old."""

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 0.0


def read_questions(path: Path) -> list[Question]:
    """All questions of all parts of the data set, in its order."""
    with gzip.open(path, "rt", encoding="utf-8") as source:
        parts: dict[str, list[list[str]]] = json.load(source)
    return [Question(text, intent) for _, rows in sorted(parts.items()) for text, intent in rows]


def stream(
    questions: Sequence[Question], vectors: Vectors, order: Sequence[int], run: Run, kind: type[Scopes] = Scopes
) -> Run:
    """Ask the questions of `order` one after the other, as one scope, and write into `run` what comes of it."""
    records: list[bytes] = []
    # Another sequence than the shuffle's: a coin that knew the order would be no coin.
    scopes = kind("clinc", Room(), Random(f"coin {run.seed}"), _Stopped(), records.append)
    every = max(1, len(order) // SAMPLES)
    for asked, number in enumerate(order, 1):
        _ask(number, questions, vectors, scopes, run)
        # The log gives back what was written into it, as the stores' do.
        scopes.fold([(f"{asked}-{at}", record) for at, record in enumerate(records)])
        records.clear()
        run.questions = asked
        if run.opened_at is None and scopes.standing()[ROUTE].open:
            run.opened_at = asked
        if asked % every == 0:
            run.curve.append((asked, run.hit_share, run.wrong_share))
    return run


def shuffled(questions: Sequence[Question], vectors: Vectors, run: Run, length: int) -> Run:
    """The stream of `length` of the questions, in an order that is the seed's."""
    order = list(range(len(questions)))
    Random(run.seed).shuffle(order)
    return stream(questions, vectors, order[:length], run)


def _ask(number: int, questions: Sequence[Question], vectors: Vectors, scopes: Scopes, run: Run) -> None:
    question = questions[number]
    decision = scopes.look(SCOPE, question.text, vectors[number], Rules("verified", max_wrong=run.max_wrong))
    if decision.reason == "same":
        run.exact += 1
        return
    known = None if decision.entry is None else questions[int(decision.entry, 16)].intent
    is_right = known == question.intent and known != NO_INTENT
    if decision.action == "serve":
        run.hits += 1
        run.wrong += not is_right
        return
    compared = None
    if decision.wants_label:
        assert decision.entry is not None
        assert decision.row is not None
        run.judged += 1
        verdict: Verdict = "equal" if is_right else "different"
        is_audit = decision.action == "audit"
        compared = Compared(decision.entry, decision.row, decision.kind, decision.similarity, is_audit, verdict)
    scopes.tell(
        Seen(
            *(SCOPE, "key=clinc", ROUTE, scopes.by, f"{number:064x}", math.inf, question.text),
            *(packed_vector(vectors[number]), (), run.max_wrong, compared),
        )
    )


def vectors_of(texts: Sequence[str], model: Path, folder: Path, opened: Callable[[Path], Encodes]) -> Vectors:
    """Their vectors in their order, computed once for these texts and this model and kept in `folder`.

    Raises what `opened` raises when no model is there.
    """
    named = hashlib.sha256(str(model.expanduser().resolve()).encode())
    named.update("\n".join(texts).encode())
    kept = folder / f"gateway-clinc-{named.hexdigest()[:16]}.npy"
    if not kept.is_file():
        encoder = opened(model)
        with ThreadPoolExecutor(CORES) as pool:
            numpy.save(kept, numpy.stack(list(pool.map(encoder.encode, texts))))
    loaded: Vectors = numpy.load(kept)
    return loaded


def picture(runs: Sequence[Run]) -> str:
    """Wrong share and share of hits over the stream, as SVG: a colour for each allowed share, a line for each seed."""
    shares = sorted({run.max_wrong for run in runs})
    colours = dict(zip(shares, COLOURS, strict=False))
    length = float(max(run.questions for run in runs))
    wrong, hits = [], []
    for run in runs:
        label = f"at most {run.max_wrong:.0%} wrong" if run.seed == min(each.seed for each in runs) else ""
        colour = colours[run.max_wrong]
        wrong.append(Curve([(at, 100 * share) for at, _, share in run.curve], colour, label))
        hits.append(Curve([(at, 100 * share) for at, share, _ in run.curve], colour, label))
    limits = [Curve([(0, 100 * share), (length, 100 * share)], colours[share], is_dashed=True) for share in shares]
    top = _round_up(120 * max(max(shares), *(share for run in runs for _, _, share in run.curve)))
    most = _round_up(150 * max(share for run in runs for _, share, _ in run.curve))
    return svg(
        [
            Panel("Wrong among the hits so far (dashed: allowed)", "questions", [*wrong, *limits], length, top, "%"),
            Panel("Hits among the questions so far", "questions", hits, length, most, "%"),
        ]
    )


def _round_up(percent: float) -> float:
    """What is at least `percent` and gives round numbers at its quarters."""
    return 4 * math.ceil(percent / 4) if percent > 0 else 4


def faults(runs: Sequence[Run]) -> list[str]:
    """What was to be reached and was not."""
    found = []
    for run in runs:
        named = f"max_wrong {run.max_wrong:.0%}, seed {run.seed}"
        if run.wrong_share > run.max_wrong:
            found.append(f"{named}: {run.wrong_share:.2%} of the hits are wrong")
        if run.hit_share < MIN_HITS.get(run.max_wrong, 0.0):
            found.append(f"{named}: {run.hit_share:.1%} hits")
    return found


def table_row(run: Run, took_s: float) -> str:
    """One line of the table."""
    opened = "never" if run.opened_at is None else f"{run.opened_at:,}"
    return (
        f"{run.max_wrong:>9.0%} {run.seed:>5} {run.questions:>10,} {run.hit_share:>7.1%} {run.wrong_share:>11.2%}"
        f" {run.exact:>6} {run.judged:>7,} {opened:>7} {took_s:>6.1f}\n"
    )


def main(arguments: Sequence[str]) -> int:
    """Run all streams. 0 when no share of wrong hits is above what was allowed and the hits suffice, 1 otherwise."""
    known = argparse.ArgumentParser(prog="python -m loadtests.semantic_clinc", description=__doc__.splitlines()[0])
    known.add_argument("--data", type=Path, required=True, help="clinc150_data_full.json.gz")
    known.add_argument("--model", type=Path, default=DEFAULT_FOLDER, help="folder of the installed embedding model")
    known.add_argument("--questions", type=int, default=20_000, help="length of a stream")
    known.add_argument("--plot", type=Path, help="where to write the curves as SVG")
    options = known.parse_args(arguments)
    questions = read_questions(options.data)
    texts = [question.text for question in questions]
    vectors = vectors_of(texts, options.model, Path(tempfile.gettempdir()), load)
    say = sys.stdout.write
    say("max_wrong  seed  questions    hits  wrong/hits  exact  judged  opened  seconds\n")
    runs = []
    for share in SHARES:
        for seed in SEEDS:
            started = time.perf_counter()
            run = shuffled(questions, vectors, Run(share, seed), options.questions)
            runs.append(run)
            say(table_row(run, time.perf_counter() - started))
    if options.plot is not None:
        options.plot.write_text(picture(runs), encoding="utf-8")
    wrong = faults(runs)
    for fault in wrong:
        say(f"FAILED {fault}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
