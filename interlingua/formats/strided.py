"""Tensors whose elements lie in another order, or with their bytes the other way round, than a tensor's must.

A view of a storage is a first element, a shape and a stride (in elements) along each axis. Where its elements
happen to lie row-major the bytes are copied as they stand; elsewhere they are gathered, a tile of the result
at a time, so that memory stays bounded whatever the sizes and strides are.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from interlingua.formats.base import MAX_DIMENSIONS, Extent, SourceFile
from interlingua.formats.dtypes import DType

if TYPE_CHECKING:
    from typing import Any

    import numpy as np

TILE = 16 << 20
"""Bytes of a result that are gathered, and kept, at a time."""

WINDOW = 4 << 20
"""Bytes of a source that are read at a time to pick elements from."""

MAX_BYTES = 1 << 56
"""More than any tensor has, and little enough for 64-bit arithmetic with a stride to stay exact."""

MAX_PIECES = 4096
MIN_PIECE = 4096

# A window is read whole where at least one element in this many is wanted, or where it is small anyway.
_SPARSE = 64
_SMALL = 4096


class Source(Protocol):
    """Bytes that can be read at any place, best in ascending order."""

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` with the bytes from ``offset``; raise FormatError where they are damaged or missing."""


@dataclass(frozen=True, slots=True)
class FileRegion:
    """Bytes of a file from ``offset`` on, as a source."""

    file: SourceFile
    offset: int

    def read_into(self, offset: int, view: memoryview) -> None:
        self.file.read_into(self.offset + offset, view)


@dataclass(frozen=True, slots=True)
class MemoryRegion:
    """Bytes in memory, as a source."""

    data: bytes

    def read_into(self, offset: int, view: memoryview) -> None:
        view[:] = self.data[offset : offset + len(view)]


@dataclass(frozen=True, slots=True)
class View:
    """Where the elements of a tensor lie in its storage.

    Attributes:
        dtype: element type.
        shape: elements along each axis.
        strides: elements from one to the next along each axis; none is negative.
        offset: the first element.
        big_endian: whether the parts of an element have their bytes in that order.
    """

    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    big_endian: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor's data."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def reach(self) -> int:
        """Bytes of storage from its start to the end of the view's last element; 0 for an empty view."""
        if 0 in self.shape:
            return 0
        last = sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        return (self.offset + last + 1) * self.dtype.itemsize

    @property
    def swapped(self) -> bool:
        """Whether bytes have to change places."""
        return self.big_endian and self.dtype.part_bits > 8

    def runs(self) -> tuple[tuple[int, int], ...] | None:
        """Return (offset, length) in bytes of the runs of storage that, joined, are the tensor's data.

        None where bytes are swapped, or where the runs would be too many or too short to be worth naming.
        """
        if 0 in self.shape:
            return ()
        if self.swapped:
            return None
        size = self.dtype.itemsize
        axes = [(n, stride) for n, stride in zip(self.shape, self.strides, strict=True) if n != 1]
        run = 1
        while axes and axes[-1][1] == run:
            run *= axes.pop()[0]
        count = math.prod(n for n, _ in axes)
        if count > 1 and (count > MAX_PIECES or run * size < MIN_PIECE):
            return None
        starts = [self.offset]
        for n, stride in axes:
            starts = [start + i * stride for start in starts for i in range(n)]
        return tuple((start * size, run * size) for start in starts)

    def extents(self, file: SourceFile, start: int) -> tuple[Extent, ...] | None:
        """Return the runs as extents of a storage that begins at byte ``start`` of ``file``."""
        runs = self.runs()
        return None if runs is None else tuple(Extent(file, start + at, nbytes) for at, nbytes in runs)


def checked_naturals(values: object) -> tuple[int, ...]:
    """Return ``values`` (offsets, strides) as a tuple of integers that 64-bit arithmetic does not overflow.

    Raises:
        ValueError: they are no tuple or list, or too many, or one is negative, too large or no integer.
    """
    if not isinstance(values, (tuple, list)) or len(values) > MAX_DIMENSIONS:
        raise ValueError(f"a shape cannot be a {type(values).__name__}, or have that many axes")
    for n in values:
        if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n < MAX_BYTES:
            raise ValueError("a shape, stride or offset is no natural number, or an enormous one")
    return tuple(values)


def checked_shape(lengths: object) -> tuple[int, ...]:
    """Return ``lengths`` as a shape that NumPy can have, even where one of its axes is empty.

    Raises:
        ValueError: as ``checked_naturals``, or there are more elements than any tensor has.
    """
    shape = checked_naturals(lengths)
    if math.prod(max(1, n) for n in shape) >= MAX_BYTES:
        raise ValueError("a shape has more elements than any tensor")
    return shape


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides (in elements) of a row-major tensor."""
    strides = [1]
    for n in reversed(shape[1:]):
        strides.append(strides[-1] * max(1, n))
    return tuple(reversed(strides)) if shape else ()


def column_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides (in elements) of a column-major (Fortran) tensor."""
    return tuple(reversed(row_major(tuple(reversed(shape)))))


