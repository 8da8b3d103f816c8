"""Faults: their text and their order."""

from gateway.config.faults import ConfigError, Place, did_you_mean, error, in_order, warning


def test_a_fault_reads_as_compilers_write_it() -> None:
    assert str(error(Place("a.yaml", 3, 5), "wrong", "mend it")) == "a.yaml:3:5: wrong (mend it)"
    assert str(error(Place("a.yaml", 3, 5), "wrong")) == "a.yaml:3:5: wrong"


def test_a_warning_says_so() -> None:
    assert str(warning(Place("a.yaml", 3, 5), "odd")) == "a.yaml:3:5: warning: odd"


def test_a_fault_is_one_line_whatever_it_repeats() -> None:
    """F132."""
    assert str(error(Place("a", 1, 1), '"b\nc\x1b[0m\ud800é" is wrong')) == 'a:1:1: "b\\nc\\x1b[0m\\ud800é" is wrong'


def test_a_fault_of_a_whole_source_has_no_line() -> None:
    assert str(error(Place("--listen"), "wrong")) == "--listen: wrong"


def test_a_fault_knows_its_place() -> None:
    assert error(Place("a.yaml", 3, 5), "wrong").place == Place("a.yaml", 3, 5)


def test_the_error_lists_every_fault() -> None:
    faults = [error(Place("a", 1, 1), "one"), error(Place("a", 2, 1), "two")]
    assert str(ConfigError(faults)) == "a:1:1: one\na:2:1: two"


def test_faults_are_ordered_by_file_and_line_and_said_once() -> None:
    late, early = error(Place("b", 10, 1), "x"), error(Place("b", 9, 1), "x")
    included, flag = error(Place("a", 1, 1), "x"), error(Place("--listen"), "x")
    assert in_order([included, late, early, late, flag], ["b", "a"]) == [early, late, included, flag]


def test_the_closest_name_is_suggested_whatever_its_case() -> None:
    assert did_you_mean("Base_Url", ["base_url", "model"]) == "did you mean `base_url`?"
    assert did_you_mean("colour", ["base_url", "model"]) == ""
