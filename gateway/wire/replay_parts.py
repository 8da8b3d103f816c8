"""What the replays of all dialects have in common: frames to JSON, JSON in its expected shape, and texts in pieces."""

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.wire.sse import fields, frames

PIECE_CHARS = 4096
"""Characters of one delta. Some clients refuse a line of more than 64 KiB, and one character has up to 12 bytes."""

decode = msgspec.json.Decoder(float_hook=msgspec.Raw).decode
"""Any JSON; its fractions stay the text that they are. Raises DecodeError and RecursionError."""


class Unfit(Exception):
    """The reply has a shape that is not known well enough to be told in another way."""


def events(block: bytes) -> Iterator[tuple[bytes | None, bytes]]:
    """Name and data of each event in complete frames; comments are none."""
    for frame in frames(block):
        name, data = fields(frame)
        if data is not None:
            yield name, data


def obj(value: object) -> dict[str, Any]:
    """`value`, which must be an object. Raises Unfit."""
    if not isinstance(value, dict):
        raise Unfit
    return value


def array(value: object) -> list[Any]:
    """`value`, which must be an array; null is an empty one. Raises Unfit."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise Unfit
    return value


def text(value: object) -> str:
    """`value`, which must be a string. Raises Unfit."""
    if not isinstance(value, str):
        raise Unfit
    return value


def pieces(value: object) -> Iterator[str]:
    """`value`, a string, in pieces of at most `PIECE_CHARS`; nothing for null and the empty one. Raises Unfit."""
    if value is None:
        return
    said = text(value)
    for start in range(0, len(said), PIECE_CHARS):
        yield said[start : start + PIECE_CHARS]
