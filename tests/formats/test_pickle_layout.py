"""The layout of a pickle of arrays, against the pickles that CPython and NumPy make."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.formats.pickle_layout import PickleLayout
from tests.formats import strategies

DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "bool", "complex64")

as_numpy_1 = pytest.mark.skipif(int(np.__version__.split(".")[0]) > 1, reason="NumPy 2 spells its module otherwise")


def laid_out(arrays: dict[str, np.ndarray]) -> bytes:
    layout = PickleLayout()
    for name, array in layout.entries(list(arrays.items())):
        layout.text(name, ("key", name))
        layout.array(name, array.dtype.str[1:], array.shape, array.nbytes)
    layout.finish()
    file = bytearray(layout.size)
    written = [(offset, bytes(data)) for offset, data in layout.pieces]
    written += [(layout.gaps[name], array.tobytes()) for name, array in arrays.items()]
    end = 0
    for offset, data in sorted(written):
        assert offset == end or not data
        file[offset : offset + len(data)] = data
        end = max(end, offset + len(data))
    assert end == layout.size
    return bytes(file)


def of_sizes(*sizes: int) -> dict[str, np.ndarray]:
    return {f"layer.{i}.weight": np.random.default_rng(i).integers(0, 255, n, np.uint8) for i, n in enumerate(sizes)}


# CPython has one object for each byte string of one byte, and would write such an array's data once.
LONGER = strategies.arrays(DTYPES).filter(lambda array: array.nbytes > 1)


@as_numpy_1
@settings(max_examples=150)
@given(st.dictionaries(strategies.WILD_NAMES, LONGER, max_size=8))
def test_a_layout_is_what_the_pickler_writes(arrays):
    assert laid_out(arrays) == pickle.dumps(arrays, protocol=4)


@as_numpy_1
@settings(max_examples=60)
@given(st.lists(st.sampled_from((2, 255, 256, 300, 30000, 65535, 65536, 70000)), max_size=8))
def test_frames_begin_and_end_where_the_pickler_has_them(sizes):
    arrays = of_sizes(*sizes)
    assert laid_out(arrays) == pickle.dumps(arrays, protocol=4)


@as_numpy_1
@pytest.mark.parametrize("count", [0, 1, 2, 999, 1000, 1001, 2000])
def test_batches_are_those_of_the_pickler(count):
    arrays = of_sizes(*[9] * count)
    assert laid_out(arrays) == pickle.dumps(arrays, protocol=4)


@as_numpy_1
@pytest.mark.parametrize(
    "name", ["", "w", "\xff", "\u0100", "x" * 255, "é" * 200, "x" * 65535, "x" * 65536, "é" * 70000]
)
def test_names_of_any_length_are_written_as_the_pickler_does(name):
    arrays = {"a": np.ones(2), name: np.ones(3), "<": np.zeros(2, np.int8)}
    assert laid_out(arrays) == pickle.dumps(arrays, protocol=4)


@as_numpy_1
def test_a_name_that_only_reads_like_another_text_is_another_object():
    # Joined, for a literal could be the very object that NumPy has.
    arrays = {"".join(("f", "4")): np.ones(2, np.float32), "".join(("nd", "array")): np.ones(2, np.float32)}
    assert laid_out(arrays) == pickle.dumps(arrays, protocol=4)


@settings(max_examples=100)
@given(st.dictionaries(strategies.WILD_NAMES, strategies.arrays(DTYPES), max_size=8))
def test_numpy_loads_a_layout(arrays):
    found = pickle.loads(laid_out(arrays))
    assert list(found) == list(arrays)
    assert all(strategies.equal_bits(found[name], arrays[name]) for name in arrays)


def test_an_array_over_4_gib_has_its_length_and_sides_in_8_bytes():
    layout = PickleLayout()
    layout.array("w", "u1", (1 << 33, 1), 1 << 33)
    layout.finish()
    head = bytes(layout.pieces[0][1])
    assert head.endswith(b"\x8e" + (1 << 33).to_bytes(8, "little"))
    assert layout.gaps == {"w": len(head)}
    assert b"\x8a\x05" + (1 << 33).to_bytes(5, "little") + b"K\x01\x86" in head
    assert layout.size == len(head) + (1 << 33) + len(layout.pieces[1][1])
