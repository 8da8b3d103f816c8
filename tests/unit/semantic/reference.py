"""BERT in float32, written as plainly as numpy allows: what the converted graph is measured against."""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_erf = np.vectorize(math.erf, otypes=[np.float32])


def encode(weights: Mapping[str, Floats], ids: list[int], layers: int, heads: int) -> Floats:
    """The unit vector of one text: the mean over its tokens, as sentence-transformers computes it."""

    def dense(value: Floats, name: str) -> Floats:
        result: Floats = value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        return result

    def norm(value: Floats, name: str) -> Floats:
        centred = value - value.mean(-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        result: Floats = centred / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]
        return result

    def split(value: Floats) -> Floats:
        return value.reshape(len(ids), heads, -1).transpose(1, 0, 2)

    hidden = weights["embeddings.word_embeddings.weight"][ids]
    hidden = hidden + weights["embeddings.position_embeddings.weight"][: len(ids)]
    hidden = norm(hidden + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for number in range(layers):
        name = f"encoder.layer.{number}"
        query, key, value = (
            split(dense(hidden, f"{name}.attention.self.{each}")) for each in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ value
        mixed = mixed.transpose(1, 0, 2).reshape(len(ids), -1)
        hidden = norm(hidden + dense(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        inner = dense(hidden, f"{name}.intermediate.dense")
        inner = inner * (1 + _erf(inner / math.sqrt(2))) / 2
        hidden = norm(hidden + dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    mean = hidden.mean(0)
    vector: Floats = mean / np.linalg.norm(mean)
    return vector


def small_weights(width: int = 48, layers: int = 2, words: int = 40, positions: int = 16) -> dict[str, Floats]:
    """Random parameters of a small model, named as BertModel names them."""
    random = np.random.default_rng(7)

    def matrix(*shape: int) -> Floats:
        return random.normal(0, 0.4, shape).astype(np.float32)

    found = {
        "embeddings.word_embeddings.weight": matrix(words, width),
        "embeddings.position_embeddings.weight": matrix(positions, width),
        "embeddings.token_type_embeddings.weight": matrix(2, width),
    }
    norms = ["embeddings.LayerNorm"]
    for number in range(layers):
        name = f"encoder.layer.{number}"
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
        inside = (*(f"attention.self.{each}" for each in ("query", "key", "value")), "attention.output.dense")
        sizes = {each: (width, width) for each in inside}
        for part, size in {
            **sizes,
            "intermediate.dense": (2 * width, width),
            "output.dense": (width, 2 * width),
        }.items():
            found[f"{name}.{part}.weight"] = (matrix(*size) / 4).astype(np.float32)
            found[f"{name}.{part}.bias"] = matrix(size[0])
    for name in norms:
        found[f"{name}.weight"] = (1 + matrix(width) / 4).astype(np.float32)
        found[f"{name}.bias"] = matrix(width)
    return found


def write_safetensors(path: Path, tensors: Mapping[str, NDArray[np.generic]]) -> None:
    """A file in the format of huggingface/safetensors."""
    kinds = {"float32": "F32", "float16": "F16", "int64": "I64"}
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    content = b""
    for name, array in tensors.items():
        raw = array.tobytes()
        place = [len(content), len(content) + len(raw)]
        header[name] = {"dtype": kinds[array.dtype.name], "shape": list(array.shape), "data_offsets": place}
        content += raw
    written = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + content)
