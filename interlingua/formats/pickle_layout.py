"""The layout of a pickle of NumPy arrays, down to the offset of each array's data, made without the data.

Source: python/cpython: Modules/_pickle.c (``save`` and what it calls: order of opcodes, memo, frames and batches of
protocol 4); numpy/numpy: numpy/core/src/multiarray/methods.c (array_reduce), descriptor.c (arraydescr_reduce).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

_PROTOCOL = 4
_FRAME_TARGET = 1 << 16
_FRAME_LEAST = 4
_BATCH = 1000


class PickleLayout:
    """A pickle of protocol 4 being laid out, opcode by opcode, with gaps where the arrays' data will be.

    Order, memo and frames are those of CPython's pickler, so that the file is, byte for byte, what Paddle writes.

    Attributes:
        pieces: (offset, bytes) of everything but the data.
        gaps: offset of each array's data, by the name that ``array`` was given for it.
        size: length of the file.
    """

    def __init__(self) -> None:
        self.pieces: list[tuple[int, bytearray]] = []
        self.gaps: dict[str, int] = {}
        self.size = 0
        self._frame: list[bytes | tuple[str, int]] = []
        self._frame_size = 0
        self._memo: dict[object, int] = {}
        self._memoized = 0
        self._place(bytes((0x80, _PROTOCOL)))

    def _place(self, data: bytes) -> None:
        if not self.pieces or self.pieces[-1][0] + len(self.pieces[-1][1]) != self.size:
            self.pieces.append((self.size, bytearray()))
        self.pieces[-1][1].extend(data)
        self.size += len(data)

    def _write(self, data: bytes) -> None:
        self._frame.append(data)
        self._frame_size += len(data)

    def _boundary(self) -> None:
        """Close the frame if it is full; CPython looks before every object."""
        if self._frame_size >= _FRAME_TARGET:
            self._close_frame()

    def _close_frame(self) -> None:
        if self._frame_size >= _FRAME_LEAST:
            self._place(b"\x95" + self._frame_size.to_bytes(8, "little"))
        for part in self._frame:
            if isinstance(part, bytes):
                self._place(part)
            else:
                self._gap(*part)
        self._frame, self._frame_size = [], 0

    def _gap(self, name: str, nbytes: int) -> None:
        self.gaps[name] = self.size
        self.size += nbytes

    def _memoize(self, key: object | None) -> None:
        self._write(b"\x94")
        if key is not None:
            self._memo[key] = self._memoized
        self._memoized += 1

    def _recalled(self, key: object) -> bool:
        """Refer to an object that was written before; say whether it was."""
        index = self._memo.get(key)
        if index is None:
            return False
        self._write(b"h" + bytes((index,)) if index < 256 else b"j" + index.to_bytes(4, "little"))
        return True

    def text(self, value: str, key: object | None = None) -> None:
        """Write a text; ``key`` stands for the object that CPython would know again."""
        self._boundary()
        if len(value) < 2 and value < "\u0100":
            # CPython has but one object for each of these.
            key = ("character", value)
        if key is not None and self._recalled(key):
            return
        data = value.encode()
        short = len(data) < 1 << 8
        header = b"\x8c" + bytes((len(data),)) if short else b"X" + len(data).to_bytes(4, "little")
        if len(data) >= _FRAME_TARGET:
            self._close_frame()
            self._place(header + data)
        else:
            self._write(header + data)
        self._memoize(key)

    def integer(self, value: int) -> None:
        self._boundary()
        if 0 <= value < 1 << 8:
            self._write(b"K" + value.to_bytes(1, "little"))
        elif 0 <= value < 1 << 16:
            self._write(b"M" + value.to_bytes(2, "little"))
        elif -(1 << 31) <= value < 1 << 31:
            self._write(b"J" + value.to_bytes(4, "little", signed=True))
        else:
            width = value.bit_length() // 8 + 1
            self._write(b"\x8a" + bytes((width,)) + value.to_bytes(width, "little", signed=True))

    def flag(self, value: bool) -> None:
        self._boundary()
        self._write(b"\x88" if value else b"\x89")

    def none(self) -> None:
        self._boundary()
        self._write(b"N")

    def constant(self, value: bytes) -> None:
        """Write a byte string of one byte, of which CPython has one object."""
        self._boundary()
        if not self._recalled(("bytes", value)):
            self._write(b"C" + bytes((len(value),)) + value)
            self._memoize(("bytes", value))

    def data(self, gap: str, nbytes: int) -> None:
        """Write a byte string of ``nbytes`` bytes, which are left open."""
        self._boundary()
        if nbytes < 1 << 8:
            header = b"C" + bytes((nbytes,))
        elif nbytes < 1 << 32:
            header = b"B" + nbytes.to_bytes(4, "little")
        else:
            header = b"\x8e" + nbytes.to_bytes(8, "little")
        if nbytes >= _FRAME_TARGET:
            self._close_frame()
            self._place(header)
            self._gap(gap, nbytes)
        else:
            self._write(header)
            self._frame.append((gap, nbytes))
            self._frame_size += nbytes
        self._memoize(None)

    def name(self, module: str, name: str) -> None:
        """Write a name to be imported."""
        self._boundary()
        if self._recalled(("global", module, name)):
            return
        self.text(module, ("module", module))
        self.text(name, ("name", module, name))
        self._write(b"\x93")
        self._memoize(("global", module, name))

    def begin_tuple(self, length: int) -> None:
        self._boundary()
        if length > 3:
            self._write(b"(")

    def end_tuple(self, length: int) -> None:
        if length == 0:
            self._write(b")")
            return
        self._write({1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(length, b"t"))
        self._memoize(None)

    def integers(self, values: Sequence[int]) -> None:
        """Write a tuple of integers."""
        self.begin_tuple(len(values))
        for value in values:
            self.integer(value)
        self.end_tuple(len(values))

    def call(self) -> None:
        """Write that the name and the tuple written last are a call."""
        self._write(b"R")

    def build(self) -> None:
        """Write that the object written last is the state of the one before it."""
        self._write(b"b")

    def entries(self, items: Sequence[Item]) -> Iterator[Item]:
        """Write a dict: each item is given back for the caller to write its key and its value."""
        self._boundary()
        self._write(b"}")
        self._memoize(None)
        if len(items) == 1:
            yield items[0]
            self._write(b"s")
            return
        for first in range(0, len(items), _BATCH):
            self._write(b"(")
            yield from items[first : first + _BATCH]
            self._write(b"u")
        if items and len(items) % _BATCH == 0:
            # CPython only sees that a batch was the last one when the next is empty.
            self._write(b"(u")

    def finish(self) -> None:
        self._write(b".")
        self._close_frame()

    def dtype(self, code: str) -> None:
        """Write a NumPy dtype as ``numpy.dtype.__reduce__`` gives it."""
        self._boundary()
        if self._recalled(("dtype", code)):
            return
        self.name("numpy", "dtype")
        self.begin_tuple(3)
        self.text(code)
        self.flag(False)
        self.flag(True)
        self.end_tuple(3)
        self.call()
        self._memoize(("dtype", code))
        self.begin_tuple(8)
        self.integer(3)
        self.text("|" if code.endswith("1") else "<")
        for _ in range(3):
            self.none()
        for value in (-1, -1, 0):
            self.integer(value)
        self.end_tuple(8)
        self.build()

    def array(self, gap: str, code: str, shape: Sequence[int], nbytes: int) -> None:
        """Write a NumPy array as ``numpy.ndarray.__reduce__`` of NumPy 1 gives it, which NumPy 2 reads too.

        Args:
            gap: what ``gaps`` calls the place of its data.
            code: kind and bytes of an element, as NumPy spells them (``f4``); they are little-endian.
            shape: elements along each axis.
            nbytes: bytes of the row-major data.
        """
        self._boundary()
        self.name("numpy.core.multiarray", "_reconstruct")
        self.begin_tuple(3)
        self.name("numpy", "ndarray")
        self.integers((0,))
        self.constant(b"b")
        self.end_tuple(3)
        self.call()
        self._memoize(None)
        self.begin_tuple(5)
        self.integer(1)
        self.integers(shape)
        self.dtype(code)
        self.flag(False)
        self.data(gap, nbytes)
        self.end_tuple(5)
        self.build()
