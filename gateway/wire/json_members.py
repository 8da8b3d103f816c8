"""The members of a JSON object as places in its bytes, so that one can be changed and the rest left alone."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from gateway.core.errors import InvalidRequest

MAX_TOP_LEVEL_KEYS = 10_000
"""More than this in an ambiguous body is refused: the exact scan costs an object for each."""

MAX_SCAN_STEPS = 1_000_000
"""Brackets that the exact scan follows before it refuses; about 0.2 s."""

Edit = tuple[int, int, bytes]
"""Where a piece begins and ends, and what comes instead of it."""


class Member(NamedTuple):
    """One member of a JSON object: its decoded key, and where its key and value lie in the bytes."""

    key: str
    key_start: int
    value_start: int
    value_end: int


_SPACE = rb"[ \t\n\r]*+"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT = rb'(?:[^"{}\[\]]++|' + _STRING + rb")*+"
# Two levels of brackets in one match: most of a chat body is that shallow. The last branch never matches, but puts the
# place back: before CPython 3.11.5 a possessive repeat kept what its last turn had read before it failed
# (github.com/python/cpython/issues/106052).
_SHALLOW = rb'(?:[^"{}\[\]]++|' + _STRING + rb"|[{\[]" + _FLAT + rb"[}\]]|(?!))*+"
_re_open = re.compile(_SPACE + rb"\{" + _SPACE)
_re_key = re.compile(_SPACE + rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE, re.DOTALL)
_re_string = re.compile(_STRING, re.DOTALL)
_re_shallow = re.compile(_SHALLOW, re.DOTALL)
_re_scalar = re.compile(rb"[^,}\] \t\n\r]++")
_re_comma = re.compile(_SPACE + rb",")
_re_first = re.compile(_SPACE + rb"\{" + _SPACE + rb"(\}?)")


def top_level(body: bytes) -> Iterator[Member]:
    """The members of the object in `body`, in order, duplicates included.

    `body` must be valid JSON with an object on top. Raises InvalidRequest where it is too large to
    be scanned exactly (`MAX_TOP_LEVEL_KEYS`, `MAX_SCAN_STEPS`).
    """
    opening = _re_open.match(body)
    assert opening is not None
    position = opening.end()
    steps = MAX_SCAN_STEPS
    count = 0
    while (key := _re_key.match(body, position)) is not None:
        count += 1
        if count > MAX_TOP_LEVEL_KEYS:
            raise InvalidRequest(f"The body has more than {MAX_TOP_LEVEL_KEYS} keys at its top level.")
        start = key.end()
        end, steps = _value_end(body, start, steps)
        raw = key.group(1)
        name = msgspec.json.decode(raw, type=str) if b"\\" in raw else raw[1:-1].decode()
        yield Member(name, key.start(1), start, end)
        comma = _re_comma.match(body, end)
        if comma is None:
            return
        position = comma.end()


def remove_members(body: bytes, name: str) -> bytes:
    """`body` without its top-level members called `name`, each with one comma; all else byte for byte."""
    members = list(top_level(body))
    edits: list[Edit] = []
    kept: Member | None = None
    for index, member in enumerate(members):
        if member.key != name:
            kept = member
        elif kept is not None:
            edits.append((members[index - 1].value_end, member.value_end, b""))
        elif index + 1 < len(members):
            edits.append((member.key_start, members[index + 1].key_start, b""))
        else:
            edits.append((member.key_start, member.value_end, b""))
    return apply_edits(body, edits)


def insertion(body: bytes, members: bytes) -> Edit:
    """The edit that puts `members` first in the object."""
    opening = _re_first.match(body)
    assert opening is not None
    at = opening.start(1)
    return (at, at, members if opening[1] else members + b",")


def apply_edits(body: bytes, edits: list[Edit]) -> bytes:
    """`body` with the pieces replaced; the edits do not overlap."""
    pieces: list[bytes] = []
    position = 0
    for start, end, replacement in sorted(edits):
        pieces += (body[position:start], replacement)
        position = end
    if not pieces:
        return body
    pieces.append(body[position:])
    return b"".join(pieces)


def _value_end(body: bytes, start: int, steps: int) -> tuple[int, int]:
    """Where the value that begins at `start` ends, and how many steps of the scan are left."""
    first = body[start : start + 1]
    if first == b'"':
        string = _re_string.match(body, start)
        assert string is not None
        return string.end(), steps
    if first not in b"{[":
        scalar = _re_scalar.match(body, start)
        assert scalar is not None
        return scalar.end(), steps
    depth = 1
    position = start + 1
    while depth:
        shallow = _re_shallow.match(body, position)
        assert shallow is not None
        position = shallow.end() + 1
        depth += 1 if body[position - 1] in b"{[" else -1
        steps -= 1
        if steps < 0:
            raise InvalidRequest("The body's JSON has too many nested values to be checked.", code="invalid_json")
    return position, steps
