"""Messages of HDF5 objects as they are written, beside those that libhdf5 writes."""

from __future__ import annotations

import h5py
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.formats.base import SourceFile, TensorSpec
from interlingua.formats.dtypes import BFLOAT16, FLOAT32, from_numpy_dtype
from interlingua.formats.hdf5_encoding import (
    attribute_messages,
    dataset_messages,
    encode_datatype,
    encode_header,
    encode_shape,
)
from interlingua.formats.hdf5_image import Image
from interlingua.formats.hdf5_objects import ATTRIBUTE, DATASPACE, read_messages
from tests.formats.hdf5_files import write
from tests.formats.strategies import ALL

MESSAGE = 2
"""Bytes that libhdf5 puts in front of a datatype that stands for itself."""


def encoded(dtype: np.dtype) -> bytes:
    return h5py.h5t.py_create(dtype, logical=True).encode()[MESSAGE:]


@pytest.mark.parametrize("name", [name for name in ALL if name != "bfloat16"])
def test_element_types_are_encoded_as_libhdf5_encodes_them(name):
    dtype = np.dtype(name)
    assert encode_datatype(from_numpy_dtype(dtype)) == encoded(dtype)


def test_bfloat16_is_encoded_as_h5py_encodes_what_it_has_no_name_for(tmp_path):
    write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=np.zeros(2, ml_dtypes.bfloat16)))
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["x"].id.get_type().encode()[MESSAGE:] == encode_datatype(BFLOAT16)


def messages_of(path, name):
    with SourceFile(path) as file, h5py.File(path) as opened:
        return read_messages(Image(file), h5py.h5o.get_info(opened[name].id).addr)


@settings(max_examples=20)
@given(
    value=st.one_of(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
        st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b"")),
        st.lists(st.text("abc", min_size=3, max_size=3).map(str.encode)),
    ),
    name=st.text("abcdefgh_", min_size=1, max_size=20),
)
def test_attributes_are_encoded_as_libhdf5_encodes_them(tmp_path_factory, value, name):
    path = tmp_path_factory.mktemp("h5") / "x.h5"
    stored = np.array(value, f"S{len(value[0]) if value else 1}") if isinstance(value, list) else value
    write(path, lambda file: file.create_group("g").attrs.create(name, stored))
    (expected,) = (message.data for message in messages_of(path, "g") if message.kind == ATTRIBUTE)
    # Where a text of varying length is kept is its file's business.
    ((kind, found),) = attribute_messages({name: value}, lambda text: expected[-16:] if text == raw(value) else b"")
    assert (kind, found) == (ATTRIBUTE, expected[: len(found)])
    assert not expected[len(found) :].strip(b"\0")


def raw(value):
    return value.encode() if isinstance(value, str) else value


def test_names_of_different_lengths_are_padded_to_the_longest():
    ((_, found),) = attribute_messages({"n": [b"a", b"long", b""]}, bytes)
    assert found.endswith(b"a\0\0\0long\0\0\0\0")


def test_shapes_are_encoded_as_libhdf5_encodes_them(tmp_path):
    for shape in ((), (3,), (2, 0, 5), (1,) * 32):
        path = write(tmp_path / "x.h5", lambda file, shape=shape: file.create_dataset("x", shape, "f4"))
        (expected,) = (message.data for message in messages_of(path, "x") if message.kind == DATASPACE)
        assert encode_shape(shape) == expected


def test_a_dataset_without_data_leads_nowhere():
    assert dataset_messages(TensorSpec("x", FLOAT32, (0, 3)), 64)[-1][1][2:] == b"\xff" * 8 + bytes(8)
    assert dataset_messages(TensorSpec("x", FLOAT32, (3,)), 64)[-1][1][2:] == b"\x40" + bytes(7) + b"\x0c" + bytes(7)


def test_a_header_is_as_long_as_it_says():
    header = encode_header([(1, b"12345678"), (2, b"123"), (3, b"")])
    assert header[:2] == b"\1\0"
    assert int.from_bytes(header[2:4], "little") == 3
    assert int.from_bytes(header[8:12], "little") == len(header) - 16 == 3 * 8 + 16
