"""What the scenarios conclude from what they saw."""

from loadtests.client import Answer
from loadtests.scenarios import soak, storm


def test_memory_is_compared_between_the_second_and_the_last_fifth() -> None:
    samples = [(0, 50), (10, 80), (25, 100), (35, 100), (60, 300), (85, 104), (100, 106)]
    assert round(soak.growth(samples, 100), 3) == 0.05


def test_a_soak_of_few_samples_compares_first_and_last() -> None:
    assert soak.growth([(0, 100), (100, 150)], 100) == 0.5


def test_each_stream_of_a_storm_is_counted_once() -> None:
    seen = storm.Storm()
    for half_sent, ended, answer in [
        (True, False, Answer()),
        (False, False, Answer()),
        (False, False, Answer(status=200)),
        (False, True, Answer(status=200, complete=True)),
        (False, True, Answer(status=503, complete=True)),
        (False, True, Answer(status=200, complete=False)),
    ]:
        storm.count_visit(seen, half_sent=half_sent, ended=ended, answer=answer)
    assert (seen.left_before_sent, seen.left_before_answer, seen.left_in_stream) == (1, 1, 1)
    assert (seen.ended, seen.refused, seen.cancelled) == (1, 2, 3)
