"""Carry out one step of a plan in bounded memory: into an output's slot, or as blocks for whoever wants to look."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from interlingua.convert.kernels import SIDE, Losses, cast, is_transpose, transpose, words
from interlingua.convert.plan import ZEROS, Piece, Step
from interlingua.errors import CheckError, FormatError
from interlingua.formats.base import BLOCK, Extent, Reader, Slot, blocks, checksum_of, read_extents, write_at
from interlingua.formats.dtypes import numpy_dtype
from interlingua.formats.lazy_files import WINDOW, LazyFile, any_lazy, merged
from interlingua.formats.preallocation import IS_FULL

if TYPE_CHECKING:
    from interlingua.convert.kernels import Array

TILE = 10 << 20
"""Bytes of a matrix that are transposed at a time: each of BERT-base's is one tile."""

COPY = 64 << 20
"""Bytes asked of the system in one copy inside the kernel: few calls, yet progress to show."""

Readers = Mapping[str, Reader]
Tell = Callable[[int], None]
"""Told the number of bytes each time some are done; may raise to stop the work."""


class Scratch:
    """Buffers that are made once, for memory that is new costs more than what is done to it."""

    def __init__(self, least: int = 0) -> None:
        self._least = least
        self._buffers: dict[str, Array] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: str) -> Array:
        """Return an array with whatever is in it; the last one of the name is no longer valid then."""
        import numpy as np

        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        if name not in self._buffers or len(self._buffers[name]) < nbytes:
            # NumPy asks the system for large pages, which strides over many rows are faster in.
            self._buffers[name] = np.empty(max(nbytes, self._least), "u1")
        return self._buffers[name][:nbytes].view(dtype).reshape(shape)


_local = threading.local()
_one_copy_at_a_time = threading.Lock()


def write_step(
    step: Step, readers: Readers, slot: Slot, checksum: str | None, tell: Tell, *, verify: bool = False
) -> tuple[int | None, Losses]:
    """Put a step's tensor into its slot.

    Args:
        step: the step.
        readers: origin of pieces -> reader.
        slot: where the bytes go.
        checksum: the checksum that the output's container keeps.
        tell: told of bytes done.
        verify: read back each block of a step that copies or turns as soon as it is written, and compare it.

    Returns:
        The checksum of the bytes written (None where none is kept), and what a cast lost.

    Raises:
        FormatError: the source is damaged.
        OSError: the output cannot be written.
        CheckError: what was read back is not what was written.
    """
    if step.transpose is not None:
        return _write_transposed(step, readers, slot, checksum, tell, verify)
    if step.cast_from is not None or step.scale is not None:
        return _write_cast(step, readers, slot, checksum, tell)
    value = None if checksum is None else 0
    offset = slot.offset
    for piece in step.pieces:
        value = _copy(piece, readers, Slot(slot.fd, offset), checksum, value, tell, verify)
        offset += piece.nbytes
    return value, Losses()


def step_blocks(step: Step, readers: Readers) -> Iterator[memoryview]:
    """Yield a step's tensor, row-major and little-endian, in blocks of ``BLOCK`` bytes (the last one shorter).

    A block is valid until the next one is asked for.
    """
    if step.is_copy:
        buffer = memoryview(bytearray(min(BLOCK, step.target.nbytes)))
        for start, length in blocks(step.target.nbytes):
            read_joined(step.pieces, readers, start, buffer[:length])
            yield buffer[:length]
        return
    pending = bytearray()
    # Buffers of its own: the thread may take blocks of another step in between.
    for strip in _strips(step, readers, Scratch()):
        if pending:
            missing = BLOCK - len(pending)
            pending += strip[:missing]
            strip = strip[missing:]
            if len(pending) == BLOCK:
                yield memoryview(pending)
                pending = bytearray()
        while len(strip) >= BLOCK:
            yield strip[:BLOCK]
            strip = strip[BLOCK:]
        pending += strip
    if pending:
        yield memoryview(pending)


