"""Writing an ONNX file without the `onnx` package: the few messages of its protobuf schema that a graph needs.

Field numbers are those of onnx.proto, IR version 9 (onnx/onnx, 2023). Only what the converter uses is here: nodes
with integer, float and integer-list attributes, initializers with raw data, inputs and outputs with named dimensions.
"""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

IR_VERSION = 9
OPSET = 17
"""The first with LayerNormalization."""

Attribute = int | float | tuple[int, ...]

_VARINT, _BYTES, _FIXED32 = 0, 2, 5
_ATTRIBUTE_FLOAT, _ATTRIBUTE_INT, _ATTRIBUTE_INTS = 1, 2, 7
_ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7}


def varint(value: int) -> bytes:
    """`value` in protobuf's base-128 form; negative numbers as 64-bit two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def integer(field: int, value: int) -> bytes:
    """One integer field."""
    return varint(field << 3 | _VARINT) + varint(value)


def block(field: int, content: bytes | str) -> bytes:
    """One field of bytes, text or a message."""
    raw = content.encode("utf-8") if isinstance(content, str) else content
    return varint(field << 3 | _BYTES) + varint(len(raw)) + raw


def _real(field: int, value: float) -> bytes:
    return varint(field << 3 | _FIXED32) + struct.pack("<f", value)


def _attribute(name: str, value: Attribute) -> bytes:
    named = block(1, name)
    if isinstance(value, float):
        return named + _real(2, value) + integer(20, _ATTRIBUTE_FLOAT)
    if isinstance(value, int):
        return named + integer(3, value) + integer(20, _ATTRIBUTE_INT)
    return named + b"".join(integer(8, each) for each in value) + integer(20, _ATTRIBUTE_INTS)


def _tensor(name: str, array: NDArray[np.generic]) -> bytes:
    dims = b"".join(integer(1, size) for size in array.shape)
    raw = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return dims + integer(2, _ELEMENT_TYPES[array.dtype.name]) + block(8, name) + block(9, raw)


def _value(name: str, element: str, dims: Sequence[int | str]) -> bytes:
    shape = b"".join(block(1, block(2, each) if isinstance(each, str) else integer(1, each)) for each in dims)
    tensor = integer(1, _ELEMENT_TYPES[element]) + block(2, shape)
    return block(1, name) + block(2, block(1, tensor))


class Graph:
    """A graph that grows node by node; every method that adds one returns the name of what it computes."""

    __slots__ = ("_initializers", "_inputs", "_names", "_nodes", "_outputs")

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._initializers: list[bytes] = []
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []
        self._names = 0

    def input(self, name: str, element: str, dims: Sequence[int | str]) -> str:
        """An input of numpy type `element`; a dimension given by name may have any size."""
        self._inputs.append(_value(name, element, dims))
        return name

    def output(self, name: str, element: str, dims: Sequence[int | str]) -> None:
        """Declare the result `name` as an output."""
        self._outputs.append(_value(name, element, dims))

    def constant(self, array: NDArray[np.generic]) -> str:
        """An array that is part of the file."""
        name = self._name("w")
        self._initializers.append(_tensor(name, array))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Attribute) -> str:
        """The result of `operator`, which has one."""
        return self.nodes(operator, inputs, 1, **attributes)[0]

    def nodes(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str] | int, **attributes: Attribute
    ) -> Sequence[str]:
        """All results of `operator`: of the names given, or as many as said."""
        if isinstance(outputs, int):
            outputs = [self._name("t") for _ in range(outputs)]
        message = b"".join(block(1, each) for each in inputs)
        message += b"".join(block(2, each) for each in outputs)
        message += block(4, operator)
        message += b"".join(block(5, _attribute(name, value)) for name, value in attributes.items())
        self._nodes.append(message)
        return outputs

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}{self._names}"

    def model(self, producer: str) -> bytes:
        """The whole file."""
        graph = b"".join(block(1, each) for each in self._nodes)
        graph += block(2, "graph")
        graph += b"".join(block(5, each) for each in self._initializers)
        graph += b"".join(block(11, each) for each in self._inputs)
        graph += b"".join(block(12, each) for each in self._outputs)
        opset = block(1, "") + integer(2, OPSET)
        return integer(1, IR_VERSION) + block(2, producer) + block(7, graph) + block(8, opset)
