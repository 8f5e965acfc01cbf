"""Descriptions of HDF5 datasets: older layouts that h5py no longer writes but reads, and ones that nobody writes."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from interlingua.errors import FormatError
from interlingua.formats.base import SourceFile
from interlingua.formats.hdf5 import open_reader
from interlingua.formats.hdf5_datasets import Contiguous, read_dataset
from interlingua.formats.hdf5_image import Image
from interlingua.formats.hdf5_objects import DATASPACE, DATATYPE, FILL, FILTERS, LAYOUT, OLD_FILL, Message
from tests.formats.hdf5_files import address, contents, patch, write

DATA = np.arange(0x57, dtype="<i4")

INT32 = b"\x10\x08\0\0\x04\0\0\0\0\0\x20\0"
SHAPE = b"\x02\x01\0\x01" + address(3)


def layout_at(path):
    """The place of the layout message's body, in a file of one dataset: of version 3, before it the message's head."""
    data = path.read_bytes()
    (at,) = [
        at + 8
        for at in range(len(data) - 8)
        if data[at : at + 2] == b"\x08\0"
        and data[at + 8] == 3
        and data[at + 5 : at + 8] == bytes(3)
        and data[at + 9] < 3
    ]
    return at


@pytest.mark.parametrize("version", [1, 2])
def test_older_layouts_in_one_piece_are_read(tmp_path, version):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=DATA))
    at = layout_at(path)
    place = path.read_bytes()[at + 2 : at + 10]
    patch(path, at, bytes([version, 1, 1]) + bytes(5) + place + (0x57).to_bytes(4, "little"))
    assert contents(path)["x"].tolist() == DATA.tolist()
    with open_reader(path) as reader:
        assert reader.read("x").tolist() == DATA.tolist()


@pytest.mark.parametrize("version", [1, 2])
def test_older_layouts_in_chunks_are_read(tmp_path, version):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=DATA, chunks=(10,)))
    at = layout_at(path)
    old = path.read_bytes()[at : at + 19]
    patch(path, at, bytes([version, 2, 2]) + bytes(5) + old[3:11] + old[11:19])
    assert contents(path)["x"].tolist() == DATA.tolist()
    with open_reader(path) as reader:
        assert reader.read("x").tolist() == DATA.tolist()


def describe(tmp_path, *messages, named=None):
    """Read a dataset from messages made up here."""
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=DATA))
    with SourceFile(path) as file:
        found = [Message(kind, body, 500, False) for kind, body in messages]
        return read_dataset(Image(file), 0, found, named)


CONTIGUOUS = b"\x03\x01" + address(96) + address(12)


def test_a_dataset_is_its_type_shape_and_layout(tmp_path):
    found = describe(tmp_path, (DATATYPE, INT32), (DATASPACE, SHAPE), (LAYOUT, CONTIGUOUS))
    assert (found.dtype.name, found.shape, found.storage) == ("int32", (3,), Contiguous(96, 12))
    assert (found.fill, found.nbytes, found.big_endian) == (bytes(4), 12, False)


def test_older_compact_layouts_are_read(tmp_path):
    body = b"\x01\x01\0" + bytes(5) + b"\x03\0\0\0" + b"\x0c\0\0\0" + bytes(range(12))
    found = describe(tmp_path, (DATATYPE, INT32), (DATASPACE, SHAPE), (LAYOUT, body))
    assert found.storage == Contiguous(500 + 16, 12)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (b"\x03\0\x0c\0" + bytes(11), "has 11 bytes of data where its shape needs 12"),
        (b"\x03\0\x0b\0" + bytes(12), "has 11 bytes of data where its shape needs 12"),
        (b"\x03\x07" + bytes(16), "laid out in the unknown way 7"),
        (b"\x07\x01" + bytes(16), "of version 7"),
        (b"\x03\x01" + b"\xff" * 8 + address(12), "never written"),
        (b"\x03\x01" + address(1 << 40) + address(12), "the file ends at"),
        (b"\x03\x02\0" + bytes(16), "do not fit its shape"),
        (b"\x04\x02\0\x02\x01\x03\x04\x07", "not read here"),
        (b"\x03", "ends too early"),
    ],
)
def test_layouts_that_nobody_writes_are_refused(tmp_path, layout, message):
    with pytest.raises(FormatError, match=message):
        describe(tmp_path, (DATATYPE, INT32), (DATASPACE, SHAPE), (LAYOUT, layout))


def test_edges_that_were_left_unfiltered_are_refused(tmp_path):
    layout = b"\x04\x02\x01\x02\x01\x03\x04\x01" + address(96)
    deflate = b"\x02\x01\x01\0\0\0\x01\0\x09\0\0\0"
    with pytest.raises(FormatError, match="not filtered at the edges"):
        describe(tmp_path, (DATATYPE, INT32), (DATASPACE, SHAPE), (LAYOUT, layout), (FILTERS, deflate))
    assert describe(tmp_path, (DATATYPE, INT32), (DATASPACE, SHAPE), (LAYOUT, layout)).storage.shape == (3,)


@pytest.mark.parametrize("missing", [DATATYPE, DATASPACE])
def test_a_dataset_without_type_or_shape_is_refused(tmp_path, missing):
    parts = [(DATATYPE, INT32), (DATASPACE, SHAPE), (LAYOUT, CONTIGUOUS)]
    with pytest.raises(FormatError, match="lacks a type or a shape"):
        describe(tmp_path, *(part for part in parts if part[0] != missing))


def test_pipelines_longer_than_any_are_refused(tmp_path):
    parts = [(DATATYPE, INT32), (DATASPACE, SHAPE), (LAYOUT, CONTIGUOUS), (FILTERS, b"\x02\x21" + bytes(400))]
    with pytest.raises(FormatError, match="has 33 filters"):
        describe(tmp_path, *parts)


@pytest.mark.parametrize(
    ("kind", "body", "fill"),
    [
        (OLD_FILL, b"\x04\0\0\0abcd", b"abcd"),
        (FILL, b"\x01\x02\x02\x01\x04\0\0\0abcd", b"abcd"),
        (FILL, b"\x01\x02\x02\0\0\0\0\0", bytes(4)),
        (FILL, b"\x02\x02\x02\0", bytes(4)),
        (FILL, b"\x02\x02\x02\x01\0\0\0\0", bytes(4)),
        (FILL, b"\x03\x2a\x04\0\0\0abcd", b"abcd"),
        (FILL, b"\x03\x0a", bytes(4)),
        (FILL, b"\x03\x1a", bytes(4)),
    ],
)
def test_fill_values_of_every_version_are_read(tmp_path, kind, body, fill):
    found = describe(tmp_path, (DATATYPE, INT32), (DATASPACE, SHAPE), (LAYOUT, CONTIGUOUS), (kind, body))
    assert found.fill == fill


def test_a_fill_value_of_another_width_is_refused(tmp_path):
    parts = [(DATATYPE, INT32), (DATASPACE, SHAPE), (LAYOUT, CONTIGUOUS), (OLD_FILL, b"\x03\0\0\0abc")]
    with pytest.raises(FormatError, match="has 3 bytes, but elements have 4"):
        describe(tmp_path, *parts)


def test_filters_keep_their_parameters_through_padding(tmp_path):
    """Version 1 pads names and odd numbers of parameters: h5py's LZF has three and a name."""
    path = write(
        tmp_path / "x.h5",
        lambda file: file.create_dataset(
            "x", data=DATA, chunks=(10,), compression="lzf", shuffle=True, fletcher32=True
        ),
    )
    with h5py.File(path) as file:
        plist = file["x"].id.get_create_plist()
        expected = [(step[0], step[2]) for step in map(plist.get_filter, range(3))]
    with open_reader(path) as reader:
        assert [(step.number, step.parameters) for step in reader._datasets["x"].storage.filters] == expected
