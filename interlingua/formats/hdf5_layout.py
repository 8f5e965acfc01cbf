"""Where the structures of an HDF5 file go that is written: one behind the other, after all of the data.

What an object refers to comes before it, so that its address is known: of a group the objects in it, then their names,
then the tables of links, then the tree that finds the tables; last the root group's header. Only the superblock, which
leads to that, is at the front. All structures are of the oldest version, which every HDF5 reads and may add to.

Layout: HDFGroup/hdf5: doxygen/examples/H5.format.html (HDF5 File Format Specification 3.0), sections II.A
(superblock), III.A.1 (B-trees), III.B and C (symbol tables), III.D (local heap) and III.E (global heap).
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from interlingua.formats.base import TensorSpec
from interlingua.formats.hdf5_encoding import (
    REFERENCE,
    UNDEFINED,
    AttributeValue,
    attribute_messages,
    dataset_messages,
    encode_header,
    group_messages,
    padded,
)
from interlingua.formats.hdf5_image import SIGNATURE
from interlingua.formats.hdf5_trees import GROUP_NODES

_Item = TypeVar("_Item")

SUPERBLOCK = 96
"""Bytes of the superblock, at the front of the file."""

_LEAF_K, _NODE_K = 4, 16
"""Half of what a table of links and a node of a tree have room for: what libhdf5 takes where nobody asks for others."""

_TABLE = 8 + 2 * _LEAF_K * 40
_NODE = 24 + 2 * _NODE_K * 16 + 8

_IS_GROUP = 1
_NO_FREE_BLOCK = 1

_COLLECTION = 4096
"""Bytes of a collection of texts: no fewer are allowed."""

_COLLECTION_HEAD = 16
_TEXT_HEAD = 16


def lay_out(
    tensors: Mapping[str, TensorSpec],
    offsets: Mapping[str, int],
    attributes: Mapping[str, Mapping[str, AttributeValue]],
    start: int,
) -> tuple[bytes, bytearray]:
    """Return the superblock, and the structures that are the end of the file, from ``start``.

    Args:
        tensors: the datasets, by path.
        offsets: where the data of each is, by path.
        attributes: of groups and datasets, by path; the root group's is empty. Groups are made where there are none.
        start: a multiple of eight, behind all of the data.
    """
    place = _Structures(start)
    texts = _Texts(place)
    entries: dict[str, bytes] = {}
    groups = _groups(itertools.chain(tensors, filter(None, attributes)), tensors)
    for group, paths in reversed(groups.items()):
        for path in paths:
            if path in tensors:
                messages = dataset_messages(tensors[path], offsets[path])
                messages += attribute_messages(attributes.get(path, {}), texts.keep)
                entries[path] = struct.pack("<Q24x", place.add(encode_header(messages)))
        links = sorted((path.rpartition("/")[2].encode(), entries.pop(path)) for path in paths)
        tree, names = _add_links(place, links)
        messages = group_messages(tree, names) + attribute_messages(attributes.get(group, {}), texts.keep)
        entries[group] = struct.pack("<QIIQQ", place.add(encode_header(messages)), _IS_GROUP, 0, tree, names)
    return _superblock(place.end, entries[""]), place.data


def _groups(paths: Iterable[str], tensors: Mapping[str, TensorSpec]) -> dict[str, list[str]]:
    """Return the paths of what is in each group, by the group's path, groups before those in them."""
    known = dict.fromkeys(prefix for path in paths for prefix in itertools.accumulate(path.split("/"), "{}/{}".format))
    groups: dict[str, list[str]] = {path: [] for path in ("", *known) if path not in tensors}
    for path in known:
        groups[path.rpartition("/")[0]].append(path)
    return groups


def _superblock(end: int, root: bytes) -> bytes:
    """Return the superblock of a file of ``end`` bytes, whose root group has that entry."""
    versions_and_widths = bytes((0, 0, 0, 0, 0, 8, 8, 0))
    sizes = struct.pack("<HHI", _LEAF_K, _NODE_K, 0)
    no_name = bytes(8)
    return SIGNATURE + versions_and_widths + sizes + struct.pack("<4Q", 0, UNDEFINED, end, UNDEFINED) + no_name + root


