"""HDF5 objects being written: their headers and the messages in them, each in its oldest version.

This is ``hdf5_objects``, ``hdf5_types``, ``hdf5_datasets`` and ``hdf5_attributes`` the other way round, for what is
written here: contiguous datasets without a fill value, and attributes that are text.

Layout: HDFGroup/hdf5: doxygen/examples/H5.format.html (HDF5 File Format Specification 3.0), section IV.A. Conventions
(bool, complex numbers, bfloat16): see ``hdf5_types``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import BFLOAT16, BOOL, DTYPES, INT8, UINT8, DType
from interlingua.formats.hdf5_datasets import CONTIGUOUS
from interlingua.formats.hdf5_objects import ATTRIBUTE, DATASPACE, DATATYPE, FILL, LAYOUT, SYMBOL_TABLE
from interlingua.formats.hdf5_types import (
    COMPOUND_CLASS,
    DIMENSIONS,
    ENUMERATION_CLASS,
    FIXED_POINT_CLASS,
    FLOATING_POINT_CLASS,
    FLOATS,
    OPAQUE_CLASS,
    STRING_CLASS,
    VARIABLE_CLASS,
)

AttributeValue = str | bytes | list[bytes]
"""What an attribute says, with h5py's meaning: a text of varying length, in UTF-8 (``str``) or ASCII (``bytes``), or an
array of texts, all padded to the longest one's length."""

Message = tuple[int, bytes]
"""A message to write: what it is about, and its body."""

UNDEFINED = 0xFFFF_FFFF_FFFF_FFFF
"""The address that leads nowhere."""

REFERENCE = 16
"""Bytes of a reference to a text of varying length."""

_VERSION = 1 << 4
_HAS_LIMITS = 1
_SIGNED = 0x08
_IMPLIED_BIT = 0x20
_PADDED_WITH_NULS = 1
_TEXT = 1
_UTF8 = 1 << 8
_ALLOCATED_EARLY, _NEVER_FILLED, _DEFAULT_FILL = 1, 1, 1

_FLOAT_LAYOUTS = {name: layout for layout, name in FLOATS.items()}


def padded(data: bytes) -> bytes:
    """Return ``data`` with NULs behind it, up to a multiple of eight bytes."""
    return data + bytes(-len(data) % 8)


def encode_header(messages: Sequence[Message]) -> bytes:
    """Return the header of an object that has one name: one block, with all its messages."""
    bodies = [(kind, padded(body)) for kind, body in messages]
    block = b"".join(struct.pack("<HH4x", kind, len(body)) + body for kind, body in bodies)
    return struct.pack("<BxHII4x", 1, len(messages), 1, len(block)) + block


def dataset_messages(spec: TensorSpec, address: int) -> list[Message]:
    """Return what makes an object the dataset of a tensor, whose data is at ``address``."""
    return [
        (DATASPACE, encode_shape(spec.shape)),
        (DATATYPE, encode_datatype(spec.dtype)),
        (FILL, struct.pack("<BBBBI", 2, _ALLOCATED_EARLY, _NEVER_FILLED, _DEFAULT_FILL, 0)),
        (LAYOUT, struct.pack("<BBQQ", 3, CONTIGUOUS, address if spec.nbytes else UNDEFINED, spec.nbytes)),
    ]


def group_messages(tree: int, names: int) -> list[Message]:
    """Return what makes an object a group, whose links and their names are at these addresses."""
    return [(SYMBOL_TABLE, struct.pack("<QQ", tree, names))]


def attribute_messages(attributes: Mapping[str, AttributeValue], keep: Callable[[bytes], bytes]) -> list[Message]:
    """Return the messages of an object's attributes.

    Args:
        attributes: by name, in ASCII.
        keep: puts a text of varying length into a heap, and returns the reference to it.
    """
    return [(ATTRIBUTE, _attribute(name, value, keep)) for name, value in attributes.items()]


def _attribute(name: str, value: AttributeValue, keep: Callable[[bytes], bytes]) -> bytes:
    if isinstance(value, list):
        width = max(map(len, value), default=1)
        kind, space = _datatype(STRING_CLASS, _PADDED_WITH_NULS, width), encode_shape((len(value),))
        data = b"".join(text.ljust(width, b"\0") for text in value)
    else:
        charset, text = (_UTF8, value.encode()) if isinstance(value, str) else (0, value)
        kind, space = _datatype(VARIABLE_CLASS, _TEXT | charset, REFERENCE, encode_datatype(UINT8)), encode_shape(())
        data = keep(text)
    title = name.encode("ascii") + b"\0"
    return struct.pack("<BxHHH", 1, len(title), len(kind), len(space)) + padded(title) + padded(kind) + space + data


def encode_shape(shape: Sequence[int]) -> bytes:
    """Return the dataspace of that many elements along each axis, never to be more; of one, where there is no axis."""
    rank = len(shape)
    return struct.pack(f"<BBB5x{2 * rank}Q", 1, rank, _HAS_LIMITS if shape else 0, *shape, *shape)


def encode_datatype(dtype: DType) -> bytes:
    """Return the little-endian datatype of an element type: any that has one, or bfloat16, which has but a size."""
    size = dtype.itemsize
    if dtype == BFLOAT16:
        return _datatype(OPAQUE_CLASS, 0, size)
    if dtype == BOOL:
        names = padded(b"FALSE\0") + padded(b"TRUE\0")
        return _datatype(ENUMERATION_CLASS, 2, size, encode_datatype(INT8) + names + b"\0\1")
    if dtype.kind == "c":
        part = encode_datatype(DTYPES[f"float{dtype.part_bits}"])
        members = (
            padded(name) + place.to_bytes(4, "little") + bytes(DIMENSIONS) + part
            for name, place in ((b"r\0", 0), (b"i\0", size // 2))
        )
        return _datatype(COMPOUND_CLASS, 2, size, b"".join(members))
    if dtype.kind == "f":
        layout = struct.pack("<HHBBBBI", 0, *_FLOAT_LAYOUTS[dtype.name])
        return _datatype(FLOATING_POINT_CLASS, _IMPLIED_BIT | (dtype.bits - 1) << 8, size, layout)
    return _datatype(FIXED_POINT_CLASS, _SIGNED if dtype.kind == "i" else 0, size, struct.pack("<HH", 0, dtype.bits))


def _datatype(kind: int, bits: int, size: int, properties: bytes = b"") -> bytes:
    return struct.pack("<II", bits << 8 | _VERSION | kind, size) + properties
