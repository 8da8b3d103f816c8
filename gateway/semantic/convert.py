"""A BERT sentence encoder as one int8 ONNX graph: token ids in, unit vectors out.

Theory of operation. Weights are rounded to whole numbers per output channel once, here. Activations are rounded while
the graph runs, each token's by itself, so that a text's vector depends neither on its padding nor on what else is in
the batch; with one scale for the whole tensor, as DynamicQuantizeLinear has it, cosines to the float model fell to
0.987, and to 0.979 in company, against 0.995. Embedding rows are kept as bytes with one factor each. Attention,
LayerNorm and the mean over the tokens stay in float32: they are cheap, and rounding hurts most there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gateway.semantic.convert_onnx import Graph
from gateway.semantic.convert_weights import BadWeights, Floats, quantise

PRODUCER = "llm-gateway"
STEPS = 181
"""Activations become 0 to 181: two products of one with a weight, 2 x 181 x 90, just fit into 16 bits."""
_UINT8 = 2
_FLOAT = 1
"""ONNX's number of float32, for Cast."""
_MASKED = np.float32(-10000.0)


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes that the weights themselves do not tell."""

    layers: int
    heads: int
    norm_epsilon: float = 1e-12
    positions: int = 256
    """How many tokens a text may have; the table of positions is cut there."""


MINILM_L6 = Architecture(layers=6, heads=12)
"""sentence-transformers/all-MiniLM-L6-v2, from its config.json and sentence_bert_config.json."""


def convert(weights: Mapping[str, Floats], shape: Architecture) -> bytes:
    """The ONNX file of the encoder whose parameters are `weights`, under the names that BertModel gives them.

    Inputs `ids` and `mask` (int64, batch x tokens; mask is 1 for tokens and 0 for padding); output `vectors` (float32,
    batch x width, each of length 1): the mean over the tokens. The pooler is not used. Raises BadWeights.
    """
    try:
        return _Converter(weights, shape).run()
    except KeyError as error:
        raise BadWeights(f"the weights have no {error.args[0]}: not the expected kind of model") from error


class _Converter:
    def __init__(self, weights: Mapping[str, Floats], shape: Architecture) -> None:
        self._weights = weights
        self._shape = shape
        self._graph = Graph()
        self._width = weights["embeddings.word_embeddings.weight"].shape[1]
        if self._width % shape.heads:
            raise BadWeights(f"a width of {self._width} does not divide into {shape.heads} heads")
        self._ids = self._graph.input("ids", "int64", ("batch", "tokens"))
        mask = self._graph.input("mask", "int64", ("batch", "tokens"))
        self._mask = self._graph.node("Cast", mask, to=_FLOAT)

    def run(self) -> bytes:
        hidden = self._embeddings()
        barrier = self._barrier()
        for number in range(self._shape.layers):
            hidden = self._layer(hidden, barrier, f"encoder.layer.{number}")
        self._pool(hidden)
        self._graph.output("vectors", "float32", ("batch", self._width))
        return self._graph.model(PRODUCER)

    def _integers(self, *values: int) -> str:
        return self._graph.constant(np.array(values, np.int64))

    def _real(self, value: float) -> str:
        return self._graph.constant(np.array(value, np.float32))

    def _embeddings(self) -> str:
        graph, weights = self._graph, self._weights
        rows, factors = quantise(weights["embeddings.word_embeddings.weight"], axis=0)
        words = graph.node("Cast", graph.node("Gather", graph.constant(rows), self._ids), to=_FLOAT)
        words = graph.node("Mul", words, graph.node("Gather", graph.constant(factors), self._ids))
        # Every text is one segment, so its constant row is added to the positions once and for all.
        positions = weights["embeddings.position_embeddings.weight"][: self._shape.positions]
        table = graph.constant(positions + weights["embeddings.token_type_embeddings.weight"][0])
        length = graph.node("Gather", graph.node("Shape", self._ids), self._integers(1))
        places = graph.node("Slice", table, self._integers(0), length)
        return self._norm(graph.node("Add", words, places), "embeddings.LayerNorm")

    def _barrier(self) -> str:
        """What is added to the scores: 0 for tokens, a large negative number for padding."""
        graph = self._graph
        absent = graph.node("Sub", self._real(1.0), self._mask)
        return graph.node("Unsqueeze", graph.node("Mul", absent, self._real(float(_MASKED))), self._integers(1, 2))

    def _norm(self, value: str, name: str) -> str:
        scale, bias = (self._graph.constant(self._weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self._graph.node("LayerNormalization", value, scale, bias, epsilon=self._shape.norm_epsilon)

    def _dense(self, value: str, matrix: Floats, bias: Floats) -> str:
        """value x matrix + bias with an int8 matrix (inputs x outputs).

        A row of `value` is low + step x whole, so its product is step x (whole x matrix) + low x (sums of the columns).
        """
        graph = self._graph
        numbers, factors = quantise(matrix, axis=1)
        low = graph.node("ReduceMin", value, axes=(-1,), keepdims=1)
        above = graph.node("Sub", value, low)
        highest = graph.node("ReduceMax", above, axes=(-1,), keepdims=1)
        step = graph.node("Max", graph.node("Mul", highest, self._real(1 / STEPS)), self._real(1e-20))
        # Cast cuts off what is behind the point.
        whole = graph.node("Add", graph.node("Div", above, step), self._real(0.5))
        product = graph.node("MatMulInteger", graph.node("Cast", whole, to=_UINT8), graph.constant(numbers))
        scaled = graph.node("Mul", graph.node("Cast", product, to=_FLOAT), step)
        scaled = graph.node("Mul", scaled, graph.constant(factors[0]))
        sums = numbers.sum(axis=0, dtype=np.int64).astype(np.float32) * factors[0]
        lifted = graph.node("Add", graph.node("Mul", low, graph.constant(sums)), graph.constant(bias))
        return graph.node("Add", scaled, lifted)

    def _linear(self, value: str, name: str) -> str:
        return self._dense(value, self._weights[f"{name}.weight"].T, self._weights[f"{name}.bias"])

    def _layer(self, hidden: str, barrier: str, name: str) -> str:
        graph = self._graph
        attended = self._linear(
            self._attention(hidden, barrier, f"{name}.attention.self"), f"{name}.attention.output.dense"
        )
        hidden = self._norm(graph.node("Add", attended, hidden), f"{name}.attention.output.LayerNorm")
        inner = self._gelu(self._linear(hidden, f"{name}.intermediate.dense"))
        return self._norm(
            graph.node("Add", self._linear(inner, f"{name}.output.dense"), hidden), f"{name}.output.LayerNorm"
        )

    def _gelu(self, value: str) -> str:
        # In the shape that onnxruntime recognises and runs as one operation.
        graph = self._graph
        error = graph.node("Erf", graph.node("Div", value, self._real(math.sqrt(2.0))))
        return graph.node("Mul", graph.node("Mul", value, graph.node("Add", error, self._real(1.0))), self._real(0.5))

    def _attention(self, hidden: str, barrier: str, name: str) -> str:
        graph, weights, heads = self._graph, self._weights, self._shape.heads
        size = self._width // heads
        parts = [
            (weights[f"{name}.{part}.weight"].T, weights[f"{name}.{part}.bias"]) for part in ("query", "key", "value")
        ]
        # The division of the scores by the root of the head's size is done in the weights.
        root = np.float32(1.0 / math.sqrt(size))
        parts[0] = (parts[0][0] * root, parts[0][1] * root)
        joined = self._dense(
            hidden, np.concatenate([each for each, _ in parts], axis=1), np.concatenate([each for _, each in parts])
        )
        query, key, value = graph.nodes("Split", (joined, self._integers(*[self._width] * 3)), 3, axis=2)
        split = self._integers(0, 0, heads, size)
        query, key, value = (
            graph.node("Transpose", graph.node("Reshape", each, split), perm=order)
            for each, order in ((query, (0, 2, 1, 3)), (key, (0, 2, 3, 1)), (value, (0, 2, 1, 3)))
        )
        scores = graph.node("Softmax", graph.node("Add", graph.node("MatMul", query, key), barrier), axis=-1)
        mixed = graph.node("Transpose", graph.node("MatMul", scores, value), perm=(0, 2, 1, 3))
        return graph.node("Reshape", mixed, self._integers(0, 0, self._width))

    def _pool(self, hidden: str) -> None:
        # The mean's division cancels out when the vector is brought to length 1.
        graph = self._graph
        total = graph.node(
            "ReduceSum",
            graph.node("Mul", hidden, graph.node("Unsqueeze", self._mask, self._integers(2))),
            self._integers(1),
            keepdims=0,
        )
        length = graph.node(
            "Sqrt", graph.node("ReduceSum", graph.node("Mul", total, total), self._integers(1), keepdims=1)
        )
        graph.nodes("Div", (total, graph.node("Max", length, self._real(1e-12))), ("vectors",))
