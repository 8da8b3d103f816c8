"""Questions and the entries that they lead to: how long, how many, and what is near."""

import numpy
import pytest

from gateway.semantic.rows import Room, Row, Rows, Vector, packed_vector, unpacked_vector
from tests.fakes import FakeClock

UNTIL_S = 1_700_000_100.0


def vector(*numbers: float) -> Vector:
    """A vector of these numbers."""
    return numpy.array(numbers, numpy.float32)


EAST, NORTH = vector(1, 0), vector(0, 1)


class Shelf:
    """Rows, and those that went."""

    def __init__(self, room: Room | None = None) -> None:
        self.clock = FakeClock()
        self.gone: list[str] = []
        self.rows = Rows(room or Room(), self.clock, lambda row, name: self.gone.append(name))

    def add(self, name: str, entry: str = "", scope: str = "s", **changes: object) -> bool:
        """Add a row that leads to `entry`, or one of its own."""
        about = {"tenant": "t", "until_s": UNTIL_S, "vector": EAST} | changes
        row = Row(scope, entry or f"e{name}", f"text of {name}")
        return self.rows.add(name, row, **about)  # type: ignore[arg-type]

    def near(self, scope: str = "s") -> list[str]:
        """Names of the rows that are near east."""
        return [name for name, _ in self.rows.near(scope, EAST)]


def test_rows_of_one_scope_are_not_seen_from_another() -> None:
    """F116."""
    shelf = Shelf()
    shelf.add("1", scope="a")
    shelf.add("2", scope="b")
    assert shelf.near("a") == ["1"]
    assert shelf.near("b") == ["2"]
    assert shelf.near("c") == []


def test_a_row_can_be_asked_for_by_its_name() -> None:
    shelf = Shelf()
    shelf.add("1")
    assert shelf.rows["1"].text == "text of 1"
    assert shelf.rows.get("1") is shelf.rows["1"]
    assert shelf.rows.get("2") is None
    assert len(shelf.rows) == 1


def test_a_row_does_not_show_its_text() -> None:
    shelf = Shelf()
    shelf.add("1")
    assert "text of" not in repr(shelf.rows["1"])


def test_features_are_read_once() -> None:
    row = Row("s", "e", "Where is my parcel?")
    assert row.features() is row.features()


def test_a_row_ends_with_its_entry() -> None:
    shelf = Shelf()
    shelf.add("1", "e")
    shelf.add("2", "e", until_s=UNTIL_S + 10)
    assert shelf.rows.until_s("e") == UNTIL_S + 10
    shelf.clock.advance(105)
    assert shelf.near() == ["1", "2"]
    assert shelf.rows.is_alive("e")
    shelf.clock.advance(5)
    assert not shelf.rows.is_alive("e")
    assert shelf.near() == []
    assert shelf.gone == ["1", "2"]
    assert shelf.rows.until_s("e") is None
    assert shelf.rows.scope_of("e") is None
    assert not shelf.rows.is_alive("e")


def test_a_search_goes_on_behind_those_that_have_ended() -> None:
    shelf = Shelf(Room())
    for number in range(30):
        shelf.add(f"old {number}", until_s=UNTIL_S - 50)
    shelf.add("young", vector=vector(1, 0.1))
    shelf.clock.advance(60)
    assert shelf.near() == ["young"]
    assert len(shelf.gone) == 30


def test_a_search_is_not_repeated_for_ever() -> None:
    shelf = Shelf()
    for number in range(60):
        shelf.add(f"old {number}", until_s=UNTIL_S - 50)
    shelf.add("young", vector=vector(1, 0.1))
    shelf.clock.advance(60)
    assert shelf.near() == []
    assert shelf.near() == ["young"]


def test_what_has_ended_goes_though_nobody_searches_and_older_ones_live() -> None:
    """Of two routes, one keeps its replies for a month and the other for a minute."""
    shelf = Shelf()
    for number in range(20):
        shelf.add(f"long {number}", scope="long", until_s=UNTIL_S * 2)
    for number in range(20):
        shelf.add(f"short {number}", scope="short")
    shelf.clock.advance(200)
    for number in range(30):
        shelf.add(f"new {number}", scope="long", until_s=UNTIL_S * 2)
    assert sorted(shelf.gone) == sorted(f"short {number}" for number in range(20))
    assert len(shelf.rows) == 50


