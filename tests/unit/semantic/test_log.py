"""The records of what happens to questions: there and back, and what is none."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.semantic.log import Compared, Complained, Names, Purged, Record, Seen, pack, unpack

ENTRY = "a" * 64


def seen(**changes: object) -> Seen:
    """A question, with the answers compared."""
    usual = Seen(
        scope=b"s" * 32,
        tenant="key=a",
        route="demo",
        by="minilm",
        entry=ENTRY,
        until_s=12.0,
        text="Where is my parcel?",
        vector=b"\x00\x3c" * 4,
        names=("key:a", f"entry:{ENTRY}"),
        max_wrong=0.01,
        compared=Compared("b" * 64, "1-0", "lone-clean", 1.0000001, True, "equal"),
    )
    return msgspec.structs.replace(usual, **changes)


@pytest.mark.parametrize(
    "record",
    [
        seen(),
        seen(compared=None),
        Complained(ENTRY, "", 0.0),
        Complained(ENTRY, "lone-clean", 0.9),
        Purged("key:a"),
    ],
)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert unpack(pack(record)) == record


@pytest.mark.parametrize(
    "record",
    [
        seen(entry="a" * 63),
        seen(entry="../" + "a" * 61),
        seen(entry=ENTRY + "\n"),
        seen(max_wrong=0.0),
        seen(max_wrong=1.0),
        seen(max_wrong=float("nan")),
        seen(compared=Compared("x", "1-0", "lone-clean", 0.9, False, "equal")),
        seen(compared=Compared(ENTRY, "1-0", "lone-clean", float("nan"), False, "equal")),
        seen(compared=Compared(ENTRY, "1-0", "lone-clean", 0.9, False, "perhaps")),  # type: ignore[arg-type]
        Complained("x", "lone-clean", 0.9),
        Complained(ENTRY, "lone-clean", float("inf")),
    ],
)
def test_what_would_make_a_look_up_fail_is_no_record(record: Record) -> None:
    """Whoever can write into the store can write anything into the log."""
    with pytest.raises(msgspec.MsgspecError):
        unpack(pack(record))


@given(st.binary(max_size=200))
def test_what_is_no_record_is_refused_in_one_way(packed: bytes) -> None:
    try:
        found = unpack(packed)
    except msgspec.MsgspecError:
        return
    assert isinstance(found, Record)


def test_a_question_does_not_show_its_text() -> None:
    assert "parcel" not in repr(seen())
    assert "demo" in repr(seen())


def test_a_purge_finds_the_records_of_a_name_once() -> None:
    names = Names(10)
    names.add("1", ("key:a", "tag:x=1", "tag:x=1"))
    names.add("2", ("key:b", "tag:x=1"))
    names.add("3", ("key:a",))
    assert names.take("key:a") == ["1", "3"]
    assert names.take("key:a") == []
    assert len(names) == 1
    assert names.take("tag:x=1") == ["2"]


def test_names_of_the_oldest_records_are_forgotten_as_the_log_forgets_them() -> None:
    names = Names(2)
    assert [names.add(record, ("key:a", f"entry:{record}")) for record in "123"] == [None, None, "1"]
    assert len(names) == 2
    assert names.take("entry:1") == []
    assert names.take("key:a") == ["2", "3"]


def test_names_can_be_forgotten_all() -> None:
    names = Names(2)
    names.add("1", ("key:a",))
    names.clear()
    assert names.take("key:a") == []
