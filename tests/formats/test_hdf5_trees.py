"""B-trees that lead in circles, or claim to be what they are not; the tests of groups and chunks read sound ones."""

from __future__ import annotations

import numpy as np
import pytest

from interlingua.errors import FormatError
from interlingua.formats import hdf5_image
from interlingua.formats.base import SourceFile
from interlingua.formats.hdf5_image import Image
from interlingua.formats.hdf5_trees import CHUNK_NODES, GROUP_NODES, new_tree, number_width, old_tree
from tests.formats.hdf5_files import address, blind_to_checksums, patch, write

LINKS = (5,)


@pytest.fixture
def old(tmp_path):
    """A file of so many groups that their tree has two levels, and the place of the tree's root."""
    path = write(tmp_path / "x.h5", lambda file: [file.create_group(f"{n}") for n in range(600)])
    data = path.read_bytes()
    (root,) = [at for at in places(data, b"TREE") if data[at + 5] == 1]
    return path, root


@pytest.fixture
def new(tmp_path):
    """The same in the newer form: the place of the tree's header, and of its root."""
    path = write(tmp_path / "new.h5", lambda file: [file.create_group(f"{n}") for n in range(600)], "latest")
    header = path.read_bytes().index(b"BTHD")
    return path, header, path.read_bytes().index(b"BTIN")


def places(data, signature):
    at = data.find(signature)
    while at >= 0:
        yield at
        at = data.find(signature, at + 1)


def walk_old(path, root, kind=GROUP_NODES):
    with SourceFile(path) as file:
        return sum(1 for _ in old_tree(Image(file), root, kind, 8))


def walk_new(path, header, kinds=LINKS):
    with SourceFile(path) as file:
        return sum(1 for _ in new_tree(Image(file), header, kinds))


def test_sound_trees_are_walked_to_the_last_leaf(old, new):
    path, root = old
    assert walk_old(path, root) == path.read_bytes().count(b"SNOD") > 64
    path, header, _ = new
    assert walk_new(path, header) == 600


def test_trees_of_another_kind_are_refused(old, new):
    with pytest.raises(FormatError, match="not of the tree"):
        walk_old(*old, CHUNK_NODES)
    path, header, _ = new
    with pytest.raises(FormatError, match="not of the tree"):
        walk_new(path, header, (10, 11))


def test_a_node_that_leads_back_to_itself_is_refused(old):
    path, root = old
    patch(path, root + 24 + 8, address(root))
    with pytest.raises(FormatError, match="not of the tree"):
        walk_old(path, root)


def test_a_node_that_is_everywhere_ends_in_an_error(tmp_path, monkeypatch):
    """Thirty levels, each of 200 ways down to the next: more leaves than could ever be counted."""
    monkeypatch.setattr(hdf5_image, "METADATA_BUDGET", 1 << 20)
    path = write(tmp_path / "x.h5", lambda file: file.create_dataset("room", data=np.zeros(30 * 4096, "u1")))
    with SourceFile(path) as file:
        start = Image(file).offset(path.stat().st_size - 30 * 4096, 0, "the room")
    for level in range(30):
        below = address(start + 4096 * (level - 1)) if level else address(0)
        node = b"TREE\0" + bytes([level]) + (200).to_bytes(2, "little") + bytes(16) + (bytes(8) + below) * 200
        patch(path, start + 4096 * level, node)
    with pytest.raises(FormatError, match="in circles"):
        walk_old(path, start + 29 * 4096)


def test_a_new_node_that_leads_back_to_itself_is_refused(new, monkeypatch):
    path, header, root = new
    data = path.read_bytes()
    count = int.from_bytes(data[header + 24 : header + 26], "little")
    patch(path, root + 6 + 11 * count, address(root))
    with blind_to_checksums(monkeypatch), pytest.raises(FormatError, match="not where it should be"):
        walk_new(path, header)


def test_a_new_node_of_another_kind_is_refused(new, monkeypatch):
    path, header, _ = new
    patch(path, path.read_bytes().index(b"BTLF") + 5, b"\x06")
    with blind_to_checksums(monkeypatch), pytest.raises(FormatError, match="not of the tree that leads to it"):
        walk_new(path, header)


def test_a_tree_without_a_root_is_empty(new, monkeypatch):
    path, header, _ = new
    patch(path, header + 16, b"\xff" * 8)
    with blind_to_checksums(monkeypatch):
        assert walk_new(path, header) == 0


@pytest.mark.parametrize(
    ("at", "data", "message"),
    [
        (10, b"\0\0", "not of the tree"),
        (6, b"\x0a\0\0\0", "nodes too small"),
        (12, b"\xff\xff", "not of the tree"),
        (24, b"\xff\xff", "the file ends at|ends too early"),
    ],
    ids=["records of no bytes", "nodes of no records", "endless depth", "more records than there are"],
)
def test_headers_that_lie_are_refused(new, monkeypatch, at, data, message):
    path, header, _ = new
    patch(path, header + at, data)
    with blind_to_checksums(monkeypatch), pytest.raises(FormatError, match=message):
        walk_new(path, header)


@pytest.mark.parametrize(("largest", "width"), [(0, 1), (1, 1), (255, 1), (256, 2), (65535, 2), (65536, 3)])
def test_numbers_take_as_many_bytes_as_the_largest(largest, width):
    assert number_width(largest) == width