class _Structures:
    """Structures one behind the other.

    Attributes:
        start: address of the first one.
        data: all of them; every one has a multiple of eight bytes.
    """

    def __init__(self, start: int) -> None:
        self.start = start
        self.data = bytearray()

    @property
    def end(self) -> int:
        """The address of the next one."""
        return self.start + len(self.data)

    def add(self, structure: bytes) -> int:
        """Add a structure; return its address."""
        address = self.end
        self.data += structure
        return address


class _Texts:
    """The global heap: texts of varying length, in collections as small as they may be."""

    def __init__(self, place: _Structures) -> None:
        self._place = place
        self._address = 0
        self._end = 0
        self._free = 0
        self._count = 0

    def keep(self, text: bytes) -> bytes:
        """Add a text; return the reference to it."""
        if not text:
            return bytes(REFERENCE)
        size = _TEXT_HEAD + len(padded(text))
        if size > self._free:
            self._open(size)
        self._count += 1
        self._write(struct.pack("<HHIQ", self._count, 1, 0, len(text)) + padded(text))
        return struct.pack("<IQI", len(text), self._address, self._count)

    def _open(self, size: int) -> None:
        """Add a collection that has room for ``size`` bytes."""
        nbytes = max(_COLLECTION, _COLLECTION_HEAD + size)
        self._address = self._place.add(struct.pack("<4sB3xQ", b"GCOL", 1, nbytes).ljust(nbytes, b"\0"))
        self._end = len(self._place.data)
        self._count = 0
        self._free = nbytes - _COLLECTION_HEAD

    def _write(self, entry: bytes) -> None:
        """Put an entry, and what says how much room is left behind it, into the collection."""
        at = self._end - self._free
        self._free -= len(entry)
        if self._free >= _TEXT_HEAD:
            entry += struct.pack("<HHIQ", 0, 0, 0, self._free)
        self._place.data[at : at + len(entry)] = entry


def _add_links(place: _Structures, links: Sequence[tuple[bytes, bytes]]) -> tuple[int, int]:
    """Add the links of a group; return the addresses of the tree that finds them, and of their names.

    Args:
        place: where to.
        links: name, and entry in a table of links less its first field, which says where the name is; sorted.
    """
    texts = [padded(name + b"\0") for name, _ in links]
    # The first eight bytes are an empty name, which sorts before all others.
    *offsets, size = itertools.accumulate(map(len, texts), initial=8)
    head = struct.pack("<4sB3xQQQ", b"HEAP", 0, size, _NO_FREE_BLOCK, place.end + 32)
    names = place.add(head + bytes(8) + b"".join(texts))
    rows = [offset.to_bytes(8, "little") + entry for offset, (_, entry) in zip(offsets, links, strict=True)]
    tables = []
    for found in _pieces(rows, 2 * _LEAF_K):
        table = struct.pack("<4sBxH", b"SNOD", 1, len(found)) + b"".join(found)
        tables.append((place.add(table.ljust(_TABLE, b"\0")), int.from_bytes(found[-1][:8], "little")))
    return _add_tree(place, tables), names


def _add_tree(place: _Structures, children: list[tuple[int, int]]) -> int:
    """Add the B-tree over tables of links: (address, where the last name in it is) of each; return its address."""
    for level in itertools.count():
        children = _add_level(place, level, children)
        if len(children) == 1:
            break
    return children[0][0]


def _add_level(place: _Structures, level: int, children: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Add the nodes over ``children``; return them as children of the level above."""
    nodes = []
    before, left = 0, UNDEFINED
    pieces = list(_pieces(children, 2 * _NODE_K)) or [[]]
    for number, piece in enumerate(pieces, 1):
        right = UNDEFINED if number == len(pieces) else place.end + _NODE
        node = struct.pack("<4sBBHQQQ", b"TREE", GROUP_NODES, level, len(piece), left, right, before)
        node += b"".join(struct.pack("<QQ", *child) for child in piece)
        left = place.add(node.ljust(_NODE, b"\0"))
        before = piece[-1][1] if piece else 0
        nodes.append((left, before))
    return nodes


def _pieces(items: list[_Item], count: int) -> Iterator[list[_Item]]:
    """Yield ``count`` items at a time, in order; fewer at the end."""
    for at in range(0, len(items), count):
        yield items[at : at + count]
