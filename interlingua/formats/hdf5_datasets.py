"""Datasets of HDF5: element type, shape, and where the bytes are.

Data in other files (external storage, virtual datasets) is refused: a checkpoint that reads files beside it reads files
of its author's choosing (CVE-2026-1669).

Layout: HDFGroup/hdf5: doxygen/examples/H5.format.html (HDF5 File Format Specification 3.0), sections IV.A.2.e, f, i
and l (fill value, data layout and filter pipeline messages).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from interlingua.formats.dtypes import DType
from interlingua.formats.hdf5_filters import Filter
from interlingua.formats.hdf5_image import DAMAGED, REWRITE, Fields, Image
from interlingua.formats.hdf5_objects import (
    DATASPACE,
    DATATYPE,
    EXTERNAL_FILES,
    FILL,
    FILTERS,
    LAYOUT,
    OLD_FILL,
    Message,
    find_message,
)
from interlingua.formats.hdf5_types import Datatype, read_datatype, read_shape, tensor_type

OLD_TREE, SINGLE, IMPLICIT, FIXED_ARRAY, EXTENSIBLE_ARRAY, NEW_TREE = range(6)
"""How chunks are found: the first is of layout version 3, the others are numbered as in version 4."""

COMPACT, CONTIGUOUS, CHUNKED, VIRTUAL = range(4)
"""Where the data of a dataset is."""

_UNFILTERED_EDGES = 1
_FILTERED_SINGLE = 2

_MAX_FILTERS = 32


@dataclass(frozen=True, slots=True)
class Contiguous:
    """Data in one piece.

    Attributes:
        offset: byte of the file at which it begins.
        nbytes: its bytes.
    """

    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Chunked:
    """Data in chunks of one shape.

    Attributes:
        shape: elements of a chunk along each axis.
        index: ``OLD_TREE`` ... ``NEW_TREE``.
        address: of the index (of the data for ``SINGLE`` and ``IMPLICIT``); None where no chunk was ever written.
        filters: what was done to each chunk, in order.
        single: (bytes, filter mask) of a chunk that is the only one and filtered, else None.
    """

    shape: tuple[int, ...]
    index: int
    address: int | None
    filters: tuple[Filter, ...]
    single: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset that a tensor can be read from.

    Attributes:
        address: of its object header: two links to one address are one dataset under two names.
        dtype: element type.
        big_endian: whether the elements are stored in the other byte order.
        shape: elements along each axis.
        storage: where the data is.
        fill: bytes of an element that was never written.
    """

    address: int
    dtype: DType
    big_endian: bool
    shape: tuple[int, ...]
    storage: Contiguous | Chunked
    fill: bytes

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return math.prod(self.shape) * self.dtype.itemsize


def is_dataset(messages: list[Message]) -> bool:
    """Say whether an object with these messages is a dataset."""
    return find_message(messages, LAYOUT) is not None


def read_dataset(image: Image, address: int, messages: list[Message], named: str | None) -> Dataset | str:
    """Return the dataset that an object is, or the name of what it holds where no tensor can hold that.

    Args:
        image: the file.
        address: of the object's header.
        messages: the object's header.
        named: value of the object's attribute ``dtype``, with which Keras marks bfloat16; None where it has none.

    Raises:
        FormatError: it is damaged, its data is in other files, was never written, or does not fit into the file.
    """
    if find_message(messages, EXTERNAL_FILES) is not None:
        raise image.error("a dataset has its data in other files", address, _ONE_FILE)
    found = {kind: find_message(messages, kind) for kind in (DATATYPE, DATASPACE, LAYOUT)}
    bodies = [message.fields(image, "a dataset") for message in found.values() if message is not None]
    if len(bodies) < len(found):
        raise image.error("a dataset lacks a type or a shape", address, DAMAGED)
    datatype, space = read_datatype(bodies[0]), read_shape(bodies[1])
    dtype = tensor_type(datatype, named)
    if space is None:
        return "no data"
    if dtype is None:
        return datatype.kind
    shape = space.shape
    storage = _read_layout(bodies[2], datatype, shape, _read_filters(image, messages))
    if isinstance(storage, Chunked) and storage.index in (IMPLICIT, FIXED_ARRAY) and space.resizable:
        raise image.error("a dataset is chunked for a shape that it does not have", address, REWRITE)
    return Dataset(address, dtype, datatype.big_endian, shape, storage, _read_fill(image, messages, datatype.size))


_ONE_FILE = "Only datasets whose data is in the file itself are read."


