"""What one request for embeddings asks, and what several ask together.

A body is taken apart into the JSON of each input, byte for byte, and all the rest, which has to be the same
for requests that go together. That holds only if nothing was lost when it was read: a member that stands
twice, or in escapes, makes the members shorter than the body, and such a body goes its own way.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from gateway.core.tokens import estimate_tokens

Kind = Literal["text", "tokens"]
"""Texts and lists of token ids never go together: no provider takes both in one list."""

LARGEST_BYTES = 256 * 1024
"""A larger body gains nothing from company, and would hold up other requests while it is read."""

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_KINDS: dict[bytes, Kind] = {b'"': "text", b"[": "tokens"}


class Inputs(NamedTuple):
    """A body, taken apart."""

    kind: Kind
    items: tuple[bytes, ...]
    """The JSON of each input, in order; at least one."""
    tokens: int
    """About how many there are in all of them: token ids counted, of text a quarter of its bytes."""
    others: tuple[tuple[str, bytes], ...]
    """All other members and their JSON: `model` first, the rest by name."""


def read_inputs(body: bytes) -> Inputs | None:
    """The inputs of a body; None where it has none, or cannot go together with another one.

    An empty text is such a one: providers refuse it, and it would have a whole batch refused.
    """
    if len(body) > LARGEST_BYTES:
        return None
    members = _read_members(body)
    asked = bytes(members.pop("input", b"")) if members is not None else b""
    if members is None or not asked:
        return None
    kind, items = _take_apart(asked)
    if kind is None or not items or b'""' in items:
        return None
    others = sorted(members.items(), key=lambda member: (member[0] != "model", member[0]))
    tokens = sum(count_tokens(kind, item) for item in items)
    return Inputs(kind, items, tokens, tuple([(name, bytes(value)) for name, value in others]))


def write_body(others: Iterable[tuple[str, bytes]], items: Iterable[bytes]) -> bytes:
    """The body that asks for all `items` at once."""
    members = [b'"%b":%b' % (name.encode(), value) for name, value in others]
    members.append(b'"input":[%b]' % b",".join(items))
    return b"{%b}" % b",".join(members)


def count_tokens(kind: Kind, item: bytes) -> int:
    """About how many tokens the JSON of one input stands for; at least 1."""
    return item.count(b",") + 1 if kind == "tokens" else max(estimate_tokens(len(item) - 2), 1)


def _read_members(body: bytes) -> dict[str, msgspec.Raw] | None:
    try:
        members = _decode_members(body)
        if _length(members) != len(body):
            # Most likely white space; without it the members have to account for every byte.
            body = msgspec.json.format(body, indent=-1)
            members = _decode_members(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    return members if _length(members) == len(body) else None


def _length(members: dict[str, msgspec.Raw]) -> int:
    """Of an object with these members and no white space: two quotes and a colon each, commas, two braces."""
    return 1 + 4 * len(members) + sum(map(len, members)) + sum(map(len, members.values()))


def _take_apart(asked: bytes) -> tuple[Kind | None, tuple[bytes, ...]]:
    if asked[:1] == b'"':
        return "text", (asked,)
    if asked[:1] != b"[":
        return None, ()
    first = asked[1:16].lstrip()[:1]
    if first.isdigit():
        # What else may stand in it is the provider's to judge.
        return "tokens", (asked,)
    kind = _KINDS.get(first)
    if kind is None:
        return None, ()
    items = tuple(map(bytes, _decode_items(asked)))
    return (kind, items) if all(item[:1] == first for item in items) else (None, ())
