"""Chunked datasets of HDF5, whatever their index, against h5py."""

from __future__ import annotations

import random
import zlib
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from interlingua.errors import FormatError
from interlingua.formats import hdf5_chunks
from interlingua.formats.hdf5 import open_reader
from interlingua.formats.hdf5_chunks import ChunkedData
from interlingua.formats.hdf5_datasets import FIXED_ARRAY, IMPLICIT, NEW_TREE, OLD_TREE, SINGLE
from tests.formats.hdf5_files import address, blind_to_checksums, contents, patch, replace, write

DATA = np.random.default_rng(0).integers(-99, 99, (50, 70)).astype("<i4")

WIDE = np.random.default_rng(1).integers(-99, 99, (64, 1500)).astype("<i4")

EARLY = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
EARLY.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)

INDEXES = {
    "old tree": ("earliest", OLD_TREE, {"chunks": (4, 90)}),
    "old tree, filtered": ("earliest", OLD_TREE, {"chunks": (4, 90), "compression": "gzip"}),
    "old tree of two levels": ("earliest", OLD_TREE, {"chunks": (1, 50)}),
    "single": ("latest", SINGLE, {"chunks": (64, 1500)}),
    "single, filtered": ("latest", SINGLE, {"chunks": (64, 1500), "compression": "gzip", "shuffle": True}),
    "implicit": ("latest", IMPLICIT, {"chunks": (4, 90), "dcpl": EARLY}),
    "fixed array": ("latest", FIXED_ARRAY, {"chunks": (4, 90)}),
    "fixed array, filtered": ("latest", FIXED_ARRAY, {"chunks": (4, 90), "fletcher32": True}),
    "fixed array in pages": ("latest", FIXED_ARRAY, {"chunks": (1, 64)}),
    "fixed array in pages, filtered": ("latest", FIXED_ARRAY, {"chunks": (1, 64), "compression": "lzf"}),
    "new tree": ("latest", NEW_TREE, {"chunks": (4, 90), "maxshape": (None, None)}),
    "new tree, filtered": ("latest", NEW_TREE, {"chunks": (1, 50), "maxshape": (None, None), "compression": "gzip"}),
}


@pytest.mark.parametrize("name", INDEXES)
def test_every_index_leads_to_the_data(tmp_path, name):
    libver, index, options = INDEXES[name]
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=WIDE, **options), libver)
    with open_reader(path) as reader:
        assert reader._datasets["x"].storage.index == index
        assert reader.read("x").tolist() == WIDE.tolist()


@pytest.mark.parametrize("name", [name for name in INDEXES if name != "implicit"])
def test_chunks_that_were_never_written_are_filled(tmp_path, name):
    libver, index, options = INDEXES[name]

    def fill(file):
        dataset = file.create_dataset("x", WIDE.shape, "<i4", fillvalue=7, **options)
        dataset[8, 9:300] = 5
        dataset[9, 1499] = 6

    path = write(tmp_path / "x.h5", fill, libver)
    with open_reader(path) as reader:
        found = reader.read("x")
        assert {5, 6, 7} == set(found.ravel().tolist())
        assert found.tolist() == contents(path)["x"].tolist()
        assert reader.extents("x") is None or index == SINGLE


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_dataset_without_any_chunk_is_all_fill(tmp_path, libver):
    path = write(
        tmp_path / "x.h5", lambda file: file.create_dataset("x", (5, 3), ">i2", chunks=(2, 2), fillvalue=0x0102), libver
    )
    with open_reader(path) as reader:
        assert reader.read("x").tolist() == [[0x0102] * 3] * 5


def test_an_index_that_is_not_read_here_is_refused_with_a_way_out(tmp_path):
    path = write(
        tmp_path / "x.h5",
        lambda file: file.create_dataset("x", data=DATA, chunks=(4, 9), maxshape=(None, 70)),
        "latest",
    )
    with pytest.raises(FormatError, match=r"not read here .* Rewrite it with h5py or h5repack"):
        open_reader(path)


