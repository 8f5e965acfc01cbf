"""The two generations of B-trees in HDF5, walked leaf by leaf without recursion.

What a walk holds is the raw bytes of one node a level, and every node is read against the file's budget: a tree whose
nodes lead back to one another, or all to one node, ends in an error.

Layout: HDFGroup/hdf5: doxygen/examples/H5.format.html (HDF5 File Format Specification 3.0), sections III.A.1 and
III.A.2; src/H5B2hdr.c (how wide the counts in a node's pointers are).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from interlingua.formats.hdf5_image import DAMAGED, Fields, Image

GROUP_NODES = 0
CHUNK_NODES = 1

_MAX_DEPTH = 32
"""Levels of a tree: with two children a node, more than any file can fill."""

_PREFIX = 6
_CHECKSUM = 4


def old_tree(image: Image, address: int, kind: int, key_width: int) -> Iterator[tuple[Fields, int]]:
    """Yield (key, address) of every entry in the leaves of a version 1 B-tree, in order.

    Args:
        image: the file.
        address: root node.
        kind: ``GROUP_NODES`` or ``CHUNK_NODES``.
        key_width: bytes of a key.

    Raises:
        FormatError: a node is damaged, of another kind, or of another level than its parent says.
    """
    stack = [_old_node(image, address, kind, key_width, None)]
    while stack:
        level, entries = stack[-1]
        if not entries.left:
            stack.pop()
            continue
        key, child = entries.part(key_width), entries.known_address()
        if level == 0:
            yield key, child
        else:
            stack.append(_old_node(image, child, kind, key_width, level - 1))


def _old_node(image: Image, address: int, kind: int, key_width: int, level: int | None) -> tuple[int, Fields]:
    """Return a node's level, and its entries: a key and an address each."""
    head = 8 + 2 * image.address_width
    fields = image.fields(address, head, "a B-tree node", b"TREE")
    found_kind, found_level, count = fields.uint(1), fields.uint(1), fields.uint(2)
    if found_kind != kind or found_level > _MAX_DEPTH or level not in (None, found_level):
        raise fields.error("is not of the tree that leads to it", DAMAGED)
    return found_level, image.fields(address + head, count * (key_width + image.address_width), "a B-tree node")


@dataclass(frozen=True, slots=True)
class _Shape:
    """How the nodes of a version 2 tree are laid out.

    Attributes:
        kind: type of the records.
        record: bytes of one.
        count_width: bytes of the number of records of one child.
        total_widths: by level of the child, bytes of the number of records in it and all below; 0 for leaves.
    """

    kind: int
    record: int
    count_width: int
    total_widths: tuple[int, ...]


def new_tree(image: Image, address: int, kinds: tuple[int, ...]) -> Iterator[tuple[int, Fields]]:
    """Yield (kind, record) of every record of a version 2 B-tree, in no order to rely on.

    Args:
        image: the file.
        address: the tree's header.
        kinds: types of records that the caller can make sense of.

    Raises:
        FormatError: the tree is damaged, or of another type.
    """
    fields = image.checked(address, 22 + image.address_width + image.length_width, "a B-tree header", b"BTHD")
    fields.version(0)
    kind, node_size, record, depth = fields.uint(1), fields.uint(4), fields.uint(2), fields.uint(2)
    fields.take(2)
    root, count = fields.address(), fields.uint(2)
    if kind not in kinds or depth > _MAX_DEPTH or record == 0:
        raise fields.error("is not of the tree that was expected", DAMAGED)
    if root is None:
        return
    shape = _shape(image, kind, node_size, record, depth)
    stack = [(depth, *_new_node(image, root, depth, count, shape))]
    while stack:
        level, records, children = stack[-1]
        if records.left:
            yield kind, records.part(record)
        elif children.left:
            child, count = children.known_address(), children.uint(shape.count_width)
            children.take(shape.total_widths[level - 1])
            stack.append((level - 1, *_new_node(image, child, level - 1, count, shape)))
        else:
            stack.pop()


def _new_node(image: Image, address: int, level: int, count: int, shape: _Shape) -> tuple[Fields, Fields]:
    """Return a node's records, and its pointers to children (none in a leaf)."""
    pointer = image.address_width + shape.count_width + shape.total_widths[level - 1] if level else 0
    records, pointers = count * shape.record, pointer * (count + 1)
    signature = b"BTIN" if level else b"BTLF"
    fields = image.checked(address, _PREFIX + records + pointers + _CHECKSUM, "a B-tree node", signature)
    fields.version(0)
    if fields.uint(1) != shape.kind:
        raise fields.error("is not of the tree that leads to it", DAMAGED)
    return fields.part(records), fields.part(pointers)


def _shape(image: Image, kind: int, node_size: int, record: int, depth: int) -> _Shape:
    """Work out the layout that the tree's writer derived from the size of its nodes."""
    most = (node_size - _PREFIX - _CHECKSUM) // record
    if most <= 0:
        raise image.error("a B-tree has nodes too small for a record", hint=DAMAGED)
    count_width = number_width(most)
    widths = [0]
    total = most
    for _ in range(1, depth):
        pointer = image.address_width + count_width + widths[-1]
        most = max(0, (node_size - _PREFIX - _CHECKSUM - pointer) // (record + pointer))
        total = (most + 1) * total + most
        widths.append(number_width(total))
    return _Shape(kind, record, count_width, tuple(widths))


def number_width(largest: int) -> int:
    """Return the bytes that hold every number up to ``largest``."""
    return max(1, (largest.bit_length() + 7) // 8)
