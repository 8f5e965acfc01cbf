"""Datatypes and dataspaces of HDF5: which of them a tensor can have."""

from __future__ import annotations

import h5py
import ml_dtypes
import numpy as np
import pytest

from interlingua.errors import FormatError
from interlingua.formats.dtypes import BFLOAT16, FLOAT16, UINT8
from interlingua.formats.hdf5 import open_reader
from interlingua.formats.hdf5_types import NUMBER, OPAQUE, Datatype, tensor_type
from tests.formats.hdf5_files import LIBVERS, address, patch, write

DATA = bytes(range(48))


def create(file, kind, shape=(3,), name=b"x"):
    """Create a dataset of a type that NumPy has no word for, and give it some bytes."""
    contiguous = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    contiguous.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    dataset = h5py.h5d.create(file.id, name, kind, h5py.h5s.create_simple(shape), contiguous)
    raw = np.frombuffer(DATA[: 3 * kind.get_size()], f"V{kind.get_size()}")
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, raw, kind)


def float_type(size, sign, exponent_at, exponent, mantissa, bias, order=h5py.h5t.ORDER_LE, norm=None):
    kind = {2: h5py.h5t.IEEE_F16LE, 4: h5py.h5t.IEEE_F32LE}[size].copy()
    kind.set_fields(sign, exponent_at, exponent, 0, mantissa)
    kind.set_ebias(bias)
    kind.set_order(order)
    if norm is not None:
        kind.set_norm(norm)
    return kind


@pytest.mark.parametrize("libver", LIBVERS)
@pytest.mark.parametrize("order", [h5py.h5t.ORDER_LE, h5py.h5t.ORDER_BE])
def test_bfloat16_that_is_described_bit_by_bit_is_read(tmp_path, libver, order):
    path = write(tmp_path / "x.h5", lambda file: create(file, float_type(2, 15, 7, 8, 7, 127, order)), libver)
    with open_reader(path) as reader:
        expected = np.frombuffer(DATA[:6], "<u2" if order == h5py.h5t.ORDER_LE else ">u2").astype("<u2")
        assert reader.read("x").tobytes() == expected.view(ml_dtypes.bfloat16).tobytes()
        assert reader.tensors["x"].dtype == BFLOAT16


def nonsense(base, **changes):
    kind = base.copy()
    for name, value in changes.items():
        getattr(kind, f"set_{name}")(*value if isinstance(value, tuple) else (value,))
    return kind


STRANGE = {
    "unusual floating point": [
        float_type(2, 15, 8, 7, 8, 63),
        float_type(4, 31, 23, 8, 23, 126),
        float_type(4, 30, 22, 8, 22, 127),
        float_type(4, 31, 23, 8, 23, 127, norm=h5py.h5t.NORM_NONE),
    ],
    "padded integer": [
        nonsense(h5py.h5t.STD_I32LE, precision=17),
        nonsense(h5py.h5t.STD_U32LE, precision=16, offset=8),
        nonsense(h5py.h5t.STD_I64LE, precision=63),
    ],
    "bit field": [h5py.h5t.STD_B16LE],
    "time": [h5py.h5t.UNIX_D32LE],
}


@pytest.mark.parametrize(("name", "index"), [(name, index) for name in STRANGE for index in range(len(STRANGE[name]))])
def test_numbers_that_nobody_computes_with_are_no_tensors(tmp_path, name, index):
    with open_reader(write(tmp_path / "x.h5", lambda file: create(file, STRANGE[name][index]))) as reader:
        assert reader.objects == {"x": f"<not a tensor: {name}>"}


@pytest.mark.parametrize("libver", LIBVERS)
def test_enumerations_are_bool_or_integers(tmp_path, libver):
    def fill(file):
        file["bool"] = np.array([True, False])
        colours = h5py.enum_dtype({"red": 1, "green": 300}, "<i2")
        file.create_dataset("enum", data=np.array([1, 300], "<i2"), dtype=colours)
        file.create_dataset("words", data=np.array([0, 1], "i1"), dtype=h5py.enum_dtype({"NO": 0, "YES": 1}, "i1"))

    with open_reader(write(tmp_path / "x.h5", fill, libver)) as reader:
        assert {name: spec.dtype.name for name, spec in reader.tensors.items()} == {
            "bool": "bool",
            "enum": "int16",
            "words": "int8",
        }
        assert reader.read("enum").tolist() == [1, 300]
        assert reader.read("bool").tolist() == [True, False]