def same_bytes(one: Step, ours: Readers, other: Step, theirs: Readers) -> bool:
    """Say whether two steps of equal dtype and shape give the same bytes."""
    if one.is_copy and not other.is_copy:
        return same_bytes(other, theirs, one, ours)
    if not one.is_copy and other.is_copy:
        return _strips_are(one, ours, other, theirs)
    if not (one.keeps_bits and other.keeps_bits and one.transpose == other.transpose):
        pairs = zip(step_blocks(one, ours), step_blocks(other, theirs), strict=True)
        return all(_equal(left, right) for left, right in pairs)
    # Copies; or matrices that are turned alike, which are equal where they are so before they are turned.
    for start, length in blocks(one.target.nbytes, COMPARE):
        left, right = _pair(length)
        read_joined(one.pieces, ours, start, memoryview(left))
        read_joined(other.pieces, theirs, start, memoryview(right))
        if left != right:
            return False
    return True


def _scratch() -> Scratch:
    """Return this thread's own buffers."""
    if not hasattr(_local, "scratch"):
        _local.scratch = Scratch(TILE)
    scratch: Scratch = _local.scratch
    return scratch


def _strips_are(one: Step, ours: Readers, copied: Step, theirs: Readers) -> bool:
    """Say whether a step that turns or casts gives the bytes of one that copies."""
    done = 0
    for strip in _strips(one, ours, _scratch()):
        for start, length in blocks(len(strip), COMPARE):
            view = memoryview(_pair(length)[0])
            read_joined(copied.pieces, theirs, done + start, view)
            if not _equal(strip[start : start + length], view):
                return False
        done += len(strip)
    return done == copied.target.nbytes


def _equal(left: memoryview, right: memoryview) -> bool:
    """Compare bytes as words, which is faster than Python does it for views."""
    import numpy as np

    if len(left) != len(right):
        return False
    whole = len(left) & ~7
    words_are = np.array_equal(np.frombuffer(left[:whole], "u8"), np.frombuffer(right[:whole], "u8"))
    return words_are and left[whole:] == right[whole:]


