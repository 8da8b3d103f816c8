"""The stream itself, on made-up questions: intents are directions, and questions lie around them."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import numpy
import pytest

from gateway.semantic.model import load
from gateway.semantic.scopes import Scopes
from loadtests.semantic_clinc import (
    NO_INTENT,
    Question,
    Run,
    Vectors,
    faults,
    picture,
    read_questions,
    stream,
    vectors_of,
)
from tests.embedding_model import FOLDER

INTENTS = 12


class Unguarded(Scopes):
    """For questions whose words mean nothing."""

    def _guard(self, text: str) -> Callable[[str], str | None]:
        return lambda row: None


def made_up(count: int, spread: float) -> tuple[list[Question], Vectors]:
    """Questions and their vectors; the wider the spread, the more lie between two intents."""
    drawn = numpy.random.default_rng(4)
    centres = drawn.normal(size=(INTENTS, 24))
    intents = [number % INTENTS for number in range(count)]
    vectors = centres[intents] + spread * drawn.normal(size=(count, 24))
    questions = [Question(f"question {number}", str(intent)) for number, intent in enumerate(intents)]
    return questions, vectors.astype(numpy.float32)


def asked(spread: float, max_wrong: float = 0.02, count: int = 3_000) -> Run:
    """One stream over all of them in any order."""
    questions, vectors = made_up(count, spread)
    order = list(range(count))
    Random(2).shuffle(order)
    return stream(questions, vectors, order, Run(max_wrong, seed=1), Unguarded)


def test_a_stream_of_clear_questions_opens_and_is_served() -> None:
    run = asked(spread=0.3)
    assert run.opened_at is not None
    assert run.questions == 3_000
    assert run.hit_share > 0.3
    assert run.wrong_share <= 0.02
    assert run.hits + run.judged <= 3_000
    assert run.curve[-1] == (3_000, run.hit_share, run.wrong_share)


def test_a_stream_that_only_looks_alike_stays_closed() -> None:
    """The same vectors, but what they are about was drawn by lot."""
    questions, vectors = made_up(1_500, 0.3)
    lots = Random(5)
    questions = [Question(each.text, str(lots.randrange(INTENTS))) for each in questions]
    run = stream(questions, vectors, range(1_500), Run(0.02, seed=1), Unguarded)
    assert (run.hits, run.opened_at) == (0, None)
    assert run.judged > 1_000


def test_what_belongs_to_no_intent_is_never_right() -> None:
    questions = [Question(f"{number}", NO_INTENT) for number in range(900)]
    vectors = numpy.ones((900, 8), numpy.float32)
    run = stream(questions, vectors, range(900), Run(0.05, seed=1), Unguarded)
    assert run.hits == 0


def test_the_same_text_again_is_an_exact_hit_and_no_semantic_one() -> None:
    questions, vectors = made_up(10, 0.1)
    order = [0, 1, 0, 0]
    run = stream(questions, vectors, order, Run(0.02, seed=1), Unguarded)
    assert (run.exact, run.hits) == (2, 0)


def test_the_data_are_read_part_by_part(tmp_path: Path) -> None:
    path = tmp_path / "data.json.gz"
    parts = {"b": [["q2", "y"]], "a": [["q1", "x"]]}
    path.write_bytes(gzip.compress(json.dumps(parts).encode()))
    assert read_questions(path) == [Question("q1", "x"), Question("q2", "y")]


class Encoder:
    """Counts what it embeds."""

    calls = 0

    def encode(self, text: str) -> Vectors:
        """The length of the text, in all directions."""
        self.calls += 1
        return numpy.full(3, len(text), numpy.float32)


def test_vectors_are_computed_once(tmp_path: Path) -> None:
    encoder = Encoder()
    for _ in range(2):
        vectors = vectors_of(["a", "bbb"], tmp_path / "model", tmp_path, lambda model: encoder)
        assert vectors.tolist() == [[1.0] * 3, [3.0] * 3]
    assert encoder.calls == 2
    assert vectors_of(["cc"], tmp_path / "model", tmp_path, lambda model: encoder).tolist() == [[2.0] * 3]


def test_what_was_missed_is_named() -> None:
    good = Run(0.02, 1, questions=100, hits=20, wrong=0)
    assert faults([good, Run(0.01, 1, questions=100)]) == []
    assert faults([Run(0.02, 2, questions=100, hits=10, wrong=1)]) == [
        "max_wrong 2%, seed 2: 10.00% of the hits are wrong",
        "max_wrong 2%, seed 2: 10.0% hits",
    ]


def test_the_picture_shows_every_run() -> None:
    runs = [asked(0.3, share, 600) for share in (0.02, 0.05)]
    shown = ElementTree.fromstring(picture(runs))
    lines = list(shown.iter("{http://www.w3.org/2000/svg}polyline"))
    assert len(lines) == 2 * 2 + 2


# One of the measurement's nine streams, and its first 12,000 questions: 15 s instead of more than a minute.
@pytest.mark.timeout(300)
def test_real_questions_get_few_wrong_answers_and_enough_right_ones(
    shared_data: Path, model_folder: Path, tmp_path: Path
) -> None:
    data = shared_data / "semantic" / "clinc150_data_full.json.gz"
    if not data.is_file():
        pytest.skip(f"no {data}")
    questions = read_questions(data)
    Random(1).shuffle(questions)
    questions = questions[:12_000]
    # Beside our own model, and gone with it.
    kept = model_folder if model_folder == FOLDER else tmp_path
    vectors = vectors_of([each.text for each in questions], model_folder, kept, load)
    order = range(len(questions))
    run = stream(questions, vectors, order, Run(0.02, seed=1))
    assert faults([run]) == []
    assert run.hits > 1_500
