"""Embeddings."""

import base64
import json
import math
import struct

import pytest

from gateway.core.errors import InvalidRequest
from gateway.mock.bodies import Body
from gateway.mock.vectors import embed, embeddings_body


def likeness(one: str, other: str) -> float:
    return sum(a * b for a, b in zip(embed(one, 512, 0), embed(other, 512, 0), strict=True))


def test_a_vector_has_length_one_and_repeats() -> None:
    assert math.isclose(sum(x * x for x in embed("a b c", 64, 0)), 1.0)
    assert embed("a b", 64, 0) == embed("a b", 64, 0) != embed("a b", 64, 1)


@pytest.mark.parametrize("text", ["", "   ", *(f"w{n}" for n in range(10))])
@pytest.mark.parametrize("dimensions", [1, 2, 1536])
def test_no_text_is_without_direction(text: str, dimensions: int) -> None:
    assert math.isclose(sum(x * x for x in embed(text, dimensions, 0)), 1.0)


def test_texts_that_share_words_are_alike() -> None:
    assert likeness("how do I reset my password", "reset my password please") > 0.5
    assert likeness("how do I reset my password", "weather in Paris tomorrow") < 0.3


def test_floats_and_base64_are_the_same_numbers() -> None:
    plain = json.loads(embeddings_body(Body(input=["x y", "z"], dimensions=8), "m", seed=0, usage=(3, 3)))
    packed = json.loads(
        embeddings_body(Body(input=["x y", "z"], dimensions=8, encoding_format="base64"), "m", seed=0, usage=None)
    )
    assert [row["index"] for row in plain["data"]] == [0, 1]
    assert plain["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert "usage" not in packed
    for one, other in zip(plain["data"], packed["data"], strict=True):
        unpacked = struct.unpack("<8f", base64.b64decode(other["embedding"]))
        assert one["embedding"] == pytest.approx(unpacked, abs=1e-6)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (Body(input="x", dimensions=0), "dimensions"),
        (Body(input="x", dimensions=10**9), "dimensions"),
        (Body(input="x", encoding_format="hex"), "encoding_format"),
    ],
)
def test_absurd_wishes_are_refused(body: Body, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        embeddings_body(body, "m", seed=0, usage=None)
    assert caught.value.param == param