@contextlib.contextmanager
def fetched_ahead(steps: Iterable[Step], readers: Readers) -> Iterator[None]:
    """Fetch meanwhile what steps read of files that are elsewhere, in larger requests than a tensor makes.

    What cannot be fetched fails where it is read.
    """
    runs = _lazy_runs(steps, readers) if any_lazy() else {}
    if not runs:
        yield
        return
    stop = threading.Event()

    def fetch() -> None:
        with contextlib.suppress(FormatError, RuntimeError):
            for file, ranges in runs.items():
                for offset, nbytes in merged(ranges):
                    for start, length in blocks(nbytes, WINDOW):
                        if stop.is_set():
                            return
                        file.have(offset + start, length)

    thread = threading.Thread(target=fetch, name="interlingua-ahead", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _lazy_runs(steps: Iterable[Step], readers: Readers) -> dict[LazyFile, list[tuple[int, int]]]:
    """Return the (offset, bytes) that steps read of each lazy file."""
    found: dict[LazyFile, list[tuple[int, int]]] = {}
    for piece in (piece for step in steps for piece in step.pieces if piece.origin in readers):
        for extent in cut(readers[piece.origin].extents(piece.name) or (), piece.start, piece.nbytes):
            if extent.file.lazy is not None:
                found.setdefault(extent.file.lazy, []).append((extent.offset, extent.nbytes))
    return found


def read_back(slot: Slot, start: int, view: memoryview) -> None:
    """Fill ``view`` with the output's own bytes from ``start`` of a slot."""
    done = 0
    while done < len(view):
        count = os.preadv(slot.fd, [view[done:]], slot.offset + start + done)
        if count == 0:
            raise OSError(errno.EIO, "the output became shorter while it was written")
        done += count


COMPARE = 512 << 10
"""Bytes copied or compared at a time: two such blocks stay in a core's cache between one look and the next."""


def _pair(length: int) -> tuple[bytearray, bytearray]:
    """Return two buffers of ``length`` bytes, this thread's own where they are of full size.

    Only whole bytearrays are compared as memory; views of them are compared item by item.
    """
    if length != COMPARE:
        return bytearray(length), bytearray(length)
    if not hasattr(_local, "pair"):
        _local.pair = bytearray(COMPARE), bytearray(COMPARE)
    pair: tuple[bytearray, bytearray] = _local.pair
    return pair


def read_joined(pieces: tuple[Piece, ...], readers: Readers, start: int, view: memoryview) -> None:
    """Fill ``view`` with the bytes from ``start`` of the pieces, joined."""
    done = 0
    for piece in pieces:
        if start >= piece.nbytes:
            start -= piece.nbytes
            continue
        count = min(piece.nbytes - start, len(view) - done)
        part = view[done : done + count]
        if piece.origin == ZEROS:
            part[:] = bytes(count)
        else:
            readers[piece.origin].read_into(piece.name, piece.start + start, part)
        done += count
        start = 0
        if done == len(view):
            return


def _buffer(length: int) -> memoryview:
    """Return ``length`` bytes (``BLOCK`` at most) of this thread's own buffer."""
    if not hasattr(_local, "buffer"):
        _local.buffer = bytearray(BLOCK)
    return memoryview(_local.buffer)[:length]


def _copy(
    piece: Piece, readers: Readers, slot: Slot, checksum: str | None, value: int | None, tell: Tell, verify: bool
) -> int | None:
    """Copy a piece and return the output's checksum continued over it."""
    reader = readers.get(piece.origin)
    expected, extents = None, None
    if reader is not None:
        extents = reader.extents(piece.name)
        is_whole = piece.start == 0 and piece.nbytes == reader.tensors[piece.name].nbytes
        expected = reader.expected_checksum(piece.name) if is_whole and extents is not None else None
        if extents is not None and checksum is None and expected is None and not verify:
            _copy_in_kernel(cut(extents, piece.start, piece.nbytes), slot, tell)
            return None
    seen: int | None = 0
    with held(extents or ()):
        for start, length in blocks(piece.nbytes, COMPARE):
            block, again = _pair(length)
            view = memoryview(block)
            if expected is not None and extents is not None:
                # Past the reader, which would verify the checksum a second time.
                read_extents(extents, start, view)
                seen = checksum_of(expected[0], view, seen or 0)
            else:
                read_joined((piece,), readers, start, view)
            value = checksum_of(checksum, view, value or 0)
            write_at(slot.fd, slot.offset + start, view)
            if verify:
                read_back(slot, start, memoryview(again))
                if block != again:
                    raise CheckError(f"{piece.name}, read back, is not what was written.", hint=AT_FAULT)
            tell(length)
    if reader is not None and expected is not None and seen != expected[1]:
        raise FormatError(
            f"{piece.name!r} does not have the checksum that the file keeps of it",
            path=reader.path,
            hint="The file is damaged; fetch it again.",
        )
    return value


@contextlib.contextmanager
def held(extents: tuple[Extent, ...]) -> Iterator[None]:
    """Keep the files of the extents open, which may otherwise be opened for each block."""
    with contextlib.ExitStack() as stack:
        for file in {id(extent.file): extent.file for extent in extents}.values():
            stack.enter_context(file.held())
        yield


AT_FAULT = "Do not use it: the disk, the memory or this program is at fault."
"""What to make of an output that is not what was written."""


def cut(extents: tuple[Extent, ...], start: int, nbytes: int) -> Iterator[Extent]:
    """Yield the runs that hold ``nbytes`` bytes from ``start`` of the extents, joined."""
    for extent in extents:
        if start >= extent.nbytes:
            start -= extent.nbytes
            continue
        count = min(extent.nbytes - start, nbytes)
        if count:
            yield Extent(extent.file, extent.offset + start, count)
        nbytes -= count
        start = 0


def _copy_in_kernel(extents: Iterator[Extent], slot: Slot, tell: Tell) -> None:
    """Copy runs of bytes without bringing them into the process, where the system can."""
    position = slot.offset
    for extent in extents:
        extent.file.check(extent.offset, extent.nbytes, "a tensor")
        extent.file.fetch(extent.offset, extent.nbytes)
        done = _copy_file_range(extent, slot.fd, position, tell)
        for start, length in blocks(extent.nbytes - done):
            view = _buffer(length)
            extent.file.read_into(extent.offset + done + start, view)
            write_at(slot.fd, position + done + start, view)
            tell(length)
        position += extent.nbytes


def _copy_file_range(extent: Extent, fd: int, position: int, tell: Tell) -> int:
    """Return how many bytes of the run the system has copied by itself."""
    if not hasattr(os, "copy_file_range"):
        return 0
    done = 0
    # Two threads that copy into one file wait for each other in the system anyway, spinning.
    with extent.file.held() as source, _one_copy_at_a_time:
        while done < extent.nbytes:
            count = min(COPY, extent.nbytes - done)
            try:
                count = os.copy_file_range(source, fd, count, extent.offset + done, position + done)
            except OSError as error:
                # Of any other failure, a copy of our own tells whose it is, if any.
                if error.errno in IS_FULL:
                    raise
                return done
            if count == 0:
                return done
            extent.file.check_unchanged(source)
            done += count
            tell(count)
    return done


def _checksum_written(slot: Slot, nbytes: int, checksum: str) -> int | None:
    """Return the checksum of what was written out of order, read back from the system's cache."""
    value: int | None = 0
    for start, length in blocks(nbytes):
        view = _buffer(length)
        read_back(slot, start, view)
        value = checksum_of(checksum, view, value or 0)
    return value


def _write_cast(
    step: Step, readers: Readers, slot: Slot, checksum: str | None, tell: Tell
) -> tuple[int | None, Losses]:
    value: int | None = None if checksum is None else 0
    losses, offset = Losses(), slot.offset
    for elements in _elements(step, readers):
        result, lost = cast(elements, step.target.dtype)
        data = result.view("u1").data
        losses += lost
        value = checksum_of(checksum, data, value or 0)
        write_at(slot.fd, offset, data)
        offset += len(data)
        tell(len(data))
    return value, losses


def _elements(step: Step, readers: Readers) -> Iterator[Array]:
    """Yield a step's elements before the cast, multiplied where they are to be, a block at a time."""
    import numpy as np

    source = step.cast_from or step.target.dtype
    for start, length in blocks(step.target.elements * source.itemsize):
        view = _buffer(length)
        read_joined(step.pieces, readers, start, view)
        elements = np.frombuffer(view, numpy_dtype(source))
        yield elements if step.scale is None else elements.astype(np.float64) * step.scale


def _read_tile(step: Step, readers: Readers, top: int, left: int, height: int, width: int, scratch: Scratch) -> Array:
    """Return ``height`` x ``width`` elements of the matrix before it is turned."""
    source = step.cast_from or step.target.dtype
    columns = _matrix(step)[1]
    tile = scratch.array("tile", (height, width), words(source))
    view = tile.reshape(-1).view("u1").data
    if width == columns:
        read_joined(step.pieces, readers, top * columns * source.itemsize, view)
    elif columns <= AGAIN * width and columns * source.itemsize <= BLOCK:
        _read_columns(step, readers, top, left, columns, tile)
    else:
        row = width * source.itemsize
        for line in range(height):
            start = ((top + line) * columns + left) * source.itemsize
            read_joined(step.pieces, readers, start, view[line * row : (line + 1) * row])
    return tile


def _turned(step: Step, part: Array, scratch: Scratch) -> tuple[Array, Losses]:
    """Return a part of a matrix turned and cast."""
    turned = scratch.array("turned", (part.shape[1], part.shape[0]), part.dtype.str)
    transpose(part, turned)
    if step.cast_from is None:
        return turned, Losses()
    return cast(turned.view(numpy_dtype(step.cast_from)), step.target.dtype)


def _matrix(step: Step) -> tuple[int, int]:
    """Return (rows, columns) of the matrix that a step turns."""
    if step.transpose is None:
        raise ValueError("not a matrix that is turned")
    return step.transpose


AGAIN = 8
"""How often whole rows are read, each time for other columns, before it is faster to ask for each row's part alone."""


def _read_columns(step: Step, readers: Readers, top: int, left: int, columns: int, tile: Array) -> None:
    """Fill a tile from whole rows of at most ``BLOCK`` bytes, many of which come in one read."""
    import numpy as np

    height, width = tile.shape
    row = columns * tile.itemsize
    rows = np.empty((BLOCK // row, columns), tile.dtype)
    for line in range(0, height, len(rows)):
        found = rows[: height - line]
        read_joined(step.pieces, readers, (top + line) * row, found.reshape(-1).view("u1").data)
        tile[line : line + len(found)] = found[:, left : left + width]


def tiles(rows: int, columns: int, itemsize: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (top, left, height, width) of tiles of at most ``TILE`` bytes that cover a matrix.

    A matrix that fits is one tile; otherwise tiles are as square as they can be, so that neither the reads
    of a row nor the writes of a turned row become short.
    """
    width = max(1, min(columns, TILE // itemsize))
    height = max(1, TILE // (width * itemsize))
    if height < min(rows, SQUARE):
        height = min(rows, SQUARE)
        width = max(1, TILE // (height * itemsize))
    for top in range(0, rows, height):
        for left in range(0, columns, width):
            yield top, left, min(height, rows - top), min(width, columns - left)


SQUARE = 1024
"""Rows that a tile has at least, where the matrix has as many."""


def _write_transposed(
    step: Step, readers: Readers, slot: Slot, checksum: str | None, tell: Tell, verify: bool
) -> tuple[int | None, Losses]:
    rows, columns = _matrix(step)
    value: int | None = None if checksum is None else 0
    losses, scratch, in_order = Losses(), _scratch(), True
    for top, left, height, width in tiles(rows, columns, (step.cast_from or step.target.dtype).itemsize):
        tile = _read_tile(step, readers, top, left, height, width, scratch)
        in_order = in_order and height == rows
        for first in range(0, width, SIDE):
            strip = tile[:, first : first + SIDE]
            turned, lost = _turned(step, strip, scratch)
            losses += lost
            if in_order:
                value = checksum_of(checksum, _bytes(turned), value or 0)
            for offset, data in _runs_of(turned, (top, left + first), rows):
                write_at(slot.fd, slot.offset + offset, data)
            if verify and step.keeps_bits:
                again = scratch.array("again", turned.shape, turned.dtype.str)
                for offset, data in _runs_of(again, (top, left + first), rows):
                    read_back(slot, offset, data)
                if not is_transpose(strip, again):
                    raise CheckError(f"{step.target.name}, read back, is not what was written.", hint=AT_FAULT)
            tell(turned.nbytes)
    if checksum is not None and not in_order:
        value = _checksum_written(slot, step.target.nbytes, checksum)
    return value, losses


def _bytes(array: Array) -> memoryview:
    view: memoryview = array.reshape(-1).view("u1").data
    return view


def _runs_of(turned: Array, corner: tuple[int, int], rows: int) -> Iterator[tuple[int, memoryview]]:
    """Yield (offset, bytes) of the runs that a turned part is of the whole turned matrix.

    Args:
        turned: the part, ``[width, height]``.
        corner: its first row and column in the matrix before that is turned.
        rows: how many rows that matrix has.
    """
    (top, left), height, data = corner, turned.shape[1], _bytes(turned)
    if height == rows:
        yield left * rows * turned.itemsize, data
        return
    line = height * turned.itemsize
    for column in range(len(turned)):
        yield ((left + column) * rows + top) * turned.itemsize, data[column * line : (column + 1) * line]


def _strips(step: Step, readers: Readers, scratch: Scratch) -> Iterator[memoryview]:
    """Yield the tensor of a step that turns or casts, in order, a few rows at a time; each is valid until the next."""
    if step.transpose is None:
        for elements in _elements(step, readers):
            yield _bytes(cast(elements, step.target.dtype)[0])
        return
    rows, columns = _matrix(step)
    most = max(1, TILE // max(1, rows * (step.cast_from or step.target.dtype).itemsize))
    width = max(1, -(-columns // -(-columns // most))) if columns else 1  # All strips alike, and none of a few columns.
    for left in range(0, columns, width):
        tile = _read_tile(step, readers, 0, left, rows, min(width, columns - left), scratch)
        for first in range(0, tile.shape[1], SIDE):
            yield _bytes(_turned(step, tile[:, first : first + SIDE], scratch)[0])
