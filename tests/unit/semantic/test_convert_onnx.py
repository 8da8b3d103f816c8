"""The protobuf that is written is one that onnxruntime reads."""

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # it has no types
import pytest

from gateway.semantic.convert_onnx import Graph, block, integer, varint


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, b"\x00"),
        (1, b"\x01"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (300, b"\xac\x02"),
        (-1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
    ],
)
def test_varints_are_written_as_the_protobuf_encoding_guide_shows(value: int, written: bytes) -> None:
    assert varint(value) == written


def test_fields_carry_their_number_and_wire_type() -> None:
    assert integer(1, 150) == b"\x08\x96\x01"
    assert block(2, "testing") == b"\x12\x07testing"


def test_a_written_graph_computes_what_was_put_together() -> None:
    graph = Graph()
    value = graph.input("value", "float32", ("rows", 3))
    low = graph.node("ReduceMin", value, axes=(-1,), keepdims=1)
    left, right = graph.nodes("Split", (value, graph.constant(np.array([1, 2], np.int64))), 2, axis=1)
    joined = graph.node("Concat", right, left, low, axis=1)
    graph.nodes("LeakyRelu", (joined,), ("result",), alpha=0.5)
    graph.output("result", "float32", ("rows", 4))
    session = onnxruntime.InferenceSession(graph.model("tests"), providers=["CPUExecutionProvider"])
    found = session.run(["result"], {"value": np.array([[1, 2, -3], [4, 5, 6]], np.float32)})[0]
    assert found.tolist() == [[2, -1.5, 1, -1.5], [5, 6, 4, 4]]
