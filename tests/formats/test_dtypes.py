"""Element types."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from interlingua.formats.dtypes import DTYPES, from_numpy_dtype, numpy_dtype

WITH_NUMPY = [dtype for dtype in DTYPES.values() if dtype.numpy is not None]


@pytest.mark.parametrize("dtype", WITH_NUMPY, ids=str)
def test_numpys_dtype_has_the_width_and_the_way_back(dtype) -> None:
    found = numpy_dtype(dtype)
    assert found.itemsize * 8 == dtype.bits
    assert found.itemsize == dtype.itemsize
    assert found.name == dtype.name
    assert from_numpy_dtype(found) is dtype


@pytest.mark.parametrize("dtype", WITH_NUMPY, ids=str)
def test_numpys_dtype_is_little_endian(dtype) -> None:
    if dtype.kind in "iu":
        assert np.array(1, numpy_dtype(dtype)).tobytes() == b"\x01" + bytes(dtype.itemsize - 1)
    elif dtype.bits > 8:
        assert np.array(2, numpy_dtype(dtype)).tobytes()[0] == 0


@pytest.mark.parametrize("dtype", WITH_NUMPY, ids=str)
def test_the_kind_is_what_numpy_says(dtype) -> None:
    expected = {"b": "b", "i": "i", "u": "u", "f": "f", "c": "c", "V": "f"}[numpy_dtype(dtype).kind]
    assert dtype.kind == expected


@pytest.mark.parametrize("code", [">f4", ">i8", ">c16", ">u2"])
def test_byte_order_makes_no_other_type(code: str) -> None:
    assert from_numpy_dtype(np.dtype(code)) is from_numpy_dtype(np.dtype(code[1:]))


@pytest.mark.parametrize("code", ["O", "M8[s]", "m8[s]", "U3", "S3", "V4", [("a", "f4")]], ids=str)
def test_what_no_checkpoint_holds_is_refused(code) -> None:
    with pytest.raises(TypeError):
        from_numpy_dtype(np.dtype(code))


def test_a_type_narrower_than_a_byte_is_none_of_numpys() -> None:
    for name in ("float4_e2m1fn", "float6_e2m3fn", "int4", "string"):
        with pytest.raises(TypeError, match=name):
            numpy_dtype(DTYPES[name])
    # ml_dtypes has an int4 that fills a byte, which is another thing.
    with pytest.raises(TypeError):
        from_numpy_dtype(np.dtype(ml_dtypes.int4))


def test_the_unit_of_byte_order_is_half_a_complex_number() -> None:
    assert {dtype.name: dtype.part_bits for dtype in DTYPES.values() if dtype.part_bits != dtype.bits} == {
        "complex64": 32,
        "complex128": 64,
    }
