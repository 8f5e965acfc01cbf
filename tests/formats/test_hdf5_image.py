"""Superblocks, reads that stay inside the file, and the checksum of HDF5's newer structures."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.formats import hdf5_image
from interlingua.formats.base import SourceFile
from interlingua.formats.hdf5_image import Fields, Image, looks_like_hdf5, lookup3
from tests.formats.hdf5_files import LIBVERS, address, patch, resealed, write


@pytest.fixture(params=LIBVERS)
def path(request, tmp_path):
    return write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=np.arange(3)), request.param)


def open_image(path):
    with SourceFile(path) as file:
        return Image(file)


def test_lookup3_is_bob_jenkins_own():
    assert lookup3(b"") == 0xDEADBEEF
    assert lookup3(b"Four score and seven years ago") == 0x17770551


@given(length=st.integers(1, 300), seed=st.integers(0, 2**32 - 1))
def test_lookup3_is_the_checksum_libhdf5_writes(tmp_path_factory, length, seed):
    path = tmp_path_factory.mktemp("h5") / "x.h5"
    value = np.random.default_rng(seed).bytes(length)
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["x"] = np.frombuffer(value, "u1")
    data = path.read_bytes()
    start = data.index(b"OHDR")
    # Without times or limits, the size of the first chunk follows the flags; the checksum follows the chunk.
    width = 1 << (data[start + 5] & 3)
    prefix = 6 + (16 if data[start + 5] & 0x20 else 0) + width
    size = int.from_bytes(data[start + prefix - width : start + prefix], "little")
    end = start + prefix + size
    assert lookup3(data[start:end]).to_bytes(4, "little") == data[end : end + 4]


def test_a_user_block_may_precede_the_signature():
    assert looks_like_hdf5(hdf5_image.SIGNATURE)
    assert looks_like_hdf5(bytes(1024) + hdf5_image.SIGNATURE)
    assert not looks_like_hdf5(bytes(1000) + hdf5_image.SIGNATURE)
    assert not looks_like_hdf5(b"")


def test_a_block_put_before_a_finished_file_shifts_it(path):
    root = open_image(path).root
    path.write_bytes(bytes(512) + path.read_bytes())
    with SourceFile(path) as file:
        image = Image(file)
        assert image.root == root
        assert image.read(0, 8, "the signature") == hdf5_image.SIGNATURE


def test_a_file_inside_another_is_read_in_place(path):
    data = path.read_bytes()
    path.write_bytes(b"before" + data + b"after")
    with SourceFile(path) as file:
        image = Image(file, 6, len(data))
        assert image.read(0, 8, "the signature") == hdf5_image.SIGNATURE
        assert image.offset(8, 1, "a byte") == 14
        with pytest.raises(FormatError, match="the file ends at"):
            image.read(len(data) - 3, 4, "what follows")


def test_no_superblock_is_refused(path):
    patch(path, 0, b"\0")
    with pytest.raises(FormatError, match="no HDF5 superblock"):
        open_image(path)


def test_a_superblock_that_is_cut_off_is_refused(path):
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(FormatError, match="the file ends at 20"):
        open_image(path)


def test_an_unknown_superblock_is_refused(path):
    patch(path, 8, b"\x09")
    with pytest.raises(FormatError, match="version 9"):
        open_image(path)


@pytest.mark.parametrize("place", ["addresses", "lengths"])
def test_widths_that_nobody_writes_are_refused(path, place):
    first = 13 if path.read_bytes()[8] == 0 else 9
    patch(path, first + (place == "lengths"), b"\x03")
    with pytest.raises(FormatError, match="3 bytes"):
        open_image(path)


def test_an_old_file_split_over_several_is_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: None)
    patch(path, 24 + 3 * 8, address(96))
    with pytest.raises(FormatError, match="other files"):
        open_image(path)


def test_a_root_that_is_nowhere_is_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: None)
    patch(path, 24 + 5 * 8, b"\xff" * 8)
    with pytest.raises(FormatError, match="leads nowhere"):
        open_image(path)


def test_a_file_still_being_written_is_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: None, "latest")
    data = path.read_bytes()
    assert data[8] == 3
    path.write_bytes(resealed(data[:11] + b"\x05" + data[12:], 0, 48))
    with pytest.raises(FormatError, match="still being written"):
        open_image(path)


def test_a_superblock_with_another_checksum_is_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: None, "latest")
    patch(path, 36, b"\x31")
    with pytest.raises(FormatError, match="checksum"):
        open_image(path)


def test_structure_is_read_up_to_a_limit(path, monkeypatch):
    monkeypatch.setattr(hdf5_image, "METADATA_BUDGET", 1000)
    with SourceFile(path) as file:
        image = Image(file)
        image.spend(600)
        with pytest.raises(FormatError, match="more than 1000 bytes of structure"):
            image.read(0, 150, "some bytes")
        image.renew_budget()
        image.read(0, 150, "some bytes")


@pytest.fixture
def fields(path):
    with SourceFile(path) as file:
        yield Fields(Image(file), b"\x01\x02\x03\0\xff\xff\xff\xff\xff\xff\xff\xff", 100, "a test")


def test_fields_are_taken_from_the_front(fields):
    assert fields.uint(2) == 0x0201
    assert fields.text() == b"\x03"
    assert fields.address() is None
    assert fields.left == 0


def test_parts_know_where_they_are(fields):
    fields.take(2)
    part = fields.part(4)
    assert (part.data, part.offset, fields.at) == (b"\x03\0\xff\xff", 102, 6)


@pytest.mark.parametrize(
    "take",
    [
        lambda fields: fields.take(13),
        lambda fields: fields.uint(13),
        lambda fields: fields.part(13),
        lambda fields: [fields.take(4), fields.text()],
        lambda fields: [fields.take(4), fields.known_address()],
        lambda fields: fields.version(2, 3),
    ],
)
def test_what_is_not_there_cannot_be_taken(fields, take):
    with pytest.raises(FormatError, match="a test"):
        take(fields)
