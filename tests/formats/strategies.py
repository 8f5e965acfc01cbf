"""Hypothesis strategies for what a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import from_numpy_dtype

WILD = st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"])
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

COMMON = ("float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool")
"""Element types that every framework here has."""

ALL = (*COMMON, "uint16", "uint32", "uint64", "complex64", "complex128")

PLAIN_NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_.]{0,30}", fullmatch=True)
WILD_NAMES = st.text(WILD, min_size=1, max_size=40)


@dataclass(frozen=True)
class Case:
    """Arrays by name, as one checkpoint holds them."""

    arrays: dict[str, np.ndarray]

    @property
    def specs(self) -> list[TensorSpec]:
        return [TensorSpec(name, from_numpy_dtype(a.dtype), a.shape) for name, a in self.arrays.items()]


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy (or ml_dtypes) dtype of that name."""
    return BFLOAT16 if name == "bfloat16" else np.dtype(name)


def shapes(max_dims: int = 5, max_side: int = 6) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes with scalars, empty tensors and up to ``max_dims`` axes."""
    return st.lists(st.integers(0, max_side), max_size=max_dims).map(tuple)


@st.composite
def arrays(draw: st.DrawFn, dtypes: Sequence[str] = COMMON, shape: st.SearchStrategy | None = None) -> np.ndarray:
    """An array of arbitrary bits (NaNs with payloads, denormals and infinities among them; bools are 0 or 1)."""
    dtype = numpy_dtype(draw(st.sampled_from(dtypes)))
    dims = draw(shapes() if shape is None else shape)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = int(np.prod(dims, dtype=np.int64))
    if dtype == np.bool_:
        return rng.integers(0, 2, count).astype(np.bool_).reshape(dims)
    return np.frombuffer(rng.bytes(count * dtype.itemsize), dtype).reshape(dims).copy()


@st.composite
def cases(
    draw: st.DrawFn,
    dtypes: Sequence[str] = COMMON,
    names: st.SearchStrategy[str] = PLAIN_NAMES,
    min_size: int = 0,
    max_size: int = 8,
) -> Case:
    """A whole checkpoint of a few tensors."""
    chosen = draw(st.lists(names, min_size=min_size, max_size=max_size, unique=True))
    return Case({name: draw(arrays(dtypes)) for name in chosen})


def equal_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays have the same dtype, shape and bits (so NaN equals the same NaN)."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
