"""What HDF5 can say about elements and shapes, and which of it a tensor can be.

A datatype is described as precisely as it is stored: a float by where its sign, exponent and mantissa are, which is
how float16, bfloat16 and float32 are told apart. What Keras and h5py add by convention is read here too: bool is an
enumeration {FALSE, TRUE} of bytes, a complex number a compound {r, i}, and bfloat16, which NumPy cannot name, an
opaque type of two bytes (in Keras 3 with an attribute ``dtype`` beside it).

Layout: HDFGroup/hdf5: doxygen/examples/H5.format.html (HDF5 File Format Specification 3.0), sections IV.A.2.b
(dataspace) and IV.A.2.d (datatype). Conventions: h5py/h5py: h5py/h5t.pyx; keras-team/keras:
keras/src/saving/saving_lib.py (class H5IOStore).
"""

from __future__ import annotations

from dataclasses import dataclass

from interlingua.formats.base import MAX_DIMENSIONS
from interlingua.formats.dtypes import BFLOAT16, BOOL, COMPLEX64, COMPLEX128, DTYPES, DType
from interlingua.formats.hdf5_image import DAMAGED, Fields
from interlingua.formats.hdf5_trees import number_width

STRING = "string"
VARIABLE_STRING = "variable-length string"
OPAQUE = "opaque"
NUMBER = "number"

FIXED_POINT_CLASS, FLOATING_POINT_CLASS, STRING_CLASS, OPAQUE_CLASS = 0, 1, 3, 5
COMPOUND_CLASS, ENUMERATION_CLASS, VARIABLE_CLASS = 6, 8, 9

_OTHER_CLASSES = {2: "time", 4: "bit field", 7: "reference", 10: "array", 11: "complex"}

_NULL_SPACE = 2

_MAX_MEMBERS = 4096

DIMENSIONS = 28
"""Bytes that the first version of a compound's member has for an array's dimensions."""

FLOATS = {
    # precision, exponent (place, bits), mantissa (place, bits), exponent bias; the sign is the topmost bit
    (16, 10, 5, 0, 10, 15): "float16",
    (16, 7, 8, 0, 7, 127): "bfloat16",
    (32, 23, 8, 0, 23, 127): "float32",
    (64, 52, 11, 0, 52, 1023): "float64",
}


@dataclass(frozen=True, slots=True)
class Datatype:
    """The type of a dataset's or an attribute's elements.

    Attributes:
        kind: ``NUMBER``, ``STRING``, ``VARIABLE_STRING``, ``OPAQUE``, or the name of what no tensor can hold.
        size: bytes of one element as it is stored.
        dtype: element type of a number; None for everything else.
        big_endian: whether the bytes of a number are in the other order.
    """

    kind: str
    size: int
    dtype: DType | None = None
    big_endian: bool = False


@dataclass(frozen=True, slots=True)
class Space:
    """A dataspace: elements along each axis, and whether there may come to be more."""

    shape: tuple[int, ...]
    resizable: bool


def read_datatype(fields: Fields) -> Datatype:
    """Take a datatype from the front of ``fields``.

    Raises:
        FormatError: it is damaged or contradicts itself.
    """
    head, bits, size = fields.uint(1), fields.uint(3), fields.uint(4)
    version, kind = head >> 4, head & 0xF
    if size == 0:
        raise fields.error("has elements of no bytes", DAMAGED)
    if kind == FIXED_POINT_CLASS:
        return _integer(fields, bits, size)
    if kind == FLOATING_POINT_CLASS:
        return _float(fields, bits, size)
    if kind == STRING_CLASS:
        return Datatype(STRING, size)
    if kind == OPAQUE_CLASS:
        return Datatype(OPAQUE if not fields.take(bits & 0xFF).strip(b"\0") else "tagged opaque", size)
    if kind == ENUMERATION_CLASS:
        return _enumeration(fields, version, bits & 0xFFFF, size)
    if kind == COMPOUND_CLASS:
        return _compound(fields, version, bits & 0xFFFF, size)
    if kind == VARIABLE_CLASS:
        return Datatype(VARIABLE_STRING if bits & 0xF == 1 else "variable-length sequence", size)
    if kind not in _OTHER_CLASSES:
        raise fields.error(f"is of the unknown class {kind}", DAMAGED)
    return Datatype(_OTHER_CLASSES[kind], size)