def test_an_enumeration_that_contradicts_itself_is_no_tensor(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=np.array([True])))
    at = path.read_bytes().index(b"\x18\x02\0\0\x01\0\0\0")
    with open_reader(patch(path, at + 12, b"\x04")) as reader:
        assert reader.objects == {"x": "<not a tensor: enumeration>"}


@pytest.mark.parametrize("libver", LIBVERS)
@pytest.mark.parametrize("dtype", ["<c8", ">c8", "<c16", ">c16"])
def test_complex_numbers_are_read(tmp_path, libver, dtype):
    data = np.array([1 + 2j, 3 - 4j], dtype)
    with open_reader(write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=data), libver)) as reader:
        assert reader.read("x").tolist() == data.tolist()


@pytest.mark.parametrize("libver", LIBVERS)
@pytest.mark.parametrize(
    "fields",
    [
        [("r", "<f4"), ("j", "<f4")],
        [("r", "<f4"), ("i", ">f4")],
        [("r", "<i4"), ("i", "<i4")],
        [("r", "<f4"), ("i", "<f4"), ("k", "<f4")],
        [("r", "<f4")],
        [("i", "<f4"), ("r", "<f4")],
        [("r", "S4"), ("i", "<f4")],
        [("r", "<f2"), ("i", "<f2")],
    ],
)
def test_other_compounds_are_no_complex_numbers(tmp_path, libver, fields):
    data = np.zeros(2, fields)
    with open_reader(write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=data), libver)) as reader:
        assert reader.objects == {"x": "<not a tensor: compound>"}


def test_opaque_elements_are_what_keras_says_they_are():
    word, byte = Datatype(OPAQUE, 2), Datatype(OPAQUE, 1)
    assert tensor_type(word, None) == tensor_type(word, "bfloat16") == BFLOAT16
    assert tensor_type(word, "float16") == FLOAT16
    assert tensor_type(byte, None) is None
    assert tensor_type(byte, "float8_e5m2").name == "float8_e5m2"
    assert tensor_type(word, "float32") is tensor_type(word, "nonsense") is None
    assert tensor_type(Datatype(NUMBER, 1, UINT8), "bfloat16") == UINT8


def test_opaque_elements_with_a_tag_are_no_tensors(tmp_path):
    kind = h5py.h5t.create(h5py.h5t.OPAQUE, 2)
    kind.set_tag(b"something")
    with open_reader(write(tmp_path / "x.h5", lambda file: create(file, kind))) as reader:
        assert reader.objects == {"x": "<not a tensor: tagged opaque>"}


def damage(path, at, data):
    """Overwrite part of the datatype of the only dataset, a big-endian float32 (``31`` = version 1, class 1 ...)."""
    start = path.read_bytes().index(b"\x11\x21\x1f\0\x04\0\0\0")
    return patch(path, start + at, data)


@pytest.mark.parametrize(
    ("at", "data", "message"),
    [(4, bytes(4), "elements of no bytes"), (0, b"\x1f", "unknown class 15")],
    ids=["no bytes", "unknown class"],
)
def test_impossible_datatypes_are_refused(tmp_path, at, data, message):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=np.zeros(3, ">f4")))
    with pytest.raises(FormatError, match=message):
        open_reader(damage(path, at, data))


def test_a_shape_of_too_many_axes_is_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=np.zeros((3, 0x57, 1))))
    at = path.read_bytes().index(address(3) + address(0x57))
    with pytest.raises(FormatError, match="has 33 dimensions"):
        open_reader(patch(path, at - 7, b"\x21"))


def test_an_axis_without_end_is_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", (0, 0x57), "f4"))
    at = path.read_bytes().index(address(0) + address(0x57))
    with pytest.raises(FormatError, match="axis without end"):
        open_reader(patch(path, at + 8, b"\xff" * 8))


@pytest.mark.parametrize("libver", LIBVERS)
def test_shapes_are_those_of_h5py(tmp_path, libver):
    shapes = [(), (0,), (5,), (3, 0, 2), (2,) * 7, (1,) * 32]

    def fill(file):
        for index, shape in enumerate(shapes):
            file[f"{index}"] = np.zeros(shape)
        file.create_dataset("6", data=np.zeros((2, 3)), maxshape=(4, 3), chunks=(2, 3))

    with open_reader(write(tmp_path / "x.h5", fill, "earliest" if libver == "latest" else libver)) as reader:
        assert [reader.tensors[f"{index}"].shape for index in range(7)] == [*shapes, (2, 3)]
