"""The int8 graph against the float32 reference."""

from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # it has no types
import pytest

from gateway.semantic.convert import MINILM_L6, Architecture, convert
from gateway.semantic.convert_weights import BadWeights, Floats, read_safetensors
from gateway.semantic.model import VOCABULARY, WEIGHTS, load
from gateway.semantic.tokenizer import Tokenizer
from tests.unit.semantic.reference import encode, small_weights

SMALL = Architecture(layers=2, heads=4, positions=16)


def run(graph: bytes, texts: list[list[int]]) -> Floats:
    """Vectors of one padded batch."""
    longest = max(map(len, texts))
    ids = np.zeros((len(texts), longest), np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found: Floats = session.run(["vectors"], {"ids": ids, "mask": mask})[0]
    return found


def test_a_converted_model_computes_nearly_what_the_float_model_does() -> None:
    weights = small_weights()
    texts = [[1, 5, 9, 2], [1, 30, 31, 32, 33, 34, 2], [1, 2], list(range(16))]
    found = run(convert(weights, SMALL), texts)
    for text, vector in zip(texts, found, strict=True):
        assert vector @ encode(weights, text, layers=2, heads=4) > 0.999
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_a_vector_depends_neither_on_padding_nor_on_company() -> None:
    graph = convert(small_weights(), SMALL)
    alone = run(graph, [[1, 7, 8, 2]])[0]
    in_company = run(graph, [[1, 7, 8, 2], list(range(15)), [1, 39, 2]])[0]
    assert np.abs(alone - in_company).max() < 1e-5


def test_weights_of_another_model_are_refused_by_the_name_that_is_missing() -> None:
    weights = small_weights()
    del weights["encoder.layer.1.output.dense.bias"]
    with pytest.raises(BadWeights, match=r"encoder\.layer\.1\.output\.dense\.bias"):
        convert(weights, SMALL)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(BadWeights, match="48 does not divide into 5 heads"):
        convert(small_weights(), Architecture(layers=2, heads=5))


SENTENCES = [
    line.split(" | ")[2]
    for line in (Path(__file__).parent / "question_pairs.txt").read_text("utf-8").splitlines()[1:]
    if not line.startswith("#")
][::8]


def test_the_real_model_is_within_one_percent_of_its_float_form(model_source: Path, model_folder: Path) -> None:
    weights = read_safetensors(next(model_source.rglob(WEIGHTS)))
    tokenizer, encoder = Tokenizer.read(next(model_source.rglob(VOCABULARY))), load(model_folder)
    assert len(SENTENCES) >= 50
    cosines = [
        float(
            encoder.encode(each) @ encode(weights, tokenizer.ids(each), layers=MINILM_L6.layers, heads=MINILM_L6.heads)
        )
        for each in SENTENCES
    ]
    assert min(cosines) >= 0.99, sorted(cosines)[:3]
