"""A language model of a few thousand numbers, as a GGUF file: nonsense, but a real model to a real server.

The format is that of ggml's `docs/gguf.md`, version 3: a header, metadata, the tensors' places, the tensors. The model
is a Llama of one layer with random weights and a vocabulary of bytes and a few hundred made-up words.
"""

import random
import struct
from array import array
from pathlib import Path

CONTEXT = 2048
_WIDTH = 32
_HEADS = 2
_INNER = 64
_WORDS = 200
_ALIGNMENT = 32

_UINT32, _INT32, _FLOAT32, _STRING, _ARRAY = 4, 5, 6, 8, 9
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_F32 = 0
_ATTENTION = ("q", "k", "v", "output")
_SPECIAL = ("<unk>", "<s>", "</s>")


def write_model(path: Path, seed: int = 7) -> None:
    """Write the model for `seed` to `path`: about 170 KB."""
    tokens, scores, types = _vocabulary()
    metadata = [
        _entry("general.architecture", _STRING, _string("llama")),
        _entry("general.name", _STRING, _string("tiny")),
        _entry("llama.context_length", _UINT32, struct.pack("<I", CONTEXT)),
        _entry("llama.embedding_length", _UINT32, struct.pack("<I", _WIDTH)),
        _entry("llama.block_count", _UINT32, struct.pack("<I", 1)),
        _entry("llama.feed_forward_length", _UINT32, struct.pack("<I", _INNER)),
        _entry("llama.rope.dimension_count", _UINT32, struct.pack("<I", _WIDTH // _HEADS)),
        _entry("llama.attention.head_count", _UINT32, struct.pack("<I", _HEADS)),
        _entry("llama.attention.layer_norm_rms_epsilon", _FLOAT32, struct.pack("<f", 1e-5)),
        _entry("tokenizer.ggml.model", _STRING, _string("llama")),
        _list("tokenizer.ggml.tokens", _STRING, len(tokens), b"".join(map(_string, tokens))),
        _list("tokenizer.ggml.scores", _FLOAT32, len(scores), array("f", scores).tobytes()),
        _list("tokenizer.ggml.token_type", _INT32, len(types), array("i", types).tobytes()),
        _entry("tokenizer.ggml.bos_token_id", _UINT32, struct.pack("<I", 1)),
        _entry("tokenizer.ggml.eos_token_id", _UINT32, struct.pack("<I", 2)),
        _entry("tokenizer.ggml.unknown_token_id", _UINT32, struct.pack("<I", 0)),
    ]
    places, contents = _tensors(len(tokens), random.Random(seed))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(places), len(metadata)) + b"".join(metadata) + b"".join(places)
    path.write_bytes(head + bytes(-len(head) % _ALIGNMENT) + contents)


def _vocabulary() -> tuple[list[str], list[float], list[int]]:
    """Tokens, their scores and their types; U+2581 stands for a space."""
    syllables = [first + vowel for first in "bdfgklmnprstvz" for vowel in "aeiou"]
    words = [f"\u2581{one}{two}" for one in syllables[:20] for two in syllables[20:30]][:_WORDS]
    tokens = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    types = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256, *[_NORMAL] * len(words)]
    return tokens, [0.0 if kind != _NORMAL else -1.0 for kind in types], types


def _tensors(n_tokens: int, rng: random.Random) -> tuple[list[bytes], bytes]:
    """Name and place of every tensor, and all their numbers; every length is a multiple of the alignment."""
    ones = array("f", [1.0] * _WIDTH)
    # Only words have a chance, so the model never ends by itself: it is the client who says when.
    silent = len(_SPECIAL) + 256
    output = array("f", [0.0] * silent * _WIDTH) + _random(_WIDTH * (n_tokens - silent), rng)
    tensors = [
        ("token_embd.weight", (_WIDTH, n_tokens), _random(_WIDTH * n_tokens, rng)),
        ("output_norm.weight", (_WIDTH,), ones),
        ("output.weight", (_WIDTH, n_tokens), output),
        ("blk.0.attn_norm.weight", (_WIDTH,), ones),
        ("blk.0.ffn_norm.weight", (_WIDTH,), ones),
        *(
            (f"blk.0.attn_{name}.weight", (_WIDTH, _WIDTH), _random(_WIDTH**2, rng))
            for name in ("q", "k", "v", "output")
        ),
        *((f"blk.0.ffn_{name}.weight", (_WIDTH, _INNER), _random(_WIDTH * _INNER, rng)) for name in ("gate", "up")),
        ("blk.0.ffn_down.weight", (_INNER, _WIDTH), _random(_WIDTH * _INNER, rng)),
    ]
    places = []
    contents = b""
    for name, shape, numbers in tensors:
        sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        places.append(_string(name) + sizes + struct.pack("<IQ", _F32, len(contents)))
        contents += numbers.tobytes()
    return places, contents


def _random(count: int, rng: random.Random) -> "array[float]":
    return array("f", (rng.gauss(0.0, 0.5) for _ in range(count)))


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _entry(key: str, kind: int, value: bytes) -> bytes:
    return _string(key) + struct.pack("<I", kind) + value


def _list(key: str, kind: int, count: int, values: bytes) -> bytes:
    return _entry(key, _ARRAY, struct.pack("<IQ", kind, count) + values)
