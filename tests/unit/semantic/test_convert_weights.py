"""Reading safetensors, and rounding to eight bits."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.semantic.convert import STEPS
from gateway.semantic.convert_weights import LEVELS, BadWeights, quantise, read_safetensors
from tests.unit.semantic.reference import write_safetensors


def test_floating_point_tensors_are_read_and_the_others_left_out(tmp_path: Path) -> None:
    one = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_safetensors(
        tmp_path / "a", {"one": one, "half": one.astype(np.float16), "positions": np.arange(4, dtype=np.int64)}
    )
    found = read_safetensors(tmp_path / "a")
    assert found.keys() == {"one", "half"}
    assert found["one"].tolist() == found["half"].tolist() == one.tolist()
    assert found["half"].dtype == np.float32


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 1 << 40) + b"{}",
        struct.pack("<Q", 2) + b"no",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 8) + b'{"a": 1}',
        struct.pack("<Q", 58) + b'{"a": {"dtype": "F32", "shape": [9], "data_offsets":[0,9]}}',
    ],
)
def test_what_is_no_safetensors_file_is_refused_with_its_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights"
    path.write_bytes(content)
    with pytest.raises(BadWeights, match="weights"):
        read_safetensors(path)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1]))
def test_rounded_weights_are_within_half_a_step_of_the_real_ones(seed: int, axis: int) -> None:
    random = np.random.default_rng(seed)
    weights = random.normal(0, random.uniform(1e-6, 1e3), (5, 7)).astype(np.float32)
    numbers, factors = quantise(weights, axis)
    assert numbers.dtype == np.int8 and np.abs(numbers).max() <= LEVELS
    assert factors.shape == ((5, 1) if axis == 0 else (1, 7))
    assert (np.abs(numbers * factors - weights) <= factors * 0.501).all()


def test_weights_that_are_all_zero_stay_zero() -> None:
    numbers, factors = quantise(np.zeros((2, 3), np.float32), 0)
    assert not numbers.any() and np.isfinite(factors).all()


def test_two_products_fit_into_the_16_bits_of_processors_without_vnni() -> None:
    assert 2 * STEPS * LEVELS < 2**15
