"""Chunked datasets of HDF5: where their chunks are, and the chunks put together in row order.

Data is put together in bands: all the chunks that share their first coordinate. A band is what is held in memory, so a
band, and within it a chunk, may only be so large; every chunk is read once however the caller cuts its blocks.

Layout: HDFGroup/hdf5: doxygen/examples/H5.format.html (HDF5 File Format Specification 3.0), sections III.A.1 and
III.A.2 (chunks in B-trees) and appendix C (other indexes); src/H5Dfarray.c, src/H5FAdblock.c.
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from interlingua.errors import FormatError
from interlingua.formats.base import Extent
from interlingua.formats.hdf5_datasets import FIXED_ARRAY, IMPLICIT, OLD_TREE, SINGLE, Chunked, Dataset
from interlingua.formats.hdf5_filters import Pipeline
from interlingua.formats.hdf5_image import DAMAGED, REWRITE, Fields, Image
from interlingua.formats.hdf5_trees import CHUNK_NODES, new_tree, old_tree

if TYPE_CHECKING:
    from typing import Any

    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

MAX_CHUNK = 32 << 20
"""Bytes of one chunk; h5py chooses at most a megabyte."""

MAX_BAND = 64 << 20
"""Bytes of all the chunks that share their first coordinate."""

MAX_CHUNKS = 1 << 20
"""Chunks of one dataset."""

FEW_CHUNKS = 1024
MEAN_CHUNK = 256
"""A dataset of more than ``FEW_CHUNKS`` chunks must have so many bytes for each: finding them must cost less than they
are worth."""

MAX_CHUNK_EXTENTS = 4096
"""Chunks of a dataset that are still handed out as runs of bytes."""

_PLAIN_RECORD, _FILTERED_RECORD = 10, 11

_ABSENT = -1


class Place(NamedTuple):
    """One chunk in the file.

    Attributes:
        number: its place among all chunks of the dataset, in row-major order.
        address: where it is stored; None where it never was.
        nbytes: its bytes there; None where it is not filtered.
        skipped: bit i says that filter i was left out.
    """

    number: int
    address: int | None
    nbytes: int | None = None
    skipped: int = 0


class ChunkedData:
    """The data of one chunked dataset.

    Args:
        image: the file.
        dataset: its description.
        chunks: how it is stored: the dataset's ``storage``.
        path: its name, for errors.

    Raises:
        FormatError: its index is damaged, or its chunks are more, larger or otherwise filtered than is read here.
    """

    def __init__(self, image: Image, dataset: Dataset, chunks: Chunked, path: str) -> None:
        self.image = image
        self.dataset = dataset
        self.chunks = chunks
        self.path = path
        self._pipeline = Pipeline(chunks.filters, image.file.path)
        self._pipeline.check()
        self._grid = tuple(-(-n // m) for n, m in zip(dataset.shape, chunks.shape, strict=True))
        self._chunk_bytes = math.prod(chunks.shape) * dataset.dtype.itemsize
        self._row_bytes = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
        self._band: tuple[int, memoryview] | None = None
        self._check_limits()
        count = math.prod(self._grid)
        self._offsets = array("q", [_ABSENT]) * count
        self._sizes = array("Q", [0]) * count
        self._skipped = array("Q", [0]) * count
        image.renew_budget()
        for place in self._places():
            self._put(place)

    def _error(self, message: str, hint: str | None = None) -> FormatError:
        return FormatError(f"the dataset {self.path!r} {message}", path=self.image.file.path, hint=hint)

    def _check_limits(self) -> None:
        count, band = math.prod(self._grid), self._row_bytes * self.chunks.shape[0]
        if count > MAX_CHUNKS or count > FEW_CHUNKS + self.dataset.nbytes // MEAN_CHUNK:
            raise self._error(f"has {count} chunks for {self.dataset.nbytes} bytes, too many to be read", REWRITE)
        if count and (self._chunk_bytes > MAX_CHUNK or min(band, self.dataset.nbytes) > MAX_BAND):
            raise self._error(f"has chunks of shape {list(self.chunks.shape)}, too large to be read", REWRITE)

    def _places(self) -> Iterator[Place]:
        """Find the chunks, in whatever order the index has them."""
        address = self.chunks.address
        if address is None:
            return iter(())
        if self.chunks.index == SINGLE:
            return iter((Place(0, address, *(self.chunks.single or (None, 0))),))
        if self.chunks.index == IMPLICIT:
            return (Place(n, address + n * self._chunk_bytes) for n in range(len(self._offsets)))
        if self.chunks.index == FIXED_ARRAY:
            return self._fixed_array(address)
        return self._old_tree(address) if self.chunks.index == OLD_TREE else self._new_tree(address)

    def _old_tree(self, address: int) -> Iterator[Place]:
        rank = len(self._grid)
        filtered = bool(self.chunks.filters)
        for fields, child in old_tree(self.image, address, CHUNK_NODES, 16 + 8 * rank):
            nbytes, skipped = fields.uint(4), fields.uint(4)
            corner = [fields.uint(8) for _ in range(rank)]
            scaled = [at // size for at, size in zip(corner, self.chunks.shape, strict=True)]
            if any(at % size for at, size in zip(corner, self.chunks.shape, strict=True)):
                raise self._error("has a chunk that is not where chunks are", DAMAGED)
            if not filtered and nbytes != self._chunk_bytes:
                raise self._error(f"has a chunk of {nbytes} bytes", DAMAGED)
            yield Place(self._number(scaled), child, nbytes if filtered else None, skipped)

    def _new_tree(self, address: int) -> Iterator[Place]:
        rank = len(self._grid)
        for kind, fields in new_tree(self.image, address, (_PLAIN_RECORD, _FILTERED_RECORD)):
            child = fields.known_address()
            nbytes, skipped = None, 0
            if kind == _FILTERED_RECORD:
                nbytes, skipped = fields.uint(max(0, fields.left - 4 - 8 * rank)), fields.uint(4)
            yield Place(self._number([fields.uint(8) for _ in range(rank)]), child, nbytes, skipped)

    def _fixed_array(self, address: int) -> Iterator[Place]:
        """Read a fixed array: an entry for every chunk, in pages where there are many."""
        image = self.image
        fields = image.checked(address, 12 + image.address_width + image.length_width, "an array of chunks", b"FAHD")
        fields.version(0)
        filtered, entry, page_bits, count = fields.uint(1), fields.uint(1), fields.uint(1), fields.length()
        data = fields.address()
        if filtered > 1 or count != len(self._offsets) or entry < image.address_width + 4 * filtered:
            raise fields.error("does not fit its dataset", DAMAGED)
        if data is None:
            return
        page = 1 << min(page_bits, 63)
        prefix = 6 + image.address_width
        if count <= page:
            block = image.checked(data, prefix + count * entry + 4, "an array of chunks", b"FADB")
            block.take(prefix - 4)
            yield from self._entries(block, 0, count, entry, filtered)
            return
        pages = -(-count // page)
        bitmap = -(-pages // 8)
        block = image.checked(data, prefix + bitmap + 4, "an array of chunks", b"FADB")
        block.take(prefix - 4)
        written = block.take(bitmap)
        at = data + prefix + bitmap + 4
        for index in range(pages):
            first = index * page
            entries = min(page, count - first)
            if written[index // 8] & 0x80 >> index % 8:
                block = image.checked(at, entries * entry + 4, "an array of chunks")
                yield from self._entries(block, first, entries, entry, filtered)
            at += entries * entry + 4

    def _entries(self, fields: Fields, first: int, count: int, entry: int, filtered: int) -> Iterator[Place]:
        for number in range(first, first + count):
            address = fields.address()
            nbytes, skipped = None, 0
            if filtered:
                nbytes, skipped = fields.uint(entry - self.image.address_width - 4), fields.uint(4)
            yield Place(number, address, nbytes, skipped)

    def _number(self, scaled: list[int]) -> int:
        """Return the place in row-major order of the chunk at these coordinates, counted in chunks."""
        number = 0
        for at, count in zip(scaled, self._grid, strict=True):
            if at >= count:
                raise self._error("has a chunk outside its shape", DAMAGED)
            number = number * count + at
        return number

    def _put(self, place: Place) -> None:
        """Note where a chunk is, once that is known to be inside the file."""
        if place.address is None:
            return
        filtered = bool(self.chunks.filters)
        nbytes = self._chunk_bytes if place.nbytes is None else place.nbytes
        if filtered == (place.nbytes is None) or nbytes > self._chunk_bytes + self._chunk_bytes // 8 + 4096:
            raise self._error(f"has a chunk of {nbytes} bytes", DAMAGED)
        if self._offsets[place.number] != _ABSENT:
            raise self._error("has two chunks in one place", DAMAGED)
        self._offsets[place.number] = self.image.offset(place.address, nbytes, f"a chunk of {self.path!r}")
        self._sizes[place.number] = nbytes
        self._skipped[place.number] = place.skipped

    def extents(self) -> tuple[Extent, ...] | None:
        """Return the runs of bytes that the data is, where chunks are whole rows, stored as they are."""
        whole_rows = self.chunks.shape[1:] == self.dataset.shape[1:]
        swapped = self.dataset.big_endian or self.chunks.filters
        if swapped or not whole_rows or len(self._offsets) > MAX_CHUNK_EXTENTS or _ABSENT in self._offsets:
            return None
        left = self.dataset.nbytes
        extents = []
        for offset in self._offsets:
            extents.append(Extent(self.image.file, offset, min(left, self._chunk_bytes)))
            left -= extents[-1].nbytes
        return tuple(extents)

    def read_into(self, start: int, view: memoryview) -> None:
        """Fill ``view`` with the bytes from ``start`` of the data in row order.

        Raises:
            FormatError: a chunk is damaged.
        """
        band_bytes = self._row_bytes * self.chunks.shape[0]
        done = 0
        while done < len(view):
            index, at = divmod(start + done, band_bytes)
            band = self._read_band(index)
            count = min(len(band) - at, len(view) - done)
            if count <= 0:
                raise ValueError("asked for more bytes than the tensor has")
            view[done : done + count] = band[at : at + count]
            done += count

    def _read_band(self, index: int) -> memoryview:
        """Return the rows of the chunks whose first coordinate is ``index``; the last ones asked for are kept."""
        import numpy as np

        kept = self._band
        if kept is None or kept[0] != index:
            self._band = kept = None
            element = np.dtype(f"V{self.dataset.dtype.itemsize}")
            height = self.chunks.shape[0]
            rows = max(0, min(height, self.dataset.shape[0] - index * height))
            band = np.empty((rows, *self.dataset.shape[1:]), element)
            first = index * math.prod(self._grid[1:])
            corners = itertools.product(*(range(count) for count in self._grid[1:]))
            for number, corner in enumerate(corners, first):
                starts = [0, *(at * size for at, size in zip(corner, self.chunks.shape[1:], strict=True))]
                part = band[tuple(slice(at, at + size) for at, size in zip(starts, self.chunks.shape, strict=True))]
                chunk = np.frombuffer(self._chunk(number), element).reshape(self.chunks.shape)
                part[...] = chunk[tuple(slice(0, size) for size in part.shape)]
            self._band = kept = index, self._in_order(band)
        return kept[1]

    def _in_order(self, band: Array) -> memoryview:
        """Return a band's bytes, each number's in little-endian order."""
        import numpy as np

        data = band.reshape(-1).view(np.uint8)
        if self.dataset.big_endian:
            data.view(f"u{self.dataset.dtype.part_bits // 8}").byteswap(inplace=True)
        return data.data

    def _chunk(self, number: int) -> bytes:
        """Return one chunk's bytes, unfiltered."""
        offset, nbytes = self._offsets[number], self._sizes[number]
        if offset == _ABSENT:
            return self.dataset.fill * math.prod(self.chunks.shape)
        # Nothing here keeps the packed bytes: large chunks leave no room for a third copy.
        return self._pipeline.undo(
            self.image.file.read_at(offset, nbytes, f"a chunk of {self.path!r}"),
            self._skipped[number],
            self._chunk_bytes,
            offset,
        )
