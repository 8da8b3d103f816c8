"""Numbers in words."""

import pytest

from gateway.semantic.guards import features


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("twenty five people", ["25"]),
        ("two hundred and twelve pages", ["212"]),
        ("three million two hundred thousand", ["3200000"]),
        ("five six", ["5", "6"]),
        ("the third man", ["3th"]),
        ("the twenty first century", ["21th"]),
        ("the 3rd man", ["3th"]),
        ("March 3rd and March third", ["3", "3th"]),
        ("which one is it", []),
        ("one of them", []),
        ("one page", ["1"]),
        ("a second later", []),
        ("30 second timer", ["30"]),
        ("the second timer", ["2th"]),
        ("hundreds of cats", []),
        ("a hundred cats", ["100"]),
        ("two dozen eggs", ["24"]),
        ("1,000 and 1000 and 1k", ["1000", "1000", "1000"]),
        ("$5 and 5%", ["5", "5"]),
        ("version 3.10", ["3.10"]),
        ("it is -5 here", ["-5"]),
        ("from 3-5", ["3", "5"]),
        ("World War II", ["2"]),
        ("World War I", ["1"]),
        ("Henry V", ["5"]),
        ("the 1990s", ["1990s"]),
        ("6:30 am", ["6:30"]),
        ("Anna and I", []),
    ],
)
def test_numbers_are_read_however_they_are_written(text: str, numbers: list[str]) -> None:
    found = features(text)
    assert [word for word, kind in zip(found.words, found.kinds, strict=True) if kind == "n"] == numbers
