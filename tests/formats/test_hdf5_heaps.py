"""Heaps of HDF5 that lie; sound ones are read in the tests of groups and attributes."""

from __future__ import annotations

import numpy as np
import pytest

from interlingua.errors import FormatError
from interlingua.formats import hdf5_heaps
from interlingua.formats.base import SourceFile
from interlingua.formats.hdf5 import open_reader
from interlingua.formats.hdf5_groups import read_links
from interlingua.formats.hdf5_heaps import FractalHeap, GlobalHeap, LocalHeap
from interlingua.formats.hdf5_image import Image
from interlingua.formats.hdf5_objects import read_messages
from tests.formats.hdf5_files import address, blind_to_checksums, patch, write


def dense(path, count=3000):
    """A file of so many links that their heap has many blocks; the place of its header."""

    def fill(file):
        group = file.create_group("group")
        for n in range(count):
            file[f"one of the many names of a group: {n}"] = group

    write(path, fill, "latest")
    return path.read_bytes().index(b"FRHP")


def test_a_heap_of_many_blocks_is_read(tmp_path):
    path = tmp_path / "x.h5"
    dense(path, 20_000)
    assert path.read_bytes().count(b"FHIB") > 1
    with SourceFile(path) as file:
        image = Image(file)
        names = [name for name, _ in read_links(image, read_messages(image, image.root))]
    assert names == sorted(["group", *(f"one of the many names of a group: {n}" for n in range(20_000))])


@pytest.mark.parametrize(
    ("at", "data", "message"),
    [
        (7, b"\x05", "filtered"),
        (110, b"\x03", "impossible sizes"),
        (112, address(0), "impossible sizes"),
        (128, b"\xff", "impossible sizes"),
        (140, b"\xff", "has 255 rows"),
        (132, address(1 << 40), "the file ends at"),
    ],
    ids=["filters", "width", "no first block", "offsets", "rows", "root"],
)
def test_a_heap_that_lies_is_refused(tmp_path, monkeypatch, at, data, message):
    path = tmp_path / "x.h5"
    patch(path, dense(path) + at, data)
    with blind_to_checksums(monkeypatch), pytest.raises(FormatError, match=message):
        open_reader(path)


def test_a_heap_whose_blocks_lead_in_circles_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.h5"
    dense(path, 20_000)
    data = path.read_bytes()
    root = data.index(b"FHIB")
    inner = data.index(b"FHIB", root + 4)
    for one in (root, inner):
        for entry in range(4 * 12):
            patch(path, one + 17 + 8 * entry, address(root))
    with blind_to_checksums(monkeypatch), pytest.raises(FormatError):
        open_reader(path)


def test_a_heap_of_too_many_blocks_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.h5"
    dense(path)
    monkeypatch.setattr(hdf5_heaps, "_MAX_BLOCKS", 3)
    with pytest.raises(FormatError, match="too many blocks"):
        open_reader(path)


def test_a_heap_without_blocks_has_nothing(tmp_path, monkeypatch):
    path = tmp_path / "x.h5"
    patch(path, dense(path) + 132, b"\xff" * 8)
    with blind_to_checksums(monkeypatch), pytest.raises(FormatError, match="not in the heap"):
        open_reader(path)


def test_a_link_that_is_not_in_its_heap_is_refused(tmp_path):
    path = tmp_path / "x.h5"
    header = dense(path)
    with SourceFile(path) as file:
        heap = FractalHeap(Image(file), header)
        for reference in (b"\0\xff\xff\xff\xff\x10\0", b"\0\x15\0\0\0\xff\xff"):
            with pytest.raises(FormatError, match="not in the heap"):
                heap.get(reference, "a link")
        with pytest.raises(FormatError, match="not in the heap"):
            heap.get(b"\x10\x01\0\0\0\0\0\0", "an attribute")
        for unknown in (b"\x20", b"\x40"):
            with pytest.raises(FormatError, match="not read here"):
                heap.get(unknown + bytes(7), "a link")


def test_what_is_taken_from_a_heap_is_counted(tmp_path):
    path = tmp_path / "x.h5"
    header = dense(path)
    with SourceFile(path) as file:
        heap = FractalHeap(Image(file), header)
        first = b"\0\x15\0\0\0\xe0\x01"
        with pytest.raises(FormatError, match="bytes of structure"):
            list(map(heap.get, [first] * 100_000, ["a link"] * 100_000))


def test_too_many_large_attributes_are_refused(tmp_path, monkeypatch):
    path = write(
        tmp_path / "x.h5", lambda file: [file.attrs.create(f"{n}", np.arange(9999)) for n in range(3)], "latest"
    )
    monkeypatch.setattr(hdf5_heaps, "_MAX_HUGE", 2)
    with pytest.raises(FormatError, match="too many large attributes"):
        open_reader(path)


def local(path):
    write(path, lambda file: file.create_group("abcd"))
    return path.read_bytes().index(b"HEAP")


def test_names_are_inside_their_heap(tmp_path):
    path = tmp_path / "x.h5"
    header = local(path)
    with SourceFile(path) as file:
        heap = LocalHeap(Image(file), header)
        assert heap.name(8) == b"abcd"
        assert heap.name(10) == b"cd"
        for at in (88, 1 << 40):
            with pytest.raises(FormatError, match=f"none that begins after {at} bytes"):
                heap.name(at)


def test_a_name_without_end_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.h5"
    header = local(path)
    monkeypatch.setattr(hdf5_heaps, "MAX_NAME", 4)
    with SourceFile(path) as file, pytest.raises(FormatError, match="none that begins after 8 bytes"):
        LocalHeap(Image(file), header).name(8)


def test_long_names_are_counted_each_time(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.create_group("n" * 60_000))
    header = path.read_bytes().index(b"HEAP")
    with SourceFile(path) as file:
        heap = LocalHeap(Image(file), header)
        with pytest.raises(FormatError, match="bytes of structure"):
            list(map(heap.name, [8] * 1000))


def test_a_collection_that_lies_about_its_size_is_refused(tmp_path):
    path = write(tmp_path / "x.h5", lambda file: file.attrs.create("x", "some text"))
    at = path.read_bytes().index(b"GCOL")
    for size, message in ((address(3), "claims to have 3 bytes"), (address(1 << 40), "the file ends at")):
        patch(path, at + 8, size)
        with SourceFile(path) as file, pytest.raises(FormatError, match=message):
            GlobalHeap(Image(file)).get(at, 1)


def test_strings_are_found_again_however_many_collections_there_are(tmp_path):
    def fill(file):
        for n in range(40):
            file.attrs[f"{n}"] = "x" * 3000
            file.create_group(f"{n}")

    path = write(tmp_path / "x.h5", fill)
    data = path.read_bytes()
    collections = [at for at in range(len(data)) if data.startswith(b"GCOL", at)]
    assert len(collections) > 8
    with SourceFile(path) as file:
        heap = GlobalHeap(Image(file))
        for at in [*collections, *collections]:
            assert heap.get(at, 1) == b"x" * 3000
        assert len(heap._collections) == 8
