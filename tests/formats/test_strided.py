"""Gathering of tensors whose elements lie in another order, against NumPy's own strides."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.formats import strided
from interlingua.formats.base import SourceFile
from interlingua.formats.dtypes import BOOL, COMPLEX64, COMPLEX128, FLOAT16, FLOAT32, FLOAT64, INT8, UINT16, DType
from interlingua.formats.strided import (
    FileRegion,
    Gathered,
    Joined,
    MemoryRegion,
    View,
    block_reader,
    checked_naturals,
    checked_shape,
    column_major,
    row_major,
)

TYPES = (BOOL, INT8, UINT16, FLOAT16, FLOAT32, FLOAT64, COMPLEX64, COMPLEX128)


@st.composite
def views(draw: st.DrawFn) -> View:
    """A view with any strides, also ones that use elements twice."""
    shape = tuple(draw(st.lists(st.integers(0, 6), max_size=4)))
    strides = tuple(draw(st.integers(0, 40)) for _ in shape)
    return View(draw(st.sampled_from(TYPES)), shape, strides, draw(st.integers(0, 9)), draw(st.booleans()))


def numpy_dtype(dtype: DType, big_endian: bool) -> np.dtype:
    return np.dtype(dtype.numpy).newbyteorder(">" if big_endian else "<")


def by_numpy(view: View, storage: bytes) -> bytes:
    """The view's row-major little-endian data, by NumPy's reckoning."""
    dtype = numpy_dtype(view.dtype, view.big_endian)
    steps = tuple(stride * dtype.itemsize for stride in view.strides)
    array = np.ndarray(view.shape, dtype, storage, view.offset * dtype.itemsize, steps)
    # A copy element by element: casting to the other byte order would quieten signalling NaNs.
    packed = np.array(array, dtype, order="C", copy=True)
    return packed.byteswap().tobytes() if view.big_endian and dtype.itemsize > 1 else packed.tobytes()


@settings(max_examples=400)
@given(views(), st.integers(0, 1 << 30), st.integers(1, 300), st.sampled_from((16, 64, 1 << 20)))
def test_any_view_is_gathered_as_numpy_strides_it(view, seed, block, tile):
    spare = 3
    storage = np.random.default_rng(seed).bytes(view.reach + spare)
    expected = by_numpy(view, storage) if view.nbytes else b""
    limits = (strided.TILE, strided.WINDOW)
    strided.TILE, strided.WINDOW = tile, max(16, tile // 4)
    try:
        for reader in (block_reader(MemoryRegion(storage), view), Gathered(MemoryRegion(storage), view)):
            out = bytearray(view.nbytes)
            for start in range(0, len(out), block):
                reader.read_into(start, memoryview(out)[start : start + block])
            assert out == expected
    finally:
        strided.TILE, strided.WINDOW = limits


@given(views())
def test_the_runs_of_a_view_are_its_data(view):
    runs = view.runs()
    if runs is None:
        return
    storage = np.random.default_rng(1).bytes(view.reach)
    assert b"".join(storage[at : at + n] for at, n in runs) == (by_numpy(view, storage) if view.nbytes else b"")


def test_runs_are_named_where_they_are_few_and_long_only():
    assert View(FLOAT32, (4, 1024), (2048, 1)).runs() == tuple((i * 8192, 4096) for i in range(4))
    assert View(FLOAT32, (4, 1023), (2048, 1)).runs() is None
    assert View(FLOAT32, (strided.MAX_PIECES + 1, 1024), (2048, 1)).runs() is None
    assert View(FLOAT32, (1023,), (1,), 7).runs() == ((28, 4092),)
    assert View(FLOAT32, (2, 1, 3), (3, 99, 1)).runs() == ((0, 24),)
    assert View(FLOAT32, (2, 3), (3, 1), big_endian=True).runs() is None
    assert View(INT8, (2, 3), (3, 1), big_endian=True).runs() == ((0, 6),)
    assert View(FLOAT32, (0, 3), (3, 1), 5).runs() == ()
    assert View(FLOAT32, (), (), 5).runs() == ((20, 4),)


def test_reach_is_the_end_of_the_last_element():
    assert View(FLOAT32, (2, 3), (3, 1), 4).reach == 40
    assert View(FLOAT32, (2, 0), (3, 1), 4).reach == 0
    assert View(FLOAT32, (), (), 4).reach == 20


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4), (2, 0, 4), (1, 5)])
def test_row_and_column_major_strides_are_numpys(shape):
    for order, strides in (("C", row_major(shape)), ("F", column_major(shape))):
        array = np.zeros(tuple(max(1, n) for n in shape), np.int8, order=order)
        assert strides == array.strides


def test_big_views_are_gathered_across_tiles_and_windows(tmp_path):
    array = np.random.default_rng(0).integers(0, 2**32, (5000, 3000), np.uint32)
    (tmp_path / "x").write_bytes(b"head" + array.tobytes())
    with SourceFile(tmp_path / "x") as file:
        view = View(FLOAT32, (3000, 5000), (1, 3000))
        reader = block_reader(FileRegion(file, 4), view)
        out = bytearray(view.nbytes)
        for start in range(0, len(out), 1 << 20):
            reader.read_into(start, memoryview(out)[start : start + (1 << 20)])
    assert np.array_equal(np.frombuffer(out, np.uint32).reshape(3000, 5000), array.T)


def test_what_is_kept_of_a_view_is_at_most_a_tile(monkeypatch):
    monkeypatch.setattr(strided, "TILE", 4096)
    storage = np.random.default_rng(0).bytes(80_000)
    view = View(FLOAT64, (100, 100), (1, 100))
    reader = Gathered(MemoryRegion(storage), view)
    out = memoryview(bytearray(view.nbytes))
    for start in range(0, view.nbytes, 800):
        reader.read_into(start, out[start : start + 800])
        assert len(reader.tile) <= 4096
    assert out == by_numpy(view, storage)


def test_far_elements_are_read_one_by_one_and_not_with_all_between_them(tmp_path):
    read = []

    class Counting:
        def read_into(self, offset: int, view: memoryview) -> None:
            read.append(len(view))

    Gathered(Counting(), View(FLOAT32, (3,), (1 << 40,))).read_into(0, memoryview(bytearray(12)))
    assert read == [4, 4, 4]


def test_several_threads_may_read_one_view():
    storage = np.random.default_rng(0).bytes(400_000)
    view = View(FLOAT32, (100, 1000), (1, 100))
    expected = by_numpy(view, storage)
    reader = Gathered(MemoryRegion(storage), view)
    wrong = []

    def work(first: int) -> None:
        for start in range(first * 1000, 399_000, 7000):
            out = memoryview(bytearray(1000))
            reader.read_into(start, out)
            if out != expected[start : start + 1000]:
                wrong.append(start)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "reader", [Gathered(MemoryRegion(bytes(8)), View(INT8, (8,), (1,))), Joined(MemoryRegion(bytes(8)), ((0, 8),))]
)
def test_more_than_there_is_cannot_be_asked_for(reader):
    with pytest.raises(ValueError, match="more bytes"):
        reader.read_into(4, memoryview(bytearray(5)))


@pytest.mark.parametrize("wrong", [5, None, "12", {1: 2}, (-1,), (True,), (1.0,), ("1",), (1 << 56,), (1,) * 33])
def test_numbers_that_no_tensor_has_are_refused(wrong):
    for check in (checked_naturals, checked_shape):
        with pytest.raises(ValueError, match="shape"):
            check(wrong)


def test_a_shape_is_checked_as_a_product_even_where_it_is_empty():
    with pytest.raises(ValueError, match="more elements"):
        checked_shape((1 << 30, 0, 1 << 30))
    assert checked_naturals((1 << 30, 0, 1 << 30)) == (1 << 30, 0, 1 << 30)
    assert checked_shape([2, 3]) == (2, 3)
