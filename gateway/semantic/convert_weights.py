"""Reading weights from a safetensors file, and rounding them to eight bits, with numpy alone.

The format (huggingface/safetensors, "Format"): eight bytes with the length of a JSON header, the header with type,
shape and place of every tensor, then the tensors. It holds no code, which is why it is the only one that is read.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_HEADER_LIMIT = 100 * 1024 * 1024

LEVELS = 90
"""Weights become -90 to 90. Processors without VNNI add the products of a weight and an activation in pairs, in 16
bits; with activations up to 181 (convert.STEPS) two products fit, so every machine computes the same."""


class BadWeights(ValueError):
    """The file is not what it should be; the message says how."""


def read_safetensors(path: Path) -> dict[str, Floats]:
    """Every floating-point tensor of the file at `path`, by name, as float32. Raises BadWeights, OSError."""
    raw = path.read_bytes()
    if len(raw) < 8:
        raise BadWeights(f"{path}: too short for a safetensors file")
    (length,) = struct.unpack_from("<Q", raw)
    if length > min(len(raw) - 8, _HEADER_LIMIT):
        raise BadWeights(f"{path}: no safetensors file: its header would have {length} bytes")
    try:
        header = json.loads(raw[8 : 8 + length])
        return {
            name: _tensor(raw, 8 + length, entry)
            for name, entry in header.items()
            if name != "__metadata__" and entry["dtype"] in ("F32", "F16")
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadWeights(f"{path}: its header cannot be read: {error}") from error


def _tensor(raw: bytes, start: int, entry: Mapping[str, Any]) -> Floats:
    begin, end = (start + each for each in entry["data_offsets"])
    # Slicing first: an offset beyond the end must not read what follows it.
    whole = np.frombuffer(raw[begin:end], "<f4" if entry["dtype"] == "F32" else "<f2")
    return whole.reshape([int(each) for each in entry["shape"]]).astype(np.float32)


def quantise(weights: Floats, axis: int) -> tuple[NDArray[np.int8], Floats]:
    """`weights` as whole numbers within ±LEVELS and the factors that give them back, one for each slice along `axis`.

    weights ≈ numbers x factors, symmetric (no zero point). The factors keep their dimension along `axis`; the other
    one has size 1.
    """
    largest = np.abs(weights).max(axis=1 - axis, keepdims=True)
    factors = np.maximum(largest, np.finfo(np.float32).tiny * LEVELS) / np.float32(LEVELS)
    return np.rint(weights / factors).astype(np.int8), factors.astype(np.float32)