def _read_layout(
    fields: Fields, datatype: Datatype, shape: tuple[int, ...], filters: tuple[Filter, ...]
) -> Contiguous | Chunked:
    nbytes = math.prod(shape) * datatype.size
    version = fields.version(1, 2, 3, 4, 5)  # 5, of HDF5 2.0, is laid out as 4 is
    rank = fields.uint(1) if version < 3 else 0
    kind = fields.uint(1)
    if version < 3:
        fields.take(5)
    if kind == CHUNKED:
        chunks = _new_chunks(fields, filters) if version >= 4 else _old_chunks(fields, rank, filters)
        return _chunked(fields, chunks, datatype, shape)
    address = fields.address() if kind == CONTIGUOUS else None
    fields.take(4 * rank)
    if kind == VIRTUAL:
        raise fields.error("is a view of other datasets", _ONE_FILE)
    if kind == COMPACT:
        return _compact(fields, fields.uint(4 if version < 3 else 2), nbytes)
    if kind != CONTIGUOUS:
        raise fields.error(f"is laid out in the unknown way {kind}", DAMAGED)
    return _contiguous(fields, address, nbytes)


def _compact(fields: Fields, size: int, nbytes: int) -> Contiguous:
    if size != nbytes or size > fields.left:
        raise fields.error(f"has {min(size, fields.left)} bytes of data where its shape needs {nbytes}", DAMAGED)
    return Contiguous(fields.offset + fields.at, nbytes)


def _contiguous(fields: Fields, address: int | None, nbytes: int) -> Contiguous:
    if nbytes == 0:
        return Contiguous(0, 0)
    if address is None:
        raise fields.error("was never written", "Save the checkpoint again, to the end.")
    return Contiguous(fields.image.offset(address, nbytes, "a dataset"), nbytes)


def _old_chunks(fields: Fields, rank: int, filters: tuple[Filter, ...]) -> Chunked:
    """Take the rest of a chunked layout before version 4; the shape still has the element's bytes as its last axis."""
    rank = rank or fields.uint(1)
    address = fields.address()
    return Chunked(tuple(fields.uint(4) for _ in range(rank)), OLD_TREE, address, filters, None)


def _new_chunks(fields: Fields, filters: tuple[Filter, ...]) -> Chunked:
    """Take the rest of a chunked layout of version 4, as ``_old_chunks`` does."""
    flags, rank, width = fields.uint(1), fields.uint(1), fields.uint(1)
    sizes = tuple(fields.uint(width) for _ in range(rank))
    index = fields.uint(1)
    if flags & _UNFILTERED_EDGES and filters:
        raise fields.error("has chunks that are not filtered at the edges, which is not read here", REWRITE)
    single = None
    if index == SINGLE and flags & _FILTERED_SINGLE:
        single = fields.length(), fields.uint(4)
    skipped = {SINGLE: 0, IMPLICIT: 0, FIXED_ARRAY: 1, NEW_TREE: 6}.get(index)
    if skipped is None:
        raise fields.error("finds its chunks in a way that is not read here", REWRITE)
    fields.take(skipped)
    return Chunked(sizes, index, fields.address(), filters, single)


def _chunked(fields: Fields, chunks: Chunked, datatype: Datatype, shape: tuple[int, ...]) -> Chunked:
    *sizes, element = chunks.shape or (0,)
    if len(sizes) != len(shape) or not sizes or element != datatype.size or 0 in sizes:
        raise fields.error("has chunks that do not fit its shape", DAMAGED)
    return Chunked(tuple(sizes), chunks.index, chunks.address, chunks.filters, chunks.single)


def _read_filters(image: Image, messages: list[Message]) -> tuple[Filter, ...]:
    message = find_message(messages, FILTERS)
    if message is None:
        return ()
    fields = message.fields(image, "a filter pipeline")
    version, count = fields.version(1, 2), fields.uint(1)
    if count > _MAX_FILTERS:
        raise fields.error(f"has {count} filters", DAMAGED)
    if version == 1:
        fields.take(6)
    return tuple(_read_filter(fields, version) for _ in range(count))


def _read_filter(fields: Fields, version: int) -> Filter:
    number = fields.uint(2)
    name = fields.uint(2) if version == 1 or number >= 256 else 0
    fields.take(2)
    count = fields.uint(2)
    fields.take(name + (-name % 8 if version == 1 else 0))
    parameters = tuple(fields.uint(4) for _ in range(count))
    if version == 1 and count % 2:
        fields.take(4)
    return Filter(number, parameters)


def _read_fill(image: Image, messages: list[Message], size: int) -> bytes:
    """Return the bytes of an element that was never written: zeros unless the dataset says otherwise."""
    message = find_message(messages, FILL) or find_message(messages, OLD_FILL)
    if message is None:
        return bytes(size)
    fields = message.fields(image, "a fill value")
    if message.kind == FILL:
        version = fields.version(1, 2, 3)
        flags = fields.uint(1)
        defined = bool(flags & 0x20) if version == 3 else True
        if version < 3:
            fields.take(1)
            defined = bool(fields.uint(1)) or version == 1
        if not defined:
            return bytes(size)
    found = fields.take(fields.uint(4))
    if len(found) not in (0, size):
        raise fields.error(f"has {len(found)} bytes, but elements have {size}", DAMAGED)
    return found or bytes(size)
