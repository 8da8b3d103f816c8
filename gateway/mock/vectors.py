"""Embeddings that mean a little: texts that share words point the same way."""

import base64
import hashlib
import math
import struct
from functools import lru_cache

import msgspec

from gateway.core.errors import InvalidRequest
from gateway.mock.bodies import Body, embedding_inputs

DEFAULT_DIMENSIONS = 1536
"""As of text-embedding-3-small."""
MAX_DIMENSIONS = 8192
_SLOTS_PER_WORD = 8


def embed(text: str, dimensions: int, seed: int) -> list[float]:
    """A unit vector for `text`, the same for the same arguments. Each word is hashed to a few signed places."""
    vector = [0.0] * dimensions
    for word in text.lower().split() or [""]:
        for place, sign in _places(word, dimensions, seed):
            vector[place] += sign
    norm = math.sqrt(sum(x * x for x in vector))
    if norm == 0.0:
        # Words can cancel each other out; a zero vector has no direction.
        vector[0] = norm = 1.0
    return [x / norm for x in vector]


def embeddings_body(body: Body, model: str, *, seed: int, usage: tuple[int, int] | None) -> bytes:
    """The JSON answer of `/embeddings`. `usage` is (prompt, total) tokens, None to leave it out.

    Raises InvalidRequest for an unusable input, format or number of dimensions.
    """
    dimensions = DEFAULT_DIMENSIONS if body.dimensions is None else body.dimensions
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise InvalidRequest(
            f"Invalid 'dimensions': {dimensions}. It must be from 1 to {MAX_DIMENSIONS}.", param="dimensions"
        )
    form = body.encoding_format or "float"
    if form not in ("float", "base64"):
        raise InvalidRequest(f"Invalid 'encoding_format': {form!r}. Use 'float' or 'base64'.", param="encoding_format")
    rows: list[dict[str, object]] = []
    for index, text in enumerate(embedding_inputs(body)):
        vector = embed(text, dimensions, seed)
        packed = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode() if form == "base64" else vector
        rows.append({"object": "embedding", "index": index, "embedding": packed})
    answer: dict[str, object] = {"object": "list", "data": rows, "model": model}
    if usage is not None:
        answer["usage"] = {"prompt_tokens": usage[0], "total_tokens": usage[1]}
    return msgspec.json.encode(answer)


@lru_cache(maxsize=4096)
def _places(word: str, dimensions: int, seed: int) -> tuple[tuple[int, float], ...]:
    digest = hashlib.blake2b(f"{seed}\0{word}".encode(), digest_size=4 * _SLOTS_PER_WORD).digest()
    numbers = struct.unpack(f"<{_SLOTS_PER_WORD}I", digest)
    return tuple(((number >> 1) % dimensions, 1.0 if number & 1 else -1.0) for number in numbers)
