"""NumPy arrays inside pickles, against NumPy."""

from __future__ import annotations

import pickle
import random
import struct
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.formats import pickled_numpy, pickled_objects
from interlingua.formats.base import SourceFile
from interlingua.formats.dtypes import FLOAT32, from_numpy_dtype
from interlingua.formats.pickled_numpy import Latin1Text, PickledArray, array_blocks, array_extents
from interlingua.formats.pickles import Span, TextSpan, load
from tests.formats import strategies
from tests.formats.hostile import damaged

PLAIN = {**pickled_objects.ALLOWED, **pickled_numpy.ALLOWED}

NUMPY = tuple(name for name in strategies.ALL if name != "bfloat16")


def array_of(file: SourceFile, start: int = 0) -> PickledArray:
    value, _ = load(file, start, file.size, PLAIN)
    assert isinstance(value, PickledArray)
    return value


def data_of(file: SourceFile, array: PickledArray, block: int) -> bytes:
    out = bytearray(array.nbytes)
    reader = array_blocks(array, file)
    for start in range(0, len(out), block):
        reader.read_into(start, memoryview(out)[start : start + block])
    extents = array_extents(array, file)
    if extents is not None:
        assert b"".join(file.read_at(e.offset, e.nbytes, "") for e in extents) == out
    return bytes(out)


def little(array: np.ndarray) -> bytes:
    """The row-major little-endian bytes; swapped as bytes, for a cast would change signalling NaNs."""
    swap = array.dtype.byteorder == ">"
    return (array.byteswap() if swap else array).tobytes(order="C")


