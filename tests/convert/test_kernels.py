"""Transposing and casting, held against NumPy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.convert.kernels import SIDE, Losses, cast, is_transpose, transpose, words
from interlingua.formats.dtypes import BFLOAT16, DTYPES, FLOAT16, FLOAT32, FLOAT64, numpy_dtype

FLOATS = (FLOAT16, BFLOAT16, FLOAT32, FLOAT64)


SIDES = st.one_of(st.integers(0, 70), st.integers(SIDE - 2, SIDE + 2), st.just(2 * SIDE + 1))


@given(SIDES, SIDES, st.sampled_from([dtype for dtype in DTYPES.values() if dtype.bits >= 8]))
def test_a_transpose_is_numpys_for_every_width(rows: int, columns: int, dtype) -> None:
    data = np.random.default_rng(rows * 71 + columns).bytes(rows * columns * dtype.itemsize)
    matrix = np.frombuffer(data, words(dtype)).reshape(rows, columns)
    turned = np.full((columns, rows), np.zeros((), words(dtype)))
    transpose(matrix, turned)
    assert turned.tobytes() == np.ascontiguousarray(matrix.T).tobytes()
    assert is_transpose(matrix, turned)


@given(st.integers(1, 2 * SIDE + 1), st.integers(1, 2 * SIDE + 1), st.sampled_from([1, 2, 4, 8, 16]), st.data())
def test_one_bit_makes_a_matrix_another_ones_transpose_no_more(
    rows: int, columns: int, itemsize: int, draw: st.DataObject
) -> None:
    data = np.random.default_rng(rows * 71 + columns).bytes(rows * columns * itemsize)
    matrix = np.frombuffer(data, f"V{itemsize}" if itemsize > 8 else f"u{itemsize}").reshape(rows, columns)
    turned = matrix.T.copy()
    assert is_transpose(matrix, turned)
    turned.view("u1").reshape(-1)[draw.draw(st.integers(0, turned.nbytes - 1))] ^= 1
    assert not is_transpose(matrix, turned)


@given(st.lists(st.floats(width=64), max_size=40), st.sampled_from(FLOATS), st.sampled_from(FLOATS))
def test_a_cast_is_numpys_and_its_losses_are_counted(values: list[float], source, target) -> None:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        elements = np.array(values, np.float64).astype(numpy_dtype(source))
        expected = elements.astype(numpy_dtype(target))
    result, losses = cast(elements, target)
    assert result.tobytes() == expected.tobytes()
    overflow = underflow = 0
    for before, after in zip(elements.tolist(), expected.astype(np.float64).tolist(), strict=True):
        before = float(before)
        overflow += np.isfinite(before) and np.isinf(after)
        underflow += before != 0 and after == 0
    assert losses == Losses(overflow, underflow)


@pytest.mark.parametrize(
    ("value", "target", "bits", "losses"),
    [
        (65504.0, FLOAT16, 0x7BFF, Losses()),
        (65519.99, FLOAT16, 0x7BFF, Losses()),
        (65520.0, FLOAT16, 0x7C00, Losses(overflow=1)),
        (-1e30, FLOAT16, 0xFC00, Losses(overflow=1)),
        (float("inf"), FLOAT16, 0x7C00, Losses()),
        (2.0**-24, FLOAT16, 0x0001, Losses()),
        (2.0**-25, FLOAT16, 0x0000, Losses(underflow=1)),
        (-(2.0**-26), FLOAT16, 0x8000, Losses(underflow=1)),
        (0.0, FLOAT16, 0x0000, Losses()),
        (-0.0, FLOAT16, 0x8000, Losses()),
        (3.4e38, BFLOAT16, 0x7F80, Losses(overflow=1)),
        (3.38e38, BFLOAT16, 0x7F7E, Losses()),
        (1e-45, BFLOAT16, 0x0000, Losses(underflow=1)),
        # Halfway between two: the even one.
        (1.0 + 2**-8, BFLOAT16, 0x3F80, Losses()),
        (1.0 + 3 * 2**-8, BFLOAT16, 0x3F82, Losses()),
    ],
)
def test_values_at_the_edges(value: float, target, bits: int, losses: Losses) -> None:
    result, found = cast(np.array([value], np.float32), target)
    assert int(result.view(np.uint16)[0]) == bits
    assert found == losses


def test_not_a_number_is_no_loss() -> None:
    result, losses = cast(np.array([np.nan], np.float32), FLOAT16)
    assert np.isnan(result[0])
    assert not losses


def test_widening_loses_nothing_and_comes_back() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(ml_dtypes.bfloat16)
    finite = every[np.isfinite(every.astype(np.float32))]
    wide, losses = cast(finite, FLOAT32)
    assert not losses
    assert cast(wide, BFLOAT16)[0].tobytes() == finite.tobytes()


def test_losses_add_up_and_none_are_false() -> None:
    assert Losses(1, 2) + Losses(3, 4) == Losses(4, 6)
    assert not Losses()
    assert Losses(1, 0)
    assert Losses(0, 1)


@pytest.mark.parametrize(
    ("name", "code"), [("float32", "<u4"), ("complex64", "<u8"), ("complex128", "V16"), ("bool", "<u1")]
)
def test_words_are_as_wide_as_the_element(name: str, code: str) -> None:
    assert np.dtype(words(DTYPES[name])) == np.dtype(code)
