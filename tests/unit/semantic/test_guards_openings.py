"""The tables of openings."""

from gateway.semantic.guards_openings import OPENINGS, PLEAS, POLITE, phrases


def test_columns_are_multiplied_and_a_dash_is_nothing() -> None:
    assert phrases("a b", "- c") == [("a",), ("a", "c"), ("b",), ("b", "c")]


def test_later_rows_win() -> None:
    assert OPENINGS["how", "do"] == ("how", ())
    assert OPENINGS["how", "do", "i"] == ("howto", ())
    assert OPENINGS["how", "do", "i", "say"] == ("do", ("translate",))


def test_no_opening_is_empty_and_none_is_mere_politeness() -> None:
    assert () not in OPENINGS and () not in POLITE and () not in PLEAS
    assert POLITE & OPENINGS.keys() == frozenset()