class BlockReader(Protocol):
    """Something that gives a tensor's row-major little-endian bytes block by block."""

    def read_into(self, start: int, view: memoryview) -> None:
        """Fill ``view`` with the tensor's bytes from ``start``; raise FormatError where they are damaged."""


def block_reader(source: Source, view: View) -> BlockReader:
    """Return what reads a view of a source the cheapest way."""
    runs = view.runs()
    return Gathered(source, view) if runs is None else Joined(source, runs)


@dataclass(frozen=True, slots=True)
class Joined:
    """The data of a view that is runs of its source, one after the other."""

    source: Source
    runs: tuple[tuple[int, int], ...]

    def read_into(self, start: int, view: memoryview) -> None:
        """Fill ``view`` with the data's bytes from ``start``."""
        done = 0
        for at, nbytes in self.runs:
            if start >= nbytes:
                start -= nbytes
                continue
            count = min(nbytes - start, len(view) - done)
            self.source.read_into(at + start, view[done : done + count])
            done += count
            start = 0
            if done == len(view):
                return
        if done < len(view):
            raise ValueError("asked for more bytes than the tensor has")


class Gathered:
    """The row-major little-endian data of a view, put together a tile at a time. Safe for several threads."""

    def __init__(self, source: Source, view: View) -> None:
        self.source = source
        self.nbytes = view.nbytes
        self.swapped = view.swapped
        self.word = max(1, view.dtype.part_bits // 8)
        parts = view.dtype.itemsize // self.word
        # A complex number is two words side by side: one more axis.
        self.shape = (*view.shape, parts)
        self.strides = (*(stride * parts for stride in view.strides), 1)
        self.offset = view.offset * parts
        self.axis, self.inner = self._split()
        self.rows = max(1, TILE // (self.inner * self.word))
        self.lock = threading.Lock()
        self.tile_start = 0
        self.tile = memoryview(b"")

    def _split(self) -> tuple[int, int]:
        """Return the axis along which tiles are cut, and how many words one step along it has."""
        axis, inner = len(self.shape) - 1, 1
        while axis > 0 and inner * self.shape[axis] * self.word <= TILE:
            inner *= max(1, self.shape[axis])
            axis -= 1
        return axis, inner

    def read_into(self, start: int, view: memoryview) -> None:
        """Fill ``view`` with the data's bytes from ``start``."""
        if start < 0 or start + len(view) > self.nbytes:
            raise ValueError("asked for more bytes than the tensor has")
        done = 0
        with self.lock:
            while done < len(view):
                at = start + done
                if not self.tile_start <= at < self.tile_start + len(self.tile):
                    self._load(at)
                low = at - self.tile_start
                piece = self.tile[low : low + len(view) - done]
                view[done : done + len(piece)] = piece
                done += len(piece)

    def _load(self, at: int) -> None:
        """Gather the tile that has byte ``at`` of the result."""
        import numpy as np

        length = self.shape[self.axis]
        outer, row = divmod(at // self.word // self.inner, length)
        first = row - row % self.rows
        count = min(self.rows, length - first)
        index = _unravel(outer, self.shape[: self.axis])
        offset = self.offset + first * self.strides[self.axis]
        offset += sum(i * stride for i, stride in zip(index, self.strides, strict=False))
        self.tile = memoryview(b"")
        tile = np.empty((count, *self.shape[self.axis + 1 :]), f"<u{self.word}")
        self._fill(tile, self.strides[self.axis :], offset)
        if self.swapped:
            tile.byteswap(inplace=True)
        self.tile = tile.reshape(-1).view(np.uint8).data
        self.tile_start = (outer * length + first) * self.inner * self.word

    def _fill(self, tile: np.ndarray[Any, Any], strides: tuple[int, ...], offset: int) -> None:
        """Fill ``tile`` with the words at ``offset`` and on, cutting it until each part's words lie close."""
        import numpy as np

        steps = tuple(stride * self.word for stride in strides)
        todo = [(tile, offset)]
        while todo:
            box, at = todo.pop()
            reaches = [(n - 1) * stride for n, stride in zip(box.shape, strides, strict=True)]
            span = 1 + sum(reaches)
            if span * self.word <= WINDOW and span <= max(_SMALL, _SPARSE * box.size):
                raw = bytearray(span * self.word)
                self.source.read_into(at * self.word, memoryview(raw))
                box[...] = np.lib.stride_tricks.as_strided(np.frombuffer(raw, tile.dtype), box.shape, steps)
                continue
            axis = reaches.index(max(reaches))
            half = box.shape[axis] // 2
            before = (slice(None),) * axis
            low, high = (*before, slice(half)), (*before, slice(half, None))
            todo += [(box[high], at + half * strides[axis]), (box[low], at)]


def _unravel(index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the place along each axis of the element that is number ``index`` in row-major order."""
    places = []
    for n in reversed(shape):
        index, place = divmod(index, n)
        places.append(place)
    return tuple(reversed(places))