def check(array: np.ndarray, protocol: int, block: int = 1000) -> PickledArray:
    """Pickle an array behind some junk and compare what is read with it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(b"junk" + pickle.dumps(array, protocol))
        with SourceFile(path) as file:
            found = array_of(file, 4)
            assert (found.dtype, found.shape) == (from_numpy_dtype(array.dtype), array.shape)
            assert data_of(file, found, block) == little(array)
            return found


@settings(max_examples=250)
@given(
    strategies.arrays(NUMPY),
    st.integers(0, 5),
    st.booleans(),
    st.booleans(),
    st.integers(1, 500),
)
def test_any_array_in_any_order_and_protocol_is_read_bit_for_bit(array, protocol, fortran, big, block):
    if big:
        array = array.byteswap().view(array.dtype.newbyteorder(">"))
    if fortran and array.ndim > 1:
        array = np.asfortranarray(array)
    check(array, protocol, block)


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("code", ["<f4", ">f4", "<c16", ">i2", "|u1"])
def test_large_arrays_stay_in_the_file_until_their_blocks_are_asked_for(protocol, order, code):
    dtype = np.dtype(code)
    raw = np.random.default_rng(3).bytes(700 * 900 * dtype.itemsize)
    array = np.array(np.frombuffer(raw, dtype).reshape(700, 900), order=order)
    found = check(array, protocol, 1 << 18)
    assert isinstance(found.data, TextSpan if protocol == 2 else Span)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_the_types_of_ml_dtypes_are_read(dtype):
    check(np.arange(300).astype(dtype), 4)


def test_a_contiguous_little_endian_array_is_one_extent(tmp_path):
    array = np.arange(1000, dtype="<f4")
    (tmp_path / "x").write_bytes(pickle.dumps(array, 4))
    with SourceFile(tmp_path / "x") as file:
        (extent,) = array_extents(array_of(file), file) or ()
        assert file.read_at(extent.offset, extent.nbytes, "") == array.tobytes()
    for other in (array.astype(">f4"), np.asfortranarray(array.reshape(20, 50)), array[:5]):
        (tmp_path / "x").write_bytes(pickle.dumps(other, 4))
        with SourceFile(tmp_path / "x") as file:
            assert array_extents(array_of(file), file) is None


@pytest.mark.parametrize("package", [b"numpy.core", b"numpy._core"])
@pytest.mark.parametrize("protocol", range(6))
def test_both_names_of_numpys_inside_are_known(tmp_path, package, protocol):
    data = pickle.dumps([np.arange(3), np.float64(2.5)], protocol)
    old = b"numpy._core" if b"numpy._core" in data else b"numpy.core"
    if protocol < 4:
        data = data.replace(old, package)
    else:
        # The name is counted in these protocols, and so is the frame: take both away.
        data = data[:2] + data[11:]
        for name in (b".multiarray", b".numeric"):
            data = data.replace(bytes([len(old + name)]) + old + name, bytes([len(package + name)]) + package + name)
    (tmp_path / "x").write_bytes(data)
    with SourceFile(tmp_path / "x") as file:
        (array, number), _ = load(file, 0, file.size, PLAIN)
        assert data_of(file, array, 100) == np.arange(3).tobytes()
        assert number == 2.5


@settings(max_examples=100)
@given(st.sampled_from(NUMPY), st.integers(0, 1 << 30), st.integers(0, 5))
def test_scalars_are_numbers(name, seed, protocol):
    value = np.random.default_rng(seed).integers(0, 2 if name == "bool" else 100, 1).astype(name)[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(pickle.dumps(value, protocol))
        with SourceFile(path) as file:
            found, _ = load(file, 0, file.size, PLAIN)
    assert found == value.item()
    assert type(found) is type(value.item())


def test_an_array_of_python_2_is_read(tmp_path):
    # What Python 2.7 and NumPy 1.8 write: the data is a string, which happens to be text or not.
    for raw in (b"\0\0\x80?\0\0\0@", b"abcdefgh", b"\xc3\xa9ab\xc3\xa9cd"):
        data = (
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03"
            b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
            b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + b"U\x08" + raw + b"tb."
        )
        assert pickle.loads(data, encoding="latin-1").tobytes() == raw
        (tmp_path / "x").write_bytes(data)
        with SourceFile(tmp_path / "x") as file:
            assert data_of(file, array_of(file), 3) == raw


# Arrays that are none, or that lie


@pytest.mark.parametrize(
    "array",
    [
        np.array([{}, []], dtype=object),
        np.zeros(2, dtype=[("a", "<f4"), ("b", "<i4")]),
        np.array(["text"]),
        np.array([b"bytes"]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.zeros(2, dtype="V4"),
        np.zeros(2, dtype=np.longdouble),
        np.zeros((), dtype=[("a", "<f4", (3,))]),
    ],
    ids=lambda array: str(array.dtype),
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_an_array_of_no_element_type_is_refused(tmp_path, array, protocol):
    (tmp_path / "x").write_bytes(pickle.dumps(array, protocol))
    with SourceFile(tmp_path / "x") as file, pytest.raises(FormatError, match="no tensors"):
        load(file, 0, file.size, PLAIN)


def built(state: object) -> bytes:
    """A pickle of an array that is given ``state``, with any NumPy dtypes in it."""
    body = pickle.dumps(state, 2)[2:-1]
    return b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R" + body + b"b."


F4 = np.dtype("<f4")


@pytest.mark.parametrize(
    "state",
    [
        (1, (2,), F4, False, b"1234567"),
        (1, (2,), F4, False, b"123456789"),
        (1, (1 << 62,), F4, False, b""),
        (1, (1 << 40, 1 << 40), F4, False, b""),
        (1, (1 << 40, 1 << 40, 0), F4, False, b""),
        (1, (-1,), F4, False, b""),
        (1, (-2, -1), F4, False, b"12345678"),
        (1, (2.0,), F4, False, b"12345678"),
        (1, 2, F4, False, b"12345678"),
        (1, (1,) * 100, F4, False, b"1234"),
        (1, (2,), "f4", False, b"12345678"),
        (1, (2,), F4, False, [1, 2]),
        (1, (2,), F4, False, None),
        (1, (2,), F4),
        (1, (2,), F4, False, b"12345678", 6),
        5,
        None,
        [],
        (1, (300,), F4, False, "x" * 1199),
        (1, (300,), F4, False, "x" * 2401),
    ],
)
def test_a_state_that_does_not_fit_itself_is_refused(tmp_path, state):
    (tmp_path / "x").write_bytes(built(state))
    with SourceFile(tmp_path / "x") as file, pytest.raises(FormatError, match="refused"):
        load(file, 0, file.size, PLAIN)


@pytest.mark.parametrize(
    "data",
    [
        b"cnumpy\ndtype\n)R.",
        b"cnumpy\ndtype\nK\x04\x85R.",
        b"cnumpy\ndtype\nS'f4'\n\x85RK\x05b.",
        b"cnumpy\ndtype\nS'f4'\n\x85R(K\x03S'?'\nNNNtb.",
        b"cnumpy\ndtype\nS'f4'\n\x85R(K\x03S'<'\n)NNtb.",
        b"cnumpy.core.multiarray\n_reconstruct\nS'x'\n\x85R.",
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\n\x85R.",
        b"cnumpy.core.multiarray\nscalar\nS'f4'\nC\x04abcd\x86R.",
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nS'f4'\n\x85RC\x03abc\x86R.",
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nS'f4'\n\x85RN\x86R.",
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\ncml_dtypes\nbfloat16\n\x85RC\x02ab\x86R.",
        b"cnumpy._core.numeric\n_frombuffer\n(C\x04abcdS'f4'\nK\x01\x85S'C'\ntR.",
        b"cnumpy\nndarray\n)R.",
        b"c_codecs\nencode\nS'x'\nS'utf-8'\n\x86R.",
        b"c_codecs\nencode\nK\x05S'latin1'\n\x86R.",
        b"c_codecs\nencode\nV\\u0100\nS'latin1'\n\x86R.",
    ],
)
def test_what_is_no_array_and_no_dtype_is_refused(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    with SourceFile(tmp_path / "x") as file, pytest.raises(FormatError, match="refused"):
        load(file, 0, file.size, PLAIN)


def text_array(text: str, nbytes: int) -> bytes:
    """A pickle of protocol 2 of an array of ``nbytes`` bytes whose data is a text."""
    utf8 = text.encode()
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01J"
        + struct.pack("<i", nbytes)
        + b"\x85cnumpy\ndtype\nU\x02u1\x85R\x89c_codecs\nencode\nX"
        + struct.pack("<I", len(utf8))
        + utf8
        + b"U\x06latin1\x86Rtb."
    )


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("a" * 1000 + "Ā", 1001),
        ("é" * 500, 700),
        ("é" * 500, 1000),
        ("a" * 300_000 + "é" * 300_000, 700_000),
        ("a" * 300_000 + "é" * 300_000 + "€", 600_001),
    ],
)
def test_a_text_that_does_not_stand_for_its_bytes_is_refused_when_it_is_read(tmp_path, text, nbytes):
    (tmp_path / "x").write_bytes(text_array(text, nbytes))
    with SourceFile(tmp_path / "x") as file:
        array = array_of(file)
        with pytest.raises(FormatError, match="does not stand for"):
            data_of(file, array, 1 << 16)


@given(st.integers(0, 1 << 30), st.integers(256, 5000), st.sampled_from((7, 64, 1000)))
def test_a_text_is_decoded_from_any_place(seed, count, chunk):
    rng = random.Random(seed)
    raw = bytes(rng.choice((0, 0x41, 0x7F, 0x80, 0xC3, 0xFF)) for _ in range(count))
    utf8 = raw.decode("latin-1").encode()
    size, pickled_numpy._CHUNK = pickled_numpy._CHUNK, chunk
    try:
        with tempfile.NamedTemporaryFile() as out:
            out.write(b"xyz" + utf8 + b"xyz")
            out.flush()
            with SourceFile(out.name) as file:
                text = Latin1Text(file, TextSpan(3, len(utf8)), count)
                for _ in range(12):
                    start = rng.randrange(count)
                    view = memoryview(bytearray(rng.randint(0, count - start)))
                    text.read_into(start, view)
                    assert view == raw[start : start + len(view)]
                with pytest.raises(ValueError, match="more bytes"):
                    text.read_into(count, memoryview(bytearray(1)))
    finally:
        pickled_numpy._CHUNK = size


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_damaged_array_ends_in_a_format_error_or_is_read(tmp_path, protocol):
    rng = random.Random(protocol)
    original = pickle.dumps(
        {"c": np.arange(200.0), "f": np.asfortranarray(np.ones((20, 30), ">f4")), "s": np.float32(1)}, protocol
    )
    good = 0
    for _ in range(600):
        (tmp_path / "x").write_bytes(damaged(original, rng))
        with SourceFile(tmp_path / "x") as file:
            try:
                value, _ = load(file, 0, file.size, PLAIN)
                for array in value.values() if isinstance(value, dict) else ():
                    if isinstance(array, PickledArray):
                        data_of(file, array, 4096)
                good += 1
            except FormatError:
                pass
    assert 0 < good < 600


@pytest.mark.parametrize(
    "name",
    [
        "PaddlePaddle__Quantum/applications/text_classification/qsann.pdparams",
        "PaddlePaddle__awesome-DeepLearning/examples/LR_model2.pdparams",
        "PaddlePaddle__PaddleScience/docs/zh/examples/params/solar_cell_pretrained.pdparams",
    ],
)
def test_arrays_in_real_pickles_are_read_as_numpy_reads_them(fixtures_dir, name):
    path = fixtures_dir / name
    expected = {
        key: value
        for key, value in pickle.loads(path.read_bytes(), encoding="latin-1").items()
        if isinstance(value, np.ndarray)
    }
    assert expected
    with SourceFile(path) as file:
        value, end = load(file, 0, file.size, PLAIN)
        assert end == file.size
        arrays = {key: array for key, array in value.items() if isinstance(array, PickledArray)}
        assert list(arrays) == list(expected)
        for key, array in arrays.items():
            assert (array.dtype, array.shape) == (FLOAT32, expected[key].shape)
            assert data_of(file, array, 1 << 16) == little(expected[key])
