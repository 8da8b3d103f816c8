"""One reply with everybody's vectors, taken apart again: to each its own, and its share of what they took.

The JSON of a vector is never read, only cut out, so that a number comes as the provider has written it.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from gateway.core.errors import UpstreamError
from gateway.core.exchange import Usage

Rows = list[dict[str, Raw]]
"""The members of each vector's object, in the order of the inputs."""

_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_rows = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_decode = msgspec.json.Decoder(float_hook=float).decode
_encode = msgspec.json.Encoder().encode

_COUNTS = (
    *("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens"),
    *("cache_write_1h_tokens", "audio_input_tokens", "audio_output_tokens"),
)


def read_members(body: bytes) -> dict[str, Raw]:
    """The members of the reply. Raises UpstreamError when it is not an object with `data`."""
    try:
        members = _decode_members(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _unusable("it is no JSON object") from error
    if "data" not in members:
        raise _unusable("it has no `data`")
    return members


def read_rows(data: Raw, count: int) -> Rows:
    """One row for each of `count` inputs, in their order.

    Raises UpstreamError unless `data` has exactly these, each once: by its place alone nobody can tell whose a
    vector is when one is missing.
    """
    try:
        found = _decode_rows(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _unusable("`data` is no list of objects") from error
    by_index = {_index(row): row for row in found if "embedding" in row}
    if len(found) != count or by_index.keys() != set(range(count)):
        raise _unusable(f"it has {len(found)} vectors for {count} inputs, or not each of them once")
    return [by_index[place] for place in range(count)]


def write_part(members: dict[str, Raw], rows: Rows, usage: Raw | bytes | None) -> bytes:
    """The reply to one of the requests: these rows, counted from 0, and its share of the usage; all else as it came."""
    listed = b",".join([_object(row, {"index": b"%d" % place}) for place, row in enumerate(rows)])
    changed: dict[str, Raw | bytes] = {"data": b"[%b]" % listed}
    if usage is not None:
        changed["usage"] = usage
    return _object(members, changed)


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """`total` split in proportion to `weights`, to the last token: the largest remainders are rounded up.

    The same total and weights give the same shares. `weights` are positive.
    """
    whole = sum(weights)
    parts = [divmod(total * weight, whole) for weight in weights]
    found = [part for part, _ in parts]
    left = total - sum(found)
    for place in sorted(range(len(parts)), key=lambda place: -parts[place][1])[:left]:
        found[place] += 1
    return found


def split_usage(usage: Usage, weights: Sequence[int]) -> list[Usage]:
    """Everybody's share of what the batch took. It stays the provider's report: the shares come to it exactly."""
    found = [Usage(source=usage.source, service_tier=usage.service_tier) for _ in weights]
    for name in _COUNTS:
        total = getattr(usage, name)
        if total is not None:
            for each, share in zip(found, shares(total, weights), strict=True):
                setattr(each, name, share)
    return found


def split_reported(members: dict[str, Raw], weights: Sequence[int]) -> list[bytes] | None:
    """The reply's own `usage` for each: every number in it is shared, all else is the same. None without one."""
    raw = members.get("usage")
    return None if raw is None else [_encode(each) for each in _split(_decode(raw), weights)]


def _split(value: Any, weights: Sequence[int]) -> list[Any]:
    if isinstance(value, dict):
        split = {name: _split(each, weights) for name, each in value.items()}
        return [{name: each[place] for name, each in split.items()} for place in range(len(weights))]
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return list(shares(value, weights))
    if isinstance(value, float):
        whole = sum(weights)
        return [value * weight / whole for weight in weights]
    return [value] * len(weights)


def _index(row: dict[str, Raw]) -> int:
    """Which input a row is of; -1 when it does not say."""
    text = bytes(row.get("index", b""))
    return int(text) if text.isdigit() and len(text) < 10 else -1


def _object(members: dict[str, Raw], changed: dict[str, Raw | bytes]) -> bytes:
    pieces = [b"%b:%b" % (_encode(name), changed.get(name, value)) for name, value in members.items()]
    return b"{%b}" % b",".join(pieces)


def _unusable(why: str) -> UpstreamError:
    # Without the provider's status: it has answered, and so charges for it.
    return UpstreamError(f"The provider's reply to several requests at once cannot be told apart: {why}.")