def test_the_oldest_row_of_a_scope_makes_room() -> None:
    shelf = Shelf(Room(per_scope=2))
    for name in "123":
        shelf.add(name)
    assert shelf.gone == ["1"]
    assert sorted(shelf.near()) == ["2", "3"]
    assert shelf.rows.scope_of("e1") is None


def test_the_oldest_row_of_a_tenant_makes_room() -> None:
    shelf = Shelf(Room(per_tenant=2))
    shelf.add("1", scope="a")
    shelf.add("2", scope="b")
    shelf.add("other", scope="c", tenant="u")
    shelf.add("3", scope="b")
    assert shelf.gone == ["1"]


@pytest.mark.parametrize("odd", [vector(1, 0, 0), vector(0, 0), vector(1, float("nan")), vector(float("inf"), 0)])
def test_a_vector_that_compares_with_nothing_is_not_kept(odd: Vector) -> None:
    shelf = Shelf()
    shelf.add("1")
    assert not shelf.add("2", vector=odd)
    assert shelf.near() == ["1"]
    assert len(shelf.rows) == 1


def test_a_scope_of_another_tenant_takes_nothing() -> None:
    """F116."""
    shelf = Shelf()
    shelf.add("1")
    assert not shelf.add("2", tenant="u")
    assert shelf.near() == ["1"]


def test_rows_have_aliases_that_lead_to_the_same_entry() -> None:
    shelf = Shelf()
    shelf.add("1", "e")
    shelf.add("2", "e")
    shelf.add("3", "f")
    assert shelf.rows.with_aliases(["2", "4"]) == ["1", "2"]
    assert shelf.rows.with_aliases(["1", "2", "3"]) == ["1", "2", "3"]
    assert shelf.rows.with_aliases([]) == []


def test_rows_are_dropped_once() -> None:
    shelf = Shelf()
    shelf.add("1", "e")
    shelf.add("2", "e")
    assert shelf.rows.of_entry("e") == ["1", "2"]
    shelf.rows.drop("1")
    shelf.rows.drop("1")
    assert shelf.gone == ["1"]
    assert shelf.rows.of_entry("e") == ["2"]
    assert shelf.rows.scope_of("e") == "s"
    shelf.rows.drop("2")
    assert shelf.rows.of_entry("e") == []


def test_a_scope_is_dropped_whole_and_alone() -> None:
    shelf = Shelf()
    shelf.add("1", scope="a")
    shelf.add("2", scope="a")
    shelf.add("3", scope="b")
    shelf.rows.drop_scope("a")
    shelf.rows.drop_scope("a")
    assert shelf.gone == ["1", "2"]
    assert shelf.near("a") == []
    assert shelf.near("b") == ["3"]


def test_the_vectors_are_measured() -> None:
    shelf = Shelf()
    assert shelf.rows.size_bytes == 0
    shelf.add("1")
    assert shelf.rows.size_bytes > 0


def test_everything_can_be_forgotten_and_begun_anew() -> None:
    """With vectors of another model, and the same names, too."""
    shelf = Shelf()
    shelf.add("1")
    shelf.rows.clear()
    assert (len(shelf.rows), shelf.rows.size_bytes, shelf.gone, shelf.near()) == (0, 0, [], [])
    assert shelf.add("1", vector=vector(1, 0, 0))
    assert [name for name, _ in shelf.rows.near("s", vector(1, 0, 0))] == ["1"]


def test_a_vector_is_packed_by_halves() -> None:
    packed = packed_vector(vector(0.5, -0.25))
    assert len(packed) == 4
    unpacked = unpacked_vector(packed)
    assert unpacked is not None
    assert unpacked.dtype == numpy.float32
    assert unpacked.tolist() == [0.5, -0.25]


@pytest.mark.parametrize("packed", [b"", b"abc"])
def test_what_is_no_vector_is_not_unpacked(packed: bytes) -> None:
    assert unpacked_vector(packed) is None
