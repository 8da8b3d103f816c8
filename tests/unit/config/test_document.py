"""YAML files as plain values with places."""

from typing import Any

import pytest
import yaml

from gateway.config.document import Document, Number, parse
from gateway.config.faults import Place


def read(text: str) -> Document:
    """The document of a sound text."""
    document = parse("a.yaml", text.encode())
    assert document.faults == []
    return document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5), ("-5", -5), ("0", 0), ("012", "012"), ("0x1f", "0x1f"), ("1_000", "1_000"), ("8080:10", "8080:10"),
        ("1.5", 1.5), ("1e999", "1e999"), (".nan", ".nan"), ("true", True), ("False", False), ("yes", "yes"),
        ("off", "off"), ("NO", "NO"), ("null", None), ("~", None), ("", None), ("2027-01-31", "2027-01-31"),
        ('"5"', "5"), ("'true'", "true"), ("!!str 5", "5"), ("text", "text"), ("9" * 30, 1e30),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = read(f"a: {text}\n").values["a"]
    assert found == value
    assert type(found) is type(value) or isinstance(found, Number)


def test_a_number_remembers_how_it_was_written() -> None:
    assert str(read("a: 1.10\n").values["a"]) == "1.10"


def test_every_value_has_its_place() -> None:
    document = read("a:\n  b: [x, {c: d}]\n")
    assert document.values == {"a": {"b": ("x", {"c": "d"})}}
    assert document.places["a", "b", 0] == Place("a.yaml", 2, 7)
    assert document.places["a", "b", 1] == Place("a.yaml", 2, 10)
    assert document.places["a", "b", 1, "c"] == Place("a.yaml", 2, 14)
    assert document.key_places["a", "b", 1, "c"] == Place("a.yaml", 2, 11)


def test_a_container_is_found_at_its_key() -> None:
    assert read("a:\n  b: 1\n").places["a",] == Place("a.yaml", 1, 1)


def test_an_alias_stands_for_a_copy() -> None:
    values: Any = read("a: &x {b: 1}\nc: *x\n").values
    assert values["a"] == values["c"]
    assert values["a"] is not values["c"]


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse("a.yaml", b"\xef\xbb\xbfa: 1\n").values == {"a": 1}


def test_an_empty_file_has_no_values() -> None:
    assert read("# nothing\n").values == {}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"a: \xff\n", "a.yaml:1:4: not UTF-8 (save the file as UTF-8)"),
        (b"\xc3\xa9: 1\nb: \xc3\xa9\xff\n", "a.yaml:2:5: not UTF-8 (save the file as UTF-8)"),
        (b"a:\n\tb: 1\n", "a.yaml:2:1: not YAML: a tab cannot indent (indent with spaces)"),
        (b"a: b\x00\n", "a.yaml:1:5: not YAML: a control character (remove it)"),
        (b"[a]\n", "a.yaml:1:1: the file is not a mapping (begin with apiVersion: gateway/v1)"),
        (b"a: &a\n  b: *a\n", "a.yaml:1:4: an alias contains itself (write the value out)"),
    ],
)
def test_a_file_that_cannot_be_read_has_one_fault(content: bytes, fault: str) -> None:
    document = parse("a.yaml", content)
    assert document.is_broken
    assert [str(found) for found in document.faults] == [fault]


def test_a_syntax_fault_repeats_nothing_of_the_line() -> None:
    """F114: the line may hold a secret pasted by mistake."""
    for text in ("a: b: canary\n", "a: *canary\n", 'a: "canary\n', "a: {canary\n", "%canary\n", "a: !<canary> b\n"):
        document = parse("a.yaml", text.encode())
        assert document.faults
        assert not any("canary" in str(fault) for fault in document.faults), text


def test_nesting_beyond_any_use_is_refused_by_whoever_meets_it_first() -> None:
    for depth in (40, 5_000, 100_000):
        assert parse("a.yaml", b"a: " + b"[" * depth + b"]" * depth).is_broken


def test_aliases_do_not_nest_deeper_than_the_file_may() -> None:
    lines = "".join(f"a{number}: &a{number} [[[[[[*a{number - 1}]]]]]]\n" for number in range(1, 9))
    document = parse("a.yaml", f"a0: &a0 1\n{lines}".encode())
    assert [fault.message for fault in document.faults] == ["nested deeper than 32 levels"]


def test_yaml_tags_are_refused() -> None:
    document = parse("a.yaml", b"a: !x b\nc: !!python/tuple [d]\n")
    assert [str(fault) for fault in document.faults] == [
        "a.yaml:1:4: YAML tags are not supported (text that begins with ! needs quotes)",
        "a.yaml:2:4: YAML tags are not supported (text that begins with ! needs quotes)",
    ]
    assert document.values["c"] == ("d",)


def test_the_pure_python_parser_gives_the_same_values() -> None:
    text = "a: 5\nb: yes\nc: '5'\nd: [x, ~]\n"
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(node, yaml.MappingNode)
    assert [value.style for _, value in node.value[:2]] == [None, None]
    assert read(text).values == {"a": 5, "b": "yes", "c": "5", "d": ("x", None)}