def test_a_shape_that_may_grow_under_a_fixed_index_is_refused(tmp_path):
    path = write(
        tmp_path / "x.h5", lambda file: file.create_dataset("x", data=DATA, chunks=(4, 9), maxshape=(90, 80)), "latest"
    )
    with pytest.raises(FormatError, match="chunked for a shape that it does not have"):
        open_reader(path)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_chunks_of_whole_rows_are_handed_out_as_they_lie(tmp_path, libver):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=DATA, chunks=(8, 70)), libver)
    with open_reader(path) as reader:
        extents = reader.extents("x")
        assert [extent.nbytes for extent in extents] == [8 * 70 * 4] * 6 + [2 * 70 * 4]
        data = path.read_bytes()
        joined = b"".join(data[extent.offset : extent.offset + extent.nbytes] for extent in extents)
        assert joined == DATA.tobytes()


@pytest.mark.parametrize(
    "options", [{"chunks": (8, 35)}, {"chunks": (8, 70), "compression": "gzip"}, {"chunks": (8, 70), "dtype": ">i4"}]
)
def test_chunks_that_must_be_put_together_are_not(tmp_path, options):
    with open_reader(write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=DATA, **options))) as reader:
        assert reader.extents("x") is None


def test_more_chunks_than_are_worth_it_are_read_and_not_handed_out(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_chunks, "MAX_CHUNK_EXTENTS", 6)
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=DATA, chunks=(8, 70)))
    with open_reader(path) as reader:
        assert reader.extents("x") is None
        assert reader.read("x").tolist() == DATA.tolist()


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MAX_CHUNKS", 103, "has 104 chunks"),
        ("FEW_CHUNKS", 10, "has 104 chunks"),
        ("MAX_CHUNK", 4 * 9 * 4 - 1, r"chunks of shape \[4, 9\], too large"),
        ("MAX_BAND", 4 * 70 * 4 - 1, r"chunks of shape \[4, 9\], too large"),
    ],
)
def test_chunks_beyond_the_limits_are_refused(tmp_path, monkeypatch, limit, value, message):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=DATA, chunks=(4, 9)))
    with open_reader(path) as reader:
        reader.extents("x")
    monkeypatch.setattr(hdf5_chunks, limit, value)
    with open_reader(path) as reader, pytest.raises(FormatError, match=message):
        reader.read("x")


def test_filters_that_cannot_be_undone_are_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=DATA, chunks=(4, 9), scaleoffset=0))
    with open_reader(path) as reader, pytest.raises(FormatError, match="scale-offset"):
        reader.read("x")


def test_one_chunk_does_not_unpack_to_more_than_a_chunk(tmp_path):
    def fill(file):
        dataset = file.create_dataset("x", (100,), "u1", chunks=(100,), compression="gzip")
        dataset.id.write_direct_chunk((0,), zlib.compress(bytes(100))[:9] + zlib.compress(bytes(1 << 22))[9:], 0)

    with open_reader(write(tmp_path / "x.h5", fill)) as reader, pytest.raises(FormatError, match=r"damaged|bytes"):
        reader.read("x")


def first_entry(path):
    """The place of the first entry of the tree of chunks: size, mask, corner (two axes and the element), address."""
    data = path.read_bytes()
    at = data.find(b"TREE\x01")
    assert at > 0
    return at + 24


@pytest.mark.parametrize(
    ("at", "data", "message"),
    [
        (0, b"\x91\0\0\0", "a chunk of 145 bytes"),
        (8, address(2), "not where chunks are"),
        (8, address(56), "outside its shape"),
        (8 + 8, address(80), "outside its shape"),
        (8 + 8, address(20), "two chunks in one place"),
        (32, b"\xff" * 7 + b"\x7f", "the file ends at"),
        (32, b"\xff" * 8, "leads nowhere"),
    ],
    ids=["size", "between", "below", "beside", "twice", "outside the file", "nowhere"],
)
def test_entries_that_lie_are_refused(tmp_path, at, data, message):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=DATA, chunks=(8, 20)))
    patch(path, first_entry(path) + at, data)
    with open_reader(path) as reader, pytest.raises(FormatError, match=message):
        reader.extents("x")


