"""The command line."""

import pytest

from loadtests.options import QUICK, Options, parse

NAMES = ("throughput", "storm")


def test_nothing_given_means_the_whole_bench() -> None:
    assert parse([], NAMES) == Options()


def test_quick_is_smaller_and_can_be_refined() -> None:
    assert parse(["--quick"], NAMES) == QUICK
    assert parse(["--quick", "--pairs", "2"], NAMES).pairs == 2


def test_scenarios_and_sizes_can_be_chosen() -> None:
    options = parse(["--only", "storm", "--cancels", "100000", "--seed", "0", "--accept"], NAMES)
    assert (options.only, options.cancels, options.seed, options.accept) == (("storm",), 100_000, 0, True)


@pytest.mark.parametrize("wrong", [["--only", "strom"], ["--pairs", "0"], ["--cancels", "many"]])
def test_what_makes_no_sense_is_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(wrong, NAMES)
    assert "usage:" in capsys.readouterr().err