def _integer(fields: Fields, bits: int, size: int) -> Datatype:
    place, precision = fields.uint(2), fields.uint(2)
    dtype = DTYPES.get(f"{'int' if bits & 8 else 'uint'}{8 * size}")
    if dtype is None or place or precision != 8 * size:
        return Datatype("padded integer", size)
    return Datatype(NUMBER, size, dtype, bool(bits & 1) and size > 1)


def _float(fields: Fields, bits: int, size: int) -> Datatype:
    place, precision = fields.uint(2), fields.uint(2)
    exponent, mantissa = (fields.uint(1), fields.uint(1)), (fields.uint(1), fields.uint(1))
    layout = (precision, *exponent, *mantissa, fields.uint(4))
    name = FLOATS.get(layout)
    implied_bit, sign, mixed_order = bits >> 4 & 3 == 2, bits >> 8 & 0xFF, bits & 0x40
    if name is None or place or precision != 8 * size or sign != precision - 1 or not implied_bit or mixed_order:
        return Datatype("unusual floating point", size)
    return Datatype(NUMBER, size, DTYPES[name], bool(bits & 1) and size > 1)


def _enumeration(fields: Fields, version: int, count: int, size: int) -> Datatype:
    """Take an enumeration: bool where it is h5py's, else the integers that it gives names to."""
    base = _number(fields)
    if base is None or base.size != size or count > _MAX_MEMBERS:
        return Datatype("enumeration", size)
    names = [_member_name(fields, version) for _ in range(count)]
    values = [int.from_bytes(fields.take(size), "little") for _ in range(count)]
    if size == 1 and sorted(zip(names, values, strict=True)) == [(b"FALSE", 0), (b"TRUE", 1)]:
        return Datatype(NUMBER, size, BOOL)
    return base


def _compound(fields: Fields, version: int, count: int, size: int) -> Datatype:
    """Take a compound: a complex number where it is h5py's, else nothing that a tensor can hold."""
    members = []
    for _ in range(min(count, 3)):
        name = _member_name(fields, version)
        place = fields.uint(4 if version < 3 else number_width(size))
        if version == 1:
            fields.take(DIMENSIONS)
        members.append((name, place, _number(fields)))
        if members[-1][2] is None:
            break
    for dtype in (COMPLEX64, COMPLEX128):
        for big_endian in (False, True):
            half = dtype.itemsize // 2
            part = Datatype(NUMBER, half, DTYPES[f"float{8 * half}"], big_endian)
            if size == 2 * half and members == [(b"r", 0, part), (b"i", half, part)]:
                return Datatype(NUMBER, size, dtype, big_endian)
    return Datatype("compound", size)


def _number(fields: Fields) -> Datatype | None:
    """Take the datatype of a number that another is made of; None where it is of something else."""
    kind = fields.take(1)[0] & 0xF
    fields.at -= 1
    if kind not in (FIXED_POINT_CLASS, FLOATING_POINT_CLASS):
        return None
    found = read_datatype(fields)
    return found if found.dtype else None


def _member_name(fields: Fields, version: int) -> bytes:
    start = fields.at
    name = fields.text()
    if version < 3:
        fields.take(-(fields.at - start) % 8)
    return name


def read_shape(fields: Fields) -> Space | None:
    """Take a dataspace; None where it stands for no data at all.

    Raises:
        FormatError: it is damaged, or has more axes than any tensor.
    """
    version, rank, flags, kind = fields.version(1, 2), fields.uint(1), fields.uint(1), fields.uint(1)
    if rank > MAX_DIMENSIONS:
        raise fields.error(f"has {rank} dimensions", DAMAGED)
    if version == 1:
        fields.take(4)
    elif kind == _NULL_SPACE:
        return None
    shape = tuple(fields.length() for _ in range(rank))
    limits = tuple(fields.length() for _ in range(rank)) if flags & 1 else shape
    if any(size >= 1 << 63 for size in shape):
        raise fields.error("has an axis without end", DAMAGED)
    return Space(shape, limits != shape)


def tensor_type(datatype: Datatype, named: str | None) -> DType | None:
    """Return the element type of a tensor stored as ``datatype``; None where there is none.

    Args:
        datatype: as stored.
        named: what an attribute ``dtype`` beside an opaque type says that it is; None where there is none.
    """
    if datatype.kind != OPAQUE:
        return datatype.dtype
    if named is None:
        return BFLOAT16 if datatype.size == BFLOAT16.itemsize else None
    dtype = DTYPES.get(named)
    return dtype if dtype is not None and dtype.bits == 8 * datatype.size else None
