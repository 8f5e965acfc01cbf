"""Attributes of HDF5 objects, against what h5py reads."""

from __future__ import annotations

import re
import tracemalloc

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.formats import hdf5_attributes
from interlingua.formats.base import SourceFile
from interlingua.formats.hdf5_attributes import AttributeReader
from interlingua.formats.hdf5_image import Image
from interlingua.formats.hdf5_objects import read_messages
from tests.formats.hdf5_files import LIBVERS, address, patch, replace, write

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.sampled_from(["i1", "<i2", ">i4", "<i8", "u1", ">u2", "<u4", ">u8", "<f2", ">f4", "<f8", "?"])


def read(path):
    with SourceFile(path) as file:
        image = Image(file)
        return AttributeReader(image).read(read_messages(image, image.root))


@st.composite
def values(draw):
    """A value for h5py to write, and what is to be read."""
    kind = draw(st.sampled_from(["text", "texts", "fixed", "number", "numbers"]))
    if kind == "text":
        text = draw(TEXTS)
        return text, text
    if kind == "texts":
        texts = draw(st.lists(TEXTS, min_size=1, max_size=5))
        return texts, texts
    if kind == "fixed":
        texts = draw(st.lists(TEXTS, max_size=5))
        raw = [text.encode() for text in texts]
        return np.array(raw, f"S{max(map(len, raw), default=1) or 1}"), texts
    dtype = np.dtype(draw(NUMBERS))
    count = draw(st.integers(0, 5)) if kind == "numbers" else 1
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if dtype.kind in "iu":
        array = np.frombuffer(rng.bytes(count * dtype.itemsize), dtype)
    else:
        array = rng.integers(0, 2, count).astype(dtype)
    return (array, array.tolist()) if kind == "numbers" else (array[0], array[0].item())


@settings(max_examples=80)
@given(attributes=st.dictionaries(TEXTS.filter(bool), values(), max_size=12), libver=st.sampled_from([*LIBVERS]))
def test_reads_the_values_that_h5py_writes(tmp_path_factory, attributes, libver):
    path = tmp_path_factory.mktemp("h5") / "x.h5"

    def fill(file):
        for name, (value, _) in attributes.items():
            file.attrs[name] = value

    assert read(write(path, fill, libver)) == {name: expected for name, (_, expected) in attributes.items()}


@pytest.mark.parametrize("track_order", [False, True])
@pytest.mark.parametrize("libver", LIBVERS)
def test_many_attributes_are_read(tmp_path, libver, track_order):
    def fill(file):
        for n in range(500):
            file.attrs[f"{n}"] = [n] * 50

    path = write(tmp_path / "x.h5", fill, libver, track_order=track_order)
    assert read(path) == {f"{n}": [n] * 50 for n in range(500)}


def test_attributes_too_large_for_a_header_are_read(tmp_path):
    def fill(file):
        for n in range(3):
            file.attrs[f"{n}"] = np.full(20_000, n)

    assert read(write(tmp_path / "x.h5", fill, "latest")) == {f"{n}": [n] * 20_000 for n in range(3)}


def test_strings_all_over_the_file_are_read(tmp_path):
    def fill(file):
        for n in range(60):
            file.create_group(f"{n}")
            file.attrs[f"{n}"] = [f"{n} {m} {'x' * 50 * (m % 7)}" for m in range(60)]

    found = read(write(tmp_path / "x.h5", fill))
    assert found["59"][8] == f"59 8 {'x' * 50}"
    assert len(found) == 60


def test_what_is_neither_text_nor_number_is_nothing(tmp_path):
    def fill(file):
        file.attrs["record"] = np.zeros(2, [("a", "i4")])
        file.attrs["complex"] = 1j
        file.attrs["nothing"] = h5py.Empty("f4")
        file["type"] = np.dtype("f4")
        file.attrs.create("named type", 1.0, dtype=file["type"])
        file.attrs["no text"] = np.bytes_(b"\xff\xfe")

    assert read(write(tmp_path / "x.h5", fill)) == dict.fromkeys(
        ["record", "complex", "nothing", "named type", "no text"]
    )


def test_a_value_longer_than_the_attribute_is_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.attrs.create("x", np.arange(0x1357)))
    at = path.read_bytes().index(address(0x1357))
    with pytest.raises(FormatError, match="claims 70368744182615 elements"):
        read(patch(path, at, address(0x400000001357)))


def test_a_string_that_is_not_in_its_heap_is_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.attrs.create("x", "some text"))
    data = path.read_bytes()
    heap = data.index(b"GCOL")
    with pytest.raises(FormatError, match="number 1 of a heap that lacks it"):
        read(replace(path, b"GCOL" + data[heap + 4 : heap + 18], b"GCOL" + data[heap + 4 : heap + 16] + b"\x02\0"))


def test_one_long_string_under_thousands_of_names_does_not_fill_the_memory(tmp_path):
    def fill(file):
        file.attrs["x"] = ["y" * (1 << 20)] + [f"{n:08}" for n in range(3000)]

    path = write(tmp_path / "x.h5", fill)
    data = path.read_bytes()
    first = re.search(rb"\0\0\x10\0.{12}\x08\0\0\0", data, re.DOTALL).start()
    reference = data[first : first + 16]
    path.write_bytes(data[: first + 16] + reference * 2900 + data[first + 16 * 2901 :])
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="together take more than"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_all_attributes_share_one_allowance(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_attributes, "MAX_ATTRIBUTES", 5000)
    path = write(tmp_path / "x.h5", lambda file: [file.attrs.create(f"{n}", [n] * 50) for n in range(2)])
    with pytest.raises(FormatError, match="together take more than 5000 bytes"):
        read(path)