def test_a_filtered_chunk_far_larger_than_it_unpacks_to_is_refused(tmp_path):
    path = write(
        tmp_path / "x.h5", lambda file: file.create_dataset("x", data=DATA, chunks=(8, 20), compression="gzip")
    )
    patch(path, first_entry(path), (1 << 20).to_bytes(4, "little"))
    with open_reader(path) as reader, pytest.raises(FormatError, match="a chunk of 1048576 bytes"):
        reader.read("x")


@pytest.mark.parametrize(
    ("at", "data"), [(5, b"\x02"), (6, b"\x07"), (8, b"\x69")], ids=["kind", "width of an entry", "number"]
)
def test_a_fixed_array_that_does_not_fit_is_refused(tmp_path, monkeypatch, at, data):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=DATA, chunks=(4, 9)), "latest")
    patch(path, path.read_bytes().index(b"FAHD") + at, data)
    fits = pytest.raises(FormatError, match="does not fit its dataset")
    with blind_to_checksums(monkeypatch), open_reader(path) as reader, fits:
        reader.read("x")


def test_a_fixed_array_without_data_is_all_fill(tmp_path, monkeypatch):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=DATA, chunks=(4, 9)), "latest")
    patch(path, path.read_bytes().index(b"FAHD") + 16, b"\xff" * 8)
    with blind_to_checksums(monkeypatch), open_reader(path) as reader:
        assert not reader.read("x").any()


def test_a_page_of_a_fixed_array_is_checked(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=WIDE, chunks=(1, 64)), "latest")
    data = path.read_bytes()
    at = data.index(b"FADB") + 14 + 1 + 4 + 20
    patch(path, at, bytes([data[at] ^ 1]))
    with open_reader(path) as reader, pytest.raises(FormatError, match="an array of chunks has another checksum"):
        reader.read("x")


@pytest.mark.parametrize("rank", [1, 4])
def test_chunks_of_another_rank_than_the_data_are_refused(tmp_path, rank):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=DATA, chunks=(4, 9)))
    at = path.read_bytes().index(b"\x04\0\0\0\x09\0\0\0\x04\0\0\0")
    with pytest.raises(FormatError, match=r"do not fit its shape|ends too early"):
        open_reader(patch(path, at - 9, bytes([rank])))


def test_chunks_without_extent_are_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=DATA, chunks=(4, 9)))
    replace(path, b"\x04\0\0\0\x09\0\0\0\x04\0\0\0", b"\0\0\0\0\x09\0\0\0\x04\0\0\0")
    with pytest.raises(FormatError, match="do not fit its shape"):
        open_reader(path)


def test_each_chunk_is_read_once(tmp_path, monkeypatch):
    read = []
    original = ChunkedData._chunk

    def counted(self, number):
        read.append(number)
        return original(self, number)

    monkeypatch.setattr(ChunkedData, "_chunk", counted)
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=DATA, chunks=(4, 9)))
    with open_reader(path) as reader:
        for start in range(0, DATA.nbytes, 1000):
            reader.read_into("x", start, memoryview(bytearray(min(1000, DATA.nbytes - start))))
    assert read == list(range(104))


def test_threads_may_read_the_same_chunks(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=DATA, chunks=(4, 9), compression="gzip"))
    expected = DATA.tobytes()
    with open_reader(path) as reader, ThreadPoolExecutor(4) as pool:

        def read(start):
            block = bytearray(min(700, len(expected) - start))
            reader.read_into("x", start, memoryview(block))
            return bytes(block)

        starts = list(range(0, len(expected), 700)) * 5
        random.Random(0).shuffle(starts)
        assert all(
            block == expected[start : start + 700] for start, block in zip(starts, pool.map(read, starts), strict=True)
        )
